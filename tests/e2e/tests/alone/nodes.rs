//! A node is cut off, and one loses its power: the others answer, and the node's pods are back when it is.

use anyhow::{Context, Result, ensure};
use bindy_e2e::{Clients, STEADY_QUESTIONS, alone, served};
use bindy_testing::cluster::{NAMED, OPERATOR, Pods};
use bindy_testing::dns::{self, Transport};
use bindy_testing::{cluster::LIMIT, wait_for};
use bindy_zone::{Name, Rtype};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_loses_its_power_comes_back_with_its_servers() -> Result<()> {
    let cluster = alone().await?;
    cluster
        .in_namespace("node-power", async |namespace| {
            let servers = served(namespace, 2).await?;
            let published = namespace.contents_are_published().await?;
            let cluster = namespace.cluster();
            let operators = Pods::new(cluster, OPERATOR, "app=bindy").all().await?;
            let of_operator = &operators.first().context("the operator has no pod")?.node;
            // Not the operator's node: its loss is another test's matter.
            let victim = servers.iter().find(|one| one.node != *of_operator).context("all on one node")?;
            let node = cluster.node(&victim.node)?.clone();
            let probes = namespace.probe(&STEADY_QUESTIONS).await?;
            let clients = Clients::beside(namespace, "primary").await?;
            probes.more_answers(&servers, 10).await?;

            probes.outage_begins(victim);
            let cut = node.cut_off()?;
            wait_for("the node to be cut off", LIMIT, async || {
                let zone = Name::parse("example.com")?;
                let asked = dns::ask(victim.dns(), Transport::Udp, &zone, Rtype::SOA);
                ensure!(
                    tokio::time::timeout(std::time::Duration::from_millis(300), asked).await.is_err(),
                    "it answers"
                );
                anyhow::Ok(())
            })
            .await?;
            drop(cut);
            wait_for("it to answer again", LIMIT, async || {
                dns::serial(victim.dns(), Transport::Udp, &Name::parse("example.com")?).await.map(drop)
            })
            .await?;

            node.power_off().await?;
            node.power_on(cluster.description()).await?;
            // What the API says of it until then is from before.
            namespace.until_restarted(victim, NAMED).await?;
            let servers = namespace.until_ready("primary", 2, &[]).await?;
            probes.outage_ends(victim);
            probes.more_answers(&servers, 10).await?;
            ensure!(namespace.contents_are_published().await? == published, "another version was published");
            clients.nothing_wrong().await?;
            probes.right(&published).await.map(drop)
        })
        .await
}
