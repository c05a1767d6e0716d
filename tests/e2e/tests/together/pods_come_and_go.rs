//! Pods are made, deleted one by one and all at once: no server gives a wrong, empty or older answer at any time, and
//! none is ready without its zone. What remains answers every question, and clients that asked while nothing remained are answered
//! when servers are back.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bindy_e2e::{Clients, Load, STEADY, STEADY_ADDRESS, STEADY_QUESTIONS, Way, ZONE, served, version_of};
use bindy_testing::checker::Published;
use bindy_testing::cluster::{Grace, Namespace, in_namespace};
use bindy_zone::Rtype;
use serde_json::json;

/// How long a node goes on to send nobody the questions of a client that asked while nobody was there.
const FORGOTTEN: Duration = Duration::from_secs(2);
/// How long a node sends questions to a server that is stopping.
const BUSY_NODE: Duration = Duration::from_secs(14);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_pod_and_one_less_disturb_nobody() -> Result<()> {
    in_namespace("new-pod", async |namespace| {
        let before = served(namespace, 1).await?;
        let published = namespace.contents_are_published().await?;
        let probes = namespace.probe(&STEADY_QUESTIONS).await?;
        probes.more_answers(&before, 20).await?;
        namespace.patch("Bind9Instance", "primary", json!({"spec": {"replicas": 3}})).await?;
        let servers = namespace.until_ready("primary", 3, &[]).await?;
        namespace.ready("Bind9Instance", "primary").await?;
        probes.more_answers(&servers, 20).await?;
        ensure!(same_versions(namespace, &published).await?, "another version was published");
        namespace.patch("Bind9Instance", "primary", json!({"spec": {"replicas": 2}})).await?;
        let servers = namespace.until_ready("primary", 2, &[]).await?;
        probes.more_answers(&servers, 20).await?;
        probes.right(&published).await.map(drop)
    })
    .await
}

/// Deletes a pod again and again, always the one that has been there longest, while clients of the Service ask.
async fn deleted_in_turn(test: &str, times: usize) -> Result<()> {
    in_namespace(test, async |namespace| {
        let mut servers = served(namespace, 2).await?;
        let published = namespace.contents_are_published().await?;
        let probes = namespace.probe(&STEADY_QUESTIONS).await?;
        // A pod is ready a moment before every node sends clients to it.
        namespace.answers_by_service("primary", STEADY, Rtype::A, &[STEADY_ADDRESS]).await?;
        // As the page's failover test does with dig, and as a resolver that keeps its port.
        let clients = Clients::start(namespace, "primary", 50).await?;
        probes.more_answers(&servers, 20).await?;
        for _ in 0..times {
            let victim = servers.remove(0);
            namespace.delete_server(&victim, Grace::Own).await?;
            let now = namespace.until_ready("primary", 2, &[&victim]).await?;
            let new = now.into_iter().filter(|one| servers.iter().all(|old| old.name != one.name));
            servers.extend(new.collect::<Vec<_>>());
        }
        probes.more_answers(&servers, 20).await?;
        clients.missed_nothing(times).await?;
        ensure!(same_versions(namespace, &published).await?, "another version was published");
        probes.right(&published).await.map(drop)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_pod_is_replaced_and_clients_of_the_service_miss_nothing() -> Result<()> {
    deleted_in_turn("deleted-pod", 1).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_still_asked_much_answers_on_when_it_is_about_to_stop() -> Result<()> {
    in_namespace("still-asked", async |namespace| {
        let servers = served(namespace, 2).await?;
        let victim = servers.first().context("no server")?;
        // As a node does that has not come to forget its connections to the server.
        let load = Load::start_at(namespace, victim.dns(), 500, Way::KeptPort)?;
        namespace.delete_server(victim, Grace::Own).await?;
        tokio::time::sleep(BUSY_NODE).await;
        load.stop().await?.nothing_missed()?;
        namespace.until_ready("primary", 2, &[victim]).await.map(drop)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: some seven minutes"]
async fn pods_are_deleted_in_a_loop() -> Result<()> {
    deleted_in_turn("deleted-pods", 30).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_pods_at_once_come_back_with_everything() -> Result<()> {
    in_namespace("all-pods", async |namespace| {
        let before = served(namespace, 2).await?;
        let published = namespace.contents_are_published().await?;
        let probes = namespace.probe(&STEADY_QUESTIONS).await?;
        // It asks from the same port before, while nobody is there, and after.
        let begun = Instant::now();
        let client = Load::start(namespace, "primary", 50, Way::KeptPort).await?;
        probes.more_answers(&before, 20).await?;
        for server in &before {
            namespace.delete_server(server, Grace::None).await?;
        }
        let gone: Vec<_> = before.iter().collect();
        let servers = namespace.until_ready("primary", 2, &gone).await?;
        namespace.answers_by_service("primary", STEADY, Rtype::A, &[STEADY_ADDRESS]).await?;
        let back = begun.elapsed();
        probes.more_answers(&servers, 100).await?;
        let asked = client.stop().await?;
        asked.nothing_wrong()?;
        let last = asked.lost.last().context("nothing was lost while nobody was there")?;
        ensure!(last.sent < back + FORGOTTEN, "back after {back:?}, and lost: {last:?}");
        namespace.answers(STEADY, Rtype::A, &[STEADY_ADDRESS]).await?;
        ensure!(same_versions(namespace, &published).await?, "another version was published");
        probes.right(&published).await.map(drop)
    })
    .await
}

async fn same_versions(namespace: &Namespace, before: &Published) -> Result<bool> {
    let now = namespace.contents_are_published().await?;
    Ok(version_of(&now, ZONE.1)? == version_of(before, ZONE.1)?)
}
