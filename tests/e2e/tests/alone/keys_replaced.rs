//! The master secret is replaced, and with it the keys of all servers, while everything goes on: no query is lost, edits arrive
//! at every step, nothing is restarted, nobody is shut out before he has his new key, and in the end no old key opens anything.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use bindy_e2e::{Clients, Operator, STEADY, STEADY_ADDRESS, ZONE, alone};
use bindy_testing::Key;
use bindy_testing::cluster::{AGENT, LIMIT, NAMED, Namespace, OPERATOR, Server};
use bindy_testing::manifest::{a, instance, zone};
use bindy_testing::{dns, wait_for};
use bindy_zone::{Name, Rtype};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, ResourceExt};
use serde_json::json;

const SECRET: &str = "bindy-master-key";
const RATE: u32 = 100;

/// The master secret, as a person sees it.
async fn master(namespace: &Namespace) -> Result<Secret> {
    let api: Api<Secret> = Api::namespaced(namespace.cluster().client(), OPERATOR);
    Ok(api.get(SECRET).await?)
}

/// Asks for a step as docs/security.md says.
async fn rotate(namespace: &Namespace, step: &str) -> Result<()> {
    let asked = format!("bindy.firestoned.io/rotate={step}");
    namespace.cluster().kubectl(&["annotate", "secret", SECRET, "-n", OPERATOR, &asked]).await.map(drop)
}

/// Waits until the annotation says that the replacement has come so far.
async fn until_it_has(namespace: &Namespace, step: &str) -> Result<()> {
    wait_for(&format!("the keys to be {step}"), LIMIT, async || {
        let secret = master(namespace).await?;
        let progress = secret.annotations().get("bindy.firestoned.io/rotation");
        ensure!(progress.is_some_and(|progress| progress.ends_with(step)), "{progress:?}");
        Ok(())
    })
    .await
}

/// Whether every server of the instance gives the zone to whoever has this key.
async fn opens(namespace: &Namespace, instance: &str, key: &Key) -> Result<()> {
    for server in namespace.servers_of(instance).await? {
        dns::transfer(server.transfer(), &Name::parse(ZONE.1)?, Some(key)).await.context(server.name)?;
    }
    Ok(())
}

/// No server of the instance gives anything to whoever has this key.
async fn opens_nothing(namespace: &Namespace, instance: &str, key: &Key) -> Result<()> {
    for server in namespace.servers_of(instance).await? {
        let answer = dns::transfer(server.transfer(), &Name::parse(ZONE.1)?, Some(key)).await;
        let Err(refused) = answer else { anyhow::bail!("{} takes the old key {}", server.name, key.name) };
        ensure!(format!("{refused:#}").contains("unknown key"), "{refused:#}");
    }
    Ok(())
}

/// What a restart of anything would change.
fn lives(servers: &[Server]) -> BTreeMap<String, [i32; 2]> {
    let life = |server: &Server| (server.name.clone(), [server.restarts(NAMED), server.restarts(AGENT)]);
    servers.iter().map(life).collect()
}

/// An edit that every server answers.
async fn edit(namespace: &Namespace, address: &str) -> Result<()> {
    namespace.serve(&a("edited", ZONE.0, "edited", address)).await?;
    namespace.answers("edited.example.com", Rtype::A, &[address]).await
}

/// Waits until there is one secret, and nothing to be done.
async fn until_it_is_over(namespace: &Namespace) -> Result<BTreeMap<String, ByteString>> {
    wait_for("the old secret to be gone", LIMIT, async || {
        let secret = master(namespace).await?;
        let done = secret.annotations().keys().all(|name| !name.starts_with("bindy.firestoned.io/"));
        let data = secret.data.unwrap_or_default();
        ensure!(done && data.len() == 1, "{:?}", data.keys());
        Ok(data)
    })
    .await
}

/// Without anybody outside it goes on by itself, past no server that has yet to take a step.
async fn replace(namespace: &Namespace, operator: &Operator) -> Result<()> {
    let old = [namespace.key("primary").await?, namespace.key("edge").await?];
    namespace.patch("Bind9Instance", "edge", json!({"spec": {"paused": true}})).await?;
    rotate(namespace, "start").await?;
    until_it_has(namespace, "introduced").await?;
    wait_for("the operator to wait for the server that is behind", LIMIT, async || {
        let log = operator.log().await?;
        let line = log.lines().rfind(|line| line.contains("waits for")).context("it does not say so")?;
        ensure!(line.contains("edge-") && !line.contains("others"), "{line}");
        Ok(())
    })
    .await?;
    until_it_has(namespace, "introduced").await?;
    edit(namespace, "192.0.2.2").await?;
    namespace.patch("Bind9Instance", "edge", json!({"spec": {"paused": false}})).await?;
    until_it_is_over(namespace).await?;
    edit(namespace, "192.0.2.3").await?;
    for (instance, key) in [("primary", &old[0]), ("edge", &old[1])] {
        opens_nothing(namespace, instance, key).await?;
    }
    Ok(())
}

