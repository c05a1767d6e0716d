//! What the operator counts, for Prometheus (OpenMetrics text).

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Outcome of a write.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    result: &'static str,
}

/// Outcome of a write of the status of a kind of objects.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Written {
    kind: &'static str,
    result: &'static str,
}

/// All metrics; cloning gives another handle to the same ones.
#[derive(Clone)]
pub(crate) struct Metrics {
    registry: Arc<Mutex<Registry>>,
    swaps: Family<Outcome, Counter>,
    statuses: Family<Written, Counter>,
    /// Versions of another process that were found without an election.
    pub(crate) other_writers: Counter,
    /// Bind9Instances known.
    pub(crate) instances: Gauge<u64, AtomicU64>,
    /// Servers known.
    pub(crate) servers: Gauge<u64, AtomicU64>,
    /// Servers that are ready.
    pub(crate) servers_ready: Gauge<u64, AtomicU64>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("bindy");
        let (swaps, statuses, other_writers) = (Family::default(), Family::default(), Counter::default());
        let (instances, servers, servers_ready) = (Gauge::default(), Gauge::default(), Gauge::default());
        registry.register(
            "swaps",
            "Writes of serial and digest to the status of an object",
            Family::clone(&swaps),
        );
        registry.register("status_writes", "Writes of the rest of a status", Family::clone(&statuses));
        let help = "Versions that another operator was found to publish while there is no leader election";
        registry.register("other_writers", help, Counter::clone(&other_writers));
        registry.register("instances", "Bind9Instances", Gauge::clone(&instances));
        registry.register("servers", "Servers that have an address", Gauge::clone(&servers));
        registry.register("servers_ready", "Servers that are ready", Gauge::clone(&servers_ready));
        let registry = Arc::new(Mutex::new(registry));
        Self { registry, swaps, statuses, other_writers, instances, servers, servers_ready }
    }

    /// Adds those of the election.
    pub(crate) fn add(&self, election: &bindy_election::Metrics) {
        election.register(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(crate) fn swap(&self, result: &'static str) {
        self.swaps.get_or_create(&Outcome { result }).inc();
    }

    pub(crate) fn status(&self, kind: &'static str, result: &'static str) {
        self.statuses.get_or_create(&Written { kind, result }).inc();
    }

    /// The OpenMetrics text.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _never = encode(&mut text, &self.registry.lock().unwrap_or_else(PoisonError::into_inner));
        text
    }
}
