//! Which instances there are, which pulls from which, and which zones each has to carry.
//!
//! ```text
//!   hidden primary ──► primaries ──► secondaries ──► their secondaries …      (upstream ──► downstream)
//! ```
//! An instance carries its own zones and those of everything downstream of it. It has the catalogs of everything up and
//! down the stream as well, so that whatever loses its own gets it back from a neighbour.

use std::collections::{BTreeMap, BTreeSet};

use bindy_zone::Name;

use crate::object::{Instance, NamespacedName, Role, Zone};

/// Why an instance does not pull from where it says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FleetProblem {
    /// An upstream does not exist.
    #[error(
        "spec.upstreams: Bind9Instance {0} does not exist in this namespace: create it, or remove the reference"
    )]
    UpstreamMissing(String),
    /// The upstreams form a circle.
    #[error("spec.upstreams: {} form a circle: an instance cannot pull from its own downstream", .0.join(" → "))]
    Loop(Vec<String>),
    /// A primary that has upstreams all the same.
    #[error(
        "spec.upstreams: a primary pulls from Bindy itself and takes no upstreams: remove them, or set role to secondary"
    )]
    PrimaryWithUpstreams,
    /// A secondary without any primary.
    #[error(
        "there is no Bind9Instance with role primary in namespace {0} to pull from: create one, or name spec.upstreams"
    )]
    NoPrimary(String),
    /// The object cannot be read.
    #[error("the object cannot be read, so the instance stays as it was: {0}")]
    Unreadable(String),
}

/// All instances by key.
#[derive(Clone, Debug, Default)]
pub struct Fleet {
    instances: BTreeMap<NamespacedName, Instance>,
}

impl Fleet {
    pub(crate) fn insert(&mut self, instance: Instance) -> Option<Instance> {
        self.instances.insert(instance.metadata.key.clone(), instance)
    }

    pub(crate) fn remove(&mut self, key: &NamespacedName) -> Option<Instance> {
        self.instances.remove(key)
    }

    /// The instance with this key.
    pub fn get(&self, key: &NamespacedName) -> Option<&Instance> {
        self.instances.get(key)
    }

    /// Every instance.
    pub fn iter(&self) -> impl Iterator<Item = &Instance> {
        self.instances.values()
    }

    /// The instances that `key` pulls from; empty for the first tier, which pulls from the hidden primary. An
    /// upstream that closes a circle or does not exist is left out; [`Fleet::problem`] says so.
    pub fn upstreams(&self, key: &NamespacedName) -> Vec<NamespacedName> {
        self.wished_upstreams(key).into_iter().filter(|upstream| !self.pulls_from(upstream, key)).collect()
    }

    fn wished_upstreams(&self, key: &NamespacedName) -> Vec<NamespacedName> {
        let Some(instance) = self.instances.get(key) else { return Vec::new() };
        let named = |name: &String| NamespacedName::new(&*key.namespace, name);
        if !instance.upstreams.is_empty() || !instance.outside.is_empty() {
            let wished = instance.upstreams.iter().map(named);
            return wished.filter(|upstream| self.instances.contains_key(upstream)).collect();
        }
        match instance.role {
            Role::Primary => Vec::new(),
            Role::Secondary => self
                .in_namespace(&key.namespace)
                .filter(|other| other.role == Role::Primary)
                .map(|other| other.metadata.key.clone())
                .collect(),
        }
    }

    /// Whether `from` is, or pulls directly or indirectly from, `upstream`.
    fn pulls_from(&self, from: &NamespacedName, upstream: &NamespacedName) -> bool {
        self.path(from, upstream).is_some()
    }

    fn path(&self, from: &NamespacedName, to: &NamespacedName) -> Option<Vec<NamespacedName>> {
        let mut stack = vec![vec![from.clone()]];
        let mut seen = BTreeSet::new();
        while let Some(path) = stack.pop() {
            let Some(last) = path.last() else { continue };
            if last == to {
                return Some(path);
            }
            if seen.insert(last.clone()) {
                for next in self.wished_upstreams(last) {
                    stack.push(path.iter().cloned().chain([next]).collect());
                }
            }
        }
        None
    }

