//! One local server: a loop that compares what is wanted with what is there, and acts.
//!
//! ```text
//!   directory ─► ports ─► files ─► agent ─► its local key ─► named ─► readiness
//!       ▲                                                        │
//!       └── every 100 ms until ready, then every 250 ms ─────────┘
//! ```
//! Every round starts at the beginning, so whatever has been lost meanwhile (a process, a file, the whole directory)
//! is made again in its place.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tracing::{error, info, warn};

use super::config::{self, Files};
use super::files::{self, Layout};
use super::fleet::{End, Shared};
use super::ports::{Ports, is_free, loopback};
use super::process::Launch;
use super::program::Program;
use super::{RunnerError, RunningServer, WantedServer, readiness};

/// How long a process may take to end by itself.
pub(super) const STOP_LIMIT: Duration = Duration::from_secs(10);
/// How long an agent may take to write its key.
const KEY_LIMIT: Duration = Duration::from_secs(15);
const STARTING: Duration = Duration::from_millis(100);
const RUNNING: Duration = Duration::from_millis(250);
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// A server and its two programs.
pub(super) struct Server {
    shared: Arc<Shared>,
    layout: Layout,
    wanted: WantedServer,
    ports: Ports,
    agent: Program,
    named: Program,
    incarnation: u64,
    ready: bool,
    message: Option<String>,
    asked: Option<Instant>,
}

impl Server {
    /// Takes over what is in its directory.
    pub(super) fn open(shared: Arc<Shared>, wanted: WantedServer) -> Result<Self, RunnerError> {
        let layout = Layout::new(&shared.servers, &wanted.key);
        files::make_private(&layout.root).map_err(|error| RunnerError::io(&layout.root, error))?;
        let ports = shared.ports.load(&wanted.key, &layout.ports());
        let ports = ports.map_err(|error| RunnerError::io(&layout.ports(), error))?;
        let (agent, named) = launches(&shared, &layout);
        let incarnation = layout.incarnation().unwrap_or_default();
        let server = Self {
            agent: Program::new("bindy agent", agent),
            named: Program::new("named", named),
            ready: false,
            message: Some("starts".to_owned()),
            asked: None,
            shared,
            layout,
            wanted,
            ports,
            incarnation,
        };
        server.publish();
        Ok(server)
    }

