//! The clock of a server is an hour ahead, then behind: it answers on, changes do not reach it, and the status says that it is the clock.

use anyhow::{Context, Result, ensure};
use bindy_e2e::{Clients, STEADY_QUESTIONS, ZONE, add_versions, served};
use bindy_testing::cluster::{condition, in_namespace};
use bindy_testing::manifest::a;
use bindy_zone::Rtype;

const HOUR: i32 = 3_600;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_clock_is_an_hour_off_is_named_with_the_reason() -> Result<()> {
    in_namespace("wrong-clock", async |namespace| {
        let servers = served(namespace, 2).await?;
        let mut published = namespace.contents_are_published().await?;
        let probes = namespace.probe(&STEADY_QUESTIONS).await?;
        let clients = Clients::beside(namespace, "primary").await?;
        probes.more_answers(&servers, 10).await?;
        let [wrong, right] = servers.as_slice() else { anyhow::bail!("not two servers") };
        for (seconds, address) in [(HOUR, "192.0.2.7"), (-HOUR, "192.0.2.8")] {
            let clock = wrong.set_clock(seconds).context("the clock")?;
            namespace.apply(&a("later", ZONE.0, "later", address)).await?;
            right.answers("later.example.com", Rtype::A, &[address]).await?;
            for (kind, name) in [("DNSZone", ZONE.0), ("Bind9Instance", "primary")] {
                namespace
                    .until((kind, name), "the status to name the server and its clock", |object| {
                        let degraded = condition(object, "Degraded")?;
                        let message = &degraded.message;
                        let told = message.contains(&wrong.name) && message.contains("the clocks differ");
                        ensure!(degraded.status == "True" && told, "{degraded:?}");
                        Ok(())
                    })
                    .await?;
            }
            probes.more_answers(&servers, 10).await?;
            drop(clock);
            wrong.answers("later.example.com", Rtype::A, &[address]).await?;
            namespace.ready("ARecord", "later").await?;
            namespace.ready("DNSZone", ZONE.0).await?;
            add_versions(&mut published, namespace.contents_are_published().await?);
        }
        clients.missed_nothing(0).await?;
        probes.right(&published).await.map(drop)
    })
    .await
}
