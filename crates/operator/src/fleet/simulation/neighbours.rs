//! What instances are told of each other.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use tokio::task::JoinSet;

use super::super::queue::Queue;
use super::super::{Look, Runner};
use super::*;

fn named(name: &str, spec: &Value) -> Value {
    let mut object = instance(name, spec);
    object["metadata"]["name"] = json!(name);
    object
}

impl Runner {
    /// Looks at whatever is due, until nothing is.
    async fn idle(&mut self) {
        let mut looks: JoinSet<Look> = JoinSet::new();
        loop {
            self.start(&mut looks);
            let Some(look) = looks.join_next().await else { return };
            self.finish(look);
        }
    }

    async fn look_at(&mut self, name: &str) {
        self.queue.add(NamespacedName::new("default", name), Instant::now());
        self.idle().await;
    }
}

#[tokio::test]
async fn neighbours_are_told_at_once_of_a_transfer_service_that_was_made_again() {
    let World { api, context, observed, .. } = World::new();
    let mut runner = Runner {
        context: Arc::new(context),
        term: Term::unlimited(),
        observed,
        reports: watch::channel(Arc::default()).0,
        queue: Queue::default(),
        memories: HashMap::new(),
        unlisted: 0,
        view: None,
    };
    let (up, down) = (
        named("up", &json!({ "replicas": 1 })),
        named("down", &json!({ "replicas": 1, "role": "secondary", "upstreams": [{ "name": "up" }] })),
    );
    runner.take_view(Some(Arc::new(view(&[up, down]))));
    runner.idle().await;
    let service = api.get("services", "up-transfer").unwrap();
    let address = format!("{}:5353", service["spec"]["clusterIPs"][0].as_str().unwrap());
    let is_told = || {
        let config = api.get("configmaps", "down-config").unwrap();
        config["data"]["agent.json"].as_str().unwrap().contains(&address)
    };
    assert!(is_told());
    api.remove("services", "up-transfer");
    runner.observed.heard_gone(ObjectKind::Service, &service);
    runner.look_at("down").await;
    assert!(!is_told(), "nobody answers there");
    // The answer to this is all that is heard of the new one.
    runner.look_at("up").await;
    assert!(is_told());
}
