//! What becomes of volumes whose servers go: they stay for servers to come, with their content, unless `onScaleDown` and
//! `onDelete` say otherwise.

use anyhow::{Context, Result, ensure};
use bindy_e2e::{STEADY, STEADY_ADDRESS, remove_volumes, served_with_volumes, storage};
use bindy_testing::cluster::{Namespace, in_namespace};
use bindy_zone::Rtype;
use kube::ResourceExt;
use kube::api::DynamicObject;
use serde_json::{Value, json};

const KIND: &str = "PersistentVolumeClaim";
const CLAIMS: [&str; 2] = ["data-primary-0", "data-primary-1"];

/// Waits until the server is gone whose claim is the second one.
async fn scaled_down(namespace: &Namespace) -> Result<()> {
    namespace.patch("Bind9Instance", "primary", json!({"spec": {"replicas": 1}})).await?;
    namespace.until_gone("Pod", "primary-1").await?;
    namespace.until_ready("primary", 1, &[]).await.map(drop)
}

/// Waits until nothing is left that could take a claim along: no instance, no StatefulSet, no server.
async fn deleted(namespace: &Namespace) -> Result<()> {
    namespace.remove("Bind9Instance", "primary").await?;
    for (kind, name) in [("StatefulSet", "primary"), ("Pod", "primary-0"), ("Pod", "primary-1")] {
        namespace.until_gone(kind, name).await?;
    }
    Ok(())
}

/// A claim that stays: nobody has deleted it, and it goes with nobody.
async fn kept(namespace: &Namespace, name: &str) -> Result<DynamicObject> {
    let claim = namespace.get(KIND, name).await?;
    let going = claim.metadata.deletion_timestamp.is_some();
    ensure!(!going && claim.owner_references().is_empty(), "{name} is about to go: {claim:?}");
    Ok(claim)
}

/// What tells these claims from others of their names.
async fn all_kept(namespace: &Namespace) -> Result<Vec<Option<String>>> {
    let mut uids = Vec::new();
    for name in CLAIMS {
        uids.push(kept(namespace, name).await?.uid());
    }
    Ok(uids)
}

/// The storage of the instance from now on; waits until that is what its StatefulSet goes by.
async fn set_storage(namespace: &Namespace, (on_scale_down, on_delete): (&str, &str)) -> Result<()> {
    let storage = json!({"onScaleDown": on_scale_down, "onDelete": on_delete});
    namespace.patch("Bind9Instance", "primary", json!({"spec": {"storage": storage}})).await?;
    let policy = |word: &str| if word == "delete" { "Delete" } else { "Retain" };
    let wanted = json!({"whenScaled": policy(on_scale_down), "whenDeleted": policy(on_delete)});
    namespace
        .until(("StatefulSet", "primary"), &format!("the policy to be {wanted}"), |object| {
            let found = object.data.pointer("/spec/persistentVolumeClaimRetentionPolicy");
            ensure!(found == Some(&wanted), "it is {found:?}");
            let seen = object.data.pointer("/status/observedGeneration").and_then(Value::as_i64);
            ensure!(seen == object.metadata.generation, "its controller has not seen it yet");
            Ok(())
        })
        .await?;
    namespace.ready("Bind9Instance", "primary").await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn volumes_stay_when_servers_and_instances_go_and_serve_those_that_come_back() -> Result<()> {
    in_namespace("volumes-kept", async |namespace| {
        served_with_volumes(namespace, 2, &storage()).await?;
        let before = all_kept(namespace).await?;
        scaled_down(namespace).await?;
        ensure!(all_kept(namespace).await? == before, "claims were replaced on scale-down");
        deleted(namespace).await?;
        ensure!(all_kept(namespace).await? == before, "claims were replaced on deletion");
        served_with_volumes(namespace, 2, &storage()).await?;
        ensure!(all_kept(namespace).await? == before, "the new servers have other volumes");
        remove_volumes(namespace, "primary", 2).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn volumes_go_with_servers_and_instances_where_that_is_asked_for() -> Result<()> {
    in_namespace("volumes-deleted", async |namespace| {
        let servers = served_with_volumes(namespace, 2, &storage()).await?;
        let names: Vec<&str> = servers.iter().map(|server| server.name.as_str()).collect();

        set_storage(namespace, ("retain", "delete")).await?;
        scaled_down(namespace).await?;
        namespace.get(KIND, CLAIMS[1]).await.context("onScaleDown is retain")?;
        namespace.patch("Bind9Instance", "primary", json!({"spec": {"replicas": 2}})).await?;
        namespace.until_ready("primary", 2, &[]).await?;

        set_storage(namespace, ("delete", "retain")).await?;
        scaled_down(namespace).await?;
        namespace.until_gone(KIND, CLAIMS[1]).await?;
        kept(namespace, CLAIMS[0]).await?;

        set_storage(namespace, ("delete", "delete")).await?;
        let now = namespace.servers_of("primary").await?;
        let same = now.iter().all(|one| servers.iter().any(|before| before.uid == one.uid));
        ensure!(same, "a change of what becomes of volumes has replaced servers of {names:?}");
        namespace.answers(STEADY, Rtype::A, &[STEADY_ADDRESS]).await?;
        namespace.remove("Bind9Instance", "primary").await?;
        namespace.until_gone(KIND, CLAIMS[0]).await?;
        remove_volumes(namespace, "primary", 2).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn volumes_go_when_storage_is_removed_where_that_is_asked_for() -> Result<()> {
    in_namespace("volumes-removed", async |namespace| {
        let mut deleting = storage();
        deleting["onDelete"] = json!("delete");
        let stored = served_with_volumes(namespace, 2, &deleting).await?;
        namespace.patch("Bind9Instance", "primary", json!({"spec": {"storage": null}})).await?;
        namespace.until_ready("primary", 2, &stored.iter().collect::<Vec<_>>()).await?;
        for name in CLAIMS {
            namespace.until_gone(KIND, name).await?;
        }
        namespace.ready("Bind9Instance", "primary").await?;
        namespace.answers(STEADY, Rtype::A, &[STEADY_ADDRESS]).await?;
        remove_volumes(namespace, "primary", 2).await
    })
    .await
}
