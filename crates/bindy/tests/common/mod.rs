//! `bindy up` on a directory of manifests, as a test drives it.

#![allow(unreachable_pub, dead_code, reason = "each test uses a part of this")]

pub mod faults;
pub mod versions;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bindy_local::status::{ServerStatus, Status, ZoneStatus};
use bindy_testing::dns;
pub use bindy_testing::dns::texts;
pub use bindy_testing::manifest::{a, instance, zone};
use bindy_testing::{Process, Scratch, wait_for};
use bindy_wire::Key;
use bindy_zone::{Name, Rtype, Version};

/// How long anything may take that takes milliseconds on a machine that is not busy.
pub const LIMIT: Duration = Duration::from_secs(30);

/// A directory of manifests that is served.
pub struct Up {
    process: Option<Process>,
    starts: u32,
    passed: bool,
    /// Dropped last: the processes above write into it.
    scratch: Scratch,
}

impl Up {
    /// Makes an empty directory of manifests; nothing runs yet.
    pub fn new(test: &str) -> Result<Self> {
        let scratch = Scratch::new(test)?;
        scratch.directory("manifests")?;
        Ok(Self { process: None, starts: 0, passed: false, scratch })
    }

    /// Two primaries and a secondary below them with the zone `z` of example.com and `more` manifests, served and settled.
    /// The zone has the steady record, and `www` with 192.0.2.1.
    pub async fn two_tiers(test: &str, more: &str) -> Result<Self> {
        let mut up = Self::new(test)?;
        let primary = instance("primary", "primary", 2, &[]);
        let secondary = instance("secondary", "secondary", 1, &["primary"]);
        up.write("instances.yaml", &(primary + &secondary))?;
        up.write("zones.yaml", &(zone("z", "example.com") + more))?;
        up.write("steady.yaml", &a("steady", "z", faults::STEADY, faults::STEADY_ADDRESS))?;
        up.write("www.yaml", &a("www", "z", "www", "192.0.2.1"))?;
        up.start()?;
        up.settled().await?;
        up.contents_are_equal().await?;
        Ok(up)
    }

    /// Starts `bindy up`, again after it was stopped or killed. It logs every version that it publishes.
    pub fn start(&mut self) -> Result<()> {
        self.start_logging("info,bindy_engine=debug,bindy_local=debug,bindy_engine::versions=trace")
    }

    /// As [`Up::start`], with these levels of its log and that of the agents.
    pub fn start_logging(&mut self, levels: &str) -> Result<()> {
        self.starts += 1;
        let mut command = Command::new(env!("CARGO_BIN_EXE_bindy"));
        command.arg("up").arg(self.manifests()).arg("--state").arg(self.state());
        command.env("BINDY_LOG", levels);
        let log = self.scratch.path().join(format!("up-{}.log", self.starts));
        self.process = Some(Process::start("bindy up", &command, &log)?);
        Ok(())
    }

    /// The directory of manifests.
    pub fn manifests(&self) -> PathBuf {
        self.scratch.path().join("manifests")
    }

    /// The state directory.
    pub fn state(&self) -> PathBuf {
        self.scratch.path().join("state")
    }

    /// Writes a manifest as editors do: beside, then renamed into place.
    pub fn write(&self, file: &str, text: &str) -> Result<()> {
        let temporary = self.scratch.write("next", text)?;
        std::fs::rename(temporary, self.manifests().join(file))?;
        Ok(())
    }

    /// Removes a manifest.
    pub fn remove(&self, file: &str) -> Result<()> {
        Ok(std::fs::remove_file(self.manifests().join(file))?)
    }

    /// Kills `bindy up` without warning; its servers stay.
    pub async fn kill(&mut self) -> Result<()> {
        self.process.as_mut().context("bindy up does not run")?.kill().await?;
        self.process = None;
        Ok(())
    }

    /// Stops `bindy up` and with it all servers.
    pub async fn stop(&mut self) -> Result<()> {
        let mut process = self.process.take().context("bindy up does not run")?;
        let status = process.terminate(LIMIT).await?;
        ensure!(status.success(), "bindy up ended with {status}: {}", process.last_lines(20));
        self.passed = true;
        Ok(())
    }

    /// `status.json` of the process that runs now.
    pub fn status(&mut self) -> Result<Status> {
        let status = Status::read(&self.state()).context("no status.json yet")?;
        let process = self.process.as_mut().context("bindy up does not run")?;
        process.check_running()?;
        ensure!(status.pid == process.pid(), "status.json is of an earlier run");
        Ok(status)
    }

