//! Takes a cluster down by its name alone, however far it had come: processes, mounts, namespaces and links, cgroups,
//! files. Afterwards nothing of it is left, or the error names what is.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use crate::cluster::layout::{Name, STATES};
use crate::cluster::process::{kill_if, kill_recorded};
use crate::cluster::wait::Wait;
use crate::cluster::{cgroups, network};
use crate::steps::run;

const LIMIT: Duration = Duration::from_secs(30);
const MOUNTS: &str = "/proc/self/mountinfo";
const NAMESPACES: &str = "/run/netns";
/// Directories that programs of a cluster make and share with others.
const SHARED: [&str; 7] = [
    "/var/lib/cni/results",
    "/var/lib/cni",
    "/var/log/containers",
    "/var/lib/kubelet/device-plugins",
    "/var/lib/kubelet",
    "/run/containerd/s",
    "/run/containerd",
];

/// All of it. A cluster that is not there is no error.
pub(crate) fn run_all(name: &Name) -> Result<()> {
    let state = name.directory();
    kill_all(name, &state)?;
    let sockets = shim_sockets(name);
    wait("its mounts to go").until(|| unmount_below(&state))?;
    network::remove(name)?;
    wait("its cgroups to go").until(|| cgroups::remove(name))?;
    remove_outside(name, &sockets)?;
    if state.exists() {
        fs::remove_dir_all(&state).with_context(|| state.display().to_string())?;
    }
    // It stays while there are other clusters.
    let _ = fs::remove_dir(STATES);
    unmount_namespaces()
}

fn wait(what: &str) -> Wait<'_> {
    Wait { what, limit: LIMIT, log: None }
}

fn kill_all(name: &Name, state: &Path) -> Result<()> {
    kill_recorded(&state.join("run"));
    cgroups::thaw(name)?;
    // Until none is left: a process may start another one while it is being killed.
    wait("its processes to end").until(|| {
        let running = cgroups::processes(name)?;
        for pid in &running {
            kill_if(*pid, Signal::KILL, || cgroups::has(name, *pid));
        }
        ensure!(running.is_empty(), "{running:?} run");
        Ok(())
    })
}

fn unmount_below(state: &Path) -> Result<()> {
    let mounts = fs::read_to_string(MOUNTS).context(MOUNTS)?;
    for point in mount_points(&mounts, state).iter().rev() {
        run(Command::new("umount").arg(point))?;
    }
    Ok(())
}

/// Mount points below a directory, in the order in which they were mounted.
fn mount_points(mounts: &str, below: &Path) -> Vec<PathBuf> {
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    points.map(PathBuf::from).filter(|point| point.starts_with(below)).collect()
}

/// Shims listen outside of the cluster's directory, and write down where.
fn shim_sockets(name: &Name) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for node in name.possible_nodes() {
        let tasks = name.directory().join(node).join("run/io.containerd.runtime.v2.task/k8s.io");
        for task in fs::read_dir(tasks).into_iter().flatten().flatten() {
            let address = fs::read_to_string(task.path().join("address")).unwrap_or_default();
            found.extend(address.strip_prefix("unix://").map(PathBuf::from));
        }
    }
    found
}

/// What containerd, kubelet and the network plugins write to places that cannot be chosen.
fn remove_outside(name: &Name, sockets: &[PathBuf]) -> Result<()> {
    for socket in sockets.iter().filter(|socket| socket.exists()) {
        remove_file(socket)?;
    }
    let state = name.directory();
    let within = format!("{}/", state.display());
    remove_files("/var/lib/cni/results", |file| {
        fs::read_to_string(file).is_ok_and(|text| text.contains(&within))
    })?;
    remove_files("/var/log/containers", |file| {
        fs::read_link(file).is_ok_and(|target| target.starts_with(&state))
    })?;
    // All kubelets of a machine share it. Only a living one answers.
    remove_files("/var/lib/kubelet/device-plugins", |file| {
        file.ends_with("kubelet.sock") && UnixStream::connect(file).is_err()
    })?;
    for directory in SHARED {
        // It stays when others have something in it.
        let _ = fs::remove_dir(directory);
    }
    Ok(())
}

fn remove_files(directory: &str, is_ours: impl Fn(&Path) -> bool) -> Result<()> {
    let files = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    files.filter(|file| is_ours(file)).try_for_each(|file| remove_file(&file))
}

fn remove_file(file: &Path) -> Result<()> {
    fs::remove_file(file).with_context(|| file.display().to_string())
}

/// `ip netns add` mounts the directory of namespaces onto itself, and nobody undoes that.
fn unmount_namespaces() -> Result<()> {
    let directory = Path::new(NAMESPACES);
    let is_empty = fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_none());
    let mounts = fs::read_to_string(MOUNTS).context(MOUNTS)?;
    if is_empty && mount_points(&mounts, directory).iter().any(|point| point == directory) {
        run(Command::new("umount").arg(directory))?;
        fs::remove_dir(directory).context(NAMESPACES)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mounts_below_the_directory_are_taken() {
        let mounts = "36 1 0:1 / / rw - ext4 /dev/vda rw\n\
            40 36 0:2 / /var/lib/bindy-cluster/dev/a rw - tmpfs tmpfs rw\n\
            41 36 0:3 / /var/lib/bindy-cluster/dev2/a rw - tmpfs tmpfs rw\n\
            42 40 0:4 / /var/lib/bindy-cluster/dev/a/b rw - overlay overlay rw\n";
        let found = mount_points(mounts, Path::new("/var/lib/bindy-cluster/dev"));
        assert_eq!(found.len(), 2);
        assert!(found[1].ends_with("dev/a/b"), "{found:?}");
    }
}
