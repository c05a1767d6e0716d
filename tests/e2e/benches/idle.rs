//! What the operator does when nothing happens: `cargo xtask bench idle`.
//!
//! A zone with 1 000 records on two pods, all told that they are Ready. Then two minutes pass. `api_writes` are those to
//! objects of Bindy and of what it makes, `api_requests_per_s` are all requests of the operator (the API server counts
//! them by resource; watches of nodes and controllers on the same resources are counted too), `cpu_core_percent` is the
//! operator's process.

use std::time::Duration;

use anyhow::{Context, Result};
use bindy_e2e::Operator;
use bindy_testing::cluster::{in_namespace, is_ready};
use bindy_testing::figures::report;
use bindy_testing::manifest::{a, instance, zone};

const RECORDS: u32 = 1000;
const IDLE: Duration = Duration::from_secs(120);
/// Until what followed from the last object has been done.
const BEFORE: Duration = Duration::from_secs(15);
/// What the operator makes.
const RESOURCES: [&str; 6] =
    ["deployments", "services", "configmaps", "serviceaccounts", "networkpolicies", "secrets"];

#[tokio::main]
async fn main() -> Result<()> {
    in_namespace("bench-idle", async |namespace| {
        let hosts = (0..RECORDS).map(|n| a(&format!("host-{n}"), "bench", &format!("host-{n}"), "192.0.2.1"));
        let zone = zone("bench", "idle.example");
        namespace
            .serve(&(instance("primary", "primary", 2, &[]) + &zone + &hosts.collect::<String>()))
            .await?;
        namespace.until_ready("primary", 2, &[]).await?;
        namespace
            .until_all("ARecord", "every record to be Ready", |records| {
                records.values().try_for_each(is_ready)
            })
            .await?;
        tokio::time::sleep(BEFORE).await;
        let operator = Operator::of(namespace.cluster());
        let (requests, ticks) = (namespace.cluster().requests().await?, operator.ticks().await?);
        tokio::time::sleep(IDLE).await;
        let ticks = operator.ticks().await? - ticks;
        let requests = namespace.cluster().requests().await?.since(&requests);
        let of_operator = requests.only(|one| {
            one.is_of_bindy() || RESOURCES.contains(&one.resource.as_str()) || one.resource == "pods"
        });
        let writes = of_operator.clone().only(|one| one.is_write() && one.resource != "pods").count();
        let seconds = IDLE.as_secs_f64();
        let per_second = rustix::param::clock_ticks_per_second() as f64;
        let n = usize::try_from(IDLE.as_secs()).context("seconds")?;
        report("idle", "api_writes", writes as f64, "1", n);
        report("idle", "api_requests_per_s", of_operator.count() as f64 / seconds, "1/s", n);
        report("idle", "cpu_core_percent", ticks as f64 / per_second / seconds * 100.0, "%", n);
        Ok(())
    })
    .await
}
