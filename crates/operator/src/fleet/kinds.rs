//! The kinds of objects that instances have, as the API server knows them, and what may be done with each.

use bindy_model::workload::ObjectKind;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::Client;
use kube::api::{Api, DynamicObject};
use kube::core::ApiResource;

use crate::rbac::{Access, Scope, Verb};

const KEPT: &[Verb] = &[Verb::Get, Verb::List, Verb::Watch, Verb::Create, Verb::Patch];

const fn kept(group: &'static str, resource: &'static str) -> Access {
    Access { group, resource, verbs: KEPT, scope: Scope::Cluster }
}

/// What an instance may have and may do without again.
const fn optional(group: &'static str, resource: &'static str) -> Access {
    const VERBS: &[Verb] = &[Verb::Get, Verb::List, Verb::Watch, Verb::Create, Verb::Patch, Verb::Delete];
    Access { group, resource, verbs: VERBS, scope: Scope::Cluster }
}

/// Everything that is done here.
pub const ACCESS: &[Access] = &[
    SERVICE_ACCOUNTS,
    SERVICES,
    NETWORK_POLICIES,
    CONFIG_MAPS,
    DEPLOYMENTS,
    STATEFUL_SETS,
    BUDGETS,
    SECRETS,
    PODS,
    NODES,
];

const SERVICE_ACCOUNTS: Access = kept("", "serviceaccounts");
pub(super) const SERVICES: Access = kept("", "services");
const NETWORK_POLICIES: Access = kept("networking.k8s.io", "networkpolicies");
const CONFIG_MAPS: Access = kept("", "configmaps");
const DEPLOYMENTS: Access = optional("apps", "deployments");
const STATEFUL_SETS: Access = optional("apps", "statefulsets");
const BUDGETS: Access = optional("policy", "poddisruptionbudgets");
/// Made and removed without ever being read: the keys of one instance are of no use to another.
const SECRETS: Access =
    Access { group: "", resource: "secrets", verbs: &[Verb::Create, Verb::Delete], scope: Scope::Cluster };
/// Their annotation, so that the kubelet looks at mounted configuration at once.
pub(super) const PODS: Access =
    Access { group: "", resource: "pods", verbs: &[Verb::List, Verb::Patch], scope: Scope::Cluster };

/// Where they are: regions and zones. Only their metadata is asked for.
const NODES: Access =
    Access { group: "", resource: "nodes", verbs: &[Verb::List, Verb::Watch], scope: Scope::Cluster };

/// The row of a kind.
pub(super) const fn access(kind: ObjectKind) -> &'static Access {
    match kind {
        ObjectKind::ServiceAccount => &SERVICE_ACCOUNTS,
        ObjectKind::Service => &SERVICES,
        ObjectKind::NetworkPolicy => &NETWORK_POLICIES,
        ObjectKind::ConfigMap => &CONFIG_MAPS,
        ObjectKind::Secret => &SECRETS,
        ObjectKind::Deployment => &DEPLOYMENTS,
        ObjectKind::StatefulSet => &STATEFUL_SETS,
        ObjectKind::PodDisruptionBudget => &BUDGETS,
    }
}

/// The resource of a kind.
pub(super) fn resource(kind: ObjectKind) -> ApiResource {
    match kind {
        ObjectKind::ServiceAccount => ApiResource::erase::<ServiceAccount>(&()),
        ObjectKind::Service => ApiResource::erase::<Service>(&()),
        ObjectKind::NetworkPolicy => ApiResource::erase::<NetworkPolicy>(&()),
        ObjectKind::ConfigMap => ApiResource::erase::<ConfigMap>(&()),
        ObjectKind::Secret => ApiResource::erase::<Secret>(&()),
        ObjectKind::Deployment => ApiResource::erase::<Deployment>(&()),
        ObjectKind::StatefulSet => ApiResource::erase::<StatefulSet>(&()),
        ObjectKind::PodDisruptionBudget => ApiResource::erase::<PodDisruptionBudget>(&()),
    }
}

/// The objects of a kind in one namespace.
pub(super) fn api(client: &Client, kind: ObjectKind, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), namespace, &resource(kind))
}

/// The pods of a namespace.
pub(super) fn pods(client: &Client, namespace: &str) -> Api<Pod> {
    Api::namespaced(client.clone(), namespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_others_cannot_be_read() {
        let row = ACCESS.iter().find(|row| row.resource == "secrets").unwrap();
        assert_eq!(row.verbs, [Verb::Create, Verb::Delete]);
    }

    #[test]
    fn every_kind_has_a_row_with_its_own_name() {
        for kind in ObjectKind::WATCHED.into_iter().chain([ObjectKind::Secret]) {
            let (row, resource) = (access(kind), resource(kind));
            assert_eq!((row.group, row.resource), (resource.group.as_str(), resource.plural.as_str()));
            assert!(ACCESS.contains(row));
        }
    }
}
