//! What each kind of object changes when it comes, becomes another or goes: who belongs to which zone, who has which zone's
//! name, which zones have to be compiled.

use std::collections::BTreeSet;

use bindy_zone::Name;

use super::{Removal, World, zones_in};
use crate::object::{ConfigMap, Instance, NamespacedName, Record, Zone, ZoneFileRef};
use crate::record_table::{RecordId, Stored};
use crate::zone_state::{Claimant, ZoneState, parse_apex};

impl World {
    pub(super) fn apply_record(&mut self, record: Record) {
        if self.records.has(&record) {
            return;
        }
        let key = &record.metadata.key;
        if let Some(id) = self.records.find(record.data.kind(), key) {
            self.detach_record(id, Removal::Deleted);
            self.records.remove(id);
        }
        let id = self.records.insert(record);
        let zones = self.zones_of(id);
        if zones.is_empty() {
            self.homeless.insert(id);
        }
        // No compilation visits a record without a zone that is served.
        self.restless.push(id);
        for key in &zones {
            if let Some(zone) = self.zones.get_mut(key) {
                zone.add_member(&self.records, id);
                self.dirty.insert(key.clone());
            } else {
                self.waiting.entry(key.clone()).or_default().insert(id);
            }
        }
    }

    pub(super) fn detach_record(&mut self, id: RecordId, how: Removal) {
        self.homeless.remove(&id);
        for key in self.zones_of(id) {
            if let Some(zone) = self.zones.get_mut(&key) {
                zone.remove_member(&self.records, id);
                if how == Removal::Deleted {
                    zone.take_out_of_residue(&self.records, id);
                }
                zone.relisted |= how == Removal::Relisted;
                self.dirty.insert(key);
            } else if let Some(waiting) = self.waiting.get_mut(&key) {
                waiting.remove(&id);
                if waiting.is_empty() {
                    self.waiting.remove(&key);
                }
            }
        }
    }

    /// The zones that want a record: the one that it refers to, and those that select it.
    pub(crate) fn zones_of(&self, id: RecordId) -> BTreeSet<NamespacedName> {
        let Some(stored) = self.records.get(id) else { return BTreeSet::new() };
        let namespace = self.records.namespace(stored);
        let referred = self.records.zone_ref(stored).map(|zone| NamespacedName::new(namespace, zone));
        let selecting = self.selecting.range(NamespacedName::new(namespace, "")..);
        let selecting = selecting.take_while(|key| key.namespace == namespace);
        let selecting =
            selecting.filter(|key| self.zones.get(*key).is_some_and(|zone| self.selects(zone, stored)));
        referred.into_iter().chain(selecting.cloned()).collect()
    }

    /// Whether a zone chooses a record of its namespace by labels. One without labels is never chosen.
    fn selects(&self, zone: &ZoneState, stored: &Stored) -> bool {
        let labels = self.records.labels(stored).filter(|labels| !labels.is_empty());
        labels.is_some_and(|labels| zone.spec.records_from.iter().any(|from| from.matches(labels)))
    }

    pub(super) fn apply_zone(&mut self, spec: Zone) {
        let key = spec.metadata.key.clone();
        if self.zones.get(&key).is_some_and(|zone| zone.unreadable.is_none() && zone.spec == spec) {
            return;
        }
        self.dirty.insert(key.clone());
        let apex = parse_apex(&spec.zone_name);
        let same_members = self.zones.get(&key).is_some_and(|zone| {
            zone.apex == apex && zone.spec.records_from == spec.records_from && zone.spec.ttl == spec.ttl
        });
        if !same_members {
            self.rebuild_zone(spec);
        } else if let Some(zone) = self.zones.get_mut(&key) {
            zone.unreadable = None;
            zone.spec = spec;
            zone.dirty.add(bindy_zone::OwnerName::apex());
        }
        self.read_files(&key);
        if let Ok(apex) = apex {
            self.by_apex.entry(apex.clone()).or_default().insert(key);
            self.settle_claims(&apex);
        }
    }

    /// Makes the state of a zone anew, keeping what its zone files said.
    fn rebuild_zone(&mut self, spec: Zone) {
        let key = spec.metadata.key.clone();
        let old = self.take_zone(&key);
        if let Some(old) = &old {
            self.settle_members(&key, old);
        }
        if let Some(apex) = old.as_ref().and_then(|zone| zone.apex.clone().ok()) {
            self.forget_apex(&apex, &key);
        }
        let mut zone = ZoneState::new(spec);
        if let Some(old) = old
            && old.apex == zone.apex
        {
            zone.files = old.files;
            zone.content = old.content;
            zone.residue = old.residue;
            zone.relisted = old.relisted;
        }
        // Whatever refers to a zone that is not there waits for it.
        let mut members = self.waiting.remove(&key).unwrap_or_default();
        if !zone.spec.records_from.is_empty() {
            let records = self.records.in_namespace(&key.namespace);
            members.extend(records.filter(|(_, stored)| self.selects(&zone, stored)).map(|(id, _)| id));
            self.selecting.insert(key.clone());
        }
        for id in members {
            self.homeless.remove(&id);
            zone.add_member(&self.records, id);
        }
        self.zones.insert(key, zone);
    }

    fn take_zone(&mut self, key: &NamespacedName) -> Option<ZoneState> {
        self.selecting.remove(key);
        self.zones.remove(key)
    }