    /// What is wrong with the upstreams of an instance.
    pub fn problem(&self, key: &NamespacedName) -> Option<FleetProblem> {
        let instance = self.instances.get(key)?;
        let exists =
            |name: &&String| self.instances.contains_key(&NamespacedName::new(&*key.namespace, *name));
        if let Some(missing) = instance.upstreams.iter().find(|name| !exists(name)) {
            return Some(FleetProblem::UpstreamMissing(missing.clone()));
        }
        let wished = self.wished_upstreams(key);
        if let Some(path) = wished.iter().find_map(|upstream| self.path(upstream, key)) {
            let names = [key].into_iter().chain(&path).map(|key| key.name.clone());
            return Some(FleetProblem::Loop(names.collect()));
        }
        match instance.role {
            // The schema sees no role that comes from the label, or from nothing.
            Role::Primary if !instance.upstreams.is_empty() || !instance.outside.is_empty() => {
                Some(FleetProblem::PrimaryWithUpstreams)
            }
            Role::Secondary if wished.is_empty() && instance.outside.is_empty() => {
                Some(FleetProblem::NoPrimary(key.namespace.clone()))
            }
            _ => None,
        }
    }

    /// The zones that the servers of `key` have from outside of Bindy, by themselves or by an upstream.
    pub fn zones_from_outside(&self, key: &NamespacedName) -> BTreeSet<&Name> {
        let sources = self.carriers(std::slice::from_ref(key));
        let instances = sources.iter().filter_map(|source| self.instances.get(source));
        instances.flat_map(|instance| &instance.outside).flat_map(|upstream| &upstream.zones).collect()
    }

    /// An instance that pulls `zone` from outside of Bindy, if its servers or those below it have one of `instances` for a
    /// source or are among them: these could give them another zone of that name.
    pub fn bringer(&self, zone: &Name, instances: &BTreeSet<NamespacedName>) -> Option<&NamespacedName> {
        let brings = |instance: &&Instance| instance.outside.iter().any(|one| one.zones.contains(zone));
        let mut bringers = self.instances.values().filter(brings).map(|instance| &instance.metadata.key);
        bringers.find(|bringer| {
            let mut stream = self.instances.keys().map(|key| self.carriers(std::slice::from_ref(key)));
            stream.any(|carriers| carriers.contains(bringer) && !carriers.is_disjoint(instances))
        })
    }

    /// Every instance that pulls directly or indirectly from `key`; itself not included.
    pub fn downstreams(&self, key: &NamespacedName) -> Vec<NamespacedName> {
        let others = self.instances.keys().filter(|other| *other != key);
        others.filter(|other| self.pulls_from(other, key) && !self.pulls_from(key, other)).cloned().collect()
    }

    /// The instances that a zone selects, whether or not it is accepted.
    pub fn selected_by(&self, zone: &Zone) -> Vec<NamespacedName> {
        self.in_namespace(&zone.metadata.key.namespace)
            .filter(|instance| match &zone.instances_from {
                None => true,
                Some(selectors) => {
                    selectors.iter().any(|selector| selector.matches(&instance.metadata.labels))
                }
            })
            .map(|instance| instance.metadata.key.clone())
            .collect()
    }

    /// `selected` and everything upstream of it: the instances that have to have a zone.
    pub fn carriers(&self, selected: &[NamespacedName]) -> BTreeSet<NamespacedName> {
        let mut carriers = BTreeSet::new();
        let mut stack = selected.to_vec();
        while let Some(key) = stack.pop() {
            if carriers.insert(key.clone()) {
                stack.extend(self.upstreams(&key));
            }
        }
        carriers
    }

    /// The instances whose servers have the catalog of `key`, which are also those whose catalogs its servers have:
    /// itself, and everything that it pulls from or that pulls from it, directly or indirectly.
    pub fn catalog_holders(&self, key: &NamespacedName) -> BTreeSet<NamespacedName> {
        let mut holders = self.carriers(std::slice::from_ref(key));
        let below = |other: &&NamespacedName| self.carriers(std::slice::from_ref(*other)).contains(key);
        holders.extend(self.instances.keys().filter(below).cloned());
        holders
    }

    /// The instances of a namespace.
    pub(crate) fn in_namespace(&self, namespace: &str) -> impl Iterator<Item = &Instance> {
        let first = NamespacedName::new(namespace, "");
        self.instances
            .range(first..)
            .map(|(_, instance)| instance)
            .take_while(move |instance| instance.metadata.key.namespace == namespace)
    }
}
