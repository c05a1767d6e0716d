//! The engine's steps against a simulated world: random changes of objects, lost and repeated answers, servers that
//! lose their disk, and crashes between any two steps. After every step:
//!
//! 1. a serial names one content;
//! 2. serials of the ledger and of every server only rise (a wiped server starts anew);
//! 5. a record that is wanted all the time is in every version that is published, and its zone in every catalog.
//!
//! When the faults stop, every server has what a fresh compilation gives. Each run prints its seed when it fails;
//! BINDY_SEED runs that one alone.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    unreachable_pub,
    dead_code,
    reason = "a test fails by panicking, and shares the objects of its neighbours"
)]

mod common;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bindy_model::{
    Answer, Core, Input, LedgerEntry, LedgerKind, NamespacedName, Now, Object, ObjectEvent, ObjectKey,
    Output, Removal, Role, ServerId, Swapped, Target, World,
};
use bindy_zone::{Catalog, Digest, Name, OwnerName, Version};
use common::server::{Server, answer, servers};
use common::{a, instance, key, zone};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const ZONES: [&str; 3] = ["zone", "second", "third"];

struct Simulation {
    random: StdRng,
    core: Core,
    now: Now,
    ledger: BTreeMap<(NamespacedName, LedgerKind), LedgerEntry>,
    objects: BTreeMap<ObjectKey, Object>,
    servers: Vec<Server>,
    /// What the engine serves now, by name; gone after a crash.
    published: BTreeMap<Name, Version>,
    /// Outputs whose answer is on its way.
    under_way: VecDeque<Output>,
    contents: BTreeMap<(Name, u32), Digest>,
    /// Members of each catalog as they were last published, before crashes too.
    members: BTreeMap<Name, BTreeSet<Name>>,
    faults: bool,
}

fn zone_object(n: usize) -> Object {
    zone(ZONES[n], &format!("zone-{n}.example"), 1)
}

