//! Zones by the thousand on one real named: `cargo xtask bench catalog`, with 100 000 zones after `-- --large`.
//!
//! `load_10k_s`: from the start of `bindy up`, on a directory with 10 000 DNSZones in one file and without any state,
//! until its server has answered the SOA of every one of them. `add_at_10k_ms`: from the rename of a file with one more
//! DNSZone until the server answers its SOA; median of 20. Everything takes part: YAML, ledger, catalog zone, agent,
//! named.

#![allow(
    clippy::print_stdout,
    unreachable_pub,
    dead_code,
    reason = "a bench prints, and shares the harness of the tests"
)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Result;
use bindy_local::status::Status;
use bindy_testing::figures::{arrival, quantile, report};
use bindy_testing::wait_for;
use bindy_zone::{Name, Rtype};
use common::{Up, instance, zone};

const ADDITIONS: usize = 20;
/// Between two additions, so that each is one by itself.
const PAUSE: Duration = Duration::from_millis(500);

#[tokio::main]
async fn main() -> Result<()> {
    measure("10k", 10_000, Duration::from_secs(120)).await?;
    if std::env::args().any(|word| word == "--large") {
        measure("100k", 100_000, Duration::from_secs(1_200)).await?;
    }
    Ok(())
}

async fn measure(size: &str, zones: usize, limit: Duration) -> Result<()> {
    let mut up = Up::new(&format!("bench-catalog-{size}"))?;
    up.write("instances.yaml", &instance("primary", "primary", 1, &[]))?;
    let documents: String =
        (0..zones).map(|n| zone(&format!("zone-{n}"), &format!("zone-{n}.example"))).collect();
    up.write("zones.yaml", &documents)?;
    let begun = Instant::now();
    up.start_logging("info")?;
    let state = up.state();
    let server = wait_for("a server", limit, async || {
        let servers = Status::read(&state)?.servers;
        servers.first().map(|server| server.dns).ok_or_else(|| anyhow::anyhow!("none yet"))
    });
    let server = server.await?;
    for n in 0..zones {
        answers(server, &format!("zone-{n}.example"), limit).await?;
    }
    report("catalog", &format!("load_{size}_s"), begun.elapsed().as_secs_f64(), "s", zones);
    let mut times = Vec::new();
    for n in 0..ADDITIONS {
        tokio::time::sleep(PAUSE).await;
        let name = format!("added-{n}.example");
        let begun = Instant::now();
        up.write(&format!("added-{n}.yaml"), &zone(&format!("added-{n}"), &name))?;
        answers(server, &name, limit).await?;
        times.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    report("catalog", &format!("add_at_{size}_ms"), quantile(&times, 0.5), "ms", ADDITIONS);
    up.stop().await
}

async fn answers(server: SocketAddr, zone: &str, limit: Duration) -> Result<()> {
    let has_soa = |answer: &bindy_testing::dns::Answer| answer.authoritative && answer.serial.is_some();
    arrival(&[server], &Name::parse(zone)?, Rtype::SOA, has_soa, limit).await
}
