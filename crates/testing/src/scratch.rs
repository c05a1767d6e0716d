//! A directory per test under `target/test-state`: it stays there when the test panics, and goes to `ended/` otherwise.
//!
//! A test that returns an error looks from here like one that passed, so nothing is deleted before the same test runs
//! again. The path is printed always; the test runner shows it of failed tests only.

use std::io;
use std::path::{Path, PathBuf};

/// The directory of one test. Keep it in a variable that is dropped after the processes that use it, so declare it
/// first.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    ended: PathBuf,
}

impl Scratch {
    /// Makes an empty directory for the test `name`; what an earlier failure left there is removed.
    pub fn new(name: &str) -> io::Result<Self> {
        let all = target_directory()?.join("test-state");
        let (path, ended) = (all.join(name), all.join("ended").join(name));
        remove(&path)?;
        remove(&ended)?;
        std::fs::create_dir_all(&path)?;
        Ok(Self { path, ended })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a directory in it.
    pub fn directory(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.path.join(name);
        std::fs::create_dir_all(&path)?;
        Ok(path)
    }

    /// Writes a file in it, and the directories that lead to it.
    pub fn write(&self, name: &str, text: &str) -> io::Result<PathBuf> {
        let path = self.path.join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(&path, text)?;
        Ok(path)
    }
}

impl Drop for Scratch {
    #[expect(clippy::print_stderr, reason = "the path is for the person who reads the failure")]
    fn drop(&mut self) {
        let moved = if std::thread::panicking() { false } else { move_to(&self.path, &self.ended).is_ok() };
        let kept = if moved { &self.ended } else { &self.path };
        eprintln!("state and logs: {}", kept.display());
    }
}

fn move_to(path: &Path, ended: &Path) -> io::Result<()> {
    if let Some(parent) = ended.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::rename(path, ended)
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Cargo's target directory: the one above this executable that cargo has tagged.
pub(crate) fn target_directory() -> io::Result<PathBuf> {
    let executable = std::env::current_exe()?;
    let tagged = executable.ancestors().find(|path| path.join("CACHEDIR.TAG").is_file());
    tagged.map(Path::to_path_buf).ok_or_else(|| {
        io::Error::other(format!("{} is not below a target directory of cargo", executable.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directory_is_kept_after_a_panic_and_after_an_error() {
        let ended = Scratch::new("scratch-ended").unwrap();
        let path = ended.write("a/b", "text").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "text");
        let kept = ended.ended.join("a/b");
        drop(ended);
        assert!(!path.exists());
        assert_eq!(std::fs::read_to_string(&kept).unwrap(), "text");
        drop(Scratch::new("scratch-ended").unwrap());
        assert!(!kept.exists(), "the next run starts empty");

        let failed = std::thread::spawn(|| {
            let scratch = Scratch::new("scratch-failed").unwrap();
            scratch.write("log", "why").unwrap();
            panic!("on purpose");
        });
        assert!(failed.join().is_err());
        let kept = target_directory().unwrap().join("test-state/scratch-failed");
        assert_eq!(std::fs::read_to_string(kept.join("log")).unwrap(), "why");
        remove(&kept).unwrap();
    }
}
