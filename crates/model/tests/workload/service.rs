//! The Service that clients ask.

use bindy_model::workload::{ObjectKind, difference};
use serde_json::{Value, json};

use crate::objects;

#[test]
fn the_service_is_as_the_instance_asks_and_leads_to_port_53_of_the_servers() {
    let service = |wish: Value| {
        let objects = objects(|instance| instance.pods.service = serde_json::from_value(wish).unwrap());
        let transfer = objects.iter().find(|object| object.name == "primary-dns-transfer").unwrap();
        assert_eq!(transfer.body["spec"]["type"], "ClusterIP", "servers stay among themselves");
        objects
            .iter()
            .find(|one| one.kind == ObjectKind::Service && one.name == "primary-dns")
            .unwrap()
            .body
            .clone()
    };
    let balanced = service(json!({
        "type": "LoadBalancer", "loadBalancerClass": "example.com/lb", "addresses": ["192.0.2.53"],
        "annotations": { "pool": "dns" }, "externalTrafficPolicy": "Local", "ipFamilyPolicy": "SingleStack",
        "clusterIP": "10.96.0.99", "ports": [53, 1053],
    }));
    assert_eq!(balanced["metadata"]["annotations"]["pool"], "dns");
    let spec = &balanced["spec"];
    for (field, value) in [
        ("type", "LoadBalancer"),
        ("loadBalancerClass", "example.com/lb"),
        ("loadBalancerIP", "192.0.2.53"),
        ("externalTrafficPolicy", "Local"),
        ("ipFamilyPolicy", "SingleStack"),
        ("clusterIP", "10.96.0.99"),
    ] {
        assert_eq!(spec[field], value);
    }
    let ports: Vec<(&Value, &Value, &Value, &Value)> = spec["ports"]
        .as_array()
        .unwrap()
        .iter()
        .map(|port| (&port["name"], &port["protocol"], &port["port"], &port["targetPort"]))
        .collect();
    assert_eq!(
        json!(ports),
        json!([
            ["dns", "UDP", 53, 53],
            ["dns-tcp", "TCP", 53, 53],
            ["dns-1053", "UDP", 1053, 53],
            ["dns-1053-tcp", "TCP", 1053, 53]
        ])
    );
    let fixed = service(json!({ "addresses": ["192.0.2.53", "192.0.2.54"] }));
    assert_eq!(fixed["spec"]["externalIPs"], json!(["192.0.2.53", "192.0.2.54"]));
    assert_eq!(
        (&fixed["spec"]["type"], &fixed["spec"]["loadBalancerIP"]),
        (&json!("ClusterIP"), &Value::Null)
    );
    assert!(difference(&fixed, &service(json!({}))).is_some(), "what is not wanted any more shows");
}

#[test]
fn servers_that_alone_answer_for_their_node_stay_ready_for_a_while_when_they_stop() {
    let told = |policy: &str| {
        let wish = json!({ "type": "NodePort", "externalTrafficPolicy": policy });
        let objects = objects(|instance| instance.pods.service = serde_json::from_value(wish).unwrap());
        let config = objects.iter().find(|one| one.kind == ObjectKind::ConfigMap).unwrap();
        let agent: Value = serde_json::from_str(config.body["data"]["agent.json"].as_str().unwrap()).unwrap();
        agent["readyWhileStoppingSeconds"].clone()
    };
    assert_eq!((told("Local"), told("Cluster")), (json!(15), Value::Null));
}
