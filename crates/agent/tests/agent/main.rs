//! The agent between real named servers.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod far_away;
mod files;
mod operator_replicas;
mod strangers;
mod support;

use std::time::Duration;

use anyhow::{Context, ensure};
use bindy_testing::dns::{self, Transport};
use bindy_testing::{Fault, Proxy, Scratch, wait_for};
use bindy_wire::{ClientError, Connection, Timeouts, Transfer};
use bindy_zone::{Name, Rtype, Serial};
use support::{LIMIT, PATIENCE, Rig, Source, catalog, catalog_text, name, own_key, www, zone_text};

const ZONE: &str = "example.com";

/// The catalog and one zone at these serials.
fn content(serial: u32, address: &str) -> Vec<(Name, String)> {
    vec![(catalog(), catalog_text(&catalog(), 1, &[ZONE])), (name(ZONE), zone_text(ZONE, serial, address))]
}

fn timeouts() -> Timeouts {
    Timeouts {
        connect: Duration::from_secs(1),
        answer: Duration::from_secs(3),
        between: Duration::from_secs(3),
    }
}

async fn notify(rig: &Rig, zone: &str, serial: u32) {
    let mut connection = Connection::open(&rig.transfer_port(Some(own_key())), timeouts()).await.unwrap();
    connection.notify(&name(zone), Serial::new(serial)).await.unwrap();
}

