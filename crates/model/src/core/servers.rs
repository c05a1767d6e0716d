//! The servers: what each still has to get, tier by tier.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use bindy_zone::{Name, Serial};

use super::waiting::Waiting;
use super::{Core, Output, Target};
use crate::delivery::{Answer, Ask, Delivery, Probe, Progress, Rank};
use crate::object::NamespacedName;
use crate::publication::Now;

/// One server of an instance.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerId {
    /// Its instance.
    pub instance: NamespacedName,
    /// Its name within the instance: the pod's, or the number of the process.
    pub name: String,
}

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.instance, self.name)
    }
}

/// What is known of a server from outside of DNS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerState {
    /// Which server.
    pub id: ServerId,
    /// Which incarnation of it: a new one has nothing yet, whatever the one before had.
    pub incarnation: u64,
    /// Whether it takes part in its Service.
    pub ready: bool,
    /// Whether it has been told to end: it is told of changes as long as it answers, and nobody misses it when it does not.
    pub going: bool,
}

/// What statuses say of a server that its answers do not decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    ready: bool,
    going: bool,
}

pub(crate) struct Server {
    pub(crate) state: ServerState,
    pub(crate) delivery: Delivery,
    /// Versions that an upstream should have first.
    pub(super) waiting: Waiting,
    /// Zones that it should have from outside of Bindy.
    outside: BTreeSet<Name>,
    /// Zones that it had at least once in this incarnation.
    had: BTreeSet<Name>,
}

impl Server {
    pub(super) fn next_due(&self) -> Option<Duration> {
        self.waiting.next_due().into_iter().chain(self.delivery.next_due()).min()
    }

    /// Number of zones that it was not seen to have in their latest version.
    pub(super) fn missing(&self) -> usize {
        let pending = self.delivery.pending().filter(|(zone, _)| !self.waiting.contains(zone));
        self.waiting.len() + pending.count()
    }

    /// Exactly these zones should come from outside of Bindy. Which serial of them is current is not known here.
    fn expect_from_outside(&mut self, zones: BTreeSet<&Name>, now: Now) {
        let gone: Vec<Name> = self.outside.iter().filter(|zone| !zones.contains(zone)).cloned().collect();
        for zone in gone {
            self.outside.remove(&zone);
            self.forget(&zone);
        }
        for zone in zones {
            if self.outside.insert(zone.clone()) {
                self.forget(zone);
                self.waiting.insert(zone, Serial::new(0), now.monotonic);
            }
        }
    }

    /// It need not have this zone.
    fn forget(&mut self, zone: &Name) {
        self.delivery.forget(zone);
        self.waiting.remove(zone);
        self.had.remove(zone);
    }

    /// What another version of a zone is to it.
    fn rank(&self, zone: &Name) -> Rank {
        match (self.outside.contains(zone), self.had.contains(zone)) {
            (true, _) => Rank::Outside,
            (false, true) => Rank::Edit,
            (false, false) => Rank::New,
        }
    }

    /// Whether it should have a version of `zone` and was not asked for it yet, and nothing is known to keep it from answering.
    pub(crate) fn is_unheard(&self, zone: &Name) -> bool {
        self.delivery.failure(zone).is_none()
            && (self.waiting.contains(zone) || self.delivery.is_unheard(zone))
    }

    /// Whether it was seen to have the latest version of `zone`.
    pub(crate) fn has(&self, zone: &Name) -> bool {
        self.had.contains(zone) && self.delivery.has(zone) && !self.waiting.contains(zone)
    }

    /// Whether it was seen to have the latest serial of `zone`: those below it can get the version from it.
    fn has_serial(&self, zone: &Name) -> bool {
        self.had.contains(zone) && self.delivery.has_serial(zone) && !self.waiting.contains(zone)
    }
}

impl Core {
    /// The servers of one instance.
    pub(super) fn servers_of(&self, instance: &NamespacedName) -> impl Iterator<Item = &Server> {
        let first = ServerId { instance: instance.clone(), name: String::new() };
        let all = self.servers.range(first..);
        all.take_while(|(id, _)| id.instance == *instance).map(|(_, server)| server)
    }

