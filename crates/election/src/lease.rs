//! The lease in Kubernetes: `coordination.k8s.io/v1` Lease.
//!
//! Two annotations carry what a Lease has no field for: which process of the holder's name holds it, and that it was
//! given back. Times are written for people and never read.

use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::{Stream, StreamExt};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{PostParams, WatchEvent, WatchParams};
use kube::{Api, Client};

use crate::config::Config;
use crate::record::{Holder, Observed, Process, Record, Version};
use crate::store::{Problem, Store, Watch, WatchProblem};

/// The process that holds the lease: 128 random bits in hexadecimal digits.
const PROCESS: &str = "election.bindy.firestoned.io/process";
/// The number of the term that its holder has ended before it wrote the lease without a holder.
const RELEASED: &str = "election.bindy.firestoned.io/released-term";

/// How long one watch request lasts.
const WATCH_SECONDS: u32 = 240;
/// How long one may be silent: the server ends it before.
const WATCH_SILENCE: Duration = Duration::from_secs(250);

/// One Lease behind an API server.
pub struct LeaseStore {
    api: Api<Lease>,
    name: String,
    namespace: String,
    limit: Duration,
    /// Since when the term is held that was written last, for `spec.acquireTime`.
    acquired: Mutex<Option<(u64, Timestamp)>>,
}

impl LeaseStore {
    /// A store with a client of its own. Requests do not wait behind those of others, have time limits, and are not
    /// repeated by the client. Needs to run within tokio.
    pub fn new(mut cluster: kube::Config, config: &Config) -> Result<Self, kube::Error> {
        let limit = config.call_timeout();
        cluster.default_retry = false;
        cluster.connect_timeout = Some(limit);
        cluster.write_timeout = Some(limit);
        // A watch may be silent for long; requests are limited by `call`.
        cluster.read_timeout = None;
        let api = Api::namespaced(Client::try_from(cluster)?, config.namespace());
        let (name, namespace) = (config.name().to_owned(), config.namespace().to_owned());
        Ok(Self { api, name, namespace, limit, acquired: Mutex::new(None) })
    }

    async fn call<T>(&self, request: impl Future<Output = kube::Result<T>>) -> Result<T, Problem> {
        match tokio::time::timeout(self.limit, request).await {
            Ok(result) => result.map_err(problem),
            Err(_) => Err(Problem::Timeout(self.limit)),
        }
    }

    /// The Lease with that content. Metadata of others stays.
    fn lease(&self, record: &Record, metadata: ObjectMeta) -> Lease {
        let (holder, own) = match &record.holder {
            Holder::Held { identity, process } => {
                let process = process.map(|process| (PROCESS, process.to_string()));
                (identity.to_string(), process)
            }
            Holder::Released => (String::new(), Some((RELEASED, record.term.to_string()))),
            Holder::Vacant => (String::new(), None),
        };
        let mut annotations = metadata.annotations.unwrap_or_default();
        annotations.retain(|key, _| key != PROCESS && key != RELEASED);
        annotations.extend(own.map(|(key, value)| (key.to_owned(), value)));
        let now = Timestamp::now();
        let spec = LeaseSpec {
            acquire_time: Some(MicroTime(self.acquired(record.term, now))),
            holder_identity: Some(holder),
            lease_duration_seconds: i32::try_from(record.duration.as_secs()).ok(),
            lease_transitions: i32::try_from(record.term).ok(),
            renew_time: Some(MicroTime(now)),
            ..LeaseSpec::default()
        };
        let metadata = ObjectMeta {
            annotations: Some(annotations),
            name: Some(self.name.clone()),
            namespace: Some(self.namespace.clone()),
            managed_fields: None,
            ..metadata
        };
        Lease { metadata, spec: Some(spec) }
    }

    fn acquired(&self, term: u64, now: Timestamp) -> Timestamp {
        let mut acquired = self.acquired.lock().unwrap_or_else(PoisonError::into_inner);
        match *acquired {
            Some((known, since)) if known == term => since,
            _ => acquired.insert((term, now)).1,
        }
    }
}

impl Store for LeaseStore {
    type Watch = LeaseWatch;

    async fn get(&self) -> Result<Option<Observed>, Problem> {
        Ok(self.call(self.api.get_opt(&self.name)).await?.map(observed))
    }

    async fn create(&self, record: &Record) -> Result<Observed, Problem> {
        let lease = self.lease(record, ObjectMeta::default());
        let created = self.call(self.api.create(&PostParams::default(), &lease)).await;
        created.map(observed).map_err(|problem| match problem {
            // Not the lease is missing, but its namespace.
            Problem::Absent => Problem::Other(format!("there is no namespace {}", self.namespace)),
            other => other,
        })
    }

    async fn update(&self, record: &Record, version: &Version) -> Result<Observed, Problem> {
        let lease = self.lease(record, version.metadata().clone());
        self.call(self.api.replace(&self.name, &PostParams::default(), &lease)).await.map(observed)
    }

