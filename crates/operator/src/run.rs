//! Puts the parts together, in the order in which they may begin.
//!
//! Settings are checked first; then health is told, the lease applied for, the master secret found, and the hidden primary opened;
//! the rest is [`Replica`]'s.

use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

use bindy_election::{Election, Invalid, LeaseStore, Settings, State};
use bindy_engine::Store;
use bindy_model::NamespacedName;
use bindy_wire::{ServerOptions, Signatures};
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, Config};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::fleet;
use crate::http::{self, Synced};
use crate::install;
use crate::master::{self, Master, MasterSecretError, Stored};
use crate::metrics::Metrics;
use crate::observe;
use crate::replica::Replica;
use crate::term::{Leadership, Term, term_of};

/// For how long a replica that ends answers agents which have yet to hear of it, as a standby that is not ready: nodes need a
/// moment to send them to another one.
const FAREWELL: Duration = Duration::from_secs(3);
/// Pause before the API server is asked again at the start.
const START_PAUSE: Duration = Duration::from_secs(2);

/// What `bindy run` is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// The operator's own namespace, where the master secret is; else that of its pod or kubeconfig.
    pub namespace: Option<String>,
    /// Port of the hidden primary, TCP and UDP.
    pub transfer_port: u16,
    /// Port of health, readiness and metrics.
    pub http_port: u16,
    /// The image that agents run; else the one that the operator's pod runs.
    pub image: Option<String>,
    /// How replicas agree on the one that leads. Its identity is the name of the operator's own pod.
    pub election: Settings,
}

impl Options {
    /// The operator's own pod; `None` where it was not told its name.
    fn pod_name(&self) -> Option<&str> {
        Some(self.election.identity.as_str()).filter(|name| !name.is_empty())
    }
}

