//! The keys of instances, all from the master secret: what the hidden primary knows them by, what servers sign with.

use std::collections::BTreeMap;

use bindy_model::workload::KeyFile;
use bindy_model::{Fleet, Link, LinkKey, NamespacedName};
use bindy_wire::{Generation, Key, KeyError, MasterSecret};

/// The keys of one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceKeys {
    /// Its own.
    pub own: Key,
    /// Those that it has at its upstreams.
    pub upstream: Vec<Key>,
    /// Its links, and the key that each uses.
    pub links: Vec<(Link, Key)>,
}

impl InstanceKeys {
    /// The keys of the instance `key`, for what the fleet says it is connected to.
    pub fn new(key: &NamespacedName, fleet: &Fleet, secret: &MasterSecret) -> Result<Self, KeyError> {
        let own = instance_key(secret, key)?;
        let (mut upstream, mut links) = (Vec::new(), Vec::new());
        for link in fleet.links(key) {
            let signs = match &link.key {
                LinkKey::Own => own.clone(),
                LinkKey::AtUpstream(other) => {
                    let derived = instance_key(secret, other)?.derive(&key.namespace, &key.name)?;
                    upstream.push(derived.clone());
                    derived
                }
                LinkKey::OfDownstream(other) => own.derive(&other.namespace, &other.name)?,
            };
            links.push((link, signs));
        }
        Ok(Self { own, upstream, links })
    }

    /// The file with the keys that the servers have to be given.
    pub fn file(&self, secret: &MasterSecret) -> KeyFile {
        let text: String = self.stored().map(Key::to_file).collect();
        KeyFile { fingerprint: secret.fingerprint(text.as_bytes()), text }
    }

    /// The keys that have to be given to the servers; they derive the others.
    pub fn stored(&self) -> impl Iterator<Item = &Key> {
        std::iter::once(&self.own).chain(&self.upstream)
    }
}

/// The key of an instance.
pub fn instance_key(secret: &MasterSecret, key: &NamespacedName) -> Result<Key, KeyError> {
    secret.instance_key(&key.namespace, &key.name, Generation::A)
}

/// The keys of all instances, by which the hidden primary knows them.
pub fn keys(fleet: &Fleet, secret: &MasterSecret) -> BTreeMap<NamespacedName, Vec<Key>> {
    let instances = fleet.iter().map(|instance| &instance.metadata.key);
    instances.filter_map(|key| Some((key.clone(), vec![instance_key(secret, key).ok()?]))).collect()
}