    /// Waits until the status is as `check` wants it.
    pub async fn until<T>(&mut self, what: &str, mut check: impl FnMut(&Status) -> Result<T>) -> Result<T> {
        wait_for(what, LIMIT, async || check(&self.status()?)).await
    }

    /// Waits until everything that is wanted is served everywhere.
    pub async fn settled(&mut self) -> Result<Status> {
        self.until("everything to be served everywhere", |status| {
            ensure!(status.listed && !status.servers.is_empty(), "no servers yet");
            for server in &status.servers {
                ensure!(
                    server.ready,
                    "{}/{} is not ready: {:?}",
                    server.instance,
                    server.index,
                    server.message
                );
                let lacks = server.missing;
                ensure!(lacks == Some(0), "{}/{} lacks {lacks:?}", server.instance, server.index);
            }
            for zone in &status.zones {
                let ready = condition(zone, "Ready")?;
                ensure!(ready.0 == "True", "{}: Ready={} {}", zone.key, ready.0, ready.1);
            }
            Ok(status.clone())
        })
        .await
    }

    /// Waits until every server answers this with exactly these texts, by UDP and TCP.
    pub async fn answers(&mut self, name: &str, rtype: Rtype, expected: &[&str]) -> Result<()> {
        for server in self.status()?.servers {
            let answered = dns::answers_at(server.dns, name, rtype, expected, LIMIT).await;
            answered.with_context(|| format!("{}/{}", server.instance, server.index))?;
        }
        Ok(())
    }

    /// Every server of a zone has exactly the published version: compared by digest over a transfer of everything.
    /// `status.json` follows a few milliseconds after the servers, so this may need a second look.
    pub async fn contents_are_equal(&mut self) -> Result<()> {
        wait_for("every server to have exactly the published versions", LIMIT, async || {
            let status = self.settled().await?;
            for zone in &status.zones {
                for server in &status.servers {
                    let found = self.content_is(server, zone).await;
                    found.with_context(|| format!("{}/{}", server.instance, server.index))?;
                }
            }
            anyhow::Ok(())
        })
        .await
    }

    pub async fn content_is(&self, server: &ServerStatus, zone: &ZoneStatus) -> Result<()> {
        let version = self.transfer(server, &Name::parse(&zone.zone_name)?).await?;
        ensure!(
            Some(version.serial.get()) == zone.serial,
            "{} has serial {}",
            zone.zone_name,
            version.serial
        );
        let digest = version.content.digest().to_string();
        ensure!(
            Some(&digest) == zone.digest.as_ref(),
            "{} has other content under its serial",
            zone.zone_name
        );
        Ok(())
    }

    /// A whole zone, from a server.
    pub async fn transfer(&self, server: &ServerStatus, zone: &Name) -> Result<Version> {
        dns::transfer(server.transfer, zone, Some(&testing(&self.key(server)?))).await
    }

    /// The key of a server's instance.
    pub fn key(&self, server: &ServerStatus) -> Result<Key> {
        let keys = server.directory.join("keys");
        for entry in std::fs::read_dir(&keys).with_context(|| keys.display().to_string())? {
            for line in std::fs::read_to_string(entry?.path())?.lines() {
                let key: Key = line.parse()?;
                let (namespace, name) = server.instance.split_once('/').context("an instance's key")?;
                if key.name().to_string() == format!("a.{name}.{namespace}.key.bindy.") {
                    return Ok(key);
                }
            }
        }
        bail!("no key of {} in {}", server.instance, keys.display())
    }
}

/// The same key for the library of tests, which shares no code with what it checks.
pub fn testing(key: &Key) -> bindy_testing::Key {
    bindy_testing::Key::new(key.name(), key.secret())
}

/// Servers outlive a killed engine; the test must not leave them behind.
impl Drop for Up {
    fn drop(&mut self) {
        self.process = None;
        if !self.passed {
            self.scratch.keep();
        }
        // What the runner notes itself; status.json may not have the last start yet.
        for pid in faults::noted_pids(&self.state()) {
            let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            if contains(&command, self.scratch.path())
                && let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw)
            {
                let _gone = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
    }
}

fn contains(command: &[u8], path: &Path) -> bool {
    let path = path.as_os_str().as_encoded_bytes();
    command.windows(path.len()).any(|part| part == path)
}

/// Status and message of a zone's condition.
pub fn condition(zone: &ZoneStatus, kind: &str) -> Result<(String, String)> {
    let found = zone.conditions.iter().find(|condition| condition.kind == kind);
    let found = found.with_context(|| format!("{} has no condition {kind}", zone.key))?;
    Ok((found.status.clone(), found.message.clone()))
}
