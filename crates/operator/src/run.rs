//! Puts the parts together, in the order in which they may begin.
//!
//! ```text
//!   watches ──► engine ──► hidden primary        on every replica: what the status names is served
//!                 ▲
//!   election ─► term: servers ──► lead ──► workloads, statuses        on the one that leads, until the term is over
//! ```
//! Nothing is compiled before every kind has been listed; nothing is written before the servers that run are known: the
//! version that a status names may have to come from them.

use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bindy_election::{Election, Invalid, LeaseStore, Settings, State};
use bindy_engine::{Engine, EngineHandle, Store, View};
use bindy_model::{Kind, LedgerEntry, NamespacedName, ObjectEvent};
use bindy_wire::{MasterSecret, ServerOptions, Signatures};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, Config};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::events::Events;
use crate::fleet;
use crate::http::{self, Synced};
use crate::install;
use crate::instances::{self, Addresses, Instances};
use crate::ledger::{EntryKey, KubeLedger};
use crate::master::{self, MasterSecretError};
use crate::metrics::Metrics;
use crate::observe::{self, Observed};
use crate::servers;
use crate::tell::Teller;
use crate::term::{Leadership, Term};

/// Events that may wait to be taken in.
const QUEUE: usize = 1024;

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
    /// The operator's own pod.
    pub pod_name: Option<String>,
    /// How replicas agree on the one that leads.
    pub election: Settings,
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

/// Runs until cancelled; every task has ended, and the lease is given back, when it returns.
pub async fn run(options: Options, cancel: CancellationToken) -> Result<(), RunError> {
    let settings = match options.election.enabled {
        true => Some(options.election.clone().check()?),
        false => None,
    };
    let metrics = Metrics::new();
    let config = config().await?;
    let client = Client::try_from(config.clone()).map_err(RunError::Client)?;
    let tasks = TaskTracker::new();
    let Some(settings) = settings else {
        tracing::warn!("no leader election: no other replica may run");
        let leader = State::Leader(Term::unlimited());
        return replica(options, client, metrics, watch::channel(leader).1, &tasks, &cancel).await;
    };
    let store = LeaseStore::new(config, &settings).map_err(RunError::Client)?;
    let election = Election::start(settings, store, cancel.clone()).map_err(RunError::Election)?;
    metrics.add(election.metrics());
    let result = replica(options, client, metrics, election.state(), &tasks, &cancel).await;
    // Whoever leads next finds everything written that was begun here.
    election.release(async { tasks.wait().await }).await;
    result
}

/// What every replica does.
async fn replica(
    options: Options,
    client: Client,
    metrics: Metrics,
    state: watch::Receiver<State>,
    tasks: &TaskTracker,
    cancel: &CancellationToken,
) -> Result<(), RunError> {
    let begun = begin(options, client, metrics, state, tasks, cancel).await;
    // Whatever ended it, the rest must not go on alone.
    cancel.cancel();
    tasks.close();
    tasks.wait().await;
    begun
}

async fn begin(
    options: Options,
    client: Client,
    metrics: Metrics,
    state: watch::Receiver<State>,
    tasks: &TaskTracker,
    cancel: &CancellationToken,
) -> Result<(), RunError> {
    let synced = Synced::default();
    let http = listen(options.http_port).await?;
    tasks.spawn(http::serve(http, synced.clone(), metrics.clone(), cancel.clone()));
    let namespace = options.namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned());
    let Some(secret) = master_secret(&client, &namespace, state.clone(), cancel).await? else {
        return Ok(());
    };
    let store = Store::default();
    let address = SocketAddr::from((Ipv6Addr::UNSPECIFIED, options.transfer_port));
    let primary = ServerOptions { address, signatures: Signatures::Required, limits: Default::default() };
    let primary = bindy_wire::Server::bind(primary, store.clone(), store.clone()).await;
    let primary = primary.map_err(|error| RunError::Listen { port: options.transfer_port, error })?;
    tasks.spawn(primary.serve(cancel.clone()));
    let context = fleet::Context {
        client: client.clone(),
        agent_image: image(&client, &options, &namespace).await,
        transfer_service: NamespacedName::new(namespace, install::TRANSFER_SERVICE),
        secret: secret.clone(),
        pods: fleet::PodStates::default(),
    };
    let pod_name = options.pod_name;
    let (term, leadership) = Leadership::new();
    let replica = Operator {
        client,
        context,
        pod_name,
        leadership,
        secret,
        store,
        metrics,
        synced,
        tasks: tasks.clone(),
    };
    replica.run(state, &term, cancel).await;
    Ok(())
}

async fn listen(port: u16) -> Result<TcpListener, RunError> {
    let address = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    TcpListener::bind(address).await.map_err(|error| RunError::Listen { port, error })
}

