//! Nodes are drained, one after the other and while a server is ill: the disruption budget lets one server go at a time, a
//! drain always ends, and clients of the Service miss nothing.

use anyhow::{Context, Result, ensure};
use bindy_e2e::{Load, Ports, STEADY, STEADY_ADDRESS, STEADY_QUESTIONS, alone, drain, served, uncordon};
use bindy_testing::cluster::{NAMED, Server};
use bindy_zone::Rtype;
use rustix::process::Signal;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_is_drained_in_turn() -> Result<()> {
    let cluster = alone().await?;
    cluster
        .in_namespace("drain", async |namespace| {
            let before = served(namespace, 2).await?;
            let cluster = namespace.cluster();
            let published = namespace.contents_are_published().await?;
            namespace.answers_by_service("primary", STEADY, Rtype::A, &[STEADY_ADDRESS]).await?;
            let probes = namespace.probe(&STEADY_QUESTIONS).await?;
            let load = Load::start(namespace, "primary", 200, Ports::Kept).await?;
            probes.more_answers(&before, 20).await?;
            for node in &cluster.description().nodes {
                let drained = drain(cluster, &node.name, 120).await;
                let servers = namespace.until_ready("primary", 2, &[]).await;
                uncordon(cluster, &node.name).await?;
                drained?;
                let left: Vec<Server> =
                    servers?.into_iter().filter(|server| server.node == node.name).collect();
                ensure!(left.is_empty(), "{} still has {left:?}", node.name);
            }
            probes.more_answers(&namespace.servers_of("primary").await?, 20).await?;
            load.stop().await?.only_answers_under_way_missed(6)?;
            probes.right(&published).await.map(drop)
        })
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_ends_although_a_server_is_ill() -> Result<()> {
    let cluster = alone().await?;
    cluster
        .in_namespace("drain-ill", async |namespace| {
            let servers = served(namespace, 2).await?;
            let cluster = namespace.cluster();
            let published = namespace.contents_are_published().await?;
            let probes = namespace.probe(&[STEADY_QUESTIONS[0]]).await?;
            probes.more_answers(&servers, 20).await?;
            let ill = servers.first().context("no server")?;
            probes.outage_begins(ill);
            ill.signal(NAMED, Signal::STOP)?;
            namespace
                .until_servers("primary", "the frozen server not to be ready", |servers| {
                    let now = servers.iter().find(|one| one.name == ill.name).context("it is gone")?;
                    ensure!(!now.ready, "it is ready");
                    Ok(())
                })
                .await?;
            let drained = drain(cluster, &ill.node, 120).await;
            uncordon(cluster, &ill.node).await?;
            drained?;
            let servers = namespace.until_ready("primary", 2, &[ill]).await?;
            probes.more_answers(&servers, 20).await?;
            probes.right(&published).await.map(drop)
        })
        .await
}
