//! What pods say of themselves: where they run, and why they do not. Taken from the one watch on pods that there is.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bindy_model::NamespacedName;
use bindy_model::workload::{Nodes, POD_LABEL};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::ResourceExt;
use tokio::sync::Notify;

/// Restarts of a container from which on one that is not ready counts as failing.
const MANY_RESTARTS: i32 = 2;

/// The pods of all instances, shared by whoever watches them and whoever reports them.
#[derive(Clone, Debug, Default)]
pub struct PodStates(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    news: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// By instance and name.
    pods: BTreeMap<NamespacedName, BTreeMap<String, PodState>>,
    /// Instances whose pods are other than when they were last asked for.
    changed: BTreeSet<NamespacedName>,
}

/// One pod that is not on its way out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PodState {
    /// Where it runs.
    node: Option<String>,
    /// Why it does not.
    trouble: Option<Trouble>,
}

/// Why a pod does not run. Its words stay the same while the reason does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// No node takes it.
    Unschedulable(String),
    /// Its image cannot be had.
    Image {
        /// The container.
        container: String,
        /// The reference.
        image: String,
    },
    /// A container ends again and again.
    Ends {
        /// The container.
        container: String,
        /// Its exit code.
        code: i32,
        /// What the kubelet calls it.
        reason: String,
    },
    /// A container is not started for another reason.
    Waiting {
        /// The container.
        container: String,
        /// What the kubelet calls it, and says of it.
        reason: String,
    },
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unschedulable(message) => write!(f, "no node takes it: {message}"),
            Self::Image { container, image } => {
                write!(f, "{container} waits for its image {image}, which cannot be pulled")
            }
            Self::Ends { container, code, reason } => {
                write!(f, "{container} ends again and again (exit code {code}, {reason}): see its logs")
            }
            Self::Waiting { container, reason } => write!(f, "{container} is not started: {reason}"),
        }
    }
}

/// A pod that runs outside of the region of its instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outside {
    /// The pod.
    pub pod: String,
    /// Its node.
    pub node: String,
    /// The region of the node, if it is in any.
    pub region: Option<String>,
}

impl fmt::Display for Outside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {} ({})", self.pod, self.node, self.region.as_deref().unwrap_or("no region"))
    }
}

impl PodStates {
    /// Takes in a pod as it is now.
    pub(crate) fn put(&self, pod: &Pod) {
        let Some((instance, name)) = identity(pod) else { return };
        let state = pod.metadata.deletion_timestamp.is_none().then(|| PodState {
            node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
            trouble: trouble(pod),
        });
        self.set(instance, name, state);
    }

    /// Forgets a pod.
    pub(crate) fn remove(&self, pod: &Pod) {
        if let Some((instance, name)) = identity(pod) {
            self.set(instance, name, None);
        }
    }

    /// Forgets the pods that a new list lacks.
    pub(crate) fn retain(&self, listed: impl Fn(&NamespacedName) -> bool) {
        let mut state = self.lock();
        let State { pods, changed } = &mut *state;
        for (instance, pods) in pods.iter_mut() {
            let before = pods.len();
            pods.retain(|name, _| listed(&NamespacedName::new(&*instance.namespace, &**name)));
            if pods.len() != before {
                changed.insert(instance.clone());
            }
        }
        pods.retain(|_, pods| !pods.is_empty());
        drop(state);
        self.0.news.notify_one();
    }

    fn set(&self, instance: NamespacedName, name: String, now: Option<PodState>) {
        let mut state = self.lock();
        let pods = state.pods.entry(instance.clone()).or_default();
        let changed = pods.get(&name) != now.as_ref();
        match now {
            Some(now) => drop(pods.insert(name, now)),
            None => drop(pods.remove(&name)),
        }
        if pods.is_empty() {
            state.pods.remove(&instance);
        }
        if changed {
            state.changed.insert(instance);
            self.0.news.notify_one();
        }
    }

    /// Waits until there is news, and returns the instances that it is about.
    pub(super) async fn changed(&self) -> BTreeSet<NamespacedName> {
        loop {
            let changed = std::mem::take(&mut self.lock().changed);
            if !changed.is_empty() {
                return changed;
            }
            self.0.news.notified().await;
        }
    }

    /// The pods of an instance that do not run, with the reason.
    pub(super) fn troubles(&self, instance: &NamespacedName) -> Vec<(String, Trouble)> {
        let state = self.lock();
        let pods = state.pods.get(instance).into_iter().flatten();
        pods.filter_map(|(name, pod)| Some((name.clone(), pod.trouble.clone()?))).collect()
    }

