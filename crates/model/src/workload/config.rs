//! ConfigMap and Secret: what the two containers read.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use bindy_zone::{Catalog, Name};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::containers::{
    AGENT_CONFIG, CONFIG_DIRECTORY, CONTROL_PORT, DATA_DIRECTORY, KEY_DIRECTORY, LISTEN_FILE, LOCAL_KEY_FILE,
    NAMED_CONFIG, OWN_KEYS, RELAY_PORT,
};
use super::{
    DNS_PORT, HANDOUT_ANNOTATION, HTTP_PORT, Handout, Inputs, KEYS_ANNOTATION, KeyFile, PlanError,
    TRANSFER_PORT,
};
use crate::agent_conf::{AgentConfig, NamedConfig, SourceConfig};
use crate::links::{Link, Origin};
use crate::named_conf::{AclElement, LOCAL_KEY, Listen, NamedSettings, Paths, Text, Wishes, instance_config};
use crate::object::{Instance, OutsideUpstream};

/// How long a server whose node answers clients from outside by itself stays ready when it is about to be stopped: health
/// checks of load balancers take about ten seconds to fail.
const READY_WHILE_STOPPING_SECONDS: u64 = 15;

/// The configuration of the pods; `None` while the hidden primary's address is not known.
pub(super) fn config_map(metadata: ObjectMeta, inputs: &Inputs<'_>) -> Result<Option<ConfigMap>, PlanError> {
    let Some(operator) = inputs.cluster.operator else { return Ok(None) };
    let data = BTreeMap::from([
        (NAMED_CONFIG.to_owned(), named(inputs)?),
        (AGENT_CONFIG.to_owned(), agent(inputs, operator)?),
    ]);
    let metadata = with_fingerprints(metadata, inputs);
    Ok(Some(ConfigMap { metadata, data: Some(data), ..ConfigMap::default() }))
}

/// Notes which keys the Secrets have. Two objects say it, so that the deletion of one does not make ours look like a
/// stranger's.
pub(super) fn with_fingerprints(mut metadata: ObjectMeta, inputs: &Inputs<'_>) -> ObjectMeta {
    let annotations = metadata.annotations.get_or_insert_default();
    annotations.insert(KEYS_ANNOTATION.to_owned(), inputs.keys.fingerprint.clone());
    for Handout { downstream, files: _, fingerprint } in inputs.handouts {
        annotations.insert(format!("{HANDOUT_ANNOTATION}{downstream}"), fingerprint.clone());
    }
    metadata
}

/// What a downstream outside is given.
pub(super) fn handout(metadata: ObjectMeta, handout: &Handout) -> Secret {
    let data = handout.files.clone();
    Secret { metadata, string_data: Some(data), type_: Some("Opaque".to_owned()), ..Secret::default() }
}