/// Those outside have time until somebody says that they have their new keys, also when another replica leads meanwhile.
async fn replace_with_a_follower(namespace: &Namespace, operator: &Operator) -> Result<()> {
    let followed = json!({"spec": {"downstreams": [{"name": "vm"}]}});
    namespace.patch("Bind9Instance", "primary", followed).await?;
    let old = wait_for("the files to be handed out", LIMIT, async || {
        namespace.downstream_key("primary", "vm").await
    })
    .await?;
    wait_for("the key that was handed out to be known", LIMIT, async || {
        opens(namespace, "primary", &old).await
    })
    .await?;
    // What is said before there is anything to give out does not count.
    namespace.patch("Bind9Instance", "edge", json!({"spec": {"paused": true}})).await?;
    rotate(namespace, "start").await?;
    until_it_has(namespace, "introduced").await?;
    rotate(namespace, "finish").await?;
    namespace.patch("Bind9Instance", "edge", json!({"spec": {"paused": false}})).await?;
    until_it_has(namespace, "switched").await?;
    let replica = operator.scale_to(1).await?;
    operator.delete(&replica).await?;
    operator.until_ready().await?;
    edit(namespace, "192.0.2.4").await?;
    let new = wait_for("the new files to be handed out", LIMIT, async || {
        let key = namespace.downstream_key("primary", "vm").await?;
        ensure!(key != old, "they are the old ones");
        Ok(key)
    })
    .await?;
    wait_for("somebody to be told what to do", LIMIT, async || {
        ensure!(operator.log().await?.contains("rotate=finish"), "nobody is");
        anyhow::Ok(())
    })
    .await?;
    for key in [&old, &new] {
        opens(namespace, "primary", key).await?;
    }
    rotate(namespace, "finish").await?;
    until_it_is_over(namespace).await?;
    edit(namespace, "192.0.2.5").await?;
    opens_nothing(namespace, "primary", &old).await?;
    opens(namespace, "primary", &new).await
}

/// Deleted by mistake, the master secret comes back as it was.
async fn delete(namespace: &Namespace) -> Result<()> {
    let before = master(namespace).await?.data;
    namespace.cluster().kubectl(&["delete", "secret", SECRET, "-n", OPERATOR]).await?;
    wait_for("the master secret to be made again", LIMIT, async || {
        ensure!(master(namespace).await?.data == before, "it is another one");
        anyhow::Ok(())
    })
    .await
}

async fn serve_meanwhile(namespace: &Namespace) -> Result<()> {
    let instances = instance("primary", "primary", 2, &[]) + &instance("edge", "secondary", 1, &["primary"]);
    let steady = a("steady", ZONE.0, "steady", STEADY_ADDRESS);
    namespace.serve(&(instances + &zone(ZONE.0, ZONE.1) + &steady)).await?;
    namespace.answers_by_service("primary", STEADY, Rtype::A, &[STEADY_ADDRESS]).await?;
    edit(namespace, "192.0.2.1").await?;
    let before = namespace.servers().await?;
    let questions = [(STEADY, Rtype::A)];
    let published = namespace.contents_are_published().await?;
    let probes = namespace.probe(&questions).await?;
    let clients = Clients::start(namespace, "primary", RATE).await?;
    probes.more_answers(&before, 10).await?;
    let operator = Operator::of(namespace.cluster());
    replace(namespace, &operator).await?;
    replace_with_a_follower(namespace, &operator).await?;
    delete(namespace).await?;
    let after = namespace.servers().await?;
    ensure!(lives(&after) == lives(&before), "{:?}", lives(&after));
    probes.more_answers(&after, 10).await?;
    clients.missed_nothing(0).await?;
    namespace.contents_are_published().await?;
    probes.right(&published).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_keys_of_all_servers_are_replaced_and_nobody_is_shut_out() -> Result<()> {
    let cluster = alone().await?;
    cluster.in_namespace("keys-replaced", serve_meanwhile).await
}
