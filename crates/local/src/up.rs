//! `bindy up`: puts source, engine, ledger and runner together, and keeps `status.json` and the screen up to date.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bindy_engine::{Engine, EngineHandle, Server, Snapshot, Store};
use bindy_model::{Instance, Kind, NamespacedName, ObjectEvent, ServerId, ServerState};
use bindy_wire::{Endpoint, Generation, MasterKeys, ServerOptions, Signatures};
use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use crate::handouts;
use crate::ledger::{LEDGER_FILE, LedgerError, LocalLedger};
use crate::objects::Objects;
use crate::plan;
use crate::report::{self, Files};
use crate::runner::{Others, Runner, RunnerError, RunnerOptions, RunningServer, free_port};
use crate::screen::Screen;
use crate::source::{Patience, Source, SourceEvent, WatchError};
use crate::status::{Problem, Severity, Status};
use crate::vanished::Vanished;

/// Shortest time between two reports; they cost time in proportion to the zones.
const REPORT_PAUSE: Duration = Duration::from_millis(50);

/// What `bindy up` is told.
#[derive(Clone, Debug)]
pub struct UpOptions {
    /// The directory of manifests.
    pub directory: PathBuf,
    /// Where serials, keys and the servers' data are kept.
    pub state: PathBuf,
    /// The `bindy` program itself, which agents are started with.
    pub executable: PathBuf,
}

