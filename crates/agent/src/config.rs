//! The configuration file: JSON, written by whoever runs the server, read again when it changes.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use bindy_zone::{Name, NameError};
use serde::Deserialize;

use crate::sources::Kind;

/// What the agent of one server is told.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// The instance as `namespace/name`.
    pub instance: String,
    /// Name of the catalog zone.
    #[serde(deserialize_with = "name")]
    pub catalog: Name,
    /// Where named's queries for its zones arrive; a loopback address.
    pub relay: SocketAddr,
    /// Where siblings, downstreams and the operator are answered, signed requests only.
    pub transfer: SocketAddr,
    /// Where health, readiness and metrics are told.
    pub http: SocketAddr,
    /// The server.
    pub named: NamedConfig,
    /// Files with keys, `<key name> <base64>` a line; they may be missing.
    #[serde(default)]
    pub keys: Vec<PathBuf>,
    /// Where zones come from.
    #[serde(default)]
    pub sources: Vec<SourceConfig>,
}

/// Where named is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NamedConfig {
    /// A loopback address on which it answers DNS.
    pub dns: SocketAddr,
    /// Where it takes rndc commands.
    pub control: SocketAddr,
    /// The file with the local key, that the agent writes and named includes.
    pub key_file: PathBuf,
    /// named's configuration: a change of it makes named read it again.
    pub config_file: PathBuf,
}

/// One source of zones.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SourceConfig {
    /// What logs and metrics call it; unique.
    pub name: String,
    /// What it is to this server.
    pub kind: Kind,
    /// Its address and port.
    pub address: SocketAddr,
    /// Name of the key that signs requests to it.
    #[serde(deserialize_with = "name")]
    pub key: Name,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path} cannot be read: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The file is not the JSON that is expected.
    #[error("{path} is not a configuration of the agent: {error}")]
    Json {
        /// The file.
        path: PathBuf,
        /// Where and what.
        error: serde_json::Error,
    },
    /// `instance` is not `namespace/name`.
    #[error("instance {0:?} is not of the form namespace/name")]
    Instance(String),
    /// An address that only this machine may reach.
    #[error("{field} is {address}: it has to be a loopback address, since it is not authenticated")]
    NotLoopback {
        /// The field.
        field: &'static str,
        /// Its value.
        address: SocketAddr,
    },
    /// Two sources of one name.
    #[error("two sources are called {0:?}")]
    DuplicateSource(String),
}

fn name<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Name, D::Error> {
    let text = String::deserialize(deserializer)?;
    Name::parse(&text).map_err(|error: NameError| serde::de::Error::custom(error))
}

impl Config {
    /// Reads and checks a file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let read = |error| ConfigError::Read { path: path.to_owned(), error };
        let text = std::fs::read(path).map_err(read)?;
        let config: Self = serde_json::from_slice(&text)
            .map_err(|error| ConfigError::Json { path: path.to_owned(), error })?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.instance_parts().ok_or_else(|| ConfigError::Instance(self.instance.clone()))?;
        let local =
            [("relay", self.relay), ("named.dns", self.named.dns), ("named.control", self.named.control)];
        if let Some((field, address)) = local.into_iter().find(|(_, address)| !address.ip().is_loopback()) {
            return Err(ConfigError::NotLoopback { field, address });
        }
        let mut names = HashSet::new();
        match self.sources.iter().find(|source| !names.insert(source.name.as_str())) {
            Some(source) => Err(ConfigError::DuplicateSource(source.name.clone())),
            None => Ok(()),
        }
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = r#"{"instance":"prod/dns","catalog":"dns.prod.catalog.bindy.","relay":"127.0.0.1:5300",
        "transfer":"127.0.0.1:5301","http":"127.0.0.1:5302",
        "named":{"dns":"127.0.0.1:53","control":"127.0.0.1:953","keyFile":"/run/agent.key","configFile":"/etc/named.conf"},
        "keys":["/keys/a","/keys/b"],
        "sources":[{"name":"operator","kind":"operator","address":"127.0.0.1:5353","key":"a.dns.prod.key.bindy."}]}"#;

    fn load(text: &str) -> Result<Config, ConfigError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.json");
        std::fs::write(&path, text).unwrap();
        Config::load(&path)
    }

    #[test]
    fn the_documented_form_is_read() {
        let config = load(EXAMPLE).unwrap();
        assert_eq!(config.instance_parts(), Some(("prod", "dns")));
        assert_eq!(config.key_base().unwrap().to_string(), "dns.prod.key.bindy.");
        assert_eq!(config.sources[0].kind, Kind::Operator);
    }

    #[test]
    fn mistakes_are_told_with_what_is_wrong() {
        for (from, to, told) in [
            ("prod/dns", "dns", "namespace/name"),
            ("127.0.0.1:5300", "0.0.0.0:5300", "relay is 0.0.0.0:5300"),
            ("\"127.0.0.1:53\"", "\"192.0.2.1:53\"", "named.dns"),
            ("\"keys\"", "\"kees\"", "unknown field `kees`"),
            ("dns.prod.catalog.bindy.", "dns..bindy.", "empty label"),
            ("\"operator\",\"address\"", "\"boss\",\"address\"", "unknown variant `boss`"),
        ] {
            let error = load(&EXAMPLE.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn two_sources_of_one_name_are_refused() {
        let source = r#"{"name":"operator","kind":"sibling","address":"127.0.0.1:1","key":"k."},"#;
        let text = EXAMPLE.replace("\"sources\":[", &format!("\"sources\":[{source}"));
        assert!(matches!(load(&text), Err(ConfigError::DuplicateSource(_))));
    }
}
