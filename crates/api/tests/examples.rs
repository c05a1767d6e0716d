//! What users are given to start from is valid, and the page on high availability works as it is written.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use bindy_api::{Bind9Instance, DecodeError, Kind, Object, RECORD_KINDS, Role, check};
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn documents(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    serde_saphyr::from_multiple(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn manifests() -> Vec<(PathBuf, Value)> {
    let mut found = Vec::new();
    for directory in ["examples", "crates/api/tests/ha-page"] {
        for entry in fs::read_dir(root().join(directory)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "yaml") {
                found.extend(documents(&path).into_iter().map(|document| (path.clone(), document)));
            }
        }
    }
    found
}

#[test]
fn every_example_is_read_without_a_finding() {
    let mut kinds = Vec::new();
    for (path, manifest) in manifests() {
        match Object::decode(manifest.clone()) {
            Ok(object) => {
                assert_eq!(check(object.kind(), &manifest), [], "{}", path.display());
                kinds.push(object.kind());
            }
            Err(DecodeError::OtherGroup(version)) => {
                assert_eq!((version.as_str(), &manifest["kind"]), ("v1", &"ConfigMap".into()));
            }
            Err(error) => panic!("{}: {error}", path.display()),
        }
    }
    for row in RECORD_KINDS {
        assert!(kinds.contains(&Kind::Record(row.kind)), "no example of {}", row.name);
    }
}

#[test]
fn every_reference_of_an_example_leads_somewhere() {
    let manifests = manifests();
    let has = |kind: &str, name: &str| {
        manifests.iter().any(|(_, one)| one["kind"] == kind && one["metadata"]["name"] == name)
    };
    for (path, manifest) in &manifests {
        if let Some(zone) = manifest["spec"]["zoneRef"].as_str() {
            assert!(has("DNSZone", zone), "{}: no DNSZone {zone}", path.display());
        }
        for source in manifest["spec"]["zoneFilesFrom"].as_array().into_iter().flatten() {
            assert!(has("ConfigMap", source["configMap"]["name"].as_str().unwrap()));
        }
    }
}

#[test]
fn the_instances_of_the_ha_page_get_role_and_region_from_their_labels() {
    let instance = |file: &str| -> Vec<Bind9Instance> {
        let documents = documents(&root().join("crates/api/tests/ha-page").join(file));
        documents.into_iter().map(|document| serde_json::from_value(document).unwrap()).collect()
    };
    let replicas = instance("replicas.yaml");
    assert_eq!((replicas[0].role(), replicas[0].spec.replicas), (Ok(Role::Primary), 3));
    let roles: Vec<_> = instance("primary-secondary.yaml").iter().map(Bind9Instance::role).collect();
    assert_eq!(roles, [Ok(Role::Primary), Ok(Role::Secondary)]);
    let regions = instance("regions.yaml");
    let regions: Vec<_> = regions.iter().map(|one| one.region().unwrap()).collect();
    assert_eq!(regions, ["us-east-1", "us-west-2", "eu-west-1"]);
}
