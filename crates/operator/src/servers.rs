//! Pods as servers: which there are, where their agents answer, and whether they take part in their Service.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bindy_engine::{EngineHandle, Server};
use bindy_model::workload::{MANAGED_BY, MANAGED_BY_LABEL, POD_LABEL, TRANSFER_PORT};
use bindy_model::{NamespacedName, ServerId, ServerState};
use bindy_wire::{Endpoint, MasterSecret};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Client, ResourceExt};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::fleet::PodStates;
use crate::key::key_of;
use crate::metrics::Metrics;
use crate::observe;
use crate::rbac::{Access, Scope, Verb};

/// What is read here.
pub(crate) const ACCESS: &[Access] = &[Access {
    group: "",
    resource: "pods",
    verbs: &[Verb::Get, Verb::List, Verb::Watch],
    scope: Scope::Cluster,
}];

/// Events that come within this time are told together: a rollout changes a pod several times in a row.
const GATHER: Duration = Duration::from_millis(20);

/// Follows the pods and tells the engine of them, until cancelled. `listed` is answered once the engine knows those
/// that run already.
pub(crate) async fn run(
    client: Client,
    engine: EngineHandle,
    secret: MasterSecret,
    states: PodStates,
    metrics: Metrics,
    listed: oneshot::Sender<()>,
    cancel: CancellationToken,
) {
    let mut servers = Servers { engine, secret, states, metrics, pods: BTreeMap::new(), told: Vec::new() };
    tokio::select! {
        () = cancel.cancelled() => {}
        () = servers.follow(client, listed) => {}
    }
}

struct Servers {
    engine: EngineHandle,
    secret: MasterSecret,
    /// What else is known of pods, for the status of their instances.
    states: PodStates,
    metrics: Metrics,
    pods: BTreeMap<NamespacedName, Server>,
    told: Vec<(ServerState, SocketAddr)>,
}

impl Servers {
    async fn follow(&mut self, client: Client, listed: oneshot::Sender<()>) {
        let config = observe::config().labels(&format!("{MANAGED_BY_LABEL}={MANAGED_BY}"));
        let mut events = std::pin::pin!(watch(Api::<Pod>::all(client), config).backoff(observe::pauses()));
        let (mut relisted, mut changed) = (BTreeMap::new(), false);
        let mut listed = Some(listed);
        loop {
            let next = match (changed, &listed) {
                (true, None) => tokio::time::timeout(GATHER, events.next()).await.ok(),
                _ => Some(events.next().await),
            };
            match next {
                None => {
                    changed = false;
                    self.tell().await;
                }
                Some(None) => return,
                Some(Some(event)) => {
                    changed |= self.take(event, &mut relisted);
                    if listed.is_some() && changed && relisted.is_empty() {
                        self.tell().await;
                        // Whoever waits for it may have been cancelled.
                        let _cancelled = listed.take().map(|listed| listed.send(()));
                    }
                }
            }
        }
    }

    /// Takes an event in; whether the servers may be others now.
    fn take(
        &mut self,
        event: Result<Event<Pod>, watcher::Error>,
        relisted: &mut BTreeMap<NamespacedName, Option<Server>>,
    ) -> bool {
        match event {
            Ok(Event::Init) => {
                relisted.clear();
                false
            }
            Ok(Event::InitApply(pod)) => {
                self.states.put(&pod);
                relisted.insert(key_of(&pod), self.server(&pod));
                false
            }
            Ok(Event::InitDone) => {
                self.states.retain(|key| relisted.contains_key(key));
                let pods = std::mem::take(relisted).into_iter();
                self.pods = pods.filter_map(|(key, server)| Some((key, server?))).collect();
                true
            }
            Ok(Event::Apply(pod)) => {
                self.states.put(&pod);
                match self.server(&pod) {
                    Some(server) => self.pods.insert(key_of(&pod), server),
                    None => self.pods.remove(&key_of(&pod)),
                };
                true
            }
            Ok(Event::Delete(pod)) => {
                self.states.remove(&pod);
                self.pods.remove(&key_of(&pod)).is_some()
            }
            Err(error) => {
                tracing::warn!(kind = "Pod", %error, "watch interrupted");
                false
            }
        }
    }

    /// The server that a pod is, once it has an address and until it has ended.
    fn server(&self, pod: &Pod) -> Option<Server> {
        let status = pod.status.as_ref()?;
        if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
            return None;
        }
        let address: IpAddr = status.pod_ip.as_ref()?.parse().ok()?;
        let instance = NamespacedName::new(pod.namespace()?, pod.labels().get(POD_LABEL)?);
        let key = bindy_engine::instance_key(&self.secret, &instance).ok()?;
        let ready =
            status.conditions.iter().flatten().any(|one| one.type_ == "Ready" && one.status == "True");
        Some(Server {
            state: ServerState {
                id: ServerId { instance, name: pod.name_any() },
                incarnation: incarnation(pod),
                // One that is going away is told of changes as long as it answers, and nobody waits for it.
                ready: ready && pod.metadata.deletion_timestamp.is_none(),
            },
            endpoint: Endpoint { address: SocketAddr::new(address, TRANSFER_PORT), key: Some(key) },
        })
    }

    async fn tell(&mut self) {
        let servers: Vec<Server> = self.pods.values().cloned().collect();
        let states: Vec<_> =
            servers.iter().map(|server| (server.state.clone(), server.endpoint.address)).collect();
        if states == self.told {
            return;
        }
        self.metrics.servers.set(states.len() as u64);
        self.metrics.servers_ready.set(states.iter().filter(|(state, _)| state.ready).count() as u64);
        self.told = states;
        self.engine.servers(servers).await;
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
