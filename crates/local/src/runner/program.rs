//! A program of a server that is kept running: started again when it ends, less often when it ends at once.

use std::time::{Duration, Instant};

use tracing::warn;

use super::files;
use super::process::{Launch, Process};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A process that lived that long is started again at once.
const PROVEN: Duration = Duration::from_secs(10);

/// A program and its process.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) name: &'static str,
    pub(super) launch: Launch,
    pub(super) process: Option<Process>,
    pause: Duration,
    not_before: Instant,
    /// Why it does not run.
    pub(super) failure: Option<String>,
}

impl Program {
    /// The program with its living process of an earlier run, if there is one.
    pub(super) fn new(name: &'static str, launch: Launch) -> Self {
        let process = Process::adopt(&launch);
        let (pause, not_before) = (FIRST_PAUSE, Instant::now());
        Self { name, launch, process, pause, not_before, failure: None }
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// Takes notice of its end; true while it runs.
    pub(super) fn is_running(&mut self) -> bool {
        let Some(process) = &mut self.process else { return false };
        let Some(how) = process.ended() else { return true };
        if process.age() >= PROVEN {
            self.pause = FIRST_PAUSE;
        }
        let last = files::last_line(&self.launch.log).unwrap_or_default();
        self.fail(format!("{} ended ({how}); the last line of its log: {last}", self.name));
        self.process = None;
        false
    }

    /// Whether it is time to start it.
    pub(super) fn is_due(&self) -> bool {
        Instant::now() >= self.not_before
    }

    pub(super) fn start(&mut self) {
        match Process::start(&self.launch) {
            Ok(process) => {
                self.process = Some(process);
                self.failure = None;
            }
            Err(error) => self.fail(format!("{} cannot be started: {error}", self.name)),
        }
    }

    /// Ends it; it is started again at once if it is wanted.
    pub(super) async fn stop(&mut self, limit: Duration) {
        if let Some(process) = self.process.take() {
            process.stop(limit).await;
        }
    }

    fn fail(&mut self, why: String) {
        warn!(log = %self.launch.log.display(), pause = ?self.pause, "{why}");
        self.not_before = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        self.failure = Some(why);
    }
}
