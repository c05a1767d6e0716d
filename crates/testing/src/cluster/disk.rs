//! A disk of a test: small, so that it can be full, and writable until it is not.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// What takes the room.
const BALLAST: &str = "ballast";

/// A file system in memory, mounted until this is dropped.
#[derive(Debug)]
pub struct Disk {
    directory: PathBuf,
}

impl Disk {
    /// One of so many mebibytes, mounted on the directory, that everybody may write to.
    pub fn mount(directory: &Path, mebibytes: u32) -> Result<Self> {
        std::fs::create_dir_all(directory)?;
        let options = format!("size={mebibytes}m");
        mount(&["-t", "tmpfs", "-o", &options, "bindy-e2e"], directory)?;
        let disk = Self { directory: directory.to_owned() };
        // Kubernetes gives no host directory to the group of a pod.
        std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o777))?;
        Ok(disk)
    }

    /// Writes until there is no room left.
    pub fn fill(&self) -> Result<()> {
        let mut ballast = File::create(self.directory.join(BALLAST))?;
        for block in [&[0; 65_536][..], &[0]] {
            loop {
                match ballast.write_all(block) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    /// Makes the room free that [`Disk::fill`] took.
    pub fn empty(&self) -> Result<()> {
        std::fs::remove_file(self.directory.join(BALLAST)).context("the disk was not filled")
    }

    /// Nothing can be written any more, as after an error of the device.
    pub fn read_only(&self) -> Result<()> {
        mount(&["-o", "remount,ro"], &self.directory)
    }

    /// It can be written again.
    pub fn writable(&self) -> Result<()> {
        mount(&["-o", "remount,rw"], &self.directory)
    }
}

fn mount(options: &[&str], directory: &Path) -> Result<()> {
    let status = Command::new("mount").args(options).arg(directory).status().context("cannot start mount")?;
    ensure!(status.success(), "mount {}: {status}", options.join(" "));
    Ok(())
}

impl Drop for Disk {
    #[expect(clippy::print_stderr, reason = "a mount that stays keeps its directory from being removed")]
    fn drop(&mut self) {
        // Containers may have it still; it goes with the last of them.
        match Command::new("umount").arg("--lazy").arg(&self.directory).status() {
            Ok(status) if status.success() => {}
            result => eprintln!("{} stays mounted: {result:?}", self.directory.display()),
        }
    }
}
