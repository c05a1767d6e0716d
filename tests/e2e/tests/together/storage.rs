//! Storage is switched on and off on a living instance: a StatefulSet takes over from the Deployment, and gives way to it, and
//! clients of the Service miss nothing.

use anyhow::{Result, ensure};
use bindy_e2e::{
    Clients, STEADY, STEADY_ADDRESS, STEADY_QUESTIONS, make_volumes, remove_volumes, served, storage,
};
use bindy_testing::cluster::{Server, in_namespace};
use bindy_zone::Rtype;
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn storage_switched_on_and_off_loses_no_query() -> Result<()> {
    in_namespace("storage", async |namespace| {
        let before = served(namespace, 2).await?;
        make_volumes(namespace, "primary", 2).await?;
        let published = namespace.contents_are_published().await?;
        namespace.answers_by_service("primary", STEADY, Rtype::A, &[STEADY_ADDRESS]).await?;
        let probes = namespace.probe(&STEADY_QUESTIONS).await?;
        let clients = Clients::start(namespace, "primary", 200).await?;
        probes.more_answers(&before, 20).await?;

        namespace.patch("Bind9Instance", "primary", json!({"spec": {"storage": storage()}})).await?;
        let old: Vec<&Server> = before.iter().collect();
        let stored = namespace.until_ready("primary", 2, &old).await?;
        namespace.until_gone("Deployment", "primary").await?;
        probes.more_answers(&stored, 20).await?;
        for server in &stored {
            let directory = namespace.directory().join(format!("data-{}", server.name));
            let files = std::fs::read_dir(&directory)?.count();
            ensure!(files > 0, "{} has nothing in its volume", server.name);
        }

        namespace.patch("Bind9Instance", "primary", json!({"spec": {"storage": null}})).await?;
        let old: Vec<&Server> = stored.iter().collect();
        let servers = namespace.until_ready("primary", 2, &old).await?;
        namespace.until_gone("StatefulSet", "primary").await?;
        namespace.ready("Bind9Instance", "primary").await?;
        probes.more_answers(&servers, 20).await?;
        clients.missed_nothing(4).await?;
        probes.right(&published).await?;
        remove_volumes(namespace, "primary", 2).await
    })
    .await
}
