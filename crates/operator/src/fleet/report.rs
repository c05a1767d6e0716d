//! What is known of the objects of an instance, for whoever writes its status.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use bindy_api::Reason;
use bindy_engine::HandoutError;
use bindy_model::workload::{FixedAddress, FixedVolumes, Misplaced, ObjectKind, PlanError};
use bindy_model::{ConfigDigests, NamespacedName};
use bindy_wire::KeyError;
use serde_json::Value;

use super::pods::Trouble;

/// How long settings that replace servers with volumes wait for those that are not available, unless their node is lost. They may
/// be what brings them back.
pub(super) const WAITS: Duration = Duration::from_secs(300);

/// The last report of every instance.
pub type Reports = BTreeMap<NamespacedName, WorkloadReport>;

/// The objects of one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadReport {
    /// UID of the instance.
    pub uid: String,
    /// The metadata.generation of the instance that this is about.
    pub generation: u32,
    /// What keeps the objects from being as they should be; empty when nothing does.
    pub problems: Vec<Problem>,
    /// Whether the instance is paused and asks for other objects than there are.
    pub waits: bool,
    /// Whether the instance is paused.
    pub paused: bool,
    /// Whether all its servers are there, of the present template, and have been ready for a while.
    pub complete: bool,
    /// Digests of the configuration that its servers are given; `None` before there is one.
    pub config: Option<ConfigDigests>,
    /// Addresses of the Service that clients use, empty when it has names only; `None`: it has none yet.
    pub addresses: Option<Vec<IpAddr>>,
    /// The Deployment or StatefulSet, while there is one.
    pub pods: Option<PodsReport>,
    /// The other one of them, until the one that there should be has taken over.
    pub former: Option<PodsReport>,
    /// Pods that do not run, and why.
    pub troubles: Vec<(String, Trouble)>,
    /// Servers that are not where the instance asks for.
    pub misplaced: Vec<Misplaced>,
}

/// What a Deployment or StatefulSet says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodsReport {
    /// Its generation.
    pub generation: i64,
    /// The generation that the counts are about.
    pub observed_generation: i64,
    /// Pods that exist.
    pub replicas: u32,
    /// Pods of the present template.
    pub updated: u32,
    /// Pods that are ready.
    pub ready: u32,
    /// Pods that have been ready for long enough.
    pub available: u32,
}

/// Why an object is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Somebody else's object has the name.
    #[error(
        "{kind} {name} exists and was not made for this instance, so it is left alone: delete or rename it, or give the \
         instance another name"
    )]
    Collision {
        /// Its kind.
        kind: ObjectKind,
        /// Its name.
        name: String,
    },
    /// The object of a former instance of this name is on its way out.
    #[error("{kind} {name} of before is still being deleted")]
    Leaving {
        /// Its kind.
        kind: ObjectKind,
        /// Its name.
        name: String,
    },
    /// The API server does not take the object.
    #[error("{kind} {name} is refused: {message}")]
    Refused {
        /// Its kind.
        kind: ObjectKind,
        /// Its name.
        name: String,
        /// Why.
        message: String,
    },
    /// Somebody else changes the object again and again.
    #[error("{kind} {name}: somebody else keeps changing {field}; find out who, it is put back ever later")]
    Contested {
        /// Its kind.
        kind: ObjectKind,
        /// Its name.
        name: String,
        /// What is changed.
        field: String,
    },
    /// Somebody else removes the object again and again.
    #[error("{kind} {name}: somebody else keeps removing it; find out who, it is made again ever later")]
    Removed {
        /// Its kind.
        kind: ObjectKind,
        /// Its name.
        name: String,
    },
    /// A call failed in a way that may pass.
    #[error("the API server cannot be used: {0}")]
    Unavailable(String),
    /// The hidden primary has no address.
    #[error("Service {0} has no address yet; servers would not know where to get their zones from")]
    NoHiddenPrimary(NamespacedName),
    /// An instance that may be a neighbour was never readable.
    #[error("settings stay as they are until Bind9Instance {0} can be read")]
    UnknownNeighbour(NamespacedName),
    /// The instance cannot be made into objects.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// Its keys cannot be derived.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// Downstreams outside cannot be given what they need.
    #[error("spec.downstreams: {0}")]
    Handouts(#[from] HandoutError),
    /// Other volumes are asked for than there are.
    #[error("{0}")]
    Volumes(FixedVolumes),
    /// Another address within the cluster is asked for than there is.
    #[error("{0}")]
    Address(FixedAddress),
    /// Servers are not there, and others would be taken away.
    #[error(
        "settings that replace servers wait while {available} of {replicas} servers are available: a StatefulSet would take away one \
         that answers. Without a lost node they wait {} minutes at most", WAITS.as_secs() / 60
    )]
    Short {
        /// Servers that have been ready for long enough.
        available: u32,
        /// How many there should be.
        replicas: u32,
    },
    /// The Deployment cannot make its pods.
    #[error("pods cannot be made: {0}")]
    Pods(String),
}

