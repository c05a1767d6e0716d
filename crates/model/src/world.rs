//! The watched world: every object as it was last readable, indexed by what depends on it.
//!
//! ```text
//!   Applied / Deleted / Unreadable ─► World ─► dirty zones ─► compile ─► content and verdicts
//!                                       └────► fleet: instances, tiers, which zone is served where
//! ```
//! Absent, unreadable and not yet listed are three states, and only absent removes: nothing is compiled before
//! [`World::listed`], and an object that cannot be read keeps what it said before.

mod changes;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;

use bindy_zone::{Content, Name};

use crate::compile::{Compiled, ServingInstance, compile};
use crate::fleet::{Fleet, FleetProblem};
use crate::object::{ConfigMap, Kind, NamespacedName, Object, ObjectKey, Zone};
use crate::publication::Writer;
use crate::record_table::{RecordId, RecordTable, Stored};
use crate::told::Told;
use crate::verdict::{Verdict, ZoneProblem};
use crate::zone_state::{Dirty, ZoneState, no_zone};

/// How the absence of an object became known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// Somebody deleted this very object.
    Deleted,
    /// It was missing when everything was listed again, or its whole file vanished: maybe a mistake.
    Relisted,
}

/// Everything that is known of the objects.
#[derive(Default)]
pub struct World {
    records: RecordTable,
    zones: BTreeMap<NamespacedName, ZoneState>,
    config_maps: BTreeMap<NamespacedName, ConfigMap>,
    fleet: Fleet,
    addresses: BTreeMap<NamespacedName, Vec<IpAddr>>,
    /// Records that refer to a zone which does not exist.
    waiting: BTreeMap<NamespacedName, BTreeSet<RecordId>>,
    /// Records that no zone wants and that refer to none.
    homeless: BTreeSet<RecordId>,
    /// Zones that choose records by labels.
    selecting: BTreeSet<NamespacedName>,
    /// Zones by their name, to find two with the same one.
    by_apex: BTreeMap<Name, BTreeSet<NamespacedName>>,
    unreadable: BTreeMap<ObjectKey, String>,
    /// Prints of the status of zones and instances.
    told: BTreeMap<ObjectKey, u32>,
    /// Kinds that are being listed again, with what was seen of them so far.
    relisting: BTreeMap<Kind, Seen>,
    /// Changes whenever the fleet does.
    fleet_version: u64,
    /// Records whose verdict may have changed without a compilation.
    restless: Vec<RecordId>,
    /// Records that a zone has let go, or whose zone has won or lost its name: no compilation visits them where they stay.
    reassigned: Vec<RecordId>,
    dirty: BTreeSet<NamespacedName>,
    /// Namespaces in which servers may have to have other zones.
    changed_fleets: BTreeSet<String>,
    /// Instances of which only that changed which is without meaning for their zones.
    adjusted: BTreeSet<NamespacedName>,
    listed: bool,
    writer: Writer,
    obscured: bool,
}

/// Objects that were among those listed.
#[derive(Default)]
struct Seen {
    records: HashSet<RecordId>,
    others: BTreeSet<NamespacedName>,
}

impl World {
    /// An empty world, in which nothing has been listed yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether this is another object than the zone or instance known by its name.
    pub fn replaces(&self, object: &Object) -> bool {
        let (known, new) = match object {
            Object::Zone(zone) => (self.zone(&zone.metadata.key).map(|zone| &zone.metadata), &zone.metadata),
            Object::Instance(instance) => {
                (self.fleet.get(&instance.metadata.key).map(|one| &one.metadata), &instance.metadata)
            }
            Object::Record(_) | Object::ConfigMap(_) => return false,
        };
        known.is_some_and(|known| known.uid != new.uid)
    }

    /// Takes over an object as it is now.
    pub fn apply(&mut self, object: Object) {
        let key = object.key();
        self.reveal(&key);
        match object {
            Object::Record(record) => self.apply_record(record),
            Object::Zone(zone) => self.apply_zone(*zone),
            Object::Instance(instance) => self.apply_instance(&instance),
            Object::ConfigMap(map) => self.apply_config_map(map),
        }
        self.see(&key);
    }

    /// All objects of a kind are about to be listed again.
    pub fn relisting(&mut self, kind: Kind) {
        self.relisting.insert(kind, Seen::default());
    }

