//! `status.json`: what `bindy up` serves where, for scripts and tests.
//!
//! The file lies in the state directory and is replaced as a whole whenever something in it has changed, so a reader
//! sees one complete state and a steady system writes nothing. It carries no timestamps for the same reason.
//! Field names are those of the JSON in camelCase.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The name of the file in the state directory.
pub const FILE_NAME: &str = "status.json";

/// Everything that `bindy up` knows about what it serves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    /// Process of the engine, to tell a running one's file from one that was left behind.
    pub pid: u32,
    /// Every manifest has been read once and every zone in them has been compiled.
    pub listed: bool,
    /// Where the hidden primary answers transfers.
    pub hidden_primary: Option<SocketAddr>,
    /// Every Bind9Instance.
    pub instances: Vec<InstanceStatus>,
    /// Every server, by instance and index.
    pub servers: Vec<ServerStatus>,
    /// Every DNSZone.
    pub zones: Vec<ZoneStatus>,
    /// Number of record objects, those with problems included.
    pub record_objects: usize,
    /// Record objects that are not served as they are written.
    pub records_with_problems: Vec<ObjectStatus>,
    /// What a person has to look at, in the order of files and lines.
    pub problems: Vec<Problem>,
}

/// A Bind9Instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct InstanceStatus {
    /// `namespace/name`.
    pub key: String,
    /// `primary` or `secondary`.
    pub role: String,
    /// The names of its upstream instances or addresses; empty below the hidden primary.
    pub upstreams: Vec<String>,
    /// Servers that answer and have every zone.
    pub ready: u32,
    /// Servers wanted.
    pub replicas: u32,
    /// Zones in its catalog.
    pub zones: usize,
    /// What is true of it.
    pub conditions: Vec<ConditionStatus>,
}

/// One named and its agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerStatus {
    /// `namespace/name` of its instance.
    pub instance: String,
    /// 0 for the first server of the instance.
    pub index: u32,
    /// Where named answers queries.
    pub dns: SocketAddr,
    /// Where the agent answers transfers and takes NOTIFY.
    pub transfer: SocketAddr,
    /// Where the agent answers `/readyz`, `/livez` and `/metrics`.
    pub http: SocketAddr,
    /// The process of named, while it runs.
    #[serde(default)]
    pub named_pid: Option<u32>,
    /// The process of the agent, while it runs.
    #[serde(default)]
    pub agent_pid: Option<u32>,
    /// Whether it answers and has every zone of its catalog.
    pub ready: bool,
    /// Zones, catalogs among them, of which it was not seen to have the published version; `null` before it is asked.
    #[serde(default)]
    pub missing: Option<usize>,
    /// Why a process does not run or the server is not ready.
    #[serde(default)]
    pub message: Option<String>,
    /// Its configuration and logs.
    pub directory: PathBuf,
}

/// A DNSZone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ZoneStatus {
    /// `namespace/name`.
    pub key: String,
    /// The zone's name in DNS.
    pub zone_name: String,
    /// The published serial; none before the first version.
    pub serial: Option<u32>,
    /// The published digest.
    pub digest: Option<String>,
    /// Records of the published version.
    pub records: usize,
    /// How many servers have it.
    pub servers: InSync,
    /// The servers that have an older version, at most 16.
    pub lagging: Vec<String>,
    /// What is true of it.
    pub conditions: Vec<ConditionStatus>,
}

impl ZoneStatus {
    /// Whether every server that should serve the published version does, and there is one.
    pub fn is_in_sync(&self) -> bool {
        self.serial.is_some() && self.servers.desired > 0 && self.servers.desired == self.servers.in_sync
    }
}

/// How many of a zone's servers serve its published version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InSync {
    /// Servers of every instance that the zone selects.
    pub desired: usize,
    /// Those that have been seen to answer with the published serial.
    pub in_sync: usize,
}

/// An object and what is true of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectStatus {
    /// The kind, as in its manifest.
    pub kind: String,
    /// `namespace/name`.
    pub key: String,
    /// What is true of it.
    pub conditions: Vec<ConditionStatus>,
}

/// A condition in the sense of Kubernetes, without its time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConditionStatus {
    /// `Accepted`, `Ready`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// The reason, from the documented list.
    pub reason: String,
    /// What to do.
    pub message: String,
}

