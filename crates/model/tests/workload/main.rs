//! The Kubernetes objects of an instance.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    dead_code,
    reason = "a test fails by panicking, and shares the objects of its neighbours"
)]

#[path = "../common/mod.rs"]
mod common;
mod logging;
mod outside;
mod service;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use bindy_api::PullSecret;
use bindy_model::workload::{
    Cluster, Desired, Handout, Inputs, KeyFile, Node, Nodes, ObjectKind, ObjectNames, Ownership, PlanError,
    Spread, Surplus, ZONE, desired, difference, ownership, plan, surplus,
};
use bindy_model::{Core, Input, Now};
use bindy_model::{Fleet, Instance, Link, LinkKey, NamespacedName, Object, ObjectEvent, PodSettings, Role};
use bindy_zone::Name;
use serde_json::{Value, json};

const SECRET: &str = "c2VjcmV0LXNlY3JldC1zZWNyZXQ=";

fn fleet(objects: Vec<Object>) -> Fleet {
    let mut core = Core::new([]);
    let events = objects.into_iter().map(ObjectEvent::Applied).chain([ObjectEvent::Listed]).collect();
    core.step(Input::Objects(events), Now { monotonic: Default::default(), unix: 0 });
    core.world().fleet().clone()
}

fn cluster(transfer: &[(&str, &str)]) -> Cluster {
    let transfer = transfer.iter().map(|(name, address)| (common::key(name), address.parse().unwrap()));
    Cluster {
        operator_namespace: "dns-system".to_owned(),
        agent_image: "ghcr.io/firestoned/bindy:latest".to_owned(),
        operator: Some("10.96.0.53:5353".parse::<SocketAddr>().unwrap()),
        transfer: transfer.collect(),
    }
}

fn links(fleet: &Fleet, key: &NamespacedName) -> Vec<(Link, Name)> {
    let named = |(number, link): (usize, Link)| {
        let name = match &link.key {
            LinkKey::Foreign(name) => name.clone(),
            _ => Name::parse(&format!("k{number}.key.bindy")).unwrap(),
        };
        (link, name)
    };
    fleet.links(key).into_iter().enumerate().map(named).collect()
}

fn objects_of(instance: &Instance, fleet: &Fleet, cluster: &Cluster) -> Vec<Desired> {
    let keys = KeyFile {
        text: format!("k0.key.bindy. {SECRET}\n"),
        fingerprint: "0123".to_owned(),
        mark: "_m".to_owned(),
    };
    let links = links(fleet, &instance.metadata.key);
    let node = Node { labels: [(ZONE.to_owned(), "a".to_owned())].into(), taints: Vec::new() };
    let spread = Spread::decide(instance, None, Some(&Nodes::from([("node".to_owned(), node)])));
    desired(
        &plan(&Inputs {
            instance,
            links: &links,
            keys: &keys,
            handouts: &handouts(instance),
            cluster,
            spread: &spread,
        })
        .unwrap(),
    )
}

/// What the downstreams outside are given, as far as plans look at it.
fn handouts(instance: &Instance) -> Vec<Handout> {
    let handout = |downstream: &String| Handout {
        downstream: downstream.clone(),
        files: BTreeMap::from([("named.conf".to_owned(), format!("key {SECRET}"))]),
        fingerprint: format!("print-{downstream}"),
    };
    instance.downstreams.iter().map(handout).collect()
}

/// The smallest instance of the page on high availability.
fn smallest() -> Instance {
    let Object::Instance(mut instance) = common::instance("primary-dns", Role::Primary, &[]) else {
        unreachable!()
    };
    instance.replicas = 3;
    *instance
}

fn objects(change: impl FnOnce(&mut Instance)) -> Vec<Desired> {
    let mut instance = smallest();
    change(&mut instance);
    let fleet = fleet(vec![Object::Instance(Box::new(instance.clone()))]);
    objects_of(&instance, &fleet, &cluster(&[("primary-dns", "10.96.0.7")]))
}

fn the(objects: &[Desired], kind: ObjectKind) -> &Value {
    &objects.iter().find(|object| object.kind == kind).unwrap().body
}

fn pod(objects: &[Desired]) -> &Value {
    &the(objects, ObjectKind::Deployment)["spec"]["template"]["spec"]
}

