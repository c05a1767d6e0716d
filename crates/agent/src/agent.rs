//! What the tasks of one agent share.
//!
//! ```text
//!   relay ─┐            ┌─ sources (which) ─ pools (connections) ──► operator, upstreams, siblings
//!   poll ──┼── Agent ───┤
//!   watch ─┤            ├─ named (local, rndc) ────────────────────► named
//!   http ──┘            └─ readiness, serials, metrics
//! ```
//! Locks are held for a look or a change only, never across an await.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Instant;

use bindy_model::{AgentConfig, ConfigState, ConfigStates, SourceConfig, SourceKind, turn_question};
use bindy_wire::{ClientError, Endpoint, Key};
use bindy_zone::{Name, Serial};
use serde::Serialize;
use tokio::sync::{Notify, mpsc};
use tracing::{info, warn};

use crate::keys::{Keys, Peer};
use crate::local::Local;
use crate::metrics::Metrics;
use crate::pool::{Pool, SerialAnswer, is_broken};
use crate::readiness::{Readiness, Report};
use crate::sources::{Failure, Sources};

/// The state of one agent.
pub(crate) struct Agent {
    config: RwLock<Arc<AgentConfig>>,
    pub(crate) keys: Keys,
    sources: Mutex<Sources>,
    pools: RwLock<HashMap<String, Arc<Pool>>>,
    /// named, asked with the local key.
    pub(crate) named: Local,
    pub(crate) local_key: Key,
    zones: Mutex<HashMap<Name, ZoneFacts>>,
    /// Why each lost source was lost.
    errors: Mutex<HashMap<String, String>>,
    readiness: Mutex<Readiness>,
    configs: Mutex<Configs>,
    /// The question that said last what named may read.
    turn: Mutex<Option<Name>>,
    pub(crate) metrics: Metrics,
    /// Somebody should look at named's catalog now.
    pub(crate) look: Notify,
    /// Sources should be asked now whether named's catalog is the newest.
    pub(crate) compare: Notify,
    /// A lost source has returned.
    pub(crate) returned: Notify,
}

/// Which configurations are in force, as far as that is known.
#[derive(Debug, Default)]
struct Configs {
    named: Option<ConfigState>,
    own: Option<ConfigState>,
}

/// The body of `/readyz`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AgentReport {
    #[serde(flatten)]
    pub(crate) readiness: Report,
    sources: BTreeMap<String, SourceState>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct SourceState {
    live: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
}

/// What is known of a zone at named.
#[derive(Clone, Copy, Debug, Default)]
struct ZoneFacts {
    serial: Option<Serial>,
    /// Transfers that ended, well or not, since it was last seen loaded.
    transfers: u32,
    /// Those of them that broke, since the last one that did not.
    broken: u32,
}

impl ZoneFacts {
    /// A transfer has ended, with that serial if it was whole. Returns how many in a row were not.
    fn transfer_ended(&mut self, serial: Option<Serial>) -> u32 {
        self.transfers = self.transfers.saturating_add(1);
        self.broken = if serial.is_some() { 0 } else { self.broken.saturating_add(1) };
        self.serial = serial.or(self.serial);
        self.broken
    }
}

impl Agent {
    pub(crate) fn new(config: AgentConfig, local_key: Key) -> Self {
        let endpoint = Endpoint { address: config.named.dns, key: Some(local_key.clone()) };
        let agent = Self {
            config: RwLock::new(Arc::new(config)),
            keys: Keys::default(),
            sources: Mutex::default(),
            pools: RwLock::default(),
            named: Local::new(endpoint),
            local_key,
            zones: Mutex::default(),
            readiness: Mutex::default(),
            configs: Mutex::default(),
            turn: Mutex::default(),
            metrics: Metrics::new(),
            look: Notify::new(),
            compare: Notify::new(),
            returned: Notify::new(),
            errors: Mutex::default(),
        };
        agent.configure(None);
        agent
    }