    /// All objects of a kind have been listed again: those that were not seen are gone, and returned.
    pub fn relisted(&mut self, kind: Kind) -> Vec<ObjectKey> {
        let Some(seen) = self.relisting.remove(&kind) else { return Vec::new() };
        let is_seen = |key: &NamespacedName| match kind {
            Kind::Record(record) => self
                .records
                .find(record, key)
                .map_or_else(|| seen.others.contains(key), |id| seen.records.contains(&id)),
            _ => seen.others.contains(key),
        };
        let known: Vec<NamespacedName> = match kind {
            Kind::Record(record) => {
                let unseen = |(id, stored): &(RecordId, &Stored)| {
                    stored.data.kind() == record && !seen.records.contains(id)
                };
                self.records.iter().filter(unseen).map(|(_, stored)| self.records.key(stored)).collect()
            }
            Kind::Zone => self.zones.keys().cloned().collect(),
            Kind::Instance => self.fleet.iter().map(|one| one.metadata.key.clone()).collect(),
            Kind::ConfigMap => self.config_maps.keys().cloned().collect(),
        };
        let unreadable = self.unreadable.keys().filter(|key| key.kind == kind).map(|key| key.key.clone());
        let gone: BTreeSet<NamespacedName> =
            known.into_iter().chain(unreadable).filter(|key| !is_seen(key)).collect();
        let gone: Vec<ObjectKey> = gone.into_iter().map(|key| ObjectKey { kind, key }).collect();
        gone.iter().for_each(|key| self.remove(key, Removal::Relisted));
        gone
    }

    /// Notes that an object exists, while its kind is being listed again.
    fn see(&mut self, key: &ObjectKey) {
        let id = self.record(key);
        if let Some(seen) = self.relisting.get_mut(&key.kind) {
            seen.records.extend(id);
            if id.is_none() {
                seen.others.insert(key.key.clone());
            }
        }
    }

    /// Forgets an object that does not exist any more.
    pub fn remove(&mut self, key: &ObjectKey, how: Removal) {
        self.reveal(key);
        self.told.remove(key);
        match key.kind {
            Kind::Record(kind) => {
                if let Some(id) = self.records.find(kind, &key.key) {
                    self.detach_record(id, how);
                    self.records.remove(id);
                }
            }
            Kind::Zone => self.remove_zone(&key.key),
            Kind::Instance => {
                if self.fleet.remove(&key.key).is_some() {
                    self.addresses.remove(&key.key);
                    self.change_fleet(&key.key.namespace);
                }
            }
            Kind::ConfigMap => {
                self.config_maps.remove(&key.key);
                self.read_files_from(&key.key);
            }
        }
    }

    /// Notes that an object exists but cannot be decoded; what it said before stays in force.
    pub fn unreadable(&mut self, key: ObjectKey, message: String) {
        if key.kind == Kind::Zone
            && let Some(zone) = self.zones.get_mut(&key.key)
        {
            zone.unreadable = Some(message.clone());
            self.dirty.insert(key.key.clone());
        }
        self.see(&key);
        self.fleet_version += u64::from(key.kind == Kind::Instance);
        self.unreadable.insert(key, message);
    }

    /// An object that could not be decoded can be now, or is gone: what was kept because of it is looked at again.
    fn reveal(&mut self, key: &ObjectKey) {
        let hid_zones = self.hides_zones_by(key);
        if self.unreadable.remove(key).is_none() {
            return;
        }
        self.fleet_version += u64::from(key.kind == Kind::Instance);
        if hid_zones {
            self.changed_fleets.insert(key.key.namespace.clone());
        }
        if let Kind::Record(_) = key.kind {
            let filled = zones_in(&self.zones, &key.key.namespace).filter(|(_, zone)| zone.residue.is_some());
            self.dirty.extend(filled.map(|(key, _)| key.clone()));
        }
    }

    /// Takes in what the status of an object says. Whether that is something else than before.
    pub(crate) fn note_told(&mut self, key: &ObjectKey, told: Told) -> bool {
        let Told { print, ready } = told;
        let Kind::Record(kind) = key.kind else {
            return self.told.insert(key.clone(), print).unwrap_or_default() != print;
        };
        let Some(id) = self.records.find(kind, &key.key) else { return false };
        let (listed, following) = (self.listed, self.is_following());
        self.records.get_mut(id).is_some_and(|stored| {
            // Later on only what was seen in this run counts: the status may be of an object that was replaced. What
            // another leader proves is written after the object was made.
            match following {
                true => stored.proven = ready,
                false => stored.proven |= ready && !listed,
            }
            std::mem::replace(&mut stored.told, print) != print
        })
    }

