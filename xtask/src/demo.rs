//! `cargo xtask demo`: `bindy up` on a copy of `examples/`, with real answers of every server.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bindy_testing::bindy::{ServerStatus, Status, executable, is_alive};
use bindy_testing::dns::{AnswerRecord, Transport, ask};
use bindy_testing::{Bindy, Scratch, wait_for};
use bindy_zone::{Name, Rdata, Rtype};
use rustix::process::Signal;

use crate::prerequisites;
use crate::steps::{Steps, root};

/// How long any of its waits may take.
const LIMIT: Duration = Duration::from_secs(60);
const FILE: &str = "example-com.yaml";
const NAME: &str = "www.example.com";
const BEFORE: &str = "198.51.100.10";
const AFTER: &str = "198.51.100.99";

/// Runs all of it.
pub(crate) fn run(steps: &mut Steps) -> Result<()> {
    prerequisites::install(steps, &prerequisites::SERVERS)?;
    steps.run("build bindy", executable)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    steps.run("demo", || runtime.block_on(show()))
}

async fn show() -> Result<()> {
    let scratch = Scratch::new("demo")?;
    copy_examples(&scratch)?;
    let begun = Instant::now();
    let mut bindy = Bindy::start(&scratch).await?;
    let status = settled(&mut bindy).await?;
    println!(
        "\nbindy up examples/: {} servers ready with {} zones after {} ms",
        status.servers.len(),
        status.zones.len(),
        millis(begun)
    );
    for zone in &status.zones {
        let serial = zone.serial.map_or_else(|| "none".to_owned(), |serial| serial.to_string());
        println!(
            "  {:<24} serial {serial}, {} records, {} servers",
            zone.zone_name, zone.records, zone.servers.in_sync
        );
    }
    print_answers(&status).await?;

    println!("\nAn edit: {BEFORE} becomes {AFTER} in {FILE}");
    let text = std::fs::read_to_string(bindy.manifests().join(FILE))?;
    ensure!(text.contains(BEFORE), "{FILE} has no {BEFORE} to edit");
    let edited = Instant::now();
    bindy.write(FILE, &text.replace(BEFORE, AFTER))?;
    for server in &status.servers {
        wait_for(&format!("{AFTER} on {}", server.name()), LIMIT, async || has(server, AFTER).await).await?;
    }
    println!("every server answers it {} ms after the file was written", millis(edited));
    print_answers(&status).await?;

    heal(&mut bindy).await?;
    stop(bindy).await
}

async fn heal(bindy: &mut Bindy) -> Result<()> {
    let status = settled(bindy).await?;
    let victim = status.servers.first().context("there is no server")?;
    println!("\nnamed of {} is killed", victim.name());
    let killed = Instant::now();
    victim.signal_named(Signal::KILL)?;
    for other in status.servers.iter().skip(1) {
        has(other, AFTER).await.with_context(|| format!("{} while another is down", other.name()))?;
    }
    println!("the other {} answer", status.servers.len() - 1);
    let restarted = |now: &Status| {
        let again = now.servers.iter().find(|server| server.name() == victim.name());
        let again = again.context("the server is gone")?;
        ensure!(again.ready && again.named_pid != victim.named_pid, "{again:?}");
        Ok(())
    };
    let now = bindy.wait_until("the killed server to be ready again", LIMIT, restarted).await?;
    let healed = now.servers.first().context("there is no server")?;
    wait_for("its right answer", LIMIT, async || has(healed, AFTER).await).await?;
    println!("it answers again after {} ms", millis(killed));
    Ok(())
}

async fn stop(mut bindy: Bindy) -> Result<()> {
    let status = bindy.status()?;
    let begun = Instant::now();
    let ended = bindy.terminate().await?;
    ensure!(ended.success(), "bindy up ended with {ended}");
    let pids = status.servers.iter().flat_map(|server| [server.named_pid, server.agent_pid]);
    let left: Vec<u32> = pids.flatten().filter(|pid| is_alive(*pid)).collect();
    ensure!(left.is_empty(), "processes {left:?} were left behind");
    println!("\nstopped in {} ms, no process left behind\n", millis(begun));
    Ok(())
}

fn copy_examples(scratch: &Scratch) -> Result<()> {
    let to = scratch.directory("manifests")?;
    for entry in std::fs::read_dir(root().join("examples"))? {
        let entry = entry?;
        if entry.path().extension().is_some_and(|extension| extension == "yaml") {
            std::fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// Waits until every server and zone that there is has settled.
async fn settled(bindy: &mut Bindy) -> Result<Status> {
    bindy
        .wait_until("every server ready and every zone in sync", LIMIT, |status| {
            ensure!(status.listed && !status.servers.is_empty() && !status.zones.is_empty(), "nothing yet");
            let unready = status.servers.iter().find(|server| !server.ready);
            ensure!(unready.is_none(), "not ready: {unready:?}");
            let behind = status.zones.iter().find(|zone| !zone.is_in_sync());
            ensure!(behind.is_none(), "not in sync: {behind:?}");
            Ok(())
        })
        .await
}

async fn print_answers(status: &Status) -> Result<()> {
    for server in &status.servers {
        let name = Name::parse(NAME)?;
        let answer = ask(server.dns, Transport::Udp, &name, Rtype::A).await?;
        let addresses: Vec<String> = answer.records.iter().map(show_data).collect();
        println!("  {:<28} {:<22} {NAME} A {}", server.name(), server.dns.to_string(), addresses.join(" "));
    }
    Ok(())
}

async fn has(server: &ServerStatus, address: &str) -> Result<()> {
    let name = Name::parse(NAME)?;
    let answer = ask(server.dns, Transport::Udp, &name, Rtype::A).await?;
    let found = answer.records.iter().any(|record| show_data(record) == address);
    ensure!(found, "it answers {}", answer.outcome(&name));
    Ok(())
}

fn show_data(record: &AnswerRecord) -> String {
    Rdata::from_canonical(&record.rdata).display(record.rtype).to_string()
}

fn millis(since: Instant) -> u128 {
    since.elapsed().as_millis()
}
