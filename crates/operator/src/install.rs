//! The install manifest: namespace, rights, transfer Service and Deployment of the operator. The custom resource
//! definitions come before it.

use bindy_election::{Settings, variable};
use k8s_openapi::api::rbac::v1::{ClusterRole, Role};
use kube::core::ObjectMeta;
use serde::Serialize;
use serde_json::{Value, json};

use crate::rbac::{self, Access};
use crate::{events, fleet, master, observe, servers, tell, term};

/// The namespace in which the operator is installed, and the name of everything in it.
const NAMESPACE: &str = "dns-system";
const NAME: &str = "bindy";

/// The Service by which agents reach the hidden primary.
pub const TRANSFER_SERVICE: &str = "bindy-transfer";

/// The image of operator and agents: by its version, so that a newer manifest brings a newer one.
pub const IMAGE: &str = concat!("ghcr.io/firestoned/bindy:", env!("CARGO_PKG_VERSION"));

// Operator and agents have the same ones.
pub use bindy_model::workload::{HTTP_PORT, TRANSFER_PORT};

/// Everything that the operator does with the API.
const ACCESS: &[&[Access]] = &[
    observe::ACCESS,
    tell::ACCESS,
    servers::ACCESS,
    fleet::ACCESS,
    master::ACCESS,
    events::ACCESS,
    term::ACCESS,
];

/// The objects of the manifest, in the order in which they are to be made.
#[must_use]
pub fn objects() -> Vec<Value> {
    let names = |namespace: Option<&str>| ObjectMeta {
        name: Some(NAME.to_owned()),
        namespace: namespace.map(str::to_owned),
        ..ObjectMeta::default()
    };
    let cluster_role =
        ClusterRole { metadata: names(None), rules: Some(rbac::rules(true, ACCESS)), aggregation_rule: None };
    let role = Role { metadata: names(Some(NAMESPACE)), rules: Some(rbac::rules(false, ACCESS)) };
    vec![
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": {
            // The operator's own manifest is as the restricted standard wants it; one without its settings may run as well.
            "pod-security.kubernetes.io/enforce": "baseline",
            "pod-security.kubernetes.io/warn": "restricted"}}}),
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": NAME, "namespace": NAMESPACE}}),
        value(&cluster_role, "rbac.authorization.k8s.io/v1", "ClusterRole"),
        value(&role, "rbac.authorization.k8s.io/v1", "Role"),
        binding("ClusterRole", &names(None)),
        binding("Role", &names(Some(NAMESPACE))),
        transfer_service(),
        disruption_budget(),
        deployment(),
    ]
}

fn value(object: &impl Serialize, api_version: &str, kind: &str) -> Value {
    let mut value = serde_json::to_value(object).unwrap_or_default();
    if let Value::Object(fields) = &mut value {
        fields.insert("apiVersion".to_owned(), api_version.into());
        fields.insert("kind".to_owned(), kind.into());
    }
    value
}

fn binding(role: &str, metadata: &ObjectMeta) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": format!("{role}Binding"),
        "metadata": metadata,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": role, "name": NAME},
        "subjects": [{"kind": "ServiceAccount", "name": NAME, "namespace": NAMESPACE}],
    })
}

fn transfer_service() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": TRANSFER_SERVICE, "namespace": NAMESPACE},
        "spec": {
            "selector": {"app": NAME},
            "ports": [
                {"name": "transfer", "protocol": "TCP", "port": TRANSFER_PORT, "targetPort": TRANSFER_PORT},
                {"name": "soa", "protocol": "UDP", "port": TRANSFER_PORT, "targetPort": TRANSFER_PORT},
            ],
        },
    })
}

/// A drain takes one replica at a time.
fn disruption_budget() -> Value {
    json!({
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": NAME, "namespace": NAMESPACE},
        "spec": {
            "maxUnavailable": 1,
            "selector": {"matchLabels": {"app": NAME}},
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    })
}

/// Different nodes and zones where there are any.
fn spread(topology: &str) -> Value {
    json!({
        "maxSkew": 1,
        "topologyKey": topology,
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": {"app": NAME}},
        "matchLabelKeys": ["pod-template-hash"],
    })
}

/// What the operator is told; of the election the defaults, for whoever wants to change one.
fn environment() -> Vec<Value> {
    let Settings { enabled, name, namespace, duration, renew_deadline, retry_period, identity: _ } =
        Settings::default();
    let set = |name: &str, value: String| json!({"name": name, "value": value});
    vec![
        set(variable::ENABLE, enabled.to_string()),
        set(variable::NAME, name),
        set(variable::NAMESPACE, namespace),
        set(variable::DURATION, duration.as_secs().to_string()),
        set(variable::RENEW_DEADLINE, renew_deadline.as_secs().to_string()),
        set(variable::RETRY_PERIOD, retry_period.as_secs().to_string()),
        json!({"name": variable::IDENTITY, "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}),
        set("BINDY_LOG_FORMAT", "json".to_owned()),
    ]
}

fn deployment() -> Value {
    let probe = |path: &str| json!({"httpGet": {"path": path, "port": "http"}, "periodSeconds": 5, "timeoutSeconds": 5});
    let container = json!({
        "name": "operator",
        "image": IMAGE,
        "args": ["run"],
        "env": environment(),
        "ports": [
            {"name": "transfer", "containerPort": TRANSFER_PORT, "protocol": "TCP"},
            {"name": "soa", "containerPort": TRANSFER_PORT, "protocol": "UDP"},
            {"name": "http", "containerPort": HTTP_PORT, "protocol": "TCP"},
        ],
        "livenessProbe": probe("/livez"),
        "readinessProbe": probe("/readyz"),
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]},
        },
    });
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": NAME, "namespace": NAMESPACE},
        "spec": {
            "replicas": 3,
            "selector": {"matchLabels": {"app": NAME}},
            "template": {
                "metadata": {"labels": {"app": NAME}},
                "spec": {
                    "serviceAccountName": NAME,
                    "topologySpreadConstraints": [
                        spread("kubernetes.io/hostname"),
                        spread("topology.kubernetes.io/zone"),
                    ],
                    "securityContext": {
                        "runAsNonRoot": true,
                        "runAsUser": 65532,
                        "runAsGroup": 65532,
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "containers": [container],
                },
            },
        },
    })
}
