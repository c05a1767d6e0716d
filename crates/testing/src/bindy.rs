//! `bindy up` on a directory of manifests, as a process of its own.
//!
//! What it serves where comes from the `status.json` in its state directory; see `bindy-local`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;

use crate::{ProbeTarget, Process, Scratch, wait_for};

/// How long everything may take to stop after SIGTERM.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// A running (or killed) `bindy up`.
#[derive(Debug)]
pub struct Bindy {
    manifests: PathBuf,
    state: PathBuf,
    log: PathBuf,
    process: Option<Process>,
}

/// The parts of `status.json` that tests read.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "described where the file is written")]
pub struct Status {
    pub pid: u32,
    pub listed: bool,
    pub servers: Vec<ServerStatus>,
    pub zones: Vec<ZoneStatus>,
    pub problems: Vec<serde_json::Value>,
}

/// One server: a named and its agent.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "described where the file is written")]
pub struct ServerStatus {
    pub instance: String,
    pub index: u32,
    pub dns: SocketAddr,
    pub transfer: SocketAddr,
    pub http: SocketAddr,
    #[serde(default)]
    pub named_pid: Option<u32>,
    #[serde(default)]
    pub agent_pid: Option<u32>,
    pub ready: bool,
    #[serde(default)]
    pub message: Option<String>,
    pub directory: PathBuf,
}

/// One zone.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "described where the file is written")]
pub struct ZoneStatus {
    pub zone_name: String,
    pub serial: Option<u32>,
    pub digest: Option<String>,
    pub records: usize,
    pub servers: InSync,
}

/// How many servers have a zone's published version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "described where the file is written")]
pub struct InSync {
    pub desired: usize,
    pub in_sync: usize,
}

impl Bindy {
    /// Starts it on the directory `manifests` of `scratch`; the state is kept beside it.
    pub async fn start(scratch: &Scratch) -> Result<Self> {
        let (manifests, state) = (scratch.directory("manifests")?, scratch.path().join("state"));
        let mut bindy = Self { manifests, state, log: scratch.path().join("bindy.log"), process: None };
        bindy.restart().await?;
        Ok(bindy)
    }

    /// Starts it, again if it has been stopped, on the same directories.
    pub async fn restart(&mut self) -> Result<()> {
        self.kill().await?;
        let mut command = Command::new(executable()?);
        command.arg("up").arg(&self.manifests).arg("--state").arg(&self.state);
        let mut process = Process::start("bindy up", &command, &self.log)?;
        let pid = process.pid();
        wait_for("status.json of this process", STOP_LIMIT, async || {
            process.check_running()?;
            let status = self.status()?;
            ensure!(status.pid == pid, "it is still that of pid {}", status.pid);
            Ok(())
        })
        .await?;
        self.process = Some(process);
        Ok(())
    }

    /// The directory of manifests.
    pub fn manifests(&self) -> &Path {
        &self.manifests
    }

    /// The state directory.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// Replaces a manifest as a whole, as an editor does.
    pub fn write(&self, file: &str, text: &str) -> Result<()> {
        let written = self.manifests.join(format!(".{file}.new"));
        std::fs::write(&written, text)?;
        std::fs::rename(written, self.manifests.join(file)).context("cannot replace the manifest")
    }

    /// Removes a manifest.
    pub fn remove(&self, file: &str) -> Result<()> {
        std::fs::remove_file(self.manifests.join(file)).with_context(|| format!("cannot remove {file}"))
    }

    /// What it says now.
    pub fn status(&self) -> Result<Status> {
        let text = std::fs::read(self.state.join("status.json")).context("no status.json yet")?;
        Ok(serde_json::from_slice(&text)?)
    }

    /// Waits until `holds` finds nothing missing in the status.
    pub async fn wait_until(
        &mut self,
        what: &str,
        limit: Duration,
        holds: impl Fn(&Status) -> Result<()>,
    ) -> Result<Status> {
        wait_for(what, limit, async || {
            self.process()?.check_running()?;
            let status = self.status()?;
            holds(&status).map(|()| status)
        })
        .await
    }

