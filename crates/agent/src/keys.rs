//! The keys that this server has, and whose request is signed with which.
//!
//! Own keys are `<generation>.<instance>.<namespace>.key.bindy.`; a downstream signs with a key derived from one of
//! them, whose name has the downstream's name and namespace in front. So nothing here lists downstreams, except those
//! outside of Bindy: what was handed out to somebody has to be taken back some day.

use std::collections::{BTreeSet, HashMap};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use bindy_wire::{Key, KeyRing, OUTSIDE_LABEL, read_keys};
use bindy_zone::{CATALOGS, Name, OwnerName};

/// What the names of all instances' keys end in.
const KEYS: &str = "key.bindy.";

/// Who signed a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// The operator, or another server of this instance.
    Own,
    /// A server of the instance that has this catalog.
    Downstream { catalog: Name },
    /// A server of the instance that has this catalog, which we pull from.
    Upstream { catalog: Name },
    /// A server outside of Bindy that may follow this instance.
    Outside,
    /// A configured source that signs with its own key.
    Source,
}

/// Keys by name, replaced as a whole when the files change.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keys(Arc<RwLock<Known>>);

#[derive(Clone, Debug, Default)]
struct Known {
    base: Option<Name>,
    /// Names of the downstreams outside of Bindy.
    outside: BTreeSet<String>,
    keys: HashMap<Name, Key>,
    /// What each file gave when it was last there.
    files: HashMap<PathBuf, Vec<Key>>,
}

impl Keys {
    /// Takes what the files hold now; files that are not listed any more are forgotten with their keys. A listed file
    /// that is gone keeps the keys that it had: a Secret is replaced by deleting it first, and what was signed with a key
    /// must not be refused meanwhile. A line that is no key is left out, and returned as a complaint that does not
    /// quote it.
    pub(crate) fn load(&self, base: Option<Name>, files: &[PathBuf]) -> Vec<String> {
        let mut complaints = Vec::new();
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let mut read = HashMap::new();
        for file in files {
            let keys = match std::fs::read_to_string(file) {
                Ok(text) => parse(file, &text, &mut complaints),
                Err(error) => {
                    if error.kind() != ErrorKind::NotFound {
                        complaints.push(format!("{}: {error}", file.display()));
                    }
                    known.files.remove(file).unwrap_or_default()
                }
            };
            read.insert(file.clone(), keys);
        }
        // Those of the files listed first hold: the instance's own.
        let ordered = files.iter().rev().filter_map(|file| read.get(file)).flatten();
        let keys = ordered.map(|key| (key.name().clone(), key.clone())).collect();
        *known = Known { base, keys, files: read, outside: std::mem::take(&mut known.outside) };
        complaints
    }

    /// From now on these downstreams outside of Bindy are known, and no others.
    pub(crate) fn know_outside(&self, downstreams: &BTreeSet<String>) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        known.outside.clone_from(downstreams);
    }

    /// The key of that name: one of the files', or one derived for a downstream.
    pub(crate) fn get(&self, name: &Name) -> Option<Key> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = known.keys.get(name) {
            return Some(key.clone());
        }
        let (own, _) = known.derived(name)?;
        known.keys.get(&own)?.derive_named(name.clone()).ok()
    }

    /// Whose key that is.
    pub(crate) fn peer(&self, name: &Name) -> Option<Peer> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let base = known.base.as_ref()?;
        if known.keys.contains_key(name) {
            if name.parent().as_ref() == Some(base) {
                return Some(Peer::Own);
            }
            return Some(upstream_of(name, base).map_or(Peer::Source, |catalog| Peer::Upstream { catalog }));
        }
        let (_, prefix) = known.derived(name)?;
        if is_outside(&prefix) {
            return Some(Peer::Outside);
        }
        Some(Peer::Downstream { catalog: prefix.in_zone(&Name::parse(CATALOGS).ok()?) })
    }
}

/// The catalog of the instance whose key `name` is derived from, for the instance with the keys below `base`.
fn upstream_of(name: &Name, base: &Name) -> Option<Name> {
    let keys = Name::parse(KEYS).ok()?;
    let theirs = name.parent()?.parent()?;
    let (ours, prefix) = (base.relative_to(&keys)?, name.relative_to(&theirs)?);
    let catalog = theirs.parent()?.relative_to(&keys)?.in_zone(&Name::parse(CATALOGS).ok()?);
    (ours == prefix).then_some(catalog)
}

/// Whether these two labels are those of a downstream outside of Bindy.
fn is_outside(prefix: &OwnerName) -> bool {
    let label = OwnerName::parse(OUTSIDE_LABEL, &Name::root());
    prefix.parent().is_some_and(|parent| label.as_ref() == Ok(&parent))
}

fn parse(file: &Path, text: &str, complaints: &mut Vec<String>) -> Vec<Key> {
    let mut keys = Vec::new();
    for (line, key) in read_keys(text) {
        match key {
            Ok(key) => keys.push(key),
            // What the error says may be a misplaced secret.
            Err(_) => complaints.push(format!("{}:{line}: not a key for hmac-sha256", file.display())),
        }
    }
    keys
}

impl Known {
    /// The own key that `name` is derived from, and the two labels in front of it; nothing for a downstream outside of
    /// Bindy that is not known.
    fn derived(&self, name: &Name) -> Option<(Name, OwnerName)> {
        let own = name.parent()?.parent()?;
        if own.parent() != self.base || !self.keys.contains_key(&own) {
            return None;
        }
        let prefix = name.relative_to(&own)?;
        let allowed = |downstream: &String| {
            OwnerName::parse(&format!("{downstream}.{OUTSIDE_LABEL}"), &Name::root()).as_ref() == Ok(&prefix)
        };
        (!is_outside(&prefix) || self.outside.iter().any(allowed)).then_some((own, prefix))
    }
}

