//! Instances whose file vanished: where several go at once, and at least half of all, it is taken for a mistake.
//!
//! Their servers stay as they are until the file is back, or until `bindy up` is started again without it. An instance
//! that is edited away, or whose own file is removed, goes at once.

use std::collections::BTreeSet;

use bindy_model::{Kind, ObjectKey, Removal};

use crate::report::Files;
use crate::source::{Manifest, SourceEvent};
use crate::status::{Problem, Severity};

/// Which instances there are, and which of them are held.
#[derive(Default)]
pub(crate) struct Vanished {
    known: BTreeSet<ObjectKey>,
    held: BTreeSet<ObjectKey>,
}

impl Vanished {
    /// The events without those that are not believed.
    pub(crate) fn sift(&mut self, events: Vec<SourceEvent>) -> Vec<SourceEvent> {
        let gone: BTreeSet<ObjectKey> = events.iter().filter_map(vanished).cloned().collect();
        let is_mistake = gone.len() > 1 && gone.len() * 2 >= self.known.len();
        for event in &events {
            match event {
                SourceEvent::Applied(Manifest { key, .. }) if key.kind == Kind::Instance => {
                    self.known.insert(key.clone());
                    self.held.remove(key);
                }
                SourceEvent::Deleted { key, .. } if is_mistake && gone.contains(key) => {
                    self.held.insert(key.clone());
                }
                SourceEvent::Deleted { key, .. } => {
                    self.known.remove(key);
                    self.held.remove(key);
                }
                _ => {}
            }
        }
        let believed = |event: &SourceEvent| vanished(event).is_none_or(|key| !self.held.contains(key));
        events.into_iter().filter(believed).collect()
    }

    /// What is said of the held ones.
    pub(crate) fn problems<'a>(&'a self, files: &'a Files) -> impl Iterator<Item = Problem> + 'a {
        self.held.iter().map(|key| {
            let place = files.place(key);
            Problem {
                file: place.map(|place| place.file.to_path_buf()),
                line: place.map(|place| place.line),
                column: None,
                severity: Severity::Error,
                object: Some(key.to_string()),
                reason: bindy_api::Reason::Held.as_str().to_owned(),
                message: format!(
                    "its file has vanished, and with it {} of {} instances: their servers stay. Bring the file back; if \
                     that is meant, start bindy up again",
                    self.held.len(),
                    self.known.len()
                ),
            }
        })
    }
}

/// The instance whose file is gone.
fn vanished(event: &SourceEvent) -> Option<&ObjectKey> {
    match event {
        SourceEvent::Deleted { key, how: Removal::Relisted } if key.kind == Kind::Instance => Some(key),
        _ => None,
    }
}
