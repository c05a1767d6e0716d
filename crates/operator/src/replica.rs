//! What a replica of the operator does: it follows what the leader writes, and leads whenever it has a term.
//!
//! ```text
//!   watches ──► engine ──► hidden primary        on every replica: what the status names is served
//!                 ▲
//!   election ─► term: servers ──► lead ──► workloads, statuses        on the one that leads, until the term is over
//! ```
//! Nothing is compiled before every kind has been listed; nothing is written before the servers that run are known: the
//! version that a status names may have to come from them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bindy_election::State;
use bindy_engine::{Engine, EngineHandle, Store, View};
use bindy_model::{Kind, LedgerEntry, NamespacedName, ObjectEvent, ObjectKey};
use bindy_wire::MasterKeys;
use kube::Client;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::configs::{AllHeard, Configs};
use crate::events::Events;
use crate::fleet;
use crate::http::Synced;
use crate::instances::{self, Addresses, Instances};
use crate::ledger::{EntryKey, KubeLedger};
use crate::master::Master;
use crate::metrics::Metrics;
use crate::observe::{self, Observed};
use crate::refusals::Refusals;
use crate::rotation::Rotation;
use crate::run::Stop;
use crate::servers;
use crate::states::States;
use crate::tell::Teller;
use crate::term::{Leadership, Term, term_of};

/// Events that may wait to be taken in.
const QUEUE: usize = 1024;

/// One of the operator's processes.
pub(crate) struct Replica {
    pub(crate) client: Client,
    pub(crate) context: fleet::Context,
    pub(crate) pod_name: Option<String>,
    pub(crate) leadership: Leadership,
    pub(crate) master: Master,
    /// The servers that there are.
    pub(crate) servers: watch::Sender<servers::Known>,
    pub(crate) store: Store,
    pub(crate) metrics: Metrics,
    pub(crate) synced: Synced,
    pub(crate) tasks: TaskTracker,
}

impl Replica {
    /// Runs until it is stopped.
    pub(crate) async fn run(
        &self,
        state: watch::Receiver<State>,
        term: &watch::Sender<Option<Term>>,
        stop: &Stop,
    ) {
        let cancel = &stop.following;
        let (client, metrics) = (self.client.clone(), self.metrics.clone());
        let ledger = Arc::new(KubeLedger::new(client, self.leadership.clone(), metrics));
        let (sender, mut observed) = mpsc::channel(QUEUE);
        let (listings, wanted) = watch::channel(0);
        for kind in observe::kinds() {
            let (client, sender, cancel) = (self.client.clone(), sender.clone(), cancel.clone());
            self.tasks.spawn(observe::run(client, kind, sender, wanted.clone(), cancel));
        }
        drop(sender);
        self.tasks.spawn(servers::run(
            self.client.clone(),
            self.master.keys.subscribe(),
            self.context.pods.clone(),
            self.metrics.clone(),
            self.servers.clone(),
            cancel.clone(),
        ));
        let mut states = States::new(self.metrics.clone());
        let listing = list(&mut observed, &ledger, &mut states, &stop.leading).await;
        let Some(listing) = listing else { return };
        tracing::info!(
            objects = listing.events.len(),
            entries = listing.entries.len(),
            "everything is listed"
        );
        let (engine, handle) = Engine::new(ledger.clone(), listing.entries, self.store.clone());
        self.tasks.spawn(engine.telling().catching_up(listings).run(cancel.clone()));
        handle.follow().await;
        handle.objects(listing.events).await;
        for (instance, addresses) in listing.addresses.all() {
            handle.addresses(instance, addresses).await;
        }
        handle.objects(vec![ObjectEvent::Listed]).await;
        self.tasks.spawn(keys(
            self.store.clone(),
            self.master.keys.subscribe(),
            self.metrics.clone(),
            handle.view(),
            self.synced.clone(),
            cancel.clone(),
        ));
        let seen = Seen { ledger: &ledger, states: &mut states, addresses: &listing.addresses };
        let followed = follow(&mut observed, seen, listing.gone, &handle, &self.leadership, cancel);
        let led = async {
            self.lead_at_times(state, term, &handle, &listing.addresses, &stop.leading).await;
            ledger.written().await;
            stop.led.cancel();
        };
        tokio::join!(followed, led);
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
        tasks.close();
        tasks.wait().await;
        engine.servers(Vec::new()).await;
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
        let (master, client) = (self.master.clone(), self.client.clone());
        let namespace = self.context.transfer_service.namespace.clone();
        let (views, leading) = (engine.view(), term.clone());
        let cancelled = over.clone();
        let fleet = async move {
            let caught_up = async {
                master.catch_up(&client, &namespace).await;
                instances::catch_up(&client, views.clone()).await;
            };
            if cancelled.run_until_cancelled(caught_up).await.is_some() {
                fleet::run(context, leading, views, sender, cancelled).await;
            }
        };
        let ended = term.clone();
        // An answer that is still on its way would hold up the next term.
        tasks.spawn(async move {
            tokio::select! {
                () = fleet => {}
                () = ended.ended() => {}
            }
        });
        tasks.spawn(instances::follow(engine.clone(), reports.clone(), over.clone()));
        let (heard, configs) = watch::channel(AllHeard::default());
        let asking = Configs {
            engine: engine.clone(),
            reports: reports.clone(),
            servers: self.servers.subscribe(),
            heard,
        };
        tasks.spawn(asking.run(over.clone()));
        let events = Events::new(self.client.clone(), self.pod_name.clone());
        let rotation = Rotation {
            client: self.client.clone(),
            namespace: self.context.transfer_service.namespace.clone(),
            master: self.master.clone(),
            servers: self.servers.subscribe(),
            views: engine.view(),
            events: events.clone(),
            term: term.clone(),
        };
        tasks.spawn(over.clone().run_until_cancelled_owned(rotation.run()));
        let teller = Teller {
            client: self.client.clone(),
            engine: engine.clone(),
            instances: Instances::new(engine.clone(), reports, configs, addresses.clone()),
            term: term.clone(),
            metrics: self.metrics.clone(),
            events,
            refusals: Refusals::default(),
        };
        tasks.spawn(teller.run(over.clone()));
    }