/// The image of the agents: as it was told, else that of the operator's own pod, else the released one.
async fn image(client: &Client, options: &Options, namespace: &str) -> String {
    if let Some(image) = &options.image {
        return image.clone();
    }
    let Some(name) = &options.pod_name else { return install::IMAGE.to_owned() };
    let pod = Api::<Pod>::namespaced(client.clone(), namespace).get_opt(name).await;
    let spec = pod.ok().flatten().and_then(|pod| pod.spec);
    let own = spec.and_then(|spec| spec.containers.into_iter().find(|one| one.name == "operator"));
    own.and_then(|container| container.image).unwrap_or_else(|| install::IMAGE.to_owned())
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
) -> Result<Option<MasterSecret>, MasterSecretError> {
    loop {
        let term = term_of(&state.borrow_and_update());
        match master::load(client, namespace, term.as_ref()).await {
            Ok(Some(secret)) => return Ok(Some(secret)),
            Ok(None) => tracing::info!(
                secret = master::NAME,
                namespace,
                "the leader has yet to make the master secret"
            ),
            Err(MasterSecretError::Api(error)) => {
                tracing::warn!(%error, secret = master::NAME, namespace, "the API server cannot be asked; tried again");
            }
            Err(error) => return Err(error),
        }
        tokio::select! {
            () = cancel.cancelled() => return Ok(None),
            Ok(()) = state.changed() => {}
            () = tokio::time::sleep(START_PAUSE) => {}
        }
    }
}

fn term_of(state: &State) -> Option<Term> {
    match state {
        State::Leader(term) => Some(term.clone()),
        State::Standby { .. } | State::Stopped => None,
    }
}

struct Operator {
    client: Client,
    context: fleet::Context,
    pod_name: Option<String>,
    leadership: Leadership,
    secret: MasterSecret,
    store: Store,
    metrics: Metrics,
    synced: Synced,
    tasks: TaskTracker,
}

impl Operator {
    async fn run(
        &self,
        state: watch::Receiver<State>,
        term: &watch::Sender<Option<Term>>,
        cancel: &CancellationToken,
    ) {
        let (client, metrics) = (self.client.clone(), self.metrics.clone());
        let ledger = Arc::new(KubeLedger::new(client, self.leadership.clone(), metrics));
        let (sender, mut observed) = mpsc::channel(QUEUE);
        for kind in observe::kinds() {
            self.tasks.spawn(observe::run(self.client.clone(), kind, sender.clone(), cancel.clone()));
        }
        drop(sender);
        let Some(listing) = list(&mut observed, &ledger, cancel).await else { return };
        tracing::info!(
            objects = listing.events.len(),
            entries = listing.entries.len(),
            "everything is listed"
        );
        let (engine, handle) = Engine::new(ledger.clone(), listing.entries, self.store.clone());
        self.tasks.spawn(engine.telling().run(cancel.clone()));
        handle.follow().await;
        handle.objects(listing.events).await;
        for (instance, addresses) in listing.addresses.all() {
            handle.addresses(instance, addresses).await;
        }
        handle.objects(vec![ObjectEvent::Listed]).await;
        self.tasks.spawn(keys(
            self.store.clone(),
            self.secret.clone(),
            self.metrics.clone(),
            handle.view(),
            cancel.clone(),
        ));
        self.synced.set();
        let followed = follow(&mut observed, &ledger, &handle, &listing.addresses, &self.leadership, cancel);
        tokio::join!(followed, self.lead_at_times(state, term, &handle, &listing.addresses, cancel));
    }

