//! A region is lost, or a node is cut off while another one is to be drained: the rest answers everything, edits go on, the
//! budget keeps the drain from taking more than may be missing, and who was away has what it missed when it is back.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bindy_e2e::{
    Clients, Load, STEADY, STEADY_ADDRESS, STEADY_QUESTIONS, Way, ZONE, add_versions, alone, drain,
    one_and_others, served, uncordon,
};
use bindy_testing::cluster::{LIMIT, NAMED, Namespace, Node, Server, condition};
use bindy_testing::manifest::{a, zone};
use bindy_testing::wait_for;
use bindy_zone::Rtype;

/// How late servers that were away may have what they missed.
const CATCH_UP: Duration = Duration::from_secs(10);

/// An instance that runs in the region of a node and nowhere else.
fn within_region(name: &str, node: &Node, spec: &str) -> String {
    format!(
        "---\napiVersion: bindy.firestoned.io/v1beta1\nkind: Bind9Instance\nmetadata: {{name: {name}, labels: \
         {{region: {}}}}}\nspec: {{replicas: 2, placement: {{region: required}}, {spec}}}\n",
        node.region
    )
}

/// Waits until Kubernetes has noticed that these servers are away.
async fn not_ready(namespace: &Namespace, instance: &str, away: &[&Server]) -> Result<()> {
    namespace
        .until_servers(instance, "the servers that are away not to be ready", |servers| {
            for one in away {
                let now = servers.iter().find(|now| now.name == one.name);
                ensure!(now.is_none_or(|now| !now.ready), "{} is ready", one.name);
            }
            Ok(())
        })
        .await
}

