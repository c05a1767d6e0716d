//! A disk of a test: small, so that it can be full, and able to fail.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Octets of a disk.
const SIZE: u64 = 16 << 20;
/// What takes the room.
const BALLAST: &str = "ballast";

/// An ext4 file system in a file, mounted until this is dropped.
#[derive(Debug)]
pub struct Disk {
    directory: PathBuf,
}

impl Disk {
    /// A new one, mounted on the directory, that everybody may write to. It needs loop devices.
    pub fn mount(directory: &Path) -> Result<Self> {
        std::fs::create_dir_all(directory)?;
        let image = directory.with_extension("ext4");
        // Another file for another disk: what runs may have the former one still.
        let _none = std::fs::remove_file(&image);
        File::create(&image)?.set_len(SIZE)?;
        run(Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(&image))?;
        run(Command::new("mount").args(["-o", "loop,errors=remount-ro"]).arg(&image).arg(directory))?;
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

    /// The file system finds an error in itself, and nothing can be written to it any more.
    pub fn fail(&self) -> Result<()> {
        let mounts = std::fs::read_to_string("/proc/mounts")?;
        let place = self.directory.display().to_string();
        let line = mounts.lines().find(|line| line.split(' ').nth(1) == Some(&place));
        let device = line.and_then(|line| line.split(' ').next()?.strip_prefix("/dev/"));
        let device = device.with_context(|| format!("{place} is not mounted"))?;
        let trigger = format!("/sys/fs/ext4/{device}/trigger_fs_error");
        std::fs::write(&trigger, "asked for by a test").with_context(|| trigger.clone())?;
        let written = File::create(self.directory.join(BALLAST));
        ensure!(written.is_err(), "{place} can be written");
        Ok(())
    }
}

fn run(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_owned();
    let status = command.status().with_context(|| format!("cannot start {}", name.display()))?;
    ensure!(status.success(), "{}: {status}", name.display());
    Ok(())
}

impl Drop for Disk {
    #[expect(clippy::print_stderr, reason = "a mount that stays keeps its directory from being removed")]
    fn drop(&mut self) {
        // Containers may have it still; it goes with the last of them.
        if let Err(error) = run(Command::new("umount").arg("--lazy").arg(&self.directory)) {
            eprintln!("{} stays mounted: {error:#}", self.directory.display());
        }
    }
}
