//! One process of a server: started or adopted, told apart from strangers, stopped.
//!
//! A pid alone says nothing after the process has ended: somebody else may have it. So a process is known by its pid,
//! its start time (field 22 of `/proc/PID/stat`) and the boot it was started in; all three are in its pid file. A
//! signal is sent by a pidfd that was opened before the start time was compared, so it cannot reach a stranger.
//!
//! Processes have a group of their own and log to files: they go on when whoever started them is killed.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tracing::{info, warn};

use super::files;

/// How often a process that was told to end is looked at.
const POLL: Duration = Duration::from_millis(10);
/// How long a process may take to be gone after SIGKILL.
const KILL_LIMIT: Duration = Duration::from_secs(5);

/// Which process: pid and start time in clock ticks since boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pid: i32,
    started: u64,
}

/// What to start.
#[derive(Debug)]
pub(super) struct Launch {
    /// Program and arguments; a living process of exactly this command line is taken for it.
    pub(super) command: Vec<OsString>,
    /// Its working directory.
    pub(super) directory: PathBuf,
    /// Where its output goes.
    pub(super) log: PathBuf,
    /// Where its pid is kept.
    pub(super) pid_file: PathBuf,
}

/// A process that was alive when it was last looked at.
#[derive(Debug)]
pub(super) struct Process {
    identity: Identity,
    /// Only when this program started it: it has to be waited for.
    child: Option<Child>,
    since: Instant,
    pid_file: PathBuf,
}

impl Identity {
    /// The living process with that pid.
    fn living(pid: i32) -> Option<Self> {
        let (state, started) = stat(pid)?;
        // Z and X: ended, and only not waited for by its parent.
        (!matches!(state, 'Z' | 'X')).then_some(Self { pid, started })
    }

    fn is_alive(self) -> bool {
        Self::living(self.pid) == Some(self)
    }

    /// Sends a signal; that it has ended is no error.
    fn signal(self, signal: Signal) {
        let Some(pid) = Pid::from_raw(self.pid) else { return };
        let Ok(fd) = pidfd_open(pid, PidfdFlags::empty()) else { return };
        if self.is_alive()
            && let Err(error) = pidfd_send_signal(&fd, signal)
        {
            warn!(pid = self.pid, %error, "cannot be signalled");
        }
    }

    fn to_line(self) -> String {
        format!("{} {} {}\n", self.pid, self.started, boot())
    }

    fn from_line(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let (pid, started, of) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?, words.next()?);
        (of == boot()).then_some(Self { pid, started })
    }
}

/// State and start time of a process.
fn stat(pid: i32) -> Option<(char, u64)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in brackets, and may contain anything.
    let (_, fields) = text.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

fn boot() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    if id.trim().is_empty() { "unknown".to_owned() } else { id.trim().to_owned() }
}

/// A living process with exactly that command line, for the moment between its start and its pid file.
fn find(command: &[OsString]) -> Option<Identity> {
    let wanted: Vec<u8> = command.iter().flat_map(|word| [word.as_bytes(), b"\0"].concat()).collect();
    let entries = std::fs::read_dir("/proc").ok()?;
    let mut pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let pid =
        pids.find(|pid| std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line == wanted))?;
    Identity::living(pid)
}

impl Process {
    /// Starts it and writes its pid file.
    pub(super) fn start(launch: &Launch) -> io::Result<Self> {
        let (program, arguments) = launch.command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let log = File::options().create(true).append(true).open(&launch.log)?;
        let child = Command::new(program)
            .args(arguments)
            .current_dir(&launch.directory)
            .process_group(0)
            .stdin(Stdio::null())
            .stderr(log.try_clone()?)
            .stdout(log)
            .spawn()?;
        let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
        let started = stat(pid).map_or(0, |(_, started)| started);
        let identity = Identity { pid, started };
        files::replace(&launch.pid_file, &identity.to_line())?;
        let (since, pid_file) = (Instant::now(), launch.pid_file.clone());
        Ok(Self { identity, child: Some(child), since, pid_file })
    }

    /// The living process of an earlier run.
    pub(super) fn adopt(launch: &Launch) -> Option<Self> {
        let found = recorded(&launch.pid_file).or_else(|| find(&launch.command))?;
        if let Err(error) = files::replace(&launch.pid_file, &found.to_line()) {
            warn!(file = %launch.pid_file.display(), %error, "cannot be written");
        }
        info!(pid = found.pid, log = %launch.log.display(), "process of an earlier run adopted");
        Some(Self::of(found, &launch.pid_file))
    }

    fn of(identity: Identity, pid_file: &Path) -> Self {
        Self { identity, child: None, since: Instant::now(), pid_file: pid_file.to_owned() }
    }

    pub(super) fn pid(&self) -> u32 {
        self.identity.pid.unsigned_abs()
    }

