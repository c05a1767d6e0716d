//! A serial that a person sets is a floor: a living zone is published again under it, and servers of every tier follow, through
//! the wrap-around too.

mod common;

use anyhow::{Context, Result, ensure};
use bindy_local::status::Status;
use bindy_testing::manifest::manifest;
use bindy_zone::{Name, Rtype, Serial};
use common::{LIMIT, Up, a, faults, instance};

/// The zone `z` with this lowest serial.
fn zone_from(serial: u32) -> String {
    manifest("DNSZone", "z", &format!("zoneName: example.com, soaRecord: {{serial: {serial}}}"))
}

/// What the only zone is published with.
fn published(status: &Status) -> Result<Serial> {
    let zone = status.zones.first().context("no zone")?;
    Ok(Serial::new(zone.serial.context("no serial")?))
}

/// Waits until the zone is published with a later serial than this one, and every server has it.
async fn later(up: &mut Up, than: Serial) -> Result<Serial> {
    up.until("a later serial", |status| {
        let found = published(status)?;
        ensure!(found.is_after(than), "it is {found}");
        Ok(())
    })
    .await?;
    is_everywhere(up).await
}

/// Waits until every server has exactly what is published.
async fn is_everywhere(up: &mut Up) -> Result<Serial> {
    up.contents_are_equal().await?;
    let status = up.settled().await?;
    ensure!(status.servers.len() == 3, "{} servers", status.servers.len());
    published(&status)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_floor_above_the_serial_of_a_living_zone_reaches_every_server() -> Result<()> {
    let mut up = Up::two_tiers("serial-floor", "").await?;
    let steady = up.probe("example.com").await?;
    let before = is_everywhere(&mut up).await?;
    // No record changes.
    let floor = Serial::new(before.get() + 1_000_000);
    up.write("zones.yaml", &zone_from(floor.get()))?;
    let found = later(&mut up, before).await?;
    ensure!(found == floor, "{found} is published instead of {floor}");
    // Serials go on from there, and a lower floor takes nothing back.
    up.write("zones.yaml", &zone_from(7))?;
    up.write("www.yaml", &a("www", "z", "www", "192.0.2.2"))?;
    later(&mut up, floor).await?;
    up.answers("www.example.com", Rtype::A, &["192.0.2.2"]).await?;
    steady.all_right(&up).await?;
    up.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zone_that_begins_shortly_before_the_wrap_around_is_followed_through_it() -> Result<()> {
    let mut up = Up::new("serial-wraps")?;
    let primary = instance("primary", "primary", 2, &[]);
    up.write("instances.yaml", &(primary + &instance("secondary", "secondary", 1, &["primary"])))?;
    up.write("zones.yaml", &zone_from(4_294_967_290))?;
    up.write("www.yaml", &a("www", "z", "www", "192.0.2.1"))?;
    up.start()?;
    let mut last = later(&mut up, Serial::new(4_294_967_289)).await?;
    let servers = up.status()?.servers;
    for edit in 1..=10 {
        let address = format!("198.51.100.{edit}");
        up.write("www.yaml", &a("www", "z", "www", &address))?;
        faults::arrives(&servers, "www.example.com", &address, LIMIT).await?;
        last = later(&mut up, last).await?;
    }
    let versions = up.versions()?;
    let versions = versions.get(&Name::parse("example.com")?).context("nothing was published")?;
    let serials: Vec<Serial> = versions.iter().map(|version| version.serial).collect();
    ensure!(serials.first() == Some(&Serial::new(4_294_967_290)), "it did not begin as asked: {serials:?}");
    ensure!(serials.iter().is_sorted_by(|one, next| next.is_after(**one)), "they do not rise: {serials:?}");
    ensure!(last.get() < 4_294_967_290, "they have not gone through the wrap-around: {serials:?}");
    up.stop().await
}
