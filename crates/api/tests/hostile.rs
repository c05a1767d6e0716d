//! Objects that are wrong are told so in words, and what was written arrives as it was written.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::needless_pass_by_value,
    reason = "a test fails by panicking"
)]

use bindy_api::{DecodeError, FieldValue, Kind, Object, Record, RecordKind, Severity, check};
use serde_json::{Value, json};

fn manifest(kind: &str, spec: Value) -> Value {
    json!({ "apiVersion": "bindy.firestoned.io/v1beta1", "kind": kind, "metadata": { "name": "one" }, "spec": spec })
}

fn findings(kind: &str, spec: Value) -> Vec<String> {
    let found = check(Kind::from_name(kind).unwrap(), &manifest(kind, spec));
    found.into_iter().map(|one| format!("{:?} {}: {}", one.severity, one.path, one.message)).collect()
}

fn record(kind: &str, spec: Value) -> Record {
    match Object::decode(manifest(kind, spec)).unwrap() {
        Object::Record(record) => record,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_object_of_another_group_version_or_kind_is_told_apart() {
    let decode = |version: &str, kind: &str| {
        Object::decode(json!({ "apiVersion": version, "kind": kind })).unwrap_err()
    };
    assert!(matches!(decode("v1", "ConfigMap"), DecodeError::OtherGroup(_)));
    assert!(matches!(decode("bindy.firestoned.io/v1", "ARecord"), DecodeError::OtherVersion(_)));
    let unknown = decode("bindy.firestoned.io/v1beta1", "PTRRecord");
    assert_eq!(unknown.to_string(), "\"PTRRecord\" is no kind of bindy.firestoned.io/v1beta1");
    assert!(matches!(Object::decode(Value::Null).unwrap_err(), DecodeError::OtherGroup(_)));
}

#[test]
fn an_undecodable_object_says_which_kind_and_why() {
    let error = Object::decode(manifest("ARecord", json!({ "name": "www" }))).unwrap_err();
    assert_eq!(error.to_string(), "ARecord cannot be read: missing field `ipv4Addresses`");
    let error =
        Object::decode(manifest("MXRecord", json!({ "name": "@", "priority": 70000, "mailServer": "a" })));
    assert!(error.unwrap_err().to_string().contains("70000"));
}

#[test]
fn values_out_of_range_are_found_where_they_are() {
    let found = findings(
        "ARecord",
        json!({ "name": "", "ttl": 2_147_483_648_u32, "ipv4Addresses": ["192.0.2.1", "300.1.1.1"] }),
    );
    assert_eq!(
        found,
        [
            "Error spec.ipv4Addresses[1]: \"300.1.1.1\" is not an IPv4 address such as 192.0.2.1",
            "Error spec.name: must not be empty",
            "Error spec.ttl: is 2147483648, must be between 0 and 2147483647",
        ]
    );
    let found = findings(
        "SRVRecord",
        json!({ "name": "_a._tcp", "priority": -1, "weight": "5", "port": 65536, "target": "a" }),
    );
    assert_eq!(
        found,
        [
            "Error spec.port: is 65536, must be between 0 and 65535",
            "Error spec.priority: is -1, must be between 0 and 65535",
            "Error spec.weight: must be an integer, not the string \"5\"",
        ]
    );
}

#[test]
fn missing_and_misspelt_fields_are_named() {
    let found = findings("ARecord", json!({ "name": "www", "ipv4Adresses": ["192.0.2.1"] }));
    assert_eq!(
        found,
        [
            "Error spec.ipv4Addresses: is required",
            "Warning spec.ipv4Adresses: is no field of this object; did you mean \"ipv4Addresses\"?",
        ]
    );
    let unknown = findings("DNSZone", json!({ "zoneName": "example.com", "dnssecPolicy": "default" }));
    assert_eq!(unknown, ["Warning spec.dnssecPolicy: is no field of this object"]);
}

#[test]
fn a_wrong_shape_is_described() {
    assert_eq!(findings("DNSZone", json!([])), ["Error spec: must be an object, not a list"]);
    assert_eq!(findings("DNSZone", Value::Null), ["Error spec: is required"]);
    assert_eq!(
        findings("TXTRecord", json!({ "name": "a", "text": [true] })),
        ["Error spec.text[0]: must be a string, not the boolean true (quote it to make it a string)"]
    );
    assert_eq!(
        findings("Bind9Instance", json!({ "replicas": 1, "role": "master" })),
        ["Error spec.role: is \"master\", must be one of: primary, secondary"]
    );
    assert_eq!(
        findings("TXTRecord", json!({ "name": "a", "text": [] })),
        ["Error spec.text: needs at least 1 entry"]
    );
}

#[test]
fn a_name_too_long_for_an_instance_is_refused() {
    let mut long = manifest("Bind9Instance", json!({ "replicas": 1 }));
    long["metadata"]["name"] = json!("a".repeat(53));
    let found = check(Kind::Bind9Instance, &long);
    assert_eq!((found[0].severity, found[0].path.as_str()), (Severity::Error, "metadata.name"));
}

#[test]
fn unknown_fields_do_not_stop_an_object() {
    let manifest = manifest("DNSZone", json!({ "zoneName": "example.com", "clusterRef": "old" }));
    let Object::DNSZone(zone) = Object::decode(manifest).unwrap() else { panic!("not a zone") };
    assert_eq!(zone.spec.zone_name, "example.com");
    assert_eq!((zone.spec.ttl, zone.spec.paused, zone.spec.bind9_instances_from), (None, false, None));
}

#[test]
fn hostile_text_is_carried_verbatim_as_one_field() {
    let text = "a\" ; } \n$INCLUDE /etc/passwd \\";
    let record = record("TXTRecord", json!({ "name": "x\"; };", "text": [text, "second"] }));
    assert_eq!(record.owner(), "x\"; };");
    let data = record.data();
    assert_eq!(data.len(), 1, "one object is one record");
    assert_eq!(data[0][0].value, FieldValue::Text(text));
    assert_eq!(data[0][1].location(), "spec.text[1]");
}

#[test]
fn fields_of_data_come_in_wire_order() {
    let srv = record(
        "SRVRecord",
        json!({ "name": "_sip._tcp", "priority": 1, "weight": 2, "port": 3, "target": "host", "ttl": 60, "zoneRef": "z" }),
    );
    let values: Vec<_> = srv.data()[0].iter().map(|field| field.value).collect();
    assert_eq!(
        values,
        [FieldValue::U16(1), FieldValue::U16(2), FieldValue::U16(3), FieldValue::Name("host")]
    );
    assert_eq!((srv.kind(), srv.ttl(), srv.zone_ref()), (RecordKind::Srv, Some(60), Some("z")));
    let caa = record("CAARecord", json!({ "name": "@", "flags": 128, "tag": "issue", "value": ";" }));
    let values: Vec<_> = caa.data()[0].iter().map(|field| field.value).collect();
    assert_eq!(values, [FieldValue::U8(128), FieldValue::CharacterString("issue"), FieldValue::Rest(";")]);
    let a = record("ARecord", json!({ "name": "www", "ipv4Addresses": ["192.0.2.1", "192.0.2.2"] }));
    assert_eq!(a.data().len(), 2, "each address is a record");
    assert_eq!(a.data()[1][0].location(), "spec.ipv4Addresses[1]");
}
