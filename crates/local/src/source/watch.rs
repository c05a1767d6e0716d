//! Watches the directory and feeds the inventory.
//!
//! A file is read when its writer closes it or when it is renamed into place, so a change is seen at once and a
//! half-written file is not. Where closing is not told (not on Linux), a file is read when it has been quiet for a
//! moment. A file that vanished, or that holds nothing, gets the same moment to come back, because editors replace
//! files that way. Every few seconds the directory is compared with what was read, for file systems without events.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, Event, EventKind, ModifyKind};
use notify::{RecursiveMode, Watcher};
use tokio::sync::mpsc;

use super::inventory::{Inventory, Text};
use super::scan::{self, Look};
use super::{SourceEvent, documents};

/// What a watch waits for, and how long. [`Patience::default`] suits editors and people.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// How long a file may be missing, empty or open for writing before it is taken as it is.
    pub grace: Duration,
    /// How often the directory is compared with what was read.
    pub compare: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { grace: Duration::from_millis(100), compare: Duration::from_secs(5) }
    }
}

/// Why a directory cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// It is not there or cannot be read.
    #[error("{directory} cannot be read: {error}")]
    Unreadable {
        /// The directory.
        directory: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The system has no more watches.
    #[error("{directory} cannot be watched: {error}")]
    NoWatch {
        /// The directory.
        directory: PathBuf,
        /// What the system said.
        error: notify::Error,
    },
}

/// A watched directory; watching ends when it is dropped.
#[derive(Debug)]
pub struct Source {
    watcher: Option<notify::RecommendedWatcher>,
    batches: mpsc::Receiver<Vec<SourceEvent>>,
    thread: Option<JoinHandle<()>>,
}

impl Source {
    /// Watches `root`.
    pub fn watch(root: &Path, patience: Patience) -> Result<Self, WatchError> {
        let unreadable = |error| WatchError::Unreadable { directory: root.to_owned(), error };
        let no_watch = |error| WatchError::NoWatch { directory: root.to_owned(), error };
        let root = root.canonicalize().map_err(unreadable)?;
        std::fs::read_dir(&root).map_err(unreadable)?;
        let (to_loop, events) = channel();
        let mut watcher = notify::recommended_watcher(move |event| {
            // The loop has ended when nobody takes it.
            let _ended = to_loop.send(event);
        })
        .map_err(no_watch)?;
        watcher.watch(&root, RecursiveMode::Recursive).map_err(no_watch)?;
        let (sender, batches) = mpsc::channel(64);
        let mut watched = Watch {
            root,
            patience,
            inventory: Inventory::default(),
            looks: BTreeMap::new(),
            writing: BTreeMap::new(),
            absent: BTreeMap::new(),
            compare: true,
            sender,
        };
        let thread = std::thread::Builder::new().name("manifests".to_owned());
        let thread = thread.spawn(move || watched.run(&events)).map_err(unreadable)?;
        Ok(Self { watcher: Some(watcher), batches, thread: Some(thread) })
    }