    /// The print of what an object's status says; 0 when it says nothing.
    pub(crate) fn told(&self, key: &ObjectKey) -> u32 {
        self.told.get(key).copied().unwrap_or_default()
    }

    /// Whether somebody else proves what is served, and says so in statuses.
    pub(crate) fn is_following(&self) -> bool {
        self.writer == Writer::Other
    }

    pub(crate) fn set_writer(&mut self, writer: Writer) {
        self.writer = writer;
    }

    /// Has every zone looked at again.
    pub(crate) fn mark_all_dirty(&mut self) {
        self.dirty.extend(self.zones.keys().cloned());
    }

    /// All records.
    pub(crate) fn record_ids(&self) -> Vec<RecordId> {
        self.records.iter().map(|(id, _)| id).collect()
    }

    /// A record as it is stored.
    pub(crate) fn stored(&self, id: RecordId) -> Option<&Stored> {
        self.records.get(id)
    }

    /// A record as it is stored, to be changed.
    pub(crate) fn stored_mut(&mut self, id: RecordId) -> Option<&mut Stored> {
        self.records.get_mut(id)
    }

    /// The records whose verdict may have changed without a compilation since the last call.
    pub(crate) fn take_restless(&mut self) -> Vec<RecordId> {
        std::mem::take(&mut self.restless)
    }

    /// The records that may have to be proven anew without a compilation since the last call.
    pub(crate) fn take_reassigned(&mut self) -> Vec<RecordId> {
        std::mem::take(&mut self.reassigned)
    }

    /// Objects that cannot be decoded, and why.
    pub fn unreadable_objects(&self) -> impl Iterator<Item = (&ObjectKey, &str)> {
        self.unreadable.iter().map(|(key, message)| (key, message.as_str()))
    }

    /// Notes that all kinds have been listed: from now on an object that is not known is absent.
    pub fn listed(&mut self) {
        self.listed = true;
    }

    /// Notes whether objects may exist that were never seen, because the files that may have them cannot be read.
    pub fn set_obscured(&mut self, obscured: bool) {
        if self.obscured != obscured {
            self.obscured = obscured;
            self.dirty.extend(self.zones.keys().cloned());
            let namespaces = self.fleet.iter().map(|instance| instance.metadata.key.namespace.clone());
            self.changed_fleets.extend(namespaces);
        }
    }

    /// Why an object cannot be decoded, if it cannot.
    pub(crate) fn why_unreadable(&self, key: &ObjectKey) -> Option<&str> {
        self.unreadable.get(key).map(String::as_str)
    }

    /// Whether the servers of a namespace may have zones that are not known, so that none may be taken for absent.
    pub fn hides_zones(&self, namespace: &str) -> bool {
        let mut unreadable = self.unreadable.keys().filter(|object| object.key.namespace == namespace);
        self.obscured || unreadable.any(|object| self.hides_zones_by(object))
    }

    /// Whether nothing is known of an object that cannot be decoded, so that zones may be unknown with it: an instance
    /// may have some from outside.
    fn hides_zones_by(&self, object: &ObjectKey) -> bool {
        match object.kind {
            Kind::Zone => !self.zones.contains_key(&object.key),
            Kind::Instance => self.fleet.get(&object.key).is_none(),
            Kind::Record(_) | Kind::ConfigMap => false,
        }
    }

    /// Whether all kinds have been listed.
    pub fn is_listed(&self) -> bool {
        self.listed
    }

    /// All instances.
    pub fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// Changes whenever the fleet does.
    pub fn fleet_version(&self) -> u64 {
        self.fleet_version
    }

    /// The namespaces in which servers may have to have other zones than at the last call.
    pub(crate) fn take_changed_fleets(&mut self) -> BTreeSet<String> {
        std::mem::take(&mut self.changed_fleets)
    }

    /// The instances of which, since the last call, only that changed which is without meaning for their zones.
    pub(crate) fn take_adjusted(&mut self) -> BTreeSet<NamespacedName> {
        std::mem::take(&mut self.adjusted)
    }

