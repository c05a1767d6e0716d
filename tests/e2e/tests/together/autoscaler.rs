//! A HorizontalPodAutoscaler scales an instance by its scale subresource.

use anyhow::{Result, ensure};
use bindy_e2e::served;
use bindy_testing::cluster::in_namespace;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_autoscaler_has_its_least_number_of_servers_at_once() -> Result<()> {
    in_namespace("autoscaler", async |namespace| {
        served(namespace, 1).await?;
        let autoscale = ["autoscale", "-n", namespace.name(), "bind9instance/primary", "--min=3", "--max=5"];
        namespace.cluster().kubectl(&autoscale).await?;
        namespace.until_ready("primary", 3, &[]).await?;
        let instance = namespace.ready("Bind9Instance", "primary").await?;
        let replicas = instance.data.pointer("/spec/replicas").and_then(Value::as_u64);
        ensure!(replicas == Some(3), "spec.replicas is {replicas:?}");
        namespace
            .until(("HorizontalPodAutoscaler", "primary"), "the autoscaler to be content", |object| {
                let current = object.data.pointer("/status/currentReplicas");
                ensure!(current == Some(&json!(3)), "it counts {current:?}");
                let conditions = object.data.pointer("/status/conditions").and_then(Value::as_array);
                let able = conditions.into_iter().flatten().find(|one| one["type"] == "AbleToScale");
                ensure!(able.is_some_and(|one| one["status"] == "True"), "{able:?}");
                Ok(())
            })
            .await
    })
    .await
}
