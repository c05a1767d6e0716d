//! One edit among many: `cargo xtask bench burst`.
//!
//! `last_edit_ms`: a record is edited for half a minute as fast as the API server takes it (`edits_per_s`); from the response to
//! the last edit until both servers answer it. `versions_per_edit`: versions that the operator published of all these edits.
//! `urgent_edit_ms`: 10 000 zones are made as fast as the API server takes them; from the response to an edit of another zone, made
//! right after the last of them, until both servers answer it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bindy_e2e::{Operator, ZONE, create_zones, served};
use bindy_testing::cluster::{LIMIT, Namespace, Server, in_namespace};
use bindy_testing::dns::Answer;
use bindy_testing::figures::{arrival, report};
use bindy_testing::manifest::a;
use bindy_zone::{Name, Rtype};
use futures::future::try_join_all;

const BENCH: &str = "burst";
const ZONES: usize = 10_000;
const EDITING: Duration = Duration::from_secs(30);
/// Who edit the same record, each after the answer to its edit before.
const WRITERS: u32 = 16;

#[tokio::main]
async fn main() -> Result<()> {
    in_namespace("bench-burst", async |namespace| {
        let servers: Vec<SocketAddr> = served(namespace, 2).await?.iter().map(Server::dns).collect();
        let operator = Operator::of(namespace.cluster());
        let before = published(&operator).await?;
        let begun = Instant::now();
        let edits = edit_for_a_while(namespace).await?;
        let rate = f64::from(edits) / begun.elapsed().as_secs_f64();
        let last = edit(namespace, &servers, edits + 1).await?;
        let versions = published(&operator).await? - before;
        report(BENCH, "last_edit_ms", last, "ms", 1);
        report(BENCH, "edits_per_s", rate, "1/s", edits.try_into()?);
        report(BENCH, "versions_per_edit", versions / f64::from(edits), "", edits.try_into()?);

        create_zones(namespace, 1..ZONES).await?;
        report(BENCH, "urgent_edit_ms", edit(namespace, &servers, edits + 2).await?, "ms", 1);
        Ok(())
    })
    .await
}

/// Which address the record has after so many edits.
fn address(edits: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0a00_0000 + edits)
}

fn record(edits: u32) -> String {
    a("edited", ZONE.0, "edited", &address(edits).to_string())
}

/// Returns how many edits were made.
async fn edit_for_a_while(namespace: &Namespace) -> Result<u32> {
    let (begun, edits) = (Instant::now(), AtomicU32::new(0));
    let writer = async || -> Result<()> {
        while begun.elapsed() < EDITING {
            namespace.apply(&record(edits.fetch_add(1, Ordering::Relaxed))).await?;
        }
        Ok(())
    };
    try_join_all((0..WRITERS).map(|_| writer())).await?;
    Ok(edits.into_inner())
}

/// Milliseconds from the response to an edit until all servers answer it.
async fn edit(namespace: &Namespace, servers: &[SocketAddr], edits: u32) -> Result<f64> {
    namespace.apply(&record(edits)).await?;
    let written = Instant::now();
    let wanted = address(edits).octets();
    let is_right = |answer: &Answer| answer.records.iter().any(|one| one.rdata[..] == wanted);
    arrival(servers, &Name::parse("edited.example.com")?, Rtype::A, is_right, LIMIT).await?;
    Ok(written.elapsed().as_secs_f64() * 1e3)
}

/// How many versions the operator has published since it started.
async fn published(operator: &Operator) -> Result<f64> {
    let metrics = operator.metrics().await?;
    let line =
        metrics.lines().find(|line| line.starts_with("bindy_swaps_total") && line.contains("\"done\""));
    let value = line.and_then(|line| line.rsplit(' ').next()).with_context(|| metrics.clone())?;
    Ok(value.parse()?)
}