#[test]
fn the_smallest_instance_has_these_objects() {
    let mut text = String::new();
    for object in objects(|_| ()) {
        text.push_str("---\n");
        text.push_str(&serde_json::to_string_pretty(&object.body).unwrap());
        text.push('\n');
    }
    insta::assert_snapshot!(text.replace("\\n", "\n").replace("\\\"", "\""));
}

#[test]
fn its_pods_are_as_the_page_on_high_availability_shows() {
    let objects = objects(|_| ());
    let pod = pod(&objects);
    let expressions = json!([{ "key": "instance", "operator": "In", "values": ["primary-dns"] }]);
    // And none of those before a change of the pods keeps one after it away, as with the spread over zones.
    assert_eq!(
        pod["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"],
        json!([{ "weight": 100, "podAffinityTerm": {
            "labelSelector": { "matchExpressions": expressions }, "matchLabelKeys": ["pod-template-hash"],
            "topologyKey": "kubernetes.io/hostname" } }])
    );
    let spread = &pod["topologySpreadConstraints"][0];
    assert_eq!(
        (&spread["maxSkew"], &spread["topologyKey"]),
        (&json!(1), &json!("topology.kubernetes.io/zone"))
    );
    assert_eq!(spread["labelSelector"], json!({ "matchLabels": { "instance": "primary-dns" } }));
    assert_eq!(spread["whenUnsatisfiable"], "DoNotSchedule", "every node of the page's cluster is in a zone");
    let question = json!({ "command": ["dig", "@localhost", "version.bind", "txt", "chaos"] });
    for (probe, delay, period) in [("livenessProbe", 30, 10), ("readinessProbe", 5, 5)] {
        let probe = &pod["containers"][0][probe];
        assert_eq!(probe["exec"], question);
        assert_eq!((&probe["initialDelaySeconds"], &probe["periodSeconds"]), (&json!(delay), &json!(period)));
    }
}

#[test]
fn a_pod_passes_the_restricted_pod_security_standard() {
    let objects = objects(|_| ());
    let pod = pod(&objects);
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    let containers =
        ["containers", "initContainers"].map(|list| pod[list].as_array().unwrap().clone()).concat();
    assert_eq!(containers.len(), 2);
    for container in containers {
        let context = &container["securityContext"];
        assert_eq!(context["allowPrivilegeEscalation"], false);
        assert_eq!(context["readOnlyRootFilesystem"], true);
        assert_eq!(context["capabilities"], json!({ "drop": ["ALL"] }));
    }
    for volume in pod["volumes"].as_array().unwrap() {
        let kinds = ["configMap", "projected", "emptyDir"];
        assert!(kinds.iter().any(|kind| volume[kind].is_object()), "{volume}");
    }
    // The one sysctl that is used is among those that the standard calls safe.
    assert_eq!(
        pod["securityContext"]["sysctls"],
        json!([{ "name": "net.ipv4.ip_unprivileged_port_start", "value": "0" }])
    );
    assert_eq!(pod["automountServiceAccountToken"], false);
    for field in ["hostNetwork", "hostPID", "hostIPC"] {
        assert!(pod[field].is_null());
    }
}

#[test]
fn no_secret_is_in_any_object_but_the_secret() {
    for object in objects(|instance| instance.downstreams = BTreeSet::from(["vm".to_owned()])) {
        let leaks = object.body.to_string().contains(SECRET);
        assert_eq!(leaks, object.kind == ObjectKind::Secret, "{object:?}");
        assert!(!format!("{object:?}").contains(SECRET));
    }
}

#[test]
fn a_satisfied_world_needs_nothing() {
    for object in objects(|_| ()) {
        assert_eq!(difference(&object.body, &object.body), None, "{object:?}");
    }
}