    pub(super) fn take_servers(&mut self, states: Vec<ServerState>, now: Now) {
        let before = self.parts();
        let present: BTreeSet<ServerId> = states.iter().map(|state| state.id.clone()).collect();
        self.servers.retain(|id, _| present.contains(id));
        for state in states {
            match self.servers.get_mut(&state.id) {
                Some(server) if server.state.incarnation == state.incarnation => {
                    if state.ready && !server.state.ready {
                        server.delivery.hurry(now.monotonic);
                    }
                    server.state = state;
                }
                _ => self.add_server(state, now),
            }
        }
        let after = self.parts();
        if before != after {
            self.ask_again_for_withheld();
            self.mark_served_by(&before, &after, now);
        }
    }

    fn parts(&self) -> BTreeMap<ServerId, Part> {
        let part = |state: &ServerState| Part { ready: state.ready, going: state.going };
        self.servers.iter().map(|(id, server)| (id.clone(), part(&server.state))).collect()
    }

    /// Zones and instances whose servers changed may be told so, and records may be proven by those that are left.
    fn mark_served_by(
        &mut self,
        before: &BTreeMap<ServerId, Part>,
        after: &BTreeMap<ServerId, Part>,
        now: Now,
    ) {
        let changed = before.iter().chain(after).filter(|(id, _)| before.get(*id) != after.get(*id));
        let instances: BTreeSet<NamespacedName> = changed.map(|(id, _)| id.instance.clone()).collect();
        let zones: Vec<NamespacedName> = self
            .zones
            .iter()
            .filter(|(_, zone)| !zone.carriers.is_disjoint(&instances))
            .map(|((key, _), _)| key.clone())
            .collect();
        for key in zones {
            self.mark_zone(&key, now.monotonic + super::SERVER_PATIENCE);
        }
        for key in instances {
            self.mark_instance(&key, now.monotonic);
        }
        self.prove_all(now);
    }

    /// All instances may be told something else.
    pub(super) fn mark_instances(&mut self, now: Now) {
        let keys: Vec<NamespacedName> =
            self.world.fleet().iter().map(|instance| instance.metadata.key.clone()).collect();
        for key in keys {
            self.mark_instance(&key, now.monotonic);
        }
    }

    /// A new server should get everything that its instance carries.
    fn add_server(&mut self, state: ServerState, now: Now) {
        let instance = state.id.instance.clone();
        let mut wanted: Vec<(Name, Serial)> = self
            .zones
            .iter()
            .filter(|(_, zone)| !zone.retired && zone.carriers.contains(&instance))
            .filter_map(|((_, apex), zone)| Some((apex.clone(), zone.publication.served()?.serial)))
            .collect();
        let held = self.world.fleet().catalog_holders(&instance);
        let catalogs = self.catalogs.iter().filter(|(key, _)| held.contains(key));
        wanted.extend(catalogs.filter_map(|(_, c)| Some((c.name.clone(), c.publication.served()?.serial))));
        let mut waiting = Waiting::default();
        for (zone, serial) in wanted {
            waiting.insert(&zone, serial, now.monotonic);
        }
        let (had, outside) = (BTreeSet::new(), BTreeSet::new());
        let mut server = Server { delivery: Delivery::default(), waiting, outside, had, state };
        server.expect_from_outside(self.world.fleet().zones_from_outside(&instance), now);
        self.servers.insert(server.state.id.clone(), server);
    }

    /// Instances of these namespaces have other zones from outside of Bindy than before.
    pub(super) fn expect_from_outside(&mut self, namespaces: &BTreeSet<String>, now: Now) {
        let of = |server: &&mut Server| namespaces.contains(&server.state.id.instance.namespace);
        for server in self.servers.values_mut().filter(of) {
            let zones = self.world.fleet().zones_from_outside(&server.state.id.instance);
            server.expect_from_outside(zones, now);
        }
    }

