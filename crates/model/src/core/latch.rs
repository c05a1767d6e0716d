//! The proof that records are served (invariant 4): every server that is ready, at least one of each instance, was
//! seen to answer with the version that a record came with, or a later one. Once proven a generation stays so.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bindy_zone::{Name, Serial};

use super::{Core, ServerId, Target};
use crate::object::NamespacedName;
use crate::publication::Now;
use crate::record_table::RecordId;

/// A record in one state of it: its number may be given to another.
type Candidate = (RecordId, u32);

/// A version that brought something new.
struct Step {
    serial: Serial,
    /// Generation of the zone's specification that it was compiled from.
    generation: u32,
    records: Vec<Candidate>,
}

/// What of one zone is not proven yet: the generation of its specification, and records.
#[derive(Default)]
pub(crate) struct Latch {
    /// The generation that what is wanted was compiled from.
    wanted: u32,
    /// The generation that the version on its way to the ledger was compiled from.
    next: u32,
    /// The last generation that is proven.
    proven: Option<u32>,
    /// Wanted, and in no version that has a serial yet.
    gathered: Vec<Candidate>,
    /// In the version that is being written to the ledger.
    swapping: Vec<Candidate>,
    /// In a published version: the first one that they were in.
    published: VecDeque<Step>,
    /// What servers were seen to serve while something waits for proof.
    seen: BTreeMap<ServerId, Serial>,
}

impl Latch {
    /// Of a zone whose status said before a restart that this generation is served.
    pub(super) fn of(proven: Option<u32>) -> Self {
        Self { proven, ..Self::default() }
    }

    pub(super) fn begin_swap(&mut self) {
        self.swapping.append(&mut self.gathered);
        self.next = self.wanted;
    }

    fn publish(&mut self, serial: Serial) {
        let records = std::mem::take(&mut self.swapping);
        let last = self.published.back().map(|step| step.generation).or(self.proven);
        if !records.is_empty() || last != Some(self.next) {
            self.published.push_back(Step { serial, generation: self.next, records });
        }
    }

    /// Every record that waits for proof.
    fn unproven(&self) -> impl Iterator<Item = Candidate> {
        let published = self.published.iter().flat_map(|step| &step.records);
        self.gathered.iter().chain(&self.swapping).chain(published).copied()
    }

    /// Whether this generation of the zone was seen to be served by all that had to.
    pub(super) fn is_proven(&self, generation: u32) -> bool {
        self.proven == Some(generation)
    }
}

impl Core {
    /// Records were compiled into what is wanted of a zone.
    pub(super) fn gather(&mut self, key: &NamespacedName, apex: &Name, touched: &[RecordId], now: Now) {
        let generation = self.world.zone(key).map_or(0, |zone| zone.metadata.generation);
        if let Some(zone) = self.zones.get_mut(&(key.clone(), apex.clone())) {
            zone.latch.wanted = generation;
        }
        if self.outbox.is_none() {
            return;
        }
        for id in touched {
            self.mark_verdict(*id, now);
        }
        let stored = touched.iter().filter_map(|id| Some((*id, self.world.stored(*id)?)));
        let unproven: Vec<Candidate> =
            stored.filter(|(_, stored)| !stored.proven).map(|(id, stored)| (id, stored.stamp)).collect();
        if let Some(zone) = self.zones.get_mut(&(key.clone(), apex.clone())) {
            zone.latch.gathered.extend(unproven);
        }
    }

    /// Records that no compilation visits may be told something else, or have to be proven anew.
    pub(super) fn gather_restless(&mut self, now: Now) {
        let (restless, reassigned) = (self.world.take_restless(), self.world.take_reassigned());
        if self.outbox.is_none() {
            return;
        }
        for id in restless {
            self.mark_verdict(id, now);
        }
        for (key, records) in self.unproven(reassigned) {
            if let Some(apex) = self.current.get(&key).cloned() {
                self.gather(&key, &apex, &records, now);
                self.advance_latch(&Target::Zone(key, apex), None, now);
            }
        }
    }

    /// Those of `records` that are not proven, by every zone that wants them.
    pub(super) fn unproven(
        &self,
        records: impl IntoIterator<Item = RecordId>,
    ) -> BTreeMap<NamespacedName, Vec<RecordId>> {
        let mut unproven: BTreeMap<NamespacedName, Vec<RecordId>> = BTreeMap::new();
        for id in records {
            if self.world.stored(id).is_some_and(|stored| !stored.proven) {
                let zones = self.world.zones_of(id);
                zones.into_iter().for_each(|zone| unproven.entry(zone).or_default().push(id));
            }
        }
        unproven
    }

    /// After the commands of a zone were carried out: a new version may be served, or the served one may be what is
    /// wanted already.
    pub(super) fn advance_latch(&mut self, target: &Target, published: Option<Serial>, now: Now) {
        let Target::Zone(key, apex) = target else { return };
        let id = (key.clone(), apex.clone());
        let Some(zone) = self.zones.get_mut(&id) else { return };
        if let Some(serial) = published {
            zone.latch.publish(serial);
        }
        if zone.publication.is_settled()
            && let Some(serial) = zone.publication.served().map(|version| version.serial)
        {
            zone.latch.begin_swap();
            zone.latch.publish(serial);
        }
        if !zone.latch.published.is_empty() {
            self.proving.insert(id);
        }
        self.mark_zone_soon(key, now);
        self.prove(key, apex, now);
    }

