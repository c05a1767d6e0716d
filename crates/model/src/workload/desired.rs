//! Objects as they are sent to the API server, and whose an object is that is there already.

use k8s_openapi::Resource;
use ring::digest::{SHA256, digest};
use serde::Serialize;
use serde_json::{Value, json};

use super::{ObjectNames, Pods, Workload};
use crate::object::Metadata;

/// Annotation with a hash of what was last applied: a field that is not wanted any more shows by it.
pub const APPLIED_ANNOTATION: &str = "bindy.firestoned.io/applied";
/// Annotation of a Deployment or StatefulSet with a hash of the template of its pods, as it was last applied: whether pods are to
/// be replaced shows by it, also where a field of the template is not wanted any more.
pub const TEMPLATE_ANNOTATION: &str = "bindy.firestoned.io/template";
/// Annotation that tells which keys the instance's Secret was made with, without telling them.
pub const KEYS_ANNOTATION: &str = "bindy.firestoned.io/keys";
/// The same for each Secret of a downstream outside; the downstream's name follows.
pub const HANDOUT_ANNOTATION: &str = "bindy.firestoned.io/downstream-";

/// The kinds of objects that an instance has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKind {
    /// ServiceAccount.
    ServiceAccount,
    /// Service.
    Service,
    /// NetworkPolicy.
    NetworkPolicy,
    /// ConfigMap.
    ConfigMap,
    /// Secret.
    Secret,
    /// Deployment.
    Deployment,
    /// StatefulSet.
    StatefulSet,
    /// PodDisruptionBudget.
    PodDisruptionBudget,
}

impl ObjectKind {
    /// The kinds that can be looked at; Secrets cannot.
    pub const WATCHED: [Self; 7] = [
        Self::ServiceAccount,
        Self::Service,
        Self::NetworkPolicy,
        Self::ConfigMap,
        Self::Deployment,
        Self::StatefulSet,
        Self::PodDisruptionBudget,
    ];
    /// The kinds that make pods; an instance has one of them, and two while one takes over from the other.
    pub const PODS: [Self; 2] = [Self::Deployment, Self::StatefulSet];
}

impl std::fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(self, f)
    }
}

/// An object as it should be.
#[derive(Clone, PartialEq, Eq)]
pub struct Desired {
    /// What it is.
    pub kind: ObjectKind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The whole object.
    pub body: Value,
}

/// Without the body, which may be that of a Secret.
impl std::fmt::Debug for Desired {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// The objects of a workload, in the order in which they are made: what a pod mounts is there before it.
pub fn desired(workload: &Workload) -> Vec<Desired> {
    let Workload {
        service_account,
        dns_service,
        transfer_service,
        network_policy,
        config_map,
        secret,
        handouts,
        pods,
        disruption_budget,
    } = workload;
    let mut objects = vec![
        object(ObjectKind::ServiceAccount, service_account),
        object(ObjectKind::Service, dns_service),
        object(ObjectKind::Service, transfer_service),
        object(ObjectKind::NetworkPolicy, network_policy),
    ];
    objects.extend(config_map.as_ref().map(|map| object(ObjectKind::ConfigMap, map)));
    objects.push(object(ObjectKind::Secret, secret));
    objects.extend(handouts.iter().map(|handout| object(ObjectKind::Secret, handout)));
    objects.push(match pods {
        Pods::Deployment(deployment) => object(ObjectKind::Deployment, deployment.as_ref()),
        Pods::StatefulSet(set) => object(ObjectKind::StatefulSet, set.as_ref()),
    });
    objects.extend(disruption_budget.as_ref().map(|budget| object(ObjectKind::PodDisruptionBudget, budget)));
    objects
}

/// An object that an instance has with other settings, and should not have with these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Surplus {
    /// Its kind.
    pub kind: ObjectKind,
    /// Its name.
    pub name: String,
    /// What has to have taken over from it before it goes.
    pub after: Option<ObjectKind>,
}

/// The objects that there should not be.
pub fn surplus(workload: &Workload, names: &ObjectNames) -> Vec<Surplus> {
    let (kind, after) = match workload.pods {
        Pods::Deployment(_) => (ObjectKind::StatefulSet, ObjectKind::Deployment),
        Pods::StatefulSet(_) => (ObjectKind::Deployment, ObjectKind::StatefulSet),
    };
    let pods = Surplus { kind, name: names.pods.clone(), after: Some(after) };
    let kind = ObjectKind::PodDisruptionBudget;
    let budget = Surplus { kind, name: names.disruption_budget.clone(), after: None };
    workload.disruption_budget.is_none().then_some(budget).into_iter().chain([pods]).collect()
}

fn object<T: Resource + Serialize>(kind: ObjectKind, object: &T) -> Desired {
    // Maps with keys of text and no floating point: it cannot fail.
    let mut body = serde_json::to_value(object).unwrap_or_default();
    // A Secret is never compared, and its hash would tell something of it.
    if kind != ObjectKind::Secret {
        mark(&mut body);
    }
    let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    Desired { kind, namespace: text("/metadata/namespace"), name: text("/metadata/name"), body }
}

/// Adds the hashes to the annotations of the object.
fn mark(body: &mut Value) {
    if let Some(template) = body.pointer("/spec/template").map(hash) {
        annotate(body, TEMPLATE_ANNOTATION, template);
    }
    let whole = hash(body);
    annotate(body, APPLIED_ANNOTATION, whole);
}

fn hash(value: &Value) -> String {
    let hash = digest(&SHA256, value.to_string().as_bytes());
    hash.as_ref().iter().take(16).map(|octet| format!("{octet:02x}")).collect()
}

fn annotate(body: &mut Value, name: &str, value: String) {
    if let Some(Value::Object(metadata)) = body.get_mut("metadata")
        && let Some(annotations) = metadata.entry("annotations").or_insert_with(|| json!({})).as_object_mut()
    {
        annotations.insert(name.to_owned(), Value::String(value));
    }
}

/// Whose an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// Made for this instance.
    Ours,
    /// On its way out: it is being deleted, or belongs to an instance of this name that is gone.
    Leaving,
    /// Somebody else's. It is never touched.
    Foreign,
}

/// Whose the live object is, seen from the instance with this metadata.
pub fn ownership(live: &Value, instance: &Metadata) -> Ownership {
    let owners = live.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    let named = |owner: &&Value| {
        owner["kind"] == "Bind9Instance"
            && owner["name"] == instance.key.name.as_str()
            && owner["apiVersion"]
                .as_str()
                .is_some_and(|version| version.split('/').next() == Some(bindy_api::GROUP))
    };
    match owners.into_iter().flatten().find(named) {
        None => Ownership::Foreign,
        Some(_) if live.pointer("/metadata/deletionTimestamp").is_some() => Ownership::Leaving,
        Some(owner) if owner["uid"] == instance.uid.as_str() => Ownership::Ours,
        Some(_) => Ownership::Leaving,
    }
}
