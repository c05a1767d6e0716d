//! The net below NOTIFY: probes lost sources, and finds versions that nobody told of.
//!
//! Each second every live source is asked for the catalog's serial. Members are asked of the best source, a slice at a time, so
//! that all of them are asked within [`ROUND`] as long as there are no more than [`SLICE`] × rounds; with more members the
//! round takes longer and repeated NOTIFYs of the operator are what finds a lost one. A source that returns is a reason
//! to start a round at once.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bindy_zone::{Name, Serial};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::agent::Agent;
use crate::members::Members;
use crate::metrics::SourceLabel;
use crate::pool::{Pool, SerialAnswer};
use crate::watch::tick;

/// The time in which all members are asked: a change that two tiers were not told of is there within five seconds.
const ROUND: Duration = Duration::from_secs(2);
/// How often a slice of them is asked, and how many at most.
const STEP: Duration = Duration::from_millis(200);
const SLICE: usize = 100;
/// How often sources are asked for the catalog.
const CATALOG: Duration = Duration::from_secs(1);
/// After how long without a source that says so named's catalog is taken for the newest: in the first second a pod may reach nobody.
const NOBODY: Duration = Duration::from_secs(5);
/// How often lost sources are looked at.
const PROBES: Duration = Duration::from_millis(50);

/// Probes lost sources when they are due. What comes back sends named to it.
pub(crate) async fn probes(agent: Arc<Agent>, cancel: CancellationToken) {
    let mut ticks = tokio::time::interval(PROBES);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut running = JoinSet::new();
    let mut told = BTreeMap::new();
    while tick(&mut ticks, &cancel).await {
        for source in agent.sources().due_probes(Instant::now()) {
            let agent = Arc::clone(&agent);
            running.spawn(async move { ask_catalog(&agent, &source).await });
        }
        while running.try_join_next().is_some() {}
        let states: BTreeMap<String, bool> =
            agent.sources().states().map(|(name, live)| (name.to_owned(), live)).collect();
        let gauges = &agent.metrics.source_live;
        for source in told.into_keys().filter(|source| !states.contains_key(source)) {
            gauges.remove(&SourceLabel { source });
        }
        for (source, live) in &states {
            gauges.get_or_create(&SourceLabel { source: source.clone() }).set(i64::from(*live));
        }
        told = states;
    }
    running.shutdown().await;
}

/// Asks live sources for the catalog's serial, each second, and when named has one of which nobody knows whether it is the
/// newest. A newer one that does not come is waited for as long as `patience`.
pub(crate) async fn catalog(agent: Arc<Agent>, patience: Duration, cancel: CancellationToken) {
    let mut ticks = tokio::time::interval(CATALOG);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut process = (String::new(), Instant::now());
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            () = agent.compare.notified() => {}
            _ = ticks.tick() => {}
        }
        let boot_time = agent.readiness().boot_time().to_owned();
        if boot_time != process.0 {
            process = (boot_time, Instant::now());
        }
        let live: Vec<String> =
            agent.sources().states().filter(|(_, live)| *live).map(|(name, _)| name.to_owned()).collect();
        let (mut asked, mut said) = (JoinSet::new(), Vec::new());
        for source in live {
            let agent = Arc::clone(&agent);
            asked.spawn(async move { ask_catalog(&agent, &source).await });
        }
        tokio::select! {
            () = cancel.cancelled() => return asked.shutdown().await,
            () = async { while let Some(one) = asked.join_next().await { said.extend(one.ok().flatten()) } } => {}
        }
        let (boot_time, since) = &process;
        let mut readiness = agent.readiness();
        if is_current(readiness.catalog(), &said, since.elapsed(), patience) {
            readiness.catalog_is_current(boot_time);
        }
    }
}

/// Whether a named with this catalog has the newest that there is to be had, when sources have said these serials of theirs.
fn is_current(own: Option<Serial>, said: &[Serial], waited: Duration, patience: Duration) -> bool {
    let newer = said.iter().any(|serial| own.is_none_or(|own| serial.is_after(own)));
    match (said, newer) {
        ([], _) => waited >= NOBODY.min(patience),
        (_, true) => waited >= patience,
        (_, false) => true,
    }
}

/// Asks a source for the serial of the catalog, and tells named of a newer one. `None` where the source does not say, or is
/// outside and has no catalog of ours.
async fn ask_catalog(agent: &Agent, source: &str) -> Option<Serial> {
    let pool = agent.pool(source)?;
    let config = agent.config();
    let outside = config.sources.iter().find(|one| one.name == source).and_then(|one| one.zones.first());
    let catalog = outside.unwrap_or(&config.catalog).clone();
    let result = pool.soa(&catalog).await;
    if let Err(error) = &result {
        agent.source_lost(source, &catalog, error);
        pool.leave();
    }
    let returned = agent.source_probed(source, &result);
    let serial = result.ok()?;
    let newer = agent.serial(&catalog).is_none_or(|own| serial.is_after(own));
    if newer {
        nudge(agent, source, &catalog, serial).await;
    }
    if returned {
        agent.returned.notify_one();
    }
    outside.is_none().then_some(serial)
}

/// Tells named of a version that `source` has and nobody told of. named asks the relay, which has to ask that source.
async fn nudge(agent: &Agent, source: &str, zone: &Name, serial: Serial) {
    agent.metrics.missed_notifies.inc();
    agent.sources().found(zone, serial, source, Instant::now());
    drop(agent.nudge(zone, serial).await);
}

