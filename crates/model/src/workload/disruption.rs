//! The PodDisruptionBudget: how many servers a drain may take away at once.

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::names::pod_labels;
use crate::object::Instance;

/// The budget; `None` when there is to be none. It always lets at least one server go unless the instance asks otherwise,
/// so that any node can be drained.
pub(super) fn budget(metadata: ObjectMeta, instance: &Instance) -> Option<PodDisruptionBudget> {
    let (min_available, max_unavailable) = limits(instance)?;
    let selector = LabelSelector {
        match_labels: Some(pod_labels(&instance.metadata.key.name)),
        match_expressions: None,
    };
    let spec = PodDisruptionBudgetSpec {
        min_available,
        max_unavailable,
        selector: Some(selector),
        // A server that is broken anyway must not keep its node from being drained.
        unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
    };
    Some(PodDisruptionBudget { metadata, spec: Some(spec), status: None })
}

/// What has to stay, or what may be missing.
fn limits(instance: &Instance) -> Option<(Option<IntOrString>, Option<IntOrString>)> {
    let bindy_api::DisruptionBudget { enabled, min_available, max_unavailable } =
        &instance.pods.disruption_budget;
    let count = |number: u32| IntOrString::Int(i32::try_from(number).unwrap_or(i32::MAX));
    match (min_available, max_unavailable, instance.replicas) {
        _ if *enabled == Some(false) => None,
        (None, None, 0 | 1) => None,
        (None, None, 2) => Some((None, Some(count(1)))),
        (None, None, replicas) => Some((Some(count(replicas - 1)), None)),
        // The schema lets nobody give both; the API server would take neither.
        (Some(min), _, _) => Some((Some(min.clone()), None)),
        (None, Some(max), _) => Some((None, Some(max.clone()))),
    }
}
