//! The operator's own objects are what the instance wants: deleted or edited ones are restored; DNS does not notice.
//! (Secrets are not among them here: the operator may not read them, so it finds out by a look every ten minutes.)

use anyhow::{Context, Result, ensure};
use bindy_e2e::{STEADY_QUESTIONS, add_versions, served};
use bindy_testing::cluster::{LIMIT, Namespace, in_namespace};
use kube::ResourceExt;
use kube::api::DynamicObject;
use serde_json::{Value, json};

async fn uid(namespace: &Namespace, kind: &str, name: &str) -> Result<Option<String>> {
    Ok(namespace.get(kind, name).await?.uid())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleted_objects_are_made_again() -> Result<()> {
    in_namespace("objects-deleted", async |namespace| {
        let servers = served(namespace, 2).await?;
        let mut published = namespace.contents_are_published().await?;
        let probes = namespace.probe(&STEADY_QUESTIONS).await?;
        for (kind, name) in [
            ("Service", "primary"),
            ("Service", "primary-transfer"),
            ("ConfigMap", "primary-config"),
            ("NetworkPolicy", "primary"),
            ("ServiceAccount", "primary"),
        ] {
            let before = uid(namespace, kind, name).await?;
            namespace.remove(kind, name).await?;
            let what = format!("{kind} {name} to be made again");
            namespace
                .until_any((kind, name), (&what, LIMIT), |object| {
                    let object = object.context("it is gone")?;
                    ensure!(object.uid() != before, "it has not been deleted yet");
                    Ok(())
                })
                .await?;
        }
        let same = namespace.until_ready("primary", 2, &[]).await?;
        let names = |servers: &[bindy_testing::cluster::Server]| -> Vec<String> {
            servers.iter().map(|server| server.name.clone()).collect()
        };
        ensure!(names(&same) == names(&servers), "pods were replaced");
        namespace.ready("Bind9Instance", "primary").await?;
        probes.more_answers(&servers, 20).await?;
        // The Service has another address now, and with it the default name server.
        add_versions(&mut published, namespace.contents_are_published().await?);
        probes.right(&published).await.map(drop)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edited_objects_are_put_right() -> Result<()> {
    in_namespace("objects-edited", async |namespace| {
        served(namespace, 1).await?;
        let edits = [
            (
                "ConfigMap",
                "primary-config",
                "/data/named.conf",
                json!({"data": {"named.conf": "// nothing"}}),
            ),
            ("Service", "primary", "/spec/selector", json!({"spec": {"selector": {"instance": "other"}}})),
            ("Deployment", "primary", "/spec/replicas", json!({"spec": {"replicas": 0}})),
        ];
        for (kind, name, field, edit) in edits {
            let wanted: Value =
                namespace.get(kind, name).await?.data.pointer(field).cloned().context(field)?;
            let edited = namespace.patch(kind, name, edit).await?;
            let version = edited.metadata.resource_version;
            let restored = |object: &DynamicObject| {
                ensure!(object.metadata.resource_version != version, "nothing has happened");
                let now = object.data.pointer(field);
                ensure!(now == Some(&wanted), "{field} is {now:?}");
                Ok(())
            };
            namespace.until((kind, name), &format!("{kind} {name} to be put right"), restored).await?;
        }
        namespace.until_ready("primary", 1, &[]).await?;
        namespace.ready("Bind9Instance", "primary").await?;
        namespace.contents_are_published().await.map(drop)
    })
    .await
}
