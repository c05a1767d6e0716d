//! Looks at instances against a simulated API server that fails at each request in turn, before and after carrying it
//! out, followed by a restart: what there is in the end is always the same.

mod handouts;
mod neighbours;

use std::time::Instant;

use axum::http::StatusCode;
use bindy_engine::View;
use bindy_model::workload::{CONFIG_ANNOTATION, KEYS_ANNOTATION, Node, ObjectKind, ZONE};
use bindy_model::{ConfigDigests, ConfigState, Core, Input, NamespacedName, Now, ObjectEvent};
use bindy_wire::{Generation, MasterKeys, MasterSecret};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::Context;
use super::kinds::resource;
use super::observed::Observed;
use super::pods::PodStates;
use super::reconcile::{Memory, Outcome, reconcile};
use super::report::{Problem, WorkloadReport};
use super::simulated::{Api, Failing};
use crate::Term;

struct World {
    api: Api,
    context: Context,
    view: View,
    observed: Observed,
    memory: Memory,
}

fn view(instances: &[Value]) -> View {
    let decoded = instances.iter().map(|instance| {
        let object = bindy_api::Object::decode(instance.clone()).unwrap();
        ObjectEvent::Applied(bindy_model::decode(&object).unwrap())
    });
    let mut core = Core::new([]);
    let events = decoded.chain([ObjectEvent::Listed]).collect();
    core.step(Input::Objects(events), Now { monotonic: Default::default(), unix: 0 });
    View { fleet: core.world().fleet().clone(), ..View::default() }
}

fn instance(uid: &str, spec: &Value) -> Value {
    let metadata = json!({ "name": "dns", "namespace": "default", "uid": uid });
    json!({ "apiVersion": bindy_api::API_VERSION, "kind": "Bind9Instance", "metadata": metadata, "spec": spec })
}

/// What all keys come from, made of this octet.
fn keys(octet: u8) -> watch::Receiver<MasterKeys> {
    watch::channel(MasterKeys::new(Generation::A, MasterSecret::from_bytes([octet; 32]))).1
}

fn pod(name: &str) -> Value {
    let owner = json!({ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "dns-1", "uid": "r" });
    json!({ "metadata": { "name": name, "namespace": "default", "ownerReferences": [owner] } })
}

impl World {
    fn new() -> Self {
        let api = Api::default();
        let context = Context {
            client: api.client(),
            agent_image: "bindy:1".to_owned(),
            transfer_service: NamespacedName::new("dns-system", "bindy-transfer"),
            keys: keys(7),
            pods: PodStates::default(),
        };
        let view = view(&[instance("u", &json!({ "replicas": 2 }))]);
        let mut world = Self { api, context, view, observed: Observed::default(), memory: Memory::default() };
        world.restart();
        world
    }

    /// A world in which everything is as it should be.
    async fn settled() -> Self {
        let mut world = Self::new();
        assert_eq!(world.look().await.problems, []);
        world.api.put("pods", pod("dns-1-x"));
        world.api.take_log();
        world
    }

    /// Nothing is remembered; everything is listed anew.
    fn restart(&mut self) {
        (self.observed, self.memory) = (Observed::default(), Memory::default());
        self.observed.set_hidden_primary(&json!({ "spec": { "clusterIPs": ["10.0.1.1"] } }));
        self.watch();
    }

    /// The cluster has two nodes, in these zones.
    fn zones(&self, zones: [Option<&str>; 2]) {
        let node = |(number, zone): (usize, Option<&str>)| {
            let labels = zone.map(|zone| (ZONE.to_owned(), zone.to_owned())).into_iter().collect();
            (format!("node{number}"), Node { labels, taints: Vec::new() })
        };
        self.observed.set_nodes(zones.into_iter().enumerate().map(node).collect());
    }