    /// Returns when the engine knows the servers that run.
    async fn follow_servers(&self, engine: &EngineHandle, tasks: &TaskTracker, over: &CancellationToken) {
        let mut known = self.servers.subscribe();
        let listed = tokio::select! {
            () = over.cancelled() => return,
            Ok(servers) = known.wait_for(Option::is_some) => servers.clone(),
            else => return,
        };
        engine.servers(listed.as_deref().cloned().unwrap_or_default()).await;
        tasks.spawn(servers::tell(engine.clone(), known, over.clone()));
    }
}

/// Everything that was there at the start.
#[derive(Default)]
struct Listing {
    events: Vec<ObjectEvent>,
    entries: Vec<(EntryKey, LedgerEntry)>,
    addresses: Addresses,
    gone: Gone,
}

/// Takes in what is observed until every kind has been listed; `None` when cancelled before.
async fn list(
    observed: &mut mpsc::Receiver<Observed>,
    ledger: &KubeLedger,
    states: &mut States,
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
            Observed::Objects(events) => {
                let mut seen = Seen { ledger, states: &mut *states, addresses: &listing.addresses };
                events.iter().for_each(|event| listing.gone.take(event, &mut seen));
                listing.events.extend(events);
            }
            Observed::States(key, wrong) => states.put(key, wrong),
            Observed::Entry(entry) => {
                let _noted = listing.addresses.recall(&entry, false);
                listing.entries.extend(ledger.note(&entry).and_then(|(key, entry)| Some((key, entry?))));
            }
            Observed::Listed(kind, _) => missing.retain(|other| *other != kind),
        }
    }
    Some(listing)
}

/// What is kept of zones and instances beside the engine.
struct Seen<'a> {
    ledger: &'a KubeLedger,
    states: &'a mut States,
    addresses: &'a Addresses,
}

impl Seen<'_> {
    /// Forgets an object that does not exist any more.
    fn forget(&mut self, key: &ObjectKey) {
        self.ledger.forget(key);
        self.states.forget(key);
        if key.kind == Kind::Instance {
            self.addresses.forget(&key.key);
        }
    }

    /// Forgets the objects of a kind that a new list lacks.
    fn retain(&mut self, kind: Kind, listed: &HashSet<NamespacedName>) {
        self.ledger.retain(kind, listed);
        self.states.retain(kind, listed);
        if kind == Kind::Instance {
            self.addresses.retain(listed);
        }
    }
}

/// Hands on what is observed until cancelled.
async fn follow(
    observed: &mut mpsc::Receiver<Observed>,
    mut seen: Seen<'_>,
    mut gone: Gone,
    engine: &EngineHandle,
    leadership: &Leadership,
    cancel: &CancellationToken,
) {
    let mut listed: HashMap<Kind, u64> = observe::kinds().into_iter().map(|kind| (kind, 0)).collect();
    let mut complete = 0;
    loop {
        let next = tokio::select! {
            () = cancel.cancelled() => return,
            next = observed.recv() => next,
        };
        match next {
            Some(Observed::Objects(events)) => {
                for event in &events {
                    gone.take(event, &mut seen);
                }
                engine.objects(events).await;
            }
            Some(Observed::States(key, wrong)) => seen.states.put(key, wrong),
            Some(Observed::Entry(object)) => {
                let noted = seen.ledger.note(&object);
                if let Some((instance, told)) = seen.addresses.recall(&object, leadership.term().is_some()) {
                    engine.addresses(instance, told).await;
                }
                if let Some((key, entry)) = noted {
                    engine.entry(key, entry).await;
                }
            }
            Some(Observed::Listed(kind, number)) => {
                listed.insert(kind, number);
                let now = listed.values().min().copied().unwrap_or_default();
                if std::mem::replace(&mut complete, now) != now {
                    engine.caught_up(now).await;
                }
            }
            None => return,
        }
    }
}

