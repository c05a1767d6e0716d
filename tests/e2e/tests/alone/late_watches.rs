//! A replica that has not heard of the latest edits takes over: before it publishes anything after a version that another one has
//! made, it lists all objects, so no edit is taken back.

use anyhow::{Context, Result, ensure};
use bindy_e2e::{Operator, ZONE, alone, served};
use bindy_testing::cluster::{ApiProxy, Fate, in_namespace};
use bindy_testing::dns::{self, Transport};
use bindy_testing::manifest::{a, manifest};
use bindy_zone::{Name, Rtype};

const EDITED: &str = "edited.example.com";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_watches_were_half_open_takes_nothing_back() -> Result<()> {
    let _alone = alone().await?;
    in_namespace("late-watches", async |namespace| {
        let operator = Operator::of(namespace.cluster());
        let proxy = ApiProxy::start(namespace.cluster()).await?;
        operator.through(&proxy, &[]).await?;
        let servers = served(namespace, 2).await?;
        namespace.serve(&a("edited", ZONE.0, "edited", "192.0.2.1")).await?;

        // Whoever starts from now on lists address records, and never hears of them again.
        let leader = operator.until_leader(|_| true).await?;
        let heard = leader.address;
        proxy.treat(move |line| match line.is_watch() && line.path.contains("/arecords?") {
            true if line.from != heard => Fate::Silent,
            _ => Fate::Pass,
        });
        operator.scale_to(2).await?;
        let replicas = operator.replicas().await?;
        let standby = replicas.iter().find(|one| one.name != leader.name).context("no standby")?;
        namespace.serve(&a("edited", ZONE.0, "edited", "192.0.2.2")).await?;
        namespace.answers(EDITED, Rtype::A, &["192.0.2.2"]).await?;

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
        ensure!(log.contains("all objects are listed"), "it was not behind:\n{log}");
        operator.scale_to(1).await?;
        operator.direct().await
    })
    .await
}
