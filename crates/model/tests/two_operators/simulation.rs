//! The world of the two operators, and what is checked in it after every step.

mod rest;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bindy_model::{
    Answer, Input, LedgerEntry, Object, ObjectKey, Output, Role, ServerState, Swapped, Target, Told,
};
use bindy_zone::{Catalog, Digest, Name, OwnerName, Rtype, Version};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::api::{Api, Write};
use crate::common::server::{Server, answer, servers};
use crate::common::{a, instance, zone};
use crate::counts::Counts;
use crate::operator::{Operator, slot, statuses};

const ZONES: [&str; 2] = ["zone", "second"];
const EPOCH: u32 = 100_000;

/// A write between an operator and the API server.
struct Request {
    from: (usize, u64),
    term: u64,
    write: Write,
    target: Option<Target>,
    /// It arrives not before this step.
    due: usize,
    /// Whether the term lived when it was sent.
    in_term: bool,
    /// Whether the operator still waits for the answer.
    awaited: bool,
}

/// An answer on its way back.
struct Reply {
    to: (usize, u64),
    input: Answered,
}

enum Answered {
    Swapped(Target, Swapped),
    /// A status could not be written: what it says instead.
    Found(ObjectKey, u32, Told),
}

pub struct Simulation {
    random: StdRng,
    api: Api,
    operators: [Operator; 2],
    servers: Vec<Server>,
    /// Who leads, if anybody's term is live: the election's own simulator shows that it is one at most.
    live: Option<(usize, u64)>,
    terms: u64,
    steps: usize,
    network: Vec<Request>,
    replies: Vec<Reply>,
    contents: BTreeMap<(Name, u32), Digest>,
    members: BTreeMap<Name, BTreeSet<Name>>,
    /// How often a record of each zone was edited, and what the versions have of it.
    edits: [u8; ZONES.len()],
    edited: BTreeMap<(Name, u32), u8>,
    faults: bool,
    counts: Counts,
}

fn in_zone(object: Object, n: usize) -> Object {
    let Object::Record(mut record) = object else { panic!("not a record") };
    record.zone_ref = Some(ZONES[n].to_owned());
    Object::Record(record)
}

fn apex(n: usize) -> Name {
    Name::parse(&format!("zone-{n}.example")).unwrap()
}

impl Simulation {
    pub fn new(seed: u64) -> Self {
        let mut api = Api::default();
        api.apply(instance("primary", Role::Primary, &[]));
        api.apply(instance("secondary", Role::Secondary, &[]));
        for (n, name) in ZONES.iter().enumerate() {
            api.apply(zone(name, &format!("zone-{n}.example"), 1));
            api.apply(in_zone(a(&format!("steady-{n}"), "steady", 1), n));
        }
        let mut random = StdRng::seed_from_u64(seed);
        // Their clocks differ by up to ten minutes.
        let operators = [1, 2].map(|n| Operator::start(&api, n, EPOCH + random.random_range(0..600)));
        let (members, contents) = (BTreeMap::new(), BTreeMap::new());
        Self {
            random,
            api,
            operators,
            servers: servers(),
            live: None,
            terms: 0,
            steps: 0,
            network: Vec::new(),
            replies: Vec::new(),
            contents,
            members,
            edits: [0; ZONES.len()],
            edited: BTreeMap::new(),
            faults: true,
            counts: Counts::default(),
        }
    }

    /// Rounds of faults of very different lengths, with a rest after each.
    pub fn run(mut self, rounds: usize) -> Counts {
        for _ in 0..rounds {
            self.faults = true;
            for _ in 0..1 << self.random.random_range(4..11) {
                self.once();
                self.check();
            }
            self.faults = false;
            self.deliver_all();
            // Whoever leads goes on, or somebody begins.
            let leader = self.live.map_or_else(|| self.random.random_range(0..2), |(who, _)| who);
            self.begin_term(leader);
            self.converge(leader);
        }
        let leader = self.live.map_or(0, |(who, _)| who);
        self.hand_over_without_a_write(1 - leader);
        self.counts
    }

    fn once(&mut self) {
        self.steps += 1;
        let n = self.random.random_range(0..2);
        match self.random.random_range(0..100) {
            0..8 => self.change(),
            8 if self.random.random_ratio(1, 3) => self.crash(n),
            9 => self.wipe(),
            10 => self.operators[n].stalled = self.random.random_range(1..60),
            11 => self.end_term(),
            12..17 => self.begin_term(n),
            17..50 => self.act(n),
            50..57 => self.arrive(),
            57..63 => self.reply(),
            63..67 => self.give_up(),
            67..77 => self.pass(n),
            _ => {
                let server = self.random.random_range(0..self.servers.len());
                self.transfer(server);
            }
        }
    }

