//! Where pods run: node affinity, spread, tolerations; and what nodes have to do with it.
//!
//! Whether zones are a hard limit depends on the nodes, and nodes come and go: so it is decided once a generation, where that
//! replaces servers anyway, and noted on the workload. A later look, or another operator, finds the note and asks no node.

use std::collections::BTreeMap;

use bindy_api::Strictness;
use k8s_openapi::api::core::v1::{
    Affinity, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodAffinity,
    PodAffinityTerm, PodAntiAffinity, PreferredSchedulingTerm, Taint, Toleration, TopologySpreadConstraint,
    WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

use super::PlanError;
use super::names::POD_LABEL;
use crate::object::Instance;

/// Label of nodes with their region.
pub const REGION: &str = "topology.kubernetes.io/region";
/// Label of nodes with their zone.
pub const ZONE: &str = "topology.kubernetes.io/zone";
/// Annotation of the workload: how strictly its pods are spread over zones, and for what that was decided.
pub const SPREAD_ANNOTATION: &str = "bindy.firestoned.io/spread";

/// What the note says before the word that the instance asked for itself.
const ASKED: &str = " asked";

/// What zones may differ by in servers before that weighs against a preferred region, where the scheduler gives each of region
/// and zones the same weight (`NodeAffinity` and `PodTopologySpread`: 2 of 100 each). It tells a soft spread's zones apart by
/// servers + maxSkew − 1: the larger, the less they differ.
const SKEW_IN_A_REGION: i32 = 5;

/// How long a pod waits for a lost node to come back before it is made elsewhere.
const LOST_NODE_SECONDS: i64 = 30;
/// Taints of lost nodes.
const LOST_NODE: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

/// What of a node decides who may run on it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Node {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its taints; one that takes no new pods (`kubectl cordon`) or is lost has some for that.
    pub taints: Vec<Taint>,
}

impl Node {
    /// Its region.
    pub fn region(&self) -> Option<&str> {
        self.labels.get(REGION).map(String::as_str)
    }

    /// Its zone.
    pub fn zone(&self) -> Option<&str> {
        self.labels.get(ZONE).map(String::as_str)
    }
}

/// The nodes of the cluster by name.
pub type Nodes = BTreeMap<String, Node>;

/// How strictly pods are spread over zones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spread {
    /// How strictly.
    pub strictness: Strictness,
    /// The value of [`SPREAD_ANNOTATION`] that remembers it.
    pub note: String,
}

impl Spread {
    /// As the instance asks; else as noted for this generation; else by the nodes, as far as they are known.
    pub fn decide(instance: &Instance, noted: Option<&str>, nodes: Option<&Nodes>) -> Self {
        let region = instance.region();
        let about = format!("{} {}", instance.metadata.generation, region.unwrap_or("-"));
        let before = noted.and_then(|note| note.rsplit_once(' '));
        let noted = before.and_then(|(noted_about, word)| Some((noted_about, strictness(word)?)));
        if let Some(strictness) = instance.pods.placement.spread {
            return Self { note: format!("{about}{ASKED} {}", word(strictness)), strictness };
        }
        let strictness = match (noted, nodes) {
            (Some((noted_about, strictness)), _) if noted_about == about => strictness,
            (_, Some(nodes)) => by_nodes(instance, nodes),
            (Some((_, strictness)), None) => strictness,
            (None, None) => Strictness::Preferred,
        };
        Self { note: format!("{about} {}", word(strictness)), strictness }
    }

    /// As decided for whichever generation, unless the instance asks for something, or did: what holds while no server is replaced.
    pub fn keep(instance: &Instance, noted: Option<&str>) -> Option<Self> {
        let noted = noted.filter(|_| instance.pods.placement.spread.is_none())?;
        let (about, word) = noted.rsplit_once(' ')?;
        if about.ends_with(ASKED) {
            return None;
        }
        Some(Self { strictness: strictness(word)?, note: noted.to_owned() })
    }
}

