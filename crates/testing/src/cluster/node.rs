//! Nodes, cut off or without power.

use std::fs::File;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde::Deserialize;

use super::description::Description;
use super::process::{in_cgroup, send};
use crate::wait_for;

const POWER: Duration = Duration::from_secs(30);

/// A node: a network namespace with containerd, kubelet and kube-proxy.
#[derive(Clone, Debug, Deserialize)]
pub struct Node {
    /// Its name in the API.
    pub name: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// The networks of its pods, one of each family.
    pub pod_cidrs: Vec<String>,
    /// The file by which its network namespace is entered.
    pub netns: PathBuf,
    /// The name of its link on the host.
    pub link: String,
    /// Everything that it writes.
    pub directory: PathBuf,
    /// The directory of its cgroup; all its processes are below that, those of pods too.
    pub cgroup: String,
    /// Its programs, containerd first.
    pub processes: Vec<String>,
    /// Label `topology.kubernetes.io/region`.
    pub region: String,
    /// Label `topology.kubernetes.io/zone`.
    pub zone: String,
}

/// A node whose link is down; up again when dropped.
#[derive(Debug)]
pub struct CutOff(String);

impl Node {
    /// Takes its link down: nothing reaches it and it reaches nobody, while everything on it goes on.
    pub fn cut_off(&self) -> Result<CutOff> {
        set_link(&self.link, "down")?;
        Ok(CutOff(self.link.clone()))
    }

    /// Kills everything that runs on it, without warning.
    pub async fn power_off(&self) -> Result<()> {
        let path = self.cgroup.find("/bindy-cluster/").and_then(|at| self.cgroup.get(at..));
        let cgroup = format!("{}/", path.with_context(|| format!("{} is of no cluster", self.cgroup))?);
        wait_for(&format!("every process of {} to end", self.name), POWER, async || {
            let left = in_cgroup(&cgroup)?;
            for pid in &left {
                // It may have ended by itself.
                let _ = send(*pid, Signal::KILL);
            }
            ensure!(left.is_empty(), "{} processes are left", left.len());
            anyhow::Ok(())
        })
        .await
    }

    /// Starts its programs again.
    pub async fn power_on(&self, cluster: &Description) -> Result<()> {
        let socket = self.directory.join("containerd.sock");
        for program in &self.processes {
            let daemon = cluster.daemon(program)?;
            let log = File::options().append(true).open(&daemon.log)?;
            let mut command = Command::new("setsid");
            command.arg("--fork").arg(&daemon.start).stdin(Stdio::null());
            let status = command.stdout(log.try_clone()?).stderr(log).status().context("setsid")?;
            ensure!(status.success(), "{program} does not start: {status}");
            // The kubelet needs it.
            wait_for(&format!("containerd of {}", self.name), POWER, async || {
                tokio::net::UnixStream::connect(&socket).await.map(drop)
            })
            .await?;
        }
        Ok(())
    }
}

impl Drop for CutOff {
    #[expect(clippy::print_stderr, reason = "a link that stays down spoils the tests that follow")]
    fn drop(&mut self) {
        if let Err(error) = set_link(&self.0, "up") {
            eprintln!("link {} stays down: {error:#}", self.0);
        }
    }
}

fn set_link(link: &str, state: &str) -> Result<()> {
    let status = Command::new("ip").args(["link", "set", link, state]).status().context("cannot start ip")?;
    ensure!(status.success(), "ip link set {link} {state}: {status}");
    Ok(())
}
