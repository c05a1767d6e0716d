//! Time from a file being renamed into place to the right answer on every server: `cargo xtask bench propagation`.
//!
//! `bindy up` serves a zone of 100 records on two servers (one tier), then on two primaries and two secondaries that
//! pull from them (two tiers). One record changes 200 times, with a short pause after each arrival. Questions go over
//! UDP to one server after the other until each has answered; once right, an answer stays right, so the last one is
//! the time on all of them, to half a millisecond.
//!
//! The stages are medians with one tier, in milliseconds since the rename: the engine has the object, has compiled
//! the zone, has the new serial in the ledger, the last server has acknowledged its NOTIFY, the last agent has passed
//! the whole transfer to its named, the last server has answered. They are read from the time stamps of the logs.

#![allow(
    clippy::print_stdout,
    clippy::indexing_slicing,
    unreachable_pub,
    dead_code,
    reason = "a bench prints, fails loudly, and shares the harness of the tests"
)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bindy_testing::figures::{arrival, quantile, report};
use bindy_zone::{Name, Rtype};
use common::{LIMIT, Up, a, instance, zone};
use jiff::Timestamp;

const CHANGES: u32 = 200;
const RECORDS: u32 = 100;
/// Between an arrival and the next change, so that each is one by itself.
const PAUSE: Duration = Duration::from_millis(50);

/// The stages before the answer, and how a line of the log begins that ends them.
const STAGES: [(&str, &str); 5] = [
    ("seen", "objects seen"),
    ("compiled", "compiled"),
    ("swapped", "swapped"),
    ("notified", "notified"),
    ("transferred", "transferred"),
];

/// One change: when its file was renamed, and how long it took to arrive.
struct Change {
    written: Timestamp,
    arrived: f64,
}

/// A line of a log that ends a stage.
struct Event {
    stage: usize,
    at: Timestamp,
}

#[tokio::main]
async fn main() -> Result<()> {
    let one = vec![instance("primary", "primary", 2, &[])];
    let (changes, events) = measure("bench-one-tier", &one).await?;
    let times: Vec<f64> = changes.iter().map(|change| change.arrived).collect();
    report("propagation", "p50_ms", quantile(&times, 0.5), "ms", times.len());
    report("propagation", "p99_ms", quantile(&times, 0.99), "ms", times.len());
    for (stage, (name, _)) in STAGES.iter().enumerate() {
        let ends = stage_ends(&changes, &events, stage);
        report("propagation", &format!("stage_{name}_ms"), quantile(&ends, 0.5), "ms", ends.len());
    }
    report("propagation", "stage_answered_ms", quantile(&times, 0.5), "ms", times.len());

    let two =
        vec![instance("primary", "primary", 2, &[]), instance("secondary", "secondary", 2, &["primary"])];
    let (changes, _) = measure("bench-two-tiers", &two).await?;
    let times: Vec<f64> = changes.iter().map(|change| change.arrived).collect();
    report("propagation", "p50_2tier_ms", quantile(&times, 0.5), "ms", times.len());
    report("propagation", "p99_2tier_ms", quantile(&times, 0.99), "ms", times.len());
    Ok(())
}

/// Serves a zone on these instances and changes a record of it.
async fn measure(name: &str, instances: &[String]) -> Result<(Vec<Change>, Vec<Event>)> {
    let mut up = Up::new(name)?;
    let hosts = (0..RECORDS).map(|n| a(&format!("host-{n}"), "bench", &format!("host-{n}"), "192.0.2.1"));
    up.write("instances.yaml", &instances.concat())?;
    up.write("zone.yaml", &(zone("bench", "bench.example") + &hosts.collect::<String>()))?;
    up.start_logging("info,bindy_engine=debug,bindy_agent=debug")?;
    up.settled().await?;
    let status = up.status()?;
    let servers: Vec<SocketAddr> = status.servers.iter().map(|server| server.dns).collect();
    let question = Name::parse("changing.bench.example")?;
    let mut changes = Vec::new();
    // The first one creates the record and is not counted.
    for n in 0..=CHANGES {
        let address = Ipv4Addr::from(0x0a00_0000 + n);
        let written = write(&up, &a("changing", "bench", "changing", &address.to_string()))?;
        let begun = Instant::now();
        let is_expected = |answer: &bindy_testing::dns::Answer| {
            answer.records.iter().any(|record| record.rdata[..] == address.octets())
        };
        arrival(&servers, &question, Rtype::A, is_expected, LIMIT).await?;
        changes.push(Change { written, arrived: begun.elapsed().as_secs_f64() * 1e3 });
        tokio::time::sleep(PAUSE).await;
    }
    changes.remove(0);
    let mut events = events(&up.state().with_file_name("up-1.log"))?;
    for server in &status.servers {
        events.extend(self::events(&server.directory.join("agent.log"))?);
    }
    up.stop().await?;
    Ok((changes, events))
}

/// The moment just before the file is in place.
fn write(up: &Up, text: &str) -> Result<Timestamp> {
    let next = up.state().with_file_name("next.yaml");
    std::fs::write(&next, text)?;
    let written = Timestamp::now();
    std::fs::rename(next, up.manifests().join("changing.yaml"))?;
    Ok(written)
}

/// `2026-11-21T05:50:25.123456Z DEBUG bindy_engine::driver: compiled target=…`
fn events(log: &Path) -> Result<Vec<Event>> {
    let text = std::fs::read_to_string(log).with_context(|| log.display().to_string())?;
    let mut events = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let (Some(at), Some("DEBUG"), Some(_)) = (words.next(), words.next(), words.next()) else { continue };
        let message = words.collect::<Vec<_>>().join(" ");
        if let Some(stage) = STAGES.iter().position(|(_, begin)| message.starts_with(begin)) {
            events.push(Event { stage, at: at.parse()? });
        }
    }
    Ok(events)
}

/// When each change had passed a stage everywhere: milliseconds until the last such event before the next change.
fn stage_ends(changes: &[Change], events: &[Event], stage: usize) -> Vec<f64> {
    let mut ends = Vec::new();
    for (n, change) in changes.iter().enumerate() {
        let next = changes.get(n + 1).map_or(Timestamp::MAX, |next| next.written);
        let own =
            events.iter().filter(|event| event.stage == stage && (change.written..next).contains(&event.at));
        if let Some(last) = own.map(|event| event.at).max() {
            ends.push(change.written.duration_until(last).as_secs_f64() * 1e3);
        }
    }
    ends
}