    /// A server was seen to serve this version of a zone.
    pub(super) fn note_proven(&mut self, server: &ServerId, apex: &Name, serial: Serial, now: Now) {
        let keys: Vec<NamespacedName> =
            self.world.zones_named(apex).filter(|key| self.current.get(key) == Some(apex)).cloned().collect();
        for key in keys {
            if let Some(zone) = self.zones.get_mut(&(key.clone(), apex.clone()))
                && !zone.latch.published.is_empty()
            {
                zone.latch.seen.insert(server.clone(), serial);
            }
            self.prove(&key, apex, now);
        }
    }

    /// Servers came, went or became ready: what waits for proof may be proven by the others.
    pub(super) fn prove_all(&mut self, now: Now) {
        for (key, apex) in self.proving.clone() {
            self.prove(&key, &apex, now);
        }
    }

    fn prove(&mut self, key: &NamespacedName, apex: &Name, now: Now) {
        if self.is_in_sync(key, apex) {
            self.mark_zone(key, now.monotonic);
        }
        while let Some(serial) = self.first_unproven(key, apex)
            && self.is_served_everywhere(key, apex, serial)
        {
            let id = (key.clone(), apex.clone());
            let Some(zone) = self.zones.get_mut(&id) else { return };
            let Some(step) = zone.latch.published.pop_front() else { return };
            zone.latch.proven = Some(step.generation);
            let elsewhere = self.unproven_elsewhere(key, &step.records);
            for (record, stamp) in step.records {
                if !elsewhere.contains(&(record, stamp))
                    && let Some(stored) = self.world.stored_mut(record).filter(|stored| stored.stamp == stamp)
                {
                    stored.proven = true;
                    self.mark_verdict(record, now);
                }
            }
        }
        if self.first_unproven(key, apex).is_none() {
            self.proving.remove(&(key.clone(), apex.clone()));
            if let Some(zone) = self.zones.get_mut(&(key.clone(), apex.clone())) {
                zone.latch.seen.clear();
            }
        }
    }

    /// What the other zones that want any of these records have not proven yet.
    fn unproven_elsewhere(&self, key: &NamespacedName, records: &[Candidate]) -> BTreeSet<Candidate> {
        let zones: BTreeSet<NamespacedName> =
            records.iter().flat_map(|(id, _)| self.world.zones_of(*id)).filter(|zone| zone != key).collect();
        let others = zones.into_iter().filter_map(|zone| {
            let apex = self.current.get(&zone)?.clone();
            self.zones.get(&(zone, apex))
        });
        others.flat_map(|zone| zone.latch.unproven()).collect()
    }

    fn first_unproven(&self, key: &NamespacedName, apex: &Name) -> Option<Serial> {
        let zone = self.zones.get(&(key.clone(), apex.clone()))?;
        zone.latch.published.front().map(|step| step.serial)
    }

    /// Whether every ready server, and at least one of each instance that serves the zone, has the latest version.
    pub(super) fn is_in_sync(&self, key: &NamespacedName, apex: &Name) -> bool {
        let latest = self.zones.get(&(key.clone(), apex.clone())).and_then(|zone| zone.publication.served());
        latest.is_some_and(|version| self.is_served_everywhere(key, apex, version.serial))
    }

    /// Whether a ready server was not heard of yet since it should have the latest version, so that nothing can be
    /// said.
    pub(super) fn is_undetermined(&self, key: &NamespacedName, apex: &Name) -> bool {
        let serving = self.world.serving(key);
        let mut servers = serving.iter().flat_map(|instance| self.servers_of(instance));
        servers.any(|server| server.state.ready && server.is_unheard(apex))
    }

    /// An instance that serves the zone and has no ready server with its latest version.
    pub(super) fn unserving(&self, key: &NamespacedName, apex: &Name) -> Option<NamespacedName> {
        let serves = |instance: &NamespacedName| {
            self.servers_of(instance).any(|server| server.state.ready && server.has(apex))
        };
        self.world.serving(key).into_iter().find(|instance| !serves(instance))
    }

    fn is_served_everywhere(&self, key: &NamespacedName, apex: &Name, serial: Serial) -> bool {
        let Some(zone) = self.zones.get(&(key.clone(), apex.clone())) else { return false };
        let serving = self.world.serving(key);
        !serving.is_empty()
            && serving.iter().all(|instance| {
                let mut ready = self.servers_of(instance).filter(|server| server.state.ready).peekable();
                ready.peek().is_some()
                    && ready.all(|server| {
                        let seen = zone.latch.seen.get(&server.state.id);
                        server.has(apex) || seen.is_some_and(|seen| !serial.is_after(*seen))
                    })
            })
    }
}
