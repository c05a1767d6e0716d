//! What pods say of themselves: where they run, and why they do not. Taken from the one watch on pods that there is.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bindy_model::NamespacedName;
use bindy_model::workload::{POD_LABEL, Placed};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use tokio::sync::Notify;

/// Restarts of a container from which on one that is not ready counts as failing.
const MANY_RESTARTS: i32 = 2;

/// A container that ran for so long before it ended has not ended again and again: the kubelet, too, starts it without a pause.
const RAN_WELL: SignedDuration = SignedDuration::from_mins(10);

/// How long a pod may take to end, after the time that it was given, before somebody has to see to it.
const LINGERS: SignedDuration = SignedDuration::from_secs(60);

/// How long a pod that runs may take to be ready before somebody should have a look at it.
const GETS_READY: SignedDuration = SignedDuration::from_secs(120);

/// How long no node may take a pod before that is told: at the first look its volume may not be bound yet.
const UNSCHEDULED: SignedDuration = SignedDuration::from_secs(5);

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

/// One pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct PodState {
    /// Where it runs, unless it is on its way out.
    placed: Option<Placed>,
    /// Why it does not.
    trouble: Option<Trouble>,
    /// From when on the trouble is one; always, where there is nothing.
    since: Option<Timestamp>,
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
    /// It runs, and does not get ready.
    Unready {
        /// The containers that are not.
        containers: String,
    },
    /// Its node says nothing any more, and it keeps its place in a StatefulSet.
    NodeSilent {
        /// The node.
        node: String,
    },
    /// It should have ended, and keeps its place in a StatefulSet.
    Lingers {
        /// Where it runs, or did.
        node: String,
    },
}

/// What to do about a pod of a StatefulSet on this node.
struct Remedy<'a>(&'a str);

impl fmt::Display for Remedy<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "and a StatefulSet makes no other in its place before it has ended: bring the node back, or if it is switched off for \
             good: kubectl taint node {} node.kubernetes.io/out-of-service=nodeshutdown:NoExecute",
            self.0
        )
    }
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
            Self::Unready { containers } => write!(
                f,
                "it runs, but {containers} has not been ready for {} minutes: its logs, and `kubectl describe pod`, say why",
                GETS_READY.as_mins()
            ),
            Self::NodeSilent { node } => write!(f, "its node {node} says nothing any more, {}", Remedy(node)),
            Self::Lingers { node } => {
                write!(f, "it should have ended, but node {node} does not say that it has, {}", Remedy(node))
            }
        }
    }
}

impl PodStates {
    /// Takes in a pod as it is now.
    pub(crate) fn put(&self, pod: &Pod) {
        self.set(pod, state(pod).as_ref());
    }

