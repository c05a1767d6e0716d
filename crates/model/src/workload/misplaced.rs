//! Which servers are not where the instance asks for: nodes change after the scheduler has looked at them, and have no room when
//! it looks; and it moves no pod that runs.

use std::collections::BTreeMap;
use std::fmt;

use bindy_api::Strictness;
use k8s_openapi::api::core::v1::{Taint, Toleration};

use super::placement::{Node, Nodes};
use crate::object::Instance;

/// Where a pod runs, and what it asks of nodes: its own words, for more may be added to those of the instance at its admission.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Placed {
    /// The node.
    pub node: String,
    /// The labels that it asks for.
    pub node_selector: BTreeMap<String, String>,
    /// The taints that it bears.
    pub tolerations: Vec<Toleration>,
}

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
    /// A place has more servers, by at least two, than another one that could have one of them.
    Uneven {
        /// The one with more, and how many.
        crowded: (Place, usize),
        /// The one with fewer, and how many.
        roomy: (Place, usize),
    },
}

/// What is lost as one: a zone, or a node that is in none.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A zone.
    Zone(String),
    /// A node.
    Node(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zone(name) => write!(f, "zone {name}"),
            Self::Node(name) => write!(f, "node {name}"),
        }
    }
}

impl fmt::Display for Misplaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Region { pod, node, region, wanted } => {
                let region = region.as_deref().unwrap_or("none");
                write!(f, "{pod} is on node {node} (region: {region}), not in region {wanted}")
            }
            Self::Label { pod, node, label, value } => {
                write!(f, "{pod} is on node {node}, which has no label {label}={value}")
            }
            Self::Uneven { crowded, roomy } => {
                write!(f, "{} has {} of them, {} has {}", crowded.0, crowded.1, roomy.0, roomy.1)
            }
        }
    }
}

/// What is not as asked for of the pods that run. Whether they are spread is asked when all of them run, and nothing else is
/// amiss; and not of servers with volumes, which stay where these are.
pub fn misplaced(instance: &Instance, nodes: &Nodes, servers: &BTreeMap<String, Placed>) -> Vec<Misplaced> {
    let region = region(instance);
    let mut misplaced = Vec::new();
    for (pod, Placed { node: name, node_selector, .. }) in servers {
        let Some(node) = nodes.get(name) else { continue };
        let (pod, name) = (pod.clone(), name.clone());
        if let Some((label, value)) = node_selector.iter().find(|wish| !has(node, wish)) {
            let (label, value) = (label.clone(), value.clone());
            misplaced.push(Misplaced::Label { pod, node: name, label, value });
        } else if let Some(wanted) = region.filter(|region| node.region() != Some(*region)) {
            let region = node.region().map(str::to_owned);
            misplaced.push(Misplaced::Region { pod, node: name, region, wanted: wanted.to_owned() });
        }
    }
    let stay = instance.pods.storage.is_some() || servers.len() < instance.replicas as usize;
    if misplaced.is_empty() && !stay {
        misplaced.extend(uneven(region, nodes, servers));
    }
    misplaced
}

/// The region that servers have to be in. A hard spread that was asked for drives them out of one that is only preferred.
fn region(instance: &Instance) -> Option<&str> {
    let placement = &instance.pods.placement;
    let driven =
        placement.spread == Some(Strictness::Required) && placement.region != Some(Strictness::Required);
    instance.region().filter(|_| !driven)
}

/// The servers of a place.
#[derive(Clone, Copy, Default)]
struct Count {
    all: usize,
    /// Of its fullest node.
    most: usize,
    /// Of the emptiest of its nodes that would take one more.
    fewest: Option<usize>,
}