    /// How long it has been watched.
    pub(super) fn age(&self) -> Duration {
        self.since.elapsed()
    }

    /// How it ended, if it has.
    pub(super) fn ended(&mut self) -> Option<String> {
        match &mut self.child {
            Some(child) => match child.try_wait() {
                Ok(None) => None,
                Ok(Some(status)) => Some(status.to_string()),
                Err(error) => Some(error.to_string()),
            },
            None => (!self.identity.is_alive()).then(|| "it is gone".to_owned()),
        }
    }

    pub(super) fn signal(&self, signal: Signal) {
        self.identity.signal(signal);
    }

    /// SIGTERM, and SIGKILL when it is still there after `limit`; its pid file is removed.
    pub(super) async fn stop(mut self, limit: Duration) {
        self.signal(Signal::TERM);
        if !self.gone_within(limit).await {
            warn!(pid = self.identity.pid, ?limit, "did not end after SIGTERM and is killed");
            self.signal(Signal::KILL);
            if !self.gone_within(KILL_LIMIT).await {
                warn!(pid = self.identity.pid, "did not end after SIGKILL either");
                return;
            }
        }
        // What is not there needs no removal.
        let _ = std::fs::remove_file(&self.pid_file);
    }

    async fn gone_within(&mut self, limit: Duration) -> bool {
        let start = Instant::now();
        while self.ended().is_none() {
            if start.elapsed() > limit {
                return false;
            }
            tokio::time::sleep(POLL).await;
        }
        true
    }
}

fn recorded(pid_file: &Path) -> Option<Identity> {
    let text = std::fs::read_to_string(pid_file).ok()?;
    Identity::from_line(&text).filter(|identity| identity.is_alive())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper(directory: &Path) -> Launch {
        Launch {
            command: ["sleep", "600"].map(OsString::from).to_vec(),
            directory: directory.to_owned(),
            log: directory.join("log"),
            pid_file: directory.join("pid"),
        }
    }

    #[tokio::test]
    async fn stopped_process_leaves_no_pid_file() {
        let directory = tempfile::tempdir().unwrap();
        let mut process = Process::start(&sleeper(directory.path())).unwrap();
        assert_eq!(process.ended(), None);
        let pid = process.identity.pid;
        assert_eq!(recorded(&directory.path().join("pid")), Some(process.identity));
        process.stop(Duration::from_secs(5)).await;
        assert_eq!(Identity::living(pid), None);
        assert!(!directory.path().join("pid").exists());
    }

    #[tokio::test]
    async fn process_that_ignores_sigterm_is_killed() {
        let directory = tempfile::tempdir().unwrap();
        let mut launch = sleeper(directory.path());
        let script = "trap '' TERM; echo ready; while :; do sleep 0.1; done";
        launch.command = ["sh", "-c", script].map(OsString::from).to_vec();
        let process = Process::start(&launch).unwrap();
        let start = Instant::now();
        while !std::fs::read_to_string(&launch.log).is_ok_and(|text| text.contains("ready")) {
            assert!(start.elapsed() < Duration::from_secs(10), "waited 10 s for the trap to be set");
            tokio::time::sleep(POLL).await;
        }
        let pid = process.identity.pid;
        process.stop(Duration::from_millis(50)).await;
        assert_eq!(Identity::living(pid), None);
    }

    #[test]
    fn stranger_with_the_recorded_pid_is_not_adopted() {
        let directory = tempfile::tempdir().unwrap();
        let own = Identity::living(i32::try_from(std::process::id()).unwrap()).unwrap();
        let file = directory.path().join("pid");
        std::fs::write(&file, own.to_line()).unwrap();
        assert_eq!(recorded(&file), Some(own));
        for stranger in [
            Identity { started: own.started + 1, ..own }.to_line(),
            own.to_line().replace(&boot(), "another-boot"),
            "no pid".to_owned(),
        ] {
            std::fs::write(&file, stranger).unwrap();
            assert_eq!(recorded(&file), None);
        }
    }

    #[tokio::test]
    async fn process_without_pid_file_is_found_by_its_command_line() {
        let directory = tempfile::tempdir().unwrap();
        let mut launch = sleeper(directory.path());
        launch.command = vec!["sleep".into(), "600.0625".into()];
        let process = Process::start(&launch).unwrap();
        std::fs::remove_file(&launch.pid_file).unwrap();
        // The kernel tells a command line only some time after exec has closed what tells of its success.
        let adopted = bindy_testing::wait_for("its command line", Duration::from_secs(10), async || {
            Process::adopt(&launch).ok_or("no such process")
        });
        let adopted = adopted.await.unwrap();
        assert_eq!(adopted.identity, process.identity);
        process.stop(Duration::from_secs(5)).await;
        assert!(Process::adopt(&launch).is_none());
    }
}
