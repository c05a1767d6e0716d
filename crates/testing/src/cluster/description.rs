//! What `cargo xtask cluster` has written down about a cluster.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::Node;

const STATES: &str = "/var/lib/bindy-cluster";

/// `cluster.json`.
#[derive(Clone, Debug, Deserialize)]
pub struct Description {
    /// Its name.
    pub name: String,
    /// Of the administrator.
    pub kubeconfig: PathBuf,
    /// The binary with all Kubernetes programs.
    pub kube: PathBuf,
    /// The API server's URL.
    pub api: String,
    /// The URL of etcd, for clients on this host.
    pub etcd: String,
    /// Where the images come from.
    pub registry: SocketAddr,
    /// The link on the host that all nodes are connected to.
    pub bridge: String,
    /// The host's address on it.
    pub gateway: Ipv4Addr,
    /// Whether pods and Services have IPv6 addresses beside those of IPv4.
    #[serde(default)]
    pub dual_stack: bool,
    /// The nodes.
    pub nodes: Vec<Node>,
    /// The processes by name.
    pub processes: BTreeMap<String, Daemon>,
}

/// A process of the cluster.
#[derive(Clone, Debug, Deserialize)]
pub struct Daemon {
    /// The script that starts it.
    pub start: PathBuf,
    /// Its process ID, and when it was started.
    pub pid: PathBuf,
    /// What it prints.
    pub log: PathBuf,
}

impl Description {
    /// Reads that of the named cluster.
    pub fn read(name: &str) -> Result<Self> {
        let file = Path::new(STATES).join(name).join("cluster.json");
        ensure!(
            file.is_file(),
            "there is no cluster {name:?} on this machine. `cargo xtask test --only NAME` makes one for the tests it \
             runs; `cargo xtask cluster up` makes one to stay (another name: {}=NAME)",
            super::VARIABLE
        );
        let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        serde_json::from_str(&text).with_context(|| file.display().to_string())
    }

    /// The process of that name.
    pub fn daemon(&self, name: &str) -> Result<&Daemon> {
        self.processes.get(name).with_context(|| format!("the cluster has no process {name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_cluster_the_error_names_the_command() {
        let error = Description::read("nosuch").unwrap_err().to_string();
        assert!(error.contains("\"nosuch\"") && error.contains("cargo xtask cluster up"), "{error}");
    }
}
