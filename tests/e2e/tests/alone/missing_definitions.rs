//! The operator is there before the custom resource definitions are: it says what is missing, is not restarted, and works
//! from the moment they are installed.

use std::path::Path;

use anyhow::{Result, ensure};
use bindy_e2e::{Operator, alone, served};
use bindy_testing::cluster::LIMIT;
use bindy_testing::wait_for;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operator_waits_for_the_custom_resource_definitions() -> Result<()> {
    let cluster = alone().await?;
    let operator = Operator::of(&cluster);
    let definitions = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/crds.yaml");
    let definitions = definitions.to_string_lossy();
    operator.stop().await?;
    cluster.kubectl(&["delete", "-f", &definitions]).await?;
    operator.start_unready().await?;
    wait_for("the log to say what is missing", LIMIT, async || {
        let log = operator.log().await?;
        ensure!(log.contains("kubectl apply --server-side -f deploy/crds.yaml"), "{log}");
        anyhow::Ok(())
    })
    .await?;
    let before = operator.pod().await?;
    ensure!(before.restarts == 0, "{before:?}");
    cluster.kubectl(&["apply", "--server-side", "-f", &definitions]).await?;
    operator.until_ready().await?;
    ensure!(operator.pod().await? == before, "the operator was restarted");
    cluster
        .in_namespace("definitions", async |namespace| {
            served(namespace, 1).await?;
            namespace.contents_are_published().await.map(drop)
        })
        .await
}