    /// Forgets a pod.
    pub(crate) fn remove(&self, pod: &Pod) {
        self.set(pod, None);
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

    /// A pod may lose its label, or have that of another instance: who isolates one to look at it does so.
    fn set(&self, pod: &Pod, now: Option<&PodState>) {
        let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
        let instance = pod.labels().get(POD_LABEL).map(|label| NamespacedName::new(&*namespace, &**label));
        let mut state = self.lock();
        let State { pods, changed } = &mut *state;
        let before: Vec<NamespacedName> = pods
            .range(NamespacedName::new(&*namespace, "")..)
            .take_while(|(key, _)| *key.namespace == *namespace)
            .filter(|(key, pods)| Some(*key) != instance.as_ref() && pods.contains_key(&name))
            .map(|(key, _)| key.clone())
            .collect();
        for key in before.iter().chain(&instance) {
            let its = pods.entry(key.clone()).or_default();
            let now = now.filter(|_| Some(key) == instance.as_ref());
            if its.get(&name) != now {
                changed.insert(key.clone());
            }
            match now {
                Some(now) => drop(its.insert(name.clone(), now.clone())),
                None => drop(its.remove(&name)),
            }
            if its.is_empty() {
                pods.remove(key);
            }
        }
        if !changed.is_empty() {
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

    /// The pods of an instance that do not run as they should, with the reason; and when the next will be one of them.
    pub(super) fn troubles(
        &self,
        instance: &NamespacedName,
        now: Timestamp,
    ) -> (Vec<(String, Trouble)>, Option<Timestamp>) {
        let state = self.lock();
        let (mut troubles, mut next) = (Vec::new(), None);
        for (name, pod) in state.pods.get(instance).into_iter().flatten() {
            match (&pod.trouble, pod.since) {
                (Some(_), Some(since)) if since > now => next = next.into_iter().chain([since]).min(),
                (Some(trouble), _) => troubles.push((name.clone(), trouble.clone())),
                (None, _) => {}
            }
        }
        (troubles, next)
    }

    /// The pods of an instance that run, or are about to, with their places.
    pub(super) fn placed(&self, instance: &NamespacedName) -> BTreeMap<String, Placed> {
        let state = self.lock();
        let pods = state.pods.get(instance).into_iter().flatten();
        pods.filter_map(|(name, pod)| Some((name.clone(), pod.placed.clone()?))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What there is to say of a pod; `None` when it has ended, or is about to and somebody else takes its place.
fn state(pod: &Pod) -> Option<PodState> {
    if pod.status.as_ref().is_some_and(is_over) {
        return None;
    }
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    let awaited = pod.owner_references().iter().any(|owner| owner.kind == "StatefulSet");
    let Some(Time(ends)) = pod.metadata.deletion_timestamp else {
        let awaited_at = node.filter(|_| awaited);
        let (trouble, since) = trouble(pod).or_else(|| unready(pod.status.as_ref()?, awaited_at)).unzip();
        return Some(PodState { placed: placed(pod), trouble, since: since.flatten() });
    };
    let trouble = Trouble::Lingers { node: node.filter(|_| awaited)? };
    Some(PodState { placed: None, trouble: Some(trouble), since: ends.checked_add(LINGERS).ok() })
}

fn placed(pod: &Pod) -> Option<Placed> {
    let spec = pod.spec.as_ref()?;
    Some(Placed {
        node: spec.node_name.clone()?,
        node_selector: spec.node_selector.clone().unwrap_or_default(),
        tolerations: spec.tolerations.clone().unwrap_or_default(),
    })
}

/// Whether a pod has ended and starts no more.
pub(crate) fn is_over(status: &PodStatus) -> bool {
    matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"))
}

fn trouble(pod: &Pod) -> Option<(Trouble, Option<Timestamp>)> {
    let status = pod.status.as_ref()?;
    let conditions = status.conditions.iter().flatten();
    let unscheduled = conditions.filter(|one| one.type_ == "PodScheduled" && one.status == "False");
    if let Some(condition) = unscheduled.into_iter().next() {
        let trouble = Trouble::Unschedulable(condition.message.clone().unwrap_or_default());
        let since =
            condition.last_transition_time.as_ref().and_then(|time| time.0.checked_add(UNSCHEDULED).ok());
        return Some((trouble, since));
    }
    let containers = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    Some((containers.into_iter().find_map(container_trouble)?, None))
}

/// From when on it is a trouble that a pod whose containers all run is not ready. Where the kubelet has said that each of them is, its
/// node is silent: the control plane takes the readiness of such pods away, and nothing else. That is a trouble at once at a node
/// that keeps the place of the pod in a StatefulSet, `awaited_at`.
fn unready(status: &PodStatus, awaited_at: Option<String>) -> Option<(Trouble, Option<Timestamp>)> {
    let ready =
        status.conditions.iter().flatten().find(|one| one.type_ == "Ready" && one.status == "False")?;
    let mut since = ready.last_transition_time.as_ref()?.0;
    let mut names = Vec::new();
    for container in status.init_container_statuses.iter().chain(&status.container_statuses).flatten() {
        let running = container.state.as_ref()?.running.as_ref()?;
        if !container.ready {
            names.push(container.name.as_str());
            since = since.max(running.started_at.as_ref()?.0);
        }
    }
    if names.is_empty() {
        let node = awaited_at.filter(|_| status.container_statuses.is_some())?;
        return Some((Trouble::NodeSilent { node }, None));
    }
    Some((Trouble::Unready { containers: names.join(" and ") }, since.checked_add(GETS_READY).ok()))
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
            if reason.is_some()
                || (!status.ready && status.restart_count >= MANY_RESTARTS && ran(ended) < RAN_WELL) =>
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

/// How long a container ran; no time where that is not known.
fn ran(ended: &ContainerStateTerminated) -> SignedDuration {
    let times = ended.started_at.as_ref().zip(ended.finished_at.as_ref());
    times.map_or(SignedDuration::ZERO, |(Time(started), Time(finished))| finished.duration_since(*started))
}

#[cfg(test)]
mod tests {
    use super::*;
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
        let ran = |until: &str| {
            json!({ "terminated": { "exitCode": 1, "reason": "Error", "startedAt": "2026-01-01T00:00:00Z",
                "finishedAt": until } })
        };
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
            (container(&running, &ran("2026-01-01T00:09:59Z"), 5), Some(ends)),
            (container(&running, &ran("2026-01-01T00:10:00Z"), 5), None),
            (container(&running, &none, 0), None),
            (
                container(&waiting("CreateContainerConfigError"), &none, 0),
                Some("named is not started: CreateContainerConfigError: CreateContainerConfigError!"),
            ),
        ] {
            let said_now = trouble(&pod("dns-1", "a", &status)).map(|(trouble, _)| trouble.to_string());
            assert_eq!(said_now.as_deref(), said, "{status}");
        }
    }

    #[test]
    fn a_pod_that_no_node_takes_at_the_first_look_is_no_trouble_yet() {
        let states = PodStates::default();
        let since: Timestamp = "2026-01-01T00:00:30Z".parse().unwrap();
        let unscheduled = json!({ "conditions": [{ "type": "PodScheduled", "status": "False",
            "reason": "Unschedulable", "message": "0/3 nodes", "lastTransitionTime": since }] });
        states.put(&pod("dns-1", "a", &unscheduled));
        let told =
            [4, 5].map(|after| states.troubles(&key(), since + SignedDuration::from_secs(after)).0.len());
        assert_eq!(told, [0, 1]);
    }

    #[test]
    fn a_pod_of_a_lost_node_that_keeps_its_place_in_a_stateful_set_is_told_with_the_remedy() {
        let states = PodStates::default();
        let mut going = pod("dns-0", "a", &json!({ "phase": "Running" }));
        let ends: Timestamp = "2026-01-01T00:00:30Z".parse().unwrap();
        going.metadata.deletion_timestamp = Some(Time(ends));
        let told = |pod: &Pod, seconds| {
            states.put(pod);
            let now = ends + SignedDuration::from_secs(seconds);
            let (troubles, _) = states.troubles(&key(), now);
            troubles.into_iter().map(|(pod, trouble)| format!("{pod}: {trouble}")).collect::<Vec<_>>()
        };
        assert_eq!(told(&going, 3600), [""; 0], "a Deployment has made another one");
        let owner = json!([{ "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "dns", "uid": "s" }]);
        going.metadata.owner_references = serde_json::from_value(owner).unwrap();
        assert_eq!(told(&going, 59), [""; 0], "it may end yet");
        let said = told(&going, 60).join("\n");
        assert!(said.starts_with("dns-0: ") && said.contains("node a does not say"), "{said}");
        assert!(said.contains("kubectl taint node a node.kubernetes.io/out-of-service="), "{said}");
        assert!(states.placed(&key()).is_empty(), "it may be gone");
    }

    #[test]
    fn a_pod_that_runs_and_is_not_ready_becomes_a_trouble_in_time() {
        let states = PodStates::default();
        let started: Timestamp = "2026-01-01T00:00:30Z".parse().unwrap();
        let ready = |ready: bool, since: Timestamp| {
            json!([{ "type": "Ready", "status": if ready { "True" } else { "False" },
            "lastTransitionTime": since }])
        };
        let running =
            |since: Timestamp| container(&json!({ "running": { "startedAt": since } }), &json!({}), 0);
        let told = |conditions: Value, mut status: Value| {
            status["conditions"] = conditions;
            states.put(&pod("dns-1", "a", &status));
            [119, 120].map(|after| states.troubles(&key(), started + SignedDuration::from_secs(after)))
        };
        let text = "it runs, but named has not been ready for 2 minutes: its logs, and `kubectl describe pod`, say why";
        let before = started - SignedDuration::from_secs(600);
        let due = started + SignedDuration::from_secs(120);
        // Of the two the later: what happened before the container was started is no matter.
        for (not_ready, container) in [(started, before), (before, started)] {
            let [early, late] = told(ready(false, not_ready), running(container));
            assert_eq!(early, (vec![], Some(due)));
            assert_eq!(
                late.0.into_iter().map(|(pod, why)| format!("{pod}: {why}")).collect::<Vec<_>>(),
                [format!("dns-1: {text}")]
            );
            assert_eq!(late.1, None);
        }
        let creating = container(&json!({ "waiting": { "reason": "ContainerCreating" } }), &json!({}), 0);
        assert_eq!(told(ready(false, before), creating).map(|(troubles, _)| troubles.len()), [0, 0]);
        assert_eq!(told(ready(true, before), running(before)).map(|(troubles, _)| troubles.len()), [0, 0]);
    }

    #[test]
    fn a_pod_that_is_taken_away_from_its_instance_is_not_its_trouble_any_more() {
        let ended = json!({ "terminated": { "exitCode": 1, "reason": "Error" } });
        let ill = pod("dns-1", "a", &container(&ended, &ended, 5));
        let now = Timestamp::now();
        for label in [None, Some("quarantine")] {
            let states = PodStates::default();
            states.put(&ill);
            assert_eq!(states.troubles(&key(), now).0.len(), 1);
            let mut isolated = ill.clone();
            isolated.metadata.labels = label.map(|label| [(POD_LABEL.to_owned(), label.to_owned())].into());
            states.put(&isolated);
            assert_eq!(states.troubles(&key(), now).0, [], "{label:?}");
            states.remove(&isolated);
            assert!(states.lock().pods.is_empty(), "{label:?}");
        }
    }

    #[test]
    fn a_pod_that_is_over_is_no_trouble() {
        let ended = json!({ "terminated": { "exitCode": 1, "reason": "Error" } });
        for (phase, troubles) in [("Running", 1), ("Failed", 0), ("Succeeded", 0)] {
            let mut status = container(&ended, &ended, 5);
            status["phase"] = json!(phase);
            let states = PodStates::default();
            states.put(&pod("dns-1", "a", &status));
            assert_eq!(states.troubles(&key(), Timestamp::now()).0.len(), troubles, "{phase}");
            assert_eq!(states.placed(&key()).len(), troubles, "{phase}");
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
        let placed = states.placed(&key());
        assert_eq!(placed.iter().map(|(pod, at)| (&**pod, &*at.node)).collect::<Vec<_>>(), [("dns-2", "b")]);
        let mut going = pod("dns-2", "b", &json!({}));
        going.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
        states.put(&going);
        assert!(states.placed(&key()).is_empty(), "it is on its way out");
        states.remove(&going);
        assert_eq!(states.changed().await, [key()].into());
        assert!(silent(&states).await);
    }
}
