//! Nodes as an administrator handles them, and which of them may be lost.

use anyhow::{Context, Result};
use bindy_testing::cluster::{Cluster, Namespace, Node};

use crate::Operator;

/// The taint of nodes that are for servers alone.
const TAINT: &str = "dedicated=dns:NoSchedule";

/// Drains a node of servers; an error when that takes longer than so many seconds. Others' pods, the operator's too, stay.
pub async fn drain(cluster: &Cluster, node: &str, seconds: u32) -> Result<()> {
    drain_of(cluster, node, "app.kubernetes.io/managed-by=bindy", seconds).await
}

/// Drains it of the pods with these labels.
pub(crate) async fn drain_of(cluster: &Cluster, node: &str, labels: &str, seconds: u32) -> Result<()> {
    let (limit, pods) = (format!("--timeout={seconds}s"), format!("--pod-selector={labels}"));
    let words = ["drain", node, "--ignore-daemonsets", "--delete-emptydir-data", &limit, &pods];
    cluster.kubectl(&words).await.map(drop)
}

/// Lets pods onto it again.
pub async fn uncordon(cluster: &Cluster, node: &str) -> Result<()> {
    cluster.kubectl(&["uncordon", node]).await.map(drop)
}

/// A node that has neither the operator nor, being the first one, the clients of a load; and the others.
pub async fn one_and_others(namespace: &Namespace) -> Result<(Node, Vec<Node>)> {
    let operators = Operator::of(namespace.cluster()).replicas().await?;
    let mut nodes = namespace.cluster().description().nodes.clone();
    let free = |node: &Node| operators.iter().all(|pod| pod.node != node.name);
    let found = nodes.iter().skip(1).position(free).context("the operator is everywhere")?;
    Ok((nodes.remove(found + 1), nodes))
}

/// Keeps pods off a node that do not tolerate `dedicated=dns`.
pub async fn taint(cluster: &Cluster, node: &str) -> Result<()> {
    cluster.kubectl(&["taint", "node", node, "--overwrite", TAINT]).await.map(drop)
}

/// Lets them onto it again.
pub async fn untaint(cluster: &Cluster, node: &str) -> Result<()> {
    cluster.kubectl(&["taint", "node", node, &format!("{TAINT}-")]).await.map(drop)
}