    /// The pods of an instance that run on nodes of another region than this one, or of none.
    pub(super) fn outside(&self, instance: &NamespacedName, region: &str, nodes: &Nodes) -> Vec<Outside> {
        let state = self.lock();
        let pods = state.pods.get(instance).into_iter().flatten();
        let outside = pods.filter_map(|(name, pod)| {
            let node = pod.node.clone()?;
            let its = nodes.get(&node)?.region.clone();
            (its.as_deref() != Some(region)).then(|| Outside { pod: name.clone(), node, region: its })
        });
        outside.collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The instance of a pod, and its name.
fn identity(pod: &Pod) -> Option<(NamespacedName, String)> {
    Some((NamespacedName::new(pod.namespace()?, pod.labels().get(POD_LABEL)?), pod.name_any()))
}

fn trouble(pod: &Pod) -> Option<Trouble> {
    let status = pod.status.as_ref()?;
    let conditions = status.conditions.iter().flatten();
    let unscheduled = conditions.filter(|one| one.type_ == "PodScheduled" && one.status == "False");
    if let Some(condition) = unscheduled.into_iter().next() {
        return Some(Trouble::Unschedulable(condition.message.clone().unwrap_or_default()));
    }
    let containers = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    containers.into_iter().find_map(container_trouble)
}

fn container_trouble(status: &ContainerStatus) -> Option<Trouble> {
    let container = status.name.clone();
    let waiting = status.state.as_ref().and_then(|state| state.waiting.as_ref());
    let reason = waiting.and_then(|waiting| waiting.reason.as_deref());
    let ended = status.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    match (reason, ended) {
        // The two take turns; what they say besides changes each time.
        (Some("ErrImagePull" | "ImagePullBackOff"), _) => {
            Some(Trouble::Image { container, image: status.image.clone() })
        }
        (Some("ContainerCreating" | "PodInitializing"), _) => None,
        (Some("CrashLoopBackOff") | None, Some(ended))
            if reason.is_some() || (!status.ready && status.restart_count >= MANY_RESTARTS) =>
        {
            let reason = ended.reason.clone().unwrap_or_default();
            Some(Trouble::Ends { container, code: ended.exit_code, reason })
        }
        (Some(reason), _) => {
            let message = waiting.and_then(|waiting| waiting.message.as_deref());
            let reason = message.map_or_else(|| reason.to_owned(), |text| format!("{reason}: {text}"));
            Some(Trouble::Waiting { container, reason })
        }
        (None, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bindy_model::workload::Topology;
    use serde_json::{Value, json};

    fn pod(name: &str, node: &str, status: &Value) -> Pod {
        let metadata = json!({ "name": name, "namespace": "default", "labels": { "instance": "dns" } });
        let spec = json!({ "nodeName": node, "containers": [] });
        serde_json::from_value(json!({ "metadata": metadata, "spec": spec, "status": status })).unwrap()
    }

    fn container(state: &Value, last: &Value, restarts: i32) -> Value {
        json!({ "containerStatuses": [{ "name": "named", "image": "bind:9", "imageID": "", "ready": false,
            "restartCount": restarts, "state": state, "lastState": last }] })
    }

    fn key() -> NamespacedName {
        NamespacedName::new("default", "dns")
    }

    #[test]
    fn a_pod_that_cannot_run_says_why_in_words_that_stay() {
        let waiting =
            |reason: &str| json!({ "waiting": { "reason": reason, "message": format!("{reason}!") } });
        let ended = json!({ "terminated": { "exitCode": 1, "reason": "Error" } });
        let (running, none) = (json!({ "running": {} }), json!({}));
        let image = "named waits for its image bind:9, which cannot be pulled";
        let ends = "named ends again and again (exit code 1, Error): see its logs";
        let unscheduled = json!({ "conditions": [
            { "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes" }] });
        for (status, said) in [
            (json!({}), None),
            (unscheduled, Some("no node takes it: 0/3 nodes")),
            (container(&waiting("ErrImagePull"), &none, 0), Some(image)),
            (container(&waiting("ImagePullBackOff"), &none, 0), Some(image)),
            (container(&waiting("ContainerCreating"), &none, 0), None),
            (container(&waiting("CrashLoopBackOff"), &ended, 1), Some(ends)),
            (container(&running, &ended, 1), None),
            (container(&running, &ended, 5), Some(ends)),
            (container(&running, &none, 0), None),
            (
                container(&waiting("CreateContainerConfigError"), &none, 0),
                Some("named is not started: CreateContainerConfigError: CreateContainerConfigError!"),
            ),
        ] {
            let said_now = trouble(&pod("dns-1", "a", &status)).map(|trouble| trouble.to_string());
            assert_eq!(said_now.as_deref(), said, "{status}");
        }
    }

    /// Whether there is no news. It would be there at once.
    async fn silent(states: &PodStates) -> bool {
        tokio::select! {
            biased;
            _ = states.changed() => false,
            () = tokio::task::yield_now() => true,
        }
    }

    #[tokio::test]
    async fn instances_are_news_when_their_pods_change_and_only_then() {
        let states = PodStates::default();
        states.put(&pod("dns-1", "a", &json!({})));
        assert_eq!(states.changed().await, [key()].into());
        states.put(&pod("dns-1", "a", &json!({ "phase": "Running" })));
        assert!(silent(&states).await, "nothing of interest has changed");
        states.put(&pod("dns-2", "b", &json!({})));
        assert_eq!(states.changed().await, [key()].into());
        states.retain(|pod| pod.name == "dns-2");
        assert_eq!(states.changed().await, [key()].into());
        let nodes: Nodes = [("b".to_owned(), Topology { region: Some("eu".to_owned()), zone: None })].into();
        assert_eq!(states.outside(&key(), "eu", &nodes), []);
        let outside = states.outside(&key(), "us", &nodes);
        assert_eq!(outside.iter().map(ToString::to_string).collect::<Vec<_>>(), ["dns-2 on b (eu)"]);
        let mut going = pod("dns-2", "b", &json!({}));
        going.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
        states.put(&going);
        assert_eq!(states.outside(&key(), "us", &nodes), [], "it is on its way out");
        states.remove(&going);
        assert_eq!(states.changed().await, [key()].into());
        assert!(silent(&states).await);
    }
}
