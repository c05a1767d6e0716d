//! One process that may outlive us: started, adopted, watched and stopped by pid and start time.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

/// A log over this size is begun anew when its process is started.
const LOG_LIMIT: u64 = 16 << 20;

/// How long a process may take to end after SIGTERM.
const TERM_LIMIT: Duration = Duration::from_secs(10);

/// A process of a server.
pub(crate) struct Process {
    pid: Pid,
    /// From /proc; tells a process from a later one with the same pid.
    started: u64,
    /// Set when it is our own child, which has to be waited for.
    child: Option<Child>,
    file: PathBuf,
}

impl Process {
    /// Starts a command in a process group of its own; what it prints goes to `log`, its identity to `file`.
    pub(crate) fn start(program: &Path, arguments: &[OsString], log: &Path, file: &Path) -> io::Result<Self> {
        let large = std::fs::metadata(log).is_ok_and(|log| log.len() > LOG_LIMIT);
        let output = File::options().create(true).append(!large).write(true).truncate(large).open(log)?;
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stderr(output.try_clone()?)
            .stdout(output)
            .process_group(0)
            .spawn()?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidData)?;
        let started = start_time(pid).ok_or(io::ErrorKind::NotFound)?;
        std::fs::write(file, format!("{} {started}\n", child.id()))?;
        Ok(Self { pid, started, child: Some(child), file: file.to_owned() })
    }

    /// The process that an earlier run noted in `file`, if it still runs.
    pub(crate) fn adopt(file: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(file).ok()?;
        let (pid, started) = text.trim().split_once(' ')?;
        let pid = pid.parse().ok().and_then(Pid::from_raw)?;
        let started = started.parse().ok()?;
        (start_time(pid) == Some(started)).then(|| Self { pid, started, child: None, file: file.to_owned() })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Whether it still runs; an ended child is reaped.
    pub(crate) fn is_alive(&mut self) -> bool {
        match &mut self.child {
            Some(child) => matches!(child.try_wait(), Ok(None)),
            None => start_time(self.pid) == Some(self.started),
        }
    }

    /// SIGTERM, then SIGKILL if that is not enough; its file is removed.
    pub(crate) async fn stop(mut self) {
        for signal in [Signal::TERM, Signal::KILL] {
            if !self.is_alive() {
                break;
            }
            // It may end between the check and the signal.
            let _ended = kill_process(self.pid, signal);
            let deadline = Instant::now() + TERM_LIMIT;
            while self.is_alive() && Instant::now() < deadline {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        // Without its process the file names nobody.
        let _gone = std::fs::remove_file(&self.file);
    }
}

/// When a process was started, in clock ticks since boot (proc_pid_stat(5), field 22); `None` when it has ended.
fn start_time(pid: Pid) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    // The second field is the command in parentheses and may contain anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}
