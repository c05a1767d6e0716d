//! The engine dies at any moment, while its servers go on; when it is back, nothing changes that nobody changed, and
//! everything arrives that somebody did.

mod common;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bindy_testing::dns;
use bindy_zone::{Name, Rtype};
use common::{Up, a, faults, testing, zone};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

async fn two_tiers(test: &str) -> Result<Up> {
    Up::two_tiers(test, &zone("other", "example.net")).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restart_changes_no_serial_no_process_and_transfers_nothing() -> Result<()> {
    let mut up = two_tiers("engine-restart").await?;
    let steady = up.probe("example.com").await?;
    steady.more_answers(20).await?;
    for _round in 0..2 {
        let status = up.settled().await?;
        let (published, pids, hidden) = (up.published()?, up.pids()?, status.hidden_primary);
        let transfers: Vec<usize> = status.servers.iter().map(faults::transfers).collect();
        ensure!(transfers.iter().all(|count| *count >= 3), "transfers are not found in the logs");
        up.kill().await?;
        steady.more_answers(50).await?;
        up.start()?;
        let status = up.settled().await?;
        // Time enough for what a restart might set off: agents look at everything within five seconds.
        steady.more_answers(300).await?;
        ensure!(up.published()? == published, "serial or digest changed: {:?}", up.published()?);
        ensure!(up.pids()? == pids, "processes changed: {:?}, were {pids:?}", up.pids()?);
        ensure!(status.hidden_primary == hidden, "the hidden primary moved");
        let after: Vec<usize> = status.servers.iter().map(faults::transfers).collect();
        ensure!(after == transfers, "transfers: {after:?}, were {transfers:?}");
    }
    steady.all_right(&up).await?;
    up.contents_are_equal().await?;
    up.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_made_while_the_engine_was_dead_arrive_after_its_restart() -> Result<()> {
    let mut up = two_tiers("engine-dead-changes").await?;
    let steady = up.probe("example.com").await?;
    // The zone's serial is ahead of the clock, so that it cannot be had from there.
    for edit in 10..40 {
        up.write("www.yaml", &a("www", "z", "www", &format!("192.0.2.{edit}")))?;
        up.answers("www.example.com", Rtype::A, &[&format!("192.0.2.{edit}")]).await?;
    }
    let before = up.settled().await?;
    up.kill().await?;
    up.write("www.yaml", &a("www", "z", "www", "192.0.2.2"))?;
    up.write("new.yaml", &a("new", "z", "new", "192.0.2.3"))?;
    steady.more_answers(20).await?;
    up.start()?;
    up.settled().await?;
    up.answers("www.example.com", Rtype::A, &["192.0.2.2"]).await?;
    up.answers("new.example.com", Rtype::A, &["192.0.2.3"]).await?;
    up.contents_are_equal().await?;
    let after = up.status()?;
    let serial = |status: &bindy_local::status::Status, key: &str| status.zone(key).and_then(|z| z.serial);
    ensure!(serial(&after, "default/z") > serial(&before, "default/z"), "the serial has not risen");
    let versions = up.versions()?;
    let started = versions.get(&Name::parse("example.com")?).context("no versions")?;
    let reused = started.windows(2).any(|pair| !pair[1].serial.is_after(pair[0].serial));
    ensure!(!reused, "a serial was published that does not come after the one before it");
    ensure!(serial(&before, "default/other").is_some(), "the other zone has no serial");
    ensure!(
        serial(&after, "default/other") == serial(&before, "default/other"),
        "another zone's serial changed"
    );
    steady.all_right(&up).await?;
    up.stop().await
}

/// What every server was seen to hold: digest by zone and serial, over all servers and restarts.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<HashMap<u32, String>>>);

impl Seen {
    async fn look(&self, up: &Up, server: &bindy_local::status::ServerStatus) -> Result<()> {
        let (key, zone) = (testing(&up.key(server)?), Name::parse("example.com")?);
        let Ok(version) = dns::transfer(server.transfer, &zone, Some(&key)).await else { return Ok(()) };
        let digest = version.content.digest().to_string();
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let first = seen.entry(version.serial.get()).or_insert_with(|| digest.clone());
        ensure!(*first == digest, "serial {} names two contents", version.serial);
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_between_any_two_writes_it_comes_back_without_reusing_a_serial() -> Result<()> {
    const EDITS: u64 = 50;
    let mut random = StdRng::seed_from_u64(bindy_testing::seed());
    let mut up = two_tiers("engine-killed-in-burst").await?;
    let servers = up.status()?.servers;
    let steady = up.probe("example.com").await?;
    let seen = Seen::default();
    let (mut kills, mut edits) = (0, 0);
    let mut next_kill = random.random_range(0..8);
    while edits < EDITS {
        if next_kill == 0 {
            // Anywhere between the event of a file and the last status write of what came before.
            tokio::time::sleep(Duration::from_micros(random.random_range(0..60_000))).await;
            up.kill().await?;
            kills += 1;
            up.start()?;
            // The next kill may hit it while it starts, or later.
            if random.random_ratio(1, 2) {
                up.settled().await?;
            }
            next_kill = random.random_range(1..=8);
        }
        next_kill -= 1;
        edits += 1;
        let file = random.random_range(0..10);
        let address = format!("198.51.100.{edits}");
        up.write(&format!("burst-{file}.yaml"), &a(&format!("b{file}"), "z", &format!("b{file}"), &address))?;
        tokio::time::sleep(Duration::from_micros(random.random_range(0..30_000))).await;
        for server in &servers {
            seen.look(&up, server).await?;
        }
    }
    ensure!(kills >= 5, "only {kills} kills");
    up.write("last.yaml", &a("last", "z", "last", "192.0.2.77"))?;
    up.answers_when_started("last.example.com", "192.0.2.77").await?;
    up.contents_are_equal().await?;
    for server in &servers {
        seen.look(&up, server).await?;
    }
    ensure!(seen.0.lock().unwrap().len() > 10, "too few versions were seen");
    steady.all_right(&up).await?;
    up.stop().await
}
