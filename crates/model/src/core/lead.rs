//! Leading and following: of several processes with the same objects one writes, and the others go along.
//!
//! ```text
//!   follow ──► entries of the ledger, statuses ──► what is wanted is served once the ledger names it
//!     ▲ │
//!     │ └ lead ──► every zone and catalog is looked at as after a restart: compared, fetched, held, written
//!     └────────── the term is over
//! ```

use bindy_zone::Name;

use super::latch::Latch;
use super::outbox::Outbox;
use super::zones::ZonePublication;
use super::{Core, LedgerKind, Output, Target};
use crate::object::{NamespacedName, ObjectKey};
use crate::publication::{LedgerEntry, Now, Writer};

impl Core {
    /// Somebody else leads from now on, tells objects, and proves what is served: what their statuses say counts.
    pub(super) fn follow(&mut self) {
        self.world.set_writer(Writer::Other);
        self.outbox = None;
        self.proving.clear();
        self.catching_up.forget();
        // What was proven here is in the statuses, or will be written again by whoever leads now.
        for zone in self.zones.values_mut() {
            zone.latch = Latch::of(None);
            zone.publication.follow();
        }
        self.catalogs.values_mut().for_each(|catalog| catalog.publication.follow());
    }

    /// Somebody has written what a zone or catalog is published with: this process itself, as long as it leads.
    pub(super) fn take_entry(
        &mut self,
        (key, kind): (NamespacedName, LedgerKind),
        entry: Option<LedgerEntry>,
        now: Now,
        outputs: &mut Vec<Output>,
    ) {
        if !self.world.is_following() {
            let Some(entry) = entry else { return };
            return self.overhear(key, kind, entry, now, outputs);
        }
        let place = (key.clone(), kind);
        match entry {
            Some(entry) => drop(self.ledger.insert(place.clone(), entry)),
            None => drop(self.ledger.remove(&place)),
        }
        self.ahead.insert(place);
        let Some(target) = self.target(key, kind) else { return };
        self.with_publication(&target, |one| one.named(entry, now), now, outputs);
    }

    fn overhear(
        &mut self,
        key: NamespacedName,
        kind: LedgerKind,
        entry: LedgerEntry,
        now: Now,
        outputs: &mut Vec<Output>,
    ) {
        let target = self.target(key.clone(), kind).filter(|target| self.publication(target).is_some());
        let Some(target) = target else {
            // Its object is heard of next, and finds what it was published with.
            self.ledger.insert((key, kind), entry);
            return;
        };
        let unpublished = match &target {
            Target::Zone(key, apex) => self
                .zones
                .get(&(key.clone(), apex.clone()))
                .filter(|zone| !zone.is_published())
                .map(|_| (key.clone(), apex.clone())),
            Target::Catalog(_) | Target::Orphan(_) => None,
        };
        self.with_publication(&target, |one| one.overheard(entry, now), now, outputs);
        // Servers may have it already, and a catalog name it.
        if let Some((key, apex)) = unpublished {
            self.enroll(&apex, &key, now, outputs);
        }
    }

    /// What has this entry of the ledger now.
    fn target(&self, key: NamespacedName, kind: LedgerKind) -> Option<Target> {
        Some(match kind {
            LedgerKind::Zone => {
                let apex = self.current.get(&key)?.clone();
                Target::Zone(key, apex)
            }
            LedgerKind::Catalog => Target::Catalog(key),
        })
    }

    /// This is the leader from now on, which goes on where the statuses say the one before has come to.
    pub(super) fn lead(&mut self, now: Now, outputs: &mut Vec<Output>) {
        if !self.world.is_following() {
            return;
        }
        self.world.set_writer(Writer::This);
        self.ahead.clear();
        self.outbox = self.tells.then(Outbox::default);
        let records = self.world.record_ids();
        for id in &records {
            self.mark_verdict(*id, now);
        }
        let unproven = self.unproven(records);
        let zones: Vec<(NamespacedName, Name)> = self.zones.keys().cloned().collect();
        for (key, apex) in zones {
            let generation = self.world.zone(&key).map_or(0, |zone| zone.metadata.generation);
            let proven = self.ready_before.remove(&key).then_some(generation);
            if let Some(zone) = self.zones.get_mut(&(key.clone(), apex.clone())) {
                zone.latch = Latch::of(proven);
                zone.publication.lead();
            }
            // One whose version is only named yet is in the catalogs as well.
            if self.zones.get(&(key.clone(), apex.clone())).is_some_and(ZonePublication::is_published) {
                self.enroll(&apex, &key, now, outputs);
            }
            self.gather(&key, &apex, unproven.get(&key).map_or(&[], Vec::as_slice), now);
            self.advance_latch(&Target::Zone(key, apex), None, now);
        }
        for catalog in self.catalogs.values_mut() {
            catalog.publication.lead();
            catalog.changed = true;
        }
        let unreadable: Vec<ObjectKey> =
            self.world.unreadable_objects().map(|(object, _)| object.clone()).collect();
        for object in unreadable {
            self.mark_object(&object, now.monotonic);
        }
        // What could not be done by a follower is done now: written, fetched, held.
        self.world.mark_all_dirty();
        self.mark_instances(now);
    }
}