    /// What a process does next, if it is awake: it learns of its term, sees an event, carries out, tells.
    fn act(&mut self, n: usize) {
        if self.operators[n].stalled > 0 {
            self.operators[n].stalled -= 1;
            return;
        }
        let granted = self.live.filter(|(who, _)| *who == n).map(|(_, term)| term);
        match self.random.random_range(0..9) {
            0..3 if self.operators[n].term != granted => self.change_part(n, granted),
            0..4 => self.see(n),
            4..7 => self.work(n),
            _ => self.tell(n),
        }
    }

    /// It begins to lead, or stops, as the election has told it.
    fn change_part(&mut self, n: usize, granted: Option<u64>) {
        let states = self.states();
        let operator = &mut self.operators[n];
        if operator.term.take().is_some() {
            operator.step(Input::Follow);
            operator.step(Input::Servers(Vec::new()));
        } else {
            operator.term = granted;
            operator.step(Input::Servers(states));
            operator.step(Input::Lead);
            self.counts.takeovers += 1;
        }
    }

    fn states(&self) -> Vec<ServerState> {
        self.servers.iter().map(|server| server.state.clone()).collect()
    }

    fn leads(&self, n: usize) -> bool {
        self.operators[n].term.is_some_and(|term| self.live == Some((n, term)))
    }

    fn see(&mut self, n: usize) {
        self.operators[n].see(&self.api);
    }

    fn work(&mut self, n: usize) {
        let Some(output) = self.operators[n].work.pop_front() else { return };
        match output {
            Output::Swap { target, expected, next } => {
                let write = Write::Swap { slot: slot(&target), expected, next };
                if !self.send(n, write, Some(target.clone())) {
                    self.operators[n].step(Input::Swapped(target, Swapped::Failed));
                }
            }
            Output::Fetch(target, name, wanted, _) => {
                let mut having = self.servers.iter().filter_map(|server| server.zones.get(&name));
                let found =
                    having.rfind(|version| wanted.is_none_or(|entry| entry == LedgerEntry::of(version)));
                let found = found.cloned().filter(|_| !self.faults || self.random.random_ratio(9, 10));
                self.operators[n].step(Input::Fetched(target, found));
            }
            Output::Probe(id, probes) => {
                for probe in probes {
                    let at = self.servers.iter().position(|server| server.state.id == id);
                    if let Some(at) = at.filter(|_| !self.faults || self.random.random_ratio(1, 2)) {
                        self.transfer(at);
                    }
                    let version = at.and_then(|at| self.servers[at].zones.get(&probe.zone));
                    let silent = self.faults && self.random.random_ratio(1, 5);
                    let answer = match version.filter(|_| !silent) {
                        Some(version) => answer(version, &probe.ask),
                        None => Answer::Failure("refused".to_owned()),
                    };
                    self.operators[n].step(Input::Probed(id.clone(), probe, answer));
                }
            }
            Output::CatchUp(number) => {
                self.counts.listings += 1;
                self.operators[n].list(&self.api, number);
            }
            Output::Publish(..) | Output::Grant(..) | Output::Retire(_) => {}
        }
    }

    /// Sends a write if the term lives at this moment; it arrives whenever it arrives.
    fn send(&mut self, n: usize, write: Write, target: Option<Target>) -> bool {
        if !self.leads(n) {
            self.counts.stopped_by_term += usize::from(target.is_some());
            return false;
        }
        let term = self.operators[n].term.unwrap_or_default();
        let in_term = self.live == Some((n, term));
        let from = (n, self.operators[n].incarnation);
        let late =
            if self.faults && self.random.random_ratio(1, 4) { self.random.random_range(0..400) } else { 0 };
        let due = self.steps + late;
        self.network.push(Request { from, term, write, target, due, in_term, awaited: true });
        true
    }

    /// What the teller does: it looks at each status first, and writes only where it is as the engine thinks.
    fn tell(&mut self, n: usize) {
        let notices = self.operators[n].notices();
        for (key, of, thought, status) in statuses(&notices) {
            let (Some(seen), Some(now)) = (self.api.told(&key), self.api.of(&key)) else { continue };
            if seen.print != thought {
                self.counts.stale_statuses += 1;
                self.found(n, &key, now.generation, seen);
            } else if !self.send(n, Write::Tell { key: key.clone(), of, seen, status }, None) {
                let now = self.operators[n].now;
                self.operators[n].core.tell_again(&key, Duration::from_secs(2), now);
            }
        }
    }