/// Asks the best source for members, a slice after the other.
pub(crate) async fn slices(agent: Arc<Agent>, members: Arc<Members>, cancel: CancellationToken) {
    let mut ticks = tokio::time::interval(STEP);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut last = Name::root();
    let mut hurry = 0;
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            () = agent.returned.notified() => hurry = members.names().len(),
            _ = ticks.tick() => {}
        }
        let names = members.names();
        let steps = usize::try_from(ROUND.as_millis() / STEP.as_millis()).unwrap_or(1).max(1);
        let wanted = if hurry > 0 { SLICE * 10 } else { names.len().div_ceil(steps).min(SLICE) };
        let slice = slice_after(&names, &last, wanted);
        hurry = hurry.saturating_sub(slice.len());
        let end = slice.last().cloned();
        tokio::select! {
            biased;
            () = cancel.cancelled() => return,
            // Whoever is being waited for may be silent, and what has returned may be the only one that is not.
            () = agent.returned.notified() => agent.returned.notify_one(),
            () = ask_members(&agent, slice.into_iter().collect()) => last = end.unwrap_or(last),
        }
    }
}

/// The names after `last`, going on with the first one at the end.
pub(crate) fn slice_after(names: &BTreeSet<Name>, last: &Name, wanted: usize) -> Vec<Name> {
    let after = names.range((Excluded(last.clone()), Unbounded));
    after.chain(names.iter()).take(wanted.min(names.len())).cloned().collect()
}

/// Asks the best source of each zone. What it did not answer, or has no good version of, is asked of the next one.
async fn ask_members(agent: &Arc<Agent>, mut zones: BTreeSet<Name>) {
    let mut already = BTreeSet::new();
    while !zones.is_empty() {
        let mut of_sources: BTreeMap<String, (Arc<Pool>, BTreeSet<Name>)> = BTreeMap::new();
        for zone in std::mem::take(&mut zones) {
            if let Some((source, pool)) = agent.candidates(&zone).into_iter().next()
                && already.insert((zone.clone(), source.clone()))
            {
                of_sources.entry(source).or_insert_with(|| (pool, BTreeSet::new())).1.insert(zone);
            }
        }
        let mut asked = JoinSet::new();
        for (source, (pool, zones)) in of_sources {
            let agent = Arc::clone(agent);
            asked.spawn(async move { ask_source(&agent, &source, &pool, zones).await });
        }
        while let Some(left) = asked.join_next().await {
            zones.append(&mut left.unwrap_or_default());
        }
    }
}

/// Asks a source for these zones, and tells named of newer versions as the answers come. Returns what is to be asked of another.
async fn ask_source(agent: &Agent, source: &str, pool: &Pool, zones: BTreeSet<Name>) -> BTreeSet<Name> {
    let (sender, mut answers) = mpsc::channel::<SerialAnswer>(1);
    let take = async {
        let mut declined = BTreeSet::new();
        while let Some((zone, answer)) = answers.recv().await {
            match (answer, agent.serial(&zone)) {
                (Ok(serial), Some(own)) if serial.is_after(own) => match agent.named.soa(&zone).await {
                    // What was known of named is from before it had taken the version over.
                    Ok(now) if !serial.is_after(now) => agent.zone_loaded(&zone, now),
                    _ => nudge(agent, source, &zone, serial).await,
                },
                (Ok(serial), Some(own)) if own.is_after(serial) => {
                    agent.pass_over(source, &zone);
                    declined.insert(zone);
                }
                // Zones that are not loaded are looked after elsewhere.
                (Ok(_), _) => {}
                (Err(error), _) => {
                    agent.source_failed(source, &zone, &error);
                    declined.insert(zone);
                }
            }
        }
        declined
    };
    let (mut left, mut declined) = tokio::join!(agent.ask_serials(source, pool, zones, sender), take);
    left.append(&mut declined);
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_catalog_is_the_newest_when_no_source_has_a_newer_one_or_none_answers_for_a_while() {
        let (at_once, a_while) = (Duration::ZERO, NOBODY);
        let patience = Duration::from_secs(60);
        let (before, own, next) = (Serial::new(1), Serial::new(2), Serial::new(3));
        let current = |said: &[Serial], waited| is_current(Some(own), said, waited, patience);
        assert!(current(&[own], at_once) && current(&[before, own], at_once));
        assert!(!current(&[], at_once) && current(&[], a_while));
        assert!(!current(&[own, next], a_while), "it is to come");
        assert!(current(&[next], patience), "and does not");
        assert!(!is_current(None, &[own], a_while, patience), "named has none");
    }

    #[test]
    fn slices_go_round() {
        let names: BTreeSet<Name> = ["a", "b", "c"].iter().map(|name| Name::parse(name).unwrap()).collect();
        let a = Name::parse("a").unwrap();
        let texts = |slice: Vec<Name>| slice.iter().map(Name::to_string).collect::<Vec<_>>();
        assert_eq!(texts(slice_after(&names, &Name::root(), 2)), ["a.", "b."]);
        assert_eq!(texts(slice_after(&names, &a, 3)), ["b.", "c.", "a."]);
        assert_eq!(texts(slice_after(&names, &a, 9)), ["b.", "c.", "a."]);
        assert!(slice_after(&BTreeSet::new(), &a, 9).is_empty());
    }
}
