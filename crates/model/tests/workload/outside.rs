//! Servers outside of Bindy: those that follow an instance, and those that it pulls zones from.

use std::collections::BTreeSet;

use bindy_model::OutsideUpstream;
use bindy_model::workload::{Desired, ObjectKind};
use bindy_zone::Name;
use serde_json::{Value, json};

use crate::{SECRET, objects, pod, the};

fn named<'a>(objects: &'a [Desired], kind: ObjectKind, name: &str) -> &'a Value {
    &objects.iter().find(|object| object.kind == kind && object.name == name).unwrap().body
}

fn agent(objects: &[Desired]) -> Value {
    let text = named(objects, ObjectKind::ConfigMap, "primary-dns-config")["data"]["agent.json"].clone();
    serde_json::from_str(text.as_str().unwrap()).unwrap()
}

/// The ports that everybody may reach.
fn open(objects: &[Desired]) -> Vec<Value> {
    let rules = the(objects, ObjectKind::NetworkPolicy)["spec"]["ingress"].as_array().unwrap().clone();
    let everywhere = rules.into_iter().filter(|rule| rule.get("from").is_none());
    everywhere.flat_map(|rule| rule["ports"].as_array().unwrap().clone()).collect()
}

fn port(protocol: &str, port: u16) -> Value {
    json!({ "protocol": protocol, "port": port })
}

#[test]
fn a_downstream_outside_gets_a_secret_and_a_way_in_and_nobody_else_does() {
    let with = objects(|instance| instance.downstreams = BTreeSet::from(["vm".to_owned()]));
    let without = objects(|_| ());
    let secret = named(&with, ObjectKind::Secret, "primary-dns-downstream-vm");
    assert!(secret["stringData"]["named.conf"].as_str().unwrap().contains(SECRET));
    for (kind, name) in
        [(ObjectKind::ConfigMap, "primary-dns-config"), (ObjectKind::ServiceAccount, "primary-dns")]
    {
        let note = &named(&with, kind, name)["metadata"]["annotations"]["bindy.firestoned.io/downstream-vm"];
        assert_eq!(note, "print-vm", "{kind}");
    }
    assert_eq!(agent(&with)["downstreams"], json!(["_m", "vm"]));
    assert_eq!(agent(&without)["downstreams"], json!(["_m"]), "by which it shows what it signs with");
    let dns = vec![port("UDP", 53), port("TCP", 53)];
    assert_eq!(open(&without), dns);
    assert_eq!(open(&with), [dns, vec![port("TCP", 5353), port("UDP", 5353)]].concat());
    let ports = |objects: &[Desired]| {
        let service = named(objects, ObjectKind::Service, "primary-dns-transfer");
        service["spec"]["ports"].as_array().unwrap().len()
    };
    assert_eq!((ports(&without), ports(&with)), (1, 2), "a plain BIND asks for serials by UDP");
    assert_eq!(pod(&with), pod(&without), "no pod is replaced");
}

#[test]
fn servers_pull_zones_from_outside_with_the_key_of_a_secret_that_nobody_else_reads() {
    let zone = Name::parse("hq.example").unwrap();
    let hq = OutsideUpstream {
        name: "hq".to_owned(),
        address: "192.0.2.53:5353".parse().unwrap(),
        key: Name::parse("hq-transfer").unwrap(),
        secret: "hq-key".to_owned(),
        zones: BTreeSet::from([zone]),
    };
    let with = objects(|instance| instance.outside = vec![hq]);
    let config = agent(&with);
    let source = json!({
        "name": "outside-hq", "kind": "outside", "address": "192.0.2.53:5353", "key": "hq-transfer.",
        "zones": ["hq.example."],
    });
    assert_eq!(config["sources"][0], source);
    assert_eq!(config["sources"][1].get("zones"), None, "an older agent does not know the field");
    assert_eq!(config["keys"][1], "/etc/bindy-keys/outside-hq");
    let volumes = pod(&with)["volumes"].as_array().unwrap();
    let keys = volumes.iter().find(|volume| volume["name"] == "keys").unwrap();
    let projected = json!({
        "secret": { "name": "hq-key", "items": [{ "key": "key", "path": "outside-hq" }], "optional": true },
    });
    assert_eq!(keys["projected"]["sources"][1], projected);
    let egress = the(&with, ObjectKind::NetworkPolicy)["spec"]["egress"].as_array().unwrap().clone();
    let to_hq = egress.iter().find(|rule| rule["to"][0]["ipBlock"]["cidr"] == "192.0.2.53/32").unwrap();
    assert_eq!(to_hq["ports"], json!([port("TCP", 5353), port("UDP", 5353)]));
    assert_eq!(open(&with).len(), 4, "its NOTIFY may come from anywhere, and is signed");
}
