//! A real Kubernetes, as tests use it: `cargo xtask cluster up` has made it, this finds it.
//!
//! ```text
//!   Cluster ── cluster.json: client, kubectl, nodes, API requests counted
//!     └─ Namespace     one per test: apply, patch, delete, wait by watch; gone after success, dumped after failure
//!          ├─ Server   a pod with named and agent: its address, its processes, its data
//!          ├─ Probes   asks every pod that comes and goes; the checker and the pods' readiness judge the answers
//!          └─ faults   signals, wiped data, packet rules, wrong clocks, full disks, nodes cut off or without power, requests
//!                      that are refused, late, lost
//! ```
//!
//! Nothing polls the API: every wait is a watch with a limit. Pods are asked from the host, which has routes to them;
//! Services from within a node's network namespace, where they exist.

mod answers;
mod api_proxy;
mod clock;
mod control_plane;
mod description;
mod disk;
mod dump;
mod kinds;
mod namespace;
mod network;
mod node;
mod outside;
mod packets;
mod probes;
mod process;
mod registry;
mod requests;
mod server;
mod watch;

use std::ffi::OsStr;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

pub use api_proxy::{ApiProxy, Fate, Line};
pub use clock::WrongClock;
pub use control_plane::Frozen;
pub use description::Description;
pub use disk::Disk;
pub use namespace::{Namespace, in_namespace};
pub use network::within;
pub use node::{CutOff, Node};
pub use outside::Outside;
pub use packets::PacketRules;
pub use probes::Probes;
pub use requests::{Request, Requests};
pub use server::{AGENT, Grace, NAMED, Pods, Server};
pub use watch::{Condition, condition, is_ready};

/// Names the cluster to use, or several with a space between them; `dev` without it.
pub const VARIABLE: &str = "BINDY_CLUSTER";
/// The operator's namespace.
pub const OPERATOR: &str = "dns-system";
/// How long anything may take that takes seconds on a machine that is not busy.
pub const LIMIT: Duration = Duration::from_secs(90);

/// A running cluster.
#[derive(Clone)]
pub struct Cluster {
    description: Description,
    client: Client,
}

impl Cluster {
    /// The names of the clusters that the environment names; at least one.
    pub fn names() -> Vec<String> {
        let names = std::env::var(VARIABLE).unwrap_or_default();
        let names: Vec<String> = names.split_whitespace().map(str::to_owned).collect();
        if names.is_empty() { vec!["dev".to_owned()] } else { names }
    }

    /// Connects to the first cluster that the environment names.
    pub async fn connect() -> Result<Self> {
        Self::named(Self::names().first().context("no cluster is named")?).await
    }

    /// Connects to the cluster of that name.
    pub async fn named(name: &str) -> Result<Self> {
        let description = Description::read(name)?;
        let kubeconfig = Kubeconfig::read_from(&description.kubeconfig)?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        Ok(Self { client: Client::try_from(config)?, description })
    }

    /// Where everything of it is.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// A client with the administrator's rights.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The node of that name.
    pub fn node(&self, name: &str) -> Result<&Node> {
        let found = self.description.nodes.iter().find(|node| node.name == name);
        found.with_context(|| format!("the cluster has no node {name}"))
    }

    /// Runs kubectl as the administrator and returns what it prints; its failure is an error with what it said.
    pub async fn kubectl<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<String> {
        let mut command = tokio::process::Command::new(&self.description.kube);
        command.arg("kubectl").arg("--kubeconfig").arg(&self.description.kubeconfig).args(arguments);
        let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await;
        let output = output.with_context(|| format!("cannot start {}", self.description.kube.display()))?;
        let words: Vec<_> = arguments.iter().map(|word| word.as_ref().to_string_lossy()).collect();
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "kubectl {}: {}", words.join(" "), said.trim());
        Ok(String::from_utf8(output.stdout)?)
    }
}
