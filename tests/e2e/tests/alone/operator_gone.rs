//! Without the operator DNS goes on: pods that die come back from their data and their siblings. What happened to the
//! objects meanwhile is in effect when it is back, and only their last state.

use anyhow::{Context, Result, ensure};
use bindy_e2e::{
    Clients, Operator, STEADY, STEADY_ADDRESS, STEADY_QUESTIONS, ZONE, add_versions, alone, served,
};
use bindy_testing::cluster::{AGENT, Grace, NAMED};
use bindy_testing::manifest::a;
use bindy_zone::Rtype;
use rustix::process::Signal;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_heal_without_the_operator_and_it_catches_up_when_it_is_back() -> Result<()> {
    let cluster = alone().await?;
    cluster
        .in_namespace("operator-gone", async |namespace| {
            let servers = served(namespace, 2).await?;
            namespace
                .serve(&(a("twice", ZONE.0, "twice", "192.0.2.1") + &a("gone", ZONE.0, "gone", "192.0.2.2")))
                .await?;
            let mut published = namespace.contents_are_published().await?;
            let probes = namespace.probe(&STEADY_QUESTIONS).await?;
            let clients = Clients::beside(namespace, "primary").await?;
            let operator = Operator::of(namespace.cluster());
            operator.stop().await?;

            let [first, second] = servers.as_slice() else { anyhow::bail!("not two servers") };
            // Its data is gone, so all it has it gets from its sibling.
            probes.outage_begins(first);
            first.wipe_and_kill(namespace.cluster())?;
            namespace.until_restarted(first, NAMED).await?;
            probes.outage_ends(first);
            second.signal(AGENT, Signal::KILL)?;
            namespace.until_restarted(second, AGENT).await?;
            namespace.delete_server(second, Grace::None).await?;
            let now = namespace.until_ready("primary", 2, &[second]).await?;
            namespace.answers(STEADY, Rtype::A, &[STEADY_ADDRESS]).await?;

            // Deleted and made again with another address; deleted; new; all unseen.
            namespace.remove("ARecord", "twice").await?;
            let edits = a("twice", ZONE.0, "twice", "192.0.2.3") + &a("new", ZONE.0, "new", "192.0.2.4");
            namespace.apply(&edits).await?;
            namespace.remove("ARecord", "gone").await?;
            namespace.remove("DNSZone", ZONE.0).await?;
            let zone = bindy_testing::manifest::zone(ZONE.0, ZONE.1);
            namespace.apply(&zone).await?;
            probes.more_answers(&now, 10).await?;
            operator.start().await?;
            namespace.answers("twice.example.com", Rtype::A, &["192.0.2.3"]).await?;
            namespace.answers("new.example.com", Rtype::A, &["192.0.2.4"]).await?;
            namespace.answers("gone.example.com", Rtype::A, &["NXDOMAIN"]).await?;
            namespace.ready("ARecord", "twice").await?;
            namespace.ready("DNSZone", ZONE.0).await?;
            add_versions(&mut published, namespace.contents_are_published().await?);
            clients.nothing_wrong().await?;
            let history = probes.right(&published).await?;
            ensure!(history.observations.len() > 100, "too few questions");
            servers.first().map(drop).context("no server")
        })
        .await
}
