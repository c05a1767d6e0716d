//! A directory per test under `target/test-state`: gone when the test passed, kept when it panicked.

use std::io;
use std::path::{Path, PathBuf};

/// The directory of one test. Keep it in a variable that is dropped after the processes that use it, so declare it
/// first.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    kept: bool,
}

impl Scratch {
    /// Makes an empty directory for the test `name`; what an earlier failure left there is removed.
    pub fn new(name: &str) -> io::Result<Self> {
        let path = target_directory()?.join("test-state").join(name);
        match std::fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => std::fs::create_dir_all(&path)?,
        }
        Ok(Self { path, kept: false })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps the directory even without a panic: a test that returns an error has failed as well.
    pub fn keep(&mut self) {
        self.kept = true;
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
        if self.kept || std::thread::panicking() {
            eprintln!("state and logs of the failed test: {}", self.path.display());
        } else if let Err(error) = std::fs::remove_dir_all(&self.path) {
            eprintln!("{} cannot be removed: {error}", self.path.display());
        }
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
    fn directory_is_gone_after_success_and_kept_after_a_panic() {
        let passed = Scratch::new("scratch-passed").unwrap();
        let path = passed.write("a/b", "text").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "text");
        drop(passed);
        assert!(!path.exists());

        let failed = std::thread::spawn(|| {
            let scratch = Scratch::new("scratch-failed").unwrap();
            scratch.write("log", "why").unwrap();
            panic!("on purpose");
        });
        assert!(failed.join().is_err());
        let kept = Scratch::new("scratch-failed-other").unwrap().path().with_file_name("scratch-failed");
        assert_eq!(std::fs::read_to_string(kept.join("log")).unwrap(), "why");
        std::fs::remove_dir_all(kept).unwrap();
    }
}