    /// Reads the key files, and takes `config` where it is a new one. Connections to sources that did not change stay.
    pub(crate) fn configure(&self, config: Option<AgentConfig>) {
        if let Some(config) = config {
            *self.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
        }
        let config = self.config();
        self.keys.know_outside(&config.downstreams);
        for complaint in self.keys.load(config.key_base(), &config.keys) {
            warn!(complaint, "key file");
        }
        let mut pools = self.pools.write().unwrap_or_else(PoisonError::into_inner);
        let mut next = HashMap::new();
        for source in &config.sources {
            let Some(key) = self.keys.get(&source.key) else {
                warn!(source = source.name, key = %source.key, "no such key: this source is not used");
                continue;
            };
            let endpoint = Endpoint { address: source.address, key: Some(key.clone()) };
            let kept = pools.get(&source.name).filter(|pool| *pool.endpoint() == endpoint).cloned();
            next.insert(source.name.clone(), kept.unwrap_or_else(|| Arc::new(Pool::new(endpoint))));
        }
        self.errors().retain(|source, _| next.contains_key(source));
        let usable = config.sources.iter().filter(|source| next.contains_key(&source.name));
        self.sources().configure(&usable.collect::<Vec<_>>());
        *pools = next;
    }

    pub(crate) fn config(&self) -> Arc<AgentConfig> {
        self.config.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn sources(&self) -> MutexGuard<'_, Sources> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn errors(&self) -> MutexGuard<'_, HashMap<String, String>> {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn readiness(&self) -> MutexGuard<'_, Readiness> {
        self.readiness.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which configuration this server runs with, as soon as that is known of named.
    pub(crate) fn configs(&self) -> Option<ConfigStates> {
        let configs = self.configs.lock().unwrap_or_else(PoisonError::into_inner);
        Some(ConfigStates { named: configs.named.clone()?, agent: configs.own.clone() })
    }

    /// named has taken or refused a configuration.
    pub(crate) fn set_named_config(&self, state: ConfigState) {
        self.change_configs(|configs| configs.named = Some(state));
    }

    /// The agent has taken or refused one of its own.
    pub(crate) fn set_own_config(&self, state: ConfigState) {
        self.change_configs(|configs| configs.own = Some(state));
    }

    /// It is this server's turn to have named read what this question names.
    pub(crate) fn set_turn(&self, question: Name) {
        *self.turn.lock().unwrap_or_else(PoisonError::into_inner) = Some(question);
    }

    /// Whether named may be given the configuration of this digest now.
    pub(crate) fn may_give(&self, digest: &str) -> bool {
        let turn = || self.turn.lock().unwrap_or_else(PoisonError::into_inner).clone();
        !self.config().in_turn
            || !self.readiness().listens()
            || turn().is_some_and(|turn| turn_question(digest).is_ok_and(|question| question == turn))
    }

    fn change_configs(&self, change: impl FnOnce(&mut Configs)) {
        let mut configs = self.configs.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut configs);
        let refused = |state: &Option<ConfigState>| matches!(state, Some(ConfigState::Refused { .. }));
        self.metrics.config_refused.set(i64::from(refused(&configs.named) || refused(&configs.own)));
    }

    pub(crate) fn pool(&self, source: &str) -> Option<Arc<Pool>> {
        self.pools.read().unwrap_or_else(PoisonError::into_inner).get(source).cloned()
    }

    /// The live sources for `zone`, best first, with their connections.
    pub(crate) fn candidates(&self, zone: &Name) -> Vec<(String, Arc<Pool>)> {
        let own = self.serial(zone);
        let names = self.sources().candidates(zone, own, Instant::now());
        names.into_iter().filter_map(|name| self.pool(&name).map(|pool| (name, pool))).collect()
    }

    /// A replica of the operator has told of a version, so it has it. The others behind the operator's address may not yet.
    pub(crate) fn operator_told(&self, replica: IpAddr) {
        let config = self.config();
        for source in config.sources.iter().filter(|source| self.is_operator(source)) {
            if let Some(pool) = self.pool(&source.name) {
                pool.prefer(replica);
            }
        }
    }

    /// Whether that is a hidden primary: the upstream of a primary signs as the instance itself, any other upstream does not.
    pub(crate) fn is_operator(&self, source: &SourceConfig) -> bool {
        match source.kind {
            SourceKind::Operator => true,
            SourceKind::Upstream => self.keys.peer(&source.key) == Some(Peer::Own),
            SourceKind::Outside | SourceKind::Sibling | SourceKind::Downstream => false,
        }
    }

    /// Asks a source for the serials of these zones, which go to `answers`. Returns those that it was lost before it answered:
    /// somebody else may still be asked for them.
    pub(crate) async fn ask_serials(
        &self,
        source: &str,
        pool: &Pool,
        mut zones: BTreeSet<Name>,
        answers: mpsc::Sender<SerialAnswer>,
    ) -> BTreeSet<Name> {
        if let Err(error) = pool.serials(&mut zones, &answers).await
            && let Some(zone) = zones.first()
        {
            self.source_failed(source, zone, &error);
        }
        zones
    }

    /// Writes down that `source` failed for `zone`.
    pub(crate) fn source_failed(&self, source: &str, zone: &Name, error: &ClientError) {
        if is_broken(error) {
            self.source_lost(source, zone, error);
        } else {
            self.pass_over(source, zone);
        }
    }

    /// Writes down that what answers for `source` has nothing good for `zone`.
    pub(crate) fn pass_over(&self, source: &str, zone: &Name) {
        self.sources().failed(source, zone, Failure::PassOver, Instant::now());
        if let Some(pool) = self.pool(source) {
            pool.leave();
        }
    }

    /// Opens new connections to every source from now on.
    pub(crate) fn leave_sources(&self) {
        self.pools.read().unwrap_or_else(PoisonError::into_inner).values().for_each(|pool| pool.leave());
    }

    /// Writes down that `source` cannot be reached, unless the error is an answer.
    pub(crate) fn source_lost(&self, source: &str, zone: &Name, error: &ClientError) {
        if !is_broken(error) {
            return;
        }
        // It may not be configured any more.
        let Some(pool) = self.pool(source) else { return };
        self.errors().insert(source.to_owned(), error.to_string());
        if self.sources().failed(source, zone, Failure::Unreachable, Instant::now()) {
            pool.leave();
            warn!(source, zone = %zone, %error, "source lost");
        }
    }

    /// Writes down what a probe gave; true when the source has returned by that.
    pub(crate) fn source_probed(&self, source: &str, result: &Result<Serial, ClientError>) -> bool {
        let alive = result.as_ref().err().is_none_or(|error| !is_broken(error));
        let returned = self.sources().probed(source, alive, Instant::now());
        if returned {
            self.errors().remove(source);
            info!(source, "source returned");
        }
        returned
    }

    /// The state in words.
    pub(crate) fn report(&self) -> AgentReport {
        let errors = self.errors().clone();
        let sources = self.sources();
        let states = sources.states().map(|(name, live)| {
            let last_error = if live { None } else { errors.get(name).cloned() };
            (name.to_owned(), SourceState { live, last_error })
        });
        AgentReport { sources: states.collect(), readiness: self.readiness().report() }
    }

    /// The serial of `zone` at named, as last seen.
    pub(crate) fn serial(&self, zone: &Name) -> Option<Serial> {
        self.zones().get(zone).and_then(|facts| facts.serial)
    }

    /// named answers for `zone` with that serial.
    pub(crate) fn zone_loaded(&self, zone: &Name, serial: Serial) {
        *self.zones().entry(zone.clone()).or_default() =
            ZoneFacts { serial: Some(serial), ..ZoneFacts::default() };
        self.readiness().loaded(zone);
    }

    /// A transfer of `zone` to named has ended, with that serial if it was whole; returns how many in a row were not.
    pub(crate) fn transfer_ended(&self, zone: &Name, serial: Option<Serial>) -> u32 {
        self.zones().entry(zone.clone()).or_default().transfer_ended(serial)
    }

    /// How many transfers of `zone` ended since it was last seen loaded.
    pub(crate) fn transfers(&self, zone: &Name) -> u32 {
        self.zones().get(zone).map_or(0, |facts| facts.transfers)
    }

    /// Forgets zones that named does not have any more, all of them when it is a new process.
    pub(crate) fn retain_zones(&self, keep: impl Fn(&Name) -> bool) {
        self.zones().retain(|zone, _| keep(zone));
    }

    fn zones(&self) -> MutexGuard<'_, HashMap<Name, ZoneFacts>> {
        self.zones.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells named of a version by a NOTIFY from loopback, so that it asks the relay.
    pub(crate) async fn nudge(&self, zone: &Name, serial: Serial) -> Result<(), ClientError> {
        self.metrics.nudges.inc();
        self.named.notify(zone, serial).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transfer_that_breaks_is_the_first_one_however_many_were_whole_before_it() {
        let mut facts = ZoneFacts::default();
        for serial in 1..=20 {
            assert_eq!(facts.transfer_ended(Some(Serial::new(serial))), 0);
        }
        assert_eq!([(); 3].map(|()| facts.transfer_ended(None)), [1, 2, 3]);
        assert_eq!((facts.serial, facts.transfers), (Some(Serial::new(20)), 23));
        assert_eq!(facts.transfer_ended(Some(Serial::new(21))), 0);
    }
}
