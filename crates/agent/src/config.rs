//! Reading the configuration file, and what in it would be dangerous.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use bindy_model::AgentConfig;

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
    /// named cannot be given its configuration.
    #[error("{0} cannot be written: {1}")]
    Copy(PathBuf, std::io::Error),
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

/// Reads and checks a file.
pub(crate) fn load(path: &Path) -> Result<AgentConfig, ConfigError> {
    let read = |error| ConfigError::Read { path: path.to_owned(), error };
    let text = std::fs::read(path).map_err(read)?;
    let config: AgentConfig =
        serde_json::from_slice(&text).map_err(|error| ConfigError::Json { path: path.to_owned(), error })?;
    check(&config)?;
    Ok(config)
}

fn check(config: &AgentConfig) -> Result<(), ConfigError> {
    config.instance_parts().ok_or_else(|| ConfigError::Instance(config.instance.clone()))?;
    let local =
        [("relay", config.relay), ("named.dns", config.named.dns), ("named.control", config.named.control)];
    if let Some((field, address)) = local.into_iter().find(|(_, address)| !address.ip().is_loopback()) {
        return Err(ConfigError::NotLoopback { field, address });
    }
    let mut names = HashSet::new();
    match config.sources.iter().find(|source| !names.insert(source.name.as_str())) {
        Some(source) => Err(ConfigError::DuplicateSource(source.name.clone())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bindy_model::SourceKind;

    const EXAMPLE: &str = r#"{"instance":"prod/dns","catalog":"dns.prod.catalog.bindy.","relay":"127.0.0.1:5300",
        "transfer":"127.0.0.1:5301","http":"127.0.0.1:5302",
        "named":{"dns":"127.0.0.1:53","control":"127.0.0.1:953","keyFile":"/run/agent.key","configFile":"/etc/named.conf"},
        "keys":["/keys/a","/keys/b"],
        "sources":[{"name":"operator","kind":"operator","address":"127.0.0.1:5353","key":"a.dns.prod.key.bindy."}]}"#;

    fn load(text: &str) -> Result<AgentConfig, ConfigError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.json");
        std::fs::write(&path, text).unwrap();
        super::load(&path)
    }

    #[test]
    fn the_documented_form_is_read() {
        let config = load(EXAMPLE).unwrap();
        assert_eq!(config.instance_parts(), Some(("prod", "dns")));
        assert_eq!(config.key_base().unwrap().to_string(), "dns.prod.key.bindy.");
        assert_eq!(config.sources[0].kind, SourceKind::Operator);
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
