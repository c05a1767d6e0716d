//! What every file holds, and who owns each object. Pure: texts come in, events go out.
//!
//! An object that stands in two places belongs to the one that had it first; the other gets an error. A file that is
//! missing for a moment (an editor that writes anew, a rename) keeps its objects until it is said to be gone, but any
//! other file that has them takes them over at once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bindy_model::{ObjectKey, Removal};

use super::decode::{self, Decoded, Item, Usable};
use super::{Hash, Manifest, Place, SourceEvent, documents, hash};
use crate::status::{Problem, Severity};

/// What is found at the path of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Text {
    /// Its text.
    Whole(String),
    /// It cannot be read, for this reason.
    Unreadable(String),
    /// Nothing, but it may come back in a moment.
    Missing,
    /// Nothing.
    Gone,
}

/// Every file and every object.
#[derive(Debug, Default)]
pub struct Inventory {
    files: BTreeMap<PathBuf, File>,
    objects: HashMap<ObjectKey, Held>,
    holders: HashMap<ObjectKey, BTreeSet<PathBuf>>,
}

#[derive(Debug, Default)]
struct File {
    path: Option<Arc<Path>>,
    documents: Vec<Parsed>,
    /// Document and item of the first object of each name.
    index: HashMap<ObjectKey, (usize, usize)>,
    unreadable: Option<String>,
    missing: bool,
    /// Objects that it held before it broke.
    kept: BTreeSet<ObjectKey>,
    told: Vec<Problem>,
}

#[derive(Debug)]
struct Parsed {
    hash: Hash,
    first_line: u64,
    decoded: Arc<Decoded>,
}

/// An object as it was last told.
#[derive(Debug)]
struct Held {
    place: Place,
    hash: Option<Hash>,
    problem: Option<Problem>,
}

