//! The loop: inputs in, one step, outputs carried out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bindy_model::{
    Core, Fleet, Input, InstanceReport, Kind, LedgerEntry, LedgerKind, NamespacedName, Notices, ObjectKey,
    Output, Probe, Purpose,
};
use bindy_model::{ServerId, ServerReport, ServerState, Target, Told, Verdict, World, ZoneReport};
use bindy_wire::Endpoint;
use bindy_zone::{Name, ZoneFile};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::{Clock, sleep_until};
use crate::fetch::Fetcher;
use crate::ledger::{Ledger, Swap};
use crate::probe::Lanes;
use crate::store::Store;

/// Inputs that may wait for the loop.
const QUEUE: usize = 4096;

/// Inputs that are taken in at once; changes gather while a step runs.
const BATCH: usize = 256;

/// Where every published version is logged whole, at level `trace`.
const VERSIONS: &str = "bindy_engine::versions";

/// A server as the engine reaches it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its identity and readiness.
    pub state: ServerState,
    /// Its agent's transfer port and the key for it.
    pub endpoint: Endpoint,
}

/// What is served where, at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Every DNSZone.
    pub zones: Vec<ZoneReport>,
    /// Every Bind9Instance.
    pub instances: Vec<InstanceReport>,
    /// Every server.
    pub servers: Vec<ServerReport>,
    /// The instances as they are wished for.
    pub fleet: Fleet,
    /// Whether all objects have been listed.
    pub listed: bool,
    /// Every record that is not simply accepted.
    pub remarks: Vec<(ObjectKey, Verdict)>,
    /// Objects that cannot be decoded.
    pub unreadable: Vec<(ObjectKey, String)>,
    /// Number of record objects.
    pub records: usize,
}

enum Message {
    Input(Input),
    Servers(Vec<Server>),
    Addresses(NamespacedName, Vec<std::net::IpAddr>),
    Snapshot(oneshot::Sender<Snapshot>),
    Notices(usize, oneshot::Sender<(Notices, Option<tokio::time::Instant>)>),
    TellAgain(ObjectKey, Duration),
    FoundTold(ObjectKey, u32, Told),
    LookAt(NamespacedName),
}

/// Feeds a running engine.
#[derive(Clone)]
pub struct EngineHandle {
    messages: mpsc::Sender<Message>,
    changes: watch::Receiver<u64>,
    view: watch::Receiver<Option<Arc<View>>>,
}

/// The instances as they are wished for.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// Those that can be read, or could be.
    pub fleet: Fleet,
    /// Those of which nothing is known but that they exist.
    pub unknown: BTreeSet<NamespacedName>,
    /// Those that are in `fleet` as they were when they could be read.
    pub outdated: BTreeSet<NamespacedName>,
}

impl View {
    fn of(world: &World) -> Self {
        let unreadable = world.unreadable_objects().map(|(object, _)| object);
        let unreadable = unreadable.filter(|object| object.kind == Kind::Instance).map(|one| one.key.clone());
        let (outdated, unknown) = unreadable.partition(|key| world.fleet().get(key).is_some());
        Self { fleet: world.fleet().clone(), unknown, outdated }
    }
}

impl EngineHandle {
    /// Tells what happened to objects.
    pub async fn objects(&self, events: Vec<bindy_model::ObjectEvent>) {
        self.send(Message::Input(Input::Objects(events))).await;
    }

    /// Tells which servers there are now.
    pub async fn servers(&self, servers: Vec<Server>) {
        self.send(Message::Servers(servers)).await;
    }

    /// Tells where an instance answers, from its first Ready on.
    pub async fn addresses(&self, instance: NamespacedName, addresses: Vec<std::net::IpAddr>) {
        self.send(Message::Addresses(instance, addresses)).await;
    }

    /// Another process has written what a zone or catalog is published with.
    pub async fn entry(&self, key: (NamespacedName, LedgerKind), entry: Option<LedgerEntry>) {
        self.send(Message::Input(Input::Entry(key, entry))).await;
    }

    /// The listing of this number has been told.
    pub async fn caught_up(&self, number: u64) {
        self.send(Message::Input(Input::CaughtUp(number))).await;
    }