    /// Sets where the servers of an instance answer: known from its first Ready on, kept through blips.
    pub fn set_addresses(&mut self, instance: &NamespacedName, addresses: Vec<IpAddr>) {
        if self.addresses.get(instance) != Some(&addresses) {
            self.addresses.insert(instance.clone(), addresses);
            let selecting = self.zones_selecting(instance);
            self.dirty.extend(selecting);
        }
    }

    /// The zones that select an instance, whether or not they are accepted.
    pub(crate) fn zones_selecting(&self, instance: &NamespacedName) -> Vec<NamespacedName> {
        let zones = zones_in(&self.zones, &instance.namespace);
        let selecting = zones.filter(|(_, zone)| self.fleet.selected_by(&zone.spec).contains(instance));
        selecting.map(|(key, _)| key.clone()).collect()
    }

    /// The specification of a zone as it was last readable.
    pub fn zone(&self, key: &NamespacedName) -> Option<&Zone> {
        self.zones.get(key).map(|zone| &zone.spec)
    }

    /// Every zone's key.
    pub fn zones(&self) -> impl Iterator<Item = &NamespacedName> {
        self.zones.keys()
    }

    /// The zones that have this name, served or not.
    pub fn zones_named(&self, apex: &Name) -> impl Iterator<Item = &NamespacedName> {
        self.by_apex.get(apex).into_iter().flatten()
    }

    /// Whether the servers of an instance should have a zone of this name: from an accepted DNSZone, or from outside.
    pub(crate) fn is_wanted_at(&self, apex: &Name, instance: &NamespacedName) -> bool {
        let carried = |zone| self.fleet.carriers(&self.serving(zone)).contains(instance);
        self.fleet.zones_from_outside(instance).contains(apex) || self.zones_named(apex).any(carried)
    }

    /// Number of record objects.
    pub fn record_count(&self) -> usize {
        self.records.len()
    }

    /// The zone's name, unless it has none that can be served.
    pub fn apex(&self, key: &NamespacedName) -> Option<&Name> {
        self.zones.get(key)?.apex.as_ref().ok()
    }

    /// The instances that serve a zone: none when it is refused.
    pub fn serving(&self, key: &NamespacedName) -> Vec<NamespacedName> {
        match self.zones.get(key) {
            Some(zone) if zone.apex.is_ok() && zone.claimed_by.is_none() => {
                self.fleet.selected_by(&zone.spec)
            }
            _ => Vec::new(),
        }
    }

    /// Why a zone is not served at all, if it is not.
    pub fn zone_refusal(&self, key: &NamespacedName) -> Option<ZoneProblem> {
        let zone = self.zones.get(key)?;
        match (&zone.apex, &zone.claimed_by) {
            (Err(problem), _) => Some(problem.clone()),
            (Ok(apex), Some(claimant)) => Some(claimant.problem(apex)),
            (Ok(_), None) if self.fleet.selected_by(&zone.spec).is_empty() => {
                Some(ZoneProblem::NoInstances(key.namespace.clone()))
            }
            (Ok(_), None) => None,
        }
    }

    /// What is wrong with an instance.
    pub fn instance_problem(&self, key: &NamespacedName) -> Option<FleetProblem> {
        let object = ObjectKey { kind: Kind::Instance, key: key.clone() };
        match self.unreadable.get(&object) {
            Some(message) => Some(FleetProblem::Unreadable(message.clone())),
            None => self.fleet.problem(key),
        }
    }

    /// The zones that something changed in since the last call; empty until everything has been listed.
    pub fn take_dirty(&mut self) -> BTreeSet<NamespacedName> {
        if self.listed { std::mem::take(&mut self.dirty) } else { BTreeSet::new() }
    }

    /// Compiles what changed in a zone. `None` while the zone is refused or does not exist.
    pub fn compile(&mut self, key: &NamespacedName) -> Option<Compiled> {
        let serving = self.serving(key);
        if serving.is_empty() {
            return None;
        }
        let serving: Vec<ServingInstance> = serving
            .into_iter()
            .map(|key| ServingInstance {
                addresses: self.addresses.get(&key).cloned().unwrap_or_default(),
                key,
            })
            .collect();
        let zone = self.zones.get_mut(key)?;
        let mut compiled = compile(zone, &self.records, &serving)?;
        compiled.problems.extend(zone.unreadable.clone().map(ZoneProblem::Unreadable));
        Some(compiled)
    }

