//! `bindy up` as a child process: its `status.json`, its end, and the proof that nothing of it is left.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::steps::search_path;

const LOOK: Duration = Duration::from_millis(10);

/// One named of the fleet.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) name: String,
    pub(crate) dns: SocketAddr,
    pub(crate) named_pid: Option<u32>,
    pub(crate) ready: bool,
}

/// A directory of manifests that is being served; stopped when dropped.
pub(crate) struct Fleet {
    child: Child,
    /// Every process of the fleet has this path among its arguments.
    base: PathBuf,
}

impl Fleet {
    /// Serves `base`/manifests; everything it says goes to `base`/up.log.
    pub(crate) fn start(bindy: &Path, base: &Path) -> Result<Self> {
        let log = File::create(base.join("up.log"))?;
        let mut command = Command::new(bindy);
        command.arg("up").arg(base.join("manifests")).env("PATH", search_path()).stdin(Stdio::null());
        let child = command.stdout(log.try_clone()?).stderr(log).spawn();
        let child = child.with_context(|| format!("cannot start {}", bindy.display()))?;
        Ok(Self { child, base: base.to_owned() })
    }

    /// Waits until every zone is served by every server.
    pub(crate) fn settled(&mut self, limit: Duration) -> Result<Vec<Server>> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("bindy up ended with {status}");
            }
            let status = self.status();
            match status.as_ref().map(|status| (is_settled(status), status)) {
                Ok((true, status)) => return servers(status),
                Ok(_) | Err(_) if begun.elapsed() < limit => std::thread::sleep(LOOK),
                Ok((_, status)) => {
                    bail!("not everything is served after {} s{}", limit.as_secs(), first_message(status));
                }
                Err(error) => bail!("no status after {} s: {error:#}", limit.as_secs()),
            }
        }
    }

    /// The servers as `status.json` has them now.
    pub(crate) fn servers(&self) -> Result<Vec<Server>> {
        servers(&self.status()?)
    }

    fn status(&self) -> Result<Value> {
        let file = self.base.join("manifests/.bindy/status.json");
        let text = std::fs::read(&file).with_context(|| file.display().to_string())?;
        Ok(serde_json::from_slice(&text)?)
    }

    /// Asks it to end and waits for that; an error when it ends badly or leaves a process behind.
    pub(crate) fn stop(mut self, limit: Duration) -> Result<()> {
        send(self.child.id(), Signal::TERM)?;
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            ensure!(begun.elapsed() < limit, "bindy up has not ended {} s after SIGTERM", limit.as_secs());
            std::thread::sleep(LOOK);
        };
        ensure!(status.success(), "bindy up ended with {status}");
        let left = processes_of(&self.base)?;
        ensure!(left.is_empty(), "processes are left behind: {left:?}");
        Ok(())
    }
}

/// After a failure nothing may stay behind either; the servers die with SIGKILL if `bindy up` does not stop them.
impl Drop for Fleet {
    fn drop(&mut self) {
        let begun = Instant::now();
        if matches!(self.child.try_wait(), Ok(None)) {
            let _gone = send(self.child.id(), Signal::TERM);
        }
        while matches!(self.child.try_wait(), Ok(None)) && begun.elapsed() < Duration::from_secs(15) {
            std::thread::sleep(LOOK);
        }
        for pid in processes_of(&self.base).unwrap_or_default() {
            let _gone = send(pid, Signal::KILL);
        }
        let _reaped = self.child.wait();
    }
}

/// Sends a signal.
pub(crate) fn send(pid: u32, signal: Signal) -> Result<()> {
    let known = i32::try_from(pid).ok().and_then(Pid::from_raw);
    Ok(kill_process(known.with_context(|| format!("{pid} is no process"))?, signal)?)
}

fn is_settled(status: &Value) -> bool {
    let all = |list: &str, check: &dyn Fn(&Value) -> bool| {
        status
            .get(list)
            .and_then(Value::as_array)
            .is_some_and(|list| !list.is_empty() && list.iter().all(check))
    };
    status.get("listed") == Some(&Value::Bool(true))
        && all("servers", &|server| server.get("ready") == Some(&Value::Bool(true)))
        && all("instances", &|instance| instance.get("ready") == instance.get("replicas"))
        && all("zones", &|zone| {
            zone.get("serial").is_some_and(Value::is_u64)
                && zone.pointer("/servers/desired") == zone.pointer("/servers/inSync")
        })
}

/// Why a server is not ready, where one says so.
fn first_message(status: &Value) -> String {
    let servers = status.get("servers").and_then(Value::as_array);
    let message = servers.into_iter().flatten().find_map(|server| server.get("message")?.as_str());
    message.map_or_else(String::new, |message| format!(": {message}"))
}

fn servers(status: &Value) -> Result<Vec<Server>> {
    let servers = status.get("servers").and_then(Value::as_array).context("status.json has no servers")?;
    servers.iter().map(server).collect()
}

fn server(server: &Value) -> Result<Server> {
    let text = |field: &str| server.get(field).and_then(Value::as_str).with_context(|| format!("no {field}"));
    let index = server.get("index").and_then(Value::as_u64).context("no index")?;
    let instance = text("instance")?;
    Ok(Server {
        name: format!("{}-{index}", instance.rsplit('/').next().unwrap_or(instance)),
        dns: text("dns")?.parse()?,
        named_pid: server.get("namedPid").and_then(Value::as_u64).and_then(|pid| u32::try_from(pid).ok()),
        ready: server.get("ready") == Some(&Value::Bool(true)),
    })
}

/// The processes that have `path` among their arguments.
fn processes_of(path: &Path) -> Result<Vec<u32>> {
    let path = path.as_os_str().as_encoded_bytes();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // A process that has just ended has no arguments.
        let arguments = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if arguments.windows(path.len()).any(|part| part == path) {
            found.push(pid);
        }
    }
    Ok(found)
}
