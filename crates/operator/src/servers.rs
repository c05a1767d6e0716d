//! Pods as servers: which there are, where their agents answer, and whether they take part in their Service.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bindy_engine::{EngineHandle, Server};
use bindy_model::workload::{MANAGED_BY, MANAGED_BY_LABEL, POD_LABEL, TRANSFER_PORT};
use bindy_model::{NamespacedName, ServerId, ServerState};
use bindy_wire::{Endpoint, MasterKeys, Timeouts};
use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::Event;
use kube::{Api, Client, ResourceExt};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::fleet::{PodStates, is_over};
use crate::key::key_of;
use crate::metrics::Metrics;
use crate::observe::{self, Interruption};
use crate::rbac::{Access, Scope, Verb};

/// What is read here.
pub(crate) const ACCESS: &[Access] = &[Access {
    group: "",
    resource: "pods",
    verbs: &[Verb::Get, Verb::List, Verb::Watch],
    scope: Scope::Cluster,
}];

/// What changes within this time after a change is told with it: a rollout changes a pod several times in a row.
const GATHER: Duration = Duration::from_millis(20);

/// Servers that are asked at once, by whoever asks all of them.
pub(crate) const QUESTIONS: usize = 32;
/// How long one of them may take.
pub(crate) const TIMEOUTS: Timeouts = Timeouts {
    connect: Duration::from_millis(500),
    answer: Duration::from_secs(1),
    between: Duration::from_secs(1),
};

/// The servers that there are; `None` before they have been listed.
pub(crate) type Known = Option<Arc<Vec<Server>>>;

/// Follows the pods until cancelled.
pub(crate) async fn run(
    client: Client,
    keys: watch::Receiver<MasterKeys>,
    states: PodStates,
    metrics: Metrics,
    known: watch::Sender<Known>,
    cancel: CancellationToken,
) {
    let mut servers = Servers { keys, states, metrics, known, pods: BTreeMap::new() };
    let config = observe::config().labels(&format!("{MANAGED_BY_LABEL}={MANAGED_BY}"));
    let events = observe::watched(Api::<Pod>::all(client), config, "Pod");
    tokio::select! {
        () = cancel.cancelled() => {}
        () = servers.follow(events) => {}
    }
}

/// Tells the engine of every change until cancelled.
pub(crate) async fn tell(engine: EngineHandle, mut known: watch::Receiver<Known>, cancel: CancellationToken) {
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            changed = known.changed() => if changed.is_err() { return },
        }
        let servers = known.borrow_and_update().clone();
        engine.servers(servers.as_deref().cloned().unwrap_or_default()).await;
    }
}

struct Servers {
    keys: watch::Receiver<MasterKeys>,
    /// What else is known of pods, for the status of their instances.
    states: PodStates,
    metrics: Metrics,
    known: watch::Sender<Known>,
    pods: BTreeMap<NamespacedName, Server>,
}

impl Servers {
    async fn follow(&mut self, mut events: impl Stream<Item = Result<Event<Pod>, Interruption>> + Unpin) {
        let mut keys = self.keys.clone();
        let (mut relisted, mut tell_at) = (BTreeMap::new(), None);
        loop {
            let changed = tokio::select! {
                event = events.next() => match event {
                    Some(Ok(event)) => self.take(event, &mut relisted),
                    Some(Err(_)) => false,
                    None => return,
                },
                Ok(()) = keys.changed() => self.known.borrow().is_some(),
                () = sleep_until(tell_at.unwrap_or_else(Instant::now)), if tell_at.is_some() => {
                    self.tell();
                    tell_at = None;
                    false
                }
            };
            if changed && self.known.borrow().is_none() {
                self.tell();
            } else if changed {
                tell_at = tell_at.or_else(|| Some(Instant::now() + GATHER));
            }
        }
    }

    /// Takes an event in; whether the servers may be others now.
    fn take(&mut self, event: Event<Pod>, relisted: &mut BTreeMap<NamespacedName, Option<Server>>) -> bool {
        match event {
            Event::Init => {
                relisted.clear();
                false
            }
            Event::InitApply(pod) => {
                self.states.put(&pod);
                relisted.insert(key_of(&pod), Self::server(&pod));
                false
            }
            Event::InitDone => {
                self.states.retain(|key| relisted.contains_key(key));
                let pods = std::mem::take(relisted).into_iter();
                self.pods = pods.filter_map(|(key, server)| Some((key, server?))).collect();
                true
            }
            Event::Apply(pod) => {
                self.states.put(&pod);
                match Self::server(&pod) {
                    Some(server) => self.pods.insert(key_of(&pod), server),
                    None => self.pods.remove(&key_of(&pod)),
                };
                true
            }
            Event::Delete(pod) => {
                self.states.remove(&pod);
                self.pods.remove(&key_of(&pod)).is_some()
            }
        }
    }

