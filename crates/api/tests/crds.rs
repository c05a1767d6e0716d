//! The CRDs have what users are promised, and only what API servers accept.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use bindy_api::{RECORD_KINDS, crds, crds_yaml, generate};
use serde_json::Value;

fn all() -> BTreeMap<String, Value> {
    let named = |crd: Value| (crd["spec"]["names"]["kind"].as_str().unwrap().to_owned(), crd);
    crds().unwrap().iter().map(|crd| named(serde_json::to_value(crd).unwrap())).collect()
}

fn version(crd: &Value) -> &Value {
    &crd["spec"]["versions"][0]
}

fn schema(crd: &Value) -> &Value {
    &version(crd)["schema"]["openAPIV3Schema"]
}

fn columns(crd: &Value) -> Vec<&str> {
    let columns = version(crd)["additionalPrinterColumns"].as_array().unwrap();
    columns.iter().filter(|one| one["priority"].is_null()).map(|one| one["name"].as_str().unwrap()).collect()
}

/// Calls `visit` on every schema, with its path.
fn walk(path: &str, schema: &Value, visit: &mut impl FnMut(&str, &Value)) {
    visit(path, schema);
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        walk(&format!("{path}.{name}"), field, visit);
    }
    if schema["items"].is_object() {
        walk(&format!("{path}[]"), &schema["items"], visit);
    }
}

#[test]
fn kinds_have_the_names_of_the_contract() {
    let names: BTreeMap<String, (String, Vec<String>)> = all()
        .into_iter()
        .map(|(kind, crd)| {
            let names = &crd["spec"]["names"];
            let short =
                names["shortNames"].as_array().unwrap().iter().map(|one| one.as_str().unwrap().to_owned());
            (kind, (names["plural"].as_str().unwrap().to_owned(), short.collect()))
        })
        .collect();
    let expected = [
        ("AAAARecord", "aaaarecords", vec!["aaaa"]),
        ("ARecord", "arecords", vec!["a"]),
        ("Bind9Instance", "bind9instances", vec!["b9", "b9s"]),
        ("CAARecord", "caarecords", vec!["caa"]),
        ("CNAMERecord", "cnamerecords", vec!["cname"]),
        ("DNSZone", "dnszones", vec!["zone", "zones", "dz"]),
        ("MXRecord", "mxrecords", vec!["mx"]),
        ("NSRecord", "nsrecords", vec!["nsr"]),
        ("SRVRecord", "srvrecords", vec!["srv"]),
        ("TXTRecord", "txtrecords", vec!["txt"]),
    ];
    let found: Vec<_> = names
        .iter()
        .map(|(kind, (plural, short))| {
            (kind.as_str(), plural.as_str(), short.iter().map(String::as_str).collect())
        })
        .collect();
    assert_eq!(found, expected);
    for crd in all().values() {
        assert_eq!(crd["spec"]["group"], "bindy.firestoned.io");
        assert_eq!(crd["spec"]["scope"], "Namespaced");
        assert_eq!(version(crd)["name"], "v1beta1");
        assert!(version(crd)["subresources"]["status"].is_object());
    }
}

#[test]
fn columns_show_what_matters() {
    let all = all();
    assert_eq!(columns(&all["Bind9Instance"]), ["Role", "Ready", "Zones", "Address", "Version", "Age"]);
    assert_eq!(columns(&all["DNSZone"]), ["Zone", "Serial", "Records", "Servers", "Ready", "Age"]);
    assert_eq!(columns(&all["ARecord"]), ["Name", "Zone", "Addresses", "TTL", "Ready", "Age"]);
    assert_eq!(
        columns(&all["SRVRecord"]),
        ["Name", "Zone", "Priority", "Weight", "Port", "Target", "TTL", "Ready", "Age"]
    );
    for row in RECORD_KINDS {
        let columns = columns(&all[row.name]);
        assert_eq!(columns[..2], ["Name", "Zone"], "{}", row.name);
        assert_eq!(columns[columns.len() - 3..], ["TTL", "Ready", "Age"], "{}", row.name);
    }
}

#[test]
fn columns_point_at_fields_that_exist() {
    for (kind, crd) in all() {
        for column in version(&crd)["additionalPrinterColumns"].as_array().unwrap() {
            let path = column["jsonPath"].as_str().unwrap();
            if path.contains("conditions[?(@.type==") || path == ".metadata.creationTimestamp" {
                continue;
            }
            let mut field = schema(&crd);
            for name in path.trim_start_matches('.').split('.') {
                field = &field["properties"][name];
            }
            assert!(field.is_object(), "{kind}: the column {path} shows nothing");
        }
    }
}

#[test]
fn instances_scale() {
    let instance = &all()["Bind9Instance"];
    let scale = &version(instance)["subresources"]["scale"];
    assert_eq!(scale["specReplicasPath"], ".spec.replicas");
    assert_eq!(scale["statusReplicasPath"], ".status.replicas");
    assert_eq!(scale["labelSelectorPath"], ".status.selector");
    assert_eq!(schema(instance)["properties"]["metadata"]["properties"]["name"]["maxLength"], 52);
}