/// Something that a person has to look at.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Problem {
    /// The manifest, relative to the directory of manifests.
    pub file: Option<PathBuf>,
    /// Line in the file, from 1.
    pub line: Option<u64>,
    /// Column in the line, from 1.
    pub column: Option<u64>,
    /// `error` harms what the object asks for, `warning` and `notice` do not.
    pub severity: Severity,
    /// `Kind namespace/name`, where an object is concerned.
    pub object: Option<String>,
    /// A word for programs, stable between versions.
    pub reason: String,
    /// What is wrong, and how to put it right.
    pub message: String,
}

/// How much a [`Problem`] matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Severity {
    /// What the object asks for is not served.
    #[default]
    Error,
    /// It is served, but probably not as it was meant.
    Warning,
    /// Worth knowing.
    Notice,
}

impl Severity {
    /// The word in texts.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Notice => "notice",
        }
    }
}

impl Problem {
    /// `file:line:column`, as far as it is known.
    pub fn place(&self) -> Option<String> {
        let mut place = self.file.as_ref()?.display().to_string();
        for position in [self.line, self.column].into_iter().flatten() {
            place.push(':');
            place.push_str(&position.to_string());
        }
        Some(place)
    }
}

/// `FILE:LINE:COLUMN: SEVERITY: OBJECT: MESSAGE`, as compilers write it.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = self.place() {
            write!(f, "{place}: ")?;
        }
        f.write_str(match self.severity {
            Severity::Error => "error: ",
            Severity::Warning => "warning: ",
            Severity::Notice => "notice: ",
        })?;
        if let Some(object) = &self.object {
            write!(f, "{object}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl Status {
    /// Reads the file of the state directory `state`.
    pub fn read(state: &Path) -> io::Result<Self> {
        let text = std::fs::read(state.join(FILE_NAME))?;
        serde_json::from_slice(&text).map_err(io::Error::other)
    }

    /// Replaces the file of the state directory `state`.
    pub fn write(&self, state: &Path) -> io::Result<()> {
        let mut text = serde_json::to_vec_pretty(self).map_err(io::Error::other)?;
        text.push(b'\n');
        let temporary = state.join(".status.json.new");
        File::create(&temporary)?.write_all(&text)?;
        std::fs::rename(&temporary, state.join(FILE_NAME))
    }

    /// The zone with this `namespace/name`.
    pub fn zone(&self, key: &str) -> Option<&ZoneStatus> {
        self.zones.iter().find(|zone| zone.key == key)
    }

    /// The server of this instance (`namespace/name`) and index.
    pub fn server(&self, instance: &str, index: u32) -> Option<&ServerStatus> {
        self.servers.iter().find(|server| server.instance == instance && server.index == index)
    }

    /// Whether everything that was asked for is served: all servers ready, every zone on all of its servers.
    pub fn is_settled(&self) -> bool {
        self.listed
            && self.servers.iter().all(|server| server.ready)
            && self.instances.iter().all(|instance| instance.ready == instance.replicas)
            && self.zones.iter().filter(|zone| zone.servers.desired > 0).all(ZoneStatus::is_in_sync)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Status {
        Status {
            pid: 7,
            listed: true,
            hidden_primary: "127.0.0.1:5354".parse().ok(),
            instances: vec![InstanceStatus {
                key: "dns/ns".into(),
                ready: 1,
                replicas: 1,
                ..Default::default()
            }],
            servers: vec![ServerStatus {
                instance: "dns/ns".into(),
                index: 0,
                dns: "127.0.0.1:5300".parse().unwrap(),
                transfer: "127.0.0.1:5301".parse().unwrap(),
                http: "127.0.0.1:5302".parse().unwrap(),
                named_pid: Some(3),
                agent_pid: None,
                ready: true,
                missing: Some(0),
                message: None,
                directory: "servers/dns.ns.0".into(),
            }],
            zones: vec![ZoneStatus {
                key: "dns/example-com".into(),
                zone_name: "example.com".into(),
                serial: Some(9),
                servers: InSync { desired: 1, in_sync: 1 },
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let state = tempfile::tempdir().unwrap();
        let status = sample();
        status.write(state.path()).unwrap();
        assert_eq!(Status::read(state.path()).unwrap(), status);
        let text = std::fs::read_to_string(state.path().join(FILE_NAME)).unwrap();
        assert!(text.contains("\"hiddenPrimary\"") && text.contains("\"inSync\": 1"), "{text}");
    }

    #[test]
    fn a_lagging_server_or_zone_unsettles() {
        assert!(sample().is_settled());
        let mut lagging = sample();
        lagging.zones[0].servers.in_sync = 0;
        assert!(!lagging.is_settled());
        let mut unready = sample();
        unready.servers[0].ready = false;
        assert!(!unready.is_settled());
    }
}
