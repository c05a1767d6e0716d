//! From manifests to the objects of the world: what the API server would add is added here.
//!
//! An object gets its uid and creation time when it is first seen, and its generation rises with its specification;
//! all three are in the ledger before the object is used, so that they survive restarts.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use bindy_api as api;
use bindy_model::{Kind, NamespacedName, ObjectEvent, ObjectKey, Removal, decode, decode_config_map};
use k8s_openapi::api::core::v1::ConfigMap;
use ring::rand::SecureRandom;
use serde_json::{Value, json};

use crate::ledger::{Identity, LedgerError, LocalLedger};
use crate::source::{self, Manifest, SourceEvent};

/// Identities of all objects, and how they change.
pub(crate) struct Objects {
    identities: BTreeMap<String, Identity>,
    changed: Vec<(String, Option<Identity>)>,
}

impl Objects {
    /// Nothing was seen before.
    pub(crate) fn new() -> Self {
        Self { identities: BTreeMap::new(), changed: Vec::new() }
    }

    /// Goes on from what the ledger remembers.
    pub(crate) fn open(ledger: &LocalLedger) -> Result<Self, LedgerError> {
        Ok(Self { identities: ledger.identities()?, changed: Vec::new() })
    }

    /// What the events of the source mean for the world; new identities are in the ledger when this returns.
    pub(crate) fn convert(
        &mut self,
        events: Vec<SourceEvent>,
        ledger: &LocalLedger,
    ) -> Result<Vec<ObjectEvent>, LedgerError> {
        let converted = events.into_iter().filter_map(|event| self.event(event)).collect();
        if !self.changed.is_empty() {
            ledger.remember(&std::mem::take(&mut self.changed))?;
        }
        Ok(converted)
    }

    /// What one event means for the world.
    pub(crate) fn event(&mut self, event: SourceEvent) -> Option<ObjectEvent> {
        match event {
            SourceEvent::Applied(manifest) => {
                let key = object_key(&manifest.key)?;
                Some(match self.decode(&manifest) {
                    Ok(object) => ObjectEvent::Applied(object),
                    Err(message) => ObjectEvent::Unreadable(key, message),
                })
            }
            SourceEvent::Deleted { key, how } => {
                let how = match how {
                    source::Removal::Edited => {
                        self.identities.remove(&key.to_string());
                        self.changed.push((key.to_string(), None));
                        Removal::Deleted
                    }
                    source::Removal::FileGone => Removal::Relisted,
                };
                Some(ObjectEvent::Removed(object_key(&key)?, how))
            }
            SourceEvent::Unreadable { key, problem } => {
                Some(ObjectEvent::Unreadable(object_key(&key)?, problem.message))
            }
            // The engine is told when its servers are known, too.
            SourceEvent::Listed | SourceEvent::Moved { .. } | SourceEvent::Problems { .. } => None,
        }
    }

    fn decode(&mut self, manifest: &Manifest) -> Result<bindy_model::Object, String> {
        let mut value: Value = serde_json::from_str(&manifest.json).map_err(|error| error.to_string())?;
        let identity = self.identity(&manifest.key.to_string(), &value);
        let created =
            jiff::Timestamp::from_second(identity.created.into()).map_err(|error| error.to_string())?;
        if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.insert("uid".to_owned(), json!(identity.uid));
            metadata.insert("generation".to_owned(), json!(identity.generation));
            metadata.insert("creationTimestamp".to_owned(), json!(created.to_string()));
        }
        if &*manifest.key.kind == "ConfigMap" {
            let map: ConfigMap = serde_json::from_value(value).map_err(|error| error.to_string())?;
            return decode_config_map(&map);
        }
        decode(&api::Object::decode(value).map_err(|error| error.to_string())?)
    }

    fn identity(&mut self, key: &str, value: &Value) -> Identity {
        let spec = hash(value.get("spec").or_else(|| value.get("data")).unwrap_or(&Value::Null));
        let known = self.identities.get(key);
        if let Some(known) = known.filter(|known| known.spec == spec) {
            return known.clone();
        }
        let identity = match known {
            Some(known) => Identity { generation: known.generation + 1, spec, ..known.clone() },
            None => Identity { uid: uid(), created: unix_seconds(), generation: 1, spec },
        };
        self.identities.insert(key.to_owned(), identity.clone());
        self.changed.push((key.to_owned(), Some(identity.clone())));
        identity
    }
}

/// The key of an object of a kind that the engine knows.
pub(crate) fn object_key(key: &source::Key) -> Option<ObjectKey> {
    let kind = match api::Kind::from_name(&key.kind) {
        Some(api::Kind::Bind9Instance) => Kind::Instance,
        Some(api::Kind::DNSZone) => Kind::Zone,
        Some(api::Kind::Record(kind)) => Kind::Record(kind),
        None if &*key.kind == "ConfigMap" => Kind::ConfigMap,
        None => return None,
    };
    Some(ObjectKey { kind, key: NamespacedName::new(&*key.namespace, &*key.name) })
}

fn hash(value: &Value) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, value.to_string().as_bytes());
    digest.as_ref().iter().take(16).map(|octet| format!("{octet:02x}")).collect()
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
