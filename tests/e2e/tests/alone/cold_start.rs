//! The operator is gone and so is every other server: a server with a volume starts from what it has.

use anyhow::{Context, Result, ensure};
use bindy_e2e::{
    Operator, STEADY, STEADY_ADDRESS, STEADY_QUESTIONS, alone, make_volumes, remove_volumes, served, storage,
};
use bindy_testing::cluster::Grace;
use bindy_zone::Rtype;
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_a_volume_starts_without_anybody_else() -> Result<()> {
    let cluster = alone().await?;
    cluster
        .in_namespace("cold-start", async |namespace| {
            let before = served(namespace, 1).await?;
            make_volumes(namespace, "primary", 1).await?;
            namespace.patch("Bind9Instance", "primary", json!({"spec": {"storage": storage()}})).await?;
            let stored = namespace.until_ready("primary", 1, &[before.first().context("no server")?]).await?;
            namespace.until_gone("Deployment", "primary").await?;
            let published = namespace.contents_are_published().await?;
            let operator = Operator::of(namespace.cluster());
            operator.stop().await?;
            let probes = namespace.probe(&STEADY_QUESTIONS).await?;
            probes.more_answers(&stored, 10).await?;
            let server = stored.first().context("no server")?;
            namespace.delete_server(server, Grace::None).await?;
            // A StatefulSet gives the next pod the same name.
            let again = namespace
                .until_servers("primary", "the server to be back from its volume", |servers| match servers {
                    [one] if one.ready && one.uid != server.uid => Ok(vec![one.clone()]),
                    others => anyhow::bail!("there are {others:?}"),
                })
                .await?;
            ensure!(again.len() == 1);
            namespace.answers(STEADY, Rtype::A, &[STEADY_ADDRESS]).await?;
            operator.start().await?;
            namespace.contents_are_published().await?;
            probes.right(&published).await?;
            remove_volumes(namespace, "primary", 1).await
        })
        .await
}
