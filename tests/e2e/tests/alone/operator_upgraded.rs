//! The operator is upgraded, with replicas of both versions side by side for a while: each server gets the agent of the new version
//! once, clients miss nothing, and nothing else is written or published.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use bindy_e2e::{
    Load, Operator, STEADY, STEADY_ADDRESS, STEADY_QUESTIONS, Way, ZONE, alone, served, versions,
};
use bindy_testing::cluster::Namespace;
use bindy_testing::manifest::a;
use bindy_zone::Rtype;

const REPOSITORY: &str = "firestoned/bindy";
const OLD: &str = "latest";
/// The same program as a version that nothing runs yet.
const NEW: &str = "another-version";
/// Seconds for which each replica of the new version stands beside one of the old.
const SIDE_BY_SIDE: u32 = 5;
/// Objects that are the same for both versions.
const SAME: [&str; 5] = ["ConfigMap", "Secret", "Service", "ServiceAccount", "NetworkPolicy"];

fn image(tag: &str) -> String {
    format!("ghcr.io/{REPOSITORY}:{tag}")
}

async fn upgrade(namespace: &Namespace, operator: &Operator) -> Result<()> {
    let before = served(namespace, 2).await?;
    let published = namespace.contents_are_published().await?;
    namespace.answers_by_service("primary", STEADY, Rtype::A, &[STEADY_ADDRESS]).await?;
    let objects = versions(namespace, &SAME).await?;
    let generation = namespace.get("Deployment", "primary").await?.metadata.generation;
    let probes = namespace.probe(&STEADY_QUESTIONS).await?;
    let load = Load::start(namespace, "primary", 100, Way::NewPorts).await?;
    probes.more_answers(&before, 10).await?;
    operator.upgrade(&image(NEW), SIDE_BY_SIDE).await?;
    let after = namespace.until_ready("primary", 2, &before.iter().collect::<Vec<_>>()).await?;
    namespace.ready("Bind9Instance", "primary").await?;
    probes.more_answers(&after, 10).await?;
    load.stop().await?.nothing_missed()?;
    let now = versions(namespace, &SAME).await?;
    ensure!(now == objects, "there were {objects:#?}, there are {now:#?}");
    let rolled_out = namespace.get("Deployment", "primary").await?.metadata.generation;
    ensure!(rolled_out == generation.map(|n| n + 1), "generation {rolled_out:?} after {generation:?}");
    ensure!(namespace.contents_are_published().await? == published, "another version was published");
    let history = probes.right(&published).await?;
    let seen: BTreeSet<&str> = history.observations.iter().map(|one| &*one.server).collect();
    ensure!(seen.len() == 4, "not two servers and two after them: {seen:?}");
    namespace.serve(&a("later", ZONE.0, "later", "192.0.2.7")).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_of_the_operator_rolls_every_server_once_and_writes_nothing_else() -> Result<()> {
    let cluster = alone().await?;
    cluster
        .in_namespace("operator-upgraded", async |namespace| {
            let operator = Operator::of(namespace.cluster());
            namespace.cluster().tag_image(REPOSITORY, OLD, NEW).await?;
            operator.scale_to(2).await?;
            let upgraded = upgrade(namespace, &operator).await;
            // As it was for whoever is next, whatever came of it.
            operator.upgrade(&image(OLD), 0).await?;
            operator.scale_to(1).await?;
            upgraded
        })
        .await
}
