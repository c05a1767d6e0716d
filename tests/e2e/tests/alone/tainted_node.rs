//! A node is for servers alone: its taint keeps off an instance that does not tolerate it, which is told so, and lets in one
//! that does.

use anyhow::{Result, ensure};
use bindy_e2e::{Clients, STEADY_QUESTIONS, alone, served, taint, untaint};
use bindy_testing::cluster::{Namespace, condition};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_run_on_a_tainted_node_once_they_tolerate_it_and_until_then_it_is_told() -> Result<()> {
    let cluster = alone().await?;
    cluster
        .in_namespace("tainted", async |namespace| {
            let nodes = &namespace.cluster().description().nodes;
            let [.., node] = nodes.as_slice() else { anyhow::bail!("no nodes") };
            taint(namespace.cluster(), &node.name).await?;
            let moved = moved_to(namespace, &node.name).await;
            untaint(namespace.cluster(), &node.name).await?;
            moved
        })
        .await
}

async fn place(namespace: &Namespace, placement: Value) -> Result<()> {
    namespace.patch("Bind9Instance", "primary", json!({"spec": {"placement": placement}})).await.map(drop)
}

/// Servers are to move to this node, which has the taint, first without and then with the toleration.
async fn moved_to(namespace: &Namespace, node: &str) -> Result<()> {
    let before = served(namespace, 2).await?;
    ensure!(before.iter().all(|one| one.node != node), "the taint of {node} keeps nobody off: {before:?}");
    let published = namespace.contents_are_published().await?;
    let clients = Clients::beside(namespace, "primary").await?;
    let probes = namespace.probe(&STEADY_QUESTIONS).await?;
    probes.more_answers(&before, 20).await?;
    place(namespace, json!({"nodeSelector": {"kubernetes.io/hostname": node}})).await?;
    namespace
        .until(("Bind9Instance", "primary"), "the status to tell of the taint", |instance| {
            for (kind, status) in [("Ready", "False"), ("Degraded", "True")] {
                let told = condition(instance, kind)?;
                let why =
                    told.message.contains("no node takes it") && told.message.contains("untolerated taint");
                ensure!(told.status == status && told.reason == "ServersFailing" && why, "{kind}: {told:?}");
            }
            Ok(())
        })
        .await?;
    let now = namespace.servers_of("primary").await?;
    let kept = before.iter().all(|one| now.iter().any(|now| now.uid == one.uid && now.ready));
    ensure!(kept, "servers were stopped: {now:?}");
    let toleration = json!({"key": "dedicated", "operator": "Equal", "value": "dns", "effect": "NoSchedule"});
    place(namespace, json!({"tolerations": [toleration]})).await?;
    let now = namespace.until_ready("primary", 2, &before.iter().collect::<Vec<_>>()).await?;
    ensure!(now.iter().all(|one| one.node == node), "{now:?} are not on {node}");
    let instance = namespace.ready("Bind9Instance", "primary").await?;
    let degraded = condition(&instance, "Degraded")?;
    ensure!(degraded.status == "False", "{degraded:?}");
    probes.more_answers(&now, 20).await?;
    ensure!(namespace.contents_are_published().await? == published, "another version was published");
    clients.missed_nothing(2).await?;
    probes.right(&published).await.map(drop)
}
