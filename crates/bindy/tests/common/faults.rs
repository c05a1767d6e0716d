//! What is done to running servers, and how their answers are judged meanwhile.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bindy_local::status::{ServerStatus, Status};
use bindy_testing::dns::{self, Transport};
use bindy_testing::history::Outcome;
pub use bindy_testing::http::get;
use bindy_testing::{ProbeTarget, Prober, ProberConfig, Question, wait_for};
use bindy_zone::{Name, Rtype, Serial};
use rustix::process::{Pid, Signal, kill_process};
use tokio::task::JoinHandle;

use super::{LIMIT, Up, texts};

/// The record that no test ever changes, relative to its zone.
pub const STEADY: &str = "steady";
/// Its address.
pub const STEADY_ADDRESS: &str = "192.0.2.250";

/// A server, and the processes of its named and its agent.
pub type Pids = (String, Option<u32>, Option<u32>);

/// A zone's key, serial and digest.
pub type Published = (String, Option<u32>, Option<String>);

/// The pids that the runner has noted for its servers.
pub fn noted_pids(state: &Path) -> Vec<u32> {
    let servers = std::fs::read_dir(state.join("servers")).into_iter().flatten().flatten();
    let files = servers.flat_map(|server| ["named.pid", "agent.pid"].map(|file| server.path().join(file)));
    let texts = files.filter_map(|file| std::fs::read_to_string(file).ok());
    texts.filter_map(|text| text.split_whitespace().next()?.parse().ok()).collect()
}

/// `instance/index`, as histories call a server.
pub fn name_of(server: &ServerStatus) -> String {
    format!("{}/{}", server.instance, server.index)
}

/// Sends a signal to a process of a server.
pub fn signal(pid: Option<u32>, signal: Signal) -> Result<()> {
    let pid = pid.context("the process does not run")?;
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("a pid out of range")?;
    kill_process(pid, signal).with_context(|| format!("cannot signal {pid:?}"))
}

/// Whether the process has ended; a zombie has.
pub fn has_ended(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.is_empty() || status.contains("State:\tZ")
}

/// SIGKILL, and the wait for the end.
pub async fn kill(pid: Option<u32>) -> Result<()> {
    signal(pid, Signal::KILL)?;
    let pid = pid.context("the process does not run")?;
    wait_for("a killed process to end", LIMIT, async || {
        ensure!(has_ended(pid), "it still runs");
        anyhow::Ok(())
    })
    .await
}

/// Removes named's data and kills named. It is stopped first, so that nothing writes or starts again in between.
pub async fn wipe_and_kill_named(server: &ServerStatus) -> Result<()> {
    signal(server.named_pid, Signal::STOP)?;
    wipe(server)?;
    kill(server.named_pid).await
}

/// Removes named's data.
pub fn wipe(server: &ServerStatus) -> Result<()> {
    let data = server.directory.join("named");
    ensure!(data.join("incarnation").is_file(), "{} is not the data of a named", data.display());
    Ok(std::fs::remove_dir_all(&data)?)
}

/// What named and agent of a server have logged.
pub fn log(server: &ServerStatus, file: &str) -> String {
    let text = std::fs::read(server.directory.join(file)).unwrap_or_default();
    String::from_utf8_lossy(&text).into_owned()
}

/// Transfers that named has begun, of whatever zone.
pub fn transfers(server: &ServerStatus) -> usize {
    log(server, "named.log").lines().filter(|line| line.contains("Transfer started")).count()
}

impl Up {
    /// Processes of all servers, by server.
    pub fn pids(&mut self) -> Result<Vec<Pids>> {
        let servers = self.status()?.servers;
        Ok(servers.iter().map(|server| (name_of(server), server.named_pid, server.agent_pid)).collect())
    }

    /// Serial and digest of every zone.
    pub fn published(&mut self) -> Result<Vec<Published>> {
        let zones = self.status()?.zones;
        Ok(zones.into_iter().map(|zone| (zone.key, zone.serial, zone.digest)).collect())
    }

    /// One server, as it is now.
    pub fn server(&mut self, instance: &str, index: u32) -> Result<ServerStatus> {
        let status = self.status()?;
        status.server(instance, index).cloned().with_context(|| format!("no {instance}/{index}"))
    }

    /// The servers of an instance, as they are now.
    pub fn servers_of(&mut self, instance: &str) -> Result<Vec<ServerStatus>> {
        let servers = self.status()?.servers;
        Ok(servers.into_iter().filter(|server| server.instance == instance).collect())
    }

    /// Starts asking every server for the steady record of a zone, for `www`, which tests change, and for the SOA.
    pub async fn probe(&mut self, zone: &str) -> Result<Steady> {
        let servers = self.status()?.servers;
        let targets = servers.iter().map(|s| ProbeTarget { name: name_of(s), address: s.dns }).collect();
        let steady = Name::parse(&format!("{STEADY}.{zone}"))?;
        let questions = vec![
            Question { name: steady, rtype: Rtype::A },
            Question { name: Name::parse(&format!("www.{zone}"))?, rtype: Rtype::A },
            Question { name: Name::parse(zone)?, rtype: Rtype::SOA },
        ];
        let names = servers.iter().map(name_of).collect();
        Ok(Steady { prober: Prober::start(ProberConfig::new(targets, questions)).await?, names })
    }

