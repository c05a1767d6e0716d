//! What other tests rely on does what it says.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bindy_e2e::Count;
use bindy_testing::cluster::{Cluster, in_namespace};
use serde_json::json;

#[test]
fn statistics_of_dnsperf_are_read() -> Result<()> {
    let said = "Statistics:\n\n  Queries sent:         60003\n  Queries completed:    59998 (99.99%)\n  Queries lost:         2 (0.00%)\n  \
                Queries interrupted:  3 (0.00%)\n\n  Response codes:       NOERROR 59990 (99.99%), SERVFAIL 8 (0.01%)\n";
    ensure!(Count::read(said)? == Count { asked: 60_000, lost: 2, wrong: 8 }, "{:?}", Count::read(said));
    ensure!(Count::read("[Fatal] no socket\n").is_err(), "no statistics were read");
    Ok(())
}

#[tokio::test]
async fn a_namespace_is_gone_after_success() -> Result<()> {
    let mut name = String::new();
    in_namespace("gone-after-success", async |namespace| {
        name = namespace.name().to_owned();
        let settings = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}});
        namespace.apply_object(&settings).await?;
        namespace.get("ConfigMap", "settings").await.map(drop)
    })
    .await?;
    let cluster = Cluster::connect().await?;
    cluster.kubectl(&["wait", "--for=delete", &format!("namespace/{name}"), "--timeout=60s"]).await.map(drop)
}

#[tokio::test]
async fn a_failed_test_keeps_its_namespace_and_its_error_names_the_dump() -> Result<()> {
    let mut name = String::new();
    let failed = in_namespace("kept-after-failure", async |namespace| {
        name = namespace.name().to_owned();
        let wait = namespace.until_any(("ConfigMap", "never"), ("it", Duration::from_millis(300)), |found| {
            found.context("it is not there").map(drop)
        });
        wait.await
    });
    let error = format!("{:#}", failed.await.err().context("it did not fail")?);
    ensure!(error.contains("waited 300ms for it") && error.contains("it is not there"), "{error}");
    let directory = error.split(" are in ").nth(1).and_then(|rest| rest.split(':').next());
    let directory = std::path::Path::new(directory.context("no directory is named")?);
    ensure!(directory.join("objects.yaml").is_file(), "no dump in {}", directory.display());
    std::fs::remove_dir_all(directory)?;
    let cluster = Cluster::connect().await?;
    cluster.kubectl(&["delete", "namespace", &name]).await.map(drop)
}
