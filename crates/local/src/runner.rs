//! stub
#![allow(missing_docs, clippy::todo, clippy::unused_async)]
use bindy_model::{
    NamespacedName,
    named_conf::{AclElement, RateLimit},
};
use bindy_zone::Name;
use std::{ffi::OsString, net::SocketAddr, path::PathBuf};
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerKey {
    pub instance: NamespacedName,
    pub index: u32,
}
#[derive(Clone, Debug)]
pub struct WantedServer {
    pub key: ServerKey,
    pub catalog: Name,
    pub allow_query: Vec<AclElement>,
    pub rate_limit: Option<RateLimit>,
    pub keys: Vec<bindy_wire::Key>,
    pub sources: Vec<WantedSource>,
}
#[derive(Clone, Debug)]
pub struct WantedSource {
    pub name: String,
    pub kind: bindy_agent::Kind,
    pub at: SourceAddress,
    pub key: Name,
}
#[derive(Clone, Debug)]
pub enum SourceAddress {
    Fixed(SocketAddr),
    Server(ServerKey),
}
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningServer {
    pub key: ServerKey,
    pub dns: SocketAddr,
    pub transfer: SocketAddr,
    pub http: SocketAddr,
    pub named_pid: Option<u32>,
    pub agent_pid: Option<u32>,
    pub incarnation: u64,
    pub ready: bool,
    pub message: Option<String>,
    pub directory: PathBuf,
}
pub struct RunnerOptions {
    pub state: PathBuf,
    pub agent_command: Vec<OsString>,
}
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct RunnerError;
pub struct Runner;
impl Runner {
    pub fn start(_: RunnerOptions) -> Result<Self, RunnerError> {
        todo!()
    }
    pub fn set_wanted(&self, _: Vec<WantedServer>) {}
    pub fn servers(&self) -> tokio::sync::watch::Receiver<Vec<RunningServer>> {
        todo!()
    }
    pub async fn stop(self) {}
}
