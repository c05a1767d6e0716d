//! Where the files of a server are, and how they are written: whole or not at all, and only when they change.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::ServerKey;

/// A log that has this many octets starts anew; the one before is kept beside it.
const LOG_LIMIT: u64 = 8 << 20;

/// The files of one server.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    /// Everything is below it.
    pub(super) root: PathBuf,
}

impl Layout {
    /// `NAMESPACE.INSTANCE.INDEX` below `servers`; a namespace has no dot, so this is unambiguous.
    pub(super) fn new(servers: &Path, key: &ServerKey) -> Self {
        let ServerKey { instance, index } = key;
        Self { root: servers.join(format!("{}.{}.{index}", instance.namespace, instance.name)) }
    }

    /// named's working directory.
    pub(super) fn data(&self) -> PathBuf {
        self.root.join("named")
    }

    /// Is lost with named's data.
    fn marker(&self) -> PathBuf {
        self.root.join("named/incarnation")
    }

    pub(super) fn keys(&self) -> PathBuf {
        self.root.join("keys")
    }

    pub(super) fn local_key(&self) -> PathBuf {
        self.root.join("agent.key")
    }

    pub(super) fn agent_config(&self) -> PathBuf {
        self.root.join("agent.json")
    }

    pub(super) fn named_config(&self) -> PathBuf {
        self.root.join("named.conf")
    }

    pub(super) fn ports(&self) -> PathBuf {
        self.root.join("ports.json")
    }

    pub(super) fn pid_file(&self, program: &str) -> PathBuf {
        self.root.join(format!("{program}.pid"))
    }

    pub(super) fn log(&self, program: &str) -> PathBuf {
        self.root.join(format!("{program}.log"))
    }

    /// The number that was chosen when named's directory was made; `None` when that is gone.
    pub(super) fn incarnation(&self) -> Option<u64> {
        std::fs::read_to_string(self.marker()).ok()?.trim().parse().ok()
    }

    /// Makes the directories, and gives named's a new number.
    pub(super) fn create(&self) -> io::Result<u64> {
        make_private(&self.data())?;
        make_private(&self.keys())?;
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let incarnation = u64::try_from(since.as_micros()).unwrap_or(u64::MAX);
        replace(&self.marker(), &format!("{incarnation}\n"))?;
        Ok(incarnation)
    }
}

/// A directory for this user only, and those above it.
pub(crate) fn make_private(path: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Puts `text` into the file unless it is there already; true when it was not.
pub(crate) fn replace(path: &Path, text: &str) -> io::Result<bool> {
    if std::fs::read(path).is_ok_and(|now| now == text.as_bytes()) {
        return Ok(false);
    }
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(text.as_bytes())?;
    std::fs::rename(temporary, path)?;
    Ok(true)
}

/// Starts a log anew when it has become long. Its writer appends, so it goes on at the new beginning; what it writes
/// between the copy and the cut is lost.
pub(super) fn bound_log(path: &Path) -> io::Result<()> {
    if std::fs::metadata(path).is_ok_and(|file| file.len() > LOG_LIMIT) {
        std::fs::copy(path, path.with_extension("log.1"))?;
        File::options().write(true).open(path)?.set_len(0)?;
    }
    Ok(())
}

/// The last line of a log that is not empty.
pub(super) fn last_line(path: &Path) -> Option<String> {
    let text = std::fs::read(path).ok()?;
    let tail = text.get(text.len().saturating_sub(4096)..)?;
    let tail = String::from_utf8_lossy(tail);
    tail.lines().rev().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn unchanged_file_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        assert!(replace(&path, "a").unwrap());
        let metadata = std::fs::metadata(&path).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
        assert!(!replace(&path, "a").unwrap());
        assert!(replace(&path, "b").unwrap());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "b");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "no temporary file stays");
    }

    #[test]
    fn log_is_bounded_and_its_end_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("named.log");
        std::fs::write(&path, "first\nlast\n\n").unwrap();
        bound_log(&path).unwrap();
        assert_eq!(last_line(&path).unwrap(), "last");
        File::options().write(true).open(&path).unwrap().set_len(LOG_LIMIT + 1).unwrap();
        bound_log(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
        assert_eq!(std::fs::metadata(directory.path().join("named.log.1")).unwrap().len(), LOG_LIMIT + 1);
    }
}