/// Zones are a hard limit where every node has one. All zones count then, those of other regions too: a server would have
/// to leave its region when that has a server in each zone. So not where the region is a preference that can be met.
fn by_nodes(instance: &Instance, nodes: &Nodes) -> Strictness {
    let there = |node: &&Node| instance.region().is_some_and(|region| node.region() == Some(region));
    let zoned = |node: &Node| node.zone().is_some();
    let hard = match instance.pods.placement.region {
        Some(Strictness::Required) => {
            nodes.values().any(|node| there(&node)) && nodes.values().filter(there).all(zoned)
        }
        _ => !nodes.is_empty() && !nodes.values().any(|node| there(&node)) && nodes.values().all(zoned),
    };
    if hard { Strictness::Required } else { Strictness::Preferred }
}

fn word(strictness: Strictness) -> &'static str {
    match strictness {
        Strictness::Preferred => "preferred",
        Strictness::Required => "required",
    }
}

fn strictness(text: &str) -> Option<Strictness> {
    [Strictness::Preferred, Strictness::Required].into_iter().find(|one| word(*one) == text)
}

/// Different nodes where there are enough; the region of the instance where it has any. `told_apart_by` as in [`spread`]: a
/// new pod would not know otherwise which nodes are about to lose theirs, and a roll-out would end with two on one.
///
/// To share a node weighs as much as to leave a preferred region. So servers draw each other into a region by as much as they
/// repel each other from a node: together that leaves the nodes of other regions no better.
pub(super) fn affinity(instance: &Instance, told_apart_by: &str) -> Result<Affinity, PlanError> {
    let servers = |topology_key: &str| {
        let name = LabelSelectorRequirement {
            key: POD_LABEL.to_owned(),
            operator: "In".to_owned(),
            values: Some(vec![instance.metadata.key.name.clone()]),
        };
        let pod_affinity_term = PodAffinityTerm {
            label_selector: Some(LabelSelector { match_expressions: Some(vec![name]), match_labels: None }),
            topology_key: topology_key.to_owned(),
            match_label_keys: Some(vec![told_apart_by.to_owned()]),
            ..PodAffinityTerm::default()
        };
        Some(vec![WeightedPodAffinityTerm { weight: 100, pod_affinity_term }])
    };
    Ok(Affinity {
        pod_anti_affinity: Some(PodAntiAffinity {
            preferred_during_scheduling_ignored_during_execution: servers("kubernetes.io/hostname"),
            ..PodAntiAffinity::default()
        }),
        node_affinity: region(instance)?,
        pod_affinity: prefers_region(instance).then(|| PodAffinity {
            preferred_during_scheduling_ignored_during_execution: servers(REGION),
            ..PodAffinity::default()
        }),
    })
}

/// Whether the region of the instance is one that its servers may leave.
fn prefers_region(instance: &Instance) -> bool {
    instance.region().is_some() && instance.pods.placement.region != Some(Strictness::Required)
}

/// The nodes of the instance's region, if it has one.
fn region(instance: &Instance) -> Result<Option<NodeAffinity>, PlanError> {
    let strictness = instance.pods.placement.region;
    let Some(region) = instance.region() else {
        return match strictness {
            Some(Strictness::Required) => Err(PlanError::NoRegion),
            _ => Ok(None),
        };
    };
    let there = NodeSelectorRequirement {
        key: REGION.to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![region.to_owned()]),
    };
    let term = NodeSelectorTerm { match_expressions: Some(vec![there]), match_fields: None };
    Ok(Some(match strictness.unwrap_or(Strictness::Preferred) {
        Strictness::Required => NodeAffinity {
            required_during_scheduling_ignored_during_execution: Some(NodeSelector {
                node_selector_terms: vec![term],
            }),
            ..NodeAffinity::default()
        },
        Strictness::Preferred => NodeAffinity {
            preferred_during_scheduling_ignored_during_execution: Some(vec![PreferredSchedulingTerm {
                weight: 100,
                preference: term,
            }]),
            ..NodeAffinity::default()
        },
    }))
}

/// Zones share the pods. `told_apart_by` is the label by which pods that are about to be replaced are not counted.
pub(super) fn spread(instance: &Instance, spread: &Spread, told_apart_by: &str) -> TopologySpreadConstraint {
    let pods = BTreeMap::from([(POD_LABEL.to_owned(), instance.metadata.key.name.clone())]);
    let (when_unsatisfiable, max_skew) = match spread.strictness {
        Strictness::Required => ("DoNotSchedule", 1),
        Strictness::Preferred if prefers_region(instance) => ("ScheduleAnyway", SKEW_IN_A_REGION),
        Strictness::Preferred => ("ScheduleAnyway", 1),
    };
    TopologySpreadConstraint {
        max_skew,
        topology_key: ZONE.to_owned(),
        when_unsatisfiable: when_unsatisfiable.to_owned(),
        label_selector: Some(LabelSelector { match_labels: Some(pods), match_expressions: None }),
        match_label_keys: Some(vec![told_apart_by.to_owned()]),
        node_taints_policy: Some("Honor".to_owned()),
        ..TopologySpreadConstraint::default()
    }
}

