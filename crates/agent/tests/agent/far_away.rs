//! A source in another region: every answer takes 50 ms.
#![allow(clippy::print_stdout, reason = "figures for docs/agent.md")]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::ensure;
use bindy_testing::dns::{self, Transport};
use bindy_testing::{Fault, Proxy, Scratch, wait_for};
use bindy_zone::{Name, Serial};

use crate::support::{LIMIT, Rig, Source, catalog, catalog_text, name, zone_text};

/// Half of the time that a question and its answer take.
const ONE_WAY: Duration = Duration::from_millis(25);
const ZONES: usize = 1_000;
/// One question after the other takes 50 s for as many zones.
const WITHIN: Duration = Duration::from_secs(25);

fn zone(n: usize) -> String {
    format!("zone-{n}.example")
}

/// The catalog with all zones, of which those in `edited` have the serial 2.
fn content(edited: &BTreeSet<usize>) -> Vec<(Name, String)> {
    let names: Vec<String> = (0..ZONES).map(zone).collect();
    let members: Vec<&str> = names.iter().map(String::as_str).collect();
    let serial = |n| if edited.contains(&n) { 2 } else { 1 };
    let zones =
        names.iter().enumerate().map(|(n, zone)| (name(zone), zone_text(zone, serial(n), "192.0.2.10")));
    std::iter::once((catalog(), catalog_text(&catalog(), 1, &members))).chain(zones).collect()
}

#[tokio::test]
async fn changes_among_many_zones_are_found_within_seconds_of_the_return_of_a_source_far_away() {
    let scratch = Scratch::new("agent-far-away").unwrap();
    let mut source = Source::start(&scratch, "operator", &content(&BTreeSet::new())).await;
    let proxy = Proxy::start(source.named.address()).await.unwrap();
    let rig = Rig::start(&scratch, &[("operator", "operator", proxy.address())]).await;
    rig.until_ready().await;
    proxy.set(Fault::Cut);
    rig.until_report("the loss of the source", LIMIT, |_, report| {
        report["sources"]["operator"]["live"] == false
    })
    .await;
    let edited = BTreeSet::from([3, 333, 500, 777, 999]);
    source.change(&content(&edited)).await;
    for n in &edited {
        let zone = name(&zone(*n));
        wait_for("the edit", LIMIT, async || {
            let found = dns::serial(source.named.address(), Transport::Tcp, &zone).await?;
            ensure!(found == Serial::new(2), "{found}");
            Ok(())
        })
        .await
        .unwrap();
    }
    proxy.set(Fault::Delay(ONE_WAY));
    let back = Instant::now();
    for n in edited {
        rig.until_serial(&zone(n), 2, WITHIN).await;
    }
    println!("{ZONES} zones: {:?}", back.elapsed());
    assert!(back.elapsed() < WITHIN, "{:?}", back.elapsed());
}

/// The catalog has all zones, and the source has `there` of them.
async fn is_soon_ready(label: &str, there: usize) {
    let scratch = Scratch::new(label).unwrap();
    let source = Source::start(&scratch, "operator", &content(&BTreeSet::new())[..=there]).await;
    let proxy = Proxy::start(source.named.address()).await.unwrap();
    proxy.set(Fault::Delay(ONE_WAY));
    let begun = Instant::now();
    let rig = Rig::start(&scratch, &[("operator", "operator", proxy.address())]).await;
    rig.until_report("readiness", WITHIN, |status, _| status == 200).await;
    assert_eq!(rig.readyz().await.unwrap().1["excused"], ZONES - there);
    println!("{there} of {ZONES} zones: {:?}", begun.elapsed());
}

#[tokio::test]
async fn members_that_a_source_far_away_refuses_are_excused_within_seconds() {
    is_soon_ready("agent-far-away-refuses", 0).await;
}

#[tokio::test]
async fn zones_come_from_a_source_far_away_within_seconds() {
    is_soon_ready("agent-far-away-fill", ZONES).await;
}