fn in_zone(object: Object, n: usize) -> Object {
    let Object::Record(mut record) = object else { panic!("not a record") };
    record.zone_ref = Some(ZONES[n].to_owned());
    Object::Record(record)
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut objects: Vec<Object> =
            vec![instance("primary", Role::Primary, &[]), instance("secondary", Role::Secondary, &[])];
        for n in 0..ZONES.len() {
            objects.push(zone_object(n));
            objects.push(in_zone(a(&format!("steady-{n}"), "steady", 1), n));
        }
        let mut simulation = Self {
            random: StdRng::seed_from_u64(seed),
            core: Core::new([]),
            now: Now { monotonic: Duration::ZERO, unix: 1_000 },
            ledger: BTreeMap::new(),
            objects: objects.into_iter().map(|object| (object.key(), object)).collect(),
            servers: servers(),
            published: BTreeMap::new(),
            under_way: VecDeque::new(),
            contents: BTreeMap::new(),
            members: BTreeMap::new(),
            faults: true,
        };
        simulation.start();
        simulation
    }

    fn start(&mut self) {
        self.tell_servers();
        let mut events: Vec<ObjectEvent> = self.objects.values().cloned().map(ObjectEvent::Applied).collect();
        events.push(ObjectEvent::Listed);
        self.step(Input::Objects(events));
    }

    fn tell_servers(&mut self) {
        self.step(Input::Servers(self.servers.iter().map(|server| server.state.clone()).collect()));
    }

    fn crash(&mut self) {
        self.under_way.clear();
        self.published.clear();
        self.core = Core::new(self.ledger.clone());
        self.start();
    }

    fn step(&mut self, input: Input) {
        for output in self.core.step(input, self.now) {
            match output {
                Output::Publish(target, name, version) => self.publish(&target, &name, &version),
                Output::Grant(..) | Output::Retire(_) => {}
                output => self.under_way.push_back(output),
            }
        }
    }

    fn publish(&mut self, target: &Target, name: &Name, version: &Version) {
        let digest = version.content.digest();
        let named = self.contents.insert((name.clone(), version.serial.get()), digest);
        assert!(
            named.is_none_or(|named| named == digest),
            "serial {} of {name} names two contents",
            version.serial
        );
        if let Target::Zone(key, _) = target {
            let entry = self.ledger.get(&(key.clone(), LedgerKind::Zone));
            assert_eq!(entry, Some(&LedgerEntry::of(version)), "{name} is served before the ledger names it");
            let steady = OwnerName::parse("steady", name).unwrap();
            assert!(version.content.get(&steady).is_some(), "a wanted record vanished from {name}");
        }
        if matches!(target, Target::Catalog(_)) {
            let members: BTreeSet<Name> = Catalog::members(&version.content).collect();
            let before = self.members.insert(name.clone(), members.clone()).unwrap_or_default();
            let lost: Vec<&Name> = before.difference(&members).collect();
            assert!(lost.is_empty(), "{name} loses {lost:?}, which are wanted all the time");
        }
        if let Some(before) = self.published.insert(name.clone(), version.clone()) {
            assert!(!before.serial.is_after(version.serial), "{name} went back");
        }
    }

    /// Lets one output have its effect, and its answer arrive or be lost.
    fn act(&mut self) {
        let Some(output) = self.under_way.pop_front() else { return };
        match output {
            Output::Swap { target, expected, next } => {
                let slot = match &target {
                    Target::Zone(key, _) => (key.clone(), LedgerKind::Zone),
                    Target::Catalog(key) => (key.clone(), LedgerKind::Catalog),
                    Target::Orphan(_) => panic!("an orphan has no ledger entry"),
                };
                if self.faults && self.random.random_ratio(1, 10) {
                    // The request is lost.
                    return self.step(Input::Swapped(target, Swapped::Failed));
                }
                if self.faults && self.random.random_ratio(1, 20) {
                    self.write_of_another(&slot);
                }
                let current = self.ledger.get(&slot).copied();
                let result = if current.map(|entry| entry.serial) == expected {
                    assert!(
                        current.is_none_or(|entry| next.serial.is_after(entry.serial)),
                        "{target:?} went back"
                    );
                    self.ledger.insert(slot, next);
                    Swapped::Done
                } else {
                    Swapped::Conflict(current)
                };
                if self.faults && self.random.random_ratio(1, 10) {
                    return self.crash();
                }
                let result =
                    if self.faults && self.random.random_ratio(1, 10) { Swapped::Failed } else { result };
                self.step(Input::Swapped(target, result));
            }
            Output::Fetch(target, name, wanted, _) => {
                let mut having = self.servers.iter().filter_map(|server| server.zones.get(&name));
                let found =
                    having.rfind(|version| wanted.is_none_or(|entry| entry == LedgerEntry::of(version)));
                let found = found.cloned().filter(|_| !self.faults || self.random.random_ratio(9, 10));
                self.step(Input::Fetched(target, found));
            }
            Output::Probe(id, probes) => {
                for probe in probes {
                    if !(self.faults && self.random.random_ratio(1, 4)) {
                        self.transfer(&id);
                    }
                    let server = self.servers.iter().find(|server| server.state.id == id);
                    let version = server.and_then(|server| server.zones.get(&probe.zone));
                    let silent = self.faults && self.random.random_ratio(1, 5);
                    let answer = match version.filter(|_| !silent) {
                        Some(version) => answer(version, &probe.ask),
                        None => Answer::Failure("refused".to_owned()),
                    };
                    self.step(Input::Probed(id.clone(), probe, answer));
                }
            }
            Output::CatchUp(number) => self.step(Input::CaughtUp(number)),
            Output::Publish(..) | Output::Grant(..) | Output::Retire(_) => {}
        }
    }

    /// Somebody else publishes, and nobody of ours ever gets that version.
    fn write_of_another(&mut self, slot: &(NamespacedName, LedgerKind)) {
        let Some(entry) = self.ledger.get_mut(slot) else { return };
        let digest: u64 = self.random.random();
        entry.serial = entry.serial.next();
        entry.digest = format!("sha256sum:{digest:064x}").parse().unwrap();
        let name = match slot {
            (key, LedgerKind::Catalog) => Catalog::name(&key.namespace, &key.name).unwrap(),
            (key, LedgerKind::Zone) => {
                let n = ZONES.iter().position(|zone| *zone == key.name).unwrap();
                Name::parse(&format!("zone-{n}.example")).unwrap()
            }
        };
        self.contents.insert((name, entry.serial.get()), entry.digest);
    }

    fn transfer(&mut self, id: &ServerId) {
        if let Some(server) = self.servers.iter_mut().find(|server| server.state.id == *id) {
            server.transfer(&self.published);
        }
    }

    fn fault(&mut self) {
        match self.random.random_range(0..12) {
            0 => self.crash(),
            1 => {
                let n = self.random.random_range(0..self.servers.len());
                self.servers[n].zones.clear();
                self.servers[n].state.incarnation += 1;
                self.tell_servers();
            }
            2 => {
                // An object changes while the engine is down: it sees only the list afterwards.
                let n = self.random.random_range(0..ZONES.len());
                let object = in_zone(a("gap", "gap", self.random.random_range(1..200)), n);
                self.objects.insert(object.key(), object);
                self.crash();
            }
            3 => self.now.unix = self.now.unix.saturating_sub(self.random.random_range(0..600)),
            _ => self.change(),
        }
    }

    fn change(&mut self) {
        let n = self.random.random_range(0..ZONES.len());
        let record = self.random.random_range(0..6);
        let object = in_zone(a(&format!("record-{n}-{record}"), &format!("name-{}", record % 3), record), n);
        let event = if self.random.random_ratio(1, 3) {
            self.objects.remove(&object.key());
            ObjectEvent::Removed(object.key(), Removal::Deleted)
        } else {
            let last = self.random.random_range(1..250);
            let object =
                in_zone(a(&format!("record-{n}-{record}"), &format!("name-{}", record % 3), last), n);
            self.objects.insert(object.key(), object.clone());
            ObjectEvent::Applied(object)
        };
        self.step(Input::Objects(vec![event]));
    }

    fn pass_time(&mut self) {
        self.now.monotonic += Duration::from_millis(5);
        self.now.unix += u32::from(self.random.random_ratio(1, 50));
        self.step(Input::Tick);
    }

    fn run(&mut self, steps: usize) {
        for _ in 0..steps {
            match self.random.random_range(0..10) {
                0 | 1 => self.fault(),
                2 => self.pass_time(),
                _ => self.act(),
            }
        }
        self.faults = false;
        self.crash();
        for _ in 0..20_000 {
            self.act();
            if self.under_way.is_empty() {
                self.pass_time();
            }
            if self.is_converged() {
                return;
            }
        }
        panic!("not converged after all faults ended");
    }

    fn is_converged(&mut self) -> bool {
        let mut whole = World::new();
        for object in self.objects.values().cloned() {
            whole.apply(object);
        }
        whole.listed();
        (0..ZONES.len()).all(|n| {
            let apex = Name::parse(&format!("zone-{n}.example")).unwrap();
            let wanted = whole.compile(&key(ZONES[n])).unwrap().content.digest();
            self.servers
                .iter()
                .all(|server| server.zones.get(&apex).is_some_and(|v| v.content.digest() == wanted))
                && self.core.zone_report(&key(ZONES[n])).is_some_and(|report| report.in_sync == 3)
        })
    }
}

#[test]
fn invariants_hold_through_crashes_and_lost_answers() {
    let seeds: Vec<u64> = match std::env::var("BINDY_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (0..300).collect(),
    };
    for seed in seeds {
        let run = std::panic::catch_unwind(|| Simulation::new(seed).run(400));
        if let Err(panic) = run {
            eprintln!("failed with BINDY_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}
