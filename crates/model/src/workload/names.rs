//! What the objects are called, and the labels by which they are found.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::object::{Instance, NamespacedName};

/// Label with the name of the instance, on everything made for it.
pub const INSTANCE_LABEL: &str = "app.kubernetes.io/instance";
/// Label that says who looks after an object.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// Its value on our objects; also the field manager.
pub const MANAGED_BY: &str = "bindy";
/// Label of pods with the name of their instance, for selectors that users write.
pub const POD_LABEL: &str = "instance";
/// Annotation of pods: a new value has the kubelet refresh mounted configuration at once.
pub const CONFIG_ANNOTATION: &str = "bindy.firestoned.io/config";

/// Names of the objects of one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectNames {
    /// ServiceAccount.
    pub service_account: String,
    /// Service that clients use.
    pub dns_service: String,
    /// Service that servers use.
    pub transfer_service: String,
    /// NetworkPolicy.
    pub network_policy: String,
    /// ConfigMap.
    pub config_map: String,
    /// Secret with the keys.
    pub secret: String,
    /// Deployment or StatefulSet.
    pub pods: String,
    /// PodDisruptionBudget.
    pub disruption_budget: String,
    /// What the Secrets of downstreams outside begin with.
    pub handouts: String,
}

impl ObjectNames {
    /// The names for that instance.
    pub fn new(instance: &NamespacedName) -> Self {
        let name = &instance.name;
        Self {
            service_account: name.clone(),
            dns_service: name.clone(),
            transfer_service: format!("{name}-transfer"),
            network_policy: name.clone(),
            config_map: format!("{name}-config"),
            secret: format!("{name}-keys"),
            pods: name.clone(),
            disruption_budget: format!("{name}-pdb"),
            handouts: format!("{name}-downstream-"),
        }
    }

    /// Secret of a downstream outside.
    pub fn handout(&self, downstream: &str) -> String {
        format!("{}{downstream}", self.handouts)
    }
}

/// The labels that select the pods of an instance, and no others.
pub fn pod_labels(instance: &str) -> BTreeMap<String, String> {
    BTreeMap::from([
        (MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned()),
        (POD_LABEL.to_owned(), instance.to_owned()),
    ])
}

/// The same as the text of a label selector.
pub fn pod_selector(instance: &str) -> String {
    let labels = pod_labels(instance);
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

/// Labels of everything made for an instance.
pub(super) fn labels(instance: &str) -> BTreeMap<String, String> {
    BTreeMap::from([
        ("app.kubernetes.io/name".to_owned(), "bind9".to_owned()),
        (INSTANCE_LABEL.to_owned(), instance.to_owned()),
        (MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned()),
    ])
}

/// Metadata of an object of `instance`. It goes when the instance goes, and nothing waits for that.
pub(super) fn metadata(instance: &Instance, name: &str) -> ObjectMeta {
    let key = &instance.metadata.key;
    let owner = OwnerReference {
        api_version: bindy_api::API_VERSION.to_owned(),
        kind: "Bind9Instance".to_owned(),
        name: key.name.clone(),
        uid: instance.metadata.uid.clone(),
        controller: Some(true),
        block_owner_deletion: None,
    };
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(key.namespace.clone()),
        labels: Some(labels(&key.name)),
        owner_references: Some(vec![owner]),
        ..ObjectMeta::default()
    }
}