    /// A version was published: every server that should have it waits for it from now on.
    pub(super) fn announce(&mut self, target: &Target, name: &Name, serial: Serial, now: Now) {
        let carriers: BTreeSet<NamespacedName> = match target {
            Target::Zone(key, apex) => match self.zones.get(&(key.clone(), apex.clone())) {
                Some(zone) => zone.carriers.clone(),
                None => return,
            },
            Target::Catalog(key) => self.world.fleet().catalog_holders(key),
            Target::Orphan(_) => return,
        };
        for server in self.servers.values_mut().filter(|server| carriers.contains(&server.state.id.instance))
        {
            server.delivery.supersede(name);
            server.waiting.insert(name, serial, now.monotonic);
        }
    }

    /// A zone has other carriers: servers that have not got it yet should.
    pub(super) fn expect_everywhere(&mut self, apex: &Name, key: &NamespacedName, now: Now) {
        let Some(zone) = self.zones.get(&(key.clone(), apex.clone())) else { return };
        let Some(serial) = zone.publication.served().map(|version| version.serial) else { return };
        let carriers = zone.carriers.clone();
        let others = self.other_carriers(apex, key);
        self.expect_at(&carriers, &others, (apex, Some(serial)), now);
    }

    /// The instances that carry a zone of the same name for another object: what they have is none of this one's.
    pub(super) fn other_carriers(&self, apex: &Name, zone: &NamespacedName) -> BTreeSet<NamespacedName> {
        let others = self.current.named(apex).filter(|key| *key != zone);
        let others = others.filter_map(|key| self.zones.get(&(key.clone(), apex.clone())));
        others.flat_map(|other| &other.carriers).cloned().collect()
    }

    /// Of all servers, those of `others` left aside, exactly the ones of `holders` should have a zone or catalog of this
    /// name and published serial.
    pub(super) fn expect_at(
        &mut self,
        holders: &BTreeSet<NamespacedName>,
        others: &BTreeSet<NamespacedName>,
        (name, serial): (&Name, Option<Serial>),
        now: Now,
    ) {
        for server in self.servers.values_mut().filter(|server| !others.contains(&server.state.id.instance)) {
            if server.outside.contains(name) {
                continue;
            }
            if !holders.contains(&server.state.id.instance) {
                server.forget(name);
            } else if let Some(serial) = serial
                && !server.had.contains(name)
                && server.delivery.has(name)
                && !server.waiting.contains(name)
            {
                server.waiting.insert(name, serial, now.monotonic);
            }
        }
    }

    /// The servers of an instance need not have a zone any more, unless it is to come from outside of Bindy.
    pub(super) fn expect_no_more(&mut self, apex: &Name, instance: &NamespacedName) {
        let servers = self.servers.values_mut().filter(|server| server.state.id.instance == *instance);
        servers.filter(|server| !server.outside.contains(apex)).for_each(|server| server.forget(apex));
    }

    /// Hands out what each server can be told now.
    pub(super) fn tell_servers(&mut self, now: Now, outputs: &mut Vec<Output>) {
        let ids: Vec<ServerId> = self.servers.keys().cloned().collect();
        for id in ids {
            let ready = self.unblocked(&id, now);
            let Some(server) = self.servers.get_mut(&id) else { continue };
            for zone in ready {
                if let Some(serial) = server.waiting.remove(&zone) {
                    let rank = server.rank(&zone);
                    server.delivery.want(&zone, serial, rank, now.monotonic);
                }
            }
            let mut probes = Vec::new();
            while let Some(probe) = self.next_probe(&id, now) {
                probes.extend(probe);
            }
            if !probes.is_empty() {
                outputs.push(Output::Probe(id, probes));
            }
        }
    }

    /// The next thing to ask a server, if there is one; nothing within it where there was nothing to prove.
    fn next_probe(&mut self, id: &ServerId, now: Now) -> Option<Option<Probe>> {
        let mut probe = self.servers.get_mut(id)?.delivery.take_due(now.monotonic)?;
        if let Ask::Records(_) = probe.ask {
            let questions = self.questions(&probe.zone, &id.instance);
            if questions.is_empty() {
                let server = self.servers.get_mut(id)?;
                server.delivery.answered(&probe, Answer::Proven, now.monotonic);
                self.note_proven(id, &probe.zone, probe.serial, now);
                return Some(None);
            }
            probe.ask = Ask::Records(questions);
        }
        Some(Some(probe))
    }