/// Has objects forgotten that do not exist any more. Where a kind is listed again: the zones or instances seen since then.
#[derive(Default)]
struct Gone(HashMap<Kind, HashSet<NamespacedName>>);

impl Gone {
    fn take(&mut self, event: &ObjectEvent, seen: &mut Seen<'_>) {
        match event {
            ObjectEvent::Removed(key, _) => seen.forget(key),
            ObjectEvent::Relisting(kind @ (Kind::Zone | Kind::Instance)) => {
                self.0.insert(*kind, HashSet::new());
            }
            ObjectEvent::Told(key, _) | ObjectEvent::Unreadable(key, _) => {
                if let Some(listed) = self.0.get_mut(&key.kind) {
                    listed.insert(key.key.clone());
                }
            }
            ObjectEvent::Relisted(kind) => {
                if let Some(listed) = self.0.remove(kind) {
                    seen.retain(*kind, &listed);
                }
            }
            _ => {}
        }
    }
}

/// Keeps the keys by which the hidden primary knows instances those of the instances that there are. Before it knows them, this
/// replica is of no use to a server.
async fn keys(
    store: Store,
    mut master: watch::Receiver<MasterKeys>,
    metrics: Metrics,
    mut views: watch::Receiver<Option<Arc<View>>>,
    synced: Synced,
    cancel: CancellationToken,
) {
    let mut synced = Some(synced);
    loop {
        let (view, keys) = (views.borrow_and_update().clone(), master.borrow_and_update().clone());
        if let Some(view) = view {
            metrics.instances.set(view.fleet.iter().count() as u64);
            let desired = view.fleet.iter().map(|instance| u64::from(instance.replicas)).sum();
            metrics.servers_desired.set(desired);
            store.set_keys(&bindy_engine::keys(&view.fleet, &keys));
            // Once: it is taken back when this replica is about to end.
            synced.take().iter().for_each(Synced::set);
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            changed = views.changed() => if changed.is_err() { return },
            changed = master.changed() => if changed.is_err() { return },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bindy_api::Object;
    use bindy_model::{LedgerKind, Removal, Told};
    use serde_json::json;
    use std::collections::BTreeSet;

    fn object(kind: &str, name: &str) -> Object {
        let (spec, status) = match kind {
            "DNSZone" => (json!({ "zoneName": "example.org" }), json!({ "serial": 1 })),
            _ => (json!({ "replicas": 1 }), json!({ "addresses": ["192.0.2.1"] })),
        };
        let metadata = json!({ "name": name, "namespace": "default", "uid": "u" });
        let value = json!({ "apiVersion": bindy_api::API_VERSION, "kind": kind, "metadata": metadata,
            "spec": spec, "status": status });
        Object::decode(value).unwrap()
    }

    #[tokio::test]
    async fn objects_that_were_deleted_or_that_a_new_list_lacks_are_forgotten() {
        let client = fleet::simulated::Api::default().client();
        let ledger = KubeLedger::new(client, Leadership::new().1, Metrics::new());
        let (addresses, mut gone) = (Addresses::default(), Gone::default());
        let mut states = States::new(Metrics::new());
        for name in ["deleted", "missing", "listed", "unreadable"] {
            for kind in ["DNSZone", "Bind9Instance"] {
                ledger.note(&object(kind, name)).unwrap();
                addresses.recall(&object(kind, name), false);
            }
        }
        let key = |kind, name: &str| ObjectKey { kind, key: NamespacedName::new("default", name) };
        let mut left_by = |events: &[ObjectEvent]| {
            let mut seen = Seen { ledger: &ledger, states: &mut states, addresses: &addresses };
            events.iter().for_each(|event| gone.take(event, &mut seen));
            let addresses = addresses.all().into_iter().map(|(key, _)| key.name).collect::<BTreeSet<_>>();
            let [zones, instances] = [LedgerKind::Zone, LedgerKind::Catalog]
                .map(|kind| ledger.known_keys(kind).into_iter().map(|key| key.name).collect::<BTreeSet<_>>());
            assert_eq!((&addresses, &zones), (&instances, &instances));
            instances.into_iter().collect::<Vec<_>>()
        };
        let kinds = [Kind::Zone, Kind::Instance];
        let deleted = kinds.map(|kind| ObjectEvent::Removed(key(kind, "deleted"), Removal::Deleted));
        assert_eq!(left_by(&deleted), ["listed", "missing", "unreadable"]);
        let listed = kinds.map(|kind| {
            [
                ObjectEvent::Relisting(kind),
                ObjectEvent::Told(key(kind, "listed"), Told::default()),
                ObjectEvent::Unreadable(key(kind, "unreadable"), String::new()),
                ObjectEvent::Relisted(kind),
            ]
        });
        assert_eq!(left_by(listed.as_flattened()), ["listed", "unreadable"]);
        assert!(gone.0.is_empty());
    }
}
