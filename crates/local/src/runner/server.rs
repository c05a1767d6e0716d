//! Keeps one server running.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bindy_model::named_conf::TextError;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::files::{self, Ports};
use super::process::Process;
use super::{RunningServer, ServerKey, Update, readiness};

/// Pause between two looks at a server that is not ready, and at one that is.
const LOOKS: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(250)];

/// Pause before a process that ended is started again; doubled each time, up to the second.
const BACKOFF: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(5)];

/// A process that ran this long is started again without delay.
const STEADY: Duration = Duration::from_secs(10);

/// Contents of a server's files, and how it is started.
#[derive(Clone, PartialEq)]
pub(crate) struct Plan {
    pub(crate) named_conf: Result<String, TextError>,
    pub(crate) agent_json: String,
    pub(crate) keys: Vec<String>,
    pub(crate) agent_command: Vec<OsString>,
    pub(crate) named: PathBuf,
    pub(crate) directory: PathBuf,
}

/// What becomes of the files of a server that is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The next run goes on with them.
    Keep,
    /// Nobody wants the server any more.
    Remove,
}

/// Runs a server until told to stop.
pub(crate) async fn run(
    key: ServerKey,
    ports: Ports,
    mut plans: watch::Receiver<Plan>,
    mut stop: watch::Receiver<Option<Stop>>,
    updates: mpsc::UnboundedSender<Update>,
) {
    let plan = plans.borrow_and_update().clone();
    let mut server = Server::new(plan);
    let mut state = RunningServer {
        key: key.clone(),
        dns: ports.dns(),
        transfer: ports.transfer(),
        http: ports.http(),
        named_pid: None,
        agent_pid: None,
        incarnation: 0,
        ready: false,
        message: None,
        directory: server.plan.directory.clone(),
    };
    loop {
        let kept = server.keep_running();
        let ready = match &kept {
            Ok(()) => readiness::ask(state.http).await,
            Err(message) => Err(message.clone()),
        };
        state.named_pid = server.named.pid();
        state.agent_pid = server.agent.pid();
        state.incarnation = server.incarnation;
        state.ready = ready.is_ok();
        state.message = ready.err();
        // Nobody listens any more at shutdown.
        let _shutdown = updates.send((key.clone(), Some(state.clone())));
        let [soon, later] = LOOKS;
        tokio::select! {
            () = tokio::time::sleep(if state.ready { later } else { soon }) => {}
            Ok(()) = plans.changed() => server.plan = plans.borrow_and_update().clone(),
            _ = stop.wait_for(Option::is_some) => break,
        }
    }
    let Server { agent, named, plan, .. } = server;
    named.stop().await;
    agent.stop().await;
    let remove = *stop.borrow() == Some(Stop::Remove);
    if remove && let Err(error) = std::fs::remove_dir_all(&plan.directory) {
        tracing::warn!(server = %key, %error, "its directory cannot be removed");
    }
    let _shutdown = updates.send((key, None));
}

struct Server {
    plan: Plan,
    agent: Supervised,
    named: Supervised,
    incarnation: u64,
}

impl Server {
    fn new(plan: Plan) -> Self {
        let agent = Supervised::adopt(plan.directory.join("agent.pid"));
        let named = Supervised::adopt(plan.directory.join("named.pid"));
        let incarnation = incarnation(&files::data(&plan.directory)).unwrap_or(0);
        Self { plan, agent, named, incarnation }
    }

    /// Writes what changed and starts what does not run; the error says what keeps the server from running.
    fn keep_running(&mut self) -> Result<(), String> {
        self.write_files().map_err(|error| format!("its files cannot be written: {error}"))?;
        let directory = self.plan.directory.clone();
        let (program, first) = self.plan.agent_command.split_first().ok_or("no command for agents")?;
        let config = files::agent_json_file(&directory).into_os_string();
        let arguments: Vec<OsString> = first.iter().cloned().chain(["--config".into(), config]).collect();
        self.agent.keep(Path::new(program), &arguments, &directory.join("agent.log"))?;
        // named includes the key that the agent makes.
        if !files::local_key(&directory).exists() {
            return Err("waits for its agent".to_owned());
        }
        if !self.named.is_alive() {
            self.incarnation = incarnation(&files::data(&directory)).map_err(|error| error.to_string())?;
        }
        let config = files::named_conf_file(&directory).into_os_string();
        let named = self.plan.named.clone();
        self.named.keep(&named, &["-f".into(), "-c".into(), config], &directory.join("named.log"))
    }

    fn write_files(&self) -> io::Result<()> {
        let Plan { named_conf, agent_json, keys, directory, .. } = &self.plan;
        let named_conf = named_conf.as_ref().map_err(|error| io::Error::other(error.clone()))?;
        std::fs::create_dir_all(files::data(directory))?;
        for (number, key) in keys.iter().enumerate() {
            files::write(&files::key_file(directory, number), key.as_bytes())?;
        }
        files::write(&files::named_conf_file(directory), named_conf.as_bytes())?;
        files::write(&files::agent_json_file(directory), agent_json.as_bytes())
    }
}

/// A number that stays as long as named's data does.
fn incarnation(data: &Path) -> io::Result<u64> {
    let file = data.join("incarnation");
    if let Some(known) = std::fs::read_to_string(&file).ok().and_then(|text| text.trim().parse().ok()) {
        return Ok(known);
    }
    std::fs::create_dir_all(data)?;
    let elapsed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let fresh = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
    files::write(&file, fresh.to_string().as_bytes())?;
    Ok(fresh)
}

/// A process that is started again when it ends.
struct Supervised {
    file: PathBuf,
    process: Option<Process>,
    started: Instant,
    backoff: Duration,
    not_before: Instant,
}

impl Supervised {
    fn adopt(file: PathBuf) -> Self {
        let now = Instant::now();
        let [backoff, _] = BACKOFF;
        Self { process: Process::adopt(&file), file, started: now, backoff, not_before: now }
    }

    fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    fn is_alive(&mut self) -> bool {
        self.process.as_mut().is_some_and(Process::is_alive)
    }

    fn keep(&mut self, program: &Path, arguments: &[OsString], log: &Path) -> Result<(), String> {
        if self.is_alive() {
            return Ok(());
        }
        let (now, [least, most]) = (Instant::now(), BACKOFF);
        if self.process.take().is_some() {
            let steady = now.duration_since(self.started) >= STEADY;
            self.backoff = if steady { least } else { (self.backoff * 2).min(most) };
            self.not_before = now + if steady { Duration::ZERO } else { self.backoff };
        }
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        if now < self.not_before {
            return Err(format!("{name} ended and is started again soon: see {}", log.display()));
        }
        let process = Process::start(program, arguments, log, &self.file);
        self.process = Some(process.map_err(|error| format!("{name} cannot be started: {error}"))?);
        self.started = now;
        Ok(())
    }

    async fn stop(self) {
        if let Some(process) = self.process {
            process.stop().await;
        }
    }
}
