//! What has the name of an object of an instance and was made by somebody else stays as it is, and the instance says so.

use anyhow::{Result, ensure};
use bindy_testing::cluster::{condition, in_namespace};
use bindy_testing::manifest::instance;
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_object_is_named_and_not_touched() -> Result<()> {
    in_namespace("foreign-objects", async |namespace| {
        let foreign = [
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "primary-config"}, "data": {"mine": "yes"}}),
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "primary"},
                   "spec": {"ports": [{"port": 80}], "selector": {"app": "mine"}}}),
        ];
        let mut before = Vec::new();
        for object in &foreign {
            before.push(namespace.apply_object(object).await?);
        }
        namespace.apply(&instance("primary", "primary", 1, &[])).await?;
        for name in ["ConfigMap primary-config", "Service primary"] {
            namespace
                .until(("Bind9Instance", "primary"), &format!("{name} to be named"), |object| {
                    let all = json!(object.data.pointer("/status/conditions")).to_string();
                    ensure!(all.contains(name), "the conditions are {all}");
                    ensure!(condition(object, "Ready")?.status != "True", "it calls itself ready");
                    Ok(())
                })
                .await?;
        }
        for object in before {
            let (kind, name) = (object.types.clone().unwrap().kind, object.metadata.name.clone().unwrap());
            let now = namespace.get(&kind, &name).await?;
            ensure!(now.metadata.resource_version == object.metadata.resource_version, "{kind} {name} was touched");
            namespace.remove(&kind, &name).await?;
        }
        namespace.ready("Bind9Instance", "primary").await.map(drop)
    })
    .await
}
