//! An instance pulls a zone from another one as if that were in another cluster: by the address of its transfer Service and the
//! key that it hands out to downstreams outside.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bindy_e2e::{STEADY, STEADY_ADDRESS};
use bindy_testing::cluster::{Condition, Grace, LIMIT, Namespace, condition, in_namespace};
use bindy_testing::manifest::{a, manifest};
use bindy_testing::{dns, wait_for};
use bindy_zone::{Name, Rtype};
use serde_json::json;

/// Edits outside are found by asking.
const FOUND: Duration = Duration::from_secs(15);

fn instance(name: &str, spec: &str) -> String {
    manifest("Bind9Instance", name, spec)
        .replace(&format!("{{name: {name}}}"), &format!("{{name: {name}, labels: {{at: {name}}}}}"))
}

/// A zone on one instance.
fn zone_at(instance: &str, object: &str, zone_name: &str) -> String {
    let selector = format!("[{{selector: {{matchLabels: {{at: {instance}}}}}}}]");
    manifest("DNSZone", object, &format!("zoneName: {zone_name}, bind9InstancesFrom: {selector}"))
}

async fn www_is(namespace: &Namespace, address: &str, limit: Duration) -> Result<()> {
    let name = Name::parse("www.hq.example")?;
    for server in namespace.until_ready("edge", 2, &[]).await? {
        wait_for(&format!("www.hq.example at {}", server.name), limit, async || {
            let found = dns::texts(server.dns(), dns::Transport::Udp, &name, Rtype::A).await?;
            ensure!(found == [address], "it is {found:?}");
            anyhow::Ok(())
        })
        .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zone_of_another_cluster_is_served_and_outlives_it() -> Result<()> {
    in_namespace("from-outside", async |namespace| {
        let hq = instance("hq", "role: primary, replicas: 1, downstreams: [{name: east}]");
        let zone = zone_at("hq", "hq", "hq.example") + &a("www", "hq", "www", "192.0.2.1");
        namespace.apply(&(hq + &zone)).await?;
        namespace.ready("Bind9Instance", "hq").await?;
        namespace.ready("DNSZone", "hq").await?;
        let service = namespace.get("Service", "hq-transfer").await?;
        let address = service.data.pointer("/spec/clusterIP").and_then(|ip| ip.as_str()).context("no address")?;
        let key = namespace.downstream_key("hq", "east").await?.name;
        let upstream = format!(
            "{{name: hq, address: {address}, port: 5353, keyName: {key}, keySecret: hq-downstream-east, zones: [hq.example]}}"
        );
        let edge = instance("edge", &format!("role: secondary, replicas: 2, upstreams: [{upstream}]"));
        let own = zone_at("edge", "own", "example.com") + &a("steady", "own", "steady", STEADY_ADDRESS);
        namespace.apply(&(edge + &own)).await?;
        namespace.ready("ARecord", "steady").await?;
        www_is(namespace, "192.0.2.1", LIMIT).await?;
        namespace.answers_by_service("edge", STEADY, Rtype::A, &[STEADY_ADDRESS]).await?;
        let ready = namespace.ready("Bind9Instance", "edge").await?;
        ensure!(ready.data.pointer("/status/zones") == Some(&json!(2)), "{:?}", ready.data["status"]);

        namespace.apply(&a("www", "hq", "www", "192.0.2.2")).await?;
        www_is(namespace, "192.0.2.2", FOUND).await?;

        // A zone of that name is refused where it comes from outside.
        namespace.apply(&zone_at("edge", "taken", "hq.example")).await?;
        namespace
            .until(("DNSZone", "taken"), "it to be refused", |object| {
                let accepted: Condition = condition(object, "Accepted")?;
                let told = accepted.status == "False" && accepted.message.contains("outside of Bindy");
                ensure!(told, "{accepted:?}");
                Ok(())
            })
            .await?;

        // The other cluster is gone; a new server here gets the zone from its sibling.
        namespace.patch("Bind9Instance", "hq", json!({"spec": {"replicas": 0}})).await?;
        namespace.until_ready("hq", 0, &[]).await?;
        let before = namespace.until_ready("edge", 2, &[]).await?;
        let victim = before.first().context("no server")?;
        namespace.delete_server(victim, Grace::Own).await?;
        namespace.until_ready("edge", 2, &[victim]).await?;
        www_is(namespace, "192.0.2.2", LIMIT).await
    })
    .await
}
