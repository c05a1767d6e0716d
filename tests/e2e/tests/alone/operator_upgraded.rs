//! The operator is upgraded, with replicas of both versions side by side for a while: each server gets the agent of the new version
//! once, clients miss nothing, edits go on, and nothing else is written or published.

use std::cell::Cell;
use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};
use bindy_e2e::{
    Clients, Operator, STEADY_QUESTIONS, ZONE, add_versions, alone, make_volumes, remove_volumes, served,
    storage, version_of, versions,
};
use bindy_testing::checker::Published;
use bindy_testing::cluster::Namespace;
use bindy_testing::manifest::{a, manifest};

const REPOSITORY: &str = "firestoned/bindy";
const OLD: &str = "latest";
/// The same program as a version that nothing runs yet.
const NEW: &str = "another-version";
/// Seconds for which each replica of the new version stands beside one of the old.
const SIDE_BY_SIDE: u32 = 5;
/// The instance whose servers have volumes.
const STORED: &str = "stored";
/// Objects that are the same for both versions.
const SAME: [&str; 5] = ["ConfigMap", "Secret", "Service", "ServiceAccount", "NetworkPolicy"];

fn image(tag: &str) -> String {
    format!("ghcr.io/{REPOSITORY}:{tag}")
}

/// What makes the pods of the two instances, and the budget of one, as often as it was changed.
async fn generations(namespace: &Namespace) -> Result<[i64; 3]> {
    let mut found = [0; 3];
    let objects =
        [("Deployment", "primary"), ("StatefulSet", STORED), ("PodDisruptionBudget", "primary-pdb")];
    for (generation, (kind, name)) in found.iter_mut().zip(objects) {
        let object = namespace.get(kind, name).await?;
        *generation = object.metadata.generation.with_context(|| format!("{kind} {name} has none"))?;
    }
    Ok(found)
}

/// Edits one after the other, each served and told to be, until `done`; adds what is published to `published`.
async fn edited_until(done: &Cell<bool>, namespace: &Namespace, published: &mut Published) -> Result<usize> {
    for edit in 1.. {
        namespace.serve(&a("edited", ZONE.0, "edited", &format!("192.0.2.{edit}"))).await?;
        add_versions(published, namespace.contents_are_published().await?);
        if done.get() {
            return Ok(edit);
        }
    }
    bail!("no end")
}

async fn upgrade(namespace: &Namespace, operator: &Operator) -> Result<()> {
    let before = served(namespace, 2).await?;
    make_volumes(namespace, STORED, 2).await?;
    let spec =
        format!("role: secondary, upstreams: [{{name: primary}}], replicas: 2, storage: {}", storage());
    namespace.serve(&manifest("Bind9Instance", STORED, &spec)).await?;
    let stored = namespace.until_ready(STORED, 2, &[]).await?;
    let mut published = namespace.contents_are_published().await?;
    let first = version_of(&published, ZONE.1)?.clone();
    let (objects, [deployment, stateful_set, budget]) =
        (versions(namespace, &SAME).await?, generations(namespace).await?);
    let probes = namespace.probe(&STEADY_QUESTIONS).await?;
    let clients = Clients::beside(namespace, "primary").await?;
    let of_stored = Clients::beside(namespace, STORED).await?;
    probes.more_answers(&before, 10).await?;
    let done = Cell::new(false);
    let upgrading = async {
        operator.upgrade(&image(NEW), SIDE_BY_SIDE).await?;
        done.set(true);
        anyhow::Ok(())
    };
    let ((), edits) = tokio::try_join!(upgrading, edited_until(&done, namespace, &mut published))?;
    let after = namespace.until_ready("primary", 2, &before.iter().collect::<Vec<_>>()).await?;
    namespace.until_ready(STORED, 2, &stored.iter().collect::<Vec<_>>()).await?;
    for instance in ["primary", STORED] {
        namespace.ready("Bind9Instance", instance).await?;
    }
    probes.more_answers(&after, 10).await?;
    clients.missed_nothing(2).await?;
    of_stored.missed_nothing(2).await.context(STORED)?;
    let now = versions(namespace, &SAME).await?;
    ensure!(now == objects, "there were {objects:#?}, there are {now:#?}");
    let rolled_out = generations(namespace).await?;
    ensure!(rolled_out == [deployment + 1, stateful_set + 1, budget], "the generations are {rolled_out:?}");
    add_versions(&mut published, namespace.contents_are_published().await?);
    let versions = published.get(first.content.apex()).context("the zone is gone")?;
    ensure!(versions.len() == edits + 1, "{} versions after {edits} edits", versions.len());
    let history = probes.right(&published).await?;
    let seen: BTreeSet<&str> = history.observations.iter().map(|one| &*one.server).collect();
    // Servers with volumes keep their names.
    ensure!(seen.len() == 6, "not two servers, two after them, and two with volumes: {seen:?}");
    remove_volumes(namespace, STORED, 2).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_of_the_operator_rolls_every_server_once_and_writes_nothing_else() -> Result<()> {
    let cluster = alone().await?;
    cluster
        .in_namespace("operator-upgraded", async |namespace| {
            let operator = Operator::of(namespace.cluster());
            namespace.cluster().tag_image(REPOSITORY, OLD, NEW).await?;
            operator.scale_to(2).await?;
            let upgraded = upgrade(namespace, &operator).await;
            // As it was for whoever is next, whatever came of it.
            operator.upgrade(&image(OLD), 0).await?;
            operator.scale_to(1).await?;
            upgraded
        })
        .await
}
