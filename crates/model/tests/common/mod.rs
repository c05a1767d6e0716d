//! Objects of tests, and random changes of them.

pub mod server;

use bindy_api::RecordKind;
use bindy_model::{
    ConfigMap, Instance, Metadata, NameServer, NamespacedName, Object, Record, RecordData, Role, SoaFields,
    Zone, ZoneFileRef,
};

pub fn key(name: &str) -> NamespacedName {
    NamespacedName::new("default", name)
}

pub fn metadata(name: &str, created: u32) -> Metadata {
    Metadata {
        key: key(name),
        uid: format!("uid-{name}"),
        created,
        generation: 1,
        labels: Default::default(),
        release: None,
    }
}

pub fn instance(name: &str, role: Role, upstreams: &[&str]) -> Object {
    Object::Instance(Box::new(Instance {
        metadata: metadata(name, 1),
        replicas: 2,
        role,
        upstreams: upstreams.iter().map(|name| (*name).to_owned()).collect(),
        outside: Vec::new(),
        downstreams: Default::default(),
        config: Default::default(),
        pods: Default::default(),
        paused: false,
    }))
}

pub fn zone_spec(name: &str, zone_name: &str, created: u32) -> Zone {
    Zone {
        metadata: metadata(name, created),
        zone_name: zone_name.to_owned(),
        soa: SoaFields::default(),
        ttl: None,
        name_servers: vec![NameServer { hostname: "ns1.example.net.".to_owned(), addresses: Vec::new() }],
        records_from: Vec::new(),
        instances_from: None,
        zone_files: Vec::new(),
        paused: false,
    }
}

pub fn zone(name: &str, zone_name: &str, created: u32) -> Object {
    Object::Zone(Box::new(zone_spec(name, zone_name, created)))
}

pub fn zone_with_file(name: &str, zone_name: &str) -> Object {
    let mut spec = zone_spec(name, zone_name, 1);
    spec.zone_files = vec![ZoneFileRef { config_map: "files".to_owned(), key: "zone".to_owned() }];
    Object::Zone(Box::new(spec))
}

pub fn file(text: &str) -> Object {
    Object::ConfigMap(ConfigMap {
        metadata: metadata("files", 1),
        data: [("zone".to_owned(), text.to_owned())].into(),
    })
}

/// A record object through the same decoding as one from a manifest.
pub fn record(kind: RecordKind, object: &str, owner: &str, created: u32, spec: serde_json::Value) -> Object {
    let mut spec = spec;
    spec["name"] = owner.into();
    if spec.get("zoneRef").is_none() {
        spec["zoneRef"] = "zone".into();
    }
    let manifest = serde_json::json!({
        "apiVersion": bindy_api::API_VERSION, "kind": kind.row().name,
        "metadata": { "name": object, "namespace": "default" }, "spec": spec,
    });
    let decoded = bindy_api::Object::decode(manifest).unwrap();
    let Object::Record(record) = bindy_model::decode(&decoded).unwrap() else { panic!("not a record") };
    let Record { zone_ref, name, ttl, data, .. } = record;
    let data: RecordData = data;
    Object::Record(Record { metadata: metadata(object, created), zone_ref, name, ttl, data })
}

pub fn a(object: &str, owner: &str, last: u8) -> Object {
    record(
        RecordKind::A,
        object,
        owner,
        1,
        serde_json::json!({ "ipv4Addresses": [format!("192.0.2.{last}")] }),
    )
}

/// An object as it is in another namespace.
pub fn elsewhere(object: Object) -> Object {
    let namespace = |metadata: &mut Metadata| {
        metadata.key.namespace = "elsewhere".to_owned();
        metadata.uid.push_str("-elsewhere");
    };
    match object {
        Object::Instance(mut instance) => {
            namespace(&mut instance.metadata);
            Object::Instance(instance)
        }
        Object::Zone(mut zone) => {
            namespace(&mut zone.metadata);
            Object::Zone(zone)
        }
        other => other,
    }
}
