//! Questions lost while a fleet changes: `cargo xtask bench loss`.
//!
//! Two clients ask the Service of an instance with three servers for half a minute each time, one from a port that it keeps, one always
//! from another; 2 000 questions a second altogether, then 5 000 (`…_5k`). `control_lost` is without any change, three times;
//! `lost_EVENT` with one, three times at the first rate; `wrong_answers` are all that were not the right answer, over the whole
//! benchmark.

use std::time::Duration;

use anyhow::{Context, Result};
use bindy_e2e::{Load, Ports, STEADY, STEADY_ADDRESS, drain, served, uncordon};
use bindy_testing::cluster::{Grace, Namespace, in_namespace};
use bindy_testing::figures::report;
use bindy_testing::manifest::instance;
use bindy_zone::Rtype;
use serde_json::{Value, json};

const BENCH: &str = "loss";
/// Questions a second of the client that keeps its port and of the other, what the names of the figures end in, and how often each
/// event happens.
const RATES: [([u32; 2], &str, usize); 2] = [([1_000, 1_000], "", 3), ([3_750, 1_250], "_5k", 1)];
/// How long is asked at least.
const TIME: Duration = Duration::from_secs(30);
const CONTROLS: usize = 3;
const SERVERS: usize = 3;

#[tokio::main]
async fn main() -> Result<()> {
    in_namespace("bench-loss", async |namespace| {
        served(namespace, u32::try_from(SERVERS)?).await?;
        namespace.apply(&instance("other", "primary", 1, &[])).await?;
        namespace.ready("Bind9Instance", "other").await?;
        namespace.answers_by_service("primary", STEADY, Rtype::A, &[STEADY_ADDRESS]).await?;
        let mut sums = Sums::default();
        // Another one for each change.
        let mut numbers = 1..;
        for (rates, suffix, rounds) in RATES {
            let mut run = Run { namespace, rates, suffix, sums: &mut sums };
            for _ in 0..CONTROLS {
                run.measure("control_lost", async || Ok(())).await?;
            }
            for number in numbers.by_ref().take(rounds) {
                // The template of the pods differs, as with another image.
                let memory = format!("{}Mi", 64 + number);
                let template = json!({"spec": {"resources": {"requests": {"memory": memory}}}});
                run.measure("lost_rollout", async || replace_all(namespace, template).await).await?;
                let access =
                    json!({"spec": {"config": {"allowQuery": [format!("!192.0.2.{number}"), "any"]}}});
                run.measure("lost_configuration", async || change(namespace, access).await).await?;
                run.measure("lost_scale", async || scale(namespace).await).await?;
                run.measure("lost_role", async || change_role(namespace).await).await?;
                run.measure("lost_drain", async || drain_a_node(namespace).await).await?;
                run.measure("lost_deleted_pod", async || delete_a_pod(namespace, Grace::Own).await).await?;
                run.measure("lost_killed_pod", async || delete_a_pod(namespace, Grace::None).await).await?;
            }
        }
        report(BENCH, "wrong_answers", sums.wrong as f64, "", sums.asked);
        Ok(())
    })
    .await
}

#[derive(Default)]
struct Sums {
    asked: usize,
    wrong: usize,
}

struct Run<'a> {
    namespace: &'a Namespace,
    rates: [u32; 2],
    suffix: &'static str,
    sums: &'a mut Sums,
}

impl Run<'_> {
    /// Asks while `event` happens, and for a while in any case.
    async fn measure(&mut self, metric: &str, event: impl AsyncFnOnce() -> Result<()>) -> Result<()> {
        let (namespace, suffix) = (self.namespace, self.suffix);
        let [kept, new] = self.rates;
        let kept = Load::start(namespace, "primary", kept, Ports::Kept).await?;
        let new = Load::start(namespace, "primary", new, Ports::New).await?;
        let time = tokio::time::sleep(TIME);
        event().await.with_context(|| metric.to_owned())?;
        time.await;
        for (ports, load) in [("_kept_port", kept), ("", new)] {
            let tally = load.stop().await?;
            report(BENCH, &format!("{metric}{ports}{suffix}"), tally.lost.len() as f64, "", tally.asked);
            self.sums.asked += tally.asked;
            self.sums.wrong += tally.wrong.len();
        }
        Ok(())
    }
}

async fn change(namespace: &Namespace, change: Value) -> Result<()> {
    namespace.patch("Bind9Instance", "primary", change).await?;
    namespace.ready("Bind9Instance", "primary").await.map(drop)
}

async fn replace_all(namespace: &Namespace, change: Value) -> Result<()> {
    let before = namespace.servers_of("primary").await?;
    namespace.patch("Bind9Instance", "primary", change).await?;
    namespace.until_ready("primary", SERVERS, &before.iter().collect::<Vec<_>>()).await.map(drop)
}

async fn scale(namespace: &Namespace) -> Result<()> {
    for count in [SERVERS + 2, SERVERS] {
        namespace.patch("Bind9Instance", "primary", json!({"spec": {"replicas": count}})).await?;
        namespace.until_ready("primary", count, &[]).await?;
    }
    Ok(())
}

/// It becomes a secondary of another instance, and a primary again.
async fn change_role(namespace: &Namespace) -> Result<()> {
    change(namespace, json!({"spec": {"role": "secondary", "upstreams": [{"name": "other"}]}})).await?;
    change(namespace, json!({"spec": {"role": "primary", "upstreams": null}})).await
}

async fn drain_a_node(namespace: &Namespace) -> Result<()> {
    let node = namespace.servers_of("primary").await?.first().context("no server")?.node.clone();
    let drained = drain(namespace.cluster(), &node, 120).await;
    uncordon(namespace.cluster(), &node).await?;
    drained?;
    namespace.until_ready("primary", SERVERS, &[]).await.map(drop)
}

async fn delete_a_pod(namespace: &Namespace, grace: Grace) -> Result<()> {
    let servers = namespace.servers_of("primary").await?;
    let victim = servers.first().context("no server")?;
    namespace.delete_server(victim, grace).await?;
    namespace.until_ready("primary", SERVERS, &[victim]).await.map(drop)
}
