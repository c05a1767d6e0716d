//! The members of named's catalog: which there are, and which are loaded.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bindy_wire::Transfer;
use bindy_zone::{Catalog, History, Name, Serial, Version};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::agent::Agent;
use crate::readiness::Listens;
use crate::survey::Survey;
use crate::watch::tick;

/// How often missing members are looked at, and how long one look may take.
const LOOK: Duration = Duration::from_millis(100);
const LOOK_LONGEST: Duration = Duration::from_millis(200);
/// How often the sources are asked for missing members.
const SURVEY: Duration = Duration::from_millis(1_000);

/// Octets of differences of the catalog that are kept for downstreams outside of Bindy.
const OUTSIDE_DIFFERENCES: usize = 1 << 20;

/// The catalog as named has it.
#[derive(Debug, Default)]
pub(crate) struct Members {
    version: Mutex<Option<Version>>,
    names: Mutex<Arc<BTreeSet<Name>>>,
    /// What downstreams outside of Bindy get for the catalog: without the catalogs of other instances.
    outside: Mutex<Option<History>>,
}

impl Members {
    /// All members.
    pub(crate) fn names(&self) -> Arc<BTreeSet<Name>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The catalog as downstreams outside of Bindy see it; nothing before named has it.
    pub(crate) fn shown_outside(&self) -> Option<Arc<History>> {
        self.outside.lock().unwrap_or_else(PoisonError::into_inner).clone().map(Arc::new)
    }

    /// Whether that zone is for downstreams outside of Bindy.
    pub(crate) fn shows_outside(&self, zone: &Name) -> bool {
        !Catalog::is_ours(zone) && self.names().contains(zone)
    }

    /// Takes over what downstreams outside of Bindy see of a new version.
    fn show_outside(&self, version: &Version, names: &BTreeSet<Name>) {
        let mut content = version.content.clone();
        for catalog in names.iter().filter(|name| Catalog::is_ours(name)) {
            Catalog::remove(&mut content, catalog);
        }
        let next = Version { serial: version.serial, content };
        let mut outside = self.outside.lock().unwrap_or_else(PoisonError::into_inner);
        let pushed = outside.as_mut().is_some_and(|history| history.push(next.clone()));
        if !pushed {
            *outside = Some(History::new(next, OUTSIDE_DIFFERENCES));
        }
    }

    /// named is a new process: nothing that was seen of the previous one counts. See [`Readiness::named_started`].
    ///
    /// [`Readiness::named_started`]: crate::readiness::Readiness::named_started
    pub(crate) fn forget(&self, agent: &Agent, boot_time: String, listens: Listens) {
        *self.version.lock().unwrap_or_else(PoisonError::into_inner) = None;
        *self.names.lock().unwrap_or_else(PoisonError::into_inner) = Arc::default();
        *self.outside.lock().unwrap_or_else(PoisonError::into_inner) = None;
        agent.readiness().named_started(boot_time, listens);
        agent.retain_zones(|_| false);
    }

    /// named's catalog has this serial: takes it over when it is a new one.
    pub(crate) async fn follow(&self, agent: &Agent, serial: Serial) {
        let known = self.version.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if known.as_ref().is_some_and(|known| known.serial == serial) {
            return;
        }
        let catalog = agent.config().catalog.clone();
        let version = match agent.named.transfer(&catalog, known.as_ref()).await {
            Ok(Transfer::Incremental(version) | Transfer::Full(version)) => version,
            Ok(Transfer::Current) => return,
            Err(error) => {
                warn!(zone = %catalog, %error, "the catalog cannot be read from named");
                return;
            }
        };
        let names: BTreeSet<Name> = Catalog::members(&version.content).collect();
        agent.zone_loaded(&catalog, version.serial);
        agent.retain_zones(|zone| *zone == catalog || names.contains(zone));
        agent.metrics.members.set(i64::try_from(names.len()).unwrap_or(i64::MAX));
        agent.readiness().catalog_has(version.serial, &names, |zone| {
            agent.serial(zone).is_some() && agent.transfers(zone) == 0
        });
        if !agent.readiness().is_current() {
            agent.compare.notify_one();
        }
        self.show_outside(&version, &names);
        *self.names.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(names);
        *self.version.lock().unwrap_or_else(PoisonError::into_inner) = Some(version);
    }
}

/// Asks named for missing members until they are there, and the sources for those that do not come.
pub(crate) async fn load(agent: Arc<Agent>, patience: Duration, cancel: CancellationToken) {
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut after = Name::root();
    // While one is under way, named is asked on.
    let (mut idle, mut running) = (Some(Survey::new(patience)), JoinSet::new());
    let mut surveyed = Instant::now();
    while tick(&mut ticks, &cancel).await {
        let started = Instant::now();
        while let Some(ended) = running.try_join_next() {
            surveyed = started;
            idle = Some(ended.unwrap_or_else(|_| Survey::new(patience)));
        }
        let mut missing: Vec<Name> = agent.readiness().missing().cloned().collect();
        if missing.is_empty() {
            surveyed = started;
            if let Some(survey) = &mut idle {
                survey.end();
            }
            continue;
        }
        // Goes on behind the zone that the last look ended with.
        let first = missing.partition_point(|zone| *zone <= after);
        missing.rotate_left(first);
        for zone in &missing {
            match agent.named.soa(zone).await {
                Ok(serial) => {
                    agent.zone_loaded(zone, serial);
                    // As long as zones come, there is nothing to ask about.
                    surveyed = Instant::now();
                }
                Err(error) if crate::pool::is_broken(&error) => break,
                Err(_) => {}
            }
            after = zone.clone();
            if started.elapsed() > LOOK_LONGEST {
                break;
            }
        }
        if surveyed.elapsed() >= SURVEY
            && let Some(mut survey) = idle.take()
        {
            let agent = Arc::clone(&agent);
            running.spawn(async move {
                survey.ask(&agent, &missing.into_iter().collect()).await;
                survey
            });
        }
    }
    running.shutdown().await;
}
