//! From manifests to the objects of the world: what the API server would add is added here.
//!
//! An object gets its uid and creation time when it is first seen, and its generation rises with its specification;
//! all three are in the ledger before the object is used, so that they survive restarts.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use bindy_model::{Metadata, Object, ObjectEvent, Removal};
use ring::rand::SecureRandom;

use crate::ledger::{Identity, LedgerError, LocalLedger};
use crate::source::{Hash, Manifest, SourceEvent};

/// Identities of all objects, and how they change.
pub(crate) struct Objects {
    identities: BTreeMap<String, Identity>,
    changed: Vec<(String, Option<Identity>)>,
    /// Creation time of the objects that are first seen now: later than that of every older one, so that the older
    /// of two that conflict is always the one that was there first.
    now: u32,
}

impl Objects {
    /// Nothing was seen before.
    pub(crate) fn new() -> Self {
        Self { identities: BTreeMap::new(), changed: Vec::new(), now: unix_seconds() }
    }

    /// Goes on from what the ledger remembers.
    pub(crate) fn open(ledger: &LocalLedger) -> Result<Self, LedgerError> {
        let identities = ledger.identities()?;
        let last = identities.values().map(|identity| identity.created).max().unwrap_or(0);
        Ok(Self { identities, changed: Vec::new(), now: last })
    }

    /// What the events of the source mean for the world.
    pub(crate) fn convert(&mut self, events: Vec<SourceEvent>) -> Vec<ObjectEvent> {
        self.now = unix_seconds().max(self.now.saturating_add(1));
        events.into_iter().filter_map(|event| self.event(event)).collect()
    }

    /// Notes new identities in the ledger, as soon as that is possible.
    pub(crate) fn remember(&mut self, ledger: &LocalLedger) {
        if self.changed.is_empty() {
            return;
        }
        match ledger.remember(&self.changed) {
            Ok(()) => self.changed.clear(),
            Err(error) => tracing::error!(%error, "the identities of objects cannot be noted yet"),
        }
    }

    /// What one event means for the world.
    pub(crate) fn event(&mut self, event: SourceEvent) -> Option<ObjectEvent> {
        match event {
            SourceEvent::Applied(manifest) => Some(ObjectEvent::Applied(self.complete(&manifest))),
            SourceEvent::Deleted { key, how } => {
                // An object whose file vanished is the same one when the file comes back.
                if how == Removal::Deleted {
                    self.identities.remove(&key.to_string());
                    self.changed.push((key.to_string(), None));
                }
                Some(ObjectEvent::Removed(key, how))
            }
            SourceEvent::Unreadable { key, problem } => Some(ObjectEvent::Unreadable(key, problem.message)),
            // The engine is told when its servers are known, too.
            SourceEvent::Listed | SourceEvent::Moved { .. } | SourceEvent::Problems { .. } => None,
        }
    }

    /// The object with what the API server would have added.
    fn complete(&mut self, manifest: &Manifest) -> Object {
        let identity = self.identity(&manifest.key.to_string(), &manifest.spec);
        let mut object = Object::clone(&manifest.object);
        let metadata = metadata_mut(&mut object);
        metadata.uid = identity.uid;
        metadata.created = identity.created;
        metadata.generation = identity.generation;
        object
    }

    fn identity(&mut self, key: &str, spec: &Hash) -> Identity {
        let spec: String = spec.iter().take(16).map(|octet| format!("{octet:02x}")).collect();
        let known = self.identities.get(key);
        if let Some(known) = known.filter(|known| known.spec == spec) {
            return known.clone();
        }
        let identity = match known {
            Some(known) => Identity { generation: known.generation + 1, spec, ..known.clone() },
            None => Identity { uid: uid(), created: self.now, generation: 1, spec },
        };
        self.identities.insert(key.to_owned(), identity.clone());
        self.changed.push((key.to_owned(), Some(identity.clone())));
        identity
    }
}

fn metadata_mut(object: &mut Object) -> &mut Metadata {
    match object {
        Object::Instance(instance) => &mut instance.metadata,
        Object::Zone(zone) => &mut zone.metadata,
        Object::Record(record) => &mut record.metadata,
        Object::ConfigMap(map) => &mut map.metadata,
    }
}

/// A random UUID (RFC 9562 section 5.4).
fn uid() -> String {
    let mut octets = [0u8; 16];
    // A machine without randomness cannot have made the master secret either.
    let _filled = ring::rand::SystemRandom::new().fill(&mut octets);
    let [_, _, _, _, _, _, version, _, variant, ..] = &mut octets;
    *version = *version & 0x0f | 0x40;
    *variant = *variant & 0x3f | 0x80;
    let hex: String = octets.iter().map(|octet| format!("{octet:02x}")).collect();
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    format!("{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32))
}

fn unix_seconds() -> u32 {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    u32::try_from(seconds).unwrap_or(u32::MAX)
}
