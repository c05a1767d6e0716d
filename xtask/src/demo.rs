//! `cargo xtask demo`: the examples on real servers, from nothing to a clean end, with measured times.
//!
//! Everything lives in one temporary directory. It is removed at the end; when something goes wrong it stays, and the
//! error names it.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::process::Signal;

use crate::fleet::{Fleet, Server, send};
use crate::steps::{Steps, cargo, programs, root};
use crate::{dns, prerequisites};

/// How long anything may take that takes seconds or less.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);
const QUESTIONS: [&str; 4] =
    ["www.example.com", "blog.example.com", "anything.apps.example.com", "api.example.org"];
const NEW_ZONE: &str = "\
apiVersion: bindy.firestoned.io/v1beta1
kind: DNSZone
metadata: {name: example-net}
spec: {zoneName: example.net}
---
apiVersion: bindy.firestoned.io/v1beta1
kind: ARecord
metadata: {name: www-example-net}
spec: {zoneRef: example-net, name: www, ipv4Addresses: [192.0.2.99]}
";

/// Installs, builds, serves, changes, kills, stops.
pub(crate) fn run(steps: &mut Steps) -> Result<()> {
    prerequisites::install(steps, &prerequisites::NAMED)?;
    steps.command("build bindy", &mut cargo(&["build", "--quiet", "--package", "bindy"]))?;
    let bindy = programs("debug")?.join("bindy");
    let base = std::env::temp_dir().join(format!("bindy-demo-{}", std::process::id()));
    steps.run("demo", || {
        let kept = base.display();
        serve(&bindy, &base)
            .map_err(|error| anyhow!("{error:#}; see {kept}/up.log and the servers' logs below {kept}"))
    })
}

fn serve(bindy: &Path, base: &Path) -> Result<()> {
    let manifests = base.join("manifests");
    std::fs::create_dir_all(&manifests)?;
    for example in std::fs::read_dir(root().join("examples"))? {
        let example = example?.path();
        std::fs::copy(&example, manifests.join(example.file_name().context("an example without a name")?))?;
    }
    println!("\nbindy up {}", manifests.display());
    let begun = Instant::now();
    let mut fleet = Fleet::start(bindy, base)?;
    let servers = fleet.settled(LIMIT)?;
    println!("  {} servers have everything after {:.1} s", servers.len(), begun.elapsed().as_secs_f64());
    show_answers(&servers)?;
    show_edit(base, &servers)?;
    show_new_zone(base, &servers)?;
    fleet.settled(LIMIT)?;
    show_kill(&fleet)?;
    fleet.settled(LIMIT)?;

    println!("\nSIGTERM to bindy up");
    let begun = Instant::now();
    fleet.stop(LIMIT)?;
    std::fs::remove_dir_all(base)?;
    ensure!(!base.exists(), "{} is still there", base.display());
    println!("  ended after {:.1} s; no process and no file is left\n", begun.elapsed().as_secs_f64());
    Ok(())
}

pub(crate) fn show_answers(servers: &[Server]) -> Result<()> {
    println!("\nanswers, asked over UDP");
    for (server, name) in servers.iter().zip(QUESTIONS.iter().cycle()) {
        let answer = dns::addresses(server.dns, name).with_context(|| server.name.clone())?;
        ensure!(!answer.is_empty(), "{} has no address for {name}", server.name);
        let answer: Vec<String> = answer.iter().map(Ipv4Addr::to_string).collect();
        println!("  {:<30} {:<16} {name:<27} A  {}", server.name, server.dns.to_string(), answer.join(" "));
    }
    Ok(())
}

fn show_edit(base: &Path, servers: &[Server]) -> Result<()> {
    let (file, before, after) = ("example-com.yaml", "192.0.2.25", "192.0.2.26");
    let text = std::fs::read_to_string(base.join("manifests").join(file))?;
    ensure!(text.contains(before), "{file} does not mention {before}");
    println!("\nan edit of {file}: mail.example.com A {before} becomes {after}");
    let written = put(base, file, &text.replace(before, after))?;
    show_arrival(servers, "mail.example.com", Ipv4Addr::new(192, 0, 2, 26), written)
}

fn show_new_zone(base: &Path, servers: &[Server]) -> Result<()> {
    println!("\na new file with a new zone: www.example.net A 192.0.2.99");
    let written = put(base, "example-net.yaml", NEW_ZONE)?;
    show_arrival(servers, "www.example.net", Ipv4Addr::new(192, 0, 2, 99), written)
}

/// Puts a manifest in place as editors do, in one moment, which is returned.
fn put(base: &Path, file: &str, text: &str) -> Result<Instant> {
    let next = base.join("next");
    std::fs::write(&next, text)?;
    let written = Instant::now();
    std::fs::rename(next, base.join("manifests").join(file))?;
    Ok(written)
}

/// Asks all servers in turn, without a pause, until each has given this answer.
pub(crate) fn show_arrival(
    servers: &[Server],
    name: &str,
    expected: Ipv4Addr,
    written: Instant,
) -> Result<()> {
    let mut arrived: Vec<Option<Duration>> = vec![None; servers.len()];
    while arrived.iter().any(Option::is_none) {
        for (server, arrived) in servers.iter().zip(&mut arrived).filter(|(_, arrived)| arrived.is_none()) {
            match dns::addresses(server.dns, name) {
                Ok(found) if found == [expected] => *arrived = Some(written.elapsed()),
                found if written.elapsed() > LIMIT => {
                    bail!("{} does not answer {expected} for {name} but {found:?}", server.name)
                }
                _ => {}
            }
        }
    }
    for (server, arrived) in servers.iter().zip(arrived) {
        let milliseconds = arrived.unwrap_or_default().as_secs_f64() * 1e3;
        println!(
            "  {:<30} {:<16} answers {expected} after {milliseconds:>6.1} ms",
            server.name,
            server.dns.to_string()
        );
    }
    Ok(())
}

/// Kills the first server's named and asks the others until it is ready again.
fn show_kill(fleet: &Fleet) -> Result<()> {
    let servers = fleet.servers()?;
    let (victim, others) = servers.split_first().context("no servers")?;
    let pid = victim.named_pid.context("its named does not run")?;
    let (name, expected) = ("mail.example.com", [Ipv4Addr::new(192, 0, 2, 26)]);
    println!("\nkill -9 {pid} (named of {})", victim.name);
    let begun = Instant::now();
    send(pid, Signal::KILL)?;
    let mut asked = 0_u32;
    let mut answering = None;
    loop {
        for server in others {
            let found = dns::addresses(server.dns, name);
            let found = found.with_context(|| format!("{} while {} is down", server.name, victim.name))?;
            ensure!(found == expected, "{} answers {found:?} while {} is down", server.name, victim.name);
            asked += 1;
        }
        let now = fleet.servers()?;
        let now = now.iter().find(|server| server.name == victim.name).context("the server is gone")?;
        let is_new = now.named_pid.is_some_and(|now| now != pid);
        if is_new && answering.is_none() && dns::addresses(now.dns, name).is_ok_and(|found| found == expected)
        {
            answering = Some(begun.elapsed());
        }
        if let Some(answering) = answering
            && now.ready
        {
            let milliseconds = answering.as_secs_f64() * 1e3;
            println!("  the other {} answered all {asked} questions meanwhile", others.len());
            println!("  {} answers again after {milliseconds:.0} ms", victim.name);
            return Ok(());
        }
        ensure!(begun.elapsed() < LIMIT, "{} has not come back after {} s", victim.name, LIMIT.as_secs());
    }
}
