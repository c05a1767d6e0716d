//! Time from the API server's answer to a change of an object to the right answer on every pod:
//! `cargo xtask bench propagation`.
//!
//! A zone of 100 records on two pods (one tier), then on two primaries and two secondaries (two tiers). One record
//! changes 200 times. Questions go over UDP to one pod after the other until each has answered, half a millisecond
//! between two rounds.
//!
//! The stages are medians with one tier, in milliseconds since the answer: the operator has the object, has compiled
//! the zone, has the new serial in the status, the last agent has acknowledged its NOTIFY. They are read from the
//! operator's log, for which its log level is raised while the bench runs.

#![allow(clippy::indexing_slicing, reason = "a bench fails loudly")]

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bindy_e2e::Operator;
use bindy_testing::cluster::{Cluster, LIMIT, Namespace, OPERATOR, in_namespace};
use bindy_testing::figures::{arrival, quantile, report};
use bindy_testing::manifest::{a, instance, zone};
use bindy_zone::{Name, Rtype};
use serde_json::{Value, json};

const CHANGES: u32 = 200;
const RECORDS: u32 = 100;
/// Between an arrival and the next change, so that each is one by itself.
const PAUSE: Duration = Duration::from_millis(50);

/// The stages before the answer, and how a message of the log begins that ends them.
const STAGES: [(&str, &str); 4] =
    [("seen", "objects seen"), ("compiled", "compiled"), ("swapped", "swapped"), ("notified", "notified")];

/// One change: seconds since 1970 of the API server's answer, and milliseconds until it had arrived.
struct Change {
    answered: f64,
    arrived: f64,
}

#[tokio::main]
async fn main() -> Result<()> {
    let cluster = Cluster::connect().await?;
    set_log_level(&cluster, "info,bindy_engine=debug").await?;
    let measured = measure_all(&cluster).await;
    set_log_level(&cluster, "info").await?;
    measured
}

async fn measure_all(cluster: &Cluster) -> Result<()> {
    let primary = instance("primary", "primary", 2, &[]);
    let secondary = instance("secondary", "secondary", 2, &["primary"]);
    let changes = measure("bench-one-tier", &primary, &["primary"]).await?;
    let times: Vec<f64> = changes.iter().map(|change| change.arrived).collect();
    report("propagation", "p50_ms", quantile(&times, 0.5), "ms", times.len());
    report("propagation", "p99_ms", quantile(&times, 0.99), "ms", times.len());
    let events = events(&Operator::of(cluster).log().await?);
    for (stage, (name, _)) in STAGES.iter().enumerate() {
        let ends = stage_ends(&changes, &events, stage);
        report("propagation", &format!("stage_{name}_ms"), quantile(&ends, 0.5), "ms", ends.len());
    }
    report("propagation", "stage_answered_ms", quantile(&times, 0.5), "ms", times.len());
    let changes = measure("bench-two-tiers", &(primary + &secondary), &["primary", "secondary"]).await?;
    let times: Vec<f64> = changes.iter().map(|change| change.arrived).collect();
    report("propagation", "p50_2tier_ms", quantile(&times, 0.5), "ms", times.len());
    report("propagation", "p99_2tier_ms", quantile(&times, 0.99), "ms", times.len());
    Ok(())
}

/// Serves a zone on these instances, of two pods each, and changes a record of it.
async fn measure(name: &str, instances: &str, names: &[&str]) -> Result<Vec<Change>> {
    let mut changes = Vec::new();
    in_namespace(name, async |namespace| {
        let hosts = (0..RECORDS).map(|n| a(&format!("host-{n}"), "bench", &format!("host-{n}"), "192.0.2.1"));
        let changing = a("changing", "bench", "changing", "10.0.0.0");
        let zone = zone("bench", "bench.example");
        namespace.serve(&(instances.to_owned() + &zone + &changing + &hosts.collect::<String>())).await?;
        let mut pods: Vec<SocketAddr> = Vec::new();
        for instance in names {
            pods.extend(namespace.until_ready(instance, 2, &[]).await?.iter().map(|pod| pod.dns()));
        }
        namespace.answers("changing.bench.example", Rtype::A, &["10.0.0.0"]).await?;
        for n in 1..=CHANGES {
            changes.push(change(namespace, &pods, n).await?);
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    })
    .await?;
    Ok(changes)
}

async fn change(namespace: &Namespace, pods: &[SocketAddr], n: u32) -> Result<Change> {
    let address = Ipv4Addr::from(0x0a00_0000 + n);
    let spec = json!({"spec": {"ipv4Addresses": [address.to_string()]}});
    namespace.patch("ARecord", "changing", spec).await?;
    let (begun, answered) = (Instant::now(), std::time::UNIX_EPOCH.elapsed()?.as_secs_f64());
    let question = Name::parse("changing.bench.example")?;
    let is_right = |answer: &bindy_testing::dns::Answer| {
        answer.records.iter().any(|record| record.rdata[..] == address.octets())
    };
    arrival(pods, &question, Rtype::A, is_right, LIMIT).await?;
    Ok(Change { answered, arrived: begun.elapsed().as_secs_f64() * 1e3 })
}

/// Stage and seconds since 1970 of each line of the log that ends a stage.
fn events(log: &str) -> Vec<(usize, f64)> {
    let event = |line: &str| {
        let line: Value = serde_json::from_str(line).ok()?;
        let message = line.pointer("/fields/message")?.as_str()?;
        let stage = STAGES.iter().position(|(_, begin)| message.starts_with(begin))?;
        let at: jiff::Timestamp = line.get("timestamp")?.as_str()?.parse().ok()?;
        Some((stage, at.as_microsecond() as f64 / 1e6))
    };
    log.lines().filter_map(event).collect()
}

/// When each change had passed a stage: milliseconds from the answer to the first such event that follows the change.
/// The watch may be faster than the answer.
fn stage_ends(changes: &[Change], events: &[(usize, f64)], stage: usize) -> Vec<f64> {
    let early = PAUSE.as_secs_f64() / 2.0;
    let ends = changes.iter().filter_map(|change| {
        let end = change.answered + change.arrived / 1e3;
        let own =
            events.iter().filter(|(its, at)| *its == stage && (change.answered - early..end).contains(at));
        own.map(|(_, at)| (at - change.answered) * 1e3).reduce(f64::min)
    });
    ends.collect()
}

/// Sets what the operator logs; it is started again for that.
async fn set_log_level(cluster: &Cluster, level: &str) -> Result<()> {
    let variable = format!("BINDY_LOG={level}");
    cluster.kubectl(&["-n", OPERATOR, "set", "env", "deployment/bindy", &variable]).await?;
    let rollout = ["-n", OPERATOR, "rollout", "status", "deployment/bindy", "--timeout=120s"];
    cluster.kubectl(&rollout).await.map(drop).context("the operator did not come back")
}
