//! Pods are made, deleted one by one and all at once: no server gives a wrong, empty or older answer at any time, and
//! none is ready without its zone. What remains answers every question.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bindy_e2e::{STEADY, STEADY_ADDRESS, STEADY_QUESTIONS, ZONE, served, version_of};
use bindy_testing::checker::Published;
use bindy_testing::cluster::{Grace, Namespace, in_namespace, within};
use bindy_testing::dns::{self, Transport};
use bindy_zone::{Name, Rtype};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_pod_is_replaced_and_clients_of_the_service_miss_nothing() -> Result<()> {
    in_namespace("deleted-pod", async |namespace| {
        let before = served(namespace, 2).await?;
        let published = namespace.contents_are_published().await?;
        let probes = namespace.probe(&STEADY_QUESTIONS).await?;
        // A pod is ready a moment before every node sends clients to it.
        namespace.answers_by_service("primary", STEADY, Rtype::A, &[STEADY_ADDRESS]).await?;
        let client = Client::start(namespace).await?;
        probes.more_answers(&before, 20).await?;
        let victim = before.first().context("no server")?;
        namespace.delete_server(victim, Grace::Own).await?;
        let servers = namespace.until_ready("primary", 2, &[victim]).await?;
        probes.more_answers(&servers, 20).await?;
        let asked = client.stop().await?;
        ensure!(asked > 100, "clients of the Service asked only {asked} times");
        ensure!(same_versions(namespace, &published).await?, "another version was published");
        probes.right(&published).await.map(drop)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_pods_at_once_come_back_with_everything() -> Result<()> {
    in_namespace("all-pods", async |namespace| {
        let before = served(namespace, 2).await?;
        let published = namespace.contents_are_published().await?;
        let probes = namespace.probe(&STEADY_QUESTIONS).await?;
        probes.more_answers(&before, 20).await?;
        for server in &before {
            namespace.delete_server(server, Grace::None).await?;
        }
        let gone: Vec<_> = before.iter().collect();
        let servers = namespace.until_ready("primary", 2, &gone).await?;
        probes.more_answers(&servers, 20).await?;
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

/// A client that asks the Service from a node, each time from another port, as the page's failover test does with dig.
struct Client {
    stop: CancellationToken,
    asking: JoinHandle<Result<u32>>,
}

impl Client {
    async fn start(namespace: &Namespace) -> Result<Self> {
        let address = SocketAddr::new(namespace.service_address("primary").await?, 53);
        let node = namespace.cluster().description().nodes.first().context("no nodes")?.netns.clone();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let asking = tokio::spawn(async move { within(&node, move || ask(address, stopped)).await });
        Ok(Self { stop, asking })
    }

    /// How many right answers it got; an error when one question stayed without.
    async fn stop(self) -> Result<u32> {
        self.stop.cancel();
        self.asking.await?.context("a client of the Service")
    }
}

async fn ask(service: SocketAddr, stopped: CancellationToken) -> Result<u32> {
    let (question, mut asked) = (Name::parse(STEADY)?, 0);
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    while !stopped.is_cancelled() {
        ticks.tick().await;
        let found = dns::texts(service, Transport::Udp, &question, Rtype::A).await;
        let found = found.with_context(|| format!("question {asked}"))?;
        ensure!(found == [STEADY_ADDRESS], "answer {asked} is {found:?}");
        asked += 1;
    }
    Ok(asked)
}
