//! Runs the wanted servers as processes of this machine: one `named` and one agent each.
//!
//! ```text
//!   set_wanted ─► directories and ports ─► one task a server ─┬─► agent, then named: start, adopt, start again
//!                                                             └─► readiness, by the agent's /readyz
//! ```
//! The processes outlive a killed `bindy up`: the next one finds them by pid and start time and adopts them. They are
//! stopped when `bindy up` stops, or when nobody wants them any more.

mod files;
mod process;
mod readiness;
mod server;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;

use bindy_model::NamespacedName;
use bindy_model::named_conf::{AclElement, RateLimit};
use bindy_wire::Key;
use bindy_zone::Name;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use files::Ports;
pub(crate) use files::free_port;
use server::{Plan, Stop};

/// Which server of which instance.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerKey {
    /// The instance.
    pub instance: NamespacedName,
    /// Its number within the instance, from 0.
    pub index: u32,
}

impl fmt::Display for ServerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.instance, self.index)
    }
}

/// A server that should run.
#[derive(Clone, Debug)]
pub struct WantedServer {
    /// Which.
    pub key: ServerKey,
    /// The catalog that tells it its zones.
    pub catalog: Name,
    /// Who may ask; empty is everybody.
    pub allow_query: Vec<AclElement>,
    /// Limits on equal answers.
    pub rate_limit: Option<RateLimit>,
    /// Its instance's key, and the keys that it has at its upstreams.
    pub keys: Vec<Key>,
    /// Where it gets zones from, the best first.
    pub sources: Vec<WantedSource>,
}

/// Where a server gets zones from.
#[derive(Clone, Debug)]
pub struct WantedSource {
    /// Unique among the server's sources.
    pub name: String,
    /// What the source is to the server.
    pub kind: bindy_agent::Kind,
    /// Its address.
    pub at: SourceAddress,
    /// The key to use.
    pub key: Name,
}

/// The address of a source.
#[derive(Clone, Debug)]
pub enum SourceAddress {
    /// Known already.
    Fixed(SocketAddr),
    /// The transfer port of another server of this runner.
    Server(ServerKey),
}

/// A server as it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningServer {
    /// Which.
    pub key: ServerKey,
    /// Where named answers.
    pub dns: SocketAddr,
    /// Where the agent takes signed requests.
    pub transfer: SocketAddr,
    /// Health and metrics of the agent.
    pub http: SocketAddr,
    /// Process of named.
    pub named_pid: Option<u32>,
    /// Process of the agent.
    pub agent_pid: Option<u32>,
    /// Changes when the server may have lost what it had.
    pub incarnation: u64,
    /// Whether the agent calls it ready.
    pub ready: bool,
    /// Why it is not ready, or what else is the matter.
    pub message: Option<String>,
    /// Everything of this server.
    pub directory: PathBuf,
}

/// What a runner needs to know.
#[derive(Clone, Debug)]
pub struct RunnerOptions {
    /// The state directory.
    pub state: PathBuf,
    /// Program and first arguments of an agent; `--config FILE` is added.
    pub agent_command: Vec<OsString>,
}

/// Why servers cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum RunnerError {
    /// There is no named on this machine.
    #[error("named (BIND 9) is not installed; install it with: {0}")]
    NoNamed(&'static str),
}

/// Runs servers until it is stopped.
pub struct Runner {
    options: RunnerOptions,
    named: PathBuf,
    servers: Mutex<BTreeMap<ServerKey, Running>>,
    updates: mpsc::UnboundedSender<Update>,
    running: watch::Receiver<Vec<RunningServer>>,
}

struct Running {
    ports: Ports,
    plan: watch::Sender<Plan>,
    stop: watch::Sender<Option<Stop>>,
    task: JoinHandle<()>,
}

/// What a server's task tells: its state, or that it has ended.
type Update = (ServerKey, Option<RunningServer>);