impl Problem {
    /// The reason in the condition of the instance.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Collision { .. } => Reason::NameTaken,
            Self::Plan(_) | Self::Keys(_) | Self::Handouts(_) => Reason::InvalidData,
            Self::Refused { .. }
            | Self::Contested { .. }
            | Self::Removed { .. }
            | Self::Pods(_)
            | Self::Volumes(_)
            | Self::Address(_) => Reason::WorkloadRefused,
            Self::Leaving { .. }
            | Self::Short { .. }
            | Self::Unavailable(_)
            | Self::NoHiddenPrimary(_)
            | Self::UnknownNeighbour(_) => Reason::WorkloadPending,
        }
    }
}

impl PodsReport {
    pub(super) fn of(live: &Value) -> Self {
        let number = |pointer: &str| live.pointer(pointer).and_then(Value::as_i64).unwrap_or_default();
        let count = |pointer: &str| u32::try_from(number(pointer)).unwrap_or_default();
        Self {
            generation: number("/metadata/generation"),
            observed_generation: number("/status/observedGeneration"),
            replicas: count("/status/replicas"),
            updated: count("/status/updatedReplicas"),
            ready: count("/status/readyReplicas"),
            available: count("/status/availableReplicas"),
        }
    }

    /// Whether it has so many pods of its present template, all of them available.
    pub(super) fn is_complete(&self, replicas: u32) -> bool {
        self.observed_generation >= self.generation && self.updated >= replicas && self.available >= replicas
    }
}

/// What a StatefulSet lacks of its servers, while some are available. It would replace the one with the highest ordinal first, also
/// where one with a lower ordinal is not available: perhaps the last that answers. One that is held is also short when none is
/// available: the last one may be back in a moment.
pub(super) fn short(live: &Value) -> Option<Problem> {
    let available = PodsReport::of(live).available;
    let replicas = live.pointer("/spec/replicas").and_then(Value::as_u64);
    let replicas = u32::try_from(replicas?).ok()?;
    let fewest = u32::from(!is_held(live));
    (fewest..replicas).contains(&available).then_some(Problem::Short { available, replicas })
}

/// Whether a StatefulSet has been told to replace no pod.
pub(super) fn is_held(live: &Value) -> bool {
    live.pointer("/spec/updateStrategy/rollingUpdate/partition").and_then(Value::as_i64).unwrap_or_default()
        > 0
}

/// Whether all pods of a StatefulSet are of the last template that it was given.
pub(super) fn is_steady(live: &Value) -> bool {
    let revision = |pointer: &str| live.pointer(pointer).and_then(Value::as_str);
    revision("/status/currentRevision") == revision("/status/updateRevision")
}

/// Why a Deployment cannot make pods, in its own words.
pub(super) fn replica_failure(live: &Value) -> Option<Problem> {
    let conditions = live.pointer("/status/conditions").and_then(Value::as_array)?;
    let text = |condition: &Value, field: &str| {
        condition.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let failing = conditions
        .iter()
        .find(|condition| text(condition, "type") == "ReplicaFailure" && text(condition, "status") == "True");
    failing.map(|condition| Problem::Pods(text(condition, "message")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_deployment_is_reported_in_its_own_numbers() {
        let live = json!({
            "metadata": { "generation": 4 },
            "status": { "observedGeneration": 3, "replicas": 3, "updatedReplicas": 1, "readyReplicas": 2,
                "conditions": [{ "type": "ReplicaFailure", "status": "True", "message": "exceeded quota" }] },
        });
        let report = PodsReport::of(&live);
        assert_eq!((report.generation, report.observed_generation), (4, 3));
        assert_eq!((report.replicas, report.updated, report.ready), (3, 1, 2));
        assert_eq!(replica_failure(&live), Some(Problem::Pods("exceeded quota".to_owned())));
        assert_eq!(PodsReport::of(&json!({})), PodsReport::default());
        assert_eq!(replica_failure(&json!({})), None);
    }
}