#[test]
fn a_change_of_configuration_keys_or_neighbours_leaves_the_pods_alone() {
    let before = objects(|_| ());
    let limited = objects(|instance| {
        instance.config.allow_query = vec!["192.0.2.0/24".parse().unwrap()];
    });
    let given = objects(|instance| {
        instance.config.allow_transfer = vec!["192.0.2.0/24".parse().unwrap()];
    });
    let chatty = objects(|instance| instance.config.log = bindy_api::LogLevel::Debug);
    let instance = smallest();
    let downstream = common::instance("secondary-dns", Role::Secondary, &[]);
    let fleet = fleet(vec![Object::Instance(Box::new(instance.clone())), downstream]);
    let addresses = [("primary-dns", "10.96.0.8"), ("secondary-dns", "10.96.0.9")];
    let grown = objects_of(&instance, &fleet, &cluster(&addresses));
    for after in [&limited, &given, &chatty, &grown] {
        let changed = |object: &&Desired| {
            difference(
                &before.iter().find(|one| one.kind == object.kind && one.name == object.name).unwrap().body,
                &object.body,
            )
            .is_some()
        };
        let changed: Vec<ObjectKind> = after.iter().filter(changed).map(|object| object.kind).collect();
        assert_eq!(changed, [ObjectKind::ConfigMap]);
    }
}

#[test]
fn probes_may_ask_where_few_others_may() {
    let limited = objects(|instance| instance.config.allow_query = vec!["192.0.2.0/24".parse().unwrap()]);
    let named = the(&limited, ObjectKind::ConfigMap)["data"]["named.conf"].as_str().unwrap();
    let (_, access) = named.split_once("allow-query {").unwrap();
    let (access, _) = access.split_once('}').unwrap();
    let access: Vec<&str> = access.split(';').map(str::trim).filter(|text| !text.is_empty()).collect();
    assert_eq!(access, ["key \"bindy-agent.\"", "127.0.0.1/32", "::1/128", "192.0.2.0/24"]);
}

#[test]
fn a_field_that_is_not_wanted_any_more_is_a_difference() {
    let with = objects(|instance| {
        instance.pods.placement.node_selector = BTreeMap::from([("disk".to_owned(), "ssd".to_owned())]);
    });
    assert_eq!(pod(&with)["nodeSelector"], json!({ "disk": "ssd" }));
    let (with, without) = (the(&with, ObjectKind::Deployment).clone(), objects(|_| ()));
    let found = difference(&with, the(&without, ObjectKind::Deployment));
    assert_eq!(found.as_deref(), Some("metadata.annotations.bindy.firestoned.io/applied"));
}

#[test]
fn settings_of_pods_arrive_in_them() {
    let objects = objects(|instance| {
        let resources =
            serde_json::from_value(json!({ "requests": { "cpu": 1 }, "limits": { "memory": "1Gi" } }));
        let toleration =
            json!([{ "key": "dns", "operator": "Exists" }, { "key": "node.kubernetes.io/not-ready" }]);
        let placement =
            serde_json::from_value(json!({ "tolerations": toleration, "priorityClassName": "high" }));
        instance.pods = PodSettings {
            version: Some("9.20".to_owned()),
            image_pull_secrets: vec![PullSecret { name: "registry".to_owned() }],
            resources: resources.unwrap(),
            placement: placement.unwrap(),
            ..PodSettings::default()
        };
        instance.metadata.labels.insert("region".to_owned(), "eu-west-1".to_owned());
    });
    let pod = pod(&objects);
    assert_eq!(pod["containers"][0]["image"], "ghcr.io/firestoned/bindy-bind9:9.20");
    assert_eq!(
        pod["containers"][0]["resources"],
        json!({ "requests": { "cpu": "1" }, "limits": { "memory": "1Gi" } })
    );
    let keys: Vec<&Value> = pod["tolerations"].as_array().unwrap().iter().map(|one| &one["key"]).collect();
    assert_eq!(keys, ["dns", "node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"]);
    assert_eq!(pod["imagePullSecrets"], json!([{ "name": "registry" }]));
    assert_eq!(pod["priorityClassName"], "high");
    let preferred = &pod["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"][0];
    assert_eq!(
        preferred["preference"]["matchExpressions"],
        json!([{ "key": "topology.kubernetes.io/region", "operator": "In", "values": ["eu-west-1"] }])
    );
}

fn sources(objects: &[Desired]) -> Vec<(String, String, String)> {
    let config: Value =
        serde_json::from_str(the(objects, ObjectKind::ConfigMap)["data"]["agent.json"].as_str().unwrap())
            .unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let sources = config["sources"].as_array().unwrap().iter();
    sources.map(|one| (text(&one["kind"]), text(&one["name"]), text(&one["address"]))).collect()
}

