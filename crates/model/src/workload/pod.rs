//! The Deployment or StatefulSet: how many pods, where they run, and what they are made of.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment, StatefulSet, StatefulSetSpec,
    StatefulSetUpdateStrategy,
};
use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, EmptyDirVolumeSource, KeyToPath, LocalObjectReference, PodSecurityContext,
    PodSpec, PodTemplateSpec, ProjectedVolumeSource, SeccompProfile, SecretProjection, Sysctl, Volume,
    VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::containers::{self, volumes};
use super::names::{ObjectNames, POD_LABEL, labels, pod_labels};
use super::placement::{self, SPREAD_ANNOTATION};
use super::{Inputs, PlanError, Pods, storage};
use crate::object::Instance;

/// User and group of everything in a pod. Its files are given to it by `fsGroup`, so any image will do.
const USER: i64 = 65532;
/// Label that a Deployment gives to the pods of one template.
const REVISION_LABEL: &str = "pod-template-hash";
/// Label of pods with a volume. Spread over zones counts them all, also the ones of an earlier template: a pod that is
/// replaced has to go back to the zone of its volume, and there is room for it only if the others count as before.
const STORAGE_LABEL: &str = "bindy.firestoned.io/storage";
/// How long a new server has to be ready before the next one is replaced: one that falls over at its first questions stops
/// the roll-out.
const STEADY_SECONDS: i32 = 5;
/// Former templates that are kept, for `kubectl rollout undo`.
const HISTORY: i32 = 3;

/// The pods of an instance.
pub(super) fn pods(
    mut metadata: ObjectMeta,
    inputs: &Inputs<'_>,
    names: &ObjectNames,
) -> Result<Pods, PlanError> {
    let annotations = metadata.annotations.get_or_insert_default();
    annotations.insert(SPREAD_ANNOTATION.to_owned(), inputs.spread.note.clone());
    let name = &inputs.instance.metadata.key.name;
    let selector = LabelSelector { match_labels: Some(pod_labels(name)), match_expressions: None };
    let mut labels = labels(name);
    labels.insert(POD_LABEL.to_owned(), name.clone());
    let pod = pod(inputs, names)?;
    Ok(match &inputs.instance.pods.storage {
        None => {
            let spec = deployment(inputs.instance, selector, template(labels, pod));
            Pods::Deployment(Box::new(Deployment { metadata, spec: Some(spec), status: None }))
        }
        Some(wish) => {
            labels.insert(STORAGE_LABEL.to_owned(), "volume".to_owned());
            let mut spec = stateful_set(inputs.instance, selector, template(labels, pod));
            spec.volume_claim_templates = Some(vec![storage::claim(name, wish)]);
            spec.persistent_volume_claim_retention_policy = Some(storage::retention(wish));
            spec.service_name = Some(names.transfer_service.clone());
            Pods::StatefulSet(Box::new(StatefulSet { metadata, spec: Some(spec), status: None }))
        }
    })
}

fn template(labels: BTreeMap<String, String>, pod: PodSpec) -> PodTemplateSpec {
    let metadata = ObjectMeta { labels: Some(labels), ..ObjectMeta::default() };
    PodTemplateSpec { metadata: Some(metadata), spec: Some(pod) }
}

fn replicas(instance: &Instance) -> i32 {
    i32::try_from(instance.replicas).unwrap_or(i32::MAX)
}

fn deployment(instance: &Instance, selector: LabelSelector, template: PodTemplateSpec) -> DeploymentSpec {
    let one_more_first = RollingUpdateDeployment {
        max_unavailable: Some(IntOrString::Int(0)),
        max_surge: Some(IntOrString::Int(1)),
    };
    DeploymentSpec {
        replicas: Some(replicas(instance)),
        selector,
        strategy: Some(DeploymentStrategy {
            type_: Some("RollingUpdate".to_owned()),
            rolling_update: Some(one_more_first),
        }),
        min_ready_seconds: Some(STEADY_SECONDS),
        revision_history_limit: Some(HISTORY),
        template,
        ..DeploymentSpec::default()
    }
}

fn stateful_set(instance: &Instance, selector: LabelSelector, template: PodTemplateSpec) -> StatefulSetSpec {
    StatefulSetSpec {
        replicas: Some(replicas(instance)),
        selector,
        // After a loss of everything all start at once: each may have zones that the others lack. And a template that cannot run
        // is taken back without anybody deleting its pod, which the other policy would wait for.
        pod_management_policy: Some("Parallel".to_owned()),
        update_strategy: Some(StatefulSetUpdateStrategy {
            type_: Some("RollingUpdate".to_owned()),
            rolling_update: None,
        }),
        min_ready_seconds: Some(STEADY_SECONDS),
        revision_history_limit: Some(HISTORY),
        template,
        ..StatefulSetSpec::default()
    }
}

fn pod(inputs: &Inputs<'_>, names: &ObjectNames) -> Result<PodSpec, PlanError> {
    let Inputs { instance, cluster, spread, .. } = inputs;
    let wishes = &instance.pods.placement;
    let keeps = instance.pods.storage.is_some();
    let told_apart_by = if keeps { STORAGE_LABEL } else { REVISION_LABEL };
    let pull_secrets = instance.pods.image_pull_secrets.iter();
    let pull_secrets: Vec<_> =
        pull_secrets.map(|secret| LocalObjectReference { name: secret.name.clone() }).collect();
    Ok(PodSpec {
        service_account_name: Some(names.service_account.clone()),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        // The farewell, and a named with 100 000 zones that stops.
        termination_grace_period_seconds: Some(60),
        security_context: Some(PodSecurityContext {
            // Large volumes are not walked through at each start.
            fs_group_change_policy: keeps.then(|| "OnRootMismatch".to_owned()),
            ..security()
        }),
        init_containers: Some(vec![containers::agent(&cluster.agent_image)]),
        containers: vec![containers::named(&instance.pods)],
        image_pull_secrets: (!pull_secrets.is_empty()).then_some(pull_secrets),
        volumes: Some(pod_volumes(instance, names)),
        affinity: Some(placement::affinity(instance, told_apart_by)?),
        topology_spread_constraints: Some(vec![placement::spread(instance, spread, told_apart_by)]),
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

fn pod_volumes(instance: &Instance, names: &ObjectNames) -> Vec<Volume> {
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
    let own = keys(&names.secret, containers::OWN_KEYS);
    let outside = instance.outside.iter().map(|upstream| keys(&upstream.secret, &upstream.source_name()));
    let keys = ProjectedVolumeSource {
        sources: Some(std::iter::once(own).chain(outside).collect()),
        default_mode: Some(0o440),
    };
    let run = EmptyDirVolumeSource {
        medium: Some("Memory".to_owned()),
        size_limit: Some(Quantity("1Mi".to_owned())),
    };
    let data = Volume { empty_dir: Some(EmptyDirVolumeSource::default()), ..volume(volumes::DATA) };
    let mut all = vec![
        Volume { config_map: Some(config), ..volume(volumes::CONFIG) },
        Volume { projected: Some(keys), ..volume(volumes::KEYS) },
    ];
    // A StatefulSet adds the volume of the pod itself.
    all.extend(instance.pods.storage.is_none().then_some(data));
    all.push(Volume { empty_dir: Some(run), ..volume(volumes::RUN) });
    all
}