/// How a region is lost.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Loss {
    /// Nothing passes between it and the others.
    Network,
    /// All its processes end at once.
    Power,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_region_has_every_edit_when_it_is_back() -> Result<()> {
    lost_and_back("region-lost", Loss::Network, Tier::Secondary).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_region_of_the_primary_keeps_no_edit_from_the_others() -> Result<()> {
    lost_and_back("region-primary", Loss::Network, Tier::Primary).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_region_without_power_has_every_edit_when_it_is_back() -> Result<()> {
    lost_and_back("region-power", Loss::Power, Tier::Secondary).await
}

/// Which of two tiers is lost.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tier {
    Primary,
    Secondary,
}

/// Two edits are made while the region of one tier is lost.
async fn lost_and_back(test: &str, loss: Loss, tier: Tier) -> Result<()> {
    let cluster = alone().await?;
    cluster
        .in_namespace(test, async |namespace| {
            let (lost, others) = one_and_others(namespace).await?;
            let (here, away) = match tier {
                Tier::Secondary => ("role: primary", "role: secondary, upstreams: [{name: here}]"),
                Tier::Primary => ("role: secondary, upstreams: [{name: away}]", "role: primary"),
            };
            let objects = within_region("here", others.first().context("no other node")?, here)
                + &within_region("away", &lost, away)
                + &zone(ZONE.0, ZONE.1)
                + &a("steady", ZONE.0, "steady", STEADY_ADDRESS);
            namespace.serve(&objects).await?;
            namespace.answers(STEADY, Rtype::A, &[STEADY_ADDRESS]).await?;
            let here = namespace.until_ready("here", 2, &[]).await?;
            let away = namespace.until_ready("away", 2, &[]).await?;
            let mut published = namespace.contents_are_published().await?;
            let probes = namespace.probe(&STEADY_QUESTIONS).await?;
            probes.more_answers(&here, 10).await?;
            let clients = Clients::beside(namespace, "here").await?;
            away.iter().for_each(|server| probes.outage_begins(server));
            let cut = match loss {
                Loss::Network => Some(lost.cut_off()?),
                Loss::Power => {
                    lost.power_off().await?;
                    None
                }
            };
            namespace.apply(&a("later", ZONE.0, "later", "192.0.2.7")).await?;
            for server in &here {
                server.answers("later.example.com", Rtype::A, &["192.0.2.7"]).await?;
            }
            not_ready(namespace, "away", &away.iter().collect::<Vec<_>>()).await?;
            namespace
                .until(("DNSZone", ZONE.0), "the status to name the instance that is away", |zone| {
                    let ready = condition(zone, "Ready")?;
                    ensure!(ready.status == "False" && ready.message.contains("/away"), "{ready:?}");
                    Ok(())
                })
                .await?;
            // contents_are_published() would wait for those that are away.
            let first = here.first().context("no server")?;
            let version = namespace.content(first, &namespace.get("DNSZone", ZONE.0).await?).await?;
            add_versions(&mut published, [(version.content.apex().clone(), vec![version])].into());
            namespace.apply(&a("later", ZONE.0, "later", "192.0.2.8")).await?;
            first.answers("later.example.com", Rtype::A, &["192.0.2.8"]).await?;
            let away = match loss {
                Loss::Network => {
                    drop(cut);
                    away
                }
                Loss::Power => {
                    lost.power_on(namespace.cluster().description()).await?;
                    for server in &away {
                        namespace.until_restarted(server, NAMED).await?;
                    }
                    namespace.until_ready("away", 2, &[]).await?
                }
            };
            for server in &away {
                let caught_up = server.answers("later.example.com", Rtype::A, &["192.0.2.8"]);
                tokio::time::timeout(CATCH_UP, caught_up).await.context("edits come too late")??;
                probes.outage_ends(server);
            }
            let away = namespace.until_ready("away", 2, &[]).await?;
            namespace.ready("ARecord", "later").await?;
            namespace.ready("DNSZone", ZONE.0).await?;
            probes.more_answers(&away, 10).await?;
            clients.missed_nothing(0).await?;
            add_versions(&mut published, namespace.contents_are_published().await?);
            probes.right(&published).await.map(drop)
        })
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_waits_while_another_node_is_cut_off() -> Result<()> {
    let cluster = alone().await?;
    cluster
        .in_namespace("cut-and-drain", async |namespace| {
            let servers = served(namespace, 3).await?;
            let (lost, others) = one_and_others(namespace).await?;
            let on = |node: &Node| servers.iter().find(|server| server.node == node.name);
            let away = on(&lost).context("no server on the node that is lost")?;
            let drained = others.iter().find(|node| on(node).is_some()).context("no other server")?;
            let published = namespace.contents_are_published().await?;
            let probes = namespace.probe(&STEADY_QUESTIONS).await?;
            probes.more_answers(&servers, 10).await?;
            probes.outage_begins(away);
            let cut = lost.cut_off()?;
            not_ready(namespace, "primary", &[away]).await?;
            wait_for("no client to be sent there any more", LIMIT, async || {
                let load = Load::start(namespace, "primary", 100, Way::NewPorts).await?;
                tokio::time::sleep(Duration::from_millis(500)).await;
                load.stop().await?.nothing_missed()
            })
            .await?;
            let load = Load::start(namespace, "primary", 100, Way::NewPorts).await?;
            let refused = drain(namespace.cluster(), &drained.name, 7).await;
            drop(cut);
            let back = namespace.until_ready("primary", 3, &[]).await;
            probes.outage_ends(away);
            let now_drained = drain(namespace.cluster(), &drained.name, 60).await;
            uncordon(namespace.cluster(), &drained.name).await?;
            let refused = refused.err().context("the drain took the second server of three")?;
            let refused = format!("{refused:#}");
            let ours = refused
                .lines()
                .any(|line| line.contains(namespace.name()) && line.contains("disruption budget"));
            ensure!(ours, "{refused}");
            now_drained?;
            back?;
            let servers = namespace.until_ready("primary", 3, &[]).await?;
            probes.more_answers(&servers, 10).await?;
            load.stop().await?.nothing_missed()?;
            ensure!(namespace.contents_are_published().await? == published, "another version was published");
            probes.right(&published).await.map(drop)
        })
        .await
}