    /// This process may write from now on. Its servers have to be known.
    pub async fn lead(&self) {
        self.send(Message::Input(Input::Lead)).await;
    }

    /// Another process writes from now on: what the ledger names is published, nobody is told anything.
    pub async fn follow(&self) {
        self.send(Message::Input(Input::Follow)).await;
    }

    /// What is served where; `None` when the engine has stopped.
    pub async fn snapshot(&self) -> Option<Snapshot> {
        let (sender, receiver) = oneshot::channel();
        self.send(Message::Snapshot(sender)).await;
        receiver.await.ok()
    }

    /// What at most `limit` objects of each kind have to be told, and when to ask again at the latest; `None` when the
    /// engine has stopped. Only of an engine that is [`Engine::telling`].
    pub async fn notices(&self, limit: usize) -> Option<(Notices, Option<tokio::time::Instant>)> {
        let (sender, receiver) = oneshot::channel();
        self.send(Message::Notices(limit, sender)).await;
        receiver.await.ok()
    }

    /// An object could not be told: it is among the notices again after `pause`.
    pub async fn tell_again(&self, key: ObjectKey, pause: Duration) {
        self.send(Message::TellAgain(key, pause)).await;
    }

    /// The status of an object, in this generation of it, was found to say something else than was thought.
    pub async fn found_told(&self, key: ObjectKey, generation: u32, told: Told) {
        self.send(Message::FoundTold(key, generation, told)).await;
    }

    /// An instance may have to be told something that the engine does not know of.
    pub async fn look_at(&self, instance: NamespacedName) {
        self.send(Message::LookAt(instance)).await;
    }

    /// The instances as they are wished for; `None` until all objects have been listed.
    pub fn view(&self) -> watch::Receiver<Option<Arc<View>>> {
        self.view.clone()
    }

    /// Counts steps: changes whenever a snapshot may have.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }

    /// A stopped engine needs no input.
    async fn send(&self, message: Message) {
        let _stopped = self.messages.send(message).await;
    }
}

/// The engine before it runs.
pub struct Engine<L> {
    core: Core,
    clock: Clock,
    store: Store,
    ledger: Arc<L>,
    servers: BTreeMap<ServerId, (Endpoint, u64, Lanes)>,
    fetcher: Fetcher,
    /// Ends what is being fetched.
    stop: CancellationToken,
    messages: mpsc::Receiver<Message>,
    inputs: mpsc::Receiver<Input>,
    results: mpsc::Sender<Input>,
    changed: watch::Sender<u64>,
    steps: u64,
    view: watch::Sender<Option<Arc<View>>>,
    fleet_version: Option<u64>,
    listings: Option<watch::Sender<u64>>,
    tasks: TaskTracker,
}

impl<L: Ledger> Engine<L> {
    /// An engine that goes on from what `entries` of the ledger say.
    pub fn new(
        ledger: Arc<L>,
        entries: impl IntoIterator<Item = ((NamespacedName, LedgerKind), LedgerEntry)>,
        store: Store,
    ) -> (Self, EngineHandle) {
        let (sender, messages) = mpsc::channel(QUEUE);
        let (results, inputs) = mpsc::channel(QUEUE);
        let (changed, changes) = watch::channel(0);
        let (view, views) = watch::channel(None);
        let engine = Self {
            core: Core::new(entries),
            clock: Clock::start(),
            store,
            ledger,
            servers: BTreeMap::new(),
            fetcher: Fetcher::new(),
            stop: CancellationToken::new(),
            messages,
            inputs,
            results,
            changed,
            steps: 0,
            view,
            fleet_version: None,
            listings: None,
            tasks: TaskTracker::new(),
        };
        (engine, EngineHandle { messages: sender, changes, view: views })
    }

    /// Gathers what objects have to be told, for [`EngineHandle::notices`].
    #[must_use]
    pub fn telling(mut self) -> Self {
        self.core = self.core.telling();
        self
    }

    /// Asks by these numbers for listings of all objects, which [`EngineHandle::caught_up`] answers. Of an engine that has not
    /// this, objects are told without delay.
    #[must_use]
    pub fn catching_up(mut self, listings: watch::Sender<u64>) -> Self {
        self.listings = Some(listings);
        self
    }

