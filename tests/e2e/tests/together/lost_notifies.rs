//! No server hears anything from the operator or from those above it: the agents of both tiers find out by themselves what is new,
//! and the status does not claim what the operator cannot see.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bindy_e2e::{Clients, Operator, STEADY_QUESTIONS, ZONE, add_versions, served_by};
use bindy_testing::cluster::{PacketRules, condition, in_namespace};
use bindy_testing::manifest::{a, instance, zone};
use bindy_zone::Rtype;

/// How late a change may be in the second tier that nobody told of.
const UNTOLD: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_arrive_within_five_seconds_although_every_notify_is_lost() -> Result<()> {
    in_namespace("lost-notifies", async |namespace| {
        let instances =
            instance("primary", "primary", 2, &[]) + &instance("secondary", "secondary", 2, &["primary"]);
        let primaries = served_by(namespace, &instances, 2).await?;
        let secondaries = namespace.until_ready("secondary", 2, &[]).await?;
        let mut published = namespace.contents_are_published().await?;
        let probes = namespace.probe(&STEADY_QUESTIONS).await?;
        let clients = Clients::beside(namespace, "secondary").await?;
        let operator = Operator::of(namespace.cluster()).addresses().await?;
        // Secondaries reach the transfer port of primaries, and none of these theirs.
        let lost =
            |from: &str| ["tcp", "udp"].map(|way| format!("ip saddr {{{from}}} {way} dport 5353 drop"));
        let of_primaries = lost(&operator);
        let others = primaries.iter().chain(&secondaries).map(|server| format!(", {}", server.address));
        let of_secondaries = lost(&(operator + &others.collect::<String>()));
        let tiers = [(&primaries, &of_primaries), (&secondaries, &of_secondaries)];
        let mut rules = Vec::new();
        for (servers, lost) in tiers {
            let lost = lost.each_ref().map(String::as_str);
            for server in servers {
                rules.push(PacketRules::set(&server.network()?, &lost, &[])?);
            }
        }
        for address in ["192.0.2.1", "192.0.2.2"] {
            namespace.apply(&a("edited", ZONE.0, "edited", address)).await?;
            let begun = Instant::now();
            namespace.answers("edited.example.com", Rtype::A, &[address]).await?;
            ensure!(begun.elapsed() < UNTOLD, "the change took {:?}", begun.elapsed());
            add_versions(&mut published, namespace.contents_are_published().await?);
        }
        namespace.apply(&(zone("more", "more.example") + &a("www", "more", "www", "192.0.2.3"))).await?;
        let begun = Instant::now();
        namespace.answers("www.more.example", Rtype::A, &["192.0.2.3"]).await?;
        ensure!(begun.elapsed() < UNTOLD, "the new zone took {:?}", begun.elapsed());
        // Nobody has seen it there, so nobody says so.
        namespace
            .until(("DNSZone", ZONE.0), "the status to say that servers cannot be asked", |zone| {
                let (ready, degraded) = (condition(zone, "Ready")?, condition(zone, "Degraded")?);
                let named = primaries
                    .iter()
                    .chain(&secondaries)
                    .any(|server| degraded.message.contains(&server.name));
                ensure!(
                    ready.status != "True" && degraded.status == "True" && named,
                    "{ready:?} {degraded:?}"
                );
                Ok(())
            })
            .await?;
        drop(rules);
        for (kind, name) in [("ARecord", "edited"), ("DNSZone", ZONE.0), ("DNSZone", "more")] {
            namespace.ready(kind, name).await?;
        }
        add_versions(&mut published, namespace.contents_are_published().await?);
        clients.missed_nothing(0).await?;
        probes.right(&published).await.map(drop)
    })
    .await
}