#[test]
fn schemas_are_structural_and_documented_and_bounded() {
    for (kind, crd) in all() {
        walk(&kind, schema(&crd), &mut |path, field| {
            let format = field["format"].as_str().unwrap_or_default();
            assert!(!format.starts_with("uint"), "{path}: API servers do not know {format}");
            assert!(field["nullable"].is_null() && field["title"].is_null(), "{path}");
            assert!(
                field["anyOf"].is_null() && field["oneOf"].is_null() && field["$ref"].is_null(),
                "{path}"
            );
            let typed = field["type"].is_string() || field["x-kubernetes-int-or-string"] == true;
            assert!(typed, "{path} has no type");
            let described =
                path.ends_with("[]") || path.contains(".metadata") || field["description"].is_string();
            assert!(described, "{path} has no description");
            if path.contains(".spec") && field["type"] == "integer" {
                assert!(field["minimum"].is_number() && field["maximum"].is_number(), "{path} has no range");
            }
            if path.contains(".spec") && field["type"] == "string" {
                let bounded = field["maxLength"].is_number() || field["enum"].is_array();
                assert!(bounded, "{path} has no length limit");
            }
            if path.contains(".spec") && field["type"] == "array" {
                assert!(field["maxItems"].is_number(), "{path} has no limit of entries");
            }
            for rule in field["x-kubernetes-validations"].as_array().into_iter().flatten() {
                assert!(rule["message"].as_str().is_some_and(|message| message.len() > 20), "{path}: {rule}");
            }
        });
    }
}

#[test]
fn a_field_is_explained_by_its_own_words() {
    let all = all();
    let role = &schema(&all["Bind9Instance"])["properties"]["spec"]["properties"]["role"];
    assert!(role["description"].as_str().unwrap().contains("Overrides the label `dns-role`"), "{role}");
    let operator = schema(&all["DNSZone"])
        .pointer("/properties/spec/properties/recordsFrom/items/properties/selector/properties/matchExpressions/items")
        .unwrap();
    assert!(operator["properties"]["operator"]["description"].as_str().unwrap().starts_with("How the label"));
}

#[test]
fn names_and_addresses_are_checked_by_rules() {
    let all = all();
    let rules = |kind: &str, pointer: &str| -> usize {
        schema(&all[kind]).pointer(pointer).unwrap()["x-kubernetes-validations"]
            .as_array()
            .map_or(0, Vec::len)
    };
    for row in RECORD_KINDS {
        assert_eq!(rules(row.name, "/properties/spec/properties/name"), 5, "{}", row.name);
    }
    assert_eq!(rules("ARecord", "/properties/spec/properties/ipv4Addresses/items"), 1);
    assert_eq!(rules("AAAARecord", "/properties/spec/properties/ipv6Addresses/items"), 1);
    assert_eq!(rules("CNAMERecord", "/properties/spec"), 1);
    assert_eq!(rules("CNAMERecord", "/properties/spec/properties/target"), 4);
    assert_eq!(rules("CAARecord", "/properties/spec/properties/tag"), 1);
    for list in ["allowQuery", "allowTransfer"] {
        let items = format!("/properties/spec/properties/config/properties/{list}/items");
        assert_eq!(rules("Bind9Instance", &items), 2, "{list}");
    }
    assert_eq!(rules("DNSZone", "/properties/spec/properties/zoneName"), 4);
    assert_eq!(rules("Bind9Instance", ""), 2);
    assert_eq!(rules("Bind9Instance", "/properties/spec"), 1);
}

#[test]
fn the_yaml_is_one_document_a_kind_and_reads_back_the_same() {
    let text = crds_yaml().unwrap();
    let read: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
    let read: BTreeMap<String, Value> = read
        .into_iter()
        .map(|one| (one["spec"]["names"]["kind"].as_str().unwrap().to_owned(), one))
        .collect();
    let same = |one: &Value| one.to_string().replace(".0,", ",").replace(".0}", "}");
    for (kind, crd) in all() {
        assert_eq!(same(&read[&kind]), same(&crd), "{kind}");
    }
    assert_eq!(text, crds_yaml().unwrap(), "the same every time");
}

#[test]
fn the_generated_files_are_up_to_date() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for (path, text) in generate().unwrap() {
        let found = std::fs::read_to_string(root.join(&path)).unwrap_or_default();
        assert!(found == text, "{} is stale: run `cargo xtask generate`", path.display());
    }
}

#[test]
fn the_reference_names_every_field_and_reason() {
    let files = generate().unwrap();
    let page = files.iter().find(|(path, _)| path.ends_with("reference.md")).unwrap().1;
    for expected in
        ["## Bind9Instance", "`spec.zoneFilesFrom[].configMap.key`", "| `TtlMismatch` |", "`spec.mailServer`"]
    {
        assert!(page.contains(expected), "{expected}");
    }
}
