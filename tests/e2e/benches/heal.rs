//! Time from the deletion of a pod until another one is ready: `cargo xtask bench heal`.
//!
//! Of two servers of an instance with 1, 1 000 and 10 000 zones, one is deleted at once and without a grace period, three times;
//! `pod_ready_…_s` is the median until Kubernetes calls its successor ready, which has no data of its own and is ready with all
//! zones only. The start of its containers is part of it.

use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bindy_e2e::{create_zones, served};
use bindy_testing::cluster::{Grace, Namespace, in_namespace, is_ready};
use bindy_testing::figures::{quantile, report};

const BENCH: &str = "heal";
/// Numbers of zones, and the figure of each.
const SIZES: [(usize, &str); 3] =
    [(1, "pod_ready_1_zone_s"), (1_000, "pod_ready_1k_zones_s"), (10_000, "pod_ready_10k_zones_s")];
const SERVERS: u32 = 2;
const ROUNDS: usize = 3;
/// How long the API server and the operator may take for all zones.
const SERVED: Duration = Duration::from_secs(300);

#[tokio::main]
async fn main() -> Result<()> {
    in_namespace("bench-heal", async |namespace| {
        // With a zone of its own.
        served(namespace, SERVERS).await?;
        let mut zones = 1;
        for (size, metric) in SIZES {
            make_zones(namespace, zones..size).await?;
            zones = size;
            let mut times = Vec::new();
            for _ in 0..ROUNDS {
                times.push(heal(namespace).await?);
            }
            report(BENCH, metric, quantile(&times, 0.5), "s", times.len());
        }
        Ok(())
    })
    .await
}

/// Makes zones with these numbers, and waits until all of them are served.
async fn make_zones(namespace: &Namespace, numbers: Range<usize>) -> Result<()> {
    create_zones(namespace, numbers).await?;
    namespace
        .until_all("DNSZone", ("all zones to be served", SERVED), |zones| {
            zones.values().try_for_each(is_ready)
        })
        .await
}

/// Seconds until a deleted server has a successor that is ready.
async fn heal(namespace: &Namespace) -> Result<f64> {
    let servers = namespace.until_ready("primary", SERVERS.try_into()?, &[]).await?;
    let victim = servers.first().context("no server")?;
    let begun = Instant::now();
    namespace.delete_server(victim, Grace::None).await?;
    namespace.until_ready("primary", SERVERS.try_into()?, &[victim]).await?;
    Ok(begun.elapsed().as_secs_f64())
}