    /// The next batch: what changed together is told together. The first one ends with [`SourceEvent::Listed`].
    /// `None` if watching has ended.
    pub async fn next(&mut self) -> Option<Vec<SourceEvent>> {
        self.batches.recv().await
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        // Without watcher and receiver the loop has nothing to wait for.
        self.watcher = None;
        self.batches.close();
        while self.batches.try_recv().is_ok() {}
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

struct Watch {
    root: PathBuf,
    patience: Patience,
    inventory: Inventory,
    looks: BTreeMap<PathBuf, Look>,
    /// Files whose event was told, and when they are read.
    writing: BTreeMap<PathBuf, Instant>,
    /// Files that hold nothing or are not there, and when that is believed.
    absent: BTreeMap<PathBuf, Instant>,
    compare: bool,
    sender: mpsc::Sender<Vec<SourceEvent>>,
}

impl Watch {
    fn run(&mut self, events: &Receiver<notify::Result<Event>>) {
        let mut listed = false;
        let mut next_compare = Instant::now() + self.patience.compare;
        loop {
            let now = Instant::now();
            let mut read = BTreeMap::new();
            if std::mem::take(&mut self.compare) || now >= next_compare {
                next_compare = now + self.patience.compare;
                self.compare_all(&mut read);
            }
            self.read_due(now, &mut read);
            while let Ok(event) = events.try_recv() {
                self.note(event);
            }
            let mut batch = self.settle(read);
            if !listed {
                batch.push(SourceEvent::Listed);
                listed = true;
            }
            if self.sender.is_closed() || !batch.is_empty() && self.sender.blocking_send(batch).is_err() {
                return;
            }
            let deadlines = self.writing.values().chain(self.absent.values());
            let deadline = if self.compare { now } else { deadlines.fold(next_compare, |a, b| a.min(*b)) };
            match events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(event) => self.note(event),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            while let Ok(event) = events.try_recv() {
                self.note(event);
            }
        }
    }

    /// Takes one event into account; nothing is read yet.
    fn note(&mut self, event: notify::Result<Event>) {
        let Ok(event) = event else {
            self.compare = true;
            return;
        };
        self.compare |= event.need_rescan();
        for path in &event.paths {
            let Ok(path) = path.strip_prefix(&self.root) else { continue };
            if scan::is_state(&self.root, path) {
                continue;
            }
            match when_to_read(&event.kind, self.patience.grace) {
                None => {}
                Some(delay) if scan::is_manifest(path) => {
                    self.looks.remove(path);
                    self.writing.insert(path.to_owned(), Instant::now() + delay);
                }
                // A directory, or a link that others pass through, as `..data` of a mounted ConfigMap.
                Some(_) => self.compare |= is_structural(&event.kind),
            }
        }
    }

    /// Reads every file that does not look as it did when it was read.
    fn compare_all(&mut self, read: &mut BTreeMap<PathBuf, Text>) {
        let root = PathBuf::from(".");
        let found = match scan::walk(&self.root) {
            Ok(found) => found,
            Err(error) => {
                let reason = format!("the directory of manifests cannot be read: {error}");
                read.insert(root, Text::Unreadable(reason));
                return;
            }
        };
        if self.inventory.has_file(&root) {
            read.insert(root, Text::Gone);
        }
        let vanished = self.inventory.files().filter(|path| !found.contains_key(*path));
        let vanished = vanished.filter(|path| !self.absent.contains_key(*path) && *path != Path::new("."));
        read.extend(vanished.map(|path| (path.to_owned(), Text::Missing)).collect::<Vec<_>>());
        for (path, look) in found {
            if self.looks.get(&path) != Some(&look) && !self.writing.contains_key(&path) {
                self.read(path, read);
            }
        }
    }

    fn read_due(&mut self, now: Instant, read: &mut BTreeMap<PathBuf, Text>) {
        let due = self.writing.iter().chain(&self.absent).filter(|(_, at)| **at <= now);
        let due: Vec<PathBuf> = due.map(|(path, _)| path.clone()).collect();
        for path in due {
            self.writing.remove(&path);
            self.read(path, read);
        }
    }

    fn read(&mut self, path: PathBuf, read: &mut BTreeMap<PathBuf, Text>) {
        let (text, look) = scan::read(&self.root, &path);
        match look {
            Some(look) => self.looks.insert(path.clone(), look),
            None => self.looks.remove(&path),
        };
        read.insert(path, text);
    }

    /// Hands what was read to the inventory, but not what has changed while it was read, and gives files that hold
    /// nothing a moment to come back.
    fn settle(&mut self, read: BTreeMap<PathBuf, Text>) -> Vec<SourceEvent> {
        let now = Instant::now();
        let mut found = Vec::new();
        for (path, text) in read {
            if self.writing.contains_key(&path) {
                continue;
            }
            let is_empty = match &text {
                Text::Missing => true,
                Text::Whole(text) => documents::split(text).is_empty(),
                Text::Unreadable(_) | Text::Gone => false,
            };
            if !is_empty || !self.inventory.has_file(&path) {
                self.absent.remove(&path);
                found.push((path, text));
                continue;
            }
            match self.absent.get(&path) {
                Some(until) if *until <= now => {
                    self.absent.remove(&path);
                    found.push((path, if text == Text::Missing { Text::Gone } else { text }));
                }
                Some(_) => {}
                None => {
                    self.absent.insert(path.clone(), now + self.patience.grace);
                    found.push((path, Text::Missing));
                }
            }
        }
        self.inventory.update(found)
    }
}

/// How long after this event its file is read; `None` if it does not change anything.
fn when_to_read(kind: &EventKind, grace: Duration) -> Option<Duration> {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => Some(Duration::ZERO),
        EventKind::Access(_) => None,
        EventKind::Modify(ModifyKind::Name(_) | ModifyKind::Metadata(_)) | EventKind::Remove(_) => {
            Some(Duration::ZERO)
        }
        EventKind::Create(_) | EventKind::Modify(_) | EventKind::Any | EventKind::Other => Some(grace),
    }
}

/// Whether files may have come or gone with it that have no event of their own.
fn is_structural(kind: &EventKind) -> bool {
    matches!(kind, EventKind::Create(_) | EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)))
}
