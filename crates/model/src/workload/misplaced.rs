//! Which servers are not where the instance asks for: nodes change after the scheduler has looked at them, and have no room when
//! it looks; and it moves no pod that runs.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::core::v1::Taint;

use super::placement::{Node, Nodes};
use crate::object::Instance;

/// What is not as asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Misplaced {
    /// A server outside of the region of its instance.
    Region {
        /// The pod.
        pod: String,
        /// Its node.
        node: String,
        /// The region of the node, if it is in any.
        region: Option<String>,
        /// That of the instance.
        wanted: String,
    },
    /// A server on a node without a label of `nodeSelector`.
    Label {
        /// The pod.
        pod: String,
        /// Its node.
        node: String,
        /// The label.
        label: String,
        /// What it should be.
        value: String,
    },
    /// Servers that could be spread over zones more evenly.
    Zones(Uneven),
    /// Servers that could be spread over nodes more evenly.
    Nodes(Uneven),
}

/// Two places, of which one has more servers by at least two than the other, which could have one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uneven {
    /// The one with more, and how many.
    pub crowded: (String, usize),
    /// The one with fewer, and how many.
    pub roomy: (String, usize),
}

impl fmt::Display for Misplaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let uneven = |f: &mut fmt::Formatter<'_>, place, Uneven { crowded, roomy }: &Uneven| {
            write!(f, "{place} {} has {} of them, {place} {} has {}", crowded.0, crowded.1, roomy.0, roomy.1)
        };
        match self {
            Self::Region { pod, node, region, wanted } => {
                let region = region.as_deref().unwrap_or("none");
                write!(f, "{pod} is on node {node} (region: {region}), not in region {wanted}")
            }
            Self::Label { pod, node, label, value } => {
                write!(f, "{pod} is on node {node}, which has no label {label}={value}")
            }
            Self::Zones(them) => uneven(f, "zone", them),
            Self::Nodes(them) => uneven(f, "node", them),
        }
    }
}

/// What is not as asked for of servers that run: pods, with their nodes. Whether they are spread is asked when all of them run.
pub fn misplaced(instance: &Instance, nodes: &Nodes, servers: &[(String, String)]) -> Vec<Misplaced> {
    let mut misplaced = Vec::new();
    for (pod, name) in servers {
        let Some(node) = nodes.get(name) else { continue };
        let (pod, name) = (pod.clone(), name.clone());
        let lacking = instance.pods.placement.node_selector.iter().find(|wish| !has(node, wish));
        if let Some((label, value)) = lacking {
            let (label, value) = (label.clone(), value.clone());
            misplaced.push(Misplaced::Label { pod, node: name, label, value });
        } else if let Some(wanted) = instance.region().filter(|region| node.region() != Some(*region)) {
            let region = node.region().map(str::to_owned);
            misplaced.push(Misplaced::Region { pod, node: name, region, wanted: wanted.to_owned() });
        }
    }
    if misplaced.is_empty() && servers.len() >= instance.replicas as usize {
        misplaced.extend(uneven(instance, nodes, servers));
    }
    misplaced
}

/// The worst of what could be more even. No server is to leave its zone for a node of its own, unless zones gain by that.
fn uneven(instance: &Instance, nodes: &Nodes, servers: &[(String, String)]) -> Option<Misplaced> {
    let open: BTreeMap<&str, &Node> =
        nodes.iter().filter(|(_, node)| takes(node, instance)).map(|(name, node)| (&**name, node)).collect();
    let zone = |name: &str| nodes.get(name).and_then(Node::zone);
    let count = |is_there: &dyn Fn(&str) -> bool| servers.iter().filter(|(_, node)| is_there(node)).count();
    let in_zone = |zone_name: &str| count(&|node| zone(node) == Some(zone_name));
    let on_node = |name: &str| count(&|node| node == name);
    let uneven = |crowded: (&str, usize), roomy: (&str, usize)| {
        let place = |(name, count): (&str, usize)| (name.to_owned(), count);
        (roomy.1 + 2 <= crowded.1).then(|| Uneven { crowded: place(crowded), roomy: place(roomy) })
    };
    let zones = |of: &mut dyn Iterator<Item = &str>| -> Vec<(usize, String)> {
        let mut zones: Vec<_> = of.filter_map(zone).map(|zone| (in_zone(zone), zone.to_owned())).collect();
        zones.sort();
        zones
    };
    let crowded = zones(&mut servers.iter().map(|(_, node)| &**node));
    let roomy = zones(&mut open.keys().copied());
    if let (Some((most, crowded)), Some((fewest, roomy))) = (crowded.last(), roomy.first())
        && let Some(uneven) = uneven((crowded, *most), (roomy, *fewest))
    {
        return Some(Misplaced::Zones(uneven));
    }
    let pairs = servers.iter().flat_map(|(_, from)| open.keys().map(move |to| (&**from, *to)));
    let gains = |from: &str, to: &str| match (zone(from), zone(to)) {
        (Some(from), Some(to)) => from == to || in_zone(to) < in_zone(from),
        (from, to) => from == to,
    };
    let mut found = pairs.filter(|(from, to)| gains(from, to));
    let found = found.find_map(|(from, to)| uneven((from, on_node(from)), (to, on_node(to))));
    found.map(Misplaced::Nodes)
}

/// Whether the scheduler would give the node a server, as far as labels and taints go.
fn takes(node: &Node, instance: &Instance) -> bool {
    let placement = &instance.pods.placement;
    let is_tolerated = |taint: &&Taint| placement.tolerations.iter().any(|one| tolerates(one, taint));
    let repels = |taint: &&Taint| matches!(&*taint.effect, "NoSchedule" | "NoExecute");
    placement.node_selector.iter().all(|wish| has(node, &wish))
        && instance.region().is_none_or(|region| node.region() == Some(region))
        && node.taints.iter().filter(repels).all(|taint| is_tolerated(&taint))
}

