//! Which servers there should be, and where each gets its zones from. Pure.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bindy_agent::Kind as SourceKind;
use bindy_model::named_conf::{AclElement, RateLimit};
use bindy_model::{Fleet, Instance, NamespacedName};
use bindy_wire::{Generation, Key, KeyError, MasterSecret};
use bindy_zone::{Catalog, NameError};

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
    /// Its configuration is wrong.
    #[error("spec.config.allowQuery: {0}")]
    Access(String),
}

/// The key of an instance.
pub(crate) fn instance_key(secret: &MasterSecret, key: &NamespacedName) -> Result<Key, KeyError> {
    secret.instance_key(&key.namespace, &key.name, Generation::A)
}

/// The keys of all instances, by which the hidden primary knows them.
pub(crate) fn keys(fleet: &Fleet, secret: &MasterSecret) -> BTreeMap<NamespacedName, Vec<Key>> {
    let instances = fleet.iter().map(|instance| &instance.metadata.key);
    instances.filter_map(|key| Some((key.clone(), vec![instance_key(secret, key).ok()?]))).collect()
}

/// The servers of one instance.
pub(crate) fn servers(
    instance: &Instance,
    fleet: &Fleet,
    secret: &MasterSecret,
    hidden_primary: SocketAddr,
) -> Result<Vec<WantedServer>, PlanError> {
    let key = &instance.metadata.key;
    let own = instance_key(secret, key)?;
    let catalog = Catalog::name(&key.namespace, &key.name)?;
    let (upstream_keys, upstreams) = upstreams(key, fleet, secret)?;
    let operator = WantedSource {
        name: "hidden-primary".to_owned(),
        // The first tier has no other upstream.
        kind: if upstreams.is_empty() { SourceKind::Upstream } else { SourceKind::Operator },
        at: SourceAddress::Fixed(hidden_primary),
        key: own.name().clone(),
    };
    let downstreams = downstreams(key, fleet, &own)?;
    let mut keys = vec![own.clone()];
    keys.extend(upstream_keys);
    let allow_query = access(instance)?;
    let server = |index| {
        let siblings = (0..instance.replicas)
            .filter(|other| *other != index)
            .map(|other| source(SourceKind::Sibling, key, other, &own));
        WantedServer {
            key: ServerKey { instance: key.clone(), index },
            catalog: catalog.clone(),
            allow_query: allow_query.clone(),
            rate_limit: instance.rate_limit.as_ref().map(|limit| RateLimit {
                responses_per_second: limit.responses_per_second,
                window: limit.window.unwrap_or(15),
                slip: limit.slip.unwrap_or(2),
            }),
            keys: keys.clone(),
            sources: upstreams
                .iter()
                .cloned()
                .chain(siblings)
                .chain([operator.clone()])
                .chain(downstreams.clone())
                .collect(),
        }
    };
    Ok((0..instance.replicas).map(server).collect())
}

fn upstreams(
    key: &NamespacedName,
    fleet: &Fleet,
    secret: &MasterSecret,
) -> Result<(Vec<Key>, Vec<WantedSource>), KeyError> {
    let (mut keys, mut sources) = (Vec::new(), Vec::new());
    for upstream in fleet.upstreams(key) {
        let derived = instance_key(secret, &upstream)?.derive(&key.namespace, &key.name)?;
        let replicas = fleet.get(&upstream).map_or(0, |instance| instance.replicas);
        sources.extend((0..replicas).map(|index| source(SourceKind::Upstream, &upstream, index, &derived)));
        keys.push(derived);
    }
    Ok((keys, sources))
}

/// The servers of instances that pull from this one directly: the last resort, when everything above is lost.
fn downstreams(key: &NamespacedName, fleet: &Fleet, own: &Key) -> Result<Vec<WantedSource>, KeyError> {
    let mut sources = Vec::new();
    for downstream in fleet.downstreams(key) {
        if fleet.upstreams(&downstream).contains(key) {
            let shared = own.derive(&downstream.namespace, &downstream.name)?;
            let replicas = fleet.get(&downstream).map_or(0, |instance| instance.replicas);
            sources.extend(
                (0..replicas).map(|index| source(SourceKind::Downstream, &downstream, index, &shared)),
            );
        }
    }
    Ok(sources)
}

fn source(kind: SourceKind, instance: &NamespacedName, index: u32, key: &Key) -> WantedSource {
    let server = ServerKey { instance: instance.clone(), index };
    WantedSource {
        name: format!("{kind:?}-{}-{}-{index}", instance.namespace, instance.name).to_lowercase(),
        kind,
        at: SourceAddress::Server(server),
        key: key.name().clone(),
    }
}

fn access(instance: &Instance) -> Result<Vec<AclElement>, PlanError> {
    let elements = instance.allow_query.iter().flatten().map(|text| text.parse());
    elements
        .collect::<Result<_, _>>()
        .map_err(|error: bindy_model::named_conf::AclError| PlanError::Access(error.to_string()))
}
