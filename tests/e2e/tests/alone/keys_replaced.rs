//! The master secret is replaced, and with it the keys of all servers, while everything goes on: no query is lost, edits arrive
//! at every step, nothing is restarted, nobody is shut out before he has his new key, and in the end no old key opens anything.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use bindy_e2e::{Load, Operator, Ports, STEADY, STEADY_ADDRESS, STEADY_QUESTIONS, ZONE, add_versions, alone};
use bindy_testing::Key;
use bindy_testing::cluster::{AGENT, LIMIT, NAMED, Namespace, OPERATOR, Server, in_namespace};
use bindy_testing::manifest::{a, instance, manifest, zone};
use bindy_testing::{dns, wait_for};
use bindy_zone::{Name, Rtype};
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

async fn replace(namespace: &Namespace, operator: &Operator) -> Result<()> {
    let spec = "role: primary, replicas: 2, downstreams: [{name: vm}]";
    let instances =
        manifest("Bind9Instance", "primary", spec) + &instance("edge", "secondary", 1, &["primary"]);
    let steady = a("steady", ZONE.0, "steady", STEADY_ADDRESS);
    namespace.serve(&(instances + &zone(ZONE.0, ZONE.1) + &steady)).await?;
    namespace.answers_by_service("primary", STEADY, Rtype::A, &[STEADY_ADDRESS]).await?;
    edit(namespace, "192.0.2.1").await?;
    let mut published = namespace.contents_are_published().await?;
    let before = namespace.servers().await?;
    let old = [namespace.key("primary").await?, namespace.key("edge").await?];
    let (old_outside, old_master) =
        (namespace.downstream_key("primary", "vm").await?, master(namespace).await?.data);
    let probes = namespace.probe(&STEADY_QUESTIONS).await?;
    let loads = [
        Load::start(namespace, "primary", RATE, Ports::Kept).await?,
        Load::start(namespace, "primary", RATE, Ports::New).await?,
    ];
    probes.more_answers(&before, 10).await?;

    // Nobody signs with a key that a server does not know yet: one is kept from getting it.
    namespace.patch("Bind9Instance", "edge", json!({"spec": {"paused": true}})).await?;
    rotate(namespace, "start").await?;
    until_it_has(namespace, "introduced").await?;
    wait_for("the operator to wait for the server that is behind", LIMIT, async || {
        let log = operator.log().await?;
        let line = log.lines().rfind(|line| line.contains("waits for")).unwrap_or_default();
        ensure!(line.contains("edge-") && !line.contains("others"), "{line}");
        Ok(())
    })
    .await?;
    until_it_has(namespace, "introduced").await?;
    edit(namespace, "192.0.2.2").await?;
    add_versions(&mut published, namespace.contents_are_published().await?);
    namespace.patch("Bind9Instance", "edge", json!({"spec": {"paused": false}})).await?;

    // The new keys are used; those outside have time until somebody says that they have theirs. Another leader goes on.
    until_it_has(namespace, "switched").await?;
    let replica = operator.scale_to(1).await?;
    operator.delete(&replica).await?;
    operator.until_ready().await?;
    edit(namespace, "192.0.2.3").await?;
    add_versions(&mut published, namespace.contents_are_published().await?);
    let new_outside = wait_for("the new files to be handed out", LIMIT, async || {
        let key = namespace.downstream_key("primary", "vm").await?;
        ensure!(key != old_outside, "they are the old ones");
        Ok(key)
    })
    .await?;
    for key in [&old_outside, &new_outside] {
        opens(namespace, "primary", key).await?;
    }
    let switched = operator.log().await?;
    ensure!(switched.contains("rotate=finish"), "nobody is told what to do");

    rotate(namespace, "finish").await?;
    let new_master = wait_for("the old secret to be gone", LIMIT, async || {
        let secret = master(namespace).await?;
        let done = secret.annotations().keys().all(|name| !name.starts_with("bindy.firestoned.io/"));
        let data = secret.data.unwrap_or_default();
        ensure!(done && data.len() == 1, "{:?}", data.keys());
        Ok(data)
    })
    .await?;
    ensure!(old_master.is_some_and(|old| old.values().ne(new_master.values())), "it is the old one");
    edit(namespace, "192.0.2.4").await?;
    add_versions(&mut published, namespace.contents_are_published().await?);
    for (instance, key) in [("primary", &old[0]), ("edge", &old[1]), ("primary", &old_outside)] {
        opens_nothing(namespace, instance, key).await?;
    }
    opens(namespace, "primary", &new_outside).await?;

    // Deleted by mistake, it comes back as it was.
    namespace.cluster().kubectl(&["delete", "secret", SECRET, "-n", OPERATOR]).await?;
    wait_for("the master secret to be made again", LIMIT, async || {
        let data = master(namespace).await?.data.unwrap_or_default();
        ensure!(data == new_master, "it is another one");
        Ok(())
    })
    .await?;

    let after = namespace.servers().await?;
    ensure!(lives(&after) == lives(&before), "{:?}", lives(&after));
    probes.more_answers(&after, 10).await?;
    for load in loads {
        load.stop().await?.nothing_missed()?;
    }
    probes.right(&published).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_keys_of_all_servers_are_replaced_and_nobody_is_shut_out() -> Result<()> {
    let _alone = alone().await?;
    in_namespace("keys-replaced", async |namespace| {
        replace(namespace, &Operator::of(namespace.cluster())).await
    })
    .await
}