fn has(node: &Node, (label, value): &(&String, &String)) -> bool {
    node.labels.get(*label) == Some(value)
}

/// As Kubernetes has it: no key is every key, no effect is every effect, and no operator is `Equal`.
fn tolerates(toleration: &bindy_api::Toleration, taint: &Taint) -> bool {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let fits = |wish: Option<String>, found: &str| wish.is_none_or(|wish| wish == found);
    let fits_value = match toleration.operator.as_deref() {
        Some("Exists") => true,
        _ => given(&toleration.value) == given(&taint.value),
    };
    fits(given(&toleration.key), &taint.key) && fits(given(&toleration.effect), &taint.effect) && fits_value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::{REGION, ZONE};
    use serde_json::{Value, json};

    fn instance(replicas: u32, region: Option<&str>, placement: &Value) -> Instance {
        let mut instance = super::super::placement::example(1, region, placement.clone());
        instance.replicas = replicas;
        instance
    }

    /// Nodes a1, a2 … of the zone a of region eu, b1 … of zone b of region us; `taints` of each.
    fn nodes(names: &[(&str, &[&str])]) -> Nodes {
        let node = |(name, taints): &(&str, &[&str])| {
            let region = if name.starts_with('a') { "eu" } else { "us" };
            let labels = [(REGION, region), (ZONE, &name[..1]), ("disk", "ssd")];
            let labels = labels.map(|(label, value)| (label.to_owned(), value.to_owned())).into();
            let taint = |text: &&str| {
                let (key, effect) = text.split_once(':').unwrap();
                Taint { key: key.to_owned(), effect: effect.to_owned(), ..Taint::default() }
            };
            ((*name).to_owned(), Node { labels, taints: taints.iter().map(taint).collect() })
        };
        names.iter().map(node).collect()
    }

    fn told(instance: &Instance, nodes: &Nodes, on: &[&str]) -> String {
        let servers: Vec<_> = on
            .iter()
            .enumerate()
            .map(|(number, node)| (format!("dns-{number}"), (*node).to_owned()))
            .collect();
        misplaced(instance, nodes, &servers).iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn servers_outside_of_their_region_or_without_their_label_are_told_one_by_one() {
        let nodes = nodes(&[("a1", &[]), ("b1", &[])]);
        let eu = instance(2, Some("eu"), &json!({}));
        assert_eq!(told(&eu, &nodes, &["a1", "a1"]), "");
        assert_eq!(told(&eu, &nodes, &["a1", "b1"]), "dns-1 is on node b1 (region: us), not in region eu");
        let disk = instance(2, None, &json!({ "nodeSelector": { "disk": "nvme" } }));
        assert_eq!(
            told(&disk, &nodes, &["a1", "gone"]),
            "dns-0 is on node a1, which has no label disk=nvme",
            "of a node that is not known nothing is said"
        );
    }

    #[test]
    fn servers_that_share_a_node_or_a_zone_while_there_is_another_are_told() {
        let any = |replicas| instance(replicas, None, &json!({}));
        let two = nodes(&[("a1", &[]), ("a2", &[])]);
        assert_eq!(told(&any(2), &two, &["a1", "a2"]), "");
        assert_eq!(told(&any(3), &two, &["a1", "a2", "a1"]), "", "it cannot be more even");
        assert_eq!(told(&any(2), &two, &["a1", "a1"]), "node a1 has 2 of them, node a2 has 0");
        assert_eq!(told(&any(3), &two, &["a1", "a1"]), "", "the third is yet to come");
        let zones = nodes(&[("a1", &[]), ("a2", &[]), ("b1", &[])]);
        assert_eq!(told(&any(2), &zones, &["a1", "a2"]), "zone a has 2 of them, zone b has 0");
        assert_eq!(told(&any(4), &zones, &["a1", "a2", "b1", "b1"]), "");
        let wide = nodes(&[("a1", &[]), ("b1", &[]), ("b2", &[]), ("b3", &[])]);
        assert_eq!(told(&any(4), &wide, &["a1", "a1", "b1", "b2"]), "", "zones come before nodes");
        let eu = instance(2, Some("eu"), &json!({}));
        assert_eq!(told(&eu, &zones, &["a1", "a2"]), "", "zone b is not of its region");
        assert_eq!(told(&eu, &zones, &["a1", "a1"]), "node a1 has 2 of them, node a2 has 0");
    }

    #[test]
    fn a_node_that_would_get_no_server_does_not_count() {
        let shared = |taint: &str, placement: &Value| {
            let nodes = nodes(&[("a1", &[]), ("a2", &[taint])]);
            !told(&instance(2, None, placement), &nodes, &["a1", "a1"]).is_empty()
        };
        let none = json!({});
        assert!(!shared("node.kubernetes.io/unschedulable:NoSchedule", &none), "it is cordoned");
        assert!(!shared("node.kubernetes.io/unreachable:NoExecute", &none), "it is lost");
        assert!(shared("slow:PreferNoSchedule", &none));
        for (toleration, fits) in [
            (json!({ "operator": "Exists" }), true),
            (json!({ "key": "dedicated", "operator": "Exists" }), true),
            (json!({ "key": "dedicated", "operator": "Exists", "effect": "NoExecute" }), false),
            (json!({ "key": "dedicated", "value": "dns" }), false),
            (json!({ "key": "dedicated", "value": "", "effect": "NoSchedule" }), true),
            (json!({ "key": "other", "operator": "Exists" }), false),
        ] {
            let placement = json!({ "tolerations": [toleration] });
            assert_eq!(shared("dedicated:NoSchedule", &placement), fits, "{placement}");
        }
    }
}
