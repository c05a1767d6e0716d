//! One process of the cluster, made to outlive whoever starts it.
//!
//! It is started by a script of its own, `STATE/run/PROCESS`, which joins the cgroup, writes down its process ID and
//! start time, enters the network namespace and becomes the program. A test that stopped the process starts it again
//! by that script. A process is known by ID *and* start time, and signals go through a pidfd that was taken before
//! the start time was compared: an ID that was given to somebody else is never hit.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::cluster::cgroups;
use crate::cluster::layout::{Layout, Node};
use crate::cluster::wait::{Hopeless, Wait};

const START: Duration = Duration::from_secs(30);
const STOP: Duration = Duration::from_secs(10);
/// The same for everybody: what depends on the caller would make another caller's `up` start all processes anew.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The files of a process, which are known by its name.
pub(crate) struct Files {
    /// Starts it.
    pub(crate) script: PathBuf,
    /// Its ID and when it was started.
    pub(crate) pid: PathBuf,
    pub(crate) log: PathBuf,
}

impl Files {
    pub(crate) fn of(layout: &Layout, name: &str) -> Self {
        let run = layout.directory().join("run");
        let log = layout.directory().join("log").join(format!("{name}.log"));
        Self { script: run.join(name), pid: run.join(format!("{name}.pid")), log }
    }

    pub(crate) fn is_running(&self) -> bool {
        self.identity().is_ok_and(Identity::is_alive)
    }

    fn identity(&self) -> Result<Identity> {
        let text = fs::read_to_string(&self.pid).with_context(|| self.pid.display().to_string())?;
        Identity::parse(&text).with_context(|| format!("{} says {text:?}", self.pid.display()))
    }
}

/// What is started, and where.
pub(crate) struct Process {
    name: String,
    files: Files,
    text: String,
}

/// A running process: its ID and when it was started, in ticks since boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    pid: i32,
    started: u64,
}

/// Whether a process was there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Running,
    Started,
}

/// How a process is started.
pub(crate) struct Start<'a> {
    pub(crate) name: &'a str,
    /// In whose network and cgroup; in the host's network without one.
    pub(crate) node: Option<&'a Node>,
    pub(crate) arguments: Vec<String>,
    /// What the program reads at its start only: when one of these files changes, it is started anew.
    pub(crate) files: &'a [PathBuf],
}

impl Process {
    pub(crate) fn new(layout: &Layout, start: &Start<'_>) -> Result<Self> {
        let Start { name, node, arguments, files } = start;
        let own = Files::of(layout, name);
        let place = node.map_or("control", |node| &node.name);
        let cgroups = cgroups::of_daemons(&layout.name, place)?;
        let cgroups: Vec<_> = cgroups.iter().map(|cgroup| cgroup.display().to_string()).collect();
        let enter = node.map(|node| format!("nsenter --net={} ", node.netns().display()));
        let text = format!(
            "#!/bin/sh\n\
             # Starts {name} of cluster {cluster}: exec it with setsid, output to log/{name}.log.\n\
             # What it reads at its start: {digest:016x}\n\
             set -eu\n\
             cd /\n\
             export PATH={PATH}\n\
             for cgroup in {cgroups}; do\n\
             mkdir -p \"$cgroup\"\n\
             echo $$ > \"$cgroup/cgroup.procs\"\n\
             done\n\
             read -r stat < /proc/$$/stat\n\
             set -- ${{stat##*) }}\n\
             echo \"$$ ${{20}}\" > {pid_file}\n\
             exec {enter}{command}\n",
            cluster = layout.name,
            digest = digest(files)?,
            cgroups = cgroups.join(" "),
            pid_file = own.pid.display(),
            enter = enter.unwrap_or_default(),
            command = arguments.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "),
        );
        Ok(Self { name: (*name).to_owned(), files: own, text })
    }

    /// Starts it, unless it runs as it should.
    pub(crate) fn ensure(&self) -> Result<Found> {
        let is_as_before = fs::read_to_string(&self.files.script).is_ok_and(|before| before == self.text);
        if is_as_before && self.files.is_running() {
            return Ok(Found::Running);
        }
        self.stop()?;
        fs::write(&self.files.script, &self.text).with_context(|| self.files.script.display().to_string())?;
        fs::set_permissions(&self.files.script, PermissionsExt::from_mode(0o755))?;
        self.start()?;
        Ok(Found::Started)
    }

