//! Walking the directory and reading its files.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::inventory::Text;
use crate::ledger::LEDGER_FILE;

/// Octets a manifest may have; ten times what an API server accepts for one object.
const MAX_SIZE: u64 = 64 << 20;

/// What a file looked like when it was read; another look means that it has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    size: u64,
    modified: Option<SystemTime>,
    inode: u64,
}

impl Look {
    fn of(metadata: &Metadata) -> Self {
        #[cfg(unix)]
        let inode = std::os::unix::fs::MetadataExt::ino(metadata);
        #[cfg(not(unix))]
        let inode = 0;
        Self { size: metadata.len(), modified: metadata.modified().ok(), inode }
    }
}

/// Whether a path, relative to the directory, is one of a manifest: `.yaml`, `.yml` or `.json`, and no part of it
/// hidden.
pub(crate) fn is_manifest(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    matches!(extension, Some("yaml" | "yml" | "json")) && !is_hidden(path)
}

/// Whether a part of the path begins with a dot: `.git`, `.bindy`, `..data`, files of editors.
pub(crate) fn is_hidden(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str().as_encoded_bytes().starts_with(b"."))
}

/// Whether a path, relative to `root`, is in a state directory of `bindy up` below it: such a directory has a ledger, and
/// its JSON files are no manifests, whatever it is called.
pub(crate) fn is_state(root: &Path, path: &Path) -> bool {
    let directories = path.ancestors().filter(|directory| !directory.as_os_str().is_empty());
    directories.into_iter().any(|directory| root.join(directory).join(LEDGER_FILE).exists())
}

/// Every manifest below `root`, with its look. Directories that are symbolic links are not entered.
pub(crate) fn walk(root: &Path) -> io::Result<BTreeMap<PathBuf, Look>> {
    let mut found = BTreeMap::new();
    let mut directories = vec![PathBuf::new()];
    while let Some(directory) = directories.pop() {
        let entries = match fs::read_dir(root.join(&directory)) {
            Err(error) if directory.as_os_str().is_empty() => return Err(error),
            // Gone since its parent was read, which its own event will tell.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let path = directory.join(entry.file_name());
            if is_hidden(&path) {
                continue;
            }
            if entry.file_type()?.is_dir() {
                if !is_state(root, &path) {
                    directories.push(path);
                }
            } else if is_manifest(&path) {
                let look = fs::metadata(entry.path())
                    .map_or(Look { size: 0, modified: None, inode: 0 }, |m| Look::of(&m));
                found.insert(path, look);
            }
        }
    }
    Ok(found)
}

/// What is at `path`, relative to `root`.
pub(crate) fn read(root: &Path, path: &Path) -> (Text, Option<Look>) {
    let full = root.join(path);
    let look = match fs::metadata(&full) {
        Ok(metadata) if metadata.is_dir() => return (Text::Missing, None),
        Ok(metadata) if metadata.len() > MAX_SIZE => {
            let text = format!("this file has {} octets; at most {MAX_SIZE} are read", metadata.len());
            return (Text::Unreadable(text), Some(Look::of(&metadata)));
        }
        Ok(metadata) => Some(Look::of(&metadata)),
        Err(_) => None,
    };
    let text = match fs::read(&full).map(String::from_utf8) {
        Ok(Ok(text)) => Text::Whole(text),
        Ok(Err(error)) => {
            let octet = error.utf8_error().valid_up_to();
            Text::Unreadable(format!("this file is no UTF-8 text from octet {octet} on: save it as UTF-8"))
        }
        // A dangling symbolic link is a file that is not there for the moment.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return (Text::Missing, None),
        Err(error) => Text::Unreadable(format!("this file cannot be read: {error}")),
    };
    (text, look)
}

/// Every manifest below `root` and its text.
pub fn read_all(root: &Path) -> io::Result<Vec<(PathBuf, Text)>> {
    Ok(walk(root)?.into_keys().map(|path| (path.clone(), read(root, &path).0)).collect())
}
