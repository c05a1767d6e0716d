//! Questions lost while a fleet changes: `cargo xtask bench loss`.
//!
//! The Service of an instance with three servers is asked for half a minute each time: by dnsperf (`…_dnsperf`), from a port that is kept
//! (`…_kept_port`), and always from another; 2 000 questions a second altogether, then 5 000 (`…_5k`). `control_lost` is without
//! any change, `lost_EVENT` with one, each three times; `wrong_answers` are all that were not the right answer, over the whole
//! benchmark; dnsperf looks at response codes only. When questions were lost stands on stderr. `-- EVENT…` measures these only, as `control drain`.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bindy_e2e::{Dnsperf, Load, STEADY, STEADY_ADDRESS, Way, drain, served, uncordon};
use bindy_testing::cluster::{Grace, Namespace, in_namespace};
use bindy_testing::figures::report;
use bindy_testing::manifest::instance;
use bindy_zone::Rtype;
use serde_json::{Value, json};

const BENCH: &str = "loss";
/// Questions a second of the client that keeps its port, of the one that does not, and of dnsperf, and what the names of the figures
/// end in.
const RATES: [([u32; 3], &str); 2] = [([500, 500, 1_000], ""), ([1_250, 1_250, 2_500], "_5k")];
/// How long is asked at least.
const TIME: Duration = Duration::from_secs(30);
/// How long is asked before the event, until the clients have started.
const BEFORE: Duration = Duration::from_secs(2);
/// How long a question may wait for its answer; until then dnsperf does not say that it is lost.
const LIMIT: Duration = Duration::from_secs(2);
/// How often each event happens.
const ROUNDS: usize = 3;
const SERVERS: usize = 3;

#[tokio::main]
async fn main() -> Result<()> {
    // Cargo adds one of its own.
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    in_namespace("bench-loss", async |namespace| {
        served(namespace, u32::try_from(SERVERS)?).await?;
        namespace.apply(&instance("other", "primary", 1, &[])).await?;
        namespace.ready("Bind9Instance", "other").await?;
        namespace.answers_by_service("primary", STEADY, Rtype::A, &[STEADY_ADDRESS]).await?;
        let mut sums = Sums::default();
        // Another one for each change.
        let mut numbers = 1..;
        for (rates, suffix) in RATES {
            let mut run = Run { namespace, rates, suffix, sums: &mut sums, wanted: &wanted };
            for number in numbers.by_ref().take(ROUNDS) {
                run.measure("control_lost", async || Ok(())).await?;
                let version = if number % 2 == 0 { "9.18" } else { "9.20" };
                let image = json!({"spec": {"version": version}});
                run.measure("lost_rollout", async || replace_all(namespace, image).await).await?;
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
        ensure!(sums.wrong == 0, "there were wrong answers");
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
    rates: [u32; 3],
    suffix: &'static str,
    sums: &'a mut Sums,
    /// The events that are asked for; all if there are none.
    wanted: &'a [String],
}

impl Run<'_> {
    /// Asks while `event` happens, and for a while in any case.
    #[expect(clippy::print_stderr, reason = "for whoever looks for the cause; results go to stdout")]
    async fn measure(&mut self, metric: &str, event: impl AsyncFnOnce() -> Result<()>) -> Result<()> {
        let event_name = metric.trim_start_matches("lost_").trim_end_matches("_lost");
        if !self.wanted.is_empty() && self.wanted.iter().all(|wanted| wanted != event_name) {
            return Ok(());
        }
        let (namespace, suffix) = (self.namespace, self.suffix);
        let [kept, new, dnsperf] = self.rates;
        let dnsperf = Dnsperf::start(namespace, "primary", dnsperf).await?;
        let kept = Load::start(namespace, "primary", kept, Way::KeptPort).await?;
        let new = Load::start(namespace, "primary", new, Way::NewPorts).await?;
        let time = tokio::time::sleep(BEFORE + TIME);
        tokio::time::sleep(BEFORE).await;
        event().await.with_context(|| metric.to_owned())?;
        time.await;
        tokio::time::sleep(LIMIT).await;
        let (kept, new) = (kept.stop().await?, new.stop().await?);
        for missed in [&kept, &new].iter().filter_map(|tally| tally.nothing_missed().err()) {
            eprintln!("{metric}{suffix}: {missed}");
        }
        let counts = [("_kept_port", kept.count()), ("", new.count()), ("_dnsperf", dnsperf.stop().await?)];
        for (client, count) in counts {
            report(BENCH, &format!("{metric}{client}{suffix}"), count.lost as f64, "", count.asked);
            self.sums.asked += count.asked;
            self.sums.wrong += count.wrong;
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