    /// Waits until `servers` servers are ready and every zone is in sync on all that should serve it.
    pub async fn wait_ready(&mut self, servers: usize, limit: Duration) -> Result<Status> {
        let what = format!("{servers} ready servers with every zone");
        self.wait_until(&what, limit, |status| {
            ensure!(status.listed, "the manifests have not been read");
            ensure!(status.servers.len() == servers, "there are {} servers", status.servers.len());
            let unready = status.servers.iter().find(|server| !server.ready);
            ensure!(unready.is_none(), "not ready: {unready:?}");
            let behind = status.zones.iter().find(|zone| !zone.is_in_sync());
            ensure!(behind.is_none(), "not in sync: {behind:?}");
            Ok(())
        })
        .await
    }

    /// Its process, while it runs.
    pub fn process(&mut self) -> Result<&mut Process> {
        self.process.as_mut().context("bindy up is not running")
    }

    /// SIGKILL; nothing when it is not running.
    pub async fn kill(&mut self) -> Result<()> {
        match self.process.take() {
            Some(mut process) => process.kill().await,
            None => Ok(()),
        }
    }

    /// SIGTERM, and the wait until it has ended by itself.
    pub async fn terminate(&mut self) -> Result<ExitStatus> {
        let mut process = self.process.take().context("bindy up is not running")?;
        process.terminate(STOP_LIMIT).await
    }
}

impl ZoneStatus {
    /// Whether every server that should serve the published version does, and there is one.
    pub fn is_in_sync(&self) -> bool {
        self.serial.is_some() && self.servers.desired > 0 && self.servers.in_sync == self.servers.desired
    }
}

impl ServerStatus {
    /// `namespace/name#index`.
    pub fn name(&self) -> String {
        format!("{}#{}", self.instance, self.index)
    }

    /// This server for a prober.
    pub fn target(&self) -> ProbeTarget {
        ProbeTarget { name: self.name(), address: self.dns }
    }

    /// Sends a signal to its named, after a look that the pid still is one.
    pub fn signal_named(&self, signal: Signal) -> Result<()> {
        signal_program(self.named_pid, "named", signal).with_context(|| self.name())
    }

    /// Sends a signal to its agent, after a look that the pid still is one.
    pub fn signal_agent(&self, signal: Signal) -> Result<()> {
        signal_program(self.agent_pid, "bindy", signal).with_context(|| self.name())
    }
}

/// Whether a process of that pid exists and is no zombie.
pub fn is_alive(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    !status.is_empty() && !status.contains("State:\tZ")
}

fn signal_program(pid: Option<u32>, program: &str, signal: Signal) -> Result<()> {
    let pid = pid.with_context(|| format!("no {program} runs"))?;
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm"))?;
    ensure!(name.trim() == program, "pid {pid} is {} and not {program}", name.trim());
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("a pid out of range")?;
    Ok(kill_process(pid, signal)?)
}

/// The `bindy` of the same build as this program, brought up to date once: cargo does so by itself only for tests of
/// the package that has the binary.
pub fn executable() -> Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    BUILT
        .get_or_init(|| build().map_err(|error| format!("{error:#}")))
        .clone()
        .map_err(|error| anyhow!(error))
}

fn build() -> Result<PathBuf> {
    let this = std::env::current_exe()?;
    let profile = this.ancestors().skip(1).find(|path| !path.ends_with("deps"));
    let profile = profile.context("this program is in no directory")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--workspace", "--bins"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    if profile.ends_with("release") {
        command.arg("--release");
    }
    command.stdin(std::process::Stdio::null());
    let output = command.output().context("cannot start cargo")?;
    if !output.status.success() {
        bail!("bindy cannot be built:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    let executable = profile.join("bindy");
    ensure!(executable.is_file(), "{} was not built", executable.display());
    Ok(executable)
}
