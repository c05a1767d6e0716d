//! Asks the sources for members that named has not loaded: a member is found, waited for, or excused.
//!
//! ```text
//!   offered by a source ──► named is told        its transfer failed twice, and no sibling has it ──► TransferFailed
//!   refused three times in a row, while the operator did not say that it exists ──► Refused
//! ```
//! The address of a source may be that of a Service with several servers behind it, of which one has what another has not:
//! each time new connections are opened, and one answer decides nothing.

use std::collections::{BTreeMap, BTreeSet};

use bindy_model::{SourceConfig, SourceKind as Kind};
use bindy_wire::ClientError;
use bindy_zone::{Name, Serial};
use tokio_util::sync::CancellationToken;

use crate::agent::Agent;
use crate::keys::Peer;
use crate::poll::slice_after;
use crate::pool::is_broken;
use crate::readiness::Excuse;

/// For how many members the sources are asked each time.
const ASKED: usize = 200;
/// Transfers that have to fail before a member is excused.
const FAILURES: u32 = 2;
/// Refusals in a row after which a member is excused.
const REFUSALS: u32 = 3;

/// What the sources have said of missing members.
#[derive(Debug)]
pub(crate) struct Survey {
    /// Refusals in a row.
    refusals: BTreeMap<Name, u32>,
    /// The member that was asked for last.
    last: Name,
}

/// What the live sources say of one member.
#[derive(Debug, Default)]
struct Answers {
    offered: Option<Serial>,
    sibling_has_it: bool,
    /// The operator knows the zone, whatever others do not know yet, but cannot give it now.
    exists: bool,
    /// A source says that it has no such zone.
    refused: bool,
}

impl Default for Survey {
    fn default() -> Self {
        Self { refusals: BTreeMap::new(), last: Name::root() }
    }
}

impl Survey {
    /// Asks for some of these, going on behind the one that was asked for last.
    pub(crate) async fn ask(&mut self, agent: &Agent, missing: &BTreeSet<Name>, cancel: &CancellationToken) {
        self.refusals.retain(|zone, _| missing.contains(zone));
        agent.leave_sources();
        for zone in slice_after(missing, &self.last, ASKED) {
            if cancel.is_cancelled() {
                return;
            }
            let answers = Answers::of(agent, &zone).await;
            let excuse = self.excuse(agent, &zone, &answers);
            agent.readiness().excuse(&zone, excuse);
            if let Some(serial) = answers.offered {
                drop(agent.nudge(&zone, serial).await);
            }
            self.last = zone;
        }
    }

    fn excuse(&mut self, agent: &Agent, zone: &Name, answers: &Answers) -> Option<Excuse> {
        let refusals = self.refusals.entry(zone.clone()).or_default();
        let is_refused = answers.refused && !answers.exists && answers.offered.is_none();
        *refusals = if is_refused { refusals.saturating_add(1) } else { 0 };
        let fails = answers.offered.is_some() && agent.transfers(zone) >= FAILURES;
        if fails && !answers.sibling_has_it {
            return Some(Excuse::TransferFailed);
        }
        (*refusals >= REFUSALS).then_some(Excuse::Refused)
    }
}

impl Answers {
    /// Asks every live source.
    async fn of(agent: &Agent, zone: &Name) -> Self {
        let mut answers = Self::default();
        let config = agent.config();
        for (source, pool) in agent.candidates(zone) {
            let Some(source_config) = config.sources.iter().find(|one| one.name == source) else { continue };
            match pool.soa(zone).await {
                Ok(serial) => {
                    answers.offered = Some(serial);
                    answers.sibling_has_it |= source_config.kind == Kind::Sibling;
                }
                // Perhaps later: also what named says of a member that it has not got itself.
                Err(ClientError::ServFail) => answers.exists |= is_operator(agent, source_config),
                Err(error) if !is_broken(&error) => answers.refused = true,
                Err(error) => agent.source_failed(&source, zone, &error),
            }
        }
        answers
    }
}

/// Whether that is a hidden primary: the upstream of a primary signs as the instance itself, any other upstream does not.
fn is_operator(agent: &Agent, source: &SourceConfig) -> bool {
    match source.kind {
        Kind::Operator => true,
        Kind::Upstream => agent.keys.peer(&source.key) == Some(Peer::Own),
        Kind::Outside | Kind::Sibling | Kind::Downstream => false,
    }
}