    /// Keeps it as wanted until `end` says what becomes of it.
    pub(super) async fn run(
        mut self,
        mut wanted: watch::Receiver<WantedServer>,
        mut end: watch::Receiver<Option<End>>,
    ) {
        let mut table = self.shared.ports.subscribe();
        loop {
            self.wanted.clone_from(&wanted.borrow_and_update());
            table.mark_unchanged();
            self.attend().await;
            let pause = if self.ready { RUNNING } else { STARTING };
            tokio::select! {
                // An error means a dropped runner, that leaves its servers running.
                Ok(_) = end.wait_for(Option::is_some) => break,
                Ok(()) = wanted.changed() => {}
                Ok(()) = table.changed() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
        self.stop().await;
        if *end.borrow() == Some(End::Remove) {
            remove(&self.layout.root);
            info!(server = %self.wanted.key, "stopped and removed");
        }
        self.shared.withdraw(&self.wanted.key);
    }

    /// One round, and what it came to for everybody to see.
    async fn attend(&mut self) {
        if let Err(error) = self.round().await {
            warn!(server = %self.wanted.key, %error, "not as wanted");
            self.ready = false;
            self.message = Some(error.to_string());
        }
        self.publish();
    }

    async fn round(&mut self) -> Result<(), RunnerError> {
        self.directory().await?;
        self.take_ports().await?;
        self.write().await?;
        if !self.agent.is_running() && self.agent.is_due() {
            // It makes a new key then, which a running named does not know.
            if !self.layout.local_key().exists() {
                self.named.stop(STOP_LIMIT).await;
            }
            self.agent.start();
            self.forget_readiness();
        }
        let has_key = self.layout.local_key().exists();
        if !self.named.is_running() && self.named.is_due() && has_key {
            self.named.start();
            self.forget_readiness();
        }
        if !has_key && self.agent.process.as_ref().is_some_and(|process| process.age() > KEY_LIMIT) {
            error!(server = %self.wanted.key, "no key of the agent after {KEY_LIMIT:?}; it is started again");
            self.agent.stop(STOP_LIMIT).await;
        }
        self.ask(has_key).await;
        Ok(())
    }

    /// What was said of processes that have ended says nothing of those that replace them.
    fn forget_readiness(&mut self) {
        (self.ready, self.asked) = (false, None);
    }

    /// Makes what is missing of the directory. What runs on a lost one cannot store anything, and is started again.
    async fn directory(&mut self) -> Result<(), RunnerError> {
        if let Some(incarnation) = self.layout.incarnation() {
            self.incarnation = incarnation;
            return Ok(());
        }
        if self.agent.process.is_some() || self.named.process.is_some() {
            warn!(server = %self.wanted.key, directory = %self.layout.root.display(), "its data is gone");
            self.stop().await;
        }
        self.incarnation =
            self.layout.create().map_err(|error| RunnerError::io(&self.layout.data(), error))?;
        Ok(())
    }

    /// Chooses other ports when one that is about to be used is taken.
    async fn take_ports(&mut self) -> Result<(), RunnerError> {
        let Ports { dns, control, relay, transfer, http } = self.ports;
        let mut needed = Vec::new();
        if !self.agent.is_running() {
            needed.extend([("relay", relay), ("transfer", transfer), ("http", http)]);
        }
        if !self.named.is_running() {
            needed.extend([("DNS", dns), ("control", control)]);
        }
        let file = self.layout.ports();
        if let Some((purpose, port)) = needed.into_iter().find(|(_, port)| !is_free(*port)) {
            self.stop().await;
            let chosen = self.shared.ports.choose(&self.wanted.key, &file);
            self.ports = chosen.map_err(|error| RunnerError::io(&file, error))?;
            let key = &self.wanted.key;
            warn!(server = %key, port, purpose, dns = self.ports.dns, "port is taken by another program; other ports chosen");
        } else if !file.exists() {
            let text = serde_json::to_string(&self.ports).map_err(io::Error::from);
            let written = text.and_then(|text| files::replace(&file, &(text + "\n")));
            written.map_err(|error| RunnerError::io(&file, error))?;
        }
        Ok(())
    }

    /// Brings the files up to date: keys first, since the others name them.
    async fn write(&mut self) -> Result<(), RunnerError> {
        let shared = &self.shared;
        let Files { agent, named, keys } =
            config::build(&self.wanted, &self.layout, &self.ports, &shared.ports, shared.named.lmdb)?;
        for (path, text) in &keys {
            files::replace(path, text).map_err(|error| RunnerError::io(path, error))?;
        }
        let path = self.layout.agent_config();
        let before = std::fs::read_to_string(&path).unwrap_or_default();
        if self.agent.is_running() && !before.is_empty() && config::needs_restart(&before, &agent) {
            self.stop().await;
        }
        files::replace(&path, &agent).map_err(|error| RunnerError::io(&path, error))?;
        let path = self.layout.named_config();
        files::replace(&path, &named).map_err(|error| RunnerError::io(&path, error))?;
        for entry in std::fs::read_dir(self.layout.keys()).into_iter().flatten().flatten() {
            if !keys.contains_key(&entry.path()) {
                // It is not listed any more; the next round tries again.
                let _ = std::fs::remove_file(entry.path());
            }
        }
        Ok(())
    }

    /// What the agent says, or why it cannot say anything.
    async fn ask(&mut self, has_key: bool) {
        let failure = [&self.agent, &self.named].into_iter().find_map(|program| program.failure.clone());
        let stopped = self.agent.process.is_none() || self.named.process.is_none();
        if stopped || failure.is_some() {
            let key = (!has_key).then(|| "waits for the key that the agent makes".to_owned());
            (self.ready, self.asked) = (false, None);
            self.message = failure.or(key).or_else(|| Some("starts".to_owned()));
            return;
        }
        if self.ready && self.asked.is_some_and(|asked| asked.elapsed() < ASK_AGAIN) {
            return;
        }
        self.asked = Some(Instant::now());
        for program in [&self.agent, &self.named] {
            if let Err(error) = files::bound_log(&program.launch.log) {
                warn!(log = %program.launch.log.display(), %error, "cannot be shortened");
            }
        }
        (self.ready, self.message) = match readiness::ask(loopback(self.ports.http)).await {
            Ok(answer) if answer.ready => (true, None),
            Ok(answer) => (false, Some(format!("waits for {}", answer.waiting_for.join(", ")))),
            Err(why) => (false, Some(why)),
        };
    }

    async fn stop(&mut self) {
        tokio::join!(self.agent.stop(STOP_LIMIT), self.named.stop(STOP_LIMIT));
    }

    fn publish(&self) {
        self.shared.publish(RunningServer {
            key: self.wanted.key.clone(),
            dns: loopback(self.ports.dns),
            transfer: loopback(self.ports.transfer),
            http: loopback(self.ports.http),
            named_pid: self.named.pid(),
            agent_pid: self.agent.pid(),
            incarnation: self.incarnation,
            ready: self.ready,
            message: self.message.clone(),
            directory: self.layout.root.clone(),
        });
    }
}

/// Removes a server's directory.
pub(super) fn remove(root: &Path) {
    match std::fs::remove_dir_all(root) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            warn!(directory = %root.display(), %error, "cannot be removed");
        }
        _ => {}
    }
}

/// How the agent and the named of that directory are started.
pub(super) fn launches(shared: &Shared, layout: &Layout) -> (Launch, Launch) {
    let launch = |program: &str, command: Vec<OsString>| Launch {
        command,
        directory: if program == "named" { layout.data() } else { layout.root.clone() },
        log: layout.log(program),
        pid_file: layout.pid_file(program),
    };
    let mut agent = shared.agent_command.clone();
    agent.extend(["--config".into(), layout.agent_config().into()]);
    let mut named: Vec<OsString> = vec![shared.named.path.clone().into()];
    // Two threads: local servers are many and share the machine.
    named.extend(["-f", "-n", "2", "-c"].map(OsString::from));
    named.push(layout.named_config().into());
    (launch("agent", agent), launch("named", named))
}
