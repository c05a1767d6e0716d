//! Asks the sources for members that named has not loaded: a member is found, waited for, or excused.
//!
//! ```text
//!   offered by a source ──► named is told        its transfer failed twice, and no sibling has it ──► TransferFailed
//!   refused three times in a row, while the operator did not say that it exists ──► Refused
//!   no source had it for a minute, lost ones included ──► NoSource
//! ```
//! The address of a source may be that of a Service with several servers behind it, of which one has what another has not:
//! each time new connections are opened, and one answer decides nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bindy_model::SourceKind as Kind;
use bindy_wire::ClientError;
use bindy_zone::{Name, Serial};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::agent::Agent;
use crate::poll::slice_after;
use crate::pool::{Pool, SerialAnswer};
use crate::readiness::Excuse;

/// How long a member is waited for that no source has: long enough for servers and operators that start together.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// For how many members the sources are asked each time.
const ASKED: usize = 1_000;
/// Transfers that have to fail before a member is excused.
const FAILURES: u32 = 2;
/// Refusals in a row after which a member is excused.
const REFUSALS: u32 = 3;

/// What the sources have said of missing members.
#[derive(Debug)]
pub(crate) struct Survey {
    patience: Duration,
    searches: BTreeMap<Name, Search>,
    /// The member that was asked for last.
    last: Name,
}

/// How the search for a member goes.
#[derive(Debug)]
struct Search {
    /// Since when no source has it.
    since: Instant,
    /// Refusals in a row.
    refusals: u32,
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

impl Survey {
    /// One that waits that long for members that no source has.
    pub(crate) fn new(patience: Duration) -> Self {
        Self { patience, searches: BTreeMap::new(), last: Name::root() }
    }

    /// Nothing is missing.
    pub(crate) fn end(&mut self) {
        self.searches.clear();
    }

    /// Asks every live source for some of these, going on behind the one that was asked for last. Without a live source all have
    /// their turn.
    pub(crate) async fn ask(&mut self, agent: &Arc<Agent>, missing: &BTreeSet<Name>) {
        self.searches.retain(|zone, _| missing.contains(zone));
        agent.leave_sources();
        let (mut answers, mut of_sources) = (BTreeMap::new(), BTreeMap::new());
        let mut asked = 0;
        for zone in slice_after(missing, &self.last, missing.len()) {
            if asked == ASKED {
                break;
            }
            let candidates = agent.candidates(&zone);
            asked += candidates.len().min(1);
            for (source, pool) in candidates {
                of_sources.entry(source).or_insert_with(|| (pool, BTreeSet::new())).1.insert(zone.clone());
            }
            answers.insert(zone.clone(), Answers::default());
            self.last = zone;
        }
        let mut asking = JoinSet::new();
        for (source, (pool, zones)) in of_sources {
            let agent = Arc::clone(agent);
            asking.spawn(async move { (ask_source(&agent, &source, &pool, zones).await, source) });
        }
        while let Some(asked) = asking.join_next().await {
            let Ok((told, source)) = asked else { continue };
            for (zone, answer) in told {
                if let Some(answers) = answers.get_mut(&zone) {
                    answers.add(agent, &source, &answer);
                }
            }
        }
        for (zone, answers) in answers {
            let excuse = self.excuse(agent, &zone, &answers);
            agent.readiness().excuse(&zone, excuse);
            if let Some(serial) = answers.offered {
                drop(agent.nudge(&zone, serial).await);
            }
        }
    }

    fn excuse(&mut self, agent: &Agent, zone: &Name, answers: &Answers) -> Option<Excuse> {
        let begun = || Search { since: Instant::now(), refusals: 0 };
        let search = self.searches.entry(zone.clone()).or_insert_with(begun);
        if answers.offered.is_some() {
            *search = begun();
            let fails = agent.transfers(zone) >= FAILURES && !answers.sibling_has_it;
            return fails.then_some(Excuse::TransferFailed);
        }
        let is_refused = answers.refused && !answers.exists;
        search.refusals = if is_refused { search.refusals.saturating_add(1) } else { 0 };
        if search.refusals >= REFUSALS {
            return Some(Excuse::Refused);
        }
        (search.since.elapsed() >= self.patience).then_some(Excuse::NoSource)
    }
}

/// What a source says of these zones; those that it is lost before are left out.
async fn ask_source(agent: &Agent, source: &str, pool: &Pool, zones: BTreeSet<Name>) -> Vec<SerialAnswer> {
    let (sender, mut answers) = mpsc::channel::<SerialAnswer>(1);
    let collect = async {
        let mut told = Vec::new();
        while let Some(answer) = answers.recv().await {
            told.push(answer);
        }
        told
    };
    tokio::join!(collect, agent.ask_serials(source, pool, zones, sender)).0
}

impl Answers {
    /// Takes in what one source says.
    fn add(&mut self, agent: &Agent, source: &str, answer: &Result<Serial, ClientError>) {
        let config = agent.config();
        let Some(source) = config.sources.iter().find(|one| one.name == source) else { return };
        match answer {
            Ok(serial) => {
                self.offered = Some(*serial);
                self.sibling_has_it |= source.kind == Kind::Sibling;
            }
            // Perhaps later: also what named says of a member that it has not got itself.
            Err(ClientError::ServFail) => self.exists |= agent.is_operator(source),
            Err(_) => self.refused = true,
        }
    }
}