impl KeyRing for Keys {
    fn key(&self, name: &Name) -> Option<Key> {
        self.get(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::utils::base64;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    #[test]
    fn a_key_derived_for_us_belongs_to_our_upstream() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a");
        let secret = base64::encode_string(&[7; 32]);
        let (ours, another) = ("dns.prod.b.top.prod.key.bindy.", "edge.far.a.top.prod.key.bindy.");
        std::fs::write(&file, format!("{ours} {secret}\n{another} {secret}\n")).unwrap();
        let keys = Keys::default();
        assert!(keys.load(Some(name("dns.prod.key.bindy.")), &[file]).is_empty());
        let catalog = name("top.prod.catalog.bindy.");
        assert_eq!(keys.peer(&name(ours)), Some(Peer::Upstream { catalog }));
        assert_eq!(keys.peer(&name(another)), Some(Peer::Source));
    }

    fn keys() -> Keys {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a");
        let secret = base64::encode_string(&[7; 32]);
        std::fs::write(&file, format!("a.dns.prod.key.bindy. {secret}\nk.elsewhere. {secret}\n")).unwrap();
        let keys = Keys::default();
        let missing = directory.path().join("b");
        assert!(keys.load(Some(name("dns.prod.key.bindy.")), &[file, missing]).is_empty());
        keys
    }

    #[test]
    fn own_keys_source_keys_and_derived_keys_are_told_apart() {
        let keys = keys();
        assert_eq!(keys.peer(&name("a.dns.prod.key.bindy.")), Some(Peer::Own));
        assert_eq!(keys.peer(&name("k.elsewhere.")), Some(Peer::Source));
        let downstream = name("edge.far.a.dns.prod.key.bindy.");
        let catalog = name("edge.far.catalog.bindy.");
        assert_eq!(keys.peer(&downstream), Some(Peer::Downstream { catalog }));
        assert_eq!(keys.get(&downstream).unwrap().name(), &downstream);
        assert_ne!(keys.get(&downstream).unwrap().secret(), &[7; 32]);
    }

    #[test]
    fn a_key_handed_out_is_known_as_long_as_its_downstream_is_listed() {
        let keys = keys();
        let theirs = name("vm._downstream.a.dns.prod.key.bindy.");
        assert_eq!(keys.peer(&theirs), None);
        assert!(keys.get(&theirs).is_none());
        keys.know_outside(&BTreeSet::from(["vm".to_owned()]));
        assert_eq!(keys.peer(&theirs), Some(Peer::Outside));
        assert_eq!(keys.get(&theirs).unwrap().name(), &theirs);
        assert_eq!(keys.peer(&name("other._downstream.a.dns.prod.key.bindy.")), None);
        keys.know_outside(&BTreeSet::new());
        assert!(keys.get(&theirs).is_none());
    }

    #[test]
    fn nothing_is_derived_for_other_names() {
        let keys = keys();
        for stranger in [
            "b.dns.prod.key.bindy.",
            "x.edge.far.a.dns.prod.key.bindy.",
            "edge.a.dns.prod.key.bindy.",
            "a.b.k.elsewhere.",
        ] {
            assert!(keys.get(&name(stranger)).is_none(), "{stranger}");
            assert_eq!(keys.peer(&name(stranger)), None, "{stranger}");
        }
    }

    #[test]
    fn keys_of_a_file_that_is_replaced_stay_until_there_are_new_ones() {
        let directory = tempfile::tempdir().unwrap();
        let (a, b) = (directory.path().join("a"), directory.path().join("b"));
        let (old, new) = (base64::encode_string(&[1; 32]), base64::encode_string(&[2; 32]));
        let keys = Keys::default();
        let known = |files: &[&PathBuf]| {
            let files: Vec<PathBuf> = files.iter().map(|file| (*file).clone()).collect();
            assert!(keys.load(Some(name("dns.prod.key.bindy.")), &files).is_empty());
            let secret = |key: &str| keys.get(&name(key)).map(|key| key.secret()[0]);
            (secret("a.dns.prod.key.bindy."), secret("b.dns.prod.key.bindy."))
        };
        std::fs::write(&a, format!("a.dns.prod.key.bindy. {old}\n")).unwrap();
        assert_eq!(known(&[&a, &b]), (Some(1), None));
        std::fs::remove_file(&a).unwrap();
        assert_eq!(known(&[&a, &b]), (Some(1), None));
        std::fs::write(&b, format!("b.dns.prod.key.bindy. {new}\n")).unwrap();
        assert_eq!(known(&[&a, &b]), (Some(1), Some(2)));
        std::fs::write(&a, format!("a.dns.prod.key.bindy. {new}\n")).unwrap();
        assert_eq!(known(&[&a, &b]), (Some(2), Some(2)));
        assert_eq!(known(&[&b]), (None, Some(2)), "a file that is not listed any more");
    }

    #[test]
    fn a_broken_line_is_told_without_being_quoted() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a");
        std::fs::write(&file, "a.dns.prod.key.bindy. c2VjcmV0\n").unwrap();
        let complaints = Keys::default().load(None, &[file]);
        assert_eq!(complaints.len(), 1);
        assert!(complaints[0].contains("a:1: not a key"), "{complaints:?}");
        assert!(!complaints[0].contains("c2VjcmV0"));
    }
}