    /// Whether records that were served before a restart may be missing from what is known now.
    pub fn is_incomplete(&self, key: &NamespacedName) -> bool {
        let in_namespace = |object: &ObjectKey| {
            matches!(object.kind, Kind::Record(_))
                && object.key.namespace == key.namespace
                && !self.is_known(object)
        };
        self.obscured || self.lacks_file(key) || self.unreadable.keys().any(in_namespace)
    }

    /// Whether one of the zone's files was never readable since the start.
    pub fn lacks_file(&self, key: &NamespacedName) -> bool {
        self.zones.get(key).is_some_and(ZoneState::lacks_file)
    }

    /// The same of a zone that was not compiled since then.
    pub fn is_new_without_file(&self, key: &NamespacedName) -> bool {
        self.zones.get(key).is_some_and(|zone| zone.content.is_none() && zone.lacks_file())
    }

    /// Has a zone settled again although nothing changed in it.
    pub fn look_again(&mut self, key: &NamespacedName) {
        self.dirty.insert(key.clone());
    }

    fn is_known(&self, object: &ObjectKey) -> bool {
        matches!(object.kind, Kind::Record(kind) if self.records.find(kind, &object.key).is_some())
    }

    /// Gives an incomplete zone what was served before; it fills the gaps until the zone is complete again.
    pub fn set_residue(&mut self, key: &NamespacedName, residue: Option<Content>) {
        if let Some(zone) = self.zones.get_mut(key)
            && zone.residue != residue
        {
            zone.residue = residue;
            zone.dirty = Dirty::Everything;
            self.dirty.insert(key.clone());
        }
    }

    /// What a record is told, with its key and generation: the gravest of what the zones say that want it.
    pub fn verdict(&self, id: RecordId) -> Option<(ObjectKey, u32, Verdict)> {
        let stored = self.records.get(id)?;
        let key = ObjectKey { kind: Kind::Record(stored.data.kind()), key: self.records.key(stored) };
        let wanting = self.zones_of(id);
        let zones: Vec<&ZoneState> = wanting.iter().filter_map(|zone| self.zones.get(zone)).collect();
        let verdicts = zones.iter().map(|zone| (zone, zone.verdict(id)));
        let gravest =
            verdicts.reduce(|one, next| if next.1.gravity() > one.1.gravity() { next } else { one });
        let verdict = match gravest {
            None => no_zone(self.records.zone_ref(stored), self.records.namespace(stored)),
            Some((zone, Verdict::Refused(refusal))) if zones.len() > 1 => {
                Verdict::Refused(refusal.in_zone(&zone.spec.metadata.key))
            }
            Some((_, verdict)) => verdict,
        };
        Some((key, stored.generation, verdict))
    }

    /// The number of the record with this key.
    pub fn record(&self, key: &ObjectKey) -> Option<RecordId> {
        match key.kind {
            Kind::Record(kind) => self.records.find(kind, &key.key),
            _ => None,
        }
    }

    /// Every record that is not simply accepted, with its verdict. Costs nothing for those that are.
    pub fn remarks(&self) -> impl Iterator<Item = (ObjectKey, Verdict)> {
        let refused = |zone: &&ZoneState| zone.apex.is_err() || zone.claimed_by.is_some();
        let in_refused = self.zones.values().filter(refused).flat_map(ZoneState::members);
        let remarked = self.zones.values().flat_map(|zone| zone.verdicts.keys().copied());
        let lost = self.waiting.values().flatten().chain(&self.homeless).copied();
        let ids: BTreeSet<RecordId> = in_refused.chain(remarked).chain(lost).collect();
        ids.into_iter().filter_map(|id| {
            let (key, _, verdict) = self.verdict(id)?;
            (verdict != Verdict::Accepted).then_some((key, verdict))
        })
    }
}

/// The zones of a namespace.
fn zones_in<'a>(
    zones: &'a BTreeMap<NamespacedName, ZoneState>,
    namespace: &'a str,
) -> impl Iterator<Item = (&'a NamespacedName, &'a ZoneState)> {
    let first = NamespacedName::new(namespace, "");
    zones.range(first..).take_while(move |(key, _)| key.namespace == namespace)
}