    /// The waiting zones that `id` can be told of: an upstream has the version, or has not got it for too long; and
    /// a zone that is new to the server is in the catalog that it has.
    fn unblocked(&mut self, id: &ServerId, now: Now) -> Vec<Name> {
        let Some(server) = self.servers.get_mut(id) else { return Vec::new() };
        let doubtful = server.waiting.take_doubtful(now.monotonic);
        let Some(server) = self.servers.get(id).filter(|_| !doubtful.is_empty()) else { return Vec::new() };
        let upstreams = self.world.fleet().upstreams(&id.instance);
        let upstream_has = |zone: &Name| {
            upstreams.is_empty()
                || self
                    .servers
                    .values()
                    .any(|other| upstreams.contains(&other.state.id.instance) && other.has_serial(zone))
        };
        let catalog = self.catalogs.get(&id.instance).map(|catalog| &catalog.name);
        let has_catalog = catalog.is_some_and(|name| server.has_serial(name));
        let unblocked = doubtful.into_iter().filter(|zone| {
            let listed = has_catalog || Some(zone) == catalog || server.had.contains(zone);
            server.waiting.is_over(zone, now.monotonic) || (upstream_has(zone) && listed)
        });
        unblocked.collect()
    }

    /// A server may have the latest serial of a zone by now: the servers below it may be told of that, and if it is its
    /// catalog, it may be told of the zones that this names.
    fn doubt_waiting(&mut self, id: &ServerId, zone: &Name) {
        let is_catalog = self.catalogs.get(&id.instance).is_some_and(|catalog| catalog.name == *zone);
        match self.servers.get_mut(id).filter(|server| server.has_serial(zone)) {
            Some(server) if is_catalog => server.waiting.doubt_all(),
            Some(_) => {}
            None => return,
        }
        self.servers.values_mut().for_each(|server| server.waiting.doubt(zone));
    }

    pub(super) fn take_answer(
        &mut self,
        id: &ServerId,
        probe: &Probe,
        answer: Answer,
        now: Now,
        outputs: &mut Vec<Output>,
    ) {
        let Some(server) = self.servers.get_mut(id) else { return };
        let was_failing = server.delivery.failure(&probe.zone).is_some();
        let (proven, failed) = (answer == Answer::Proven, matches!(answer, Answer::Failure(_)));
        match server.delivery.answered(probe, answer, now.monotonic) {
            Progress::Served | Progress::Delivered => {
                server.had.insert(probe.zone.clone());
            }
            Progress::Ahead(serial) => self.take_ahead(id, &probe.zone, serial, now, outputs),
            Progress::Waiting | Progress::Stale => {}
        }
        self.doubt_waiting(id, &probe.zone);
        if proven {
            self.note_proven(id, &probe.zone, probe.serial, now);
        } else if failed {
            self.mark_failure(&probe.zone, now);
        }
        if failed != was_failing {
            self.mark_instance_soon(&id.instance, now);
        }
    }

    /// A server failed to answer for a zone: its object is told if that goes on.
    fn mark_failure(&mut self, apex: &Name, now: Now) {
        let keys: Vec<NamespacedName> = self.world.zones_named(apex).cloned().collect();
        for key in keys {
            self.mark_zone_soon(&key, now);
        }
    }

    /// A server of ours serves a serial that was never published: the next version has to come after it.
    fn take_ahead(
        &mut self,
        id: &ServerId,
        name: &Name,
        serial: Serial,
        now: Now,
        outputs: &mut Vec<Output>,
    ) {
        let mut commands = Vec::new();
        for key in self.current.named(name) {
            // Another instance may serve a zone of this name from another object.
            let zone = self.zones.get_mut(&(key.clone(), name.clone()));
            if let Some(zone) = zone.filter(|zone| zone.carriers.contains(&id.instance)) {
                let target = Target::Zone(key.clone(), name.clone());
                commands.push((target, zone.publication.observed(serial, now)));
            }
        }
        let catalogs = self.catalogs.iter_mut().filter(|(_, catalog)| catalog.name == *name);
        commands.extend(
            catalogs.map(|(key, c)| (Target::Catalog(key.clone()), c.publication.observed(serial, now))),
        );
        for (target, commands) in commands {
            self.carry_out(&target, commands, now, outputs);
        }
    }
}
