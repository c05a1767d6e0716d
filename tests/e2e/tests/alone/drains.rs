//! Nodes are drained, one after the other and while servers are ill: the disruption budget lets one server go at a time, a
//! drain always ends, and clients of the Service miss nothing.

use anyhow::{Result, bail, ensure};
use bindy_e2e::{
    Clients, STEADY, STEADY_ADDRESS, STEADY_QUESTIONS, alone, drain, remove_volumes, served,
    served_with_volumes, storage, uncordon,
};
use bindy_testing::cluster::{NAMED, Namespace, Server};
use bindy_zone::Rtype;
use rustix::process::Signal;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_is_drained_in_turn() -> Result<()> {
    alone()
        .await?
        .in_namespace("drain", async |namespace| drained(namespace, served(namespace, 2).await?).await)
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_is_drained_of_servers_with_volumes_in_turn() -> Result<()> {
    let cluster = alone().await?;
    cluster
        .in_namespace("drain-volumes", async |namespace| {
            drained(namespace, served_with_volumes(namespace, 2, &storage()).await?).await?;
            remove_volumes(namespace, "primary", 2).await
        })
        .await
}

async fn drained(namespace: &Namespace, servers: Vec<Server>) -> Result<()> {
    let cluster = namespace.cluster();
    let published = namespace.contents_are_published().await?;
    namespace.answers_by_service("primary", STEADY, Rtype::A, &[STEADY_ADDRESS]).await?;
    let probes = namespace.probe(&STEADY_QUESTIONS).await?;
    let clients = Clients::start(namespace, "primary", 200).await?;
    probes.more_answers(&servers, 20).await?;
    for node in &cluster.description().nodes {
        let drained = drain(cluster, &node.name, 120).await;
        let servers = namespace.until_ready("primary", servers.len(), &[]).await;
        uncordon(cluster, &node.name).await?;
        drained?;
        let left: Vec<Server> = servers?.into_iter().filter(|server| server.node == node.name).collect();
        ensure!(left.is_empty(), "{} still has {left:?}", node.name);
    }
    probes.more_answers(&namespace.servers_of("primary").await?, 20).await?;
    clients.missed_nothing(6).await?;
    probes.right(&published).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_ends_although_servers_are_ill() -> Result<()> {
    let cluster = alone().await?;
    cluster
        .in_namespace("drain-ill", async |namespace| {
            let servers = served(namespace, 3).await?;
            let cluster = namespace.cluster();
            let published = namespace.contents_are_published().await?;
            let probes = namespace.probe(&[STEADY_QUESTIONS[0]]).await?;
            probes.more_answers(&servers, 20).await?;
            // Fewer are well than the budget asks for; by the default of Kubernetes it would keep the ill ones too.
            let [drained, ill, _] = &servers[..] else { bail!("there are {} servers", servers.len()) };
            for server in [drained, ill] {
                probes.outage_begins(server);
                server.signal(NAMED, Signal::STOP)?;
            }
            namespace
                .until_servers("primary", "the frozen servers not to be ready", |servers| {
                    let ready: Vec<&str> =
                        servers.iter().filter(|one| one.ready).map(|one| one.name.as_str()).collect();
                    ensure!(ready.len() == 1, "{ready:?} are ready");
                    Ok(())
                })
                .await?;
            let result = drain(cluster, &drained.node, 120).await;
            uncordon(cluster, &drained.node).await?;
            result?;
            ill.signal(NAMED, Signal::CONT)?;
            let servers = namespace.until_ready("primary", 3, &[drained]).await?;
            probes.outage_ends(ill);
            probes.more_answers(&servers, 20).await?;
            probes.right(&published).await.map(drop)
        })
        .await
}
