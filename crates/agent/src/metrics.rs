//! What `/metrics` tells.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// A source and what became of a question to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Asked {
    pub(crate) source: String,
    pub(crate) outcome: &'static str,
}

/// One source.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct SourceLabel {
    pub(crate) source: String,
}

/// A request at the transfer port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Served {
    pub(crate) outcome: &'static str,
}

/// Every metric of the agent.
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) relayed: Family<Asked, Counter>,
    pub(crate) unanswered: Counter,
    pub(crate) served: Family<Served, Counter>,
    pub(crate) notifies: Counter,
    pub(crate) nudges: Counter,
    pub(crate) missed_notifies: Counter,
    pub(crate) reconfigurations: Counter,
    pub(crate) config_refused: Gauge,
    pub(crate) source_live: Family<SourceLabel, Gauge>,
    pub(crate) ready: Gauge,
    pub(crate) members: Gauge,
    pub(crate) missing: Gauge,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("bindy_agent"),
            relayed: Family::default(),
            unanswered: Counter::default(),
            served: Family::default(),
            notifies: Counter::default(),
            nudges: Counter::default(),
            missed_notifies: Counter::default(),
            reconfigurations: Counter::default(),
            config_refused: Gauge::default(),
            source_live: Family::default(),
            ready: Gauge::default(),
            members: Gauge::default(),
            missing: Gauge::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("relayed", "Questions of named by source and outcome", self.relayed.clone());
        registry.register(
            "unanswered",
            "Questions of named that no source answered",
            self.unanswered.clone(),
        );
        registry.register("served", "Requests at the transfer port by outcome", self.served.clone());
        registry.register("notifies", "Verified NOTIFY messages passed to named", self.notifies.clone());
        registry.register(
            "nudges",
            "NOTIFY messages to named from here, those passed on included",
            self.nudges.clone(),
        );
        registry.register("missed_notifies", "New versions found by asking", self.missed_notifies.clone());
        registry.register(
            "reconfigurations",
            "named told to read its configuration",
            self.reconfigurations.clone(),
        );
        registry.register(
            "config_refused",
            "1 while named or the agent refuses its configuration",
            self.config_refused.clone(),
        );
        registry.register("source_live", "1 while a source is reachable", self.source_live.clone());
        registry.register("ready", "1 while clients may ask this server", self.ready.clone());
        registry.register("members", "Zones in named's catalog", self.members.clone());
        registry.register("missing", "Zones of the catalog that named has not loaded", self.missing.clone());
    }

    /// The text of all metrics (OpenMetrics).
    pub(crate) fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bindy_testing::metrics;

    #[test]
    fn every_metric_is_documented_and_alerts_ask_for_no_other() {
        let metrics = Metrics::new();
        metrics.relayed.get_or_create_owned(&Asked { source: String::new(), outcome: "" });
        metrics.served.get_or_create_owned(&Served { outcome: "" });
        metrics.source_live.get_or_create_owned(&SourceLabel { source: String::new() });
        let names = metrics::names(&metrics.encode().unwrap());
        let registered = include_str!("metrics.rs").matches("registry.register(").count();
        assert_eq!(names.len() + 1, registered, "all, and the line above: {names:#?}");
        metrics::are_documented(&names, "docs/agent.md").unwrap();
        metrics::are_those_of_alerts(&names, |word| word.starts_with("bindy_agent_")).unwrap();
    }
}
