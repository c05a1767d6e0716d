//! The engine as one state machine: everything that happens comes in, everything that has to be done goes out.
//!
//! ```text
//!   objects ───────► World ──compile──► zone publications ──┬─► Swap, Fetch, Publish
//!   swap results ─────────────────────► catalog publications┘        │
//!   server states ──► servers ◄──────────────────────────────────────┘
//!   probe answers ──►    └─► Probe (NOTIFY, SOA, changed RRsets), tier by tier
//! ```
//! A zone enters the catalogs of the instances that carry it after its first version is published, and its versions
//! stay published until no served catalog names it any more. Nothing here waits or does IO, so a simulation can put
//! any event, and a crash, between any two steps.

mod catalogs;
mod catching_up;
mod current;
mod latch;
mod lead;
mod outbox;
mod proof;
mod report;
mod servers;
mod waiting;
mod zones;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bindy_zone::{Name, Serial, Version};

pub use outbox::{InstanceNotice, Notices, RecordNotice, UnreadableNotice, ZoneNotice};
pub use report::{InstanceReport, ServerReport, ZoneReport};
pub use servers::{ServerId, ServerState};

use crate::delivery::{Answer, Probe};
use crate::object::{Kind, NamespacedName, Object, ObjectKey};
use crate::publication::{Command, LedgerEntry, Now, Publication, Swapped};
use crate::told::Told;
use crate::world::{Removal, World};
use catalogs::CatalogState;
use catching_up::CatchingUp;
use current::Current;
use outbox::{Outbox, SERVER_PATIENCE};
use servers::Server;
use zones::{Orphan, ZonePublication};

/// What a version belongs to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// A DNSZone, under the name that it had then.
    Zone(NamespacedName, Name),
    /// The catalog of a Bind9Instance.
    Catalog(NamespacedName),
    /// A zone that a catalog still names although no object does.
    Orphan(Name),
}

/// What happened to an object.
#[derive(Clone, Debug)]
pub enum ObjectEvent {
    /// It is like this now.
    Applied(Object),
    /// It does not exist any more.
    Removed(ObjectKey, Removal),
    /// It exists but cannot be decoded.
    Unreadable(ObjectKey, String),
    /// Its status says this; comes after the event that it exists.
    Told(ObjectKey, Told),
    /// All objects of a kind are listed again, since changes may have been missed.
    Relisting(Kind),
    /// They have been: what was not among them does not exist any more.
    Relisted(Kind),
    /// Whether objects may exist that were never seen, because what may hold them cannot be read.
    Obscured(bool),
    /// All kinds have been listed.
    Listed,
}

/// Everything that can happen.
#[derive(Clone, Debug)]
pub enum Input {
    /// Objects changed.
    Objects(Vec<ObjectEvent>),
    /// The servers are these.
    Servers(Vec<ServerState>),
    /// An instance answers at these addresses, from its first Ready on.
    Addresses(NamespacedName, Vec<std::net::IpAddr>),
    /// The answer to [`Output::Swap`].
    Swapped(Target, Swapped),
    /// The answer to [`Output::Fetch`].
    Fetched(Target, Option<Version>),
    /// The answer to a probe of [`Output::Probe`].
    Probed(ServerId, Probe, Answer),
    /// The answer to [`Output::CatchUp`], after the objects.
    CaughtUp(u64),
    /// What a zone or catalog is published with was seen to be written, by this process or another.
    Entry((NamespacedName, LedgerKind), Option<LedgerEntry>),
    /// This writes from now on.
    Lead,
    /// Somebody else writes from now on, and tells objects.
    Follow,
    /// Time passed.
    Tick,
}

/// What a version is fetched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To send differences from it, and to see how much a new version removes.
    Comparison,
    /// Some of it may be known from nowhere else, or is to stay as it is: it is lost when none is found.
    Content,
}

/// Something to be done. Fetch, Swap, CatchUp and Probe are answered by an input.
#[derive(Clone, Debug)]
pub enum Output {
    /// Get from any of our servers the version that the entry names; the latest one when there is no entry.
    Fetch(Target, Name, Option<LedgerEntry>, Purpose),
    /// Write (serial, digest) to the ledger if it has the expected serial.
    Swap {
        /// Zone or catalog.
        target: Target,
        /// Serial that the ledger has to have now.
        expected: Option<Serial>,
        /// What it has to say then.
        next: LedgerEntry,
    },
    /// List all objects anew, and say everything of them. The number comes back in the answer.
    CatchUp(u64),
    /// Serve this version.
    Publish(Target, Name, Version),
    /// Let exactly these instances have it; they are asked to come back as long as it has no version here.
    Grant(Target, Name, BTreeSet<NamespacedName>),
    /// Serve it no more.
    Retire(Target),
    /// NOTIFY a server and ask it for SOAs and records.
    Probe(ServerId, Vec<Probe>),
}

