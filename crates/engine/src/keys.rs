//! The keys of instances, all from the master secret: what the hidden primary knows them by, what servers sign with.

use std::collections::BTreeMap;

use bindy_model::named_conf::{
    DownstreamSettings, Text, TextError, downstream_config, downstream_options, key_statement,
};
use bindy_model::workload::{Handout, KeyFile};
use bindy_model::{Fleet, Instance, Link, LinkKey, NamespacedName};
use bindy_wire::{Key, KeyError, MasterKeys};
use bindy_zone::{Catalog, Name, NameError};

/// Why nothing can be handed out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandoutError {
    /// There is no key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// There is no catalog.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A text cannot be written into named's configuration.
    #[error(transparent)]
    Text(#[from] TextError),
}

/// The keys of one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceKeys {
    /// Its own; more than one while the master secret is being replaced.
    pub own: Vec<Key>,
    /// The one of them that it signs with.
    pub signing: Key,
    /// Those that it has at its upstreams.
    pub upstream: Vec<Key>,
    /// Its links, and the name of the key that each uses.
    pub links: Vec<(Link, Name)>,
}

impl InstanceKeys {
    /// The keys of the instance `key`, for what the fleet says it is connected to.
    pub fn new(key: &NamespacedName, fleet: &Fleet, master: &MasterKeys) -> Result<Self, KeyError> {
        let own = master.given(&key.namespace, &key.name)?;
        let signing = signing_key(master, key)?;
        let (mut upstream, mut links) = (Vec::new(), Vec::new());
        for link in fleet.links(key) {
            let signs = match &link.key {
                LinkKey::Own => signing.name().clone(),
                LinkKey::AtUpstream(other) => {
                    for given in master.given(&other.namespace, &other.name)? {
                        upstream.push(given.derive(&key.namespace, &key.name)?);
                    }
                    signing_key(master, other)?.derive(&key.namespace, &key.name)?.name().clone()
                }
                LinkKey::OfDownstream(other) => signing.derive(&other.namespace, &other.name)?.name().clone(),
                LinkKey::Foreign(name) => name.clone(),
            };
            links.push((link, signs));
        }
        Ok(Self { own, signing, upstream, links })
    }

    /// The file with the keys that the servers have to be given.
    pub fn file(&self, master: &MasterKeys) -> KeyFile {
        let text: String = self.stored().map(Key::to_file).collect();
        KeyFile { fingerprint: master.fingerprint(text.as_bytes()), text, mark: master.mark() }
    }

    /// What is handed out to the downstreams outside of Bindy.
    pub fn handouts(&self, instance: &Instance, master: &MasterKeys) -> Result<Vec<Handout>, HandoutError> {
        let NamespacedName { namespace, name } = &instance.metadata.key;
        let catalog = Catalog::name(namespace, name)?;
        let handout = |downstream: &String| {
            let key = self.signing.derive_outside(downstream)?;
            let settings =
                DownstreamSettings { namespace, instance: name, catalog: &catalog, key: key.name() };
            let statement = key_statement(key.name(), &Text::new(key.secret_base64())?);
            let files = BTreeMap::from([
                ("key".to_owned(), statement),
                ("named.conf".to_owned(), downstream_config(&settings, &Text::new(key.secret_base64())?)?),
                ("options.conf".to_owned(), downstream_options(&settings)?),
            ]);
            let all: String = files.values().map(String::as_str).collect();
            let fingerprint = master.signing_fingerprint(all.as_bytes());
            Ok(Handout { downstream: downstream.clone(), files, fingerprint })
        };
        instance.downstreams.iter().map(handout).collect()
    }

    /// The keys that have to be given to the servers; they derive the others.
    pub fn stored(&self) -> impl Iterator<Item = &Key> {
        self.own.iter().chain(&self.upstream)
    }
}

/// The key that the servers of an instance are asked and notified with.
pub fn signing_key(master: &MasterKeys, instance: &NamespacedName) -> Result<Key, KeyError> {
    master.signing(&instance.namespace, &instance.name)
}

/// The keys of all instances, by which the hidden primary knows them.
pub fn keys(fleet: &Fleet, master: &MasterKeys) -> BTreeMap<NamespacedName, Vec<Key>> {
    let instances = fleet.iter().map(|instance| &instance.metadata.key);
    instances.filter_map(|key| Some((key.clone(), master.known(&key.namespace, &key.name).ok()?))).collect()
}
