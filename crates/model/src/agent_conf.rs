//! The agent's configuration file: JSON, written by whoever runs the server, read by the agent when it changes.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;

use bindy_zone::Name;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The question (type TXT, over TCP) at the relay that tells the agent that its named is about to be stopped. The answer comes
/// when nobody is sent there any more.
pub const STOP_QUESTION: &str = "stopping.agent.bindy.";

/// What the agent of one server is told. Fields that it does not know are of a later version, which its pod is about to get.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentConfig {
    /// The instance as `namespace/name`.
    pub instance: String,
    /// Name of the catalog zone.
    #[serde(deserialize_with = "name", serialize_with = "text")]
    pub catalog: Name,
    /// Where named's queries for its zones arrive; a loopback address.
    pub relay: SocketAddr,
    /// Where siblings, downstreams and the operator are answered, signed requests only. An unspecified address, of either
    /// family, stands for every address of both.
    pub transfer: SocketAddr,
    /// Where health, readiness and metrics are told; the same holds for it.
    pub http: SocketAddr,
    /// The server.
    pub named: NamedConfig,
    /// Files with keys, `<key name> <base64>` a line; they may be missing.
    #[serde(default)]
    pub keys: Vec<PathBuf>,
    /// Where zones come from.
    #[serde(default)]
    pub sources: Vec<SourceConfig>,
    /// Names of the servers outside of Bindy that may follow this instance; left out when there are none, since an agent
    /// of the version before knows no such field.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub downstreams: BTreeSet<String>,
    /// Seconds for which the server stays ready when its named is about to be stopped; left out when 0, for the same reason.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub ready_while_stopping_seconds: u64,
    /// Whether a named that answers clients is given another configuration only when it is this server's turn, which whoever
    /// asks for it says ([`turn_question`](crate::turn_question)); left out when not, for the same reason.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub in_turn: bool,
}

/// Where named is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NamedConfig {
    /// A loopback address on which it answers DNS.
    pub dns: SocketAddr,
    /// Where it takes rndc commands.
    pub control: SocketAddr,
    /// The file with the local key, that the agent writes and named includes.
    pub key_file: PathBuf,
    /// The configuration that named is to have. A change of it makes named read it again.
    pub config_file: PathBuf,
}

impl NamedConfig {
    /// What named reads: `named.conf` beside the local key, which the agent makes before that. Where this is not
    /// `config_file` itself, it is the last one of it that named has taken: one that it refuses is not what it is started with.
    pub fn copy(&self) -> PathBuf {
        self.key_file.with_file_name("named.conf")
    }

    /// Whether the agent gives named its configuration, and says where it listens.
    pub fn is_given(&self) -> bool {
        self.copy() != self.config_file
    }

    /// Where named listens, which its configuration includes: on loopback only, but while the agent has it read that again.
    pub fn listen_file(&self) -> PathBuf {
        self.key_file.with_file_name("listen.conf")
    }

    /// The boot time of the named that listens to others.
    pub fn opened_file(&self) -> PathBuf {
        self.key_file.with_file_name("opened")
    }
}

/// One source of zones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceConfig {
    /// What logs and metrics call it; unique.
    pub name: String,
    /// What it is to this server.
    pub kind: SourceKind,
    /// Its address and port.
    pub address: SocketAddr,
    /// Name of the key that signs requests to it.
    #[serde(deserialize_with = "name", serialize_with = "text")]
    pub key: Name,
    /// The only zones that it is asked for, and may tell of; of kind `outside` only.
    #[serde(
        default,
        skip_serializing_if = "BTreeSet::is_empty",
        deserialize_with = "names",
        serialize_with = "texts"
    )]
    pub zones: BTreeSet<Name>,
}

/// What a source is to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceKind {
    /// A server outside of Bindy, for the zones listed with it.
    Outside,
    /// A server this one is configured to pull from.
    Upstream,
    /// Another server of the same instance.
    Sibling,
    /// A hidden primary.
    Operator,
    /// A server that pulls from this one; it may have what everybody else lost.
    Downstream,
}

fn is_zero(seconds: &u64) -> bool {
    *seconds == 0
}

fn name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Name, D::Error> {
    Name::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

fn text<S: Serializer>(name: &Name, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(name)
}

fn names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<Name>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts.iter().map(|text| Name::parse(text).map_err(serde::de::Error::custom)).collect()
}

fn texts<S: Serializer>(names: &BTreeSet<Name>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(names.iter().map(Name::to_string))
}

impl AgentConfig {
    /// Namespace and name of the instance.
    pub fn instance_parts(&self) -> Option<(&str, &str)> {
        let (namespace, name) = self.instance.split_once('/')?;
        let valid = |part: &str| !part.is_empty() && !part.contains('/') && Name::parse(part).is_ok();
        (valid(namespace) && valid(name)).then_some((namespace, name))
    }

    /// `<instance>.<namespace>.key.bindy.`, the name that the keys of this instance's generations are below.
    pub fn key_base(&self) -> Option<Name> {
        let (namespace, name) = self.instance_parts()?;
        Name::parse(&format!("{name}.{namespace}.key.bindy.")).ok()
    }
}
