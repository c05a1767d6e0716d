//! Questions lost while a fleet changes: `cargo xtask bench loss`.
//!
//! Two clients ask the Service of an instance with three servers for half a minute each time, 2 000 questions a second altogether, one
//! from a port that it keeps, one from many. `control_lost` is without any change; `lost_EVENT` with one; `wrong_answers`
//! are all that were not the right answer, over the whole benchmark.

use std::time::Duration;

use anyhow::Result;
use bindy_e2e::{Load, Ports, STEADY, STEADY_ADDRESS, served};
use bindy_testing::cluster::{Grace, Namespace, in_namespace};
use bindy_testing::figures::report;
use bindy_zone::Rtype;
use serde_json::json;

const BENCH: &str = "loss";
/// Questions a second of each client.
const RATE: u32 = 1_000;
/// How long is asked at least.
const TIME: Duration = Duration::from_secs(30);
const SERVERS: usize = 3;

#[tokio::main]
async fn main() -> Result<()> {
    in_namespace("bench-loss", async |namespace| {
        served(namespace, 3).await?;
        namespace.answers_by_service("primary", STEADY, Rtype::A, &[STEADY_ADDRESS]).await?;
        let mut wrong = 0;
        for _ in 0..3 {
            wrong += measure(namespace, "control_lost", async || Ok(())).await?;
        }
        wrong += measure(namespace, "lost_rollout", async || {
            let before = namespace.servers_of("primary").await?;
            let change = json!({"spec": {"resources": {"requests": {"cpu": "5m"}}}});
            namespace.patch("Bind9Instance", "primary", change).await?;
            let old: Vec<_> = before.iter().collect();
            namespace.until_ready("primary", SERVERS, &old).await.map(drop)
        })
        .await?;
        wrong += measure(namespace, "lost_configuration", async || {
            let change = json!({"spec": {"config": {"allowQuery": ["!192.0.2.1", "any"]}}});
            namespace.patch("Bind9Instance", "primary", change).await?;
            namespace.ready("Bind9Instance", "primary").await.map(drop)
        })
        .await?;
        wrong += measure(namespace, "lost_scale", async || {
            for count in [5, SERVERS] {
                namespace.patch("Bind9Instance", "primary", json!({"spec": {"replicas": count}})).await?;
                namespace.until_ready("primary", count, &[]).await?;
            }
            Ok(())
        })
        .await?;
        wrong += measure(namespace, "lost_deleted_pod", async || {
            let before = namespace.servers_of("primary").await?;
            if let Some(victim) = before.first() {
                namespace.delete_server(victim, Grace::Own).await?;
                namespace.until_ready("primary", SERVERS, &[victim]).await?;
            }
            Ok(())
        })
        .await?;
        report(BENCH, "wrong_answers", wrong as f64, "", 1);
        Ok(())
    })
    .await
}

/// Asks while `event` happens, and for a while in any case; returns the number of wrong answers.
async fn measure(
    namespace: &Namespace,
    metric: &str,
    event: impl AsyncFnOnce() -> Result<()>,
) -> Result<usize> {
    let kept = Load::start(namespace, "primary", RATE, Ports::Kept).await?;
    let new = Load::start(namespace, "primary", RATE, Ports::New).await?;
    let time = tokio::time::sleep(TIME);
    event().await?;
    time.await;
    let (kept, new) = (kept.stop().await?, new.stop().await?);
    report(BENCH, &format!("{metric}_kept_port"), kept.lost.len() as f64, "", kept.asked);
    report(BENCH, metric, new.lost.len() as f64, "", new.asked);
    Ok(kept.wrong.len() + new.wrong.len())
}