#[test]
fn sources_are_services_and_those_without_address_wait() {
    let objects = |name: &str, transfer: &[(&str, &str)]| {
        let upstream = common::instance("up", Role::Primary, &[]);
        let middle = common::instance("middle", Role::Secondary, &[]);
        let fleet = fleet(vec![upstream, middle, common::instance("down", Role::Secondary, &["middle"])]);
        let instance = fleet.get(&common::key(name)).unwrap().clone();
        sources(&objects_of(&instance, &fleet, &cluster(transfer)))
    };
    let known = [("up", "10.96.0.1"), ("middle", "10.96.0.2"), ("down", "10.96.0.3")];
    let source =
        |kind: &str, name: &str, address: &str| (kind.to_owned(), name.to_owned(), address.to_owned());
    let operator = |kind| source(kind, "hidden-primary", "10.96.0.53:5353");
    assert_eq!(
        objects("middle", &known),
        [
            source("upstream", "upstream-default-up", "10.96.0.1:5353"),
            source("sibling", "sibling-default-middle", "10.96.0.2:5353"),
            operator("operator"),
            source("downstream", "downstream-default-down", "10.96.0.3:5353"),
        ]
    );
    assert_eq!(objects("up", &[]), [operator("upstream")]);
}

#[test]
fn nothing_is_configured_before_the_hidden_primary_has_an_address() {
    let instance = smallest();
    let fleet = fleet(vec![Object::Instance(Box::new(instance.clone()))]);
    let cluster = Cluster { operator: None, ..cluster(&[]) };
    let kinds: Vec<_> = objects_of(&instance, &fleet, &cluster).iter().map(|object| object.kind).collect();
    assert!(!kinds.contains(&ObjectKind::ConfigMap) && kinds.contains(&ObjectKind::Deployment));
}

#[test]
fn objects_of_others_and_of_a_former_instance_are_told_from_ours() {
    let instance = smallest();
    let fleet = fleet(vec![Object::Instance(Box::new(instance.clone()))]);
    for object in objects_of(&instance, &fleet, &cluster(&[])) {
        assert_eq!(ownership(&object.body, &instance.metadata), Ownership::Ours, "{object:?}");
        let mut former = object.body.clone();
        former["metadata"]["ownerReferences"][0]["uid"] = json!("another");
        assert_eq!(ownership(&former, &instance.metadata), Ownership::Leaving);
        let mut going = object.body.clone();
        going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert_eq!(ownership(&going, &instance.metadata), Ownership::Leaving);
        let mut foreign = object.body.clone();
        foreign["metadata"]["ownerReferences"] = json!([]);
        assert_eq!(ownership(&foreign, &instance.metadata), Ownership::Foreign);
    }
}

#[test]
fn a_drain_may_take_one_server_of_several_and_the_only_one() {
    let budget = |replicas: u32, wish: Value| {
        let objects = objects(|instance| {
            instance.replicas = replicas;
            instance.pods.disruption_budget = serde_json::from_value(wish).unwrap();
        });
        let found = objects.iter().find(|object| object.kind == ObjectKind::PodDisruptionBudget);
        found.map(|object| {
            assert_eq!(object.name, "primary-dns-pdb");
            let spec = &object.body["spec"];
            assert_eq!(spec["unhealthyPodEvictionPolicy"], "AlwaysAllow");
            assert_eq!(spec["selector"]["matchLabels"]["instance"], "primary-dns");
            (spec["minAvailable"].clone(), spec["maxUnavailable"].clone())
        })
    };
    let none = json!({});
    assert_eq!(budget(0, none.clone()), None);
    assert_eq!(budget(1, none.clone()), None);
    assert_eq!(budget(2, none.clone()), Some((Value::Null, json!(1))));
    assert_eq!(budget(3, none.clone()), Some((json!(2), Value::Null)), "as on the page");
    assert_eq!(budget(5, none), Some((json!(4), Value::Null)));
    assert_eq!(budget(5, json!({ "maxUnavailable": "40%" })), Some((Value::Null, json!("40%"))));
    assert_eq!(budget(1, json!({ "minAvailable": 1 })), Some((json!(1), Value::Null)));
    assert_eq!(budget(3, json!({ "enabled": false, "minAvailable": 1 })), None);
}