/// The instance's own, and those of lost nodes where it says nothing of them.
pub(super) fn tolerations(instance: &Instance) -> Vec<Toleration> {
    let own = &instance.pods.placement.tolerations;
    let unsaid = LOST_NODE.iter().filter(|key| !own.iter().any(|one| one.key.as_deref() == Some(**key)));
    let lost = unsaid.map(|key| Toleration {
        key: Some((*key).to_owned()),
        operator: Some("Exists".to_owned()),
        effect: Some("NoExecute".to_owned()),
        toleration_seconds: Some(LOST_NODE_SECONDS),
        value: None,
    });
    let own = own.iter().map(|one| {
        let bindy_api::Toleration { key, operator, value, effect, toleration_seconds } = one.clone();
        // The API server leaves an empty one out, which would look like somebody's change.
        let value = value.filter(|value| !value.is_empty());
        Toleration { key, operator, value, effect, toleration_seconds }
    });
    own.chain(lost).collect()
}

/// An instance for tests.
#[cfg(test)]
pub(super) fn example(generation: u32, region: Option<&str>, placement: serde_json::Value) -> Instance {
    use crate::object::{Metadata, NamespacedName, PodSettings, Role};
    let labels = region.map(|region| (bindy_api::REGION_LABEL.to_owned(), region.to_owned()));
    Instance {
        metadata: Metadata {
            key: NamespacedName::new("default", "dns"),
            uid: "u".to_owned(),
            created: 0,
            generation,
            labels: labels.into_iter().collect(),
            release: None,
        },
        replicas: 3,
        role: Role::Primary,
        upstreams: Vec::new(),
        outside: Vec::new(),
        downstreams: Default::default(),
        config: Default::default(),
        pods: PodSettings { placement: serde_json::from_value(placement).unwrap(), ..PodSettings::default() },
        paused: false,
    }
}

#[cfg(test)]
mod tests {
    use super::example as instance;
    use super::*;

    fn nodes(topologies: &[(Option<&str>, Option<&str>)]) -> Nodes {
        let nodes = topologies.iter().enumerate().map(|(number, (region, zone))| {
            let labels = [(REGION, *region), (ZONE, *zone)].into_iter();
            let labels = labels.filter_map(|(label, value)| Some((label.to_owned(), value?.to_owned())));
            (format!("node{number}"), Node { labels: labels.collect(), taints: Vec::new() })
        });
        nodes.collect()
    }

    fn decided(instance: &Instance, nodes: &Nodes) -> Strictness {
        Spread::decide(instance, None, Some(nodes)).strictness
    }

    #[test]
    fn zones_are_a_hard_limit_where_every_node_has_one() {
        use Strictness::{Preferred, Required};
        let any = instance(1, None, serde_json::json!({}));
        let zoned = nodes(&[(Some("eu"), Some("eu-a")), (Some("us"), Some("us-a"))]);
        let partly = nodes(&[(Some("eu"), Some("eu-a")), (Some("us"), None)]);
        assert_eq!(decided(&any, &zoned), Required);
        assert_eq!(decided(&any, &partly), Preferred);
        assert_eq!(decided(&any, &nodes(&[])), Preferred);
        assert_eq!(Spread::decide(&any, None, None).strictness, Preferred);
        let wish = instance(1, None, serde_json::json!({ "spread": "preferred" }));
        assert_eq!(decided(&wish, &zoned), Preferred);
    }

    #[test]
    fn what_was_decided_is_kept_and_what_was_asked_for_can_be_taken_back() {
        let zoned = nodes(&[(Some("eu"), Some("eu-a")), (Some("us"), Some("us-a"))]);
        let any = |generation| instance(generation, None, serde_json::json!({}));
        let decided = Spread::decide(&any(1), None, Some(&zoned));
        assert_eq!(Spread::keep(&any(2), Some(&decided.note)), Some(decided));
        let asking = instance(2, None, serde_json::json!({ "spread": "preferred" }));
        let asked = Spread::decide(&asking, None, Some(&zoned));
        assert_eq!(Spread::keep(&any(3), Some(&asked.note)), None);
        assert_eq!(Spread::decide(&any(3), Some(&asked.note), Some(&zoned)).strictness, Strictness::Required);
    }

