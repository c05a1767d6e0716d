//! The API server: objects, what their statuses say, and the order in which watches tell of it. A write has its effect
//! under its precondition only, whenever it arrives.

use std::collections::BTreeMap;

use bindy_model::{LedgerEntry, LedgerKind, NamespacedName, Object, ObjectEvent, ObjectKey, Removal, Told};
use bindy_zone::Digest;

pub type Slot = (NamespacedName, LedgerKind);

/// What a watch tells.
#[derive(Clone, Debug)]
pub enum Event {
    Object(ObjectEvent),
    Entry(Slot, LedgerEntry),
}

/// A write on its way, with the precondition that it carries.
#[derive(Clone, Debug)]
pub enum Write {
    /// JSON patch that tests the serial.
    Swap { slot: Slot, expected: Option<bindy_zone::Serial>, next: LedgerEntry },
    /// JSON patch that tests when the object was made, its generation, and that the status is still as the sender saw it.
    Tell { key: ObjectKey, of: Of, seen: Told, status: Told },
}

/// Which state of an object a status is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Of {
    pub created: u32,
    pub generation: u32,
}

#[derive(Default)]
pub struct Api {
    pub objects: BTreeMap<ObjectKey, (Object, Told)>,
    pub ledger: BTreeMap<Slot, LedgerEntry>,
    pub log: Vec<Event>,
    /// Every entry that there ever was.
    pub named: BTreeMap<(Slot, u32), Digest>,
    /// Term of the last write that each entry and each status has.
    last_term: BTreeMap<(ObjectKey, &'static str), u64>,
    /// Number of writes by operators that had an effect.
    pub effects: usize,
}

fn of(object: &Object) -> Of {
    let metadata = match object {
        Object::Record(record) => &record.metadata,
        Object::Zone(zone) => &zone.metadata,
        Object::Instance(instance) => &instance.metadata,
        Object::ConfigMap(map) => &map.metadata,
    };
    Of { created: metadata.created, generation: metadata.generation }
}

impl Api {
    /// A person applies an object.
    pub fn apply(&mut self, mut object: Object) {
        let key = object.key();
        let before = self.objects.get(&key);
        let told = before.map_or(Told::default(), |(_, told)| Told { ready: false, ..*told });
        let next = before.map_or(1, |(object, _)| of(object).generation + 1);
        match &mut object {
            Object::Record(record) => {
                record.metadata.generation = next;
                // Another object gets another identity.
                record.metadata.created = self.created(&key);
            }
            Object::Zone(zone) => zone.metadata.generation = next,
            Object::Instance(_) | Object::ConfigMap(_) => {}
        }
        self.log.push(Event::Object(ObjectEvent::Applied(object.clone())));
        self.log.push(Event::Object(ObjectEvent::Told(key.clone(), told)));
        self.objects.insert(key, (object, told));
    }

    fn created(&self, key: &ObjectKey) -> u32 {
        match self.objects.get(key) {
            Some((Object::Record(record), _)) => record.metadata.created,
            _ => u32::try_from(self.log.len()).unwrap(),
        }
    }

    pub fn remove(&mut self, key: &ObjectKey) {
        if self.objects.remove(key).is_some() {
            self.log.push(Event::Object(ObjectEvent::Removed(key.clone(), Removal::Deleted)));
        }
    }

    pub fn of(&self, key: &ObjectKey) -> Option<Of> {
        self.objects.get(key).map(|(object, _)| of(object))
    }

    pub fn told(&self, key: &ObjectKey) -> Option<Told> {
        self.objects.get(key).map(|(_, told)| *told)
    }

    /// Carries a write out if its precondition holds.
    pub fn carry_out(&mut self, write: &Write, term: u64) -> bool {
        match write {
            Write::Swap { slot, expected, next } => self.swap(slot, *expected, next, term),
            Write::Tell { key, of, seen, status } => self.tell(key, *of, seen, *status, term),
        }
    }

    fn swap(
        &mut self,
        slot: &Slot,
        expected: Option<bindy_zone::Serial>,
        next: &LedgerEntry,
        term: u64,
    ) -> bool {
        let current = self.ledger.get(slot).copied();
        if current.map(|entry| entry.serial) != expected {
            return false;
        }
        assert!(current.is_none_or(|entry| next.serial.is_after(entry.serial)), "{slot:?} went back");
        let kind = match slot.1 {
            LedgerKind::Zone => bindy_model::Kind::Zone,
            LedgerKind::Catalog => bindy_model::Kind::Instance,
        };
        self.wrote(&ObjectKey { kind, key: slot.0.clone() }, term, "entry");
        self.ledger.insert(slot.clone(), *next);
        self.named.insert((slot.clone(), next.serial.get()), next.digest);
        self.log.push(Event::Entry(slot.clone(), *next));
        true
    }

    fn tell(&mut self, key: &ObjectKey, of: Of, seen: &Told, status: Told, term: u64) -> bool {
        let now = self.of(key);
        let Some((_, told)) = self.objects.get_mut(key) else { return false };
        if now != Some(of) || told.print != seen.print {
            return false;
        }
        let denied = told.ready && !status.ready && matches!(key.kind, bindy_model::Kind::Record(_));
        assert!(!denied, "{key} was told that it is served, and now that it is not");
        *told = status;
        self.log.push(Event::Object(ObjectEvent::Told(key.clone(), status)));
        self.wrote(key, term, "status");
        true
    }

    fn wrote(&mut self, key: &ObjectKey, term: u64, what: &'static str) {
        let last = self.last_term.insert((key.clone(), what), term).unwrap_or_default();
        assert!(last <= term, "{what} of {key} written by term {term}, although term {last} has written it");
        self.effects += 1;
    }
}