    /// Leads whenever this replica has a term, until cancelled.
    async fn lead_at_times(
        &self,
        mut state: watch::Receiver<State>,
        leader: &watch::Sender<Option<Term>>,
        engine: &EngineHandle,
        addresses: &Addresses,
        cancel: &CancellationToken,
    ) {
        while !cancel.is_cancelled() {
            let term = term_of(&state.borrow_and_update()).filter(Term::is_live);
            if let Some(term) = term {
                self.lead(term, leader, engine, addresses, cancel).await;
                continue;
            }
            tokio::select! {
                () = cancel.cancelled() => return,
                changed = state.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Writes until the term is over; what has begun is finished.
    async fn lead(
        &self,
        term: Term,
        leader: &watch::Sender<Option<Term>>,
        engine: &EngineHandle,
        addresses: &Addresses,
        cancel: &CancellationToken,
    ) {
        tracing::info!(term = term.number(), "Starting all operators");
        let (over, tasks) = (cancel.child_token(), TaskTracker::new());
        let begun = async {
            self.follow_servers(engine, &tasks, &over).await;
            leader.send_replace(Some(term.clone()));
            engine.lead().await;
            self.keep_workloads(engine, addresses, &term, &tasks, &over);
            cancel.cancelled().await;
        };
        tokio::select! {
            () = begun => {}
            () = term.ended() => {}
        }
        leader.send_replace(None);
        over.cancel();
        engine.follow().await;
        engine.servers(Vec::new()).await;
        tasks.close();
        tasks.wait().await;
    }

    /// Keeps objects and statuses as they should be.
    fn keep_workloads(
        &self,
        engine: &EngineHandle,
        addresses: &Addresses,
        term: &Term,
        tasks: &TaskTracker,
        over: &CancellationToken,
    ) {
        let (sender, reports) = watch::channel(Arc::default());
        let context = self.context.clone();
        let fleet = fleet::run(context, term.clone(), engine.view(), sender, over.clone());
        let ended = term.clone();
        // An answer that is still on its way would hold up the next term.
        tasks.spawn(async move {
            tokio::select! {
                () = fleet => {}
                () = ended.ended() => {}
            }
        });
        tasks.spawn(instances::follow(engine.clone(), reports.clone(), over.clone()));
        let teller = Teller {
            client: self.client.clone(),
            engine: engine.clone(),
            instances: Instances::new(engine.clone(), reports, addresses.clone()),
            term: term.clone(),
            metrics: self.metrics.clone(),
            events: Events::new(self.client.clone(), self.pod_name.clone()),
        };
        tasks.spawn(teller.run(over.clone()));
    }

    /// Returns when the engine knows the servers that run.
    async fn follow_servers(&self, engine: &EngineHandle, tasks: &TaskTracker, over: &CancellationToken) {
        let (sender, listed) = oneshot::channel();
        tasks.spawn(servers::run(
            self.client.clone(),
            engine.clone(),
            self.secret.clone(),
            self.context.pods.clone(),
            self.metrics.clone(),
            sender,
            over.clone(),
        ));
        // The sender is dropped when cancelled.
        drop(listed.await);
    }
}

/// Everything that was there at the start.
#[derive(Default)]
struct Listing {
    events: Vec<ObjectEvent>,
    entries: Vec<(EntryKey, LedgerEntry)>,
    addresses: Addresses,
}

/// Takes in what is observed until every kind has been listed; `None` when cancelled before.
async fn list(
    observed: &mut mpsc::Receiver<Observed>,
    ledger: &KubeLedger,
    cancel: &CancellationToken,
) -> Option<Listing> {
    let mut listing = Listing::default();
    let mut missing: Vec<Kind> = observe::kinds();
    while !missing.is_empty() {
        let next = tokio::select! {
            () = cancel.cancelled() => return None,
            next = observed.recv() => next?,
        };
        match next {
            Observed::Objects(events) => listing.events.extend(events),
            Observed::Entry(entry) => {
                let _noted = listing.addresses.recall(&entry);
                listing.entries.extend(ledger.note(&entry).and_then(|(key, entry)| Some((key, entry?))));
            }
            Observed::Listed(kind) => missing.retain(|other| *other != kind),
        }
    }
    Some(listing)
}

/// Hands on what is observed until cancelled.
async fn follow(
    observed: &mut mpsc::Receiver<Observed>,
    ledger: &KubeLedger,
    engine: &EngineHandle,
    addresses: &Addresses,
    leadership: &Leadership,
    cancel: &CancellationToken,
) {
    loop {
        let next = tokio::select! {
            () = cancel.cancelled() => return,
            next = observed.recv() => next,
        };
        match next {
            Some(Observed::Objects(events)) => {
                for event in &events {
                    if let ObjectEvent::Removed(key, _) = event {
                        ledger.forget(key);
                    }
                }
                engine.objects(events).await;
            }
            Some(Observed::Entry(object)) => {
                let noted = ledger.note(&object);
                // A leader knows its own entries and addresses, before they come back.
                if leadership.term().is_none() {
                    if let Some((instance, told)) = addresses.recall(&object) {
                        engine.addresses(instance, told).await;
                    }
                    if let Some((key, entry)) = noted {
                        engine.entry(key, entry).await;
                    }
                }
            }
            Some(Observed::Listed(_)) => {}
            None => return,
        }
    }
}

/// Keeps the keys by which the hidden primary knows instances those of the instances that there are.
async fn keys(
    store: Store,
    secret: MasterSecret,
    metrics: Metrics,
    mut views: watch::Receiver<Option<Arc<View>>>,
    cancel: CancellationToken,
) {
    loop {
        let view = views.borrow_and_update().clone();
        if let Some(view) = view {
            metrics.instances.set(view.fleet.iter().count() as u64);
            store.set_keys(&bindy_engine::keys(&view.fleet, &secret));
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            changed = views.changed() => if changed.is_err() { return },
        }
    }
}