    #[test]
    fn a_toleration_asks_for_nothing_that_the_api_server_leaves_out() {
        let wish = [serde_json::json!({ "key": "dedicated", "operator": "Equal", "value": "" })];
        let wish = instance(1, None, serde_json::json!({ "tolerations": wish }));
        let asked = tolerations(&wish);
        let own = asked.iter().find(|one| one.key.as_deref() == Some("dedicated")).unwrap();
        assert_eq!(own.value, None);
    }

    #[test]
    fn zones_drive_no_server_out_of_a_preferred_region() {
        use Strictness::{Preferred, Required};
        let zoned = nodes(&[(Some("eu"), Some("eu-a")), (Some("us"), Some("us-a"))]);
        let partly = nodes(&[(Some("eu"), Some("eu-a")), (Some("us"), None)]);
        let preferred = |region| instance(1, Some(region), serde_json::json!({}));
        let required = |region| instance(1, Some(region), serde_json::json!({ "region": "required" }));
        assert_eq!(decided(&preferred("eu"), &zoned), Preferred);
        assert_eq!(
            decided(&preferred("mars"), &zoned),
            Required,
            "there is no such region to be driven out of"
        );
        assert_eq!(decided(&required("eu"), &partly), Required, "nodes of other regions do not count");
        assert_eq!(decided(&required("us"), &partly), Preferred);
        assert_eq!(decided(&required("mars"), &zoned), Preferred);
    }

    #[test]
    fn servers_draw_each_other_into_a_preferred_region_as_much_as_they_repel_each_other_from_a_node() {
        let of = |region: Option<&str>, placement: serde_json::Value| {
            let instance = instance(1, region, placement);
            let affinity = affinity(&instance, "revision").unwrap();
            let apart =
                affinity.pod_anti_affinity.unwrap().preferred_during_scheduling_ignored_during_execution;
            let near =
                affinity.pod_affinity.map(|one| one.preferred_during_scheduling_ignored_during_execution);
            let soft = Spread { strictness: Strictness::Preferred, note: String::new() };
            (near.map(Option::unwrap), apart.unwrap(), spread(&instance, &soft, "revision").max_skew)
        };
        let (near, apart, skew) = of(Some("eu"), serde_json::json!({}));
        let near = near.unwrap();
        assert_eq!(
            near.iter().map(|one| one.weight).sum::<i32>(),
            apart.iter().map(|one| one.weight).sum::<i32>()
        );
        assert!(near.iter().all(|one| one.pod_affinity_term.topology_key == REGION));
        assert!(skew > 1, "zones would weigh as much as the region");
        for (region, placement) in
            [(None, serde_json::json!({})), (Some("eu"), serde_json::json!({ "region": "required" }))]
        {
            let (near, _, skew) = of(region, placement);
            assert_eq!((near, skew), (None, 1), "{region:?} has no preference to be outvoted");
        }
    }

    #[test]
    fn what_was_decided_for_a_generation_stays_whatever_becomes_of_the_nodes() {
        let zoned = nodes(&[(None, Some("a"))]);
        let bare = nodes(&[(None, None)]);
        let (first, second) =
            (instance(1, None, serde_json::json!({})), instance(2, None, serde_json::json!({})));
        let decision = Spread::decide(&first, None, Some(&zoned));
        assert_eq!(decision.note, "1 - required");
        let noted = Some(decision.note.as_str());
        assert_eq!(Spread::decide(&first, noted, Some(&bare)), decision);
        assert_eq!(Spread::decide(&first, noted, None), decision);
        assert_eq!(
            Spread::decide(&second, noted, None).strictness,
            Strictness::Required,
            "nodes are not known"
        );
        assert_eq!(Spread::decide(&second, noted, Some(&bare)).note, "2 - preferred");
        let moved = instance(1, Some("eu"), serde_json::json!({}));
        assert_eq!(Spread::decide(&moved, noted, Some(&bare)).note, "1 eu preferred");
    }
}
