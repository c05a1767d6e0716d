//! A child process that never outlives the test: killed when dropped, and by the kernel when the test dies.
//!
//! `setpriv --pdeathsig KILL` gives it the parent-death signal. That signal comes with the end of the *thread* that
//! started the process, so start processes on the test's own thread, not in `spawn_blocking`.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::os::unix::process::CommandExt;

use crate::wait_for;

/// How long a process may take to be gone after SIGKILL.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// A running (or ended) child process in a process group of its own.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    pid: Pid,
    log: PathBuf,
}

impl Process {
    /// Starts `command`; what it prints goes to the end of the file `log`.
    pub fn start(name: &str, command: &Command, log: &Path) -> Result<Self> {
        let open = || File::options().create(true).append(true).open(log);
        let output = open().with_context(|| format!("cannot open {}", log.display()))?;
        let mut guarded = Command::new("setpriv");
        guarded.args(["--pdeathsig", "KILL", "--"]).arg(command.get_program()).args(command.get_args());
        for (variable, value) in command.get_envs() {
            match value {
                Some(value) => guarded.env(variable, value),
                None => guarded.env_remove(variable),
            };
        }
        if let Some(directory) = command.get_current_dir() {
            guarded.current_dir(directory);
        }
        guarded.process_group(0).stdin(Stdio::null()).stderr(output.try_clone()?).stdout(output);
        let child =
            guarded.spawn().with_context(|| format!("cannot start {name} by setpriv (util-linux)"))?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("a pid out of range")?;
        Ok(Self { name: name.to_owned(), child, pid, log: log.to_path_buf() })
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The file that it prints to.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Fails, with the end of its log, when it is no longer running.
    pub fn check_running(&mut self) -> Result<()> {
        match self.ended()? {
            None => Ok(()),
            Some(status) => {
                bail!("{} ended ({status}); its log ends with\n{}", self.name, self.last_lines(15))
            }
        }
    }

    /// SIGKILL, and the wait until it is gone.
    pub async fn kill(&mut self) -> Result<()> {
        self.signal(Signal::KILL)?;
        self.wait(KILL_LIMIT).await.map(drop)
    }

    /// SIGTERM, and the wait until it has ended by itself.
    pub async fn terminate(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.wait(limit).await
    }

    /// SIGSTOP, and the wait until every thread has stopped: they do so one after the other, and one that has not
    /// yet may still answer. It keeps its sockets and does nothing.
    pub async fn freeze(&mut self) -> Result<()> {
        self.signal(Signal::STOP)?;
        let tasks = PathBuf::from(format!("/proc/{}/task", self.pid()));
        let what = format!("{} (pid {}) to stop", self.name, self.pid());
        wait_for(&what, KILL_LIMIT, async || {
            for task in std::fs::read_dir(&tasks)? {
                let status = std::fs::read_to_string(task?.path().join("status"))?;
                ensure!(status.contains("State:\tT"), "a thread still runs");
            }
            Ok(())
        })
        .await
    }

    /// SIGCONT.
    pub fn thaw(&mut self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// Sends a signal to it alone; an ended process is no error.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if self.ended()?.is_none() {
            kill_process(self.pid, signal).with_context(|| format!("cannot signal {}", self.name))?;
        }
        Ok(())
    }

    /// Waits until it has ended.
    pub async fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let what = format!("the end of {} (pid {})", self.name, self.pid());
        wait_for(&what, limit, async || {
            self.child.try_wait()?.ok_or_else(|| anyhow!("it is still running; log {}", self.log.display()))
        })
        .await
    }

    /// The last lines that it printed.
    pub fn last_lines(&self, count: usize) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines.iter().skip(lines.len().saturating_sub(count)).copied().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // While the child has not been waited for, its pid and group cannot belong to anybody else.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = kill_process_group(self.pid, Signal::KILL);
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Scratch;

    fn sleeper(scratch: &Scratch) -> Process {
        let mut command = Command::new("sleep");
        command.arg("600");
        Process::start("sleeper", &command, &scratch.path().join("log")).unwrap()
    }

    fn exists(pid: u32) -> bool {
        Path::new(&format!("/proc/{pid}")).exists()
    }

    #[tokio::test]
    async fn dropped_process_is_gone() {
        let scratch = Scratch::new("process-dropped").unwrap();
        let process = sleeper(&scratch);
        let pid = process.pid();
        assert!(exists(pid));
        drop(process);
        assert!(!exists(pid));
    }

    #[tokio::test]
    async fn end_is_noticed_and_explained() {
        let scratch = Scratch::new("process-ended").unwrap();
        let mut process = sleeper(&scratch);
        process.check_running().unwrap();
        process.freeze().await.unwrap();
        process.thaw().unwrap();
        process.terminate(Duration::from_secs(5)).await.unwrap();
        assert!(process.check_running().unwrap_err().to_string().contains("sleeper ended"));
        process.kill().await.unwrap();
    }

    #[test]
    fn process_dies_with_the_thread_that_started_it() {
        let scratch = Scratch::new("process-orphan").unwrap();
        let log = scratch.path().join("log");
        let pid = std::thread::spawn(move || {
            let mut command = Command::new("sleep");
            command.arg("600");
            // Leaked on purpose: no drop kills it, only the kernel can.
            let process = Box::leak(Box::new(Process::start("orphan", &command, &log).unwrap()));
            while !std::fs::read_to_string(format!("/proc/{}/comm", process.pid())).unwrap().contains("sleep")
            {
                std::thread::yield_now();
            }
            process.pid()
        });
        let pid = pid.join().unwrap();
        let dead = |pid| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            status.is_empty() || status.contains("State:\tZ")
        };
        let start = std::time::Instant::now();
        while !dead(pid) {
            assert!(start.elapsed() < Duration::from_secs(10), "pid {pid} outlives its thread");
            std::thread::yield_now();
        }
    }
}
