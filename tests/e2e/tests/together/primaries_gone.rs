//! An instance has no server any more: those below it serve on, edits reach them all the same, and the status says what is the
//! case; when its servers are back they have what was edited meanwhile.

use anyhow::{Result, ensure};
use bindy_e2e::{Clients, STEADY_QUESTIONS, ZONE, add_versions, served_by};
use bindy_testing::cluster::{condition, in_namespace};
use bindy_testing::manifest::{a, instance};
use bindy_zone::Rtype;
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secondaries_serve_and_are_edited_while_their_primary_instance_has_no_server() -> Result<()> {
    in_namespace("primaries-gone", async |namespace| {
        let instances =
            instance("primary", "primary", 1, &[]) + &instance("secondary", "secondary", 2, &["primary"]);
        served_by(namespace, &instances, 1).await?;
        let secondaries = namespace.until_ready("secondary", 2, &[]).await?;
        let mut published = namespace.contents_are_published().await?;
        let probes = namespace.probe(&STEADY_QUESTIONS).await?;
        let clients = Clients::beside(namespace, "secondary").await?;
        probes.more_answers(&secondaries, 10).await?;

        namespace.patch("Bind9Instance", "primary", json!({"spec": {"replicas": 0}})).await?;
        namespace.until_ready("primary", 0, &[]).await?;
        namespace
            .until(("Bind9Instance", "primary"), "the status to say that nobody answers", |instance| {
                let ready = condition(instance, "Ready")?;
                ensure!(ready.message.contains("there is no server"), "{ready:?}");
                Ok(())
            })
            .await?;
        namespace.apply(&a("later", ZONE.0, "later", "192.0.2.7")).await?;
        for server in &secondaries {
            server.answers("later.example.com", Rtype::A, &["192.0.2.7"]).await?;
        }
        namespace
            .until(("DNSZone", ZONE.0), "the zone not to be called ready", |zone| {
                let ready = condition(zone, "Ready")?;
                let told = ready.status == "False" && ready.message.contains("primary");
                ensure!(told, "{ready:?}");
                Ok(())
            })
            .await?;

        namespace.patch("Bind9Instance", "primary", json!({"spec": {"replicas": 1}})).await?;
        let back = namespace.until_ready("primary", 1, &[]).await?;
        for server in &back {
            server.answers("later.example.com", Rtype::A, &["192.0.2.7"]).await?;
        }
        namespace.ready("ARecord", "later").await?;
        namespace.ready("DNSZone", ZONE.0).await?;
        probes.more_answers(&back, 10).await?;
        add_versions(&mut published, namespace.contents_are_published().await?);
        clients.missed_nothing(0).await?;
        probes.right(&published).await.map(drop)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secondaries_serve_and_are_edited_while_their_primary_instance_is_deleted() -> Result<()> {
    in_namespace("primary-deleted", async |namespace| {
        let primary = instance("primary", "primary", 1, &[]);
        let instances = primary.clone() + &instance("secondary", "secondary", 2, &["primary"]);
        served_by(namespace, &instances, 1).await?;
        let secondaries = namespace.until_ready("secondary", 2, &[]).await?;
        let mut published = namespace.contents_are_published().await?;
        // Which name servers the zone has changes with its instances, and with them the serial.
        let probes = namespace.probe(&[STEADY_QUESTIONS[0]]).await?;
        let clients = Clients::beside(namespace, "secondary").await?;
        probes.more_answers(&secondaries, 10).await?;

        namespace.remove("Bind9Instance", "primary").await?;
        let missing = "Bind9Instance primary does not exist";
        namespace
            .until(("Bind9Instance", "secondary"), "the status to name what is missing", |instance| {
                let accepted = condition(instance, "Accepted")?;
                let told = accepted.reason == "UpstreamNotFound" && accepted.message.contains(missing);
                ensure!(told, "{accepted:?}");
                Ok(())
            })
            .await?;
        namespace.apply(&a("later", ZONE.0, "later", "192.0.2.7")).await?;
        for server in &secondaries {
            server.answers("later.example.com", Rtype::A, &["192.0.2.7"]).await?;
        }

        namespace.serve(&primary).await?;
        for server in &namespace.until_ready("primary", 1, &[]).await? {
            server.answers("later.example.com", Rtype::A, &["192.0.2.7"]).await?;
        }
        for (kind, name) in [("Bind9Instance", "secondary"), ("DNSZone", ZONE.0), ("ARecord", "later")] {
            namespace.ready(kind, name).await?;
        }
        probes.more_answers(&secondaries, 10).await?;
        add_versions(&mut published, namespace.contents_are_published().await?);
        clients.missed_nothing(0).await?;
        probes.right(&published).await.map(drop)
    })
    .await
}
