//! The name that each DNSZone is published under now, and the other way round.

use std::collections::{BTreeMap, BTreeSet};

use bindy_zone::Name;

use crate::object::NamespacedName;

/// One name for each object that wants a zone; several objects may want zones of one name, on different instances.
#[derive(Default)]
pub(super) struct Current {
    names: BTreeMap<NamespacedName, Name>,
    objects: BTreeMap<Name, BTreeSet<NamespacedName>>,
}

impl Current {
    /// The name of an object's zone.
    pub(super) fn get(&self, key: &NamespacedName) -> Option<&Name> {
        self.names.get(key)
    }

    /// The objects that have a zone of this name.
    pub(super) fn named(&self, apex: &Name) -> impl Iterator<Item = &NamespacedName> {
        self.objects.get(apex).into_iter().flatten()
    }

    /// Every name that some object has a zone of.
    pub(super) fn names(&self) -> impl Iterator<Item = &Name> {
        self.objects.keys()
    }

    /// An object has a zone of this name and of no other.
    pub(super) fn insert(&mut self, key: &NamespacedName, apex: &Name) {
        if self.get(key) == Some(apex) {
            return;
        }
        self.remove(key);
        self.names.insert(key.clone(), apex.clone());
        self.objects.entry(apex.clone()).or_default().insert(key.clone());
    }

    /// An object has no zone any more. Returns the name that it had.
    pub(super) fn remove(&mut self, key: &NamespacedName) -> Option<Name> {
        let apex = self.names.remove(key)?;
        if let Some(objects) = self.objects.get_mut(&apex) {
            objects.remove(key);
            if objects.is_empty() {
                self.objects.remove(&apex);
            }
        }
        Some(apex)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_forgotten_with_the_last_object_that_has_it() {
        let (one, two) = (NamespacedName::new("a", "one"), NamespacedName::new("b", "two"));
        let (old, new) = (Name::parse("old.example").unwrap(), Name::parse("new.example").unwrap());
        let mut current = Current::default();
        current.insert(&one, &old);
        current.insert(&two, &old);
        current.insert(&two, &old);
        assert!(current.named(&old).eq([&one, &two]));
        current.insert(&one, &new);
        assert_eq!(current.get(&one), Some(&new));
        assert!(current.named(&old).eq([&two]) && current.named(&new).eq([&one]));
        assert_eq!((current.remove(&two), current.remove(&two)), (Some(old), None));
        assert!(current.names().eq([&new]));
    }
}
