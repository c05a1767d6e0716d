//! Storage is switched on and off on a living instance: a StatefulSet takes over from the Deployment, and gives way to it, and
//! clients of the Service miss nothing.

use anyhow::{Context, Result, ensure};
use bindy_e2e::{
    Clients, STEADY, STEADY_ADDRESS, STEADY_QUESTIONS, make_volumes, remove_volumes, served,
    served_with_volumes, storage,
};
use bindy_testing::cluster::{Server, condition, in_namespace};
use bindy_zone::Rtype;
use kube::api::DynamicObject;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn storage_switched_on_and_off_loses_no_query() -> Result<()> {
    in_namespace("storage", async |namespace| {
        let before = served(namespace, 2).await?;
        make_volumes(namespace, "primary", 2).await?;
        let published = namespace.contents_are_published().await?;
        namespace.answers_by_service("primary", STEADY, Rtype::A, &[STEADY_ADDRESS]).await?;
        let probes = namespace.probe(&STEADY_QUESTIONS).await?;
        let clients = Clients::start(namespace, "primary", 200).await?;
        probes.more_answers(&before, 20).await?;

        namespace.patch("Bind9Instance", "primary", json!({"spec": {"storage": storage()}})).await?;
        let old: Vec<&Server> = before.iter().collect();
        let stored = namespace.until_ready("primary", 2, &old).await?;
        namespace.until_gone("Deployment", "primary").await?;
        probes.more_answers(&stored, 20).await?;
        for server in &stored {
            let directory = namespace.directory().join(format!("data-{}", server.name));
            let files = std::fs::read_dir(&directory)?.count();
            ensure!(files > 0, "{} has nothing in its volume", server.name);
        }

        namespace.patch("Bind9Instance", "primary", json!({"spec": {"storage": null}})).await?;
        let old: Vec<&Server> = stored.iter().collect();
        let servers = namespace.until_ready("primary", 2, &old).await?;
        namespace.until_gone("StatefulSet", "primary").await?;
        namespace.ready("Bind9Instance", "primary").await?;
        probes.more_answers(&servers, 20).await?;
        clients.missed_nothing(4).await?;
        probes.right(&published).await?;
        remove_volumes(namespace, "primary", 2).await
    })
    .await
}

/// The namespace has no room for it just then. The StatefulSet would take away the other one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_that_replace_servers_with_volumes_wait_for_one_that_is_missing() -> Result<()> {
    in_namespace("storage-one-missing", async |namespace| {
        let before = served_with_volumes(namespace, 2, &storage()).await?;
        namespace.answers_by_service("primary", STEADY, Rtype::A, &[STEADY_ADDRESS]).await?;
        namespace.kubectl(&["create", "quota", "one", "--hard=pods=1"]).await?;
        let counted = "--for=jsonpath={.status.used.pods}=2";
        namespace.kubectl(&["wait", counted, "resourcequota/one", "--timeout=30s"]).await?;
        namespace.kubectl(&["delete", "pod", "primary-0"]).await?;
        let clients = Clients::start(namespace, "primary", 200).await?;
        let resources = json!({"requests": {"memory": "65Mi"}});
        namespace.patch("Bind9Instance", "primary", json!({"spec": {"resources": resources}})).await?;
        namespace
            .until(("Bind9Instance", "primary"), "the wait to be told", |instance| {
                let ready = condition(instance, "Ready")?;
                ensure!(ready.message.contains("wait while 1 of 2 servers"), "{ready:?}");
                Ok(())
            })
            .await?;
        // Kubernetes knows the template, and that it shall replace nobody.
        let partition = |set: &DynamicObject| {
            let partition = set.data.pointer("/spec/updateStrategy/rollingUpdate/partition");
            partition.and_then(Value::as_i64).unwrap_or_default()
        };
        namespace
            .until(("StatefulSet", "primary"), "its template to be seen", |set| {
                let revision = |which: &str| set.data.pointer(&format!("/status/{which}Revision")).cloned();
                ensure!(revision("update") != revision("current"), "{:?}", set.data.get("status"));
                ensure!(partition(set) > 0, "{:?}", set.data.get("spec"));
                Ok(())
            })
            .await?;
        let last = before.iter().find(|server| server.name == "primary-1").context("no second server")?;
        let there = namespace.servers_of("primary").await?;
        ensure!(
            matches!(&there[..], [only] if only.uid == last.uid && only.ready && !only.going),
            "{there:?}"
        );
        namespace.kubectl(&["delete", "quota", "one"]).await?;
        // It would wait for its pause to end, which grows with every refusal.
        namespace.kubectl(&["annotate", "statefulset", "primary", "look=again"]).await?;
        // The other one is taken away only then; Kubernetes would do both at once.
        namespace
            .until_servers("primary", "the missing one to be back beside the other", |servers| {
                let ready = servers.iter().filter(|server| server.ready && !server.going);
                let uids: Vec<&str> = ready.map(|server| server.uid.as_str()).collect();
                ensure!(uids.len() == 2 && uids.contains(&last.uid.as_str()), "{servers:?}");
                Ok(())
            })
            .await?;
        namespace.until_ready("primary", 2, &before.iter().collect::<Vec<_>>()).await?;
        namespace.ready("Bind9Instance", "primary").await?;
        let set = namespace.get("StatefulSet", "primary").await?;
        ensure!(partition(&set) == 0, "{:?}", set.data.get("spec"));
        clients.nothing_wrong().await?;
        remove_volumes(namespace, "primary", 2).await
    })
    .await
}