/// The worst of what could be more even. A server that would share a node there with as many as it does here is not told: where
/// zones are a preference, the scheduler itself gives it a node of its own instead.
fn uneven(region: Option<&str>, nodes: &Nodes, servers: &BTreeMap<String, Placed>) -> Option<Misplaced> {
    // They are of one template.
    let wishes = servers.values().next()?;
    let mut on_node: BTreeMap<&str, usize> = BTreeMap::new();
    for server in servers.values() {
        *on_node.entry(&server.node).or_default() += 1;
    }
    let mut places: BTreeMap<Place, Count> = BTreeMap::new();
    for (name, node) in nodes {
        let place =
            node.zone().map_or_else(|| Place::Node(name.clone()), |zone| Place::Zone(zone.to_owned()));
        let here = on_node.get(&**name).copied().unwrap_or_default();
        let count = places.entry(place).or_default();
        count.all += here;
        count.most = count.most.max(here);
        if region.is_none_or(|region| node.region() == Some(region)) && takes(node, wishes) {
            count.fewest = Some(count.fewest.map_or(here, |fewest| fewest.min(here)));
        }
    }
    let (all, most, crowded) = places.iter().map(|(place, count)| (count.all, count.most, place)).max()?;
    let open = places.iter().filter_map(|(place, count)| Some((count.all, count.fewest?, place)));
    let (few, fewest, roomy) = open.min()?;
    (few + 2 <= all && fewest < most)
        .then(|| Misplaced::Uneven { crowded: (crowded.clone(), all), roomy: (roomy.clone(), few) })
}

/// Whether the scheduler would give the node a server, as far as labels and taints go. One with a taint that is only to be
/// avoided gets none either: that weighs more than to share a node.
fn takes(node: &Node, wishes: &Placed) -> bool {
    wishes.node_selector.iter().all(|wish| has(node, &wish))
        && node.taints.iter().all(|taint| wishes.tolerations.iter().any(|one| tolerates(one, taint)))
}

fn has(node: &Node, (label, value): &(&String, &String)) -> bool {
    node.labels.get(*label) == Some(value)
}