    /// The server that a pod is, once it has an address and until it has ended.
    fn server(pod: &Pod) -> Option<Server> {
        let status = pod.status.as_ref()?;
        if is_over(status) {
            return None;
        }
        let address: IpAddr = status.pod_ip.as_ref()?.parse().ok()?;
        let instance = NamespacedName::new(pod.namespace()?, pod.labels().get(POD_LABEL)?);
        let ready =
            status.conditions.iter().flatten().any(|one| one.type_ == "Ready" && one.status == "True");
        let going = pod.metadata.deletion_timestamp.is_some();
        Some(Server {
            state: ServerState {
                id: ServerId { instance, name: pod.name_any() },
                incarnation: incarnation(pod),
                ready: ready && !going,
                going,
            },
            endpoint: Endpoint { address: SocketAddr::new(address, TRANSFER_PORT), key: None },
        })
    }

    /// Tells of the servers as they are, with the keys that requests to them are signed with now.
    fn tell(&self) {
        let keys = self.keys.borrow().clone();
        let signed = |server: &Server| {
            let key = bindy_engine::signing_key(&keys, &server.state.id.instance).ok();
            Server { endpoint: Endpoint { key, ..server.endpoint.clone() }, ..server.clone() }
        };
        let servers: Vec<Server> = self.pods.values().map(signed).collect();
        self.metrics.servers.set(servers.len() as u64);
        self.metrics.servers_ready.set(servers.iter().filter(|server| server.state.ready).count() as u64);
        self.known.send_if_modified(|known| {
            let same = known.as_deref() == Some(&servers);
            if !same {
                *known = Some(Arc::new(servers));
            }
            !same
        });
    }
}

/// Another one after every restart of a container: what the server had then has to be seen again.
fn incarnation(pod: &Pod) -> u64 {
    let mut hasher = DefaultHasher::new();
    pod.uid().hash(&mut hasher);
    let status = pod.status.as_ref();
    let containers = status.and_then(|status| status.container_statuses.as_ref()).into_iter().flatten();
    let sidecars = status.and_then(|status| status.init_container_statuses.as_ref()).into_iter().flatten();
    for container in containers.chain(sidecars) {
        (container.name.as_str(), container.restart_count).hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bindy_wire::{Generation, MasterSecret};
    use futures::stream;
    use serde_json::json;

    #[tokio::test]
    async fn pods_that_change_without_end_do_not_put_off_what_is_told() {
        let pod = |restarts: i32| -> Pod {
            serde_json::from_value(json!({
                "metadata": { "name": "dns-1", "namespace": "default", "labels": { POD_LABEL: "dns" } },
                "status": {
                    "podIP": "192.0.2.1",
                    "containerStatuses": [{
                        "name": "named", "image": "", "imageID": "", "ready": true, "restartCount": restarts }],
                },
            }))
            .unwrap()
        };
        let changes = (0..i32::MAX).map(move |restarts| Event::Apply(pod(restarts)));
        let events = stream::iter([Event::Init, Event::InitDone].into_iter().chain(changes));
        let events = events.then(async |event| {
            tokio::task::yield_now().await;
            Ok(event)
        });
        let (known, mut told) = watch::channel(None);
        let keys = MasterKeys::new(Generation::A, MasterSecret::from_bytes([7; 32]));
        let mut servers = Servers {
            keys: watch::channel(keys).1,
            states: PodStates::default(),
            metrics: Metrics::new(),
            known,
            pods: BTreeMap::new(),
        };
        let told = told.wait_for(|known: &Known| known.as_ref().is_some_and(|servers| !servers.is_empty()));
        tokio::select! {
            () = servers.follow(events.boxed()) => panic!("the watch has ended"),
            told = tokio::time::timeout(Duration::from_secs(10), told) => drop(told.unwrap().unwrap()),
        }
    }
}