    /// Waits until this server runs as other processes than before and is ready again.
    pub async fn healed(&mut self, before: &ServerStatus) -> Result<ServerStatus> {
        let what = format!("{} to be ready again", name_of(before));
        self.until(&what, |status| {
            let now = status.server(&before.instance, before.index).context("it is gone")?;
            ensure!(
                now.named_pid != before.named_pid || now.agent_pid != before.agent_pid,
                "the same processes"
            );
            ensure!(now.named_pid.is_some() && now.agent_pid.is_some(), "a process does not run");
            ensure!(now.ready, "not ready: {:?}", now.message);
            Ok(now.clone())
        })
        .await
    }
}

/// A prober of the steady record.
pub struct Steady {
    prober: Prober,
    names: Vec<String>,
}

impl Steady {
    /// The servers with these names are about to be stopped.
    pub fn outage_begins(&self, servers: &[ServerStatus]) {
        servers.iter().for_each(|server| self.prober.outage_begins(&name_of(server)));
    }

    /// They are ready again.
    pub fn outage_ends(&self, servers: &[ServerStatus]) {
        servers.iter().for_each(|server| self.prober.outage_ends(&name_of(server)));
    }

    /// Waits until every server has given that many more answers.
    pub async fn more_answers(&self, count: usize) -> Result<()> {
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        self.prober.more_answers(&names, count, LIMIT).await
    }

    /// Stops asking, and has the checker read every answer against the versions that were published.
    pub async fn all_right(self, up: &Up) -> Result<()> {
        let history = self.prober.stop().await?;
        for name in &self.names {
            let mut own = history.observations.iter().filter(|observation| *observation.server == **name);
            ensure!(own.any(|observation| *observation.outcome != Outcome::Lost), "{name} never answered");
        }
        up.verify(&history)
    }
}

/// Whether the agent calls its server ready.
pub async fn is_ready(http: SocketAddr) -> Result<bool> {
    Ok(get(http, "/readyz").await?.starts_with("HTTP/1.1 200 "))
}

/// Asks a server for the steady record whenever its agent calls it ready; whatever it says then has to be right.
pub struct ReadyMeansRight {
    task: JoinHandle<Result<()>>,
    asked: Arc<AtomicUsize>,
}

impl ReadyMeansRight {
    /// Starts watching one server.
    pub fn watch(server: &ServerStatus, zone: &str) -> Result<Self> {
        let question = Name::parse(&format!("{STEADY}.{zone}"))?;
        let (dns, http, name) = (server.dns, server.http, name_of(server));
        // A named that ended between the two was ready for what it had, and the next one is for what it has by then.
        let pid = server.directory.join("named.pid");
        let process = move || std::fs::read_to_string(&pid).ok();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        let task = tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(2)).await;
                let before = process();
                if !is_ready(http).await.unwrap_or(false) {
                    continue;
                }
                // No answer at all is an outage, and seen by others.
                let Ok(answer) = texts(dns, Transport::Udp, &question, Rtype::A).await else { continue };
                count.fetch_add(1, Ordering::Relaxed);
                if answer != [STEADY_ADDRESS] && process() == before && is_ready(http).await.unwrap_or(false)
                {
                    bail!("{name} is ready and answers {answer:?}");
                }
            }
        });
        Ok(Self { task, asked })
    }

    /// Stops watching, after so many more answers while ready.
    pub async fn right(self) -> Result<()> {
        let before = self.asked.load(Ordering::Relaxed);
        let result = wait_for("answers of a ready server", LIMIT, async || {
            ensure!(
                self.task.is_finished() || self.asked.load(Ordering::Relaxed) > before + 5,
                "too few yet"
            );
            anyhow::Ok(())
        })
        .await;
        if self.task.is_finished() {
            return self.task.await?;
        }
        self.task.abort();
        result
    }
}

/// Waits until these servers answer an A question with this address.
pub async fn arrives(servers: &[ServerStatus], name: &str, address: &str, limit: Duration) -> Result<()> {
    let question = Name::parse(name)?;
    for server in servers {
        let what = format!("{name} to be {address} on {}", name_of(server));
        wait_for(&what, limit, async || {
            let found = texts(server.dns, Transport::Udp, &question, Rtype::A).await?;
            ensure!(found == [address], "it is {found:?}");
            anyhow::Ok(())
        })
        .await?;
    }
    Ok(())
}

/// The serial of a zone on each of these servers.
pub async fn serials(servers: &[ServerStatus], zone: &str) -> Result<Vec<Serial>> {
    let zone = Name::parse(zone)?;
    let mut found = Vec::new();
    for server in servers {
        found.push(dns::serial(server.dns, Transport::Udp, &zone).await?);
    }
    Ok(found)
}

/// `status.json`, whoever wrote it.
pub fn last_status(state: &Path) -> Result<Status> {
    Ok(Status::read(state)?)
}

impl Up {
    /// As [`Up::answers`], for an engine that may just be starting.
    pub async fn answers_when_started(&mut self, name: &str, address: &str) -> Result<()> {
        self.settled().await?;
        self.answers(name, Rtype::A, &[address]).await
    }
}
