//! Three tiers in a chain: changes reach all of them, a frozen tier does not cut off those below it, and zones that are
//! lost at one end come back from the other.

mod common;

use anyhow::{Result, ensure};
use bindy_local::status::ServerStatus;
use bindy_testing::wait_for;
use bindy_zone::{Name, Rtype};
use common::faults::{self, STEADY, STEADY_ADDRESS};
use common::{LIMIT, Up, a, instance, zone};
use rustix::process::Signal;

async fn chain(test: &str, primaries: u32, secondaries: u32) -> Result<Up> {
    let mut up = Up::new(test)?;
    let instances = [
        instance("primary", "primary", primaries, &[]),
        instance("secondary", "secondary", secondaries, &["primary"]),
        instance("tertiary", "secondary", 1, &["secondary"]),
    ];
    up.write("instances.yaml", &instances.concat())?;
    // Every tier serves them.
    up.write("zones.yaml", &(zone("z", "example.com") + &zone("other", "example.net")))?;
    up.write("steady.yaml", &a("steady", "z", STEADY, STEADY_ADDRESS))?;
    up.write("www.yaml", &a("www", "z", "www", "192.0.2.1"))?;
    up.start()?;
    up.settled().await?;
    up.contents_are_equal().await?;
    Ok(up)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_arrives_at_every_tier_and_each_pulls_from_the_one_above() -> Result<()> {
    let mut up = chain("chain-change", 2, 1).await?;
    let steady = up.probe("example.com").await?;
    let servers = up.status()?.servers;
    ensure!(servers.len() == 4, "{} servers", servers.len());
    up.answers("www.example.com", Rtype::A, &["192.0.2.1"]).await?;
    for edit in 1..=10 {
        let address = format!("198.51.100.{edit}");
        up.write("www.yaml", &a("www", "z", "www", &address))?;
        faults::arrives(&servers, "www.example.com", &address, LIMIT).await?;
    }
    up.contents_are_equal().await?;
    // named of an upper tier has handed out what the lower tiers have.
    for instance in ["default/primary", "default/secondary"] {
        let mut given = 0;
        for server in up.servers_of(instance)? {
            let log = faults::log(&server, "named.log");
            given += log.lines().filter(|line| line.contains("example.com/IN': IXFR started")).count();
        }
        ensure!(given >= 10, "{instance} has given {given} of 10 changes to the tier below it");
    }
    steady.all_right(&up).await?;
    up.stop().await
}

fn all(servers: &[ServerStatus], what: Signal) -> Result<()> {
    for server in servers {
        faults::signal(server.agent_pid, what)?;
        faults::signal(server.named_pid, what)?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frozen_primaries_cut_nobody_off_and_follow_when_they_go_on() -> Result<()> {
    let mut up = chain("chain-frozen", 2, 1).await?;
    let steady = up.probe("example.com").await?;
    steady.more_answers(10).await?;
    let primaries = up.servers_of("default/primary")?;
    let mut below = up.servers_of("default/secondary")?;
    below.extend(up.servers_of("default/tertiary")?);
    steady.outage_begins(&primaries);
    all(&primaries, Signal::STOP)?;
    up.write("www.yaml", &a("www", "z", "www", "192.0.2.2"))?;
    // The secondary has the hidden primary as a later source, and the tertiary has the secondary.
    faults::arrives(&below, "www.example.com", "192.0.2.2", LIMIT).await?;
    up.write("new.yaml", &a("new", "z", "new", "192.0.2.3"))?;
    faults::arrives(&below, "new.example.com", "192.0.2.3", LIMIT).await?;
    all(&primaries, Signal::CONT)?;
    up.settled().await?;
    steady.outage_ends(&primaries);
    up.answers("new.example.com", Rtype::A, &["192.0.2.3"]).await?;
    up.contents_are_equal().await?;
    // Later changes take the way through the primaries again.
    up.write("new.yaml", &a("new", "z", "new", "192.0.2.4"))?;
    up.answers("new.example.com", Rtype::A, &["192.0.2.4"]).await?;
    up.contents_are_equal().await?;
    steady.all_right(&up).await?;
    up.stop().await
}

/// Runs named or agent of a server as the runner would, while there is no engine.
fn start_again(server: &ServerStatus) -> Result<bindy_testing::Process> {
    let mut command = std::process::Command::new("named");
    command.arg("-f").arg("-c").arg(server.directory.join("named.conf"));
    bindy_testing::Process::start("named without an engine", &command, &server.directory.join("named.log"))
}

/// Wipes servers while there is no engine, starts them again, and waits until they have everything.
async fn refill(servers: &[ServerStatus], version: &[(String, u32)]) -> Result<Vec<bindy_testing::Process>> {
    for server in servers {
        faults::signal(server.named_pid, Signal::STOP)?;
    }
    for server in servers {
        faults::wipe(server)?;
        faults::kill(server.named_pid).await?;
    }
    let mut started = Vec::new();
    for server in servers {
        let data = server.directory.join("named");
        std::fs::create_dir_all(&data)?;
        std::fs::write(data.join("incarnation"), "1")?;
        started.push(start_again(server)?);
    }
    for server in servers {
        for (zone, serial) in version {
            let what = format!("{} to have {zone} again", faults::name_of(server));
            wait_for(&what, LIMIT, async || {
                let found = faults::serials(std::slice::from_ref(server), zone).await?;
                ensure!(found.iter().all(|found| found.get() == *serial), "it has {found:?}");
                ensure!(faults::is_ready(server.http).await?, "not ready");
                anyhow::Ok(())
            })
            .await?;
        }
        let steady = Name::parse(&format!("{STEADY}.example.com"))?;
        let found = common::texts(server.dns, bindy_testing::dns::Transport::Udp, &steady, Rtype::A).await?;
        ensure!(found == [STEADY_ADDRESS], "{} says {found:?}", faults::name_of(server));
    }
    Ok(started)
}

fn versions(up: &mut Up) -> Result<Vec<(String, u32)>> {
    let zones = up.status()?.zones.into_iter();
    Ok(zones.filter_map(|zone| Some((zone.zone_name, zone.serial?))).collect())
}

/// Servers that are wiped while there is no engine, and while `frozen` ones are silent, have everything again; and no serial has
/// changed when the engine is back.
async fn come_back(mut up: Up, wiped: &[ServerStatus], frozen: &[ServerStatus]) -> Result<()> {
    let (versions, published) = (versions(&mut up)?, up.published()?);
    up.kill().await?;
    all(frozen, Signal::STOP)?;
    let mut processes = refill(wiped, &versions).await?;
    all(frozen, Signal::CONT)?;
    for process in &mut processes {
        process.kill().await?;
    }
    up.start()?;
    up.settled().await?;
    ensure!(up.published()? == published, "serials changed");
    up.contents_are_equal().await?;
    up.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_secondary_refills_from_its_primary_without_the_engine() -> Result<()> {
    let mut up = chain("chain-secondary-wiped", 1, 1).await?;
    // What is below is frozen, so only the tier above is left.
    let (wiped, below) = (up.servers_of("default/secondary")?, up.servers_of("default/tertiary")?);
    come_back(up, &wiped, &below).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_primary_refills_from_its_sibling_without_the_engine() -> Result<()> {
    let mut up = chain("chain-primary-wiped", 2, 1).await?;
    let wiped = [up.server("default/primary", 0)?];
    // What is below is frozen, so only the sibling is left.
    let mut below = up.servers_of("default/secondary")?;
    below.extend(up.servers_of("default/tertiary")?);
    come_back(up, &wiped, &below).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_primaries_wiped_without_the_engine_refill_from_below() -> Result<()> {
    let mut up = chain("chain-primaries-wiped", 2, 1).await?;
    let wiped = up.servers_of("default/primary")?;
    come_back(up, &wiped, &[]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_tiers_wiped_without_the_engine_refill_from_the_third() -> Result<()> {
    let mut up = chain("chain-two-tiers-wiped", 1, 2).await?;
    let mut wiped = up.servers_of("default/primary")?;
    wiped.extend(up.servers_of("default/secondary")?);
    come_back(up, &wiped, &[]).await
}
