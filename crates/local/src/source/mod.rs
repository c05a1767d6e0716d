//! The directory of manifests as a stream of objects.
//!
//! ```text
//!   DIR ─ scan, notify ─► watch ─ texts ─► inventory ─ events ─► engine
//!                                             │  documents ─► node ─► schema ─► decode
//! ```
//!
//! Three states are kept apart: an object that is gone, one that cannot be read now, and one that has not been listed
//! yet. Only the first is a deletion, and a deletion says whether somebody edited the object away or its file vanished.
//! Files that are being written are left alone until they are whole.

mod decode;
mod documents;
mod inventory;
mod kinds;
mod node;
mod scan;
mod schema;
mod watch;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use inventory::{Inventory, Text};
pub use kinds::Kinds;
pub use scan::read_all;
pub use watch::{Source, WatchError};

use crate::status::Problem;

/// Kind, namespace and name of an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The kind, as in its manifest.
    pub kind: Arc<str>,
    /// The namespace; `default` where the manifest has none.
    pub namespace: Box<str>,
    /// The name.
    pub name: Box<str>,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// Where an object is written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file, relative to the directory of manifests.
    pub file: Arc<Path>,
    /// The line on which the object begins, from 1.
    pub line: u64,
}

/// An object as its manifest has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// What it is called.
    pub key: Key,
    /// Where it is written.
    pub place: Place,
    /// Its JSON, checked against the schema of its kind, `metadata.namespace` filled in.
    pub json: Arc<str>,
}

/// Why an object is not there any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// Its file is still there and does not have it any more.
    Edited,
    /// Its file vanished or was emptied, which happens by mistake more often than on purpose.
    FileGone,
}

/// What happened in the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceEvent {
    /// The object is new or has changed.
    Applied(Manifest),
    /// The same object stands somewhere else now.
    Moved {
        /// The object.
        key: Key,
        /// Where it stands.
        place: Place,
    },
    /// The object is not there any more.
    Deleted {
        /// The object.
        key: Key,
        /// Why.
        how: Removal,
    },
    /// The object is there, or was there before its file broke, and cannot be read.
    Unreadable {
        /// The object.
        key: Key,
        /// What is wrong with it.
        problem: Problem,
    },
    /// Everything that is wrong in one file; replaces what was said about it before.
    Problems {
        /// The file, relative to the directory of manifests.
        file: PathBuf,
        /// Nothing when everything has been put right.
        problems: Vec<Problem>,
    },
    /// Every file has been read once.
    Listed,
}
