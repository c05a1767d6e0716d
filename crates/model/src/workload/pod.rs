//! The Deployment: how many pods, where they run, and what they are made of.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, EmptyDirVolumeSource, KeyToPath, PodSecurityContext, PodSpec, PodTemplateSpec,
    ProjectedVolumeSource, SeccompProfile, SecretProjection, Sysctl, Volume, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::containers::{self, volumes};
use super::names::{ObjectNames, POD_LABEL, labels, pod_labels};
use super::placement::{self, SPREAD_ANNOTATION};
use super::{Inputs, PlanError};

/// User and group of everything in a pod. Its files are given to it by `fsGroup`, so any image will do.
const USER: i64 = 65532;
/// Label that a Deployment gives to the pods of one template.
const REVISION_LABEL: &str = "pod-template-hash";

/// The pods of an instance.
pub(super) fn deployment(
    mut metadata: ObjectMeta,
    inputs: &Inputs<'_>,
    names: &ObjectNames,
) -> Result<Deployment, PlanError> {
    let instance = inputs.instance;
    let name = &instance.metadata.key.name;
    let annotations = metadata.annotations.get_or_insert_default();
    annotations.insert(SPREAD_ANNOTATION.to_owned(), inputs.spread.note.clone());
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
        template: PodTemplateSpec { metadata: Some(pod_metadata), spec: Some(pod(inputs, names)?) },
        ..DeploymentSpec::default()
    };
    Ok(Deployment { metadata, spec: Some(spec), ..Deployment::default() })
}

fn pod(inputs: &Inputs<'_>, names: &ObjectNames) -> Result<PodSpec, PlanError> {
    let Inputs { instance, cluster, spread, .. } = inputs;
    let wishes = &instance.pods.placement;
    Ok(PodSpec {
        service_account_name: Some(names.service_account.clone()),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(30),
        security_context: Some(security()),
        init_containers: Some(vec![containers::agent(&cluster.agent_image)]),
        containers: vec![containers::named(&instance.pods)],
        volumes: Some(pod_volumes(names)),
        affinity: Some(placement::affinity(instance)?),
        topology_spread_constraints: Some(vec![placement::spread(instance, spread, REVISION_LABEL)]),
        node_selector: (!wishes.node_selector.is_empty()).then(|| wishes.node_selector.clone()),
        tolerations: Some(placement::tolerations(instance)),
        priority_class_name: wishes.priority_class_name.clone(),
        ..PodSpec::default()
    })
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