    async fn watch(&self) -> Result<LeaseWatch, WatchProblem> {
        let only = format!("metadata.name={}", self.name);
        let params = WatchParams::default().fields(&only).timeout(WATCH_SECONDS);
        // Version 0: begin with the lease as it is. The cache that this comes from may be old, which no step relies on.
        let begun = tokio::time::timeout(self.limit, self.api.watch(&params, "0")).await;
        let stream = begun.map_err(|_| WatchProblem::Other(format!("no answer within {:?}", self.limit)))?;
        Ok(LeaseWatch(stream.map_err(watch_problem)?.boxed()))
    }
}

/// A watch of one Lease.
pub struct LeaseWatch(Pin<Box<dyn Stream<Item = kube::Result<WatchEvent<Lease>>> + Send>>);

impl Watch for LeaseWatch {
    async fn next(&mut self) -> Option<Result<Option<Observed>, WatchProblem>> {
        loop {
            let silent = || WatchProblem::Other(format!("nothing arrived within {WATCH_SILENCE:?}"));
            let event = match tokio::time::timeout(WATCH_SILENCE, self.0.next()).await {
                Ok(event) => event?,
                Err(_) => return Some(Err(silent())),
            };
            return Some(match event {
                Ok(WatchEvent::Added(lease) | WatchEvent::Modified(lease)) => Ok(Some(observed(lease))),
                Ok(WatchEvent::Deleted(_)) => Ok(None),
                Ok(WatchEvent::Bookmark(_)) => continue,
                Ok(WatchEvent::Error(status)) => Err(watch_problem(kube::Error::Api(status))),
                Err(error) => Err(watch_problem(error)),
            });
        }
    }
}

fn problem(error: kube::Error) -> Problem {
    match error {
        kube::Error::Api(status) => match status.code {
            409 => Problem::Conflict,
            404 => Problem::Absent,
            401 | 403 => Problem::Forbidden(status.message),
            code => Problem::Other(format!("{code} {}: {}", status.reason, status.message)),
        },
        other => Problem::Other(other.to_string()),
    }
}

fn watch_problem(error: kube::Error) -> WatchProblem {
    match problem(error) {
        Problem::Forbidden(message) => WatchProblem::Forbidden(message),
        other => WatchProblem::Other(other.to_string()),
    }
}

/// What a Lease says. Nothing in it is an error: people edit leases.
fn observed(lease: Lease) -> Observed {
    let Lease { mut metadata, spec } = lease;
    metadata.managed_fields = None;
    let spec = spec.unwrap_or_default();
    let annotation = |key: &str| metadata.annotations.as_ref().and_then(|all| all.get(key));
    let term = spec.lease_transitions.and_then(|number| u64::try_from(number).ok()).unwrap_or_default();
    let holder = match spec.holder_identity {
        Some(identity) if !identity.is_empty() => {
            let process = annotation(PROCESS).and_then(|text| text.parse::<Process>().ok());
            Holder::Held { identity: identity.into(), process }
        }
        _ if annotation(RELEASED).is_some_and(|number| *number == term.to_string()) => Holder::Released,
        _ => Holder::Vacant,
    };
    let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    let record = Record { holder, term, duration: Duration::from_secs(seconds.unwrap_or_default()) };
    Observed { record, version: Version::new(metadata) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(text: serde_json::Value) -> Lease {
        serde_json::from_value(text).unwrap()
    }

    #[test]
    fn a_lease_of_client_go_is_read_and_its_times_are_not() {
        let found = observed(lease(serde_json::json!({
            "metadata": {"name": "l", "uid": "u", "resourceVersion": "5"},
            "spec": {
                "holderIdentity": "other", "leaseDurationSeconds": 15, "leaseTransitions": 3,
                "renewTime": "2199-01-01T00:00:00.000000Z", "acquireTime": "1999-01-01T00:00:00.000000Z"
            }
        })));
        let holder = Holder::Held { identity: "other".into(), process: None };
        assert_eq!(found.record, Record { holder, term: 3, duration: Duration::from_secs(15) });
    }

    #[test]
    fn a_holder_removed_by_hand_is_no_release() {
        let edited = |annotations: serde_json::Value| {
            observed(lease(serde_json::json!({
                "metadata": {"name": "l", "annotations": annotations},
                "spec": {"holderIdentity": "", "leaseDurationSeconds": 1, "leaseTransitions": 3}
            })))
            .record
            .holder
        };
        assert_eq!(edited(serde_json::json!({PROCESS: "1f"})), Holder::Vacant);
        assert_eq!(edited(serde_json::json!({RELEASED: "2"})), Holder::Vacant, "of another term");
        assert_eq!(edited(serde_json::json!({RELEASED: "3"})), Holder::Released);
    }

    #[test]
    fn nonsense_in_a_lease_is_read_as_nothing() {
        let nothing = Record { holder: Holder::Vacant, term: 0, duration: Duration::ZERO };
        let negative = serde_json::json!({"leaseDurationSeconds": -5, "leaseTransitions": -1});
        for spec in [serde_json::json!({}), negative] {
            let found = observed(lease(serde_json::json!({"metadata": {}, "spec": spec})));
            assert_eq!(found.record, nothing);
        }
        assert_eq!(observed(lease(serde_json::json!({"metadata": {}}))).record, nothing);
    }
}