    /// Runs until cancelled; every task has ended when it returns.
    pub async fn run(mut self, cancel: CancellationToken) {
        let (mut messages, mut inputs) = (Vec::new(), Vec::new());
        loop {
            let tick = self.core.next_tick().map(|at| self.clock.instant(at));
            tokio::select! {
                biased;
                () = cancel.cancelled() => break,
                _ = self.inputs.recv_many(&mut inputs, BATCH) => {}
                received = self.messages.recv_many(&mut messages, BATCH) => {
                    if received == 0 {
                        break;
                    }
                }
                () = sleep_until(tick) => inputs.push(Input::Tick),
            }
            // One of them may always have something, and must not keep the other waiting.
            while messages.len() < BATCH
                && let Ok(message) = self.messages.try_recv()
            {
                messages.push(message);
            }
            for input in inputs.drain(..) {
                self.step(input);
            }
            for message in gather(std::mem::take(&mut messages)) {
                self.take(message);
            }
            self.tell_view();
            // Questions change nothing; who asks after every change would ask for ever.
            self.changed.send_if_modified(|steps| {
                let before = std::mem::replace(steps, self.steps);
                before != self.steps
            });
        }
        self.servers.clear();
        self.stop.cancel();
        drop(self.inputs);
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn tell_view(&mut self) {
        let world = self.core.world();
        let version = Some(world.fleet_version());
        if world.is_listed() && self.fleet_version != version {
            self.fleet_version = version;
            self.view.send_replace(Some(Arc::new(View::of(world))));
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Input(input) => self.step(input),
            Message::Servers(servers) => self.take_servers(servers),
            Message::Addresses(instance, addresses) => {
                self.step(Input::Addresses(instance, addresses));
            }
            // Whoever asked may have gone.
            Message::Snapshot(sender) => drop(sender.send(Snapshot::of(&self.core))),
            Message::Notices(limit, sender) => {
                let notices = self.core.take_notices(limit, self.clock.now());
                let next = notices.next.map(|at| self.clock.instant(at));
                drop(sender.send((notices, next)));
            }
            Message::TellAgain(key, pause) => {
                self.steps += 1;
                self.core.tell_again(&key, pause, self.clock.now());
            }
            Message::FoundTold(key, generation, told) => {
                self.steps += 1;
                self.core.found_told(&key, generation, told, self.clock.now());
            }
            Message::LookAt(instance) => {
                self.steps += 1;
                self.core.mark_instance(&instance, self.clock.now().monotonic);
            }
        }
    }

    fn take_servers(&mut self, servers: Vec<Server>) {
        self.servers.retain(|id, _| servers.iter().any(|server| server.state.id == *id));
        for server in &servers {
            let (id, incarnation) = (&server.state.id, server.state.incarnation);
            let known = self.servers.get(id);
            if known.is_some_and(|(endpoint, known, _)| *known == incarnation && *endpoint == server.endpoint)
            {
                continue;
            }
            let lanes = Lanes::start(id, &server.endpoint, QUEUE, &self.results, &self.tasks);
            self.servers.insert(id.clone(), (server.endpoint.clone(), incarnation, lanes));
        }
        self.fetcher.set_servers(self.servers.values().map(|(endpoint, _, _)| endpoint.clone()).collect());
        self.step(Input::Servers(servers.into_iter().map(|server| server.state).collect()));
    }

    fn step(&mut self, input: Input) {
        self.steps += 1;
        match &input {
            Input::Objects(events) => tracing::debug!(events = events.len(), "objects seen"),
            Input::Swapped(target, result) => tracing::debug!(?target, ?result, "swapped"),
            _ => {}
        }
        let outputs = self.core.step(input, self.clock.now());
        for output in outputs {
            self.carry_out(output);
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Publish(target, zone, version) => {
                tracing::info!(%zone, serial = %version.serial, "published");
                // Before anybody can have it, so that a log of this level has every version without a gap.
                tracing::trace!(target: VERSIONS, %zone, text = ?ZoneFile::display(&version).to_string(), "version");
                self.store.publish(target, version);
            }
            Output::Grant(target, zone, instances) => self.store.grant(&target, &zone, instances),
            Output::Retire(target) => self.store.retire(&target),
            Output::Swap { target, expected, next } => {
                tracing::debug!(?target, serial = %next.serial, "compiled");
                self.swap(target, expected, next);
            }
            Output::CatchUp(number) => self.catch_up(number),
            Output::Fetch(target, zone, wanted, purpose) => self.fetch(target, zone, wanted, purpose),
            Output::Probe(id, probes) => self.probe(&id, probes),
        }
    }

    fn catch_up(&mut self, number: u64) {
        let Some(listings) = &self.listings else { return self.step(Input::CaughtUp(number)) };
        tracing::info!(
            number,
            "goes on from what another process has published: all objects are listed first"
        );
        listings.send_replace(number);
    }

    fn swap(&self, target: Target, expected: Option<bindy_zone::Serial>, next: LedgerEntry) {
        let (ledger, results) = (self.ledger.clone(), self.results.clone());
        self.tasks.spawn(async move {
            let result = ledger.swap(Swap { target: target.clone(), expected, next }).await;
            // The engine has stopped when nobody takes the result.
            let _stopped = results.send(Input::Swapped(target, result)).await;
        });
    }

    fn fetch(&self, target: Target, zone: Name, wanted: Option<LedgerEntry>, purpose: Purpose) {
        let (results, stop) = (self.results.clone(), self.stop.clone());
        let fetched = self.fetcher.clone().fetch(zone, wanted, purpose);
        self.tasks.spawn(async move {
            if let Some(version) = stop.run_until_cancelled(fetched).await {
                let _stopped = results.send(Input::Fetched(target, version)).await;
            }
        });
    }

    fn probe(&self, id: &ServerId, probes: Vec<Probe>) {
        if let Some((_, _, lanes)) = self.servers.get(id)
            && let Err(error) = lanes.send(probes)
        {
            tracing::error!(server = %id, %error, "probes are lost: more are under way than the queue holds");
        }
    }
}

/// Joins object events that came one after the other, so that they are compiled and swapped together.
fn gather(messages: Vec<Message>) -> Vec<Message> {
    let mut gathered: Vec<Message> = Vec::with_capacity(messages.len());
    for message in messages {
        match (gathered.last_mut(), message) {
            (Some(Message::Input(Input::Objects(events))), Message::Input(Input::Objects(more))) => {
                events.extend(more);
            }
            (_, message) => gathered.push(message),
        }
    }
    gathered
}

impl Snapshot {
    /// What is served where, as `core` has it.
    pub fn of(core: &Core) -> Self {
        let world: &World = core.world();
        Self {
            zones: world.zones().filter_map(|key| core.zone_report(key)).collect(),
            instances: core.instance_reports().collect(),
            servers: core.server_reports().collect(),
            fleet: world.fleet().clone(),
            listed: world.is_listed(),
            remarks: world.remarks().collect(),
            unreadable: world
                .unreadable_objects()
                .map(|(key, text)| (key.clone(), text.to_owned()))
                .collect(),
            records: world.record_count(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bindy_model::Swapped;

    struct NoLedger;

    impl Ledger for NoLedger {
        async fn swap(&self, _: Swap) -> Swapped {
            Swapped::Failed
        }
    }

    #[tokio::test]
    async fn answers_that_never_end_do_not_keep_changes_waiting() {
        let (engine, handle) = Engine::new(Arc::new(NoLedger), [], Store::default());
        let (results, cancel) = (engine.results.clone(), CancellationToken::new());
        let answering = tokio::spawn(async move { while results.send(Input::Tick).await.is_ok() {} });
        let running = tokio::spawn(engine.run(cancel.clone()));
        handle.objects(vec![bindy_model::ObjectEvent::Listed]).await;
        let snapshot = tokio::time::timeout(Duration::from_secs(20), handle.snapshot()).await;
        assert!(snapshot.expect("changes are taken in").expect("the engine runs").listed);
        cancel.cancel();
        running.await.unwrap();
        answering.await.unwrap();
    }
}