    pub(super) fn remove_zone(&mut self, key: &NamespacedName) {
        let Some(zone) = self.take_zone(key) else { return };
        self.dirty.insert(key.clone());
        self.settle_members(key, &zone);
        if let Ok(apex) = &zone.apex {
            self.forget_apex(apex, key);
        }
    }

    /// Finds out what the members of a zone that is no more are waiting for now.
    fn settle_members(&mut self, key: &NamespacedName, zone: &ZoneState) {
        for id in zone.members() {
            self.restless.push(id);
            self.reassigned.push(id);
            let zones = self.zones_of(id);
            if zones.contains(key) {
                self.waiting.entry(key.clone()).or_default().insert(id);
            } else if zones.is_empty() {
                self.homeless.insert(id);
            }
        }
    }

    fn forget_apex(&mut self, apex: &Name, key: &NamespacedName) {
        if let Some(keys) = self.by_apex.get_mut(apex) {
            keys.remove(key);
            if keys.is_empty() {
                self.by_apex.remove(apex);
            } else {
                self.settle_claims(apex);
            }
        }
    }

    /// Decides which of the zones with one name are served: none where servers have it from outside, else the oldest
    /// where they have a server in common.
    fn settle_claims(&mut self, apex: &Name) {
        let Some(keys) = self.by_apex.get(apex) else { return };
        let mut zones: Vec<&ZoneState> = keys.iter().filter_map(|key| self.zones.get(key)).collect();
        zones.sort_by_key(|zone| (zone.spec.metadata.created, zone.spec.metadata.key.clone()));
        let mut winners: Vec<(NamespacedName, BTreeSet<NamespacedName>)> = Vec::new();
        let mut settled = Vec::new();
        for zone in zones {
            let key = zone.spec.metadata.key.clone();
            let carriers = self.fleet.carriers(&self.fleet.selected_by(&zone.spec));
            let bringer = self.fleet.bringer(apex, &carriers);
            let winner = || winners.iter().find(|(_, taken)| !taken.is_disjoint(&carriers));
            let claimant = bringer
                .map(|instance| Claimant::Instance(instance.clone()))
                .or_else(|| winner().map(|(key, _)| Claimant::Zone(key.clone())));
            if claimant.is_none() {
                winners.push((key.clone(), carriers));
            }
            settled.push((key, claimant));
        }
        for (key, claimant) in settled {
            if let Some(zone) = self.zones.get_mut(&key)
                && zone.claimed_by != claimant
            {
                zone.claimed_by = claimant;
                self.restless.extend(zone.members());
                self.reassigned.extend(zone.members());
                self.dirty.insert(key);
            }
        }
    }

    pub(super) fn apply_instance(&mut self, instance: &Instance) {
        let key = &instance.metadata.key;
        match self.fleet.insert(instance.clone()) {
            Some(before) if before == *instance => {}
            Some(before) if before.carries_as(instance) => {
                self.fleet_version += 1;
                self.adjusted.insert(key.clone());
            }
            _ => self.change_fleet(&key.namespace),
        }
    }

    /// Instances decide which zones of their namespace are served where, and the default name servers of these.
    pub(super) fn change_fleet(&mut self, namespace: &str) {
        self.changed_fleets.insert(namespace.to_owned());
        self.fleet_version += 1;
        let mut unsettled = BTreeSet::new();
        for (key, zone) in zones_in(&self.zones, namespace) {
            self.dirty.insert(key.clone());
            if let Ok(apex) = &zone.apex
                && (zone.claimed_by.is_some() || self.zones_named(apex).nth(1).is_some())
            {
                unsettled.insert(apex.clone());
            }
        }
        let instances = self.fleet.in_namespace(namespace);
        let outside = instances.flat_map(|instance| &instance.outside).flat_map(|one| &one.zones);
        unsettled.extend(outside.cloned());
        for apex in unsettled {
            self.settle_claims(&apex);
        }
    }

    pub(super) fn apply_config_map(&mut self, map: ConfigMap) {
        let key = map.metadata.key.clone();
        if self.config_maps.get(&key).is_none_or(|known| known.data != map.data) {
            self.config_maps.insert(key.clone(), map);
            self.read_files_from(&key);
        }
    }

    /// Reads the zone files of every zone that names this ConfigMap.
    pub(super) fn read_files_from(&mut self, map: &NamespacedName) {
        let naming = zones_in(&self.zones, &map.namespace)
            .filter(|(_, zone)| zone.spec.zone_files.iter().any(|file| file.config_map == map.name));
        for key in naming.map(|(key, _)| key.clone()).collect::<Vec<_>>() {
            self.read_files(&key);
            self.dirty.insert(key);
        }
    }

    fn read_files(&mut self, key: &NamespacedName) {
        let Some(zone) = self.zones.get_mut(key) else { return };
        let wanted: BTreeSet<ZoneFileRef> = zone.spec.zone_files.iter().cloned().collect();
        for file in &wanted {
            let map = self.config_maps.get(&NamespacedName::new(&*key.namespace, &*file.config_map));
            zone.read_file(file, map.and_then(|map| map.data.get(&file.key)).map(String::as_str));
        }
        // One that takes the place of another has to be there first.
        let is_there = |file: &ZoneFileRef| zone.files.get(file).is_some_and(|part| part.records.is_some());
        let all_there = wanted.iter().all(is_there);
        let unwanted = zone.files.keys().filter(|file| !wanted.contains(file));
        let dropped: Vec<ZoneFileRef> =
            unwanted.filter(|file| all_there || !is_there(file)).cloned().collect();
        for file in dropped {
            zone.drop_file(&file);
        }
    }
}