    /// What watches would tell.
    fn watch(&self) {
        for kind in ObjectKind::WATCHED {
            let listed = self.api.list(&resource(kind).plural);
            let keys = listed.iter().filter_map(super::observed::key_of).collect();
            self.observed.retain(kind, &keys);
            let ours =
                |object: &Value| object["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "bindy";
            for object in listed.into_iter().filter(ours) {
                self.observed.heard(kind, object);
            }
        }
    }

    async fn look(&mut self) -> WorkloadReport {
        self.look_at_all().await.report
    }

    async fn look_at_all(&mut self) -> Outcome {
        let instance = self.view.fleet.iter().next().unwrap();
        let term = Term::unlimited();
        reconcile(&self.context, &term, &self.view, &self.observed, instance, &mut self.memory).await
    }

    fn noted(&self) -> Value {
        self.api.get("configmaps", "dns-config").unwrap()["metadata"]["annotations"][KEYS_ANNOTATION].clone()
    }
}

/// Has each request fail in turn, each time with a restart afterwards or without one, and holds the end against `check`.
async fn at_every_stop(prepare: impl AsyncFn() -> World, check: impl Fn(&World)) {
    let kinds =
        [(Failing::Before, true), (Failing::After, true), (Failing::Before, false), (Failing::After, false)];
    for (failing, restarts) in kinds {
        for number in 0.. {
            let mut world = prepare().await;
            world.api.fail(number, failing);
            let report = world.look().await;
            let done = world.api.heal();
            assert!(done || !report.problems.is_empty(), "request {number} fails unnoticed ({failing:?})");
            if restarts {
                world.restart();
            }
            let report = world.look().await;
            assert_eq!(report.problems, [], "after a stop at request {number} ({failing:?}, {restarts})");
            check(&world);
            if done {
                break;
            }
        }
    }
}

#[tokio::test]
async fn the_report_says_which_configuration_servers_are_given() {
    let mut world = World::settled().await;
    let given = |world: &World| {
        let config = world.api.get("configmaps", "dns-config").unwrap();
        let digest = |file: &str| ConfigState::digest(config["data"][file].as_str().unwrap().as_bytes());
        ConfigDigests { named: digest("named.conf"), agent: digest("agent.json") }
    };
    let before = given(&world);
    assert_eq!(world.look().await.config.as_ref(), Some(&before));
    let spec = json!({ "replicas": 2, "config": { "allowQuery": ["192.0.2.0/24"] } });
    world.view = view(&[instance("u", &spec)]);
    let report = world.look().await;
    assert_eq!(report.config, Some(given(&world)));
    assert_ne!(report.config, Some(before));
}

#[tokio::test]
async fn objects_are_made_in_an_order_in_which_pods_find_what_they_mount() {
    let mut world = World::new();
    world.look().await;
    let log = world.api.take_log();
    let written: Vec<&str> = log.iter().map(String::as_str).filter(|line| !line.starts_with("get")).collect();
    assert_eq!(
        written,
        [
            "patch services dns",
            "patch services dns-transfer",
            "patch networkpolicies dns",
            "patch poddisruptionbudgets dns-pdb",
            "check secrets dns-keys",
            "patch configmaps dns-config",
            "patch serviceaccounts dns",
            "post secrets dns-keys",
            "patch deployments dns",
        ]
    );
}

#[tokio::test]
async fn a_steady_instance_takes_no_request_and_a_restart_none_that_changes_anything() {
    let mut world = World::settled().await;
    world.look().await;
    world.watch();
    world.look().await;
    assert_eq!(world.api.take_log(), [""; 0]);
    let before = world.api.contents();
    world.restart();
    world.look().await;
    assert_eq!(world.api.take_log(), ["post secrets dns-keys"]);
    assert_eq!(world.api.contents(), before);
}

#[tokio::test]
async fn a_stop_at_any_request_of_the_first_look_is_made_good() {
    let wanted = World::settled().await;
    wanted.api.remove("pods", "dns-1-x");
    let wanted = wanted.api.contents();
    at_every_stop(async || World::new(), |world| assert_eq!(world.api.contents(), wanted)).await;
}

#[tokio::test]
async fn keys_are_replaced_whatever_request_fails() {
    let mut wanted = World::settled().await;
    wanted.context.keys = keys(8);
    wanted.look().await;
    assert_eq!(
        wanted.api.take_log(),
        [
            "check-delete secrets dns-keys",
            "delete secrets dns-keys",
            "patch configmaps dns-config",
            "patch serviceaccounts dns",
            "post secrets dns-keys",
            "get pods *",
            "patch pods dns-1-x",
        ]
    );
    assert!(
        wanted.api.get("pods", "dns-1-x").unwrap()["metadata"]["annotations"][CONFIG_ANNOTATION].is_string()
    );
    let (secret, noted) = (wanted.api.get("secrets", "dns-keys").unwrap(), wanted.noted());
    let prepare = async || {
        let mut world = World::settled().await;
        world.context.keys = keys(8);
        world
    };
    at_every_stop(prepare, |world| {
        let live = world.api.get("secrets", "dns-keys").unwrap();
        assert_eq!((&live["stringData"], &world.noted()), (&secret["stringData"], &noted));
    })
    .await;
}

#[tokio::test]
async fn a_late_deletion_does_not_hit_the_secret_that_the_next_leader_has_made() {
    let mut late = World::settled().await;
    let api = late.api.clone();
    let uid = || api.get("secrets", "dns-keys").unwrap()["metadata"]["uid"].clone();
    let mut next = World::new();
    (next.api, next.context.client) = (api.clone(), api.client());
    next.restart();
    (late.context.keys, next.context.keys) = (keys(8), keys(8));
    let (old, gate) = (uid(), api.hold("delete secrets"));
    {
        let mut look = std::pin::pin!(late.look());
        tokio::select! {
            report = &mut look => panic!("nothing was deleted: {report:?}"),
            _ = gate.arrived(1) => api.hold_no_more(),
        }
        assert_eq!(next.look().await.problems, []);
        let made = uid();
        assert_ne!(made, old);
        gate.open();
        let report = look.await;
        assert_eq!(uid(), made);
        assert!(matches!(report.problems[..], [Problem::Refused { .. }]), "{:?}", report.problems);
    }
    late.restart();
    assert_eq!(late.look().await.problems, []);
}

#[tokio::test]
async fn a_secret_of_somebody_else_is_never_touched_whatever_request_fails() {
    let precious =
        json!({ "metadata": { "name": "dns-keys", "namespace": "default" }, "data": { "mine": "MQ==" } });
    for failing in [Failing::Before, Failing::After] {
        for number in 0..12 {
            let mut world = World::new();
            world.api.put("secrets", precious.clone());
            world.api.fail(number, failing);
            world.look().await;
            world.api.heal();
            world.restart();
            let report = world.look().await;
            let name = "dns-keys".to_owned();
            assert_eq!(report.problems, [Problem::Collision { kind: ObjectKind::Secret, name }]);
            assert_eq!(world.api.get("secrets", "dns-keys").unwrap()["data"], precious["data"]);
            assert!(world.api.get("deployments", "dns").is_none(), "pods would mount it");
        }
    }
}

#[tokio::test]
async fn objects_of_others_are_left_alone_and_named() {
    for (kind, name, pods) in [
        (ObjectKind::Service, "dns", true),
        (ObjectKind::ConfigMap, "dns-config", false),
        (ObjectKind::ServiceAccount, "dns", false),
        (ObjectKind::Deployment, "dns", true),
    ] {
        let mut world = World::new();
        let foreign =
            json!({ "metadata": { "name": name, "namespace": "default" }, "data": { "mine": "1" } });
        let plural = resource(kind).plural;
        world.api.put(&plural, foreign);
        let before = world.api.get(&plural, name);
        let report = world.look().await;
        assert_eq!(report.problems, [Problem::Collision { kind, name: name.to_owned() }]);
        assert_eq!(world.api.get(&plural, name), before);
        assert_eq!(world.api.get("deployments", "dns").is_some(), pods, "{kind}");
    }
}

#[tokio::test]
async fn what_somebody_deletes_comes_back() {
    for (resource, name) in [
        ("services", "dns"),
        ("services", "dns-transfer"),
        ("configmaps", "dns-config"),
        ("serviceaccounts", "dns"),
        ("networkpolicies", "dns"),
        ("deployments", "dns"),
        ("poddisruptionbudgets", "dns-pdb"),
        ("secrets", "dns-keys"),
    ] {
        let mut world = World::settled().await;
        world.api.remove(resource, name);
        // A missing Secret is found by the next start, or by a look after a while.
        world.restart();
        assert_eq!(world.look().await.problems, [], "{resource} {name}");
        assert!(world.api.get(resource, name).is_some(), "{resource} {name}");
    }
}

#[tokio::test]
async fn what_somebody_edits_is_undone_at_once_and_again_only_later() {
    let mut world = World::settled().await;
    let edit = |world: &World| {
        let mut deployment = world.api.get("deployments", "dns").unwrap();
        deployment["spec"]["replicas"] = json!(7);
        world.api.put("deployments", deployment);
        world.watch();
    };
    edit(&world);
    assert_eq!(world.look().await.problems, []);
    assert_eq!(world.api.get("deployments", "dns").unwrap()["spec"]["replicas"], 2);
    edit(&world);
    let report = world.look().await;
    assert!(matches!(report.problems[..], [Problem::Contested { .. }]), "{:?}", report.problems);
}

#[tokio::test]
async fn what_somebody_removes_is_made_again_at_once_and_again_only_later() {
    let mut world = World::settled().await;
    for problem in [false, true] {
        world.api.remove("poddisruptionbudgets", "dns-pdb");
        world.watch();
        let report = world.look().await;
        let is_told = matches!(report.problems[..], [Problem::Removed { .. }]);
        assert_eq!((is_told, report.problems.is_empty()), (problem, !problem), "{:?}", report.problems);
        assert_eq!(world.api.get("poddisruptionbudgets", "dns-pdb").is_some(), !problem);
    }
    // What is removed here is nobody else's doing.
    let mut world = World::settled().await;
    for replicas in [1, 2, 1, 2, 1, 2] {
        world.view = view(&[instance("u", &json!({ "replicas": replicas }))]);
        world.watch();
        assert_eq!(world.look().await.problems, [], "{replicas} replicas");
        assert_eq!(world.api.get("poddisruptionbudgets", "dns-pdb").is_some(), replicas == 2);
    }
    // Nor is what cannot be made.
    let mut world = World::new();
    world.api.fail(1, Failing::Before);
    for number in 0..2 {
        let report = world.look().await;
        assert!(
            !report.problems.iter().any(|problem| matches!(problem, Problem::Removed { .. })),
            "{number}"
        );
        world.api.heal();
    }
}

/// The address of the instance's own transfer Service, as others are told it.
fn transfer_addresses(world: &World) -> Vec<(NamespacedName, std::net::IpAddr)> {
    let fleet = &world.view.fleet;
    world.observed.transfer_addresses(fleet, fleet.iter().map(|instance| &instance.metadata.key))
}

#[tokio::test]
async fn an_object_that_cannot_be_applied_is_there_all_the_same() {
    for (refused, wish) in [
        ("patch services dns-transfer", json!({ "replicas": 2, "downstreams": [{ "name": "vm" }] })),
        ("patch deployments dns", json!({ "replicas": 2, "version": "9.20" })),
    ] {
        let mut world = World::settled().await;
        finish(&world, "deployments");
        let addresses = transfer_addresses(&world);
        assert_eq!(addresses.len(), 1);
        world.view = view(&[instance("u", &wish)]);
        world.api.refuse(refused, StatusCode::FORBIDDEN);
        for _ in 0..2 {
            let report = world.look().await;
            assert!(
                matches!(report.problems[..], [Problem::Refused { .. }]),
                "{refused}: {:?}",
                report.problems
            );
            assert_eq!(report.pods.map(|pods| pods.replicas), Some(2), "{refused}");
            assert_eq!(transfer_addresses(&world), addresses, "{refused}");
        }
        world.api.refuse("nothing", StatusCode::FORBIDDEN);
        assert_eq!(world.look().await.problems, []);
    }
}

#[tokio::test]
async fn what_cannot_be_applied_is_asked_for_first_the_next_time() {
    let mut world = World::settled().await;
    // Its label is gone, and the watch says that it is deleted.
    let mut service = world.api.get("services", "dns-transfer").unwrap();
    service["metadata"]["labels"] = json!({});
    world.observed.heard_gone(ObjectKind::Service, &service);
    world.api.put("services", service);
    world.api.refuse("patch services dns-transfer", StatusCode::FORBIDDEN);
    world.look().await;
    assert_eq!(transfer_addresses(&world).len(), 1, "it is there, and the instance's own");
    // Now it is deleted, and nobody has heard of it.
    world.api.refuse("nothing", StatusCode::FORBIDDEN);
    world.api.remove("services", "dns-transfer");
    world.api.take_log();
    assert_eq!(world.look().await.problems, []);
    assert_eq!(world.api.take_log(), ["get services dns-transfer", "patch services dns-transfer"]);
}

#[tokio::test]
async fn objects_of_a_former_instance_are_waited_for() {
    let mut world = World::settled().await;
    world.view = view(&[instance("v", &json!({ "replicas": 2 }))]);
    let before = world.api.contents();
    let report = world.look().await;
    assert!(
        report.problems.iter().all(|one| matches!(one, Problem::Leaving { .. })),
        "{:?}",
        report.problems
    );
    assert_eq!(world.api.contents(), before);
    // They go, and nobody hears of it. Some are waited for only when others are there.
    before.keys().for_each(|(resource, _, name)| world.api.remove(resource, name));
    for _ in 0..4 {
        world.look().await;
    }
    assert_eq!(world.look().await.problems, []);
    assert!(world.api.get("deployments", "dns").is_some());
}

#[tokio::test]
async fn the_kubelets_of_all_pods_are_told_of_a_changed_configuration_once() {
    let mut world = World::settled().await;
    world.api.put("pods", pod("dns-1-y"));
    world.context.keys = keys(8);
    let mut told = async || {
        world.look_at_all().await;
        let log = world.api.take_log().into_iter();
        log.filter(|request| request.starts_with("patch pods ")).collect::<Vec<_>>()
    };
    assert_eq!(told().await, ["patch pods dns-1-x", "patch pods dns-1-y"]);
    assert_eq!(told().await, [""; 0]);
}

#[tokio::test]
async fn a_paused_instance_is_not_touched() {
    let mut world = World::settled().await;
    world.view = view(&[instance("u", &json!({ "replicas": 2, "paused": true }))]);
    assert!(!world.look().await.waits, "it is as it should be");
    world.view = view(&[instance("u", &json!({ "replicas": 5, "paused": true }))]);
    assert!(world.look().await.waits, "it has as many servers as before");
    let other = instance(
        "u",
        &json!({ "replicas": 2, "paused": true, "config": { "allowQuery": ["192.0.2.0/24"] } }),
    );
    world.view = view(&[other]);
    assert!(world.look().await.waits, "its settings are those of before");
    assert_eq!(world.api.take_log(), [""; 0]);
}

#[tokio::test]
async fn settings_stay_while_a_neighbour_is_unknown_and_a_new_instance_is_made_all_the_same() {
    let mut world = World::settled().await;
    let unknown = NamespacedName::new("default", "unreadable");
    let limited = instance("u", &json!({ "replicas": 3, "config": { "allowQuery": ["192.0.2.0/24"] } }));
    world.view = View { unknown: [unknown.clone()].into(), ..view(&[limited]) };
    let report = world.look().await;
    assert_eq!(report.problems, [Problem::UnknownNeighbour(unknown.clone())]);
    assert_eq!(
        world.api.take_log(),
        ["patch poddisruptionbudgets dns-pdb", "patch deployments dns"],
        "other wishes are followed"
    );
    let mut new = World::new();
    new.view.unknown.insert(unknown);
    assert_eq!(new.look().await.problems, []);
}

#[tokio::test]
async fn a_budget_that_is_not_wanted_any_more_is_removed_whatever_request_fails() {
    let prepare = async || {
        let mut world = World::settled().await;
        assert!(world.api.get("poddisruptionbudgets", "dns-pdb").is_some());
        world.view = view(&[instance("u", &json!({ "replicas": 1 }))]);
        world
    };
    at_every_stop(prepare, |world| assert!(world.api.get("poddisruptionbudgets", "dns-pdb").is_none())).await;
    let mut world = prepare().await;
    let mut changed = world.api.get("poddisruptionbudgets", "dns-pdb").unwrap();
    changed["status"] = json!({ "currentHealthy": 2 });
    world.api.put("poddisruptionbudgets", changed);
    world.look().await;
    assert!(world.api.get("poddisruptionbudgets", "dns-pdb").is_some(), "it is another one than was seen");
    world.watch();
    world.look().await;
    assert!(world.api.get("poddisruptionbudgets", "dns-pdb").is_none());
}

#[tokio::test]
async fn a_budget_of_somebody_else_counts_instead_of_ours() {
    for replicas in [1, 2] {
        let mut world = World::new();
        world.view = view(&[instance("u", &json!({ "replicas": replicas }))]);
        world.api.put(
            "poddisruptionbudgets",
            json!({ "metadata": { "name": "dns-pdb", "namespace": "default" } }),
        );
        let before = world.api.get("poddisruptionbudgets", "dns-pdb");
        assert_eq!(world.look().await.problems, []);
        assert_eq!(world.api.get("poddisruptionbudgets", "dns-pdb"), before);
    }
}

#[tokio::test]
async fn neither_new_nodes_nor_a_restart_nor_scaling_make_other_pods() {
    let spread = |world: &World| {
        let deployment = world.api.get("deployments", "dns").unwrap();
        deployment["spec"]["template"]["spec"]["topologySpreadConstraints"][0]["whenUnsatisfiable"].clone()
    };
    let limits = json!({ "limits": { "cpu": "1" } });
    // Something else, and something less.
    for other in [json!({ "replicas": 3, "resources": limits, "version": "9.20" }), json!({ "replicas": 3 })]
    {
        let mut world = World::new();
        world.view = view(&[instance("u", &json!({ "replicas": 2, "resources": limits }))]);
        world.zones([Some("a"), Some("b")]);
        world.look().await;
        assert_eq!(spread(&world), "DoNotSchedule");
        world.api.take_log();
        world.zones([Some("a"), None]);
        world.look().await;
        assert_eq!(world.api.take_log(), [""; 0], "another node changes nothing");
        world.restart();
        world.look().await;
        assert_eq!(world.api.take_log(), ["post secrets dns-keys"], "nor does a restart that knows no node");
        world.zones([Some("a"), None]);
        for (generation, spec, wanted) in [
            (2, json!({ "replicas": 3, "resources": limits }), "DoNotSchedule"),
            (3, other, "ScheduleAnyway"),
        ] {
            let mut changed = instance("u", &spec);
            changed["metadata"]["generation"] = json!(generation);
            world.view = view(&[changed]);
            for _ in 0..2 {
                world.look().await;
                assert_eq!(spread(&world), wanted, "{spec}");
            }
        }
    }
}

/// Has all pods of a Deployment or StatefulSet be there, as its controller would say.
fn finish(world: &World, resource: &str) {
    let mut live = world.api.get(resource, "dns").unwrap();
    let counts = json!({ "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2, "availableReplicas": 2 });
    live["status"] = counts;
    world.api.put(resource, live);
    world.watch();
}

#[tokio::test]
async fn storage_is_switched_on_and_off_with_all_new_servers_there_before_the_old_ones_go() {
    let plain = json!({ "replicas": 2 });
    let stored = json!({ "replicas": 2, "storage": { "size": "1Gi" } });
    for (before, after, old, new) in
        [(&plain, &stored, "deployments", "statefulsets"), (&stored, &plain, "statefulsets", "deployments")]
    {
        let prepare = async || {
            let mut world = World::new();
            world.view = view(&[instance("u", before)]);
            world.look().await;
            finish(&world, old);
            world.view = view(&[instance("u", after)]);
            world
        };
        at_every_stop(prepare, |world| {
            assert!(world.api.get(old, "dns").is_some() && world.api.get(new, "dns").is_some());
        })
        .await;
        let mut world = prepare().await;
        let report = world.look().await;
        assert!(report.pods.is_some() && report.former.is_some_and(|former| former.available == 2));
        let almost = async || {
            let mut world = prepare().await;
            world.look().await;
            finish(&world, new);
            world
        };
        at_every_stop(almost, |world| {
            assert!(world.api.get(old, "dns").is_none() && world.api.get(new, "dns").is_some());
        })
        .await;
    }
}

#[tokio::test]
async fn old_servers_stay_while_it_is_not_known_that_the_new_ones_are_there() {
    let mut world = World::settled().await;
    finish(&world, "deployments");
    world.view = view(&[instance("u", &json!({ "replicas": 2, "storage": { "size": "1Gi" } }))]);
    world.look().await;
    finish(&world, "statefulsets");
    world.api.remove("statefulsets", "dns");
    world.view =
        view(&[instance("u", &json!({ "replicas": 2, "version": "9.20", "storage": { "size": "1Gi" } }))]);
    let report = world.look().await;
    assert!(matches!(report.problems[..], [Problem::Refused { .. }]), "{:?}", report.problems);
    assert!(world.api.get("deployments", "dns").is_some());
    assert_eq!(world.look().await.problems, []);
    assert!(world.api.get("deployments", "dns").is_some() && world.api.get("statefulsets", "dns").is_some());
}

#[tokio::test]
async fn without_the_right_to_patch_pods_all_else_goes_on() {
    for refused in ["patch pods", "get pods"] {
        let mut world = World::settled().await;
        finish(&world, "deployments");
        world.api.refuse(refused, StatusCode::FORBIDDEN);
        let stored = json!({ "replicas": 2, "storage": { "size": "1Gi" } });
        world.view = view(&[instance("u", &stored)]);
        world.context.keys = keys(8);
        assert_eq!(world.look().await.problems, [], "{refused}");
        assert!(world.api.take_log().iter().any(|line| line.starts_with(refused)));
        finish(&world, "statefulsets");
        assert_eq!(world.look().await.problems, [], "{refused}");
        assert!(world.api.get("deployments", "dns").is_none(), "the former servers stay: {refused}");
    }
}

/// A StatefulSet of two servers, of which so many are available. All its pods are of revision a; of the last template is `revision`.
async fn with_volumes(spec: &Value, available: u32, revision: &str) -> World {
    let mut world = World::new();
    world.view = view(&[instance("u", spec)]);
    world.look().await;
    available_are(&world, available, revision);
    assert_eq!(world.look().await.problems, []);
    world.api.take_log();
    world
}

fn available_are(world: &World, available: u32, revision: &str) {
    let mut set = world.api.get("statefulsets", "dns").unwrap();
    set["status"] = json!({ "replicas": 2, "availableReplicas": available, "currentRevision": "a", "updateRevision": revision });
    world.api.put("statefulsets", set);
    world.watch();
}

/// Whether the StatefulSet replaces no pod.
fn is_held(world: &World) -> bool {
    let set = world.api.get("statefulsets", "dns").unwrap();
    set["spec"]["updateStrategy"]["rollingUpdate"]["partition"] == i32::MAX
}

#[tokio::test]
async fn servers_with_volumes_are_not_replaced_while_one_is_missing_and_all_other_wishes_are_followed() {
    let wish = |more: Value| {
        let mut spec = json!({ "replicas": 2, "storage": { "size": "1Gi" } });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec
    };
    let plain = wish(json!({}));
    let short = [Problem::Short { available: 1, replicas: 2 }];
    let limits = wish(json!({ "resources": { "limits": { "cpu": "1" } } }));
    // Something else, and something less.
    for (before, after) in [(&plain, &wish(json!({ "version": "9.20" }))), (&limits, &plain)] {
        let mut world = with_volumes(before, 1, "a").await;
        world.view = view(&[instance("u", after)]);
        assert_eq!(world.look().await.problems, short);
        assert!(is_held(&world), "{after}");
        available_are(&world, 1, "b");
        world.api.take_log();
        assert_eq!(world.look().await.problems, short);
        assert_eq!(world.api.take_log(), [""; 0]);
        available_are(&world, 2, "b");
        assert_eq!(world.look().await.problems, []);
        assert!(!is_held(&world), "{after}");
        world.watch();
        world.api.take_log();
        assert_eq!(world.look().await.problems, []);
        assert_eq!(world.api.take_log(), [""; 0]);
    }
    // A wish that is never fulfilled is none that waits.
    let mut world = with_volumes(&plain, 2, "a").await;
    world.view = view(&[instance("u", &wish(json!({ "storage": { "size": "2Gi" }, "version": "9.20" })))]);
    assert!(matches!(world.look().await.problems[..], [Problem::Volumes(_)]));
    available_are(&world, 1, "b");
    world.api.take_log();
    assert!(matches!(world.look().await.problems[..], [Problem::Volumes(_)]));
    assert_eq!((world.api.take_log(), is_held(&world)), (vec![], false));
    // Neither is one that replaces no server.
    for (more, problems, held) in
        [(json!({}), &[][..], false), (json!({ "version": "9.20" }), &short[..], true)]
    {
        let mut more = wish(more);
        more["replicas"] = json!(3);
        let mut world = with_volumes(&plain, 1, "a").await;
        world.view = view(&[instance("u", &more)]);
        assert_eq!(world.look().await.problems, problems);
        assert_eq!(is_held(&world), held);
        assert_eq!(world.api.get("statefulsets", "dns").unwrap()["spec"]["replicas"], 3);
    }
}

#[tokio::test]
async fn servers_with_volumes_are_replaced_when_all_are_there_or_none_or_what_is_missing_may_come_by_that() {
    let stored = json!({ "replicas": 2, "storage": { "size": "1Gi" } });
    let next = json!({ "replicas": 2, "version": "9.20", "storage": { "size": "1Gi" } });
    let begin = async |available: u32, revision: &str| {
        let mut world = with_volumes(&stored, available, revision).await;
        world.view = view(&[instance("u", &next)]);
        world
    };
    let pod = |more: Value| {
        let owner = json!({ "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "dns", "uid": "s" });
        let mut pod = json!({
            "metadata": { "name": "dns-0", "namespace": "default", "labels": { "instance": "dns" }, "ownerReferences": [owner] },
            "spec": { "nodeName": "node1", "containers": [] },
        });
        for (field, value) in more.as_object().unwrap() {
            match pod[field].as_object_mut() {
                Some(known) => known.extend(value.as_object().unwrap().clone()),
                None => pod[field] = value.clone(),
            }
        }
        serde_json::from_value(pod).unwrap()
    };
    for (available, revision) in [(2, "a"), (0, "a"), (2, "b")] {
        let mut world = begin(available, revision).await;
        assert_eq!(world.look().await.problems, []);
        assert!(!is_held(&world), "{available} {revision}");
    }
    // Neither is a second template held up that corrects the first one.
    let waiting = json!({ "waiting": { "reason": "ImagePullBackOff" } });
    let container = json!({ "name": "named", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": waiting });
    let ill = pod(json!({ "status": { "containerStatuses": [container] } }));
    for (revision, held) in [("a", true), ("b", false)] {
        let mut world = begin(1, revision).await;
        world.context.pods.put(&ill);
        world.look().await;
        assert_eq!(is_held(&world), held, "{revision}");
    }
    // What lasts may be what the template is to heal, but for a node that is lost.
    let lost = pod(json!({ "metadata": { "deletionTimestamp": "2026-01-01T00:00:00Z" } }));
    // As the control plane leaves it before it deletes it, which it never does where the pod tolerates that.
    let ready = json!({ "name": "named", "image": "", "imageID": "", "ready": true, "restartCount": 0, "state": { "running": {} } });
    let conditions =
        json!([{ "type": "Ready", "status": "False", "lastTransitionTime": "2026-01-01T00:00:00Z" }]);
    let silent = pod(json!({ "status": { "conditions": conditions, "containerStatuses": [ready] } }));
    for (pods, held) in [(vec![], false), (vec![lost], true), (vec![silent], true)] {
        let mut world = begin(1, "a").await;
        pods.iter().for_each(|pod| world.context.pods.put(pod));
        world.look().await;
        available_are(&world, 1, "b");
        world.look().await;
        assert!(is_held(&world));
        world.memory.hold.as_mut().unwrap().until = Instant::now();
        world.look().await;
        assert_eq!(is_held(&world), held);
        // The node is back or given up: what takes the place of the pod starts, while the other one stays.
        world.context.pods.retain(|_| false);
        world.look().await;
        assert_eq!(is_held(&world), held);
    }
    // The last one is not there for a moment.
    let mut world = begin(1, "a").await;
    world.look().await;
    available_are(&world, 0, "b");
    world.look().await;
    assert!(is_held(&world));
}

#[tokio::test]
async fn volumes_that_cannot_be_changed_are_told_and_other_wishes_followed() {
    let mut world = World::new();
    world.view = view(&[instance("u", &json!({ "replicas": 2, "storage": { "size": "1Gi" } }))]);
    world.look().await;
    world.view = view(&[instance("u", &json!({ "replicas": 3, "storage": { "size": "2Gi" } }))]);
    for _ in 0..2 {
        let report = world.look().await;
        assert!(matches!(report.problems[..], [Problem::Volumes(_)]), "{:?}", report.problems);
    }
    let set = world.api.get("statefulsets", "dns").unwrap();
    let claim = &set["spec"]["volumeClaimTemplates"][0]["spec"];
    assert_eq!(
        (&set["spec"]["replicas"], &claim["resources"]["requests"]["storage"]),
        (&json!(3), &json!("1Gi"))
    );
}

#[tokio::test]
async fn an_address_that_cannot_be_changed_is_told_and_other_wishes_followed() {
    let mut world = World::new();
    let asking = |service: Value| view(&[instance("u", &json!({ "replicas": 2, "service": service }))]);
    world.view = asking(json!({ "clusterIP": "10.96.0.53" }));
    world.look().await;
    world.view = asking(json!({ "clusterIP": "10.96.0.54", "ports": [53, 5300] }));
    for _ in 0..2 {
        let report = world.look().await;
        assert!(matches!(report.problems[..], [Problem::Address(_)]), "{:?}", report.problems);
    }
    let service = world.api.get("services", "dns").unwrap();
    assert_eq!(
        (&service["spec"]["clusterIP"], &service["spec"]["ports"][2]["port"]),
        (&json!("10.96.0.53"), &json!(5300))
    );
    world.api.remove("services", "dns");
    world.watch();
    assert_eq!(world.look().await.problems, []);
    assert_eq!(world.api.get("services", "dns").unwrap()["spec"]["clusterIP"], "10.96.0.54");
}
