//! What an election counts. [`Metrics::register`] puts it into a registry; [`Metrics::snapshot`] gives plain numbers.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::moment::Moment;
use crate::term::Term;

/// From a millisecond to the longest that a renewal may take with the defaults.
const SECONDS: [f64; 9] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5];

/// Outcome of a renewal.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    result: &'static str,
}

/// Metrics of one election; cloning gives another handle to the same ones.
#[derive(Clone, Default)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    latest_term: Gauge<u64, AtomicU64>,
    changes: Counter,
    renewals: Family<Outcome, Counter>,
    renew_seconds: Histogram,
    /// Nanoseconds of the last renewal.
    latency: AtomicU64,
    /// Nanoseconds of the [`Moment`] at which the lease was last seen to change; 0: never.
    renewed: AtomicU64,
    term: Mutex<Option<Term>>,
}

impl Default for Inner {
    fn default() -> Self {
        Self {
            latest_term: Gauge::default(),
            changes: Counter::default(),
            renewals: Family::default(),
            renew_seconds: Histogram::new(SECONDS),
            latency: AtomicU64::new(0),
            renewed: AtomicU64::new(0),
            term: Mutex::new(None),
        }
    }
}

/// The numbers at one time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Snapshot {
    /// Whether this replica leads.
    pub leader: bool,
    /// The highest term number seen.
    pub term: u64,
    /// How often a new term began, as far as this replica saw.
    pub changes: u64,
    /// Renewals that succeeded.
    pub renewed: u64,
    /// Renewals that failed.
    pub failed: u64,
    /// How long the last renewal took.
    pub latency: Duration,
    /// Time since the lease was last seen to change: renewals of whoever leads.
    pub since_renewal: Option<Duration>,
}

impl Metrics {
    /// Registers everything: `election_leader`, `election_term`, `election_changes`, `election_renewals{result}`,
    /// `election_renew_seconds`, `election_since_renewal_seconds`, with the registry's prefix.
    pub fn register(&self, registry: &mut Registry) {
        let Inner { latest_term, changes, renewals, renew_seconds, .. } = &*self.0;
        registry.register("election_term", "Highest term number seen in the lease", latest_term.clone());
        registry.register("election_changes", "New terms seen in the lease", changes.clone());
        registry.register("election_renewals", "Renewals of this replica's own lease", renewals.clone());
        registry.register(
            "election_renew_seconds",
            "Time that a successful renewal took",
            renew_seconds.clone(),
        );
        registry.register_collector(Box::new(self.clone()));
    }

    /// The numbers as they are now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let count = |result| self.0.renewals.get_or_create(&Outcome { result }).get();
        Snapshot {
            leader: self.leads(),
            term: self.0.latest_term.get(),
            changes: self.0.changes.get(),
            renewed: count("done"),
            failed: count("failed"),
            latency: Duration::from_nanos(self.0.latency.load(Ordering::Relaxed)),
            since_renewal: self.since_renewal(),
        }
    }

    /// The highest term number and when the lease was last seen to change.
    pub(crate) fn seen(&self, number: u64, changed: Option<Moment>) {
        if let Some(changed) = changed {
            self.0.renewed.store(changed.nanoseconds(), Ordering::Relaxed);
        }
        let before = self.0.latest_term.set(number);
        if before != 0 && before < number {
            self.0.changes.inc();
        }
    }

    pub(crate) fn holds(&self, term: Option<Term>) {
        *self.0.term.lock().unwrap_or_else(PoisonError::into_inner) = term;
    }

    pub(crate) fn renewal(&self, took: Option<Duration>) {
        let result = if took.is_some() { "done" } else { "failed" };
        self.0.renewals.get_or_create(&Outcome { result }).inc();
        if let Some(took) = took {
            self.0.renew_seconds.observe(took.as_secs_f64());
            let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
            self.0.latency.store(nanoseconds, Ordering::Relaxed);
        }
    }

    fn leads(&self) -> bool {
        let term = self.0.term.lock().unwrap_or_else(PoisonError::into_inner);
        term.as_ref().is_some_and(Term::is_live)
    }

    fn since_renewal(&self) -> Option<Duration> {
        match self.0.renewed.load(Ordering::Relaxed) {
            0 => None,
            at => Some(Moment::now().since(Moment::from_nanoseconds(at))),
        }
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Metrics").field(&self.snapshot()).finish()
    }
}

/// What depends on the time at which it is asked for.
impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let leader = ConstGauge::new(i64::from(self.leads()));
        let help = "1 while this replica leads";
        leader.encode(encoder.encode_descriptor("election_leader", help, None, leader.metric_type())?)?;
        if let Some(since) = self.since_renewal() {
            let since = ConstGauge::new(since.as_secs_f64());
            let help = "Time since this replica last saw the lease renewed, by whomever";
            let name = "election_since_renewal_seconds";
            since.encode(encoder.encode_descriptor(name, help, None, since.metric_type())?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_in_the_text_and_the_leader_gauge_follows_the_clock() {
        let metrics = Metrics::default();
        let mut registry = Registry::with_prefix("bindy");
        metrics.register(&mut registry);
        metrics.seen(3, None);
        metrics.seen(4, Some(Moment::now()));
        metrics.renewal(Some(Duration::from_millis(3)));
        metrics.renewal(None);
        let term = Term::until(4, Moment::now().after(Duration::from_secs(3600)));
        metrics.holds(Some(term.clone()));
        let text = || {
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
            text
        };
        for line in [
            "bindy_election_leader 1\n",
            "bindy_election_term 4\n",
            "bindy_election_changes_total 1\n",
            "bindy_election_renewals_total{result=\"done\"} 1\n",
            "bindy_election_renewals_total{result=\"failed\"} 1\n",
            "bindy_election_renew_seconds_bucket{le=\"0.005\"} 1\n",
            "bindy_election_since_renewal_seconds 0.0",
        ] {
            assert!(text().contains(line), "{line} is not in {}", text());
        }
        term.end();
        assert!(text().contains("bindy_election_leader 0\n"));
        assert_eq!(metrics.snapshot().latency, Duration::from_millis(3));
    }
}