    fn found(&mut self, n: usize, key: &ObjectKey, generation: u32, told: Told) {
        let now = self.operators[n].now;
        self.operators[n].core.found_told(key, generation, told, now);
    }

    /// A request arrives, or is lost, on its way there or on its way back.
    fn arrive(&mut self) {
        let steps = self.steps;
        let due = |(at, request): (usize, &Request)| (request.due <= steps || !self.faults).then_some(at);
        let due: Vec<usize> = self.network.iter().enumerate().filter_map(due).collect();
        if due.is_empty() {
            return;
        }
        let at = due[self.random.random_range(0..due.len())];
        let request = self.network.swap_remove(at);
        if self.faults && self.random.random_ratio(1, 12) {
            return self.answer(&request, None);
        }
        let done = self.carry_out(&request);
        let lost = self.faults && self.random.random_ratio(1, 12);
        self.answer(&request, Some(done).filter(|_| !lost));
    }

    fn carry_out(&mut self, request: &Request) -> bool {
        let done = self.api.carry_out(&request.write, request.term);
        assert!(!done || request.in_term, "{:?} was sent without a term, and had an effect", request.write);
        if self.live.is_none_or(|(_, term)| term != request.term) {
            self.counts.late += 1;
            self.counts.late_in_vain += usize::from(!done);
            self.counts.late_in_effect += usize::from(done);
        }
        match request.write {
            Write::Swap { .. } => self.counts.swaps += usize::from(done),
            Write::Tell { .. } => self.counts.tells += usize::from(done),
        }
        done
    }

    /// `None`: whether it was carried out is not known.
    fn answer(&mut self, request: &Request, done: Option<bool>) {
        if !request.awaited {
            return;
        }
        let input = match (&request.write, &request.target) {
            (Write::Swap { slot, .. }, Some(target)) => Answered::Swapped(
                target.clone(),
                match done {
                    Some(true) => Swapped::Done,
                    Some(false) => Swapped::Conflict(self.api.ledger.get(slot).copied()),
                    None => Swapped::Failed,
                },
            ),
            (Write::Tell { key, .. }, _) => {
                let now = self.api.told(key).zip(self.api.of(key));
                let Some((told, of)) = now.filter(|_| done != Some(true)) else { return };
                Answered::Found(key.clone(), of.generation, told)
            }
            (Write::Swap { .. }, None) => return,
        };
        self.replies.push(Reply { to: request.from, input });
    }

    fn reply(&mut self) {
        if self.replies.is_empty() {
            return;
        }
        let at = self.random.random_range(0..self.replies.len());
        let Reply { to: (n, incarnation), input } = self.replies.swap_remove(at);
        if self.operators[n].incarnation != incarnation {
            return;
        }
        match input {
            Answered::Swapped(target, result) => self.operators[n].step(Input::Swapped(target, result)),
            Answered::Found(key, generation, told) => self.found(n, &key, generation, told),
        }
    }

    /// An operator waits no longer for an answer; its request may still arrive.
    fn give_up(&mut self) {
        if self.network.is_empty() {
            return;
        }
        let at = self.random.random_range(0..self.network.len());
        let Some(request) = self.network.get_mut(at).filter(|request| request.awaited) else { return };
        request.awaited = false;
        let ((n, incarnation), target) = (request.from, request.target.clone());
        if self.operators[n].incarnation != incarnation {
            return;
        }
        match (target, &request.write) {
            (Some(target), _) => self.operators[n].step(Input::Swapped(target, Swapped::Failed)),
            (None, Write::Tell { key, .. }) => {
                let (key, now) = (key.clone(), self.operators[n].now);
                self.operators[n].core.tell_again(&key, Duration::from_secs(2), now);
            }
            (None, Write::Swap { .. }) => {}
        }
    }

    fn pass(&mut self, n: usize) {
        self.operators[n].pass(Duration::from_millis(50));
        let back = self.faults && self.random.random_ratio(1, 100);
        let clock = &mut self.operators[n].now.unix;
        *clock += u32::from(self.random.random_ratio(1, 50));
        *clock = clock.saturating_sub(if back { self.random.random_range(0..600) } else { 0 });
    }

    fn end_term(&mut self) {
        self.live = None;
    }