/// Why the operator cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The settings of the election contradict each other.
    #[error(transparent)]
    Settings(#[from] Invalid),
    /// The election cannot begin.
    #[error("the election cannot begin: {0}")]
    Election(#[source] std::io::Error),
    /// No cluster.
    #[error("no cluster: neither a service account of a pod nor a kubeconfig can be used: {0}")]
    Config(#[from] kube::config::InferConfigError),
    /// The client cannot be made.
    #[error("no client for the cluster: {0}")]
    Client(#[source] kube::Error),
    /// There is no master secret.
    #[error(transparent)]
    MasterSecret(#[from] MasterSecretError),
    /// A port is not to be had.
    #[error("cannot listen on port {port}: {error}")]
    Listen {
        /// The port.
        port: u16,
        /// Why.
        error: std::io::Error,
    },
}

/// Runs until cancelled; every task has ended, and the lease is given back, when it returns. Boxed, so that the whole operator
/// is compiled in this crate, once, and not by each that runs it.
pub fn run(options: Options, cancel: CancellationToken) -> BoxFuture<'static, Result<(), RunError>> {
    Box::pin(run_until(options, cancel))
}

async fn run_until(options: Options, cancel: CancellationToken) -> Result<(), RunError> {
    let settings = options.election.clone().check()?;
    let config = config().await?;
    let client = Client::try_from(config.clone()).map_err(RunError::Client)?;
    let parts =
        Parts { client, metrics: Metrics::new(), synced: Synced::default(), tasks: TaskTracker::new() };
    if !options.election.enabled {
        tracing::warn!("no leader election: no other replica may run");
        let leader = watch::channel(State::Leader(Term::unlimited())).1;
        let stop = Stop { leading: cancel.clone(), led: CancellationToken::new(), following: cancel };
        return replica(options, &parts, leader, &stop).await;
    }
    let store = LeaseStore::new(config, &settings).map_err(RunError::Client)?;
    let election = Election::start(settings, store, cancel.clone()).map_err(RunError::Election)?;
    parts.metrics.add(election.metrics());
    let stop = Stop { leading: cancel, led: CancellationToken::new(), following: CancellationToken::new() };
    let state = election.state();
    let left = async {
        stop.leading.cancelled().await;
        // Whoever leads next finds everything written that was begun here.
        election.release(stop.led.cancelled()).await;
        parts.synced.unset();
        let _ended = tokio::time::timeout(FAREWELL, stop.following.cancelled()).await;
        stop.following.cancel();
    };
    tokio::join!(replica(options, &parts, state, &stop), left).0
}

/// What a replica is made of, besides its options.
struct Parts {
    client: Client,
    metrics: Metrics,
    synced: Synced,
    tasks: TaskTracker,
}

/// How a replica ends: first it leads no more, then it follows no more.
pub(crate) struct Stop {
    /// Nothing is begun any more that writes.
    pub(crate) leading: CancellationToken,
    /// Nothing is written any more.
    pub(crate) led: CancellationToken,
    /// Everything ends.
    pub(crate) following: CancellationToken,
}

/// What every replica does.
async fn replica(
    options: Options,
    parts: &Parts,
    state: watch::Receiver<State>,
    stop: &Stop,
) -> Result<(), RunError> {
    let begun = begin(options, parts, state, stop).await;
    // Whatever ended it, the rest must not go on alone.
    for stopped in [&stop.leading, &stop.led, &stop.following] {
        stopped.cancel();
    }
    parts.tasks.close();
    parts.tasks.wait().await;
    begun
}

async fn begin(
    options: Options,
    parts: &Parts,
    state: watch::Receiver<State>,
    stop: &Stop,
) -> Result<(), RunError> {
    let Parts { client, metrics, synced, tasks } = parts;
    let cancel = &stop.following;
    let http = listen(options.http_port)?;
    tasks.spawn(http::serve(http, synced.clone(), metrics.clone(), cancel.clone()));
    let namespace = options.namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned());
    let Some(stored) = master_secret(client, &namespace, state.clone(), &stop.leading).await? else {
        return Ok(());
    };
    let master = Master::new(stored);
    tasks.spawn({
        let (master, client, namespace) = (master.clone(), client.clone(), namespace.clone());
        let followed = async move { master.follow(client, &namespace).await };
        cancel.clone().run_until_cancelled_owned(followed)
    });
    let store = Store::default();
    let address = SocketAddr::from((Ipv6Addr::UNSPECIFIED, options.transfer_port));
    let primary = ServerOptions { address, signatures: Signatures::Required, limits: Default::default() };
    let primary = bindy_wire::Server::bind(primary, store.clone(), store.clone()).await;
    let primary = primary.map_err(|error| RunError::Listen { port: options.transfer_port, error })?;
    metrics.add_primary(primary.counters());
    tasks.spawn(primary.serve(cancel.clone()));
    let Some(agent_image) = image(client, &options, &namespace, &stop.leading).await else { return Ok(()) };
    let context = fleet::Context {
        client: client.clone(),
        agent_image,
        transfer_service: NamespacedName::new(namespace, install::TRANSFER_SERVICE),
        keys: master.keys.subscribe(),
        pods: fleet::PodStates::default(),
    };
    let (term, leadership) = Leadership::new();
    let replica = Replica {
        client: client.clone(),
        context,
        pod_name: options.pod_name().map(str::to_owned),
        leadership,
        master,
        servers: watch::channel(None).0,
        store,
        metrics: metrics.clone(),
        synced: synced.clone(),
        tasks: tasks.clone(),
    };
    replica.run(state, &term, stop).await;
    Ok(())
}

fn listen(port: u16) -> Result<TcpListener, RunError> {
    let address = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    bindy_wire::listen(address).map_err(|error| RunError::Listen { port, error })
}

/// The image of the agents: as it was told, else that of the operator's own pod, else, where there is no such pod, the
/// released one. All servers are made anew when it changes, so it is no guess while the API server does not say. `None`
/// when cancelled before.
async fn image(
    client: &Client,
    options: &Options,
    namespace: &str,
    cancel: &CancellationToken,
) -> Option<String> {
    if let Some(image) = &options.image {
        return Some(image.clone());
    }
    let pod = match options.pod_name() {
        Some(name) => own_pod(client, namespace, name, cancel).await?,
        None => None,
    };
    let spec = pod.and_then(|pod| pod.spec);
    let own = spec.and_then(|spec| spec.containers.into_iter().find(|one| one.name == "operator"));
    let image = own.and_then(|container| container.image).unwrap_or_else(|| {
        tracing::warn!(
            pod = options.election.identity,
            namespace,
            image = install::IMAGE,
            "there is no such pod with a container named operator, so agents run the released image: set BINDY_IMAGE for another one"
        );
        install::IMAGE.to_owned()
    });
    Some(image)
}

/// The pod of this name, if there is one. `None` when cancelled before the API server has said.
async fn own_pod(
    client: &Client,
    namespace: &str,
    name: &str,
    cancel: &CancellationToken,
) -> Option<Option<Pod>> {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    loop {
        match api.get_opt(name).await {
            Ok(pod) => return Some(pod),
            Err(error) => {
                tracing::warn!(pod = name, namespace, %error, "the operator's own pod, whose image agents run, cannot be read; tried again");
            }
        }
        tokio::select! {
            () = cancel.cancelled() => return None,
            () = tokio::time::sleep(START_PAUSE) => {}
        }
    }
}

/// The configuration of a client whose connections cannot hang for ever.
async fn config() -> Result<Config, RunError> {
    let mut config = Config::infer().await?;
    config.connect_timeout = Some(Duration::from_secs(5));
    config.read_timeout = Some(observe::READ_TIMEOUT);
    config.write_timeout = Some(Duration::from_secs(10));
    // A write that is repeated in secret could be one of a term that is over.
    config.default_retry = false;
    Ok(config)
}

/// The master secret, as soon as there is one; the leader makes it. `None` when cancelled before.
async fn master_secret(
    client: &Client,
    namespace: &str,
    mut state: watch::Receiver<State>,
    cancel: &CancellationToken,
) -> Result<Option<Stored>, MasterSecretError> {
    loop {
        let term = term_of(&state.borrow_and_update());
        match master::load(client, namespace, term.as_ref()).await {
            Ok(Some(stored)) => return Ok(Some(stored)),
            Ok(None) => tracing::info!(
                secret = master::NAME,
                namespace,
                "the leader has yet to make the master secret"
            ),
            // The next term, or another replica, makes it.
            Err(MasterSecretError::Term(_)) => {}
            Err(error @ MasterSecretError::Random(_)) => return Err(error),
            Err(error) => tracing::warn!(%error, namespace, "tried again"),
        }
        tokio::select! {
            () = cancel.cancelled() => return Ok(None),
            Ok(()) = state.changed() => {}
            () = tokio::time::sleep(START_PAUSE) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::simulated::{Api, Failing};
    use serde_json::json;

    async fn image_in(api: &Api, pod_name: Option<&str>) -> Option<String> {
        let options = Options {
            namespace: None,
            transfer_port: 0,
            http_port: 0,
            image: None,
            election: Settings { identity: pod_name.unwrap_or_default().to_owned(), ..Settings::default() },
        };
        image(&api.client(), &options, "default", &CancellationToken::new()).await
    }

    #[tokio::test]
    async fn agents_run_the_image_of_the_operators_pod_also_when_it_cannot_be_read_at_first() {
        let api = Api::default();
        let containers = json!([
            { "name": "sidecar", "image": "other" }, { "name": "operator", "image": "registry.example/bindy:7" }]);
        let metadata = json!({ "name": "bindy-1", "namespace": "default" });
        api.put("pods", json!({ "metadata": metadata, "spec": { "containers": containers } }));
        api.fail(0, Failing::Before);
        assert_eq!(image_in(&api, Some("bindy-1")).await.as_deref(), Some("registry.example/bindy:7"));
        assert!(!api.heal(), "the first request did not fail");
    }

    #[tokio::test]
    async fn agents_run_the_released_image_where_there_is_no_pod_of_the_operator() {
        let api = Api::default();
        for pod_name in [Some("laptop"), None] {
            assert_eq!(image_in(&api, pod_name).await.as_deref(), Some(install::IMAGE));
        }
    }
}
