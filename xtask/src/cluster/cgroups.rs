//! The cgroups of a cluster: `bindy-cluster/CLUSTER/PLACE`, PLACE being `control` or a node. They answer the question
//! which processes are ours, also for those that our processes started: shims, containers, probes.
//!
//! What we start is in `PLACE/daemons`, containers are in `PLACE/pods`: on version 2 only leaves have processes. On
//! version 1 what we start is put into two hierarchies only: one to find it, and that of the processors, which daemons and
//! pods of a node share alike. In the root cgroup each thread of a daemon would weigh as much as all pods together. All
//! clusters together weigh as much as a few threads of what asks them, where they would weigh as much as one.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cluster::layout::Name;

const TOP: &str = "bindy-cluster";
/// How much the clusters weigh against threads in the root cgroup, for versions 1 and 2, whose defaults are 1024 and 100:
/// nodes have processors of their own elsewhere, and a busy test would take two thirds of what there is here.
const WEIGHTS: [(&str, &str); 2] = [("cpu.shares", "16384"), ("cpu.weight", "1600")];
const MOUNTS: &str = "/proc/self/mounts";

/// Where containers of a node go, as the kubelet names it.
pub(crate) fn of_pods(cluster: &Name, node: &str) -> String {
    format!("/{TOP}/{cluster}/{node}/pods")
}

/// Makes it in all hierarchies, since the kubelet expects to find it, and gives all clusters together their weight.
pub(crate) fn ensure_pods(cluster: &Name, node: &str) -> Result<()> {
    for hierarchy in hierarchies()? {
        let directory = hierarchy.join(of_pods(cluster, node).trim_start_matches('/'));
        fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
        for (file, weight) in WEIGHTS {
            let file = hierarchy.join(TOP).join(file);
            if file.is_file() {
                fs::write(&file, weight).with_context(|| file.display().to_string())?;
            }
        }
    }
    Ok(())
}

/// Where the daemons of a place go, in each hierarchy that matters.
pub(crate) fn of_daemons(cluster: &Name, place: &str) -> Result<Vec<PathBuf>> {
    let found = of_place(cluster, place)?;
    let processors = hierarchies()?.into_iter().filter(|hierarchy| hierarchy.join("cpu.shares").is_file());
    let processors = processors.map(|hierarchy| within(&hierarchy, cluster, place));
    Ok(std::iter::once(found).chain(processors).map(|place| place.join("daemons")).collect())
}

/// The directory below which all processes of this place are.
pub(crate) fn of_place(cluster: &Name, place: &str) -> Result<PathBuf> {
    let hierarchies = hierarchies()?;
    let pids = hierarchies.iter().find(|path| path.ends_with("pids"));
    let chosen = pids.or(hierarchies.first()).context("no cgroup hierarchy is mounted")?;
    Ok(within(chosen, cluster, place))
}

fn within(hierarchy: &Path, cluster: &Name, place: &str) -> PathBuf {
    hierarchy.join(TOP).join(cluster.to_string()).join(place)
}

/// All processes of the cluster.
pub(crate) fn processes(cluster: &Name) -> Result<BTreeSet<i32>> {
    let mut found = BTreeSet::new();
    for directory in directories(cluster)? {
        let listed = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
        found.extend(listed.lines().filter_map(|line| line.parse::<i32>().ok()));
    }
    Ok(found)
}

/// Whether a process is in one of the cluster's cgroups.
pub(crate) fn has(cluster: &Name, pid: i32) -> bool {
    let places = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let ours = format!(":/{TOP}/{cluster}/");
    places.lines().any(|line| line.contains(&ours))
}

/// Lets frozen processes go on: a frozen process does not die.
pub(crate) fn thaw(cluster: &Name) -> Result<()> {
    for directory in directories(cluster)? {
        for (file, thawed) in [("freezer.state", "THAWED"), ("cgroup.freeze", "0")] {
            let file = directory.join(file);
            if file.is_file() {
                fs::write(&file, thawed).with_context(|| file.display().to_string())?;
            }
        }
    }
    Ok(())
}

/// Removes all that have no process.
pub(crate) fn remove(cluster: &Name) -> Result<()> {
    for directory in directories(cluster)?.iter().rev() {
        fs::remove_dir(directory).with_context(|| format!("cannot remove {}", directory.display()))?;
    }
    for hierarchy in hierarchies()? {
        // It stays while other clusters are in it.
        let _ = fs::remove_dir(hierarchy.join(TOP));
    }
    Ok(())
}

/// All directories of the cluster in all hierarchies, parents first.
fn directories(cluster: &Name) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for hierarchy in hierarchies()? {
        collect(&hierarchy.join(TOP).join(cluster.to_string()), &mut found);
    }
    Ok(found)
}

fn collect(directory: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    found.push(directory.to_owned());
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&entry.path(), found);
        }
    }
}

fn hierarchies() -> Result<Vec<PathBuf>> {
    let mounts = fs::read_to_string(MOUNTS).context(MOUNTS)?;
    Ok(mount_points(&mounts))
}

fn mount_points(mounts: &str) -> Vec<PathBuf> {
    let of_cgroups = |line: &str| {
        let mut words = line.split(' ');
        let (point, kind) = (words.nth(1)?, words.next()?);
        matches!(kind, "cgroup" | "cgroup2").then(|| PathBuf::from(point))
    };
    mounts.lines().filter_map(of_cgroups).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_of_both_versions_are_found() {
        let mounts = "proc /proc proc rw 0 0\n\
            cgroup /sys/fs/cgroup/pids cgroup rw,pids 0 0\n\
            cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        let found = mount_points(mounts);
        assert_eq!(found, [Path::new("/sys/fs/cgroup/pids"), Path::new("/sys/fs/cgroup/unified")]);
    }
}
