//! Geographic distribution as on the page: each instance runs in the region of its label, zones reach all of them, and the page's
//! commands show it.

use anyhow::{Context, Result, ensure};
use bindy_e2e::{STEADY, STEADY_ADDRESS, ZONE};
use bindy_testing::cluster::{condition, in_namespace};
use bindy_testing::manifest::{a, zone};
use bindy_zone::Rtype;

/// An instance of the page, in a region of this cluster.
fn page_instance(name: &str, role: &str, region: &str, rest: &str) -> String {
    format!(
        "---\napiVersion: bindy.firestoned.io/v1beta1\nkind: Bind9Instance\nmetadata:\n  name: {name}\n  labels:\n    \
         dns-role: {role}\n    region: {region}\nspec:\n{rest}"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_run_in_their_regions_and_serve_the_same_zones() -> Result<()> {
    in_namespace("regions", async |namespace| {
        let nodes = namespace.cluster().description().nodes.clone();
        let regions: Vec<&str> = nodes.iter().map(|node| node.region.as_str()).collect();
        let [first, second, third] = regions[..] else {
            anyhow::bail!("the cluster has the regions {regions:?}")
        };
        // Each region of this cluster is one node: two servers prefer to be apart as much as to be in their region.
        let wanted = [
            ("primary-us-east", first, 1),
            ("secondary-us-west", second, 1),
            ("secondary-eu-west", third, 2),
        ];
        let manifests = page_instance("primary-us-east", "primary", first, "  replicas: 1\n")
            + &page_instance("secondary-us-west", "secondary", second, "  replicas: 1\n")
            + &page_instance(
                "secondary-eu-west",
                "secondary",
                third,
                "  replicas: 2\n  placement: {region: required}\n",
            )
            + &zone(ZONE.0, ZONE.1)
            + &a("steady", ZONE.0, "steady", STEADY_ADDRESS);
        namespace.serve(&manifests).await?;
        namespace.answers(STEADY, Rtype::A, &[STEADY_ADDRESS]).await?;
        for (instance, region, replicas) in wanted {
            for server in namespace.until_ready(instance, replicas, &[]).await? {
                let node = namespace.cluster().node(&server.node)?;
                ensure!(node.region == region, "{} runs in {}, not in {region}", server.name, node.region);
            }
        }
        namespace.contents_are_published().await?;
        let list = ["get", "bind9instances", "-A", "-L", "region"];
        let shown = namespace.cluster().kubectl(&list).await?;
        for (instance, region, replicas) in wanted {
            let ready = format!("{replicas}/{replicas}");
            let line = shown.lines().find(|line| line.contains(namespace.name()) && line.contains(instance));
            let line = line.with_context(|| format!("{instance} is not shown:\n{shown}"))?;
            ensure!(line.contains(&ready) && line.ends_with(region), "{line}");
        }
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_region_without_nodes_is_named() -> Result<()> {
    in_namespace("no-such-region", async |namespace| {
        let required = "  replicas: 2\n  placement: {region: required}\n";
        namespace
            .apply(
                &(page_instance("nowhere", "primary", "mars-1", required)
                    + &page_instance("elsewhere", "primary", "mars-1", "  replicas: 2\n")),
            )
            .await?;
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