/// The keys of the pods.
pub(super) fn secret(metadata: ObjectMeta, keys: &KeyFile) -> Secret {
    let data = BTreeMap::from([("key".to_owned(), keys.text.clone())]);
    Secret { metadata, string_data: Some(data), type_: Some("Opaque".to_owned()), ..Secret::default() }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

fn path(directory: &str, file: &str) -> String {
    format!("{directory}/{file}")
}

fn named(inputs: &Inputs<'_>) -> Result<String, PlanError> {
    let key = &inputs.instance.metadata.key;
    let wishes = inputs.instance.config.clone();
    Ok(instance_config(&NamedSettings {
        paths: Paths {
            directory: Text::new(DATA_DIRECTORY)?,
            pid_file: Text::new(path(DATA_DIRECTORY, "named.pid"))?,
            key_file: Text::new(LOCAL_KEY_FILE)?,
        },
        listen: Listen::Included(Text::new(LISTEN_FILE)?),
        control: loopback(CONTROL_PORT),
        relay: loopback(RELAY_PORT),
        catalog: Catalog::name(&key.namespace, &key.name)?,
        local_key: Name::parse(LOCAL_KEY)?,
        wishes: Wishes { allow_query: with_probes(wishes.allow_query), ..wishes },
        // Not every image's BIND is built with LMDB.
        lmdb_mapsize_mib: None,
        // A host is a pod here.
        server_id: None,
    }))
}

/// Lets the probes ask, which come from within the pod; otherwise each would be logged as denied.
fn with_probes(access: Vec<AclElement>) -> Vec<AclElement> {
    if access.is_empty() {
        return access;
    }
    let within = [
        AclElement::Network(Ipv4Addr::LOCALHOST.into(), 32),
        AclElement::Network(Ipv6Addr::LOCALHOST.into(), 128),
    ];
    within.into_iter().chain(access).collect()
}

fn agent(inputs: &Inputs<'_>, operator: SocketAddr) -> Result<String, PlanError> {
    let key = &inputs.instance.metadata.key;
    // Everywhere. It is written in the family that the cluster uses first, as agents that run were told at their start: they
    // take in nothing of a file with another one.
    let any: IpAddr =
        if operator.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    let downstreams = inputs.handouts.iter().map(|handout| &handout.downstream).chain([&inputs.keys.mark]);
    let config = AgentConfig {
        instance: key.to_string(),
        catalog: Catalog::name(&key.namespace, &key.name)?,
        relay: loopback(RELAY_PORT),
        transfer: SocketAddr::from((any, TRANSFER_PORT)),
        http: SocketAddr::from((any, HTTP_PORT)),
        named: NamedConfig {
            dns: loopback(DNS_PORT),
            control: loopback(CONTROL_PORT),
            key_file: LOCAL_KEY_FILE.into(),
            config_file: path(CONFIG_DIRECTORY, NAMED_CONFIG).into(),
        },
        keys: key_files(inputs.instance),
        downstreams: downstreams.cloned().collect(),
        ready_while_stopping_seconds: ready_while_stopping(inputs.instance),
        in_turn: true,
        sources: inputs.links.iter().filter_map(|(link, key)| source(inputs, operator, link, key)).collect(),
    };
    // Neither maps nor floating point: it cannot fail.
    Ok(serde_json::to_string_pretty(&config).unwrap_or_default() + "\n")
}

/// With `externalTrafficPolicy: Local` a node drops questions from outside as soon as its only server is not ready, and load balancers
/// and routers bring them there until their health checks have failed. (Those fail when the server is about to be stopped, whether
/// or not it is ready: <https://kep.k8s.io/1669>.)
fn ready_while_stopping(instance: &Instance) -> u64 {
    if instance.pods.service.external_traffic_policy.as_deref() == Some("Local") {
        READY_WHILE_STOPPING_SECONDS
    } else {
        0
    }
}

/// The Service at the other end; `None` while it has no address.
fn source(inputs: &Inputs<'_>, operator: SocketAddr, link: &Link, key: &Name) -> Option<SourceConfig> {
    let (name, address) = match &link.origin {
        Origin::Operator => ("hidden-primary".to_owned(), operator),
        Origin::Outside(upstream) => (upstream.source_name(), upstream.address),
        Origin::Instance(other) => {
            let address = inputs.cluster.transfer.get(other)?;
            let name = format!("{:?}-{}-{}", link.kind, other.namespace, other.name).to_lowercase();
            (name, SocketAddr::from((*address, TRANSFER_PORT)))
        }
    };
    Some(SourceConfig { name, kind: link.kind, address, key: key.clone(), zones: link.zones() })
}

/// The instance's own keys, and one file for each server outside that it pulls from.
fn key_files(instance: &Instance) -> Vec<PathBuf> {
    let outside = instance.outside.iter().map(OutsideUpstream::source_name);
    let names = std::iter::once(OWN_KEYS.to_owned()).chain(outside);
    names.map(|name| path(KEY_DIRECTORY, &name).into()).collect()
}
