//! `spec.disruptionBudget` of a living instance decides how many servers an eviction may take: as many as it says, any without a
//! budget, and what a budget of somebody else says where there is one.

use anyhow::{Context, Result, bail, ensure};
use bindy_e2e::served;
use bindy_testing::cluster::{Namespace, in_namespace};
use serde_json::{Value, json};

const BUDGET: (&str, &str) = ("PodDisruptionBudget", "primary-pdb");

/// Waits until the budget has this limit and lets so many servers go.
async fn lets_go(namespace: &Namespace, limit: Value, allowed: i64) -> Result<()> {
    let what = format!("a budget with {limit} that lets {allowed} go");
    namespace
        .until(BUDGET, &what, |budget| {
            let number = |pointer: &str| budget.data.pointer(pointer).and_then(Value::as_i64);
            let spec = budget.data.get("spec").context("no spec")?;
            let limits = ["minAvailable", "maxUnavailable"].map(|field| (field, spec.get(field)));
            let is_wanted = |(field, found): &(&str, Option<&Value>)| *found == limit.get(field);
            ensure!(limits.iter().all(is_wanted), "it has {limits:?}");
            let seen = number("/status/observedGeneration");
            ensure!(seen == budget.metadata.generation, "its controller has not seen it yet");
            let now = number("/status/disruptionsAllowed");
            ensure!(now == Some(allowed), "it lets {now:?} go");
            Ok(())
        })
        .await
}

async fn set_budget(namespace: &Namespace, budget: Value) -> Result<()> {
    let change = json!({"spec": {"disruptionBudget": budget}});
    namespace.patch("Bind9Instance", "primary", change).await.map(drop)
}

async fn scale(namespace: &Namespace, replicas: usize) -> Result<()> {
    namespace.patch("Bind9Instance", "primary", json!({"spec": {"replicas": replicas}})).await?;
    namespace.until_ready("primary", replicas, &[]).await.map(drop)
}

/// Evicts a server, as a drain does once. `Err` is what the API server says against it.
async fn evict(namespace: &Namespace) -> Result<std::result::Result<(), String>> {
    let servers = namespace.servers_of("primary").await?;
    let server = servers.first().context("no server")?;
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction",
        "metadata": {"namespace": namespace.name(), "name": server.name}});
    let file = namespace.directory().join("eviction.json");
    std::fs::write(&file, eviction.to_string())?;
    let path = format!("/api/v1/namespaces/{}/pods/{}/eviction", namespace.name(), server.name);
    let evicted = namespace.kubectl(&["create", "--raw", &path, "-f", &file.to_string_lossy()]).await;
    if let Err(refused) = evicted {
        return Ok(Err(format!("{refused:#}")));
    }
    namespace.until_ready("primary", servers.len(), &[server]).await?;
    Ok(Ok(()))
}

/// No eviction is possible, and the budget is the reason.
async fn keeps_all(namespace: &Namespace) -> Result<()> {
    let Err(said) = evict(namespace).await? else { bail!("a server was evicted") };
    ensure!(said.contains("violate the pod's disruption budget"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn evictions_take_as_many_servers_as_the_budget_says() -> Result<()> {
    in_namespace("budget", async |namespace| {
        served(namespace, 3).await?;
        lets_go(namespace, json!({"minAvailable": 2}), 1).await?;
        set_budget(namespace, json!({"maxUnavailable": 2})).await?;
        lets_go(namespace, json!({"maxUnavailable": 2}), 2).await?;
        set_budget(namespace, json!({"maxUnavailable": null, "minAvailable": "100%"})).await?;
        lets_go(namespace, json!({"minAvailable": "100%"}), 0).await?;
        keeps_all(namespace).await?;

        // By default again, which follows the number of servers.
        set_budget(namespace, Value::Null).await?;
        lets_go(namespace, json!({"minAvailable": 2}), 1).await?;
        scale(namespace, 2).await?;
        lets_go(namespace, json!({"maxUnavailable": 1}), 1).await?;
        scale(namespace, 1).await?;
        namespace.until_gone(BUDGET.0, BUDGET.1).await?;
        let evicted = evict(namespace).await?;
        ensure!(evicted.is_ok(), "the only server keeps its node from being drained: {evicted:?}");
        namespace.ready("Bind9Instance", "primary").await.map(drop)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_that_is_not_wanted_goes_and_one_of_somebody_else_counts() -> Result<()> {
    in_namespace("budget-foreign", async |namespace| {
        served(namespace, 2).await?;
        lets_go(namespace, json!({"maxUnavailable": 1}), 1).await?;
        set_budget(namespace, json!({"enabled": false})).await?;
        namespace.until_gone(BUDGET.0, BUDGET.1).await?;

        let own = json!({"apiVersion": "policy/v1", "kind": BUDGET.0, "metadata": {"name": BUDGET.1},
            "spec": {"minAvailable": 2, "selector": {"matchLabels": {"instance": "primary"}}}});
        namespace.apply_object(&own).await?;
        set_budget(namespace, Value::Null).await?;
        namespace.ready("Bind9Instance", "primary").await?;
        lets_go(namespace, json!({"minAvailable": 2}), 0).await?;
        keeps_all(namespace).await?;
        let owners = namespace.get(BUDGET.0, BUDGET.1).await?.metadata.owner_references;
        ensure!(owners.is_none(), "it was made the instance's own: {owners:?}");
        namespace.remove(BUDGET.0, BUDGET.1).await?;
        lets_go(namespace, json!({"maxUnavailable": 1}), 1).await
    })
    .await
}