impl Inventory {
    /// The paths of every known file.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.keys().map(PathBuf::as_path)
    }

    /// Whether something is known of the file at this path.
    pub fn has_file(&self, path: &Path) -> bool {
        self.files.contains_key(path)
    }

    /// Takes what was found at some paths (relative to the directory) and tells what that changes, all together.
    pub fn update(&mut self, found: impl IntoIterator<Item = (PathBuf, Text)>) -> Vec<SourceEvent> {
        let mut keys = BTreeSet::new();
        let mut files = BTreeSet::new();
        let mut emptied = BTreeSet::new();
        for (path, text) in found {
            if self.replace(&path, text, &mut keys) {
                emptied.insert(path.clone());
            }
            files.insert(path);
        }
        let mut events = Vec::new();
        for key in keys {
            files.extend(self.holders.get(&key).into_iter().flatten().cloned());
            events.extend(self.resolve(key, &emptied));
        }
        for path in files {
            events.extend(self.tell_problems(&path));
        }
        events
    }

    /// Puts the new state of one file in place; returns whether it holds nothing any more.
    fn replace(&mut self, path: &Path, text: Text, keys: &mut BTreeSet<ObjectKey>) -> bool {
        let file = self.files.entry(path.to_owned()).or_default();
        file.path.get_or_insert_with(|| path.into());
        let before: BTreeSet<ObjectKey> =
            file.items().map(|(_, item)| item.key.clone()).chain(file.kept.clone()).collect();
        file.missing = matches!(text, Text::Missing);
        file.unreadable = None;
        match text {
            Text::Whole(text) => file.parse(&text),
            Text::Unreadable(reason) => {
                file.clear();
                file.unreadable = Some(reason);
            }
            Text::Missing => {}
            Text::Gone => file.clear(),
        }
        let after: BTreeSet<ObjectKey> = file.items().map(|(_, item)| item.key.clone()).collect();
        let has_hole =
            file.unreadable.is_some() || file.documents.iter().any(|document| document.decoded.has_hole);
        file.kept = if has_hole { before.difference(&after).cloned().collect() } else { BTreeSet::new() };
        if file.missing {
            file.kept = before.difference(&after).cloned().collect();
        }
        for key in before.iter().chain(&after) {
            let holds = after.contains(key) || file.kept.contains(key);
            let holders = self.holders.entry(key.clone()).or_default();
            if holds {
                holders.insert(path.to_owned())
            } else {
                holders.remove(path)
            };
        }
        keys.extend(before);
        keys.extend(after);
        file.documents.is_empty() && !file.missing && file.unreadable.is_none()
    }

    /// Decides what is true of one object now, and tells it if that is news.
    fn resolve(&mut self, key: ObjectKey, emptied: &BTreeSet<PathBuf>) -> Option<SourceEvent> {
        let winner = self.winner(&key);
        let Some((path, item)) = winner else {
            self.holders.remove(&key);
            let held = self.objects.remove(&key)?;
            let how = if emptied.contains(&*held.place.file) { Removal::Relisted } else { Removal::Deleted };
            return Some(SourceEvent::Deleted { key, how });
        };
        let held = self.objects.get(&key);
        match item {
            Some((place, Item { usable: Some(Usable { object, hash, spec }), .. })) => {
                let same = held.is_some_and(|held| held.problem.is_none() && held.hash == Some(hash));
                let moved = held.is_none_or(|held| held.place != place);
                let told = Held { place: place.clone(), hash: Some(hash), problem: None };
                self.objects.insert(key.clone(), told);
                match (same, moved) {
                    (false, _) => Some(SourceEvent::Applied(Manifest { key, place, object, spec })),
                    (true, true) => Some(SourceEvent::Moved { key, place }),
                    (true, false) => None,
                }
            }
            unreadable => {
                let place =
                    unreadable.map(|(place, _)| place).or_else(|| held.map(|held| held.place.clone()));
                let place = place.unwrap_or_else(|| Place { file: path.as_path().into(), line: 1 });
                let problem = self.problem_of(&path, &key)?;
                if held.is_some_and(|held| held.problem.as_ref() == Some(&problem)) {
                    return None;
                }
                let hash = held.and_then(|held| held.hash);
                self.objects.insert(key.clone(), Held { place, hash, problem: Some(problem.clone()) });
                Some(SourceEvent::Unreadable { key, problem })
            }
        }
    }

    /// The file that an object belongs to, and the object in it unless the file broke.
    fn winner(&self, key: &ObjectKey) -> Option<(PathBuf, Option<(Place, Item)>)> {
        let holders = self.holders.get(key).filter(|holders| !holders.is_empty())?;
        let owner = self.objects.get(key).map(|held| held.place.file.clone());
        let is_owner = |path: &&PathBuf| owner.as_deref() == Some(path.as_path());
        let present = |path: &&PathBuf| self.files.get(*path).is_some_and(|file| !file.missing);
        let path = holders
            .iter()
            .find(|path| is_owner(path) && present(path))
            .or_else(|| holders.iter().find(present))
            .or_else(|| holders.iter().find(is_owner))
            .or_else(|| holders.iter().next())?;
        Some((path.clone(), self.files.get(path)?.item(key)))
    }

    /// Why an object of this file cannot be read.
    fn problem_of(&self, path: &Path, key: &ObjectKey) -> Option<Problem> {
        let file = self.files.get(path)?;
        let problems = file.problems();
        let own = problems.iter().find(|problem| problem.object.as_deref() == Some(&key.to_string()));
        own.or_else(|| problems.iter().find(|problem| problem.severity == Severity::Error)).cloned()
    }

    /// The problems of one file, if they are not what was told last.
    fn tell_problems(&mut self, path: &Path) -> Option<SourceEvent> {
        let file = self.files.get(path)?;
        let mut problems = file.problems();
        problems.extend(self.duplicates(path, file));
        problems.sort();
        let gone =
            file.documents.is_empty() && file.unreadable.is_none() && !file.missing && file.kept.is_empty();
        let news = file.told != problems;
        if gone && problems.is_empty() {
            self.files.remove(path);
        } else if let Some(file) = self.files.get_mut(path) {
            file.told.clone_from(&problems);
        }
        news.then(|| SourceEvent::Problems { file: path.to_owned(), problems })
    }

    /// Objects of this file that belong to another place.
    fn duplicates(&self, path: &Path, file: &File) -> Vec<Problem> {
        if file.missing {
            return Vec::new();
        }
        let belongs = |key: &ObjectKey, line: u64| {
            self.objects.get(key).is_none_or(|held| *held.place.file == *path && held.place.line == line)
        };
        let lost = file.items().filter(|(line, item)| !belongs(&item.key, *line));
        lost.filter_map(|(line, item)| {
            let first = &self.objects.get(&item.key)?.place;
            // After an error above it the first of two in one file may have moved; its own line is what counts.
            let is_first = *first.file == *path && file.item(&item.key)?.0.line == line;
            let message = format!(
                "already defined in {}:{}, which is served: remove or rename one of them",
                first.file.display(),
                first.line
            );
            (!is_first).then(|| Problem {
                file: Some(path.to_owned()),
                line: Some(line),
                column: Some(1),
                severity: Severity::Error,
                object: Some(item.key.to_string()),
                reason: "Duplicate".to_owned(),
                message,
            })
        })
        .collect()
    }
}

