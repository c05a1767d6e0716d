//! An upstream that cannot be reached, in the two ways that BIND by itself takes badly: it drops packets, or it accepts and
//! says nothing. Nobody else can help, since the operator is out of reach as well. What was edited meanwhile is there
//! within two seconds of the upstream's return.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bindy_e2e::{Clients, Operator, STEADY_QUESTIONS, ZONE, add_versions, served_by, until_live};
use bindy_testing::cluster::{PacketRules, in_namespace};
use bindy_testing::dns::{self, Transport};
use bindy_testing::manifest::{a, instance};
use bindy_zone::{Name, Rtype};

/// From the upstream's return to the answer.
const RETURN: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_are_there_within_two_seconds_of_an_upstreams_return() -> Result<()> {
    in_namespace("silent-upstream", async |namespace| {
        let instances =
            instance("primary", "primary", 1, &[]) + &instance("secondary", "secondary", 2, &["primary"]);
        let primaries = served_by(namespace, &instances, 1).await?;
        let secondaries = namespace.until_ready("secondary", 2, &[]).await?;
        let upstream = primaries.first().context("no primary")?;
        let mut published = namespace.contents_are_published().await?;
        let probes = namespace.probe(&STEADY_QUESTIONS).await?;
        let clients = Clients::beside(namespace, "secondary").await?;
        let source = format!("upstream-{}-primary", namespace.name());
        until_live(&secondaries, &source, Some(true)).await?;
        let operator = Operator::of(namespace.cluster()).addresses().await?;
        let rules = ["saddr", "daddr"].map(|way| format!("ip {way} {{{operator}}} drop"));
        let _without_operator: Vec<PacketRules> = secondaries
            .iter()
            .map(|server| PacketRules::set(&server.network()?, &[&rules[0]], &[&rules[1]]))
            .collect::<Result<_>>()?;
        until_live(&secondaries, "hidden-primary", Some(false)).await?;
        // Whatever carries a request is lost; in the second case connections are made all the same.
        let faults = ["tcp dport 5353 drop", "tcp dport 5353 tcp flags & psh == psh drop"];
        for (number, fault) in (1..).zip(faults) {
            // Of the fault before nothing is left: the change may have come by the sibling before that.
            until_live(&secondaries, &source, Some(true)).await?;
            let rules = PacketRules::set(&upstream.network()?, &[fault, "udp dport 5353 drop"], &[])?;
            until_live(&secondaries, &source, Some(false)).await?;
            let address = format!("192.0.2.{number}");
            namespace.apply(&a("edited", ZONE.0, "edited", &address)).await?;
            upstream.answers("edited.example.com", Rtype::A, &[&address]).await?;
            let name = Name::parse("edited.example.com")?;
            for server in &secondaries {
                let early = dns::texts(server.dns(), Transport::Udp, &name, Rtype::A).await?;
                ensure!(early != [address.as_str()], "{} has another source", server.name);
            }
            drop(rules);
            let returned = Instant::now();
            for server in &secondaries {
                server.answers("edited.example.com", Rtype::A, &[&address]).await?;
            }
            ensure!(returned.elapsed() < RETURN, "{fault}: it took {:?}", returned.elapsed());
            add_versions(&mut published, namespace.contents_are_published().await?);
        }
        clients.missed_nothing(0).await?;
        probes.right(&published).await.map(drop)
    })
    .await
}
