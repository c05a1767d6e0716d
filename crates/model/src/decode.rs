//! From API objects to the types of the world. What the schema would have refused is answered here all the same: the
//! embedded mode has no API server, and an older schema may have let it in.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use bindy_api as api;
use bindy_zone::Name;
use k8s_openapi::api::core::v1::ConfigMap as ApiConfigMap;

use crate::named_conf::Wishes;
use crate::object::{
    ConfigMap, Instance, Metadata, NameServer, NamespacedName, Object, OutsideUpstream, PodSettings, Record,
    Requirement, Role, Selector, SoaFields, Zone, ZoneFileRef,
};
use crate::record_data::RecordData;
use crate::verdict::ZoneProblem;
use crate::workload::DNS_PORT;
use crate::zone_state::parse_apex;

/// Converts an object; the error says what about it cannot be read.
pub fn decode(object: &api::Object) -> Result<Object, String> {
    let metadata = metadata(object.meta())?;
    match object {
        api::Object::Bind9Instance(object) => {
            let api::Bind9InstanceSpec {
                replicas,
                role: _,
                upstreams,
                downstreams,
                config,
                version,
                image,
                image_pull_secrets,
                resources,
                placement,
                service,
                storage,
                disruption_budget,
                paused,
            } = &object.spec;
            let instance = |upstream: &&api::Upstream| **upstream == api::Upstream::instance(&upstream.name);
            let (upstreams, outside): (Vec<_>, Vec<_>) = upstreams.iter().partition(instance);
            Ok(Object::Instance(Box::new(Instance {
                metadata,
                replicas: *replicas,
                role: match object.role()? {
                    api::Role::Primary => Role::Primary,
                    api::Role::Secondary => Role::Secondary,
                },
                upstreams: upstreams.iter().map(|upstream| upstream.name.clone()).collect(),
                outside: outside_upstreams(&outside)?,
                downstreams: downstream_names(downstreams)?,
                config: config
                    .as_ref()
                    .map(Wishes::new)
                    .transpose()
                    .map_err(|error| error.to_string())?
                    .unwrap_or_default(),
                pods: PodSettings {
                    version: version.clone(),
                    image: image.clone(),
                    image_pull_secrets: image_pull_secrets.clone(),
                    resources: resources.clone().unwrap_or_default(),
                    placement: placement.clone().unwrap_or_default(),
                    service: service.clone().unwrap_or_default(),
                    storage: storage.clone(),
                    disruption_budget: disruption_budget.clone().unwrap_or_default(),
                },
                paused: *paused,
            })))
        }
        api::Object::DNSZone(object) => Ok(Object::Zone(Box::new(zone(metadata, &object.spec)?))),
        api::Object::Record(record) => Ok(Object::Record(Record {
            metadata,
            zone_ref: record.zone_ref().map(str::to_owned),
            name: record.owner().to_owned(),
            ttl: record.ttl(),
            data: RecordData::pack(record.kind(), &record.data()),
        })),
    }
}

/// The servers outside of Bindy among an instance's upstreams.
fn outside_upstreams(upstreams: &[&api::Upstream]) -> Result<Vec<OutsideUpstream>, String> {
    let mut names = BTreeSet::new();
    let mut all: Vec<OutsideUpstream> = Vec::new();
    for upstream in upstreams {
        let api::Upstream { name, address, port, key_name, key_secret, zones } = upstream;
        let wrong = |what: &str| format!("spec.upstreams: {name:?} {what}");
        let (Some(address), Some(key), Some(secret), Some(zones)) = (address, key_name, key_secret, zones)
        else {
            return Err(wrong(
                "needs address, keyName, keySecret and zones as a server outside of Bindy, and a name only as an instance of this namespace",
            ));
        };
        if !names.insert(name) {
            return Err(wrong("is there twice"));
        }
        let address: IpAddr =
            address.parse().map_err(|_| wrong(&format!("has no IP address: {address:?}")))?;
        let key = Name::parse(key).map_err(|error| wrong(&format!("has no key name: {error}")))?;
        let zone = |text: &String| match parse_apex(text) {
            Err(ZoneProblem::Catalog(_)) => {
                Err(wrong(&format!("lists {text:?}, a catalog: list the zones themselves")))
            }
            apex => apex.map_err(|problem| wrong(&format!("lists {text:?} among its zones: {problem}"))),
        };
        let zones = zones.iter().map(zone).collect::<Result<BTreeSet<_>, _>>()?;
        if zones.is_empty() {
            return Err(wrong("lists no zones"));
        }
        // A key is known by its name to the servers.
        if all.iter().any(|other| other.key == key && other.secret != *secret) {
            return Err(wrong(
                "and another upstream have keys of the same name in different Secrets: rename one",
            ));
        }
        let address = SocketAddr::new(address, port.unwrap_or(DNS_PORT));
        all.push(OutsideUpstream { name: name.clone(), address, key, secret: secret.clone(), zones });
    }
    Ok(all)
}

