//! Pods are made, deleted one by one and all at once: no server gives a wrong, empty or older answer at any time, and
//! none is ready without its zone. What remains answers every question.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bindy_e2e::{STEADY, STEADY_ADDRESS, STEADY_QUESTIONS, ZONE, served, version_of};
use bindy_testing::checker::{self, Published};
use bindy_testing::cluster::{Grace, Namespace, in_namespace, within};
use bindy_testing::{History, ProbeTarget, Prober, ProberConfig, Question};
use bindy_zone::{Name, Rtype};
use serde_json::json;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

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
        let clients = Clients::start(namespace).await?;
        probes.more_answers(&before, 20).await?;
        let victim = before.first().context("no server")?;
        namespace.delete_server(victim, Grace::Own).await?;
        let servers = namespace.until_ready("primary", 2, &[victim]).await?;
        probes.more_answers(&servers, 20).await?;
        let history = clients.stop().await?;
        checker::verify(&history, &published).context("clients of the Service")?;
        let (asked, lost) = history.asked_and_lost();
        ensure!(asked > 100 && lost == 0, "{lost} of {asked} questions to the Service were lost");
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

/// Clients that ask the Service from a node, as those of the page's failover test do.
struct Clients {
    stop: oneshot::Sender<()>,
    asking: JoinHandle<Result<History>>,
}

impl Clients {
    async fn start(namespace: &Namespace) -> Result<Self> {
        let address = SocketAddr::new(namespace.service_address("primary").await?, 53);
        let node = namespace.cluster().description().nodes.first().context("no nodes")?.netns.clone();
        let (stop, stopped) = oneshot::channel();
        let asking = tokio::spawn(async move {
            within(&node, move || async move {
                let target = ProbeTarget { name: "service".to_owned(), address };
                let question = Question { name: Name::parse(STEADY)?, rtype: Rtype::A };
                let mut config = ProberConfig::new(vec![target], vec![question]);
                config.limit = Duration::from_secs(2);
                let prober = Prober::start(config).await?;
                // The test that has ended asks no more.
                let _ = stopped.await;
                prober.stop().await
            })
            .await
        });
        Ok(Self { stop, asking })
    }

    async fn stop(self) -> Result<History> {
        ensure!(self.stop.send(()).is_ok(), "the clients ended by themselves: {:?}", self.asking.await);
        self.asking.await?
    }
}
