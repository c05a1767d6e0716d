//! A replica that has not heard of the latest edits takes over. It lists all objects before it publishes anything after a version
//! that another one has made, and knows every instance as it is before it touches workloads, so nothing is taken back.

use anyhow::{Context, Result, ensure};
use bindy_e2e::{Operator, ZONE, alone, served};
use bindy_testing::cluster::{ApiProxy, Fate, LIMIT};
use bindy_testing::dns::{self, Transport};
use bindy_testing::manifest::{a, manifest};
use bindy_zone::{Name, Rtype};
use serde_json::json;

/// What a replica logs of each version, its own and those that it follows; the zone's name comes next.
const PUBLISHED: &str = "\"message\":\"published\",\"zone\":\"";
/// It leads, and has yet to list everything.
const BEHIND: &str = "all objects are listed first";
const EDITED: &str = "edited.example.com";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_watches_were_half_open_takes_nothing_back() -> Result<()> {
    let cluster = alone().await?;
    cluster
        .in_namespace("late-watches", async |namespace| {
            let operator = Operator::of(namespace.cluster());
            let proxy = ApiProxy::start(namespace.cluster()).await?;
            operator.through(&proxy, &[]).await?;
            served(namespace, 2).await?;
            namespace.serve(&a("edited", ZONE.0, "edited", "192.0.2.1")).await?;

            // Whoever starts from now on lists address records and instances, and never hears of them again.
            let leader = operator.until_leader(|_| true).await?;
            let heard = leader.address;
            proxy.treat(move |line| {
                let silent = ["/arecords?", "/bind9instances?"].iter().any(|kind| line.path.contains(kind));
                if line.is_watch() && silent && line.from != heard { Fate::Silent } else { Fate::Pass }
            });
            operator.scale_to(2).await?;
            let replicas = operator.replicas().await?;
            let standby = replicas.iter().find(|one| one.name != leader.name).context("no standby")?;
            namespace.serve(&a("edited", ZONE.0, "edited", "192.0.2.2")).await?;
            namespace.patch("Bind9Instance", "primary", json!({"spec": {"replicas": 3}})).await?;
            let servers = namespace.until_ready("primary", 3, &[]).await?;
            namespace.ready("Bind9Instance", "primary").await?;
            namespace.answers(EDITED, Rtype::A, &["192.0.2.2"]).await?;

            let zone = namespace.get("DNSZone", ZONE.0).await?;
            let before = zone.data["status"]["serial"].to_string();
            operator.delete(&leader).await?;
            operator.until_leader(|one| one.name == standby.name).await?;
            // Of this it hears.
            let marker = format!("zoneRef: {}, name: marker, ipv6Addresses: [\"2001:db8::1\"]", ZONE.0);
            namespace.apply(&manifest("AAAARecord", "marker", &marker)).await?;
            let question = Name::parse(EDITED)?;
            for server in &servers {
                server.answers("marker.example.com", Rtype::AAAA, &["2001:db8::1"]).await?;
                let edited = dns::texts(server.dns(), Transport::Udp, &question, Rtype::A).await?;
                ensure!(edited == ["192.0.2.2"], "the edit was taken back: {edited:?}");
            }
            let log = operator.log_of(standby).await?;
            let (followed, led) =
                log.split_once(BEHIND).with_context(|| format!("it was not behind:\n{log}"))?;
            // Of the test's own zones: those of other tests may still be going.
            let catalogs = format!(".{}.catalog.bindy.\"", namespace.name());
            let ours = |line: &&str| {
                let zone = line.split_once(PUBLISHED).map(|(_, zone)| zone);
                zone.is_some_and(|zone| zone.starts_with("example.com.\"") || zone.contains(&catalogs))
            };
            let known = followed.lines().filter(ours).any(|line| line.contains(&before));
            ensure!(known, "it has not followed {before}:\n{followed}");
            let written: Vec<&str> = led.lines().filter(ours).collect();
            ensure!(written.len() == 1, "it wrote more than the marker's version: {written:?}");
            // It looks after workloads by now.
            let (kind, name) = ("PodDisruptionBudget", "primary-pdb");
            let before = namespace.get(kind, name).await?.metadata.uid;
            namespace.remove(kind, name).await?;
            namespace
                .until_any((kind, name), ("the disruption budget to be made again", LIMIT), |object| {
                    let object = object.context("it is gone")?;
                    ensure!(object.metadata.uid != before, "it has not been deleted yet");
                    Ok(())
                })
                .await?;
            let now = namespace.until_ready("primary", 3, &[]).await?;
            let gone = servers.iter().find(|one| now.iter().all(|other| other.name != one.name));
            ensure!(gone.is_none(), "{gone:?} was taken away");
            operator.scale_to(1).await?;
            operator.direct().await
        })
        .await
}
