//! The Secrets of downstreams outside of Bindy.

use super::*;

const OUTSIDE: &str = "dns-downstream-vm";

/// The instance with these downstreams outside.
fn followed(downstreams: &[&str]) -> View {
    let list: Vec<Value> = downstreams.iter().map(|name| json!({ "name": name })).collect();
    view(&[instance("u", &json!({ "replicas": 2, "downstreams": list }))])
}

#[tokio::test]
async fn a_downstream_outside_is_given_its_secret_whatever_request_fails() {
    let prepare = async || {
        let mut world = World::settled().await;
        world.view = followed(&["vm"]);
        world
    };
    at_every_stop(prepare, |world| {
        let secret = world.api.get("secrets", OUTSIDE).unwrap();
        let text = secret["stringData"]["named.conf"].as_str().unwrap();
        assert!(text.contains("vm") && text.contains("secret"), "{text}");
        assert_eq!(secret["metadata"]["ownerReferences"][0]["uid"], "u", "it goes with the instance");
        let config = world.api.get("configmaps", "dns-config").unwrap();
        assert!(config["data"]["agent.json"].as_str().unwrap().contains("downstreams"));
    })
    .await;
    let mut world = prepare().await;
    world.look().await;
    world.watch();
    world.api.take_log();
    world.look().await;
    assert_eq!(world.api.take_log(), [""; 0], "a steady instance takes no request");
}

#[tokio::test]
async fn the_secret_of_a_downstream_is_replaced_and_taken_back_whatever_request_fails() {
    let served = async || {
        let mut world = World::settled().await;
        world.view = followed(&["vm", "other"]);
        world.look().await;
        world.watch();
        world
    };
    let old = served().await.api.get("secrets", OUTSIDE).unwrap()["stringData"].clone();
    let renewed = async || {
        let mut world = served().await;
        world.context.keys = keys(8);
        world
    };
    at_every_stop(renewed, |world| {
        let now = world.api.get("secrets", OUTSIDE).unwrap()["stringData"].clone();
        assert!(now.is_object() && now != old);
    })
    .await;
    let removed = async || {
        let mut world = served().await;
        world.view = followed(&["other"]);
        world
    };
    at_every_stop(removed, |world| {
        assert!(world.api.get("secrets", OUTSIDE).is_none());
        assert!(world.api.get("secrets", "dns-downstream-other").is_some());
        let config = world.api.get("configmaps", "dns-config").unwrap().to_string();
        assert!(!config.contains("downstream-vm"), "{config}");
    })
    .await;
}

#[tokio::test]
async fn a_secret_of_somebody_else_with_a_downstreams_name_is_left_alone_and_holds_up_nothing_else() {
    let precious =
        json!({ "metadata": { "name": OUTSIDE, "namespace": "default" }, "data": { "mine": "MQ==" } });
    for failing in [Failing::Before, Failing::After] {
        for number in 0..14 {
            let mut world = World::new();
            world.view = followed(&["other", "vm"]);
            world.api.put("secrets", precious.clone());
            world.api.fail(number, failing);
            world.look().await;
            world.api.heal();
            world.restart();
            let report = world.look().await;
            let name = OUTSIDE.to_owned();
            assert_eq!(report.problems, [Problem::Collision { kind: ObjectKind::Secret, name }]);
            assert_eq!(world.api.get("secrets", OUTSIDE).unwrap()["data"], precious["data"]);
            assert!(world.api.get("secrets", "dns-downstream-other").is_some());
            assert!(world.api.get("deployments", "dns").is_some());
            world.view = followed(&[]);
            world.look().await;
            assert_eq!(world.api.get("secrets", OUTSIDE).unwrap()["data"], precious["data"]);
        }
    }
}
