//! A thousand records that nobody changes, for two minutes: `cargo xtask bench idle`.
//!
//! `api_writes`: everything of Bindy's, and of the kinds that it makes, that was written. `api_requests_per_s`: what the
//! operator asked of the API server, counted by a FlowSchema of its own. `cpu_core_percent`: the operator's share of a core.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bindy_e2e::Operator;
use bindy_testing::cluster::{Cluster, Request, in_namespace};
use bindy_testing::figures::report;
use bindy_testing::http::metric;
use bindy_testing::manifest::a;
use bindy_testing::manifest::{instance, manifest, zone_file};
use serde_json::json;

const RECORDS: u32 = 1_000;
const TIME: Duration = Duration::from_secs(120);
/// After the last change, before the time begins.
const SETTLE: Duration = Duration::from_secs(15);
const BENCH: &str = "idle";
const FLOW: &str = "bindy-e2e-count";
/// What the operator makes for instances.
const MADE: [&str; 6] =
    ["deployments", "services", "configmaps", "secrets", "serviceaccounts", "networkpolicies"];

#[tokio::main]
async fn main() -> Result<()> {
    in_namespace("bench-idle", async |namespace| {
        let cluster = namespace.cluster();
        let flow = json!({"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "FlowSchema",
            "metadata": {"name": FLOW},
            "spec": {"matchingPrecedence": 2, "priorityLevelConfiguration": {"name": "workload-high"},
                "rules": [{
                    "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"],
                        "namespaces": ["*"], "clusterScope": true}],
                    "subjects": [{"kind": "ServiceAccount",
                        "serviceAccount": {"namespace": "dns-system", "name": "bindy"}}]}]}});
        let file = namespace.directory().join("flow.json");
        std::fs::write(&file, flow.to_string())?;
        cluster.kubectl(&["apply", "-f", &file.to_string_lossy()]).await?;

        let records: String = (0..RECORDS / 2).map(|n| format!("file-{n} A 192.0.2.1\n")).collect();
        let objects: String = (0..RECORDS / 2)
            .map(|n| a(&format!("host-{n}"), "bench", &format!("host-{n}"), "192.0.2.1"))
            .collect();
        let spec = "zoneName: bench.example, zoneFilesFrom: [{configMap: {name: files, key: zone}}]";
        let zone = zone_file("files", "zone", &records) + &manifest("DNSZone", "bench", spec);
        namespace.serve(&(instance("primary", "primary", 2, &[]) + &zone + &objects)).await?;
        namespace.contents_are_published().await?;
        tokio::time::sleep(SETTLE).await;

        let operator = Operator::of(cluster);
        let (writes, asked, cpu) = (cluster.requests().await?, asked(cluster).await?, operator.cpu().await?);
        tokio::time::sleep(TIME).await;
        let new = cluster.requests().await?.since(&writes);
        let writes = new.only(|one: &Request| {
            one.is_write() && (one.is_of_bindy() || MADE.contains(&one.resource.as_str()))
        });
        let (asked, cpu) = (self::asked(cluster).await? - asked, operator.cpu().await?.saturating_sub(cpu));
        cluster.kubectl(&["delete", "flowschema", FLOW]).await?;
        ensure!(writes.count() < 1_000, "this was not idle:\n{writes}");
        let seconds = TIME.as_secs_f64();
        report(BENCH, "api_writes", writes.count() as f64, "", 1);
        report(BENCH, "api_requests_per_s", asked / seconds, "1/s", 1);
        report(BENCH, "cpu_core_percent", cpu.as_secs_f64() / seconds * 100.0, "%", 1);
        Ok(())
    })
    .await
}

/// Requests of the operator so far.
async fn asked(cluster: &Cluster) -> Result<f64> {
    let metrics = cluster.kubectl(&["get", "--raw", "/metrics"]).await?;
    let own: String =
        metrics.lines().filter(|line| line.contains(FLOW)).map(|line| format!("{line}\n")).collect();
    metric(&own, "apiserver_flowcontrol_dispatched_requests_total").context("nothing was counted")
}