/// As Kubernetes has it: no key is every key, no effect is every effect, and no operator is `Equal`.
fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
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
    use crate::workload::placement::{example, tolerations};
    use crate::workload::{REGION, ZONE};
    use serde_json::{Value, json};

    /// Three servers of an instance.
    struct Three {
        instance: Instance,
        nodes: Nodes,
    }

    impl Three {
        fn new(region: Option<&str>, placement: &Value, nodes: Nodes) -> Self {
            Self { instance: example(1, region, placement.clone()), nodes }
        }

        /// What is told when they are on these nodes.
        fn on(&self, nodes: &[&str]) -> String {
            let placement = &self.instance.pods.placement;
            let server = |(number, node): (usize, &&str)| {
                let node_selector = placement.node_selector.clone();
                let node = (*node).to_owned();
                let placed = Placed { node, node_selector, tolerations: tolerations(&self.instance) };
                (format!("dns-{number}"), placed)
            };
            let servers = nodes.iter().enumerate().map(server).collect();
            let told = misplaced(&self.instance, &self.nodes, &servers);
            told.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
        }
    }

    fn node(labels: &[(&str, &str)], taints: &[&str]) -> Node {
        let labels = labels.iter().map(|(label, value)| ((*label).to_owned(), (*value).to_owned())).collect();
        let taint = |text: &&str| {
            let (key, effect) = text.split_once(':').unwrap();
            Taint { key: key.to_owned(), effect: effect.to_owned(), ..Taint::default() }
        };
        Node { labels, taints: taints.iter().map(taint).collect() }
    }

    /// Nodes a1, a2 … of the zone a of region eu, b1 … and c1 … of zones of region us.
    fn zoned(names: &[&str]) -> Nodes {
        let named = |name: &&str| {
            let region = if name.starts_with('a') { "eu" } else { "us" };
            ((*name).to_owned(), node(&[(REGION, region), (ZONE, &name[..1])], &[]))
        };
        names.iter().map(named).collect()
    }

    /// Nodes without zones, with their taints.
    fn bare(names: &[(&str, &[&str])]) -> Nodes {
        names.iter().map(|(name, taints)| ((*name).to_owned(), node(&[], taints))).collect()
    }

    #[test]
    fn servers_outside_of_their_region_or_without_their_label_are_told_one_by_one() {
        let nodes = || zoned(&["a1", "b1", "c1"]);
        let eu = |placement: Value| Three::new(Some("eu"), &placement, nodes());
        assert_eq!(eu(json!({})).on(&["a1", "a1", "a1"]), "");
        let outside = "dns-1 is on node b1 (region: us), not in region eu";
        assert_eq!(eu(json!({})).on(&["a1", "b1", "a1"]), outside);
        assert_eq!(eu(json!({ "spread": "preferred" })).on(&["a1", "b1", "a1"]), outside);
        let driven = json!({ "spread": "required" });
        assert_eq!(eu(driven.clone()).on(&["a1", "b1", "c1"]), "", "it asked for that");
        assert_eq!(eu(driven).on(&["a1", "a1", "b1"]), "zone a has 2 of them, zone c has 0");
        let strict = json!({ "spread": "required", "region": "required" });
        assert_eq!(eu(strict).on(&["a1", "b1", "a1"]), outside);
        let disk = Three::new(None, &json!({ "nodeSelector": { "disk": "nvme" } }), nodes());
        assert_eq!(
            disk.on(&["a1", "gone", "gone"]),
            "dns-0 is on node a1, which has no label disk=nvme",
            "of a node that is not known nothing is said"
        );
    }

    #[test]
    fn servers_that_share_a_zone_while_another_has_room_are_told() {
        let any = |names: &[&str]| Three::new(None, &json!({}), zoned(names));
        assert_eq!(any(&["a1", "a2", "b1"]).on(&["a1", "a2", "b1"]), "", "it cannot be more even");
        assert_eq!(any(&["a1", "b1", "c1"]).on(&["a1", "b1", "b1"]), "zone b has 2 of them, zone c has 0");
        assert_eq!(any(&["a1", "b1", "c1"]).on(&["b1", "b1"]), "", "the third is yet to come");
        assert_eq!(
            any(&["a1", "a2", "a3", "b1"]).on(&["a1", "a2", "a3"]),
            "zone a has 3 of them, zone b has 0"
        );
        let alone = any(&["a1", "a2", "a3", "b1"]).on(&["a1", "a2", "a3", "b1"]);
        assert_eq!(alone, "", "each has a node of its own");
        assert_eq!(
            any(&["a1", "a2", "b1"]).on(&["a1", "a1", "b1"]),
            "",
            "of nodes in a zone nothing is said"
        );
        let eu = Three::new(Some("eu"), &json!({}), zoned(&["a1", "a2", "b1"]));
        assert_eq!(eu.on(&["a1", "a2", "a1"]), "", "zone b is not of its region");
        let mut stored = any(&["a1", "b1", "c1"]);
        stored.instance.pods.storage = Some(bindy_api::Storage::default());
        assert_eq!(stored.on(&["a1", "b1", "b1"]), "", "its volume keeps it there");
    }

    #[test]
    fn nodes_without_a_zone_are_places_of_their_own() {
        let two = Three::new(None, &json!({}), bare(&[("x", &[]), ("y", &[])]));
        assert_eq!(two.on(&["x", "y", "x"]), "");
        assert_eq!(two.on(&["x", "x", "x"]), "node x has 3 of them, node y has 0");
        let partly = bare(&[("x", &[])]).into_iter().chain(zoned(&["a1"])).collect();
        let partly = Three::new(None, &json!({}), partly);
        assert_eq!(partly.on(&["x", "x", "x"]), "node x has 3 of them, zone a has 0");
    }

    #[test]
    fn a_node_that_would_get_no_server_does_not_count() {
        let is_told = |taint: &str, placement: &Value| {
            let nodes = bare(&[("x", &[]), ("y", &[taint])]);
            !Three::new(None, placement, nodes).on(&["x", "x", "x"]).is_empty()
        };
        let none = json!({});
        assert!(!is_told("node.kubernetes.io/unschedulable:NoSchedule", &none), "it is cordoned");
        assert!(!is_told("node.kubernetes.io/unreachable:NoSchedule", &none), "it is lost");
        assert!(!is_told("slow:PreferNoSchedule", &none));
        for (toleration, fits) in [
            (json!({ "operator": "Exists" }), true),
            (json!({ "key": "dedicated", "operator": "Exists" }), true),
            (json!({ "key": "dedicated", "operator": "Exists", "effect": "NoExecute" }), false),
            (json!({ "key": "dedicated", "value": "dns" }), false),
            (json!({ "key": "dedicated", "value": "", "effect": "NoSchedule" }), true),
            (json!({ "key": "other", "operator": "Exists" }), false),
        ] {
            let placement = json!({ "tolerations": [toleration] });
            assert_eq!(is_told("dedicated:NoSchedule", &placement), fits, "{placement}");
        }
    }
}
