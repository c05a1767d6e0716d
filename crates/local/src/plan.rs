//! Which servers there should be, and where each gets its zones from. Pure.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use bindy_engine::InstanceKeys;
use bindy_model::{Fleet, Instance, Link, Origin, OutsideUpstream};
use bindy_wire::{KeyError, MasterKeys};
use bindy_zone::{Catalog, Name, NameError};

use crate::runner::{ServerKey, SourceAddress, WantedServer, WantedSource};

/// Why an instance cannot have servers.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlanError {
    /// Its name does not fit into that of a catalog.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Its keys cannot be derived.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// The servers of one instance.
pub(crate) fn servers(
    instance: &Instance,
    fleet: &Fleet,
    master: &MasterKeys,
    hidden_primary: SocketAddr,
    state: &Path,
) -> Result<Vec<WantedServer>, PlanError> {
    let key = &instance.metadata.key;
    let keys = InstanceKeys::new(key, fleet, master)?;
    let catalog = Catalog::name(&key.namespace, &key.name)?;
    let server = |index| {
        let own = ServerKey { instance: key.clone(), index };
        let sources = keys.links.iter().flat_map(|(link, signs)| sources(link, signs, fleet, hidden_primary));
        WantedServer {
            sources: sources.filter(|source| source.at != SourceAddress::Server(own.clone())).collect(),
            key: own,
            catalog: catalog.clone(),
            wishes: instance.config.clone(),
            downstreams: instance.downstreams.clone(),
            keys: keys.stored().cloned().collect(),
            key_files: instance.outside.iter().map(|upstream| key_file(state, instance, upstream)).collect(),
        }
    };
    Ok((0..instance.replicas).map(server).collect())
}

/// Where the user puts the key of a server outside of Bindy.
fn key_file(state: &Path, instance: &Instance, upstream: &OutsideUpstream) -> PathBuf {
    let secret = format!("{}.{}", instance.metadata.key.namespace, upstream.secret);
    state.join("upstreams").join(secret).join("key")
}

/// Every server at the other end of a link.
fn sources(link: &Link, signs: &Name, fleet: &Fleet, hidden_primary: SocketAddr) -> Vec<WantedSource> {
    let source =
        |name, at| WantedSource { name, kind: link.kind, at, key: signs.clone(), zones: link.zones() };
    match &link.origin {
        Origin::Operator => vec![source("hidden-primary".to_owned(), SourceAddress::Fixed(hidden_primary))],
        Origin::Outside(upstream) => {
            vec![source(upstream.source_name(), SourceAddress::Fixed(upstream.address))]
        }
        Origin::Instance(instance) => {
            let replicas = fleet.get(instance).map_or(0, |instance| instance.replicas);
            let server = |index| {
                let name = format!("{:?}-{}-{}-{index}", link.kind, instance.namespace, instance.name);
                let server = ServerKey { instance: instance.clone(), index };
                source(name.to_lowercase(), SourceAddress::Server(server))
            };
            (0..replicas).map(server).collect()
        }
    }
}