#[test]
fn what_is_not_wanted_is_surplus() {
    let surplus_of = |replicas| {
        let mut instance = smallest();
        instance.replicas = replicas;
        let fleet = fleet(vec![Object::Instance(Box::new(instance.clone()))]);
        let keys = KeyFile { text: String::new(), fingerprint: String::new(), mark: String::new() };
        let (links, cluster) = (links(&fleet, &instance.metadata.key), cluster(&[]));
        let spread = Spread::decide(&instance, None, None);
        let inputs = Inputs {
            instance: &instance,
            links: &links,
            keys: &keys,
            handouts: &[],
            cluster: &cluster,
            spread: &spread,
        };
        surplus(&plan(&inputs).unwrap(), &ObjectNames::new(&instance.metadata.key))
    };
    let set = Surplus {
        kind: ObjectKind::StatefulSet,
        name: "primary-dns".to_owned(),
        after: Some(ObjectKind::Deployment),
    };
    let kind = ObjectKind::PodDisruptionBudget;
    let budget = Surplus { kind, name: "primary-dns-pdb".to_owned(), after: None };
    assert_eq!(surplus_of(3), std::slice::from_ref(&set));
    assert_eq!(surplus_of(1), [budget, set]);
}

#[test]
fn a_required_region_is_a_limit_and_has_to_be_known() {
    let required = |instance: &mut Instance| {
        instance.pods.placement.region = Some(bindy_api::Strictness::Required);
    };
    let objects = objects(|instance| {
        required(instance);
        instance.metadata.labels.insert("region".to_owned(), "eu-west-1".to_owned());
    });
    let affinity = &pod(&objects)["affinity"]["nodeAffinity"];
    let expression =
        json!({ "key": "topology.kubernetes.io/region", "operator": "In", "values": ["eu-west-1"] });
    assert_eq!(
        *affinity,
        json!({ "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{ "matchExpressions": [expression] }] } })
    );
    let mut nowhere = smallest();
    required(&mut nowhere);
    let keys = KeyFile { text: String::new(), fingerprint: String::new(), mark: String::new() };
    let (spread, cluster) = (Spread::decide(&nowhere, None, None), cluster(&[]));
    let inputs = Inputs {
        instance: &nowhere,
        links: &[],
        keys: &keys,
        handouts: &[],
        cluster: &cluster,
        spread: &spread,
    };
    assert_eq!(plan(&inputs).unwrap_err(), PlanError::NoRegion);
}

#[test]
fn servers_with_volumes_are_those_of_a_stateful_set_and_otherwise_the_same() {
    let with =
        |wish: Value| objects(|instance| instance.pods.storage = Some(serde_json::from_value(wish).unwrap()));
    let (kept, without) = (with(json!({ "size": "1Gi" })), objects(|_| ()));
    let (set, deployment) = (the(&kept, ObjectKind::StatefulSet), the(&without, ObjectKind::Deployment));
    assert!(!kept.iter().any(|object| object.kind == ObjectKind::Deployment));
    for field in ["selector", "replicas", "minReadySeconds"] {
        assert_eq!(set["spec"][field], deployment["spec"][field], "a Service takes both for the same");
    }
    assert_eq!(set["spec"]["podManagementPolicy"], "Parallel");
    assert_eq!(
        set["spec"]["persistentVolumeClaimRetentionPolicy"],
        json!({ "whenDeleted": "Retain", "whenScaled": "Retain" })
    );
    let claim = &set["spec"]["volumeClaimTemplates"][0];
    assert_eq!(claim["metadata"]["name"], "data");
    assert_eq!(
        claim["spec"],
        json!({ "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } })
    );
    let template = |object: &Value| object["spec"]["template"]["spec"].clone();
    let (mut pod, mut other) = (template(set), template(deployment));
    let names = |pod: &Value| {
        pod["volumes"].as_array().unwrap().iter().map(|one| one["name"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(&pod), ["config", "keys", "run"]);
    assert_eq!(names(&other), ["config", "keys", "data", "run"]);
    for field in ["volumes", "securityContext", "affinity", "topologySpreadConstraints"] {
        pod.as_object_mut().unwrap().remove(field);
        other.as_object_mut().unwrap().remove(field);
    }
    assert_eq!(pod, other);
    let gone = with(json!({ "size": "1Gi", "onDelete": "delete", "onScaleDown": "delete" }));
    assert_eq!(
        the(&gone, ObjectKind::StatefulSet)["spec"]["persistentVolumeClaimRetentionPolicy"],
        json!({ "whenDeleted": "Delete", "whenScaled": "Delete" })
    );
}
