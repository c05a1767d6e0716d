//! Local servers: what is wanted becomes pairs of `named` and `bindy agent` on loopback ports.
//!
//! ```text
//!   set_wanted ─► Fleet ─► one task per server ─► servers/NAMESPACE.INSTANCE.INDEX/
//!                   │            │                  agent.json named.conf keys/ named/ *.log *.pid ports.json
//!   servers() ◄─────┴────────────┘
//! ```
//!
//! The processes do not depend on this one: when it is killed they go on serving, and the next [`Runner::start`] on
//! the same directory adopts them without a restart. Only [`Runner::stop`] ends them. A dropped runner leaves them
//! running. Root is never needed.

mod config;
mod files;
mod fleet;
mod install;
mod ports;
mod process;
mod program;
mod readiness;
mod server;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bindy_model::named_conf::Wishes;
use bindy_model::{NamespacedName, SourceKind};
use bindy_wire::Key;
use bindy_zone::Name;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

pub(crate) use files::{make_private, replace};
use fleet::{Fleet, Shared};
use ports::PortTable;
pub(crate) use ports::free_port;

/// Which server of which instance.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerKey {
    /// The instance.
    pub instance: NamespacedName,
    /// Counted from 0.
    pub index: u32,
}

/// A server that shall run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedServer {
    /// Which one.
    pub key: ServerKey,
    /// Name of its catalog zone.
    pub catalog: Name,
    /// What its instance asks for.
    pub wishes: Wishes,
    /// Names of the servers outside that may follow it.
    pub downstreams: BTreeSet<String>,
    /// Its own keys, and those that it signs with at its sources.
    pub keys: Vec<Key>,
    /// Files with keys that somebody else keeps; they may be missing.
    pub key_files: Vec<PathBuf>,
    /// Where its zones come from.
    pub sources: Vec<WantedSource>,
}

/// One source of zones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedSource {
    /// What logs call it; unique within the server.
    pub name: String,
    /// What it is to the server.
    pub kind: SourceKind,
    /// Where it is.
    pub at: SourceAddress,
    /// Name of the key that signs requests to it.
    pub key: Name,
    /// The only zones that come from it; empty when it is not limited to any.
    pub zones: BTreeSet<Name>,
}

/// Where a source is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceAddress {
    /// There.
    Fixed(SocketAddr),
    /// The transfer port of that local server; nowhere while there is no such server.
    Server(ServerKey),
}

/// What becomes of servers that are not wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Others {
    /// They are stopped and removed with their data.
    Remove,
    /// They go on as they are: the object that wants them may only be unreadable.
    Leave,
}

/// A server as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningServer {
    /// Which one.
    pub key: ServerKey,
    /// Where it answers DNS.
    pub dns: SocketAddr,
    /// Where it gives zones away and takes NOTIFY.
    pub transfer: SocketAddr,
    /// Where its agent tells readiness and metrics.
    pub http: SocketAddr,
    /// Process id of `named`, while it runs.
    pub named_pid: Option<u32>,
    /// Process id of the agent, while it runs.
    pub agent_pid: Option<u32>,
    /// Another one means: whatever it had may be lost. Microseconds since 1970; 0 before there is a directory.
    pub incarnation: u64,
    /// Whether clients may ask it.
    pub ready: bool,
    /// What is missing while it is not ready.
    pub message: Option<String>,
    /// Its directory: configuration, data and logs.
    pub directory: PathBuf,
}

/// What a runner needs.
#[derive(Clone, Debug)]
pub struct RunnerOptions {
    /// Everything is kept below `servers` in this directory, which is made if it is missing.
    pub state: PathBuf,
    /// Program and first arguments of an agent; `--config FILE` is added.
    pub agent_command: Vec<OsString>,
    /// Directories that `named` is looked for in.
    pub search_path: Vec<PathBuf>,
}

impl RunnerOptions {
    /// Agents by `executable agent --config FILE`, and the `named` of this system.
    pub fn new(state: impl Into<PathBuf>, executable: impl Into<PathBuf>) -> Self {
        let agent_command = vec![executable.into().into_os_string(), "agent".into()];
        Self { state: state.into(), agent_command, search_path: install::search_path() }
    }
}

/// Why servers cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum RunnerError {
    /// There is no `named`.
    #[error("named (BIND 9) is not installed: {install}")]
    NamedMissing {
        /// The command that installs it on this system.
        install: &'static str,
    },
    /// There is one, but it does not start.
    #[error("{path} cannot be started: {error}")]
    Named {
        /// The program.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Another runner works in this directory.
    #[error("{0} is in use by another bindy")]
    Busy(PathBuf),
    /// A path that named's configuration cannot express.
    #[error("{0}")]
    Path(String),
    /// A file cannot be read or written.
    #[error("{path}: {error}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

impl RunnerError {
    fn io(path: &Path, error: io::Error) -> Self {
        Self::File { path: path.to_owned(), error }
    }
}

impl fmt::Display for ServerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.instance, self.index)
    }
}

/// Keeps local servers as wanted.
#[derive(Debug)]
pub struct Runner {
    wanted: watch::Sender<Option<(Vec<WantedServer>, Others)>>,
    servers: watch::Receiver<Vec<RunningServer>>,
    stop: CancellationToken,
    fleet: AbortOnDropHandle<()>,
}

impl Runner {
    /// Starts it, within a tokio runtime. Nothing runs until [`Runner::set_wanted`] says what.
    pub fn start(options: RunnerOptions) -> Result<Self, RunnerError> {
        let named = install::find(&options.search_path)?;
        let servers = options.state.join("servers");
        let error = |error| RunnerError::io(&servers, error);
        make_private(&servers).map_err(error)?;
        let servers = servers.canonicalize().map_err(error)?;
        config::text(&servers)?;
        let path = servers.join(".lock");
        let lock = File::create(&path).map_err(|error| RunnerError::io(&path, error))?;
        lock.try_lock().map_err(|_| RunnerError::Busy(options.state))?;
        let (board, running) = watch::channel(Vec::new());
        let agent_command = options.agent_command;
        let shared = Shared { named, agent_command, servers, ports: PortTable::new(), board, _lock: lock };
        let (wanted, follow) = watch::channel(None);
        let stop = CancellationToken::new();
        let fleet = tokio::spawn(Fleet::new(Arc::new(shared)).run(follow, stop.clone()));
        Ok(Self { wanted, servers: running, stop, fleet: AbortOnDropHandle::new(fleet) })
    }

    /// Says which servers shall run, and what becomes of the others of this directory. It returns at once.
    pub fn set_wanted(&self, servers: Vec<WantedServer>, others: Others) {
        self.wanted.send_replace(Some((servers, others)));
    }

    /// The servers as they are, ordered by key.
    pub fn servers(&self) -> watch::Receiver<Vec<RunningServer>> {
        self.servers.clone()
    }

    /// Ends every process of this directory, within some 15 seconds; data and ports stay for the next start.
    pub async fn stop(self) {
        self.stop.cancel();
        if let Err(error) = self.fleet.await {
            tracing::error!(%error, "the runner failed; processes may be left");
        }
    }
}
