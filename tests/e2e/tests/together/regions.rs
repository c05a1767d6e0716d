//! Geographic distribution as on the page: each instance runs in the region of its label, zones reach all of them, and the page's
//! commands show it.

use anyhow::{Context, Result, ensure};
use bindy_e2e::{STEADY, STEADY_ADDRESS, ZONE};
use bindy_testing::cluster::{condition, in_namespace};
use bindy_testing::manifest::{a, zone};
use bindy_zone::Rtype;

/// The instances of the page, as they stand there.
const PAGE: &str = include_str!("../../../../crates/api/tests/ha-page/regions.yaml");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_run_in_their_regions_and_serve_the_same_zones() -> Result<()> {
    in_namespace("regions", async |namespace| {
        let contents = zone(ZONE.0, ZONE.1) + &a("steady", ZONE.0, "steady", STEADY_ADDRESS);
        namespace.serve(&format!("{PAGE}\n{contents}")).await?;
        namespace.answers(STEADY, Rtype::A, &[STEADY_ADDRESS]).await?;
        let list = ["get", "bind9instances", "-A", "-L", "region"];
        let shown = namespace.cluster().kubectl(&list).await?;
        for (instance, region) in [
            ("primary-us-east", "us-east-1"),
            ("secondary-us-west", "us-west-2"),
            ("secondary-eu-west", "eu-west-1"),
        ] {
            // Each region of this cluster is one node: to share it weighs less than to leave.
            for server in namespace.until_ready(instance, 2, &[]).await? {
                let node = namespace.cluster().node(&server.node)?;
                ensure!(node.region == region, "{} runs in {}, not in {region}", server.name, node.region);
            }
            let told = condition(&namespace.ready("Bind9Instance", instance).await?, "Degraded")?;
            ensure!(told.status == "False", "{instance}: {told:?}");
            let line = shown.lines().find(|line| line.contains(namespace.name()) && line.contains(instance));
            let line = line.with_context(|| format!("{instance} is not shown:\n{shown}"))?;
            ensure!(line.contains("2/2") && line.ends_with(region), "{line}");
        }
        namespace.contents_are_published().await.map(drop)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_region_without_nodes_is_named() -> Result<()> {
    in_namespace("no-such-region", async |namespace| {
        let on_mars = |name: &str, rest: &str| {
            format!(
                "---\napiVersion: bindy.firestoned.io/v1beta1\nkind: Bind9Instance\nmetadata:\n  name: {name}\n  labels: \
                 {{region: mars-1}}\nspec:\n  replicas: 2\n{rest}"
            )
        };
        let required = on_mars("nowhere", "  placement: {region: required}\n");
        namespace.apply(&(required + &on_mars("elsewhere", ""))).await?;
        namespace
            .until(("Bind9Instance", "nowhere"), "the status to name the region", |object| {
                let degraded = condition(object, "Degraded")?;
                ensure!(degraded.status == "True" && degraded.message.contains("mars-1"), "{degraded:?}");
                Ok(())
            })
            .await?;
        // A preference only: it runs, and says where it does not.
        namespace.until_ready("elsewhere", 2, &[]).await?;
        namespace
            .until(("Bind9Instance", "elsewhere"), "the status to tell of the other region", |object| {
                let degraded = condition(object, "Degraded")?;
                ensure!(degraded.status == "True" && degraded.message.contains("mars-1"), "{degraded:?}");
                Ok(())
            })
            .await
    })
    .await
}