    fn start(&self) -> Result<()> {
        let log = File::options().create(true).append(true).open(&self.files.log);
        let log = log.with_context(|| self.files.log.display().to_string())?;
        let mut command = Command::new("setsid");
        command.arg("--fork").arg(&self.files.script).stdin(Stdio::null());
        let status = command.stdout(log.try_clone()?).stderr(log).status().context("cannot start setsid")?;
        ensure!(status.success(), "setsid of {} ended with {status}", self.name);
        self.wait("to start", START).until(|| self.files.identity().map(drop))
    }

    /// Waits for a sign of life, no longer than the process lives.
    pub(crate) fn until<T>(
        &self,
        what: &str,
        limit: Duration,
        mut ask: impl FnMut() -> Result<T>,
    ) -> Result<T> {
        self.wait(what, limit).until(|| {
            let answer = ask();
            if answer.is_err() && !self.files.is_running() {
                return Err(Hopeless::because(format!("{} has ended", self.name)));
            }
            answer
        })
    }

    fn wait<'a>(&'a self, what: &'a str, limit: Duration) -> Wait<'a> {
        Wait { what, limit, log: Some(&self.files.log) }
    }

    /// Asks it to end, then makes it.
    fn stop(&self) -> Result<()> {
        if let Ok(identity) = self.files.identity() {
            identity.send(Signal::TERM);
            let gone = || if identity.is_alive() { Err(anyhow!("it runs")) } else { Ok(()) };
            if self.wait("its end", STOP).until(gone).is_err() {
                identity.send(Signal::KILL);
                self.wait("its end after SIGKILL", STOP).until(gone)?;
            }
            fs::remove_file(&self.files.pid)?;
        }
        Ok(())
    }
}

impl Identity {
    fn parse(text: &str) -> Option<Self> {
        let (pid, started) = text.trim_end().split_once(' ')?;
        Some(Self { pid: pid.parse().ok()?, started: started.parse().ok()? })
    }

    fn is_alive(self) -> bool {
        fs::read_to_string(format!("/proc/{}/stat", self.pid))
            .is_ok_and(|stat| living_since(&stat) == Some(self.started))
    }

    fn send(self, signal: Signal) {
        kill_if(self.pid, signal, || self.is_alive());
    }
}

/// Kills the processes that were written down in `run`, for those that never came into their cgroup.
pub(crate) fn kill_recorded(run: &Path) {
    let files = fs::read_dir(run).into_iter().flatten().flatten();
    let texts = files.filter_map(|file| fs::read_to_string(file.path()).ok());
    texts.filter_map(|text| Identity::parse(&text)).for_each(|identity| identity.send(Signal::KILL));
}

/// Sends a signal to a process if it is still ours once it is held. One that is gone is no error.
pub(crate) fn kill_if(pid: i32, signal: Signal, is_ours: impl FnOnce() -> bool) {
    if let Some(pid) = Pid::from_raw(pid)
        && let Ok(held) = pidfd_open(pid, PidfdFlags::empty())
        && is_ours()
    {
        let _ = pidfd_send_signal(&held, signal);
    }
}

/// The start time in a line of /proc/PID/stat (proc(5)), of a process that is no zombie.
fn living_since(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = fields.split(' ').collect();
    let state = fields.first()?;
    if matches!(*state, "Z" | "X") { None } else { fields.get(19)?.parse().ok() }
}

fn digest(files: &[PathBuf]) -> Result<u64> {
    let mut hasher = DefaultHasher::new();
    for file in files {
        fs::read(file).with_context(|| file.display().to_string())?.hash(&mut hasher);
    }
    Ok(hasher.finish())
}

/// As the shell reads it back.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_time_is_read_past_names_with_spaces_and_brackets() {
        let rest = "1 1 1 0 -1 4194560 100 0 0 0 1 2 0 0 20 0 1 0 8888 1000 200";
        assert_eq!(living_since(&format!("42 (a) b) S {rest}")), Some(8888));
        assert_eq!(living_since(&format!("42 (sh) Z {rest}")), None);
    }

    #[test]
    fn a_reused_process_id_is_not_taken_for_ours() {
        let own = i32::try_from(std::process::id()).unwrap();
        let stat = fs::read_to_string("/proc/self/stat").unwrap();
        let started = living_since(&stat).unwrap();
        assert!(Identity { pid: own, started }.is_alive());
        let other = Identity { pid: own, started: started + 1 };
        assert!(!other.is_alive());
        // Would end this test.
        other.send(Signal::KILL);
    }

    #[test]
    fn words_survive_the_shell() {
        let word = "it's $HOME \"x\" \\";
        let output = Command::new("sh").args(["-c", &format!("printf %s {}", quoted(word))]).output();
        assert_eq!(String::from_utf8(output.unwrap().stdout).unwrap(), word);
    }
}
