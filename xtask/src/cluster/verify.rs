//! What makes a cluster usable: every node is ready, the API's Service answers from every node, and pods are admitted.

use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::cluster::control_plane::kubectl;
use crate::cluster::layout::{Layout, Node};
use crate::cluster::network;
use crate::cluster::node::NodeAgents;
use crate::cluster::wait::Wait;

const READY: Duration = Duration::from_secs(60);
const SERVICE: Duration = Duration::from_secs(60);

/// Waits for all of it.
pub(crate) fn all(layout: &Layout, kube: &Path, agents: &[NodeAgents]) -> Result<()> {
    let nodes = layout.nodes();
    let pairs = || nodes.iter().zip(agents);
    thread::scope(|scope| {
        let services: Vec<_> = pairs()
            .map(|(node, agents)| scope.spawn(move || service_answers(layout, kube, node, agents)))
            .collect();
        for (node, agents) in pairs() {
            let what = format!("node {} to be ready", node.name);
            agents.kubelet().until(&what, READY, || is_ready(layout, kube, &node.name))?;
        }
        let admitted = Wait { what: "the default ServiceAccount", limit: READY, log: None };
        admitted.until(|| asked(layout, kube, &["get", "serviceaccount", "default"]).map(drop))?;
        services
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap_or_else(|_| bail!("a check panicked")))
    })
}

fn is_ready(layout: &Layout, kube: &Path, node: &str) -> Result<()> {
    let ready = ready_nodes(layout, kube)?;
    ensure!(ready.iter().any(|name| name == node), "ready are {ready:?}");
    Ok(())
}

fn asked(layout: &Layout, kube: &Path, arguments: &[&str]) -> Result<Vec<u8>> {
    let answer = kubectl(layout, kube).args(arguments).output()?;
    ensure!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr).trim());
    Ok(answer.stdout)
}

/// The names of all nodes that are ready.
pub(crate) fn ready_nodes(layout: &Layout, kube: &Path) -> Result<Vec<String>> {
    let answer = asked(layout, kube, &["get", "nodes", "--output=json"])?;
    let list: Value = serde_json::from_slice(&answer).context("the list of nodes")?;
    let nodes = list.get("items").and_then(Value::as_array).into_iter().flatten();
    let ready = nodes.filter(|node| condition(node, "Ready") == Some("True"));
    Ok(ready.filter_map(|node| Some(node.pointer("/metadata/name")?.as_str()?.to_owned())).collect())
}

fn condition<'a>(node: &'a Value, kind: &str) -> Option<&'a str> {
    let conditions = node.pointer("/status/conditions")?.as_array()?;
    let found = conditions.iter().find(|one| one.get("type").and_then(Value::as_str) == Some(kind))?;
    found.get("status")?.as_str()
}

fn service_answers(layout: &Layout, kube: &Path, node: &Node, agents: &NodeAgents) -> Result<()> {
    let service = format!("https://{}:443", layout.api_service());
    let what = format!("{service} to answer from {}", node.name);
    agents.proxy().until(&what, SERVICE, || {
        let kubectl = kubectl(layout, kube);
        let mut command = network::enter(node);
        command.arg(kubectl.get_program()).args(kubectl.get_args());
        command.args(["--request-timeout=2s", "get", "--raw=/readyz"]).arg(format!("--server={service}"));
        let answer = command.output()?;
        ensure!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr).trim());
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn readiness_is_read_from_the_condition_of_that_type() {
        let conditions =
            json!([{"type": "DiskPressure", "status": "False"}, {"type": "Ready", "status": "True"}]);
        let node = json!({"status": {"conditions": conditions}});
        assert_eq!(condition(&node, "Ready"), Some("True"));
        assert_eq!(condition(&node, "PIDPressure"), None);
    }
}