/// The state of everything.
pub struct Core {
    world: World,
    zones: BTreeMap<(NamespacedName, Name), ZonePublication>,
    /// The publication that each DNSZone has now: exactly those that are not retired.
    current: Current,
    /// Publications that no object wants any more, but a served catalog may still name: one that was seen to.
    retiring: BTreeMap<(Name, NamespacedName), Option<NamespacedName>>,
    /// Zones that lack a file and of which nobody has a version.
    withheld: BTreeSet<NamespacedName>,
    orphans: BTreeMap<Name, Orphan>,
    /// The last serial that each zone name was published with for each instance, by whichever object.
    serials: BTreeMap<Name, BTreeMap<NamespacedName, Serial>>,
    catalogs: BTreeMap<NamespacedName, CatalogState>,
    servers: BTreeMap<ServerId, Server>,
    ledger: BTreeMap<(NamespacedName, LedgerKind), LedgerEntry>,
    /// Whose entry another process has written, before the object as it is with that was told.
    ahead: BTreeSet<(NamespacedName, LedgerKind)>,
    /// What objects have to be told, where somebody tells them.
    outbox: Option<Outbox>,
    /// Whether objects are told anything when this leads.
    tells: bool,
    /// Zones whose status said before a restart, or under another leader, that they are served as they are.
    ready_before: BTreeSet<NamespacedName>,
    /// Zones in which something waits for proof.
    proving: BTreeSet<(NamespacedName, Name)>,
    catching_up: CatchingUp,
}

/// Whose ledger entry it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LedgerKind {
    /// Of a DNSZone.
    Zone,
    /// Of a Bind9Instance's catalog.
    Catalog,
}

impl Core {
    /// A state in which nothing has happened. `ledger` is what has been published before.
    pub fn new(ledger: impl IntoIterator<Item = ((NamespacedName, LedgerKind), LedgerEntry)>) -> Self {
        Self {
            world: World::new(),
            zones: BTreeMap::new(),
            current: Current::default(),
            retiring: BTreeMap::new(),
            withheld: BTreeSet::new(),
            orphans: BTreeMap::new(),
            serials: BTreeMap::new(),
            catalogs: BTreeMap::new(),
            servers: BTreeMap::new(),
            ledger: ledger.into_iter().collect(),
            ahead: BTreeSet::new(),
            outbox: None,
            tells: false,
            ready_before: BTreeSet::new(),
            proving: BTreeSet::new(),
            catching_up: CatchingUp::default(),
        }
    }

    /// What is known of the objects.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// Takes in what happened and says what has to be done.
    pub fn step(&mut self, input: Input, now: Now) -> Vec<Output> {
        let (mut outputs, mut caught_up) = (Vec::new(), Vec::new());
        match input {
            Input::Objects(events) => self.take_objects(events, now),
            Input::Servers(states) => self.take_servers(states, now),
            Input::Addresses(instance, addresses) => self.world.set_addresses(&instance, addresses),
            Input::Swapped(target, result) => self.take_swapped(&target, result, now, &mut outputs),
            Input::Fetched(target, version) => self.take_fetched(&target, version, now, &mut outputs),
            Input::Probed(server, probe, answer) => {
                self.take_answer(&server, &probe, answer, now, &mut outputs);
            }
            Input::CaughtUp(number) => caught_up = self.catching_up.end(number),
            Input::Entry(key, entry) => self.take_entry(key, entry, now, &mut outputs),
            Input::Lead => self.lead(now, &mut outputs),
            Input::Follow => self.follow(),
            Input::Tick => {}
        }
        self.settle(now, &mut outputs);
        for target in caught_up {
            if let Target::Catalog(key) = &target {
                let commands = self.want_catalog_now(key, now);
                self.carry_out(&target, commands, now, &mut outputs);
            }
            self.with_publication(&target, |one| one.caught_up(now), now, &mut outputs);
        }
        outputs.extend(self.catching_up.begin().map(Output::CatchUp));
        outputs
    }

    /// When [`Input::Tick`] is needed next, on the monotonic clock.
    pub fn next_tick(&self) -> Option<Duration> {
        let servers = self.servers.values().filter_map(Server::next_due);
        let catalogs = self.catalogs.values().filter_map(CatalogState::next_due);
        servers.chain(catalogs).min()
    }

