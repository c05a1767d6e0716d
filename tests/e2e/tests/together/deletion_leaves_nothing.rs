//! Deleting never waits and leaves nothing: no finalizer, no object, no zone on any server; in whatever order.

use anyhow::{Result, ensure};
use bindy_e2e::{STEADY, STEADY_ADDRESS, served};
use bindy_testing::cluster::{LIMIT, Namespace, in_namespace};
use bindy_testing::manifest::{a, instance, zone};
use bindy_zone::Rtype;
use kube::ResourceExt;

/// What the operator makes for an instance.
const MADE: [&str; 6] = ["Deployment", "Service", "ConfigMap", "Secret", "ServiceAccount", "NetworkPolicy"];

/// Waits until nothing of the operator's is left in the namespace.
async fn nothing_is_left(namespace: &Namespace) -> Result<()> {
    for kind in MADE.iter().chain(&["Pod"]) {
        namespace
            .until_all(kind, (&format!("every {kind} of the instance to be gone"), LIMIT), |objects| {
                let ours = objects.values().filter(|one| {
                    one.labels().get("app.kubernetes.io/managed-by").is_some_and(|by| by == "bindy")
                });
                let left: Vec<_> = ours.map(ResourceExt::name_any).collect();
                ensure!(left.is_empty(), "there still are {left:?}");
                Ok(())
            })
            .await?;
    }
    Ok(())
}

async fn has_finalizers(namespace: &Namespace) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for kind in MADE.iter().chain(&["Bind9Instance", "DNSZone", "ARecord"]) {
        let objects = namespace.list(kind).await?;
        let held = objects.iter().filter(|one| !one.finalizers().is_empty());
        found.extend(held.map(|one| format!("{kind} {}", one.name_any())));
    }
    Ok(found)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_instance_first_then_the_zone_then_the_record() -> Result<()> {
    in_namespace("deleted-downwards", async |namespace| {
        served(namespace, 1).await?;
        let serial = namespace.get("DNSZone", "example-com").await?.data["status"]["serial"].as_u64();
        let held = has_finalizers(namespace).await?;
        ensure!(held.is_empty(), "finalizers on {held:?}");
        for (kind, name) in [("Bind9Instance", "primary"), ("DNSZone", "example-com"), ("ARecord", "steady")]
        {
            namespace.remove(kind, name).await?;
            namespace.until_gone(kind, name).await?;
        }
        nothing_is_left(namespace).await?;
        // Made again it is served again, and its serial has not gone back.
        served(namespace, 1).await?;
        let again = namespace.get("DNSZone", "example-com").await?.data["status"]["serial"].as_u64();
        ensure!(again > serial, "serial {again:?} after {serial:?}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_record_first_then_the_zone_then_everything_at_once() -> Result<()> {
    in_namespace("deleted-upwards", async |namespace| {
        let more = instance("secondary", "secondary", 1, &["primary"]) + &zone("other", "other.example");
        namespace.apply(&(more + &a("www", "other", "www", "192.0.2.1"))).await?;
        served(namespace, 1).await?;
        namespace.remove("ARecord", "steady").await?;
        namespace.answers(STEADY, Rtype::A, &["NXDOMAIN"]).await?;
        namespace.remove("DNSZone", "example-com").await?;
        namespace.answers(STEADY, Rtype::A, &["REFUSED"]).await?;
        namespace.answers("www.other.example", Rtype::A, &["192.0.2.1"]).await?;
        let all = "bind9instances,dnszones,arecords";
        namespace
            .cluster()
            .kubectl(&["delete", all, "--all", "-n", namespace.name(), "--timeout=30s"])
            .await?;
        nothing_is_left(namespace).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn created_deleted_and_created_again_the_last_state_wins() -> Result<()> {
    in_namespace("created-again", async |namespace| {
        served(namespace, 1).await?;
        // As fast as the API takes them, so that the operator sees some of it only in between.
        for last in 1..=20 {
            let address = format!("192.0.2.{last}");
            namespace.apply(&a("again", "example-com", "again", &address)).await?;
            if last < 20 {
                namespace.remove("ARecord", "again").await?;
            }
        }
        namespace.ready("ARecord", "again").await?;
        namespace.answers("again.example.com", Rtype::A, &["192.0.2.20"]).await?;
        namespace.remove("ARecord", "again").await?;
        namespace.answers("again.example.com", Rtype::A, &["NXDOMAIN"]).await?;
        namespace.answers(STEADY, Rtype::A, &[STEADY_ADDRESS]).await?;
        namespace.contents_are_published().await.map(drop)
    })
    .await
}