    fn begin_term(&mut self, n: usize) {
        if self.live.is_none() {
            self.terms += 1;
            self.live = Some((n, self.terms));
        }
    }

    fn crash(&mut self, n: usize) {
        let incarnation = self.operators[n].incarnation + 2;
        let unix = self.operators[n].now.unix;
        // Nobody leads before its lease has run out; sometimes it is the one that comes back.
        if self.live.is_some_and(|(who, _)| who == n) {
            self.live = None;
        }
        self.operators[n] = Operator::start(&self.api, incarnation, unix);
        self.counts.crashes += 1;
    }

    fn wipe(&mut self) {
        let at = self.random.random_range(0..self.servers.len());
        self.servers[at].zones.clear();
        self.servers[at].state.incarnation += 1;
        let states = self.states();
        for operator in self.operators.iter_mut().filter(|operator| operator.term.is_some()) {
            operator.step(Input::Servers(states.clone()));
        }
    }

    fn change(&mut self) {
        let n = self.random.random_range(0..ZONES.len());
        if self.random.random_ratio(1, 4) && self.edits[n] < u8::MAX {
            self.edits[n] += 1;
            return self.api.apply(in_zone(a(&format!("edited-{n}"), "edited", self.edits[n]), n));
        }
        let record = self.random.random_range(0..6);
        // Few values, so that contents come back.
        let last = self.random.random_range(1..4);
        let object = in_zone(a(&format!("record-{n}-{record}"), &format!("name-{}", record % 3), last), n);
        if self.random.random_ratio(1, 3) {
            self.api.remove(&object.key());
        } else {
            self.api.apply(object);
        }
    }

    /// A server has what one of the operators serves.
    fn transfer(&mut self, server: usize) {
        let published = &self.operators[self.random.random_range(0..2)].published;
        self.servers[server].transfer(published);
    }

    fn check(&mut self) {
        let new: Vec<_> =
            self.operators.iter_mut().flat_map(|operator| std::mem::take(&mut operator.new)).collect();
        for (target, name, version) in new {
            let digest = version.content.digest();
            let serial = version.serial.get();
            let known = self.contents.insert((name.clone(), serial), digest);
            assert!(
                known.is_none_or(|known| known == digest),
                "serial {serial} of {name} names two contents"
            );
            let named = self.api.named.get(&(slot(&target), serial));
            assert!(named == Some(&digest), "{name} {serial} is served, and the ledger never named it");
            match target {
                Target::Zone(..) => {
                    let steady = OwnerName::parse("steady", &name).unwrap();
                    assert!(version.content.get(&steady).is_some(), "a wanted record vanished from {name}");
                    self.check_edit(&name, &version);
                }
                Target::Catalog(_) => self.check_members(&name, &version),
                Target::Orphan(_) => {}
            }
        }
    }

    /// Later versions have later edits: none is taken back.
    fn check_edit(&mut self, name: &Name, version: &Version) {
        let edited = version.content.get(&OwnerName::parse("edited", name).unwrap());
        let rrset = edited.and_then(|rrsets| rrsets.get(Rtype::A));
        let last = rrset.and_then(|set| set.rdatas().next()?.last().copied()).unwrap_or_default();
        let serial = version.serial.get();
        self.edited.insert((name.clone(), serial), last);
        let earlier = self.edited.range((name.clone(), 0)..(name.clone(), serial)).next_back();
        let later = self.edited.range((name.clone(), serial + 1)..=(name.clone(), u32::MAX)).next();
        let ordered = earlier.is_none_or(|(_, before)| *before <= last)
            && later.is_none_or(|(_, after)| last <= *after);
        assert!(ordered, "{name} {serial} has edit {last}, between {earlier:?} and {later:?}");
    }

    /// The newest version of a catalog has every zone that an earlier one had: all are wanted all the time.
    fn check_members(&mut self, name: &Name, version: &Version) {
        let members: BTreeSet<Name> = Catalog::members(&version.content).collect();
        let newest = self.contents.range((name.clone(), 0)..=(name.clone(), u32::MAX)).next_back();
        if newest.is_some_and(|((_, serial), _)| *serial == version.serial.get()) {
            let before = self.members.insert(name.clone(), members.clone()).unwrap_or_default();
            let lost: Vec<&Name> = before.difference(&members).collect();
            assert!(lost.is_empty(), "{name} loses {lost:?}, which are wanted all the time");
        }
    }

    fn deliver_all(&mut self) {
        while !self.network.is_empty() {
            self.arrive();
            self.check();
        }
    }
}