impl File {
    fn parse(&mut self, text: &str) {
        let mut known: HashMap<Hash, Arc<Decoded>> =
            self.documents.drain(..).map(|parsed| (parsed.hash, parsed.decoded)).collect();
        for document in documents::split(text) {
            let hash = hash(document.text);
            let decoded = known.entry(hash).or_insert_with(|| Arc::new(decode::decode(&document))).clone();
            self.documents.push(Parsed { hash, first_line: document.first_line, decoded });
        }
        self.index.clear();
        for (document, parsed) in self.documents.iter().enumerate() {
            for (item, decoded) in parsed.decoded.items.iter().enumerate() {
                self.index.entry(decoded.key.clone()).or_insert((document, item));
            }
        }
    }

    fn clear(&mut self) {
        self.documents.clear();
        self.index.clear();
    }

    /// Every object with its line.
    fn items(&self) -> impl Iterator<Item = (u64, &Item)> {
        self.documents.iter().flat_map(|parsed| {
            parsed.decoded.items.iter().map(|item| (parsed.first_line + item.line - 1, item))
        })
    }

    /// The first object of this name.
    fn item(&self, key: &ObjectKey) -> Option<(Place, Item)> {
        let &(document, item) = self.index.get(key)?;
        let parsed = self.documents.get(document)?;
        let item = parsed.decoded.items.get(item)?;
        let line = parsed.first_line + item.line - 1;
        Some((Place { file: self.path.clone()?, line }, item.clone()))
    }

    fn problems(&self) -> Vec<Problem> {
        let file = self.path.as_deref().map(Path::to_owned);
        let unreadable = self.unreadable.iter().map(|reason| Problem {
            file: file.clone(),
            severity: Severity::Error,
            reason: "Unreadable".to_owned(),
            message: format!("{reason}; what was served of this file is kept"),
            ..Problem::default()
        });
        let findings = self.documents.iter().flat_map(|parsed| {
            parsed.decoded.findings.iter().map(|finding| Problem {
                file: file.clone(),
                line: Some(parsed.first_line + finding.at.line - 1),
                column: Some(finding.at.column),
                severity: finding.severity,
                object: finding.object.as_ref().map(ObjectKey::to_string),
                reason: finding.reason.to_owned(),
                message: finding.message.clone(),
            })
        });
        unreadable.chain(findings).collect()
    }
}

#[cfg(test)]
#[path = "inventory_tests.rs"]
mod tests;
