//! Nodes as an administrator handles them.

use anyhow::Result;
use bindy_testing::cluster::Cluster;

/// Drains a node of servers; an error when that takes longer than so many seconds. Others' pods, the operator's too, stay.
pub async fn drain(cluster: &Cluster, node: &str, seconds: u32) -> Result<()> {
    let limit = format!("--timeout={seconds}s");
    let words = ["drain", node, "--ignore-daemonsets", "--delete-emptydir-data", &limit];
    let servers = ["--pod-selector=app.kubernetes.io/managed-by=bindy"];
    cluster.kubectl(&[&words[..], &servers].concat()).await.map(drop)
}

/// Lets pods onto it again.
pub async fn uncordon(cluster: &Cluster, node: &str) -> Result<()> {
    cluster.kubectl(&["uncordon", node]).await.map(drop)
}
