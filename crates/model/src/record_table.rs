//! A million record objects in memory: each once, without a copy of its key anywhere.
//!
//! Namespaces, zone references and label sets are interned; the tables by object key and by owner name hold only
//! the number of a record and look into it when they compare.

use std::hash::{BuildHasher, RandomState};

use bindy_api::RecordKind;
use hashbrown::HashTable;

use crate::object::{Labels, NamespacedName, Record};
use crate::record_data::RecordData;
use crate::symbol::{Interner, Symbol};

/// Number of a record within its table; used again after the record is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId(u32);

/// A record object as the table keeps it.
pub(crate) struct Stored {
    namespace: Symbol<str>,
    zone_ref: Option<Symbol<str>>,
    labels: Symbol<Labels>,
    /// metadata.name.
    pub(crate) object: Box<str>,
    /// Owner name as it was written.
    pub(crate) owner: Box<str>,
    /// Data.
    pub(crate) data: RecordData,
    /// Wished TTL.
    pub(crate) ttl: Option<u32>,
    /// creationTimestamp.
    pub(crate) created: u32,
    /// metadata.generation.
    pub(crate) generation: u32,
    /// Tells this content apart from every other one that had or will have the same number.
    pub(crate) stamp: u32,
    /// Print of what the object's status says; see [`crate::Told`].
    pub(crate) told: u32,
    /// Every server that had to was seen to serve it in this generation.
    pub(crate) proven: bool,
}

impl Stored {
    /// Whether `record` is what is stored.
    fn is_of(&self, record: &Record, table: &RecordTable) -> bool {
        let Record { metadata, zone_ref, name, ttl, data } = record;
        self.generation == metadata.generation
            && self.created == metadata.created
            && self.ttl == *ttl
            && *self.owner == **name
            && self.data == *data
            && table.zone_ref(self) == zone_ref.as_deref()
            && table.labels(self) == Some(&metadata.labels)
    }
}

/// All record objects.
#[derive(Default)]
pub(crate) struct RecordTable {
    /// In blocks, so that growing never copies what is there.
    blocks: Vec<Vec<Option<Stored>>>,
    free: Vec<u32>,
    by_key: HashTable<u32>,
    hasher: RandomState,
    names: Interner<str>,
    label_sets: Interner<Labels>,
    stamps: u32,
}

const BLOCK: usize = 4096;

impl RecordTable {
    /// The record with this number.
    pub(crate) fn get(&self, id: RecordId) -> Option<&Stored> {
        let index = id.0 as usize;
        self.blocks.get(index / BLOCK)?.get(index % BLOCK)?.as_ref()
    }

    /// What is kept about the record with this number, to be changed.
    pub(crate) fn get_mut(&mut self, id: RecordId) -> Option<&mut Stored> {
        let index = id.0 as usize;
        self.blocks.get_mut(index / BLOCK)?.get_mut(index % BLOCK)?.as_mut()
    }

    /// Whether the object is known exactly as it is in `record`.
    pub(crate) fn has(&self, record: &Record) -> bool {
        let known = self.find(record.data.kind(), &record.metadata.key).and_then(|id| self.get(id));
        known.is_some_and(|stored| stored.is_of(record, self))
    }

    /// The number of the record with this key.
    pub(crate) fn find(&self, kind: RecordKind, key: &NamespacedName) -> Option<RecordId> {
        let namespace = self.names.find(key.namespace.as_str())?;
        let hash = self.hash(kind, namespace, &key.name);
        self.by_key.find(hash, |&id| self.is(id, kind, namespace, &key.name)).map(|&id| RecordId(id))
    }

    /// Puts a record in; its key must not be there.
    pub(crate) fn insert(&mut self, record: Record) -> RecordId {
        let namespace = self.names.intern(record.metadata.key.namespace.as_str());
        let kind = record.data.kind();
        let hash = self.hash(kind, namespace, &record.metadata.key.name);
        self.stamps = self.stamps.wrapping_add(1);
        let stored = Stored {
            namespace,
            zone_ref: record.zone_ref.map(|zone| self.names.intern(zone.as_str())),
            labels: self.label_sets.intern_owned(record.metadata.labels),
            object: record.metadata.key.name.into(),
            owner: record.name.into(),
            data: record.data,
            ttl: record.ttl,
            created: record.metadata.created,
            generation: record.metadata.generation,
            stamp: self.stamps,
            told: 0,
            proven: false,
        };
        let id = self.place(stored);
        let (blocks, hasher) = (&self.blocks, &self.hasher);
        self.by_key.insert_unique(hash, id, |&other| {
            let stored =
                blocks.get(other as usize / BLOCK).and_then(|block| block.get(other as usize % BLOCK));
            match stored {
                Some(Some(stored)) => {
                    hasher.hash_one((stored.data.kind(), stored.namespace, &*stored.object))
                }
                _ => 0,
            }
        });
        RecordId(id)
    }