async fn until_source_has(source: &Source, zone: &Name, serial: u32) {
    wait_for("the source", LIMIT, async || {
        let found = dns::serial(source.named.address(), Transport::Tcp, zone).await?;
        ensure!(found == Serial::new(serial), "{found}");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_zone_arrives_and_a_change_follows_by_ixfr() {
    let scratch = Scratch::new("agent-zone-arrives").unwrap();
    let mut source = Source::start(&scratch, "operator", &content(1, "192.0.2.10")).await;
    let rig = Rig::start(&scratch, &[("operator", "operator", source.named.address())]).await;
    rig.until_ready().await;
    assert_eq!(www(rig.named.address(), ZONE).await.unwrap(), [192, 0, 2, 10]);

    source.change(&content(2, "192.0.2.20")).await;
    until_source_has(&source, &name(ZONE), 2).await;
    notify(&rig, ZONE, 2).await;
    rig.until_serial(ZONE, 2, Duration::from_secs(2)).await;
    assert_eq!(rig.metric("bindy_agent_notifies_total").await.unwrap(), Some(1.0));
    assert_eq!(www(rig.named.address(), ZONE).await.unwrap(), [192, 0, 2, 20]);
    assert!(source.named.log().contains("IXFR started"), "{}", source.named.log());
}

#[tokio::test]
async fn a_lost_notify_is_repaired_within_five_seconds() {
    let scratch = Scratch::new("agent-notify-lost").unwrap();
    let mut source = Source::start(&scratch, "operator", &content(1, "192.0.2.10")).await;
    let rig = Rig::start(&scratch, &[("operator", "operator", source.named.address())]).await;
    rig.until_ready().await;
    source.change(&content(2, "192.0.2.20")).await;
    rig.until_serial(ZONE, 2, Duration::from_secs(5)).await;
    assert!(rig.metric("bindy_agent_missed_notifies_total").await.unwrap() > Some(0.0));
}

#[tokio::test]
async fn a_new_member_of_the_catalog_arrives() {
    let scratch = Scratch::new("agent-new-member").unwrap();
    let mut source = Source::start(&scratch, "operator", &content(1, "192.0.2.10")).await;
    let rig = Rig::start(&scratch, &[("operator", "operator", source.named.address())]).await;
    rig.until_ready().await;
    let more = vec![
        (catalog(), catalog_text(&catalog(), 2, &[ZONE, "example.org"])),
        (name(ZONE), zone_text(ZONE, 1, "192.0.2.10")),
        (name("example.org"), zone_text("example.org", 7, "192.0.2.30")),
    ];
    source.change(&more).await;
    rig.until_serial("example.org", 7, Duration::from_secs(5)).await;
    assert_eq!(rig.readyz().await.unwrap().0, 200);
}

#[tokio::test]
async fn a_version_that_a_sibling_had_first_does_not_hold_up_the_next_one_of_the_upstream() {
    let scratch = Scratch::new("agent-sibling-first").unwrap();
    let mut upstream = Source::start(&scratch, "upstream", &content(1, "192.0.2.10")).await;
    let mut sibling = Source::start(&scratch, "sibling", &content(1, "192.0.2.10")).await;
    let proxy = Proxy::start(upstream.named.address()).await.unwrap();
    let sources =
        [("upstream", "upstream", proxy.address()), ("sibling", "sibling", sibling.named.address())];
    let rig = Rig::start(&scratch, &sources).await;
    rig.until_ready().await;
    proxy.set(Fault::Drop);
    sibling.change(&content(2, "192.0.2.20")).await;
    rig.until_serial(ZONE, 2, Duration::from_secs(5)).await;
    upstream.change(&content(3, "192.0.2.30")).await;
    until_source_has(&upstream, &name(ZONE), 3).await;
    proxy.set(Fault::None);
    rig.until_serial(ZONE, 3, Duration::from_secs(5)).await;
}

/// Two sources; the first one gets a fault, the change comes from the second.
async fn change_arrives_in_spite_of(label: &str, fault: Fault) {
    let scratch = Scratch::new(&format!("agent-{label}")).unwrap();
    let bad = Source::start(&scratch, "bad", &content(1, "192.0.2.10")).await;
    let mut good = Source::start(&scratch, "good", &content(1, "192.0.2.10")).await;
    let proxy = Proxy::start(bad.named.address()).await.unwrap();
    let sources = [("bad", "upstream", proxy.address()), ("good", "upstream", good.named.address())];
    let rig = Rig::start(&scratch, &sources).await;
    rig.until_ready().await;
    proxy.set(fault);
    good.change(&content(2, "192.0.2.20")).await;
    rig.until_serial(ZONE, 2, Duration::from_secs(5)).await;
    let (_, report) = rig.readyz().await.unwrap();
    assert_eq!(report["sources"]["bad"]["live"], false, "{report}");
    assert_eq!(report["ready"], true, "{report}");
    proxy.set(Fault::None);
    rig.until_report("the return of the source", Duration::from_secs(3), |_, report| {
        report["sources"]["bad"]["live"] == true
    })
    .await;
}

#[tokio::test]
async fn a_frozen_upstream_does_not_hold_up_a_change() {
    change_arrives_in_spite_of("frozen", Fault::Freeze).await;
}

#[tokio::test]
async fn an_upstream_that_drops_everything_does_not_hold_up_a_change() {
    change_arrives_in_spite_of("dropping", Fault::Drop).await;
}

#[tokio::test]
async fn a_silent_upstream_does_not_hold_up_a_change() {
    change_arrives_in_spite_of("silent", Fault::Silence).await;
}

#[tokio::test]
async fn an_upstream_that_cuts_connections_does_not_hold_up_a_change() {
    change_arrives_in_spite_of("cutting", Fault::Cut).await;
}

#[tokio::test]
async fn corrupted_answers_do_not_hold_up_a_change() {
    change_arrives_in_spite_of("corrupting", Fault::Corrupt).await;
}

#[tokio::test]
async fn the_only_source_may_drop_everything_and_changes_arrive_within_two_seconds_of_its_return() {
    let scratch = Scratch::new("agent-only-source").unwrap();
    let mut source = Source::start(&scratch, "operator", &content(1, "192.0.2.10")).await;
    let proxy = Proxy::start(source.named.address()).await.unwrap();
    let rig = Rig::start(&scratch, &[("operator", "operator", proxy.address())]).await;
    rig.until_ready().await;
    let unanswered = async || rig.metric("bindy_agent_unanswered_total").await;
    let (connections, before) = (proxy.counts().connections, unanswered().await.unwrap());
    proxy.set(Fault::Drop);
    source.change(&content(2, "192.0.2.20")).await;
    let _ = Connection::open(&rig.transfer_port(Some(own_key())), timeouts())
        .await
        .unwrap()
        .notify(&name(ZONE), Serial::new(2))
        .await;
    // The third probe, each on a connection of its own, comes after the longest pause.
    wait_for("a question of named without answer, and three probes", LIMIT, async || {
        let (opened, unanswered) = (proxy.counts().connections - connections, unanswered().await?);
        ensure!(unanswered > before && opened >= 3, "{opened} connections, {unanswered:?} unanswered");
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(www(rig.named.address(), ZONE).await.unwrap(), [192, 0, 2, 10]);
    proxy.set(Fault::None);
    rig.until_serial(ZONE, 2, Duration::from_secs(2)).await;
}

/// The address of a Service leads to one server now and to another then, even to the one that asks.
#[tokio::test]
async fn a_source_that_refuses_is_asked_over_new_connections_which_may_lead_elsewhere() {
    let scratch = Scratch::new("agent-service").unwrap();
    let empty = Source::start(&scratch, "empty", &[]).await;
    let full = Source::start(&scratch, "full", &content(1, "192.0.2.10")).await;
    let service = Proxy::start(empty.named.address()).await.unwrap();
    let rig = Rig::start(&scratch, &[("sibling", "sibling", service.address())]).await;
    wait_for("the empty server to be asked", LIMIT, async || {
        let refused = rig.metric("bindy_agent_relayed_total").await?;
        ensure!(refused.is_some() && service.counts().connections > 0, "{refused:?} answers");
        Ok(())
    })
    .await
    .unwrap();
    service.redirect(full.named.address());
    rig.until_serial(ZONE, 1, Duration::from_secs(10)).await;
}

#[tokio::test]
async fn an_upstream_that_lies_or_refuses_is_passed_over() {
    let scratch = Scratch::new("agent-lying").unwrap();
    let lying = Source::start(&scratch, "lying", &content(5, "192.0.2.5")).await;
    let refusing = Source::start(&scratch, "refusing", &content(5, "192.0.2.5")[..1]).await;
    let mut good = Source::start(&scratch, "good", &content(10, "192.0.2.10")).await;
    let mut rig = Rig::start(&scratch, &[("good", "upstream", good.named.address())]).await;
    rig.until_ready().await;
    rig.set_sources(&[
        ("lying", "upstream", lying.named.address()),
        ("refusing", "upstream", refusing.named.address()),
        ("good", "upstream", good.named.address()),
    ]);
    rig.until_report("the new sources", LIMIT, |_, report| report["sources"]["lying"]["live"] == true).await;
    good.change(&content(11, "192.0.2.11")).await;
    until_source_has(&good, &name(ZONE), 11).await;
    notify(&rig, ZONE, 11).await;
    rig.until_serial(ZONE, 11, Duration::from_secs(2)).await;
    let metrics = rig.metrics().await.unwrap();
    assert!(metrics.contains(r#"relayed_total{source="lying",outcome="stale"}"#), "{metrics}");
    assert!(metrics.contains(r#"relayed_total{source="refusing",outcome="declined"}"#), "{metrics}");
}

#[tokio::test]
async fn an_upstream_behind_the_announced_version_is_passed_over() {
    let scratch = Scratch::new("agent-behind").unwrap();
    let behind = Source::start(&scratch, "behind", &content(1, "192.0.2.10")).await;
    let mut good = Source::start(&scratch, "good", &content(1, "192.0.2.10")).await;
    let sources = [("behind", "upstream", behind.named.address()), ("good", "sibling", good.named.address())];
    let rig = Rig::start(&scratch, &sources).await;
    rig.until_ready().await;
    good.change(&content(2, "192.0.2.20")).await;
    until_source_has(&good, &name(ZONE), 2).await;
    notify(&rig, ZONE, 2).await;
    rig.until_serial(ZONE, 2, Duration::from_secs(2)).await;
    let metrics = rig.metrics().await.unwrap();
    assert!(metrics.contains(r#"relayed_total{source="behind",outcome="behind"}"#), "{metrics}");
}

#[tokio::test]
async fn a_catalog_that_only_the_operator_has_is_taken_without_a_notify_although_the_upstream_comes_first() {
    const LATE: &str = "late.example";
    let scratch = Scratch::new("agent-operator-ahead").unwrap();
    let upstream = Source::start(&scratch, "upstream", &content(1, "192.0.2.10")).await;
    let mut operator = Source::start(&scratch, "operator", &content(1, "192.0.2.10")).await;
    let sources = [
        ("upstream", "upstream", upstream.named.address()),
        ("operator", "operator", operator.named.address()),
    ];
    let rig = Rig::start(&scratch, &sources).await;
    rig.until_ready().await;
    let more = (catalog(), catalog_text(&catalog(), 2, &[ZONE, LATE]));
    operator.change(&[more, (name(LATE), zone_text(LATE, 1, "192.0.2.30"))]).await;
    rig.until_serial(LATE, 1, LIMIT).await;
}

#[tokio::test]
async fn a_key_that_appears_later_is_used_without_a_restart() {
    let scratch = Scratch::new("agent-key-later").unwrap();
    let source = Source::start(&scratch, "operator", &content(1, "192.0.2.10")).await;
    let mut rig = Rig::start(&scratch, &[]).await;
    let key_file = scratch.path().join("keys/a");
    let text = std::fs::read_to_string(&key_file).unwrap();
    // An agent that runs would keep the key that it has read.
    rig.kill_agent();
    std::fs::remove_file(&key_file).unwrap();
    rig.set_sources(&[("operator", "operator", source.named.address())]);
    rig.start_agent().await;
    rig.until_report("the agent", LIMIT, |status, report| {
        (status, &report["sources"]) == (503, &serde_json::json!({}))
    })
    .await;
    std::fs::write(&key_file, text).unwrap();
    rig.until_ready().await;
    assert_eq!(www(rig.named.address(), ZONE).await.unwrap(), [192, 0, 2, 10]);
}

#[tokio::test]
async fn readiness_waits_for_the_catalog_and_each_member() {
    let scratch = Scratch::new("agent-readiness").unwrap();
    let mut source = Source::start(&scratch, "operator", &content(1, "192.0.2.10")[..1]).await;
    let proxy = Proxy::start(source.named.address()).await.unwrap();
    proxy.set(Fault::Cut);
    let rig = Rig::start(&scratch, &[("operator", "operator", proxy.address())]).await;
    rig.until_report("named to be seen", LIMIT, |status, report| {
        status == 503 && report["waitingFor"][0] == "the catalog zone"
    })
    .await;
    // The catalog names a zone that the only source refuses: it is excused, by name.
    proxy.set(Fault::None);
    rig.until_ready().await;
    let (_, report) = rig.readyz().await.unwrap();
    assert_eq!(report["excusedZones"][0][0], format!("{ZONE}."), "{report}");
    // It still comes when a source has it.
    source.change(&content(1, "192.0.2.10")).await;
    rig.until_serial(ZONE, 1, Duration::from_secs(10)).await;
}

/// A second zone in the catalog.
const OTHER: &str = "other.example";

/// Catalog, zone and other zone; of the latter this text.
fn two_zones(other: &str) -> Vec<(Name, String)> {
    vec![
        (catalog(), catalog_text(&catalog(), 1, &[ZONE, OTHER])),
        (name(ZONE), zone_text(ZONE, 1, "192.0.2.10")),
        (name(OTHER), other.to_owned()),
    ]
}

/// Several operators are behind one address; one that has just started knows of zones that it has not got yet.
#[tokio::test]
async fn a_member_that_an_operator_knows_and_has_not_got_is_waited_for_and_asked_of_another_one() {
    let scratch = Scratch::new("agent-member-known").unwrap();
    let empty = Source::start(&scratch, "empty", &two_zones("")).await;
    let full = Source::start(&scratch, "full", &two_zones(&zone_text(OTHER, 1, "192.0.2.30"))).await;
    // What others do not know yet decides nothing.
    let sibling = Source::start(&scratch, "sibling", &two_zones("")[..2]).await;
    let service = Proxy::start(empty.named.address()).await.unwrap();
    let sources =
        [("operator", "upstream", service.address()), ("sibling", "sibling", sibling.named.address())];
    let rig = Rig::start(&scratch, &sources).await;
    rig.until_serial(ZONE, 1, Duration::from_secs(10)).await;
    let before = service.counts().connections;
    let ends = tokio::time::Instant::now() + Duration::from_secs(6);
    while tokio::time::Instant::now() < ends {
        let (status, report) = rig.readyz().await.unwrap();
        assert_eq!((status, &report["excused"]), (503, &serde_json::json!(0)), "{report}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(service.counts().connections >= before + 3, "{:?}", service.counts());
    service.redirect(full.named.address());
    rig.until_ready().await;
    assert_eq!(www(rig.named.address(), OTHER).await.unwrap(), [192, 0, 2, 30]);
}

/// The files of zones are there, and the one of `zone` is removed.
async fn lose_file(rig: &mut Rig, zone: &str) {
    let directory = rig.named.place().directory.clone();
    let file = |part: &str| {
        let mut paths = std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path());
        paths.find(|path| {
            let name = path.file_name().unwrap().to_string_lossy();
            name.contains(part) && name.ends_with(".db")
        })
    };
    wait_for("the files of all zones", LIMIT, async || {
        for part in ["catalog.db", ZONE, zone] {
            file(part).with_context(|| format!("no file of {part}"))?;
        }
        anyhow::Ok(())
    })
    .await
    .unwrap();
    rig.named.kill().await.unwrap();
    std::fs::remove_file(file(zone).unwrap()).unwrap();
}

#[tokio::test]
async fn a_member_that_no_source_has_does_not_keep_its_server_from_clients_for_ever() {
    let scratch = Scratch::new("agent-no-source").unwrap();
    let source = Source::start(&scratch, "operator", &two_zones(&zone_text(OTHER, 1, "192.0.2.30"))).await;
    let proxy = Proxy::start(source.named.address()).await.unwrap();
    let mut rig = Rig::start(&scratch, &[("operator", "operator", proxy.address())]).await;
    rig.until_ready().await;
    lose_file(&mut rig, OTHER).await;
    proxy.set(Fault::Cut);
    // The boot time that named tells has seconds.
    tokio::time::sleep(Duration::from_secs(1)).await;
    rig.named.restart().await.unwrap();
    let begun = std::time::Instant::now();
    rig.until_ready().await;
    assert!(begun.elapsed() >= PATIENCE, "ready after {:?}", begun.elapsed());
    assert_eq!(www(rig.named.address(), ZONE).await.unwrap(), [192, 0, 2, 10]);
    let (_, report) = rig.readyz().await.unwrap();
    assert_eq!(report["excusedZones"], serde_json::json!([[format!("{OTHER}."), "NoSource"]]), "{report}");
    proxy.set(Fault::None);
    rig.until_serial(OTHER, 1, Duration::from_secs(10)).await;
    rig.until_report("the excuse to be taken back", LIMIT, |status, report| {
        status == 200 && report["excused"] == 0
    })
    .await;
}

/// As of a server outside that lets everybody ask, and us not transfer.
#[tokio::test]
async fn a_member_that_is_offered_and_may_not_be_transferred_does_not_keep_its_server_from_clients() {
    let scratch = Scratch::new("agent-no-transfer").unwrap();
    let mut source =
        Source::start(&scratch, "upstream", &two_zones(&zone_text(OTHER, 1, "192.0.2.30"))).await;
    let mut rig = Rig::start(&scratch, &[("upstream", "upstream", source.named.address())]).await;
    rig.until_ready().await;
    source.allow_no_transfers();
    lose_file(&mut rig, OTHER).await;
    // The boot time that named tells has seconds.
    tokio::time::sleep(Duration::from_secs(1)).await;
    rig.named.restart().await.unwrap();
    rig.until_ready().await;
    assert_eq!(www(rig.named.address(), ZONE).await.unwrap(), [192, 0, 2, 10]);
    let (_, report) = rig.readyz().await.unwrap();
    let excused = serde_json::json!([[format!("{OTHER}."), "TransferFailed"]]);
    assert_eq!(report["excusedZones"], excused, "{report}");
}

#[tokio::test]
async fn changes_of_one_of_many_zones_that_the_first_source_refuses_are_found_at_the_next_one() {
    let scratch = Scratch::new("agent-first-refuses").unwrap();
    // So many that a source is not passed over any more when a zone has its turn again.
    let names: Vec<String> = (0..17).map(|n| format!("zone-{n}.example")).collect();
    let members: Vec<&str> = names.iter().map(String::as_str).chain([ZONE]).collect();
    let with = |serial, address| {
        let others = names.iter().map(|one| (name(one), zone_text(one, 1, "192.0.2.1")));
        let zone = (name(ZONE), zone_text(ZONE, serial, address));
        let catalog = (catalog(), catalog_text(&catalog(), 1, &members));
        [catalog].into_iter().chain(others).chain([zone]).collect::<Vec<_>>()
    };
    let all = with(1, "192.0.2.10");
    let without = Source::start(&scratch, "without", &all[..all.len() - 1]).await;
    let mut full = Source::start(&scratch, "full", &all).await;
    let sources =
        [("without", "upstream", without.named.address()), ("full", "upstream", full.named.address())];
    let rig = Rig::start(&scratch, &sources).await;
    rig.until_ready().await;
    // For so long the source is preferred that gave the zone.
    tokio::time::sleep(Duration::from_secs(5)).await;
    full.change(&with(2, "192.0.2.20")).await;
    rig.until_serial(ZONE, 2, Duration::from_secs(6)).await;
}

#[tokio::test]
async fn one_refusal_excuses_no_member() {
    let scratch = Scratch::new("agent-one-refusal").unwrap();
    let without = Source::start(&scratch, "without", &two_zones("")[..2]).await;
    let full = Source::start(&scratch, "full", &two_zones(&zone_text(OTHER, 1, "192.0.2.30"))).await;
    let service = Proxy::start(without.named.address()).await.unwrap();
    let rig = Rig::start(&scratch, &[("sibling", "sibling", service.address())]).await;
    rig.until_report("the catalog", LIMIT, |_, report| report["missing"] != 0).await;
    // Long enough for one survey, which may be the second.
    tokio::time::sleep(Duration::from_millis(1_300)).await;
    service.redirect(full.named.address());
    rig.until_ready().await;
    assert_eq!(www(rig.named.address(), OTHER).await.unwrap(), [192, 0, 2, 30], "ready without it");
}

#[tokio::test]
async fn members_that_are_refused_are_excused_however_many_they_are() {
    let scratch = Scratch::new("agent-many-refused").unwrap();
    let names: Vec<String> = (0..300).map(|n| format!("zone-{n}.example")).collect();
    let members: Vec<&str> = names.iter().map(String::as_str).collect();
    let source =
        Source::start(&scratch, "operator", &[(catalog(), catalog_text(&catalog(), 1, &members))]).await;
    let rig = Rig::start(&scratch, &[("operator", "operator", source.named.address())]).await;
    rig.until_ready().await;
    assert_eq!(rig.readyz().await.unwrap().1["excused"], names.len());
}

#[tokio::test]
async fn a_member_that_a_reachable_source_has_is_waited_for() {
    let scratch = Scratch::new("agent-member-waited").unwrap();
    let source = Source::start(&scratch, "operator", &content(1, "192.0.2.10")).await;
    let mut rig = Rig::start(&scratch, &[("operator", "operator", source.named.address())]).await;
    rig.until_ready().await;
    rig.named.kill().await.unwrap();
    rig.until_report("named missed", LIMIT, |status, _| status == 503).await;
    rig.named.restart().await.unwrap();
    rig.until_ready().await;
    assert_eq!(www(rig.named.address(), ZONE).await.unwrap(), [192, 0, 2, 10]);
}

#[tokio::test]
async fn a_wiped_named_comes_back_with_everything() {
    let scratch = Scratch::new("agent-wiped").unwrap();
    let source = Source::start(&scratch, "operator", &content(1, "192.0.2.10")).await;
    let mut rig = Rig::start(&scratch, &[("operator", "operator", source.named.address())]).await;
    rig.until_ready().await;
    rig.named.kill().await.unwrap();
    rig.named.wipe().unwrap();
    rig.named.restart().await.unwrap();
    rig.until_serial(ZONE, 1, Duration::from_secs(10)).await;
    rig.until_ready().await;
}

#[tokio::test]
async fn a_killed_agent_comes_back_known_to_its_named() {
    let scratch = Scratch::new("agent-killed").unwrap();
    let mut source = Source::start(&scratch, "operator", &content(1, "192.0.2.10")).await;
    let mut rig = Rig::start(&scratch, &[("operator", "operator", source.named.address())]).await;
    rig.until_ready().await;
    rig.kill_agent();
    source.change(&content(2, "192.0.2.20")).await;
    until_source_has(&source, &name(ZONE), 2).await;
    rig.start_agent().await;
    rig.until_ready().await;
    rig.until_serial(ZONE, 2, Duration::from_secs(5)).await;
}

#[tokio::test]
async fn unsigned_and_wrongly_signed_requests_are_refused() {
    let scratch = Scratch::new("agent-unsigned").unwrap();
    let source = Source::start(&scratch, "operator", &content(1, "192.0.2.10")).await;
    let rig = Rig::start(&scratch, &[("operator", "operator", source.named.address())]).await;
    rig.until_ready().await;
    let mut signed = Connection::open(&rig.transfer_port(Some(own_key())), timeouts()).await.unwrap();
    assert_eq!(signed.soa(&name(ZONE)).await.unwrap(), Serial::new(1));
    assert!(matches!(signed.transfer(&name(ZONE), None).await.unwrap(), Transfer::Full(_)));
    let answer = signed.query(&name("www.example.com"), Rtype::A).await.unwrap();
    assert_eq!(*answer.records[0].rdata, [192, 0, 2, 10]);

    let mut unsigned = Connection::open(&rig.transfer_port(None), timeouts()).await.unwrap();
    assert!(unsigned.soa(&name(ZONE)).await.is_err());
    let forged = bindy_wire::Key::new(own_key().name().clone(), &[1; 32]);
    let mut forged = Connection::open(&rig.transfer_port(Some(forged)), timeouts()).await.unwrap();
    assert!(forged.notify(&name(ZONE), Serial::new(99)).await.is_err());
    assert_eq!(rig.metric("bindy_agent_notifies_total").await.unwrap(), Some(0.0));
}

#[tokio::test]
async fn a_downstream_reads_its_catalog_and_its_members_only() {
    let scratch = Scratch::new("agent-downstream").unwrap();
    let downstream_catalog = name("edge.far.catalog.bindy.");
    let downstream = downstream_catalog.to_string();
    let zones = vec![
        (
            catalog(),
            catalog_text(&catalog(), 1, &[ZONE, "private.example", downstream.trim_end_matches('.')]),
        ),
        (downstream_catalog.clone(), catalog_text(&downstream_catalog, 1, &[ZONE])),
        (name(ZONE), zone_text(ZONE, 1, "192.0.2.10")),
        (name("private.example"), zone_text("private.example", 1, "192.0.2.10")),
    ];
    let source = Source::start(&scratch, "operator", &zones).await;
    let rig = Rig::start(&scratch, &[("operator", "operator", source.named.address())]).await;
    rig.until_ready().await;
    let key = own_key().derive("far", "edge").unwrap();
    let mut connection = Connection::open(&rig.transfer_port(Some(key)), timeouts()).await.unwrap();
    assert!(matches!(connection.transfer(&downstream_catalog, None).await.unwrap(), Transfer::Full(_)));
    assert!(matches!(connection.transfer(&name(ZONE), None).await.unwrap(), Transfer::Full(_)));
    for stranger in [name("private.example"), catalog(), name("unknown.example")] {
        let refused = connection.transfer(&stranger, None).await;
        assert!(matches!(refused, Err(ClientError::Refused)), "{stranger} {refused:?}");
        let refused = connection.soa(&stranger).await;
        assert!(matches!(refused, Err(ClientError::Refused)), "{stranger} {refused:?}");
    }
    let notify = connection.notify(&name(ZONE), Serial::new(9)).await;
    assert!(matches!(notify, Err(ClientError::Refused)), "{notify:?}");
}

#[tokio::test]
async fn an_upstream_reads_its_catalog_and_its_members_only() {
    let scratch = Scratch::new("agent-upstream").unwrap();
    let upstream_catalog = name("top.prod.catalog.bindy.");
    let upstream = upstream_catalog.to_string();
    let zones = vec![
        (catalog(), catalog_text(&catalog(), 1, &[ZONE, "private.example", upstream.trim_end_matches('.')])),
        (upstream_catalog.clone(), catalog_text(&upstream_catalog, 1, &[ZONE])),
        (name(ZONE), zone_text(ZONE, 1, "192.0.2.10")),
        (name("private.example"), zone_text("private.example", 1, "192.0.2.10")),
    ];
    let source = Source::start(&scratch, "operator", &zones).await;
    let mut rig = Rig::start(&scratch, &[("operator", "operator", source.named.address())]).await;
    rig.until_ready().await;
    let key = bindy_wire::Key::new(name("dns.prod.a.top.prod.key.bindy."), &[3; 32]);
    rig.add_key(&scratch.write("keys/top", &key.to_file()).unwrap());
    let endpoint = rig.transfer_port(Some(key));
    wait_for("the upstream's key to be known", LIMIT, async || {
        let mut connection = Connection::open(&endpoint, timeouts()).await?;
        ensure!(matches!(connection.transfer(&upstream_catalog, None).await?, Transfer::Full(_)), "nothing");
        Ok(())
    })
    .await
    .unwrap();
    let mut connection = Connection::open(&endpoint, timeouts()).await.unwrap();
    assert!(matches!(connection.transfer(&name(ZONE), None).await.unwrap(), Transfer::Full(_)));
    for stranger in [name("private.example"), catalog(), name("unknown.example")] {
        let refused = connection.transfer(&stranger, None).await;
        assert!(matches!(refused, Err(ClientError::Refused)), "{stranger} {refused:?}");
    }
    connection.notify(&name(ZONE), Serial::new(1)).await.unwrap();
}

#[tokio::test]
async fn a_control_channel_that_answers_nonsense_is_opened_anew() {
    let scratch = Scratch::new("agent-control").unwrap();
    let source = Source::start(&scratch, "operator", &content(1, "192.0.2.10")).await;
    let mut rig = Rig::start(&scratch, &[("operator", "operator", source.named.address())]).await;
    rig.until_ready().await;
    rig.kill_agent();
    let proxy = Proxy::start(rig.named.place().control.address()).await.unwrap();
    // Lengths, signatures, everything is wrong somewhere.
    proxy.set(Fault::Corrupt);
    rig.json["named"]["control"] = proxy.address().to_string().into();
    rig.set_sources(&[("operator", "operator", source.named.address())]);
    rig.start_agent().await;
    wait_for("attempts on the control channel", LIMIT, async || {
        ensure!(proxy.counts().connections >= 3, "{:?}", proxy.counts());
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(rig.readyz().await.unwrap().0, 503, "which process named is cannot be known");
    proxy.set(Fault::None);
    rig.until_ready().await;
}

#[tokio::test]
async fn a_server_that_is_about_to_stop_is_not_ready_while_it_still_answers() {
    let scratch = Scratch::new("agent-stopping").unwrap();
    let source = Source::start(&scratch, "operator", &content(1, "192.0.2.10")).await;
    let rig = Rig::start(&scratch, &[("operator", "operator", source.named.address())]).await;
    rig.until_ready().await;
    let mut farewell = say_farewell(&rig);
    rig.until_report("the server not to be ready", Duration::from_secs(5), |status, report| {
        status == 503 && report["waitingFor"][0] == "named to stop"
    })
    .await;
    assert!(farewell.try_wait().unwrap().is_none(), "it waits until nobody is sent there any more");
    assert_eq!(www(rig.named.address(), ZONE).await.unwrap(), [192, 0, 2, 10]);
    farewell.kill().unwrap();
    farewell.wait().unwrap();
}

/// Tells the agent that its named is about to be stopped, as the preStop hook of a pod does.
fn say_farewell(rig: &Rig) -> std::process::Child {
    let (host, port) = (format!("@{}", rig.relay.address().ip()), rig.relay.address().port().to_string());
    let question =
        [host.as_str(), "-p", &port, "+tcp", "+time=30", "+tries=1", bindy_model::STOP_QUESTION, "TXT"];
    std::process::Command::new("dig").args(question).spawn().unwrap()
}

#[tokio::test]
async fn a_server_that_alone_answers_for_its_node_stays_ready_for_a_while_when_it_is_about_to_stop() {
    let scratch = Scratch::new("agent-stopping-late").unwrap();
    let source = Source::start(&scratch, "operator", &content(1, "192.0.2.10")).await;
    let sources = [("operator", "operator", source.named.address())];
    let mut rig = Rig::start(&scratch, &sources).await;
    rig.kill_agent();
    rig.json["readyWhileStoppingSeconds"] = 3.into();
    rig.set_sources(&sources);
    rig.start_agent().await;
    rig.until_ready().await;
    let begun = std::time::Instant::now();
    let mut farewell = say_farewell(&rig);
    rig.until_report("the server not to be ready", LIMIT, |status, _| status == 503).await;
    assert!(begun.elapsed() >= Duration::from_secs(3), "{:?}", begun.elapsed());
    farewell.kill().unwrap();
    farewell.wait().unwrap();
}
