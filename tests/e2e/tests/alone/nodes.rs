//! A node is cut off, and one loses its power: the others answer, and the node's pods are back when it is, or are made
//! elsewhere where that takes long; those with volumes when somebody says that the node is gone.

use std::collections::BTreeSet;
use std::slice;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bindy_e2e::{
    Clients, STEADY_QUESTIONS, ZONE, add_versions, alone, one_and_others, remove_volumes, served,
    served_with_volumes, storage,
};
use bindy_testing::cluster::{Grace, NAMED, Namespace, Node, OPERATOR, Pods, Server, condition, is_ready};
use bindy_testing::dns::{self, Transport};
use bindy_testing::manifest::a;
use bindy_testing::{cluster::LIMIT, wait_for};
use bindy_zone::{Name, Rtype};
use serde_json::json;

/// How late an edit may be at the servers that are left.
const EDIT: Duration = Duration::from_secs(5);

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
                ensure!(tokio::time::timeout(Duration::from_millis(300), asked).await.is_err(), "it answers");
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_of_a_lost_node_are_made_on_the_others_while_it_is_away() -> Result<()> {
    let cluster = alone().await?;
    cluster
        .in_namespace("node-lost", async |namespace| {
            // Each node has one, so the new one has to share.
            let servers = served(namespace, 3).await?;
            let (lost, _) = one_and_others(namespace).await?;
            let (away, left): (Vec<Server>, Vec<Server>) =
                servers.into_iter().partition(|server| server.node == lost.name);
            let [away] = &away[..] else { bail!("{} has {away:?}", lost.name) };
            let mut published = namespace.contents_are_published().await?;
            let probes = namespace.probe(&STEADY_QUESTIONS).await?;
            let clients = Clients::beside(namespace, "primary").await?;
            probes.more_answers(&left, 10).await?;
            probes.outage_begins(away);
            lost.power_off().await?;
            let replaced = replaced(namespace, away, &left).await;
            let later = Clients::start(namespace, "primary", 50).await;
            lost.power_on(namespace.cluster().description()).await?;
            let now = replaced?;
            let after = namespace.until_ready("primary", 3, &[away]).await?;
            ensure!(same(&now, &after), "{now:?} became {after:?}");
            add_versions(&mut published, namespace.contents_are_published().await?);
            edited(namespace, &after, "192.0.2.8").await?;
            crowded(namespace, &lost).await?;
            probes.more_answers(&after, 10).await?;
            later?.missed_nothing(0).await?;
            clients.nothing_wrong().await?;
            add_versions(&mut published, namespace.contents_are_published().await?);
            probes.right(&published).await?;
            spread_again(namespace, &lost).await
        })
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_a_volume_leaves_a_lost_node_when_the_remedy_of_its_status_is_taken() -> Result<()> {
    let cluster = alone().await?;
    cluster
        .in_namespace("node-lost-volume", async |namespace| {
            let cluster = namespace.cluster();
            // Any node can mount the volumes.
            let servers = served_with_volumes(namespace, 3, &storage()).await?;
            let (lost, _) = one_and_others(namespace).await?;
            let (away, left): (Vec<Server>, Vec<Server>) =
                servers.into_iter().partition(|server| server.node == lost.name);
            let [away] = &away[..] else { bail!("{} has {away:?}", lost.name) };
            let mut published = namespace.contents_are_published().await?;
            let probes = namespace.probe(&STEADY_QUESTIONS).await?;
            let clients = Clients::beside(namespace, "primary").await?;
            probes.more_answers(&left, 10).await?;
            probes.outage_begins(away);
            lost.power_off().await?;
            let replaced = replaced_by_the_remedy(namespace, away, &left).await;
            let untaint = ["taint", "node", &lost.name, "node.kubernetes.io/out-of-service-"];
            let untainted = cluster.kubectl(&untaint).await;
            lost.power_on(cluster.description()).await?;
            let now = replaced?;
            untainted?;
            add_versions(&mut published, namespace.contents_are_published().await?);
            edited(namespace, &now, "192.0.2.8").await?;
            nothing_is_amiss(namespace).await?;
            probes.more_answers(&now, 10).await?;
            clients.nothing_wrong().await?;
            add_versions(&mut published, namespace.contents_are_published().await?);
            probes.right(&published).await?;
            remove_volumes(namespace, "primary", 3).await
        })
        .await
}

/// The node of a server with a volume has no power: waits until that is told with what to do, does it, and returns the servers that
/// there are when another one has its volume.
async fn replaced_by_the_remedy(
    namespace: &Namespace,
    away: &Server,
    left: &[Server],
) -> Result<Vec<Server>> {
    edited(namespace, left, "192.0.2.7").await?;
    let told = namespace
        .until(("Bind9Instance", "primary"), "the status to tell what to do", |object| {
            let degraded = condition(object, "Degraded")?;
            let named = degraded.reason == "ServersFailing" && degraded.message.contains(&away.name);
            ensure!(degraded.status == "True" && named, "{degraded:?}");
            Ok(degraded.message)
        })
        .await?;
    let (_, remedy) = told.split_once("kubectl ").with_context(|| told.clone())?;
    let words: Vec<&str> = remedy.split([' ', ';']).take_while(|word| !word.is_empty()).collect();
    namespace.cluster().kubectl(&words).await?;
    let now = namespace.until_ready("primary", 3, &[away]).await?;
    let successor = now.iter().find(|one| one.name == away.name).context("nobody has its name")?;
    ensure!(successor.node != away.node, "{successor:?} is where the lost one was");
    ensure!(left.iter().all(|one| now.iter().any(|now| now.uid == one.uid)), "{left:?} became {now:?}");
    nothing_is_amiss(namespace).await?;
    Ok(now)
}

/// The node of a server of three has no power: waits until that is told, and then until another server is in its place.
/// Returns those that there are then.
async fn replaced(namespace: &Namespace, away: &Server, left: &[Server]) -> Result<Vec<Server>> {
    edited(namespace, left, "192.0.2.7").await?;
    for (kind, name) in [("DNSZone", ZONE.0), ("Bind9Instance", "primary")] {
        namespace
            .until((kind, name), "the status to name the server that is away", |object| {
                let degraded = condition(object, "Degraded")?;
                let named = degraded.reason == "ServerLagging" && degraded.message.contains(&away.name);
                ensure!(degraded.status == "True" && named, "{degraded:?}");
                Ok(())
            })
            .await?;
    }
    // An edit counts as served when everybody has it who is ready.
    namespace.ready("ARecord", "later").await?;
    let servers = namespace.servers_of("primary").await?;
    let ready = servers.iter().find(|one| one.ready && one.uid == away.uid);
    ensure!(ready.is_none(), "the edit is told to be at {ready:?}");
    namespace
        .until(("Bind9Instance", "primary"), "the status to count the servers that are left", |instance| {
            let ready = condition(instance, "Ready")?;
            let told = ready.reason == "ServersStarting" && ready.message.contains("2 of 3");
            ensure!(ready.status == "False" && told, "{ready:?}");
            let count = instance.data.pointer("/status/ready");
            ensure!(count == Some(&json!("2/3")), "{count:?}");
            Ok(())
        })
        .await?;
    // The pod that is away stays until its node says that it has ended.
    let now = namespace
        .until_servers("primary", "a server in place of the one that is away", |servers| {
            let (going, there): (Vec<_>, Vec<_>) = servers.iter().cloned().partition(|one| one.going);
            ensure!(there.len() == 3 && there.iter().all(|one| one.ready), "there are {there:?}");
            ensure!(same(&going, slice::from_ref(away)), "{going:?} are going");
            Ok(there)
        })
        .await?;
    ensure!(now.iter().all(|one| one.node != away.node), "{now:?}");
    ensure!(left.iter().all(|one| now.iter().any(|now| now.uid == one.uid)), "{left:?} became {now:?}");
    nothing_is_amiss(namespace).await?;
    namespace.contents_are_published().await?;
    Ok(now)
}

fn same(before: &[Server], after: &[Server]) -> bool {
    let uids = |servers: &[Server]| servers.iter().map(|one| one.uid.clone()).collect::<BTreeSet<_>>();
    uids(before) == uids(after)
}

/// Waits until these servers have an edit, which takes no longer because another one is away.
async fn edited(namespace: &Namespace, servers: &[Server], address: &str) -> Result<()> {
    namespace.apply(&a("later", ZONE.0, "later", address)).await?;
    for server in servers {
        dns::answers_at(server.dns(), "later.example.com", Rtype::A, &[address], EDIT).await?;
    }
    Ok(())
}

/// Waits until nothing is told to be wrong but that a node which is back has no server while another has two.
async fn crowded(namespace: &Namespace, back: &Node) -> Result<()> {
    let told = format!("zone {} has 0", back.zone);
    namespace
        .until(("Bind9Instance", "primary"), &format!("the status to tell that {told}"), |object| {
            let degraded = condition(object, "Degraded")?;
            let named = degraded.reason == "ServersMisplaced" && degraded.message.contains(&told);
            ensure!(degraded.status == "True" && named, "{degraded:?}");
            is_ready(object)
        })
        .await
}

/// One of two servers that share a node is deleted, as the status says, and the node that is back gets it.
async fn spread_again(namespace: &Namespace, back: &Node) -> Result<()> {
    let servers = namespace.servers_of("primary").await?;
    let shares = |one: &&Server| servers.iter().filter(|other| other.node == one.node).count() == 2;
    let one = servers.iter().find(shares).context("nobody shares a node")?;
    namespace.delete_server(one, Grace::Own).await?;
    let now = namespace.until_ready("primary", 3, &[one]).await?;
    ensure!(now.iter().any(|one| one.node == back.name), "{} has no server: {now:?}", back.name);
    nothing_is_amiss(namespace).await
}

/// Waits until instance, zone and edit are as if nothing had happened.
async fn nothing_is_amiss(namespace: &Namespace) -> Result<()> {
    namespace.ready("ARecord", "later").await?;
    for (kind, name) in [("Bind9Instance", "primary"), ("DNSZone", ZONE.0)] {
        namespace
            .until((kind, name), &format!("nothing to be wrong with {kind} {name}"), |object| {
                let degraded = condition(object, "Degraded")?;
                ensure!(degraded.status == "False", "{degraded:?}");
                is_ready(object)
            })
            .await?;
    }
    Ok(())
}
