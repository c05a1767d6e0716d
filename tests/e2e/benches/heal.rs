//! Time from the deletion of a pod until another one is ready: `cargo xtask bench heal [-- --large]`.
//!
//! Of two servers of an instance with 1 and 1 000 zones, `--large`: 10 000 as well, one is deleted at once and without a
//! grace period, three times; `ready_N_zones_s` is the median until Kubernetes calls its successor ready, which has no data of its own and
//! is ready with all zones only. The start of its containers is part of it.

use std::time::Instant;

use anyhow::{Context, Result};
use bindy_e2e::served;
use bindy_testing::cluster::{Grace, Namespace, in_namespace, is_ready};
use bindy_testing::figures::{quantile, report};
use futures::{StreamExt, TryStreamExt, stream};
use kube::api::PostParams;
use serde_json::json;

const BENCH: &str = "heal";
const SERVERS: u32 = 2;
const ROUNDS: usize = 3;
const AT_ONCE: usize = 16;

#[tokio::main]
async fn main() -> Result<()> {
    let large = std::env::args().any(|argument| argument == "--large");
    let sizes: &[usize] = if large { &[1, 1_000, 10_000] } else { &[1, 1_000] };
    in_namespace("bench-heal", async |namespace| {
        // With a zone of its own.
        served(namespace, SERVERS).await?;
        let mut zones = 1;
        for &size in sizes {
            make_zones(namespace, zones, size).await?;
            zones = size;
            let mut times = Vec::new();
            for _ in 0..ROUNDS {
                times.push(heal(namespace).await?);
            }
            report(BENCH, &format!("ready_{size}_zones_s"), quantile(&times, 0.5), "s", times.len());
        }
        Ok(())
    })
    .await
}

/// Makes zones with these numbers, and waits until all of them are served.
async fn make_zones(namespace: &Namespace, from: usize, to: usize) -> Result<()> {
    let api = namespace.api("DNSZone");
    let creations = (from..to).map(|n| {
        let api = api.clone();
        async move {
            let zone = json!({
                "apiVersion": "bindy.firestoned.io/v1beta1", "kind": "DNSZone",
                "metadata": {"name": format!("zone-{n}")}, "spec": {"zoneName": format!("zone-{n}.example")},
            });
            let zone = serde_json::from_value(zone)?;
            api.create(&PostParams::default(), &zone).await.context("creating a zone").map(drop)
        }
    });
    stream::iter(creations).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
    namespace
        .until_all("DNSZone", "all zones to be served", |zones| zones.values().try_for_each(is_ready))
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
