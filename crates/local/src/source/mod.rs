//! The directory of manifests as a stream of objects.
//!
//! ```text
//!   DIR ─ scan, notify ─► watch ─ texts ─► inventory ─ events ─► engine
//!                                             │  documents ─► node ─► decode
//! ```
//!
//! Three states are kept apart: an object that is gone, one that cannot be read now, and one that has not been listed
//! yet. Only the first is a deletion, and a deletion says whether somebody edited the object away or its file vanished.
//! Files that are being written are left alone until they are whole.

mod decode;
mod documents;
mod inventory;
mod kinds;
mod metadata;
mod node;
mod scan;
mod watch;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bindy_model::{Object, ObjectKey, Removal};

pub use inventory::{Inventory, Text};
pub use scan::read_all;
pub use watch::{Patience, Source, WatchError};

use crate::status::Problem;

/// SHA-256.
pub type Hash = [u8; 32];

fn hash(text: &str) -> Hash {
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    let mut hash = [0; 32];
    hash.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
    hash
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
#[derive(Clone, Debug)]
pub struct Manifest {
    /// What it is called.
    pub key: ObjectKey,
    /// Where it is written.
    pub place: Place,
    /// The object; it has no UID, creation time and generation yet.
    pub object: Arc<Object>,
    /// Hash of its specification, for its generation.
    pub spec: Hash,
}

/// What happened in the directory.
#[derive(Clone, Debug)]
pub enum SourceEvent {
    /// The object is new or has changed.
    Applied(Manifest),
    /// The same object stands somewhere else now.
    Moved {
        /// The object.
        key: ObjectKey,
        /// Where it stands.
        place: Place,
    },
    /// The object is not there any more.
    Deleted {
        /// The object.
        key: ObjectKey,
        /// Whether it was edited away, or its file vanished or was emptied, which happens by mistake more often than on
        /// purpose.
        how: Removal,
    },
    /// The object is there, or was there before its file broke, and cannot be read.
    Unreadable {
        /// The object.
        key: ObjectKey,
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
