//! The Deployment: how many pods, where they run, and what they are made of.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::api::core::v1::{
    Affinity, ConfigMapVolumeSource, EmptyDirVolumeSource, KeyToPath, NodeAffinity, NodeSelectorRequirement,
    NodeSelectorTerm, PodAffinityTerm, PodAntiAffinity, PodSecurityContext, PodSpec, PodTemplateSpec,
    PreferredSchedulingTerm, ProjectedVolumeSource, SeccompProfile, SecretProjection, Sysctl, Toleration,
    TopologySpreadConstraint, Volume, VolumeProjection, WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::Cluster;
use super::containers::{self, volumes};
use super::names::{ObjectNames, POD_LABEL, labels, pod_labels};
use crate::object::Instance;

/// User and group of everything in a pod. Its files are given to it by `fsGroup`, so any image will do.
const USER: i64 = 65532;
/// How long a pod waits for a lost node to come back before it is made elsewhere.
const LOST_NODE_SECONDS: i64 = 30;
/// Taints of lost nodes.
const LOST_NODE: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

/// The pods of an instance.
pub(super) fn deployment(
    metadata: ObjectMeta,
    instance: &Instance,
    names: &ObjectNames,
    cluster: &Cluster,
) -> Deployment {
    let name = &instance.metadata.key.name;
    let mut pod_metadata = ObjectMeta { labels: Some(labels(name)), ..ObjectMeta::default() };
    pod_metadata.labels.get_or_insert_default().insert(POD_LABEL.to_owned(), name.clone());
    let one_more_first = RollingUpdateDeployment {
        max_unavailable: Some(IntOrString::Int(0)),
        max_surge: Some(IntOrString::Int(1)),
    };
    let spec = DeploymentSpec {
        replicas: Some(i32::try_from(instance.replicas).unwrap_or(i32::MAX)),
        selector: LabelSelector { match_labels: Some(pod_labels(name)), match_expressions: None },
        strategy: Some(DeploymentStrategy {
            type_: Some("RollingUpdate".to_owned()),
            rolling_update: Some(one_more_first),
        }),
        revision_history_limit: Some(3),
        template: PodTemplateSpec { metadata: Some(pod_metadata), spec: Some(pod(instance, names, cluster)) },
        ..DeploymentSpec::default()
    };
    Deployment { metadata, spec: Some(spec), ..Deployment::default() }
}

fn pod(instance: &Instance, names: &ObjectNames, cluster: &Cluster) -> PodSpec {
    let placement = &instance.pods.placement;
    PodSpec {
        service_account_name: Some(names.service_account.clone()),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(30),
        security_context: Some(security()),
        init_containers: Some(vec![containers::agent(&cluster.agent_image)]),
        containers: vec![containers::named(&instance.pods)],
        volumes: Some(pod_volumes(names)),
        affinity: Some(affinity(instance)),
        topology_spread_constraints: Some(vec![spread(instance)]),
        node_selector: (!placement.node_selector.is_empty()).then(|| placement.node_selector.clone()),
        tolerations: Some(tolerations(instance)),
        ..PodSpec::default()
    }
}

/// What the restricted pod security standard asks of a pod; and port 53 without a capability.
fn security() -> PodSecurityContext {
    let ports = Sysctl { name: "net.ipv4.ip_unprivileged_port_start".to_owned(), value: "0".to_owned() };
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(USER),
        run_as_group: Some(USER),
        fs_group: Some(USER),
        seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }),
        sysctls: Some(vec![ports]),
        ..PodSecurityContext::default()
    }
}

fn pod_volumes(names: &ObjectNames) -> Vec<Volume> {
    let volume = |name: &str| Volume { name: name.to_owned(), ..Volume::default() };
    let keys = |secret: &str, file: &str| VolumeProjection {
        secret: Some(SecretProjection {
            name: secret.to_owned(),
            items: Some(vec![KeyToPath { key: "key".to_owned(), path: file.to_owned(), mode: None }]),
            optional: Some(true),
        }),
        ..VolumeProjection::default()
    };
    let config = ConfigMapVolumeSource { name: names.config_map.clone(), ..ConfigMapVolumeSource::default() };
    let keys = ProjectedVolumeSource {
        sources: Some(vec![keys(&names.secret, "a"), keys(&names.other_secret, "b")]),
        default_mode: Some(0o440),
    };
    let run = EmptyDirVolumeSource {
        medium: Some("Memory".to_owned()),
        size_limit: Some(Quantity("1Mi".to_owned())),
    };
    vec![
        Volume { config_map: Some(config), ..volume(volumes::CONFIG) },
        Volume { projected: Some(keys), ..volume(volumes::KEYS) },
        Volume { empty_dir: Some(EmptyDirVolumeSource::default()), ..volume(volumes::DATA) },
        Volume { empty_dir: Some(run), ..volume(volumes::RUN) },
    ]
}

/// Different nodes where there are enough; the region of the instance where it has any.
fn affinity(instance: &Instance) -> Affinity {
    let name = LabelSelectorRequirement {
        key: POD_LABEL.to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![instance.metadata.key.name.clone()]),
    };
    let apart = WeightedPodAffinityTerm {
        weight: 100,
        pod_affinity_term: PodAffinityTerm {
            label_selector: Some(LabelSelector { match_expressions: Some(vec![name]), match_labels: None }),
            topology_key: "kubernetes.io/hostname".to_owned(),
            ..PodAffinityTerm::default()
        },
    };
    Affinity {
        pod_anti_affinity: Some(PodAntiAffinity {
            preferred_during_scheduling_ignored_during_execution: Some(vec![apart]),
            ..PodAntiAffinity::default()
        }),
        node_affinity: instance.metadata.labels.get(bindy_api::REGION_LABEL).map(|region| in_region(region)),
        pod_affinity: None,
    }
}

fn in_region(region: &str) -> NodeAffinity {
    let there = NodeSelectorRequirement {
        key: "topology.kubernetes.io/region".to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![region.to_owned()]),
    };
    let preference = NodeSelectorTerm { match_expressions: Some(vec![there]), match_fields: None };
    NodeAffinity {
        preferred_during_scheduling_ignored_during_execution: Some(vec![PreferredSchedulingTerm {
            weight: 100,
            preference,
        }]),
        ..NodeAffinity::default()
    }
}

/// Zones share the pods; a cluster whose nodes carry no zones runs them all the same.
fn spread(instance: &Instance) -> TopologySpreadConstraint {
    let pods = std::collections::BTreeMap::from([(POD_LABEL.to_owned(), instance.metadata.key.name.clone())]);
    TopologySpreadConstraint {
        max_skew: 1,
        topology_key: "topology.kubernetes.io/zone".to_owned(),
        when_unsatisfiable: "ScheduleAnyway".to_owned(),
        label_selector: Some(LabelSelector { match_labels: Some(pods), match_expressions: None }),
        match_label_keys: Some(vec!["pod-template-hash".to_owned()]),
        node_taints_policy: Some("Honor".to_owned()),
        ..TopologySpreadConstraint::default()
    }
}

/// The instance's own, and those of lost nodes where it says nothing of them.
fn tolerations(instance: &Instance) -> Vec<Toleration> {
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
        Toleration { key, operator, value, effect, toleration_seconds }
    });
    own.chain(lost).collect()
}
