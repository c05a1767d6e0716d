//! The keys of instances, all from the master secret: what the hidden primary knows them by, what servers sign with.

use std::collections::BTreeMap;

use bindy_model::named_conf::{
    DownstreamSettings, Text, TextError, downstream_config, downstream_options, key_statement,
};
use bindy_model::workload::{Handout, KeyFile};
use bindy_model::{Fleet, Instance, Link, LinkKey, NamespacedName};
use bindy_wire::{Generation, Key, KeyError, MasterSecret};
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
    /// Its own.
    pub own: Key,
    /// Those that it has at its upstreams.
    pub upstream: Vec<Key>,
    /// Its links, and the name of the key that each uses.
    pub links: Vec<(Link, Name)>,
}

impl InstanceKeys {
    /// The keys of the instance `key`, for what the fleet says it is connected to.
    pub fn new(key: &NamespacedName, fleet: &Fleet, secret: &MasterSecret) -> Result<Self, KeyError> {
        let own = instance_key(secret, key)?;
        let (mut upstream, mut links) = (Vec::new(), Vec::new());
        for link in fleet.links(key) {
            let signs = match &link.key {
                LinkKey::Own => own.name().clone(),
                LinkKey::AtUpstream(other) => {
                    let derived = instance_key(secret, other)?.derive(&key.namespace, &key.name)?;
                    let name = derived.name().clone();
                    upstream.push(derived);
                    name
                }
                LinkKey::OfDownstream(other) => own.derive(&other.namespace, &other.name)?.name().clone(),
                LinkKey::Foreign(name) => name.clone(),
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

    /// What is handed out to the downstreams outside of Bindy.
    pub fn handouts(&self, instance: &Instance, secret: &MasterSecret) -> Result<Vec<Handout>, HandoutError> {
        let NamespacedName { namespace, name } = &instance.metadata.key;
        let catalog = Catalog::name(namespace, name)?;
        let handout = |downstream: &String| {
            let key = self.own.derive_outside(downstream)?;
            let settings =
                DownstreamSettings { namespace, instance: name, catalog: &catalog, key: key.name() };
            let statement = key_statement(key.name(), &Text::new(key.secret_base64())?);
            let files = BTreeMap::from([
                ("key".to_owned(), statement),
                ("named.conf".to_owned(), downstream_config(&settings, &Text::new(key.secret_base64())?)?),
                ("options.conf".to_owned(), downstream_options(&settings)?),
            ]);
            let all: String = files.values().map(String::as_str).collect();
            let fingerprint = secret.fingerprint(all.as_bytes());
            Ok(Handout { downstream: downstream.clone(), files, fingerprint })
        };
        instance.downstreams.iter().map(handout).collect()
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
