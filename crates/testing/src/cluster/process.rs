//! The processes of a container, found by its cgroup: processes of pods are processes of this host.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

/// The processes whose cgroup has this text in its path, by their ID on the host.
pub(super) fn in_cgroup(part: &str) -> Result<BTreeSet<i32>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // A process that has just ended has no cgroup.
        let groups = fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
        if groups.contains(part) {
            found.insert(pid);
        }
    }
    Ok(found)
}

/// The first process of a container: the one that is number 1 in there.
pub(super) fn first_of(container: &str) -> Result<i32> {
    let is_first = |pid: &i32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        numbers.and_then(|numbers| numbers.split_whitespace().last()) == Some("1")
    };
    let found = in_cgroup(container)?.into_iter().find(is_first);
    found.with_context(|| format!("container {container} has no process"))
}

/// Sends a signal.
pub(super) fn send(pid: i32, signal: Signal) -> Result<()> {
    let known = Pid::from_raw(pid).context("a process ID out of range")?;
    kill_process(known, signal).with_context(|| format!("cannot signal {pid}"))
}

/// The network namespace of a process.
pub(super) fn network_of(pid: i32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/ns/net"))
}