    fn take_objects(&mut self, events: Vec<ObjectEvent>, now: Now) {
        for event in events {
            match event {
                ObjectEvent::Applied(object) => {
                    let entry = self.entry_ahead_of(&object);
                    if self.world.replaces(&object) {
                        self.replace_entry(&object.key(), entry);
                    }
                    self.world.apply(object);
                }
                ObjectEvent::Removed(key, how) => {
                    self.replace_entry(&key, None);
                    self.world.remove(&key, how);
                }
                ObjectEvent::Unreadable(key, message) => {
                    self.world.unreadable(key.clone(), message);
                    self.mark_object(&key, now.monotonic);
                }
                ObjectEvent::Told(key, told) => self.take_told(&key, told, now),
                ObjectEvent::Relisting(kind) => self.world.relisting(kind),
                ObjectEvent::Relisted(kind) => {
                    for key in self.world.relisted(kind) {
                        self.replace_entry(&key, None);
                    }
                }
                ObjectEvent::Obscured(obscured) => self.world.set_obscured(obscured),
                ObjectEvent::Listed => self.world.listed(),
            }
        }
    }

    /// The entry that was told for this state of an object, if one was.
    fn entry_ahead_of(&mut self, object: &Object) -> Option<LedgerEntry> {
        let place = match object {
            Object::Zone(zone) => (zone.metadata.key.clone(), LedgerKind::Zone),
            Object::Instance(instance) => (instance.metadata.key.clone(), LedgerKind::Catalog),
            Object::Record(_) | Object::ConfigMap(_) => return None,
        };
        if self.ahead.remove(&place) { self.ledger.get(&place).copied() } else { None }
    }

    /// The entry that an object had in the ledger is gone with it; `entry` is that of the object in its place.
    fn replace_entry(&mut self, object: &ObjectKey, entry: Option<LedgerEntry>) {
        let key = &object.key;
        let kind = match object.kind {
            Kind::Zone => LedgerKind::Zone,
            Kind::Instance => LedgerKind::Catalog,
            Kind::Record(_) | Kind::ConfigMap => return,
        };
        if entry.is_none() {
            self.ledger.remove(&(key.clone(), kind));
            self.ahead.remove(&(key.clone(), kind));
        }
        match kind {
            LedgerKind::Zone => {
                let own = self.zones.range_mut((key.clone(), Name::root())..);
                let own = own.take_while(|((of, _), _)| of == key);
                own.for_each(|(_, zone)| zone.publication.replaced(entry));
            }
            LedgerKind::Catalog => {
                if let Some(catalog) = self.catalogs.get_mut(key) {
                    catalog.publication.replaced(entry);
                }
            }
        }
    }

    fn take_swapped(&mut self, target: &Target, result: Swapped, now: Now, outputs: &mut Vec<Output>) {
        if self.is_written_for_nobody(target, result) {
            // Whoever wants it again finds out whether it was written.
            self.publication(target).into_iter().for_each(Publication::give_up);
            return;
        }
        self.with_publication(target, |one| one.swapped(result, now), now, outputs);
    }

    fn publication(&mut self, target: &Target) -> Option<&mut Publication> {
        match target {
            Target::Zone(key, apex) => {
                self.zones.get_mut(&(key.clone(), apex.clone())).map(|zone| &mut zone.publication)
            }
            Target::Catalog(key) => self.catalogs.get_mut(key).map(|catalog| &mut catalog.publication),
            Target::Orphan(_) => None,
        }
    }

    /// Tells a publication something, if there is one, and does what it says.
    fn with_publication(
        &mut self,
        target: &Target,
        tell: impl FnOnce(&mut Publication) -> Vec<Command>,
        now: Now,
        outputs: &mut Vec<Output>,
    ) {
        let commands = self.publication(target).map(tell).unwrap_or_default();
        self.carry_out(target, commands, now, outputs);
    }

    fn take_fetched(
        &mut self,
        target: &Target,
        version: Option<Version>,
        now: Now,
        outputs: &mut Vec<Output>,
    ) {
        let commands = match target {
            Target::Zone(key, apex) => self.take_fetched_zone(key, apex, version, now),
            Target::Catalog(key) => self.take_fetched_catalog(key, version, now),
            Target::Orphan(apex) => {
                self.take_orphan(apex, version, outputs);
                None
            }
        };
        self.carry_out(target, commands.unwrap_or_default(), now, outputs);
    }

    /// Whatever follows from the world and the publications as they are now.
    fn settle(&mut self, now: Now, outputs: &mut Vec<Output>) {
        if !self.world.is_listed() {
            return;
        }
        let fleets = self.world.take_changed_fleets();
        if !fleets.is_empty() {
            self.change_fleets(&fleets, now, outputs);
        }
        for instance in self.world.take_adjusted() {
            self.adjust(&instance, now);
        }
        for key in self.world.take_dirty() {
            self.settle_zone(&key, now, outputs);
            self.mark_zone_soon(&key, now);
        }
        if !fleets.is_empty() {
            // What catalogs name may come from outside now.
            self.retire_unnamed(None, outputs);
        }
        self.gather_restless(now);
        self.settle_catalogs(now, outputs);
        self.tell_servers(now, outputs);
    }
}
