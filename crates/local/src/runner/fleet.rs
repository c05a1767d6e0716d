//! All servers: starts a task for each that is wanted, ends those that are not, and gathers what they say.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::files::Layout;
use super::install::Installed;
use super::ports::PortTable;
use super::process::Process;
use super::server::{self, STOP_LIMIT, Server};
use super::{Others, RunningServer, ServerKey, WantedServer};

/// What becomes of a server that ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Its data stays for the next start.
    Keep,
    /// It is not wanted any more.
    Remove,
}

/// What all servers share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) named: Installed,
    pub(super) agent_command: Vec<OsString>,
    pub(super) servers: PathBuf,
    pub(super) ports: PortTable,
    pub(super) board: watch::Sender<Vec<RunningServer>>,
    /// Held as long as anything here runs: one runner a directory.
    pub(super) _lock: File,
}

impl Shared {
    /// Tells the state of a server, if it has changed.
    pub(super) fn publish(&self, server: RunningServer) {
        self.board.send_if_modified(|all| match all.binary_search_by(|one| one.key.cmp(&server.key)) {
            Ok(at) => all.get_mut(at).is_some_and(|one| {
                let changed = *one != server;
                *one = server;
                changed
            }),
            Err(at) => {
                all.insert(at, server);
                true
            }
        });
    }

    /// Forgets a server.
    pub(super) fn withdraw(&self, key: &ServerKey) {
        self.ports.remove(key);
        self.board.send_modify(|all| all.retain(|one| one.key != *key));
    }
}

/// A running task.
struct Task {
    wanted: watch::Sender<WantedServer>,
    end: watch::Sender<Option<End>>,
}

/// The tasks of all servers.
pub(super) struct Fleet {
    shared: Arc<Shared>,
    tasks: BTreeMap<ServerKey, Task>,
    ids: HashMap<Id, ServerKey>,
    running: JoinSet<()>,
    swept: bool,
}

impl Fleet {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let (tasks, ids) = (BTreeMap::new(), HashMap::new());
        Self { shared, tasks, ids, running: JoinSet::new(), swept: false }
    }

    /// Follows what is wanted until `stop`; then everything is stopped.
    pub(super) async fn run(
        mut self,
        mut wanted: watch::Receiver<Option<(Vec<WantedServer>, Others)>>,
        stop: CancellationToken,
    ) {
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Some(ended) = self.running.join_next_with_id() => self.ended(ended),
                Ok(()) = wanted.changed() => {}
            }
            let now = wanted.borrow_and_update().clone();
            if let Some((now, others)) = now {
                self.converge(now, others).await;
            }
        }
        for task in self.tasks.values() {
            task.end.send_if_modified(|end| end.is_none() && end.replace(End::Keep).is_none());
        }
        while let Some(ended) = self.running.join_next_with_id().await {
            self.ended(ended);
        }
        self.sweep(&BTreeSet::new(), End::Keep).await;
    }

    fn ended(&mut self, ended: Result<(Id, ()), tokio::task::JoinError>) {
        let id = match ended {
            Ok((id, ())) => id,
            Err(error) => {
                error!(%error, "the task of a server failed");
                error.id()
            }
        };
        if let Some(key) = self.ids.remove(&id) {
            self.tasks.remove(&key);
        }
    }

    async fn converge(&mut self, wanted: Vec<WantedServer>, others: Others) {
        let keys: BTreeSet<ServerKey> = wanted.iter().map(|server| server.key.clone()).collect();
        let unwanted = self.tasks.iter().filter(|(key, _)| others == Others::Remove && !keys.contains(key));
        for (_, task) in unwanted {
            task.end.send_if_modified(|end| end.is_none() && end.replace(End::Remove).is_none());
        }
        for server in wanted {
            match self.tasks.get(&server.key) {
                // One that is about to be removed is started when it is gone: its end leads here again.
                Some(task) => {
                    task.wanted.send_if_modified(|now| {
                        let changed = *now != server;
                        *now = server;
                        changed
                    });
                }
                None => self.begin(server),
            }
        }
        if !self.swept && others == Others::Remove {
            self.swept = true;
            self.sweep(&keys, End::Remove).await;
        }
    }

    fn begin(&mut self, wanted: WantedServer) {
        let key = wanted.key.clone();
        match Server::open(Arc::clone(&self.shared), wanted.clone()) {
            Ok(server) => {
                let (wanted, follow) = watch::channel(wanted);
                let (end, until) = watch::channel(None);
                let id = self.running.spawn(server.run(follow, until)).id();
                self.ids.insert(id, key.clone());
                self.tasks.insert(key, Task { wanted, end });
            }
            Err(error) => error!(server = %key, %error, "cannot be opened"),
        }
    }

    /// Stops what an earlier run left of servers other than `kept`.
    async fn sweep(&self, kept: &BTreeSet<ServerKey>, end: End) {
        let roots: BTreeSet<PathBuf> =
            kept.iter().map(|key| Layout::new(&self.shared.servers, key).root).collect();
        let mut work = JoinSet::new();
        for entry in std::fs::read_dir(&self.shared.servers).into_iter().flatten().flatten() {
            let root = entry.path();
            if !root.is_dir() || roots.contains(&root) {
                continue;
            }
            let layout = Layout { root };
            let (agent, named) = server::launches(&self.shared, &layout);
            work.spawn(async move {
                for launch in [agent, named] {
                    if let Some(process) = Process::adopt(&launch) {
                        process.stop(STOP_LIMIT).await;
                    }
                }
                if end == End::Remove {
                    server::remove(&layout.root);
                }
            });
        }
        work.join_all().await;
    }
}