    fn place(&mut self, stored: Stored) -> u32 {
        if let Some(id) = self.free.pop()
            && let Some(slot) =
                self.blocks.get_mut(id as usize / BLOCK).and_then(|block| block.get_mut(id as usize % BLOCK))
        {
            *slot = Some(stored);
            return id;
        }
        if self.blocks.last().is_none_or(|block| block.len() == BLOCK) {
            self.blocks.push(Vec::with_capacity(BLOCK));
        }
        let full = (self.blocks.len() - 1) * BLOCK;
        let Some(block) = self.blocks.last_mut() else { return 0 };
        block.push(Some(stored));
        u32::try_from(full + block.len() - 1).unwrap_or(u32::MAX)
    }

    /// Takes a record out.
    pub(crate) fn remove(&mut self, id: RecordId) {
        let Some(stored) = self.get(id) else { return };
        let hash = self.hash(stored.data.kind(), stored.namespace, &stored.object);
        if let Ok(entry) = self.by_key.find_entry(hash, |&other| other == id.0) {
            entry.remove();
        }
        let block = self.blocks.get_mut(id.0 as usize / BLOCK);
        let Some(stored) = block.and_then(|block| block.get_mut(id.0 as usize % BLOCK)?.take()) else {
            return;
        };
        self.free.push(id.0);
        self.names.release(stored.namespace);
        if let Some(zone) = stored.zone_ref {
            self.names.release(zone);
        }
        self.label_sets.release(stored.labels);
    }

    /// Every record.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (RecordId, &Stored)> {
        self.blocks.iter().flatten().zip(0u32..).filter_map(|(slot, id)| Some((RecordId(id), slot.as_ref()?)))
    }

    /// Every record of a namespace.
    pub(crate) fn in_namespace(&self, namespace: &str) -> impl Iterator<Item = (RecordId, &Stored)> {
        let namespace = self.names.find(namespace);
        let all =
            namespace.map(|namespace| self.iter().filter(move |(_, stored)| stored.namespace == namespace));
        all.into_iter().flatten()
    }

    /// Number of records.
    pub(crate) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Namespace of a record.
    pub(crate) fn namespace(&self, stored: &Stored) -> &str {
        self.names.get(stored.namespace).unwrap_or_default()
    }

    /// Name of the DNSZone that a record refers to.
    pub(crate) fn zone_ref(&self, stored: &Stored) -> Option<&str> {
        stored.zone_ref.and_then(|zone| self.names.get(zone))
    }

    /// Labels of a record.
    pub(crate) fn labels(&self, stored: &Stored) -> Option<&Labels> {
        self.label_sets.get(stored.labels)
    }

    /// The object's key.
    pub(crate) fn key(&self, stored: &Stored) -> NamespacedName {
        NamespacedName::new(self.namespace(stored), &*stored.object)
    }

    fn hash(&self, kind: RecordKind, namespace: Symbol<str>, object: &str) -> u64 {
        self.hasher.hash_one((kind, namespace, object))
    }

    fn is(&self, id: u32, kind: RecordKind, namespace: Symbol<str>, object: &str) -> bool {
        self.get(RecordId(id)).is_some_and(|stored| {
            stored.namespace == namespace && *stored.object == *object && stored.data.kind() == kind
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::Metadata;

    /// A record of its own namespace, for a zone of its own, with a label of its own.
    fn record(n: usize) -> Record {
        let metadata = Metadata {
            key: NamespacedName::new(format!("namespace-{n}"), "record"),
            uid: String::new(),
            created: 0,
            generation: 1,
            labels: [("order".to_owned(), n.to_string())].into(),
            release: None,
        };
        Record {
            metadata,
            zone_ref: Some(format!("zone-{n}")),
            name: "www".to_owned(),
            ttl: None,
            data: RecordData::pack(RecordKind::Txt, &[Vec::new()]),
        }
    }

    #[test]
    fn what_records_were_labelled_with_is_not_kept_longer_than_they_are() {
        let mut table = RecordTable::default();
        let steady = table.insert(record(0));
        for n in 1..1_000 {
            let id = table.insert(record(n));
            assert_eq!(
                table.get(id).and_then(|stored| table.labels(stored)),
                Some(&record(n).metadata.labels)
            );
            table.remove(id);
        }
        assert_eq!((table.label_sets.len(), table.names.len()), (1, 2));
        assert!(
            table.has(&record(0)) && table.find(RecordKind::Txt, &record(0).metadata.key) == Some(steady)
        );
        assert!(!table.has(&record(1)));
    }
}
