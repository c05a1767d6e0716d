//! What the operator counts, for Prometheus (OpenMetrics text).

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bindy_model::Kind;
use bindy_wire::ServerCounters;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
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

/// What is wrong with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It is not accepted.
    Refused,
    /// It is accepted, and not ready, for no other reason that is counted.
    Unready,
    /// A removal waits for a person.
    Held,
    /// A server lags, cannot run, or runs where it should not.
    Degraded,
}

impl State {
    pub(crate) const ALL: [Self; 4] = [Self::Refused, Self::Unready, Self::Held, Self::Degraded];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Unready => "unready",
            Self::Held => "held",
            Self::Degraded => "degraded",
        }
    }
}

/// Objects of a kind in a state.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InState {
    kind: String,
    state: &'static str,
}

/// What the hidden primary has done, read when it is asked for.
#[derive(Debug)]
struct Primary(Arc<ServerCounters>);

impl Collector for Primary {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let ServerCounters {
            axfr,
            ixfr,
            fallback,
            current,
            soa,
            refused,
            bad_signature,
            malformed,
            connections_open,
            connections_refused,
        } = &*self.0;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (help, counter) = ("Requests to the hidden primary by outcome", MetricType::Counter);
        let mut requests = encoder.encode_descriptor("primary_requests", help, None, counter)?;
        for (outcome, number) in [
            ("axfr", axfr),
            ("ixfr", ixfr),
            ("fallback", fallback),
            ("current", current),
            ("soa", soa),
            ("refused", refused),
            ("bad signature", bad_signature),
            ("malformed", malformed),
        ] {
            let labels = [("outcome", outcome)];
            ConstCounter::new(read(number)).encode(requests.encode_family(&labels)?)?;
        }
        let open = ConstGauge::new(read(connections_open));
        let help = "Connections to the hidden primary";
        open.encode(encoder.encode_descriptor("primary_connections", help, None, open.metric_type())?)?;
        let closed = ConstCounter::new(read(connections_refused));
        let (name, help) = ("primary_connections_refused", "Connections refused, or closed to make room");
        closed.encode(encoder.encode_descriptor(name, help, None, counter)?)
    }
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
    objects: Family<InState, Gauge>,
    /// Servers that instances ask for.
    pub(crate) servers_desired: Gauge<u64, AtomicU64>,
    /// Servers known.
    pub(crate) servers: Gauge<u64, AtomicU64>,
    /// Servers that are ready.
    pub(crate) servers_ready: Gauge<u64, AtomicU64>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("bindy");
        let (swaps, statuses, other_writers) = (Family::default(), Family::default(), Counter::default());
        let (instances, objects, servers_desired) = (Gauge::default(), Family::default(), Gauge::default());
        let (servers, servers_ready) = (Gauge::default(), Gauge::default());
        registry.register(
            "swaps",
            "Writes of serial and digest to the status of an object",
            Family::clone(&swaps),
        );
        registry.register("status_writes", "Writes of the rest of a status", Family::clone(&statuses));
        let help = "Versions that another operator was found to publish while there is no leader election";
        registry.register("other_writers", help, Counter::clone(&other_writers));
        registry.register("instances", "Bind9Instances", Gauge::clone(&instances));
        let help = "Zones and instances that are not as they should be, by what their statuses say";
        registry.register("objects", help, Family::clone(&objects));
        registry.register(
            "servers_desired",
            "Servers that instances ask for",
            Gauge::clone(&servers_desired),
        );
        registry.register("servers", "Servers that have an address", Gauge::clone(&servers));
        registry.register("servers_ready", "Servers that are ready", Gauge::clone(&servers_ready));
        let registry = Arc::new(Mutex::new(registry));
        let metrics = Self {
            registry,
            swaps,
            statuses,
            other_writers,
            instances,
            objects,
            servers_desired,
            servers,
            servers_ready,
        };
        // A number that is not there tells less than a zero.
        for kind in [Kind::Zone, Kind::Instance] {
            for state in State::ALL {
                metrics.objects(kind, state);
            }
        }
        metrics
    }

    /// Adds those of the election.
    pub(crate) fn add(&self, election: &bindy_election::Metrics) {
        election.register(&mut self.registry());
    }

    /// Adds those of the hidden primary.
    pub(crate) fn add_primary(&self, counters: Arc<ServerCounters>) {
        self.registry().register_collector(Box::new(Primary(counters)));
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn swap(&self, result: &'static str) {
        self.swaps.get_or_create(&Outcome { result }).inc();
    }

    pub(crate) fn status(&self, kind: &'static str, result: &'static str) {
        self.statuses.get_or_create(&Written { kind, result }).inc();
    }

    /// How many objects of that kind are in that state.
    pub(crate) fn objects(&self, kind: Kind, state: State) -> Gauge {
        self.objects.get_or_create_owned(&InState { kind: kind.to_string(), state: state.as_str() })
    }

    /// The OpenMetrics text.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _never = encode(&mut text, &self.registry());
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bindy_testing::metrics;
    use serde_json::Value;

    /// Every metric by the name that Prometheus knows it by.
    fn names() -> Vec<String> {
        let (metrics, election) = (Metrics::new(), bindy_election::Metrics::default());
        metrics.add(&election);
        metrics.add_primary(Arc::default());
        metrics.swap("done");
        metrics.status("DNSZone", "done");
        let _makes_them = election.snapshot();
        let mut names = metrics::names(&metrics.text());
        // Told from the first renewal on.
        names.push("bindy_election_since_renewal_seconds".to_owned());
        names
    }

    #[test]
    fn alerts_are_complete_and_ask_for_metrics_that_there_are() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let rules = std::fs::read_to_string(root.join("deploy/alerts.yaml")).unwrap();
        let rules: Value = serde_saphyr::from_str(&rules).unwrap();
        for rule in rules["spec"]["groups"][0]["rules"].as_array().unwrap() {
            let text = |pointer| rule.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
            assert!(
                text("/alert").starts_with("Bindy") && !text("/annotations/summary").is_empty(),
                "{rule:#?}"
            );
            assert!(text("/expr").contains("bindy_"), "{rule:#?}");
        }
        let own = |word: &str| word.starts_with("bindy_") && !word.starts_with("bindy_agent_");
        metrics::are_those_of_alerts(&names(), own).unwrap();
    }

    #[test]
    fn what_the_hidden_primary_has_done_is_told_by_outcome() {
        let (metrics, counters) = (Metrics::new(), Arc::new(ServerCounters::default()));
        metrics.add_primary(Arc::clone(&counters));
        for (counter, number) in
            [(&counters.ixfr, 7), (&counters.bad_signature, 2), (&counters.connections_open, 3)]
        {
            counter.store(number, Ordering::Relaxed);
        }
        let text = metrics.text();
        for line in [
            "bindy_primary_requests_total{outcome=\"axfr\"} 0\n",
            "bindy_primary_requests_total{outcome=\"ixfr\"} 7\n",
            "bindy_primary_requests_total{outcome=\"bad signature\"} 2\n",
            "bindy_primary_connections 3\n",
            "bindy_primary_connections_refused_total 0\n",
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
    }

    #[test]
    fn every_metric_is_documented() {
        metrics::are_documented(&names(), "docs/kubernetes.md").unwrap();
    }
}
