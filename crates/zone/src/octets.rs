//! Immutable shared octets behind one word: names and RRsets are made of them by the million, and a pointer with a
//! length beside it, as `Arc<[u8]>` has, costs each entry of a zone's map a third more memory.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

use triomphe::ThinArc;

/// Cloning is cheap; compared as octets.
#[derive(Clone)]
pub(crate) struct Octets(ThinArc<(), u8>);

impl Deref for Octets {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0.slice
    }
}

impl From<&[u8]> for Octets {
    fn from(octets: &[u8]) -> Self {
        Self(ThinArc::from_header_and_slice((), octets))
    }
}

impl From<Vec<u8>> for Octets {
    fn from(octets: Vec<u8>) -> Self {
        octets.as_slice().into()
    }
}

impl Default for Octets {
    fn default() -> Self {
        [].as_slice().into()
    }
}

impl PartialEq for Octets {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Octets {}

impl PartialOrd for Octets {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Octets {
    fn cmp(&self, other: &Self) -> Ordering {
        (**self).cmp(&**other)
    }
}

impl Hash for Octets {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}
