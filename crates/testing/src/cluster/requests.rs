//! What has been asked of the API server, counted by the API server itself.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::Result;

use super::Cluster;

const METRIC: &str = "apiserver_request_total{";
/// Verbs that change something.
const WRITES: [&str; 6] = ["POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION"];

/// A kind of request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Request {
    /// `GET`, `LIST`, `PATCH`, `APPLY`, …
    pub verb: String,
    /// API group; empty for the core.
    pub group: String,
    /// Plural name.
    pub resource: String,
    /// `status` and the like; empty for the object itself.
    pub subresource: String,
}

/// How often each has been answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requests(BTreeMap<Request, u64>);

impl Cluster {
    /// All requests so far.
    pub async fn requests(&self) -> Result<Requests> {
        Ok(Requests::parse(&self.kubectl(&["get", "--raw", "/metrics"]).await?))
    }
}

impl Requests {
    fn parse(metrics: &str) -> Self {
        let mut counts = BTreeMap::new();
        for line in metrics.lines().filter_map(|line| line.strip_prefix(METRIC)) {
            let Some((labels, value)) = line.rsplit_once("} ") else { continue };
            let label = |name: &str| {
                let labels = labels.split("\",").map(|label| label.trim_end_matches('"'));
                let mut values = labels.filter_map(|label| label.split_once("=\""));
                values.find(|(key, _)| *key == name).map_or_else(String::new, |(_, value)| value.to_owned())
            };
            let request = Request {
                verb: label("verb"),
                group: label("group"),
                resource: label("resource"),
                subresource: label("subresource"),
            };
            // Counters are integers, large ones in scientific notation.
            let value = value.parse::<f64>().unwrap_or_default() as u64;
            *counts.entry(request).or_default() += value;
        }
        Self(counts)
    }

    /// What has been asked since then.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let new = |(request, count): (&Request, &u64)| {
            let more = count - before.0.get(request).copied().unwrap_or_default().min(*count);
            (more > 0).then(|| (request.clone(), more))
        };
        Self(self.0.iter().filter_map(new).collect())
    }

    /// Only those that `keep` wants.
    #[must_use]
    pub fn only(mut self, keep: impl Fn(&Request) -> bool) -> Self {
        self.0.retain(|request, _| keep(request));
        self
    }

    /// How many they are.
    pub fn count(&self) -> u64 {
        self.0.values().sum()
    }
}

impl Request {
    /// Whether it changes something.
    pub fn is_write(&self) -> bool {
        WRITES.contains(&self.verb.as_str())
    }

    /// Whether it is about Bindy's own kinds.
    pub fn is_of_bindy(&self) -> bool {
        self.group == "bindy.firestoned.io"
    }
}

impl fmt::Display for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (Request { verb, group, resource, subresource }, count) in &self.0 {
            writeln!(f, "{count:>6} {verb} {group}/{resource} {subresource}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_kind_and_since_a_moment() {
        let line = |code: &str, count: &str| {
            format!(
                "apiserver_request_total{{code=\"{code}\",component=\"apiserver\",dry_run=\"\",\
                 group=\"bindy.firestoned.io\",resource=\"dnszones\",scope=\"resource\",\
                 subresource=\"status\",verb=\"PATCH\",version=\"v1beta1\"}} {count}\n"
            )
        };
        let before = Requests::parse(&line("200", "3"));
        let after = Requests::parse(&format!("{}{}", line("200", "5"), line("409", "1")));
        let new = after.since(&before).only(|one| one.is_write() && one.is_of_bindy());
        assert_eq!(new.count(), 3);
        assert!(new.to_string().contains("PATCH bindy.firestoned.io/dnszones status"), "{new}");
        assert_eq!(after.since(&after), Requests::default());
    }
}