/// Why `bindy up` cannot run.
#[derive(Debug, thiserror::Error)]
pub enum UpError {
    /// The state directory cannot be used.
    #[error("the state directory {0} cannot be used: {1}")]
    State(PathBuf, #[source] std::io::Error),
    /// The ledger cannot be used.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The manifests cannot be read.
    #[error(transparent)]
    Watch(#[from] WatchError),
    /// Servers cannot be run.
    #[error(transparent)]
    Runner(#[from] RunnerError),
    /// The hidden primary has no port.
    #[error("the hidden primary cannot listen: {0}")]
    Listen(#[source] std::io::Error),
    /// The watching of the manifests ended.
    #[error("the directory of manifests is not watched any more")]
    SourceEnded,
}

/// Runs until cancelled, then stops every server. Boxed, so that all of it is compiled in this crate, once, and not by each that
/// runs it.
pub fn up(options: UpOptions, cancel: CancellationToken) -> BoxFuture<'static, Result<(), UpError>> {
    Box::pin(up_until(options, cancel))
}

async fn up_until(options: UpOptions, cancel: CancellationToken) -> Result<(), UpError> {
    let state = prepare_state(&options.state)?;
    let ledger = Arc::new(LocalLedger::open(&state.join(LEDGER_FILE))?);
    let master = MasterKeys::new(Generation::A, ledger.master_secret()?);
    let entries = ledger.entries()?;
    let store = Store::default();
    let (hidden_primary, server) = listen(&state, &store).await?;
    let source = Source::watch(&options.directory, Patience::default())?;
    let runner = Runner::start(RunnerOptions::new(state.clone(), options.executable))?;
    let objects = Objects::open(&ledger)?;
    let (engine, handle) = Engine::new(ledger.clone(), entries, store.clone());
    let stop = CancellationToken::new();
    let engine = tokio::spawn(engine.run(stop.clone()));
    let server = tokio::spawn(server.serve(stop.clone()));
    let mut up = Up {
        state,
        ledger,
        master,
        store,
        hidden_primary,
        runner,
        handle,
        objects,
        files: Files::default(),
        plan_problems: Vec::new(),
        addressed: BTreeSet::new(),
        vanished: Vanished::default(),
        obscure: BTreeSet::new(),
        listed: false,
        wanted: 0,
        screen: Screen::new(),
        written: Status::default(),
    };
    let result = up.run(source, cancel).await;
    let Up { runner, mut screen, .. } = up;
    screen.stopping();
    runner.stop().await;
    stop.cancel();
    // Both end when cancelled; a panic in them was printed already.
    drop((engine.await, server.await));
    result
}

struct Up {
    state: PathBuf,
    ledger: Arc<LocalLedger>,
    master: MasterKeys,
    store: Store,
    hidden_primary: SocketAddr,
    runner: Runner,
    handle: EngineHandle,
    objects: Objects,
    files: Files,
    plan_problems: Vec<Problem>,
    /// Instances of which the engine knows the address.
    addressed: BTreeSet<NamespacedName>,
    vanished: Vanished,
    /// Files that could not be read from the start: what they hold was never seen in this run.
    obscure: BTreeSet<PathBuf>,
    listed: bool,
    /// Number of servers that there should be.
    wanted: usize,
    screen: Screen,
    written: Status,
}

impl Up {
    async fn run(&mut self, mut source: Source, cancel: CancellationToken) -> Result<(), UpError> {
        self.start(&mut source).await?;
        let (mut changes, mut servers) = (self.handle.changes(), self.runner.servers());
        let mut next_report = Instant::now();
        let mut changed = true;
        loop {
            tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                batch = source.next() => {
                    self.take(batch.ok_or(UpError::SourceEnded)?).await;
                    // What cannot be read, or is not believed, is told too.
                    changed = true;
                }
                Ok(()) = changes.changed() => changed = true,
                Ok(()) = servers.changed() => {
                    let running = servers.borrow_and_update().clone();
                    self.tell_servers(&running).await;
                    changed = true;
                }
                () = tokio::time::sleep_until(next_report.into()), if changed => {
                    changed = false;
                    let begun = Instant::now();
                    let running = servers.borrow().clone();
                    self.report(&running).await;
                    next_report = Instant::now() + REPORT_PAUSE.max(begun.elapsed() * 4);
                }
            }
        }
    }

    /// The servers are known to the engine before it is told that everything is listed: a version that has to be
    /// fetched can only come from them.
    async fn start(&mut self, source: &mut Source) -> Result<(), UpError> {
        while !self.listed {
            let batch = source.next().await.ok_or(UpError::SourceEnded)?;
            self.listed = batch.iter().any(|event| matches!(event, SourceEvent::Listed));
            self.take(batch).await;
        }
        if let Some(snapshot) = self.handle.snapshot().await {
            self.plan(&snapshot).await;
            let mut servers = self.runner.servers();
            let known =
                servers.wait_for(|running| running.len() >= self.wanted).await.map(|running| running.clone());
            // The receiver outlives the runner only at shutdown.
            self.tell_servers(&known.unwrap_or_default()).await;
        }
        self.obscure = self.files.obscure().cloned().collect();
        let obscured = ObjectEvent::Obscured(!self.obscure.is_empty());
        self.handle.objects(vec![obscured, ObjectEvent::Listed]).await;
        Ok(())
    }

    async fn take(&mut self, events: Vec<SourceEvent>) {
        for event in &events {
            self.files.note(event);
        }
        let events = self.vanished.sift(events);
        let mut events = self.objects.convert(events);
        self.objects.remember(&self.ledger);
        if !self.obscure.is_empty() {
            let still: BTreeSet<&PathBuf> = self.files.obscure().collect();
            self.obscure.retain(|file| still.contains(file));
            events.push(ObjectEvent::Obscured(!self.obscure.is_empty()));
        }
        if !events.is_empty() {
            self.handle.objects(events).await;
        }
    }

    /// Tells the runner and the store which servers there should be.
    async fn plan(&mut self, snapshot: &Snapshot) {
        let fleet = &snapshot.fleet;
        self.store.set_keys(&bindy_engine::keys(fleet, &self.master));
        self.plan_problems.clear();
        let (mut wanted, mut handed_out) = (Vec::new(), BTreeSet::new());
        for instance in fleet.iter() {
            match plan::servers(instance, fleet, &self.master, self.hidden_primary, &self.state) {
                Ok(servers) => wanted.extend(servers),
                Err(error) => self.plan_problems.push(problem(instance, &error)),
            }
            match handouts::write(&self.state, instance, fleet, &self.master) {
                Ok(directories) => handed_out.extend(directories),
                Err(error) => self.plan_problems.push(problem(instance, &error)),
            }
            // On one machine the address of an instance is known before its first server is ready.
            if self.addressed.insert(instance.metadata.key.clone()) {
                let addresses = vec![IpAddr::V4(Ipv4Addr::LOCALHOST)];
                self.handle.addresses(instance.metadata.key.clone(), addresses).await;
            }
        }
        self.addressed.retain(|key| fleet.get(key).is_some());
        self.wanted = wanted.len();
        let unreadable = snapshot.unreadable.iter().any(|(key, _)| key.kind == Kind::Instance);
        let others =
            if unreadable || self.files.obscure().next().is_some() { Others::Leave } else { Others::Remove };
        handouts::sweep(&self.state, &handed_out, others);
        self.runner.set_wanted(wanted, others);
    }

    async fn tell_servers(&self, running: &[RunningServer]) {
        let mut servers = Vec::new();
        for server in running {
            let instance = server.key.instance.clone();
            let Ok(key) = bindy_engine::signing_key(&self.master, &instance) else { continue };
            let id = ServerId { instance, name: server.key.index.to_string() };
            servers.push(Server {
                state: ServerState { id, incarnation: server.incarnation, ready: server.ready, going: false },
                endpoint: Endpoint { address: server.transfer, key: Some(key) },
            });
        }
        self.handle.servers(servers).await;
    }

    async fn report(&mut self, running: &[RunningServer]) {
        let Some(snapshot) = self.handle.snapshot().await else { return };
        self.objects.remember(&self.ledger);
        self.plan(&snapshot).await;
        let mut problems = self.files.problems(&snapshot);
        problems.extend(self.plan_problems.iter().cloned());
        problems.extend(self.vanished.problems(&self.files));
        let status = report::status(&snapshot, running, problems, self.hidden_primary);
        if status != self.written {
            if let Err(error) = status.write(&self.state) {
                tracing::error!(%error, "status.json cannot be written");
            }
            self.screen.show(&self.written, &status);
            self.written = status;
        }
    }
}

/// Why an instance is not run as it should be.
fn problem(instance: &Instance, error: &dyn std::error::Error) -> Problem {
    Problem {
        severity: Severity::Error,
        object: Some(format!("Bind9Instance {}", instance.metadata.key)),
        reason: bindy_api::Reason::InvalidData.as_str().to_owned(),
        message: error.to_string(),
        ..Problem::default()
    }
}

fn prepare_state(state: &Path) -> Result<PathBuf, UpError> {
    let failed = |error| UpError::State(state.to_owned(), error);
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(state).map_err(failed)?;
    state.canonicalize().map_err(failed)
}

/// Binds the hidden primary, on the port of the last run where that is free: agents that still run know it.
async fn listen(state: &Path, store: &Store) -> Result<(SocketAddr, bindy_wire::Server<Store>), UpError> {
    let file = state.join("hidden-primary.port");
    let last = std::fs::read_to_string(&file).ok().and_then(|text| text.trim().parse::<u16>().ok());
    let bind = |port| {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let options = ServerOptions { address, signatures: Signatures::Required, limits: Default::default() };
        bindy_wire::Server::bind(options, store.clone(), store.clone())
    };
    let server = match last {
        Some(port) => match bind(port).await {
            Ok(server) => server,
            Err(_) => bind(free_port().map_err(UpError::Listen)?).await.map_err(UpError::Listen)?,
        },
        None => bind(free_port().map_err(UpError::Listen)?).await.map_err(UpError::Listen)?,
    };
    let address = server.local_addr().map_err(UpError::Listen)?;
    std::fs::write(&file, address.port().to_string()).map_err(|error| UpError::State(file, error))?;
    Ok((address, server))
}
