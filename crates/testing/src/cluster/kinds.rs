//! Which API group a kind is of. Names of resources follow from the kinds by kube's rules.

use kube::core::{ApiResource, GroupVersionKind};

/// The resource of a kind; what is not Kubernetes' own is Bindy's.
pub(crate) fn resource(kind: &str) -> ApiResource {
    let (group, version) = match kind {
        "Pod"
        | "Service"
        | "ConfigMap"
        | "Secret"
        | "ServiceAccount"
        | "Event"
        | "Namespace"
        | "Node"
        | "PersistentVolumeClaim" => ("", "v1"),
        "Deployment" | "ReplicaSet" | "StatefulSet" => ("apps", "v1"),
        "NetworkPolicy" => ("networking.k8s.io", "v1"),
        "PodDisruptionBudget" => ("policy", "v1"),
        "EndpointSlice" => ("discovery.k8s.io", "v1"),
        "HorizontalPodAutoscaler" => ("autoscaling", "v2"),
        "Lease" => ("coordination.k8s.io", "v1"),
        _ => ("bindy.firestoned.io", "v1beta1"),
    };
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_resources_are_those_of_the_api() {
        let plural = |kind: &str| resource(kind).plural;
        assert_eq!(plural("DNSZone"), "dnszones");
        assert_eq!(plural("AAAARecord"), "aaaarecords");
        assert_eq!(plural("Bind9Instance"), "bind9instances");
        assert_eq!(plural("NetworkPolicy"), "networkpolicies");
    }
}