impl Runner {
    /// A runner without servers.
    pub fn start(options: RunnerOptions) -> Result<Self, RunnerError> {
        let named = files::find_named().ok_or_else(|| RunnerError::NoNamed(files::install_command()))?;
        let (updates, mut received) = mpsc::unbounded_channel::<Update>();
        let (sender, running) = watch::channel(Vec::new());
        tokio::spawn(async move {
            let mut servers: BTreeMap<ServerKey, RunningServer> = BTreeMap::new();
            while let Some((key, state)) = received.recv().await {
                match state {
                    Some(state) => servers.insert(key, state),
                    None => servers.remove(&key),
                };
                let now: Vec<RunningServer> = servers.values().cloned().collect();
                sender.send_if_modified(|shown| {
                    let changed = *shown != now;
                    *shown = now;
                    changed
                });
            }
        });
        Ok(Self { options, named, servers: Mutex::default(), updates, running })
    }

    /// The servers as they run.
    pub fn servers(&self) -> watch::Receiver<Vec<RunningServer>> {
        self.running.clone()
    }

    /// Makes exactly these servers run, in the background.
    pub fn set_wanted(&self, wanted: Vec<WantedServer>) {
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        servers.retain(|key, server| {
            let keep = wanted.iter().any(|wanted| wanted.key == *key);
            if !keep {
                server.stop.send_replace(Some(Stop::Remove));
            }
            keep
        });
        let mut ports: BTreeMap<ServerKey, Ports> = BTreeMap::new();
        for server in &wanted {
            let known = servers.get(&server.key).map(|running| running.ports);
            let directory = self.directory(&server.key);
            match known.map_or_else(|| Ports::of(&directory), Ok) {
                Ok(found) => drop(ports.insert(server.key.clone(), found)),
                Err(error) => {
                    tracing::error!(server = %server.key, %error, "the server has no directory or ports");
                }
            }
        }
        for server in wanted {
            let Some(own) = ports.get(&server.key).copied() else { continue };
            let plan = self.plan(&server, own, &ports);
            match servers.get(&server.key) {
                Some(running) => drop(running.plan.send_if_modified(|old| {
                    let changed = *old != plan;
                    *old = plan;
                    changed
                })),
                None => drop(servers.insert(server.key.clone(), self.run(server.key, own, plan))),
            }
        }
    }

    fn directory(&self, key: &ServerKey) -> PathBuf {
        let ServerKey { instance, index } = key;
        self.options.state.join("servers").join(format!("{}.{}.{index}", instance.namespace, instance.name))
    }

    fn plan(&self, server: &WantedServer, own: Ports, ports: &BTreeMap<ServerKey, Ports>) -> Plan {
        let directory = self.directory(&server.key);
        let address = |source: &WantedSource| match &source.at {
            SourceAddress::Fixed(address) => Some(*address),
            SourceAddress::Server(key) => Some(ports.get(key)?.transfer()),
        };
        Plan {
            named_conf: files::named_conf(server, &directory, own),
            agent_json: files::agent_json(server, &directory, own, address),
            keys: server.keys.iter().map(Key::to_file).collect(),
            agent_command: self.options.agent_command.clone(),
            named: self.named.clone(),
            directory,
        }
    }

    fn run(&self, key: ServerKey, ports: Ports, plan: Plan) -> Running {
        let (plan, plans) = watch::channel(plan);
        let (stop, stopped) = watch::channel(None);
        let task = tokio::spawn(server::run(key, ports, plans, stopped, self.updates.clone()));
        Running { ports, plan, stop, task }
    }

    /// Stops every server and waits until all of its processes are gone.
    pub async fn stop(self) {
        let servers = self.servers.into_inner().unwrap_or_else(PoisonError::into_inner);
        for server in servers.values() {
            server.stop.send_replace(Some(Stop::Keep));
        }
        for (key, server) in servers {
            if let Err(error) = server.task.await {
                tracing::error!(server = %key, %error, "the server's task failed");
            }
        }
    }
}