/// Each name becomes a label of a key's name and part of the name of a Secret.
fn downstream_names(downstreams: &[api::Downstream]) -> Result<BTreeSet<String>, String> {
    let mut names = BTreeSet::new();
    for api::Downstream { name } in downstreams {
        let plain = |octet: u8| octet.is_ascii_lowercase() || octet.is_ascii_digit() || octet == b'-';
        if name.is_empty() || name.len() > 40 || !name.bytes().all(plain) {
            return Err(format!(
                "spec.downstreams: {name:?} is no name of up to 40 letters a-z, digits and '-'"
            ));
        }
        if !names.insert(name.clone()) {
            return Err(format!("spec.downstreams: {name:?} is there twice"));
        }
    }
    Ok(names)
}

/// Converts a ConfigMap; the error says what about it cannot be read.
pub fn decode_config_map(map: &ApiConfigMap) -> Result<Object, String> {
    let data = map.data.clone().unwrap_or_default();
    Ok(Object::ConfigMap(ConfigMap { metadata: metadata(&map.metadata)?, data }))
}

fn metadata(meta: &api::ObjectMeta) -> Result<Metadata, String> {
    let name = meta.name.clone().ok_or("metadata.name is missing")?;
    let namespace = meta.namespace.clone().ok_or("metadata.namespace is missing")?;
    let created = meta.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second());
    let annotations = meta.annotations.as_ref();
    Ok(Metadata {
        key: NamespacedName { namespace, name },
        uid: meta.uid.clone().unwrap_or_default(),
        created: u32::try_from(created).unwrap_or(0),
        generation: u32::try_from(meta.generation.unwrap_or(0)).unwrap_or(0),
        labels: meta.labels.clone().unwrap_or_default(),
        release: annotations.and_then(|annotations| annotations.get(api::RELEASE_ANNOTATION)).cloned(),
    })
}

fn zone(metadata: Metadata, spec: &api::DNSZoneSpec) -> Result<Zone, String> {
    let api::DNSZoneSpec {
        zone_name,
        soa_record,
        ttl,
        name_servers,
        records_from,
        bind9_instances_from,
        zone_files_from,
        paused,
    } = spec;
    let servers = name_servers.iter().flatten().map(name_server).collect::<Result<_, String>>()?;
    let files = zone_files_from.iter().map(|source| ZoneFileRef {
        config_map: source.config_map.name.clone(),
        key: source.config_map.key.clone(),
    });
    Ok(Zone {
        metadata,
        zone_name: zone_name.clone(),
        soa: soa_record.as_ref().map(soa_fields).unwrap_or_default(),
        ttl: *ttl,
        name_servers: servers,
        records_from: selectors(records_from),
        instances_from: bind9_instances_from.as_deref().map(selectors),
        zone_files: files.collect(),
        paused: *paused,
    })
}

fn soa_fields(soa: &api::SoaRecord) -> SoaFields {
    let api::SoaRecord { primary_ns, admin_email, serial, refresh, retry, expire, negative_ttl } = soa;
    SoaFields {
        primary: primary_ns.clone(),
        mailbox: admin_email.clone(),
        refresh: *refresh,
        retry: *retry,
        expire: *expire,
        negative_ttl: *negative_ttl,
        serial_floor: *serial,
    }
}

fn name_server(server: &api::NameServer) -> Result<NameServer, String> {
    let api::NameServer { hostname, ipv4_address, ipv6_address } = server;
    let v4 = ipv4_address.as_ref().map(|text| address(text, "spec.nameServers.ipv4Address", IpAddr::is_ipv4));
    let v6 = ipv6_address.as_ref().map(|text| address(text, "spec.nameServers.ipv6Address", IpAddr::is_ipv6));
    let addresses = v4.into_iter().chain(v6).collect::<Result<_, String>>()?;
    Ok(NameServer { hostname: hostname.clone(), addresses })
}

fn address(text: &str, field: &str, right: fn(&IpAddr) -> bool) -> Result<IpAddr, String> {
    let address: Option<IpAddr> = text.parse().ok();
    address.filter(right).ok_or_else(|| format!("{field}: {text:?} is no address of this kind"))
}

fn selectors(sources: &[api::SelectorSource]) -> Vec<Selector> {
    sources.iter().map(|source| selector(&source.selector)).collect()
}

fn selector(selector: &api::LabelSelector) -> Selector {
    let expressions = selector.match_expressions.iter().flatten().map(|requirement| {
        let (key, values) = (requirement.key.clone(), requirement.values.clone().unwrap_or_default());
        match requirement.operator {
            api::Operator::In => Requirement::In(key, values),
            api::Operator::NotIn => Requirement::NotIn(key, values),
            api::Operator::Exists => Requirement::Exists(key),
            api::Operator::DoesNotExist => Requirement::DoesNotExist(key),
        }
    });
    let labels: BTreeMap<String, String> = selector.match_labels.clone().unwrap_or_default();
    Selector { labels, expressions: expressions.collect() }
}
