//! Time from the API server's response to the right answer on every server: `cargo xtask bench propagation`.
//!
//! Two primaries and two secondaries below them serve a zone of 100 records, of which one changes 200 times. Questions go
//! over UDP to one server after the other until each has answered; once right, an answer stays right. `p50_ms` is until
//! both primaries have answered, `p50_2tier_ms` until all four have.
//!
//! The stages are medians of milliseconds since the response (it may come after the operator has seen the object, so the
//! first ones can be below zero): the operator has the object, has compiled the zone, has its serial in the status, the last
//! server has acknowledged its NOTIFY. They are read from the operator's log.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::Result;
use bindy_e2e::Operator;
use bindy_testing::cluster::{LIMIT, Namespace, Server, in_namespace};
use bindy_testing::dns::Answer;
use bindy_testing::figures::{arrival, quantile, report};
use bindy_testing::manifest::{a, instance, zone};
use bindy_zone::{Name, Rtype};
use jiff::Timestamp;
use serde_json::Value;

const CHANGES: u32 = 200;
const RECORDS: u32 = 100;
/// Between an arrival and the next change, so that each is one by itself.
const PAUSE: Duration = Duration::from_millis(50);
const BENCH: &str = "propagation";
/// How a line of the log begins that ends a stage, and which of several lines for one change counts: the operator sees
/// its own writes of status as well, and notifies one server after the other.
const STAGES: [(&str, &str, Which); 4] = [
    ("seen", "objects seen", Which::LastBeforeNext),
    ("compiled", "compiled", Which::First),
    ("swapped", "swapped", Which::First),
    ("notified", "notified", Which::Last),
];

#[derive(Clone, Copy)]
enum Which {
    First,
    Last,
    /// The last one before the next stage ends: what is seen of the change before may come late.
    LastBeforeNext,
}

/// One change: when the API had it, and how long it took to arrive.
struct Change {
    written: Timestamp,
    primaries: f64,
    all: f64,
}

#[tokio::main]
async fn main() -> Result<()> {
    in_namespace("bench-propagation", async |namespace| {
        let hosts = (0..RECORDS).map(|n| a(&format!("host-{n}"), "bench", &format!("host-{n}"), "192.0.2.1"));
        let instances =
            instance("primary", "primary", 2, &[]) + &instance("secondary", "secondary", 2, &["primary"]);
        let operator = Operator::of(namespace.cluster());
        operator.set_log("info,bindy_engine=debug").await?;
        namespace.serve(&(instances + &zone("bench", "bench.example") + &hosts.collect::<String>())).await?;
        namespace.contents_are_published().await?;
        let changes = measure(namespace).await?;
        let log = operator.log().await?;
        operator.set_log("info").await?;

        let (one, two) = (all(&changes, |one| one.primaries), all(&changes, |one| one.all));
        report(BENCH, "p50_ms", quantile(&one, 0.5), "ms", one.len());
        report(BENCH, "p99_ms", quantile(&one, 0.99), "ms", one.len());
        report(BENCH, "p50_2tier_ms", quantile(&two, 0.5), "ms", two.len());
        report(BENCH, "p99_2tier_ms", quantile(&two, 0.99), "ms", two.len());
        let events: Vec<(usize, Timestamp)> = log.lines().filter_map(event).collect();
        for (stage, (name, _, which)) in STAGES.iter().enumerate() {
            let ends = ends(&changes, &events, stage, *which);
            report(BENCH, &format!("stage_{name}_ms"), quantile(&ends, 0.5), "ms", ends.len());
        }
        report(BENCH, "stage_answered_ms", quantile(&one, 0.5), "ms", one.len());
        Ok(())
    })
    .await
}

fn all(changes: &[Change], time: fn(&Change) -> f64) -> Vec<f64> {
    changes.iter().map(time).collect()
}

async fn measure(namespace: &Namespace) -> Result<Vec<Change>> {
    let addresses = |servers: Vec<Server>| -> Vec<SocketAddr> { servers.iter().map(Server::dns).collect() };
    let primaries = addresses(namespace.until_ready("primary", 2, &[]).await?);
    let secondaries = addresses(namespace.until_ready("secondary", 2, &[]).await?);
    let question = Name::parse("changing.bench.example")?;
    let mut changes = Vec::new();
    // The first one creates the record and is not counted.
    for n in 0..=CHANGES {
        let address = Ipv4Addr::from(0x0a00_0000 + n);
        namespace.apply(&a("changing", "bench", "changing", &address.to_string())).await?;
        let (written, begun) = (Timestamp::now(), Instant::now());
        let is_right = |answer: &Answer| answer.records.iter().any(|one| one.rdata[..] == address.octets());
        arrival(&primaries, &question, Rtype::A, is_right, LIMIT).await?;
        let first = begun.elapsed().as_secs_f64() * 1e3;
        arrival(&secondaries, &question, Rtype::A, is_right, LIMIT).await?;
        changes.push(Change { written, primaries: first, all: begun.elapsed().as_secs_f64() * 1e3 });
        tokio::time::sleep(PAUSE).await;
    }
    changes.remove(0);
    Ok(changes)
}

/// `{"timestamp":"2026-11-21T05:50:25.123456Z","level":"DEBUG","fields":{"message":"compiled",…`
fn event(line: &str) -> Option<(usize, Timestamp)> {
    let line: Value = serde_json::from_str(line).ok()?;
    let message = line.pointer("/fields/message")?.as_str()?;
    let stage = STAGES.iter().position(|(_, begin, _)| message.starts_with(begin))?;
    Some((stage, line.get("timestamp")?.as_str()?.parse().ok()?))
}

/// When each change had passed a stage, in milliseconds since the API's response.
fn ends(changes: &[Change], events: &[(usize, Timestamp)], stage: usize, which: Which) -> Vec<f64> {
    let mut found = Vec::new();
    for (n, change) in changes.iter().enumerate() {
        // The operator may have seen it before its response was here.
        let from = change.written - PAUSE;
        let until = changes.get(n + 1).map_or(Timestamp::MAX, |next| next.written - PAUSE);
        let of = |stage| {
            let own = events.iter().filter(move |(of, at)| *of == stage && (from..until).contains(at));
            own.map(|(_, at)| *at)
        };
        let end = match which {
            Which::First => of(stage).min(),
            Which::Last => of(stage).max(),
            Which::LastBeforeNext => {
                of(stage + 1).min().and_then(|next| of(stage).filter(|at| *at <= next).max())
            }
        };
        found.extend(end.map(|end| change.written.duration_until(end).as_secs_f64() * 1e3));
    }
    found
}
