//! The published versions, and who may have them: what the hidden primary answers from.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::Future;
use std::sync::{Arc, PoisonError, RwLock};

use bindy_model::{NamespacedName, Target};
use bindy_wire::{Key, KeyRing, Opcode, Reply, Request, Service};
use bindy_zone::{History, Name, Version};

/// Differences of a zone are kept up to this size in memory, for IXFR.
const HISTORY_OCTETS: usize = 16 << 20;

/// Published versions by what they belong to. Cloning gives another handle to the same store.
#[derive(Clone, Default)]
pub struct Store(Arc<RwLock<Inner>>);

#[derive(Default)]
struct Inner {
    histories: HashMap<Target, Arc<History>>,
    /// What each instance may have, by zone name.
    granted: HashMap<NamespacedName, HashMap<Name, Target>>,
    grants: HashMap<Target, (Name, BTreeSet<NamespacedName>)>,
    keys: HashMap<Name, (Key, NamespacedName)>,
}

impl Store {
    /// Replaces the keys by which instances are known.
    pub fn set_keys(&self, keys: &BTreeMap<NamespacedName, Vec<Key>>) {
        let by_name = keys.iter().flat_map(|(instance, keys)| {
            keys.iter().map(|key| (key.name().clone(), (key.clone(), instance.clone())))
        });
        self.write(|inner| inner.keys = by_name.collect());
    }

    /// The history of a target.
    pub fn history(&self, target: &Target) -> Option<Arc<History>> {
        self.read(|inner| inner.histories.get(target).cloned())
    }

    /// Makes `version` the current one of its target. Whoever asks meanwhile waits for none of the work that this is.
    pub fn publish(&self, target: Target, version: Version) {
        let next = match self.history(&target) {
            Some(history) if version.serial.is_after(history.current().serial) => {
                let mut history = Arc::unwrap_or_clone(history);
                history.push(version);
                Arc::new(history)
            }
            Some(history) if history.current().serial == version.serial => history,
            _ => Arc::new(History::new(version, HISTORY_OCTETS)),
        };
        drop(self.write(|inner| inner.histories.insert(target, next)));
    }

    /// Lets exactly these instances have a target. One without a version takes the place of none that has one.
    pub fn grant(&self, target: &Target, name: &Name, instances: BTreeSet<NamespacedName>) {
        self.write(|inner| {
            inner.revoke(target);
            let has_version = inner.histories.contains_key(target);
            for instance in &instances {
                let granted = inner.granted.entry(instance.clone()).or_default();
                let taken = granted.get(name).is_some_and(|other| inner.histories.contains_key(other));
                if has_version || !taken {
                    granted.insert(name.clone(), target.clone());
                }
            }
            inner.grants.insert(target.clone(), (name.clone(), instances));
        });
    }

    /// Forgets a target.
    pub fn retire(&self, target: &Target) {
        let gone = self.write(|inner| {
            inner.revoke(target);
            inner.histories.remove(target)
        });
        drop(gone);
    }

    fn reply(&self, key: &Name, zone: &Name) -> Reply {
        self.read(|inner| {
            let instance = inner.keys.get(key).map(|(_, instance)| instance);
            let granted = instance.and_then(|instance| inner.granted.get(instance)?.get(zone));
            match granted.map(|target| inner.histories.get(target)) {
                Some(Some(history)) => Reply::Zone(Arc::clone(history)),
                // It exists: its version is being found, or another process has it.
                Some(None) => Reply::ServFail,
                None => Reply::Refused,
            }
        })
    }

    fn read<T>(&self, look: impl FnOnce(&Inner) -> T) -> T {
        look(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        change(&mut self.0.write().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Inner {
    fn revoke(&mut self, target: &Target) {
        let Some((name, instances)) = self.grants.remove(target) else { return };
        for instance in instances {
            if let Some(granted) = self.granted.get_mut(&instance)
                && granted.get(&name) == Some(target)
            {
                granted.remove(&name);
            }
        }
    }
}

impl KeyRing for Store {
    fn key(&self, name: &Name) -> Option<Key> {
        self.read(|inner| inner.keys.get(name).map(|(key, _)| key.clone()))
    }
}

/// The hidden primary: an instance gets the zones that were granted to it, SERVFAIL for those of which no version is here
/// yet, and anything else is refused.
impl Service for Store {
    fn call(&self, request: Request) -> impl Future<Output = Reply> + Send {
        let reply = match (request.opcode, &request.key) {
            (Opcode::Query, Some(key)) => self.reply(key, &request.name),
            _ => Reply::Refused,
        };
        std::future::ready(reply)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bindy_zone::{Catalog, Serial};

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    /// What the instance `default/one` is told of a zone.
    fn asked(store: &Store, zone: &Name) -> &'static str {
        match store.reply(&name("one.key"), zone) {
            Reply::Zone(_) => "the zone",
            Reply::ServFail => "SERVFAIL",
            Reply::Refused => "REFUSED",
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_granted_zone_without_a_version_is_not_refused_and_takes_the_place_of_no_version() {
        let store = Store::default();
        let (zone, instance) = (name("example.com"), NamespacedName::new("default", "one"));
        let key = Key::new(name("one.key"), &[1; 32]);
        store.set_keys(&[(instance.clone(), vec![key])].into());
        let target = |object: &str| Target::Zone(NamespacedName::new("default", object), zone.clone());
        let version = |serial| Version { serial: Serial::new(serial), content: Catalog::empty(zone.clone()) };
        let (first, second) = (target("first"), target("second"));
        let served = || store.reply(&name("one.key"), &zone);
        assert_eq!(asked(&store, &zone), "REFUSED");
        store.grant(&first, &zone, [instance.clone()].into());
        assert_eq!(asked(&store, &zone), "SERVFAIL");
        assert_eq!(asked(&store, &name("example.net")), "REFUSED");
        store.publish(first.clone(), version(1));
        store.grant(&second, &zone, [instance.clone()].into());
        assert_eq!(asked(&store, &zone), "the zone");
        store.publish(second.clone(), version(2));
        store.grant(&second, &zone, [instance].into());
        store.retire(&first);
        assert!(matches!(served(), Reply::Zone(of) if of.current().serial == Serial::new(2)));
        store.retire(&second);
        assert_eq!(asked(&store, &zone), "REFUSED");
    }
}
