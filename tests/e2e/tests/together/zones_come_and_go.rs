//! Zones are added and removed by their objects alone; the others do not notice.

use anyhow::Result;
use bindy_e2e::{STEADY_QUESTIONS, served};
use bindy_testing::cluster::{Namespace, in_namespace};
use bindy_testing::manifest::{a, manifest, zone};
use bindy_zone::Rtype;
use serde_json::json;

async fn add(namespace: &Namespace, number: u32) -> Result<()> {
    let (object, name) = (format!("zone-{number}"), format!("zone-{number}.example"));
    let address = format!("192.0.2.{number}");
    let record = a(&format!("www-{number}"), &object, "www", &address);
    namespace.serve(&(zone(&object, &name) + &record)).await?;
    // Ready is proof, so the answer is there now.
    namespace.answers(&format!("www.{name}"), Rtype::A, &[&address]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn zones_are_added_removed_and_added_again() -> Result<()> {
    in_namespace("zones-come-and-go", async |namespace| {
        let servers = served(namespace, 2).await?;
        let published = namespace.contents_are_published().await?;
        let probes = namespace.probe(&STEADY_QUESTIONS).await?;
        for number in 1..=3 {
            add(namespace, number).await?;
        }
        namespace.contents_are_published().await?;
        namespace.remove("DNSZone", "zone-2").await?;
        namespace.answers("www.zone-2.example", Rtype::A, &["REFUSED"]).await?;
        namespace.answers("www.zone-1.example", Rtype::A, &["192.0.2.1"]).await?;
        namespace.answers("www.zone-3.example", Rtype::A, &["192.0.2.3"]).await?;
        // Its record has stayed, so the zone has it again.
        add(namespace, 2).await?;
        namespace.contents_are_published().await?;
        probes.more_answers(&servers, 5).await?;
        probes.right(&published).await.map(drop)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn labels_choose_the_instances_that_serve_a_zone() -> Result<()> {
    in_namespace("chosen-instances", async |namespace| {
        let instances = ["east", "west"].map(|name| {
            let labels = json!({"site": name});
            json!({
                "apiVersion": "bindy.firestoned.io/v1beta1", "kind": "Bind9Instance",
                "metadata": {"name": name, "labels": labels}, "spec": {"replicas": 1},
            })
        });
        for instance in &instances {
            namespace.apply_object(instance).await?;
        }
        let chosen =
            "zoneName: chosen.example, bind9InstancesFrom: [{selector: {matchLabels: {site: east}}}]";
        namespace
            .serve(&(manifest("DNSZone", "chosen", chosen) + &a("www", "chosen", "www", "192.0.2.1")))
            .await?;
        namespace.ready("Bind9Instance", "west").await?;
        for (instance, expected) in [("east", "192.0.2.1"), ("west", "REFUSED")] {
            namespace.answers_by_service(instance, "www.chosen.example", Rtype::A, &[expected]).await?;
        }
        let other =
            json!({"spec": {"bind9InstancesFrom": [{"selector": {"matchLabels": {"site": "west"}}}]}});
        namespace.patch("DNSZone", "chosen", other).await?;
        for (instance, expected) in [("west", "192.0.2.1"), ("east", "REFUSED")] {
            namespace.answers_by_service(instance, "www.chosen.example", Rtype::A, &[expected]).await?;
        }
        Ok(())
    })
    .await
}
