//! Reading the configuration file, and what in it would be dangerous.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use bindy_model::AgentConfig;
use tracing::warn;

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
    Give(PathBuf, std::io::Error),
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
    /// Another address, instance or catalog than the agent was started with.
    #[error("addresses, instance and catalog change with a restart of the agent only")]
    Bound,
    /// Two sources of one name.
    #[error("two sources are called {0:?}")]
    DuplicateSource(String),
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>, ConfigError> {
    std::fs::read(path).map_err(|error| ConfigError::Read { path: path.to_owned(), error })
}

/// Reads and checks what the file says.
pub(crate) fn parse(path: &Path, text: &[u8]) -> Result<AgentConfig, ConfigError> {
    let mut json = serde_json::Deserializer::from_slice(text);
    let mut unknown = Vec::new();
    let config = serde_ignored::deserialize(&mut json, |field| unknown.push(field.to_string()));
    let config: AgentConfig = config
        .and_then(|config| json.end().map(|()| config))
        .map_err(|error| ConfigError::Json { path: path.to_owned(), error })?;
    check(&config)?;
    if !unknown.is_empty() {
        warn!(fields = unknown.join(", "), "fields of the configuration that this version does not know");
    }
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

    fn parse(text: &str) -> Result<AgentConfig, ConfigError> {
        super::parse(Path::new("agent.json"), text.as_bytes())
    }

    #[test]
    fn the_documented_form_is_read() {
        let config = parse(EXAMPLE).unwrap();
        assert_eq!(config.instance_parts(), Some(("prod", "dns")));
        assert_eq!(config.key_base().unwrap().to_string(), "dns.prod.key.bindy.");
        assert_eq!(config.sources[0].kind, SourceKind::Operator);
    }

    #[test]
    fn fields_of_a_later_version_are_passed_over_so_that_an_older_agent_starts() {
        let later = EXAMPLE
            .replace("\"keys\"", "\"later\":{\"a\":1},\"keys\"")
            .replace("\"kind\"", "\"tls\":true,\"kind\"");
        assert_eq!(parse(&later).unwrap(), parse(EXAMPLE).unwrap());
    }

    #[test]
    fn mistakes_are_told_with_what_is_wrong() {
        for (from, to, told) in [
            ("prod/dns", "dns", "namespace/name"),
            ("127.0.0.1:5300", "0.0.0.0:5300", "relay is 0.0.0.0:5300"),
            ("\"127.0.0.1:53\"", "\"192.0.2.1:53\"", "named.dns"),
            ("\"keys\":[", "\"keys\":[1,", "expected path string"),
            ("}]}", "}]}}", "trailing characters"),
            ("dns.prod.catalog.bindy.", "dns..bindy.", "empty label"),
            ("\"operator\",\"address\"", "\"boss\",\"address\"", "unknown variant `boss`"),
        ] {
            let error = parse(&EXAMPLE.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn two_sources_of_one_name_are_refused() {
        let source = r#"{"name":"operator","kind":"sibling","address":"127.0.0.1:1","key":"k."},"#;
        let text = EXAMPLE.replace("\"sources\":[", &format!("\"sources\":[{source}"));
        assert!(matches!(parse(&text), Err(ConfigError::DuplicateSource(_))));
    }
}
