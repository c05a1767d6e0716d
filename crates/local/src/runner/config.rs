//! The configuration files of a server, made of what is wanted and of the ports of all servers.
//!
//! Nothing is written here. A source whose server has no ports is left out until it has some.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bindy_model::named_conf::{Listen, NamedSettings, Paths, Text, instance_config};
use bindy_model::{AgentConfig, NamedConfig, SourceConfig};
use bindy_zone::Name;
use serde_json::Value;

use super::files::Layout;
use super::ports::{PortTable, Ports, loopback};
use super::{RunnerError, SourceAddress, WantedServer, WantedSource};

/// Texts of files by their paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Files {
    pub(super) agent: String,
    pub(super) named: String,
    /// One file a key, in `keys/`.
    pub(super) keys: BTreeMap<PathBuf, String>,
}

/// What its agent and its named read.
pub(super) fn build(
    wanted: &WantedServer,
    layout: &Layout,
    ports: &Ports,
    table: &PortTable,
    lmdb: bool,
) -> Result<Files, RunnerError> {
    let keys: BTreeMap<PathBuf, String> = wanted
        .keys
        .iter()
        .map(|key| {
            let file = key.name().to_string().replace('/', "_");
            (layout.keys().join(file.trim_end_matches('.')), key.to_file())
        })
        .collect();
    let agent = agent(wanted, layout, ports, table, keys.keys());
    let agent = serde_json::to_string_pretty(&agent).map_err(|error| RunnerError::Path(error.to_string()))?;
    Ok(Files { agent: format!("{agent}\n"), named: named(wanted, layout, ports, lmdb)?, keys })
}

fn agent<'a>(
    wanted: &'a WantedServer,
    layout: &Layout,
    ports: &Ports,
    table: &PortTable,
    keys: impl Iterator<Item = &'a PathBuf>,
) -> AgentConfig {
    let sources = wanted.sources.iter().filter_map(|source| {
        let address = match &source.at {
            SourceAddress::Fixed(address) => *address,
            SourceAddress::Server(key) => loopback(table.get(key)?.transfer),
        };
        let WantedSource { name, kind, at: _, key, zones } = source.clone();
        Some(SourceConfig { name, kind, address, key, zones })
    });
    AgentConfig {
        instance: wanted.key.instance.to_string(),
        catalog: wanted.catalog.clone(),
        relay: loopback(ports.relay),
        transfer: loopback(ports.transfer),
        http: loopback(ports.http),
        named: NamedConfig {
            dns: loopback(ports.dns),
            control: loopback(ports.control),
            key_file: layout.local_key(),
            config_file: layout.named_config(),
        },
        keys: keys.chain(&wanted.key_files).cloned().collect(),
        sources: sources.collect(),
        downstreams: wanted.downstreams.clone(),
        ready_while_stopping_seconds: 0,
        in_turn: false,
    }
}

fn named(wanted: &WantedServer, layout: &Layout, ports: &Ports, lmdb: bool) -> Result<String, RunnerError> {
    Ok(instance_config(&NamedSettings {
        paths: Paths {
            directory: text(&layout.data())?,
            pid_file: text(&layout.data().join("named.pid"))?,
            key_file: text(&layout.local_key())?,
        },
        listen: Listen::On(vec![loopback(ports.dns)]),
        control: loopback(ports.control),
        relay: loopback(ports.relay),
        catalog: wanted.catalog.clone(),
        local_key: Name::parse(bindy_model::named_conf::LOCAL_KEY)
            .map_err(|error| RunnerError::Path(error.to_string()))?,
        wishes: wanted.wishes.clone(),
        // Sparse: it takes what is used.
        lmdb_mapsize_mib: lmdb.then_some(1024),
        // All of them are on one host.
        server_id: Some(
            Text::new(wanted.key.to_string()).map_err(|error| RunnerError::Path(error.to_string()))?,
        ),
    }))
}

/// A path as named's configuration can express it.
pub(super) fn text(path: &Path) -> Result<Text, RunnerError> {
    let path = path.to_str().ok_or_else(|| RunnerError::Path(format!("{} is not UTF-8", path.display())))?;
    Text::new(path).map_err(|error| RunnerError::Path(error.to_string()))
}

/// Whether an agent that runs with the one has to be started again for the other.
pub(super) fn needs_restart(before: &str, after: &str) -> bool {
    let fixed = |text: &str| {
        let value: Value = serde_json::from_str(text).ok()?;
        let fields = ["instance", "catalog", "relay", "transfer", "http", "named"];
        Some(fields.map(|field| value.get(field).cloned()))
    };
    fixed(before) != fixed(after)
}
