//! How the servers of an instance run on Kubernetes; nothing of it matters to `bindy up`.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::KubeSchema;
use kube::core::Rule;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// CPU and memory of a container, in Kubernetes' notation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// What is set aside for it on its node; on a busy node it is also its share. Default: `{cpu: 100m, memory: 64Mi}`, each as far
    /// as neither `requests` nor `limits` name it; `cpu: 0` asks for none. Example: `{cpu: 500m, memory: 256Mi}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "quantities")]
    pub requests: BTreeMap<String, IntOrString>,
    /// What it may use at most; BIND is stopped when it needs more memory than that. Example: `{memory: 1Gi}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "quantities")]
    pub limits: BTreeMap<String, IntOrString>,
}

/// A Secret of the namespace that opens a registry, as in a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PullSecret {
    /// Its name; it has the type `kubernetes.io/dockerconfigjson`. Example: `registry`.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
}

/// How strictly a wish about nodes is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Strictness {
    /// Where there is room.
    Preferred,
    /// A server waits until it can be met.
    Required,
}

/// On which nodes servers run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Placement {
    /// What the label `region` of the instance means for its servers. `preferred`: nodes of that region
    /// (`topology.kubernetes.io/region`) come first, also where servers have to share them; a server for which there is no
    /// room runs elsewhere, and the condition Degraded says so; `required`: they run there or not at all. Default: `preferred`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "strictness")]
    pub region: Option<Strictness>,
    /// How evenly servers are spread over zones (`topology.kubernetes.io/zone`). `required`: no zone gets a second server
    /// while another has none, and so on; a server that cannot be placed so waits. `preferred`: as far as there is room.
    /// Default: `required` if every node carries a zone, else `preferred`; `preferred` too where that would drive servers
    /// out of a preferred region. The default is chosen when the spec changes, and stays while nodes come and go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "strictness")]
    pub spread: Option<Strictness>,
    /// Name of the PriorityClass of the servers: who gives way when a node is full. Default: that of the cluster. Example:
    /// `system-cluster-critical`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$"))]
    pub priority_class_name: Option<String>,
    /// Labels that a node has to have. Example: `{disktype: ssd}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "node_labels")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints of nodes that are put up with. Besides, a lost node is put up with for 30 seconds, unless
    /// `node.kubernetes.io/not-ready` and `node.kubernetes.io/unreachable` are named here. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub tolerations: Vec<Toleration>,
}

/// A taint that is put up with, as in a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Toleration {
    /// The taint's key; absent with the operator `Exists` means every taint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 316))]
    pub key: Option<String>,
    /// `Equal` (the taint has this value) or `Exists` (whatever its value). Default: `Equal`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "toleration_operators")]
    pub operator: Option<String>,
    /// The taint's value, with `Equal`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub value: Option<String>,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`. Default: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "taint_effects")]
    pub effect: Option<String>,
    /// Seconds after which a server leaves a node that got the taint, with `NoExecute`. Default: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 31_536_000))]
    pub toleration_seconds: Option<i64>,
}

/// A volume for each server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Storage {
    /// Size of each volume; about three times the zones as text is enough. Kubernetes does not let it be changed: to have
    /// other volumes, remove `storage`, wait until the instance is Ready, delete the claims `data-NAME-…`, and set it
    /// again. (A claim itself may be enlarged where its class allows it.) Example: `1Gi`.
    #[schemars(
        length(min = 1, max = 32),
        regex(pattern = r"^([0-9]+(\.[0-9]*)?|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][-+]?[0-9]+)?$")
    )]
    pub size: String,
    /// Name of the StorageClass. Default: that of the cluster. An empty name: volumes that somebody made by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253), regex(pattern = r"^([a-z0-9]([-.a-z0-9]*[a-z0-9])?)?$"))]
    pub storage_class_name: Option<String>,
    /// How a volume may be mounted. Default: `[ReadWriteOnce]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "access_modes")]
    pub access_modes: Vec<String>,
    /// What becomes of the volumes of servers that `replicas` does not ask for any more: `retain` keeps them for the day
    /// when there are more servers again, `delete` removes them with all they hold. Default: `retain`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "retentions")]
    pub on_scale_down: Option<Retention>,
    /// What becomes of all volumes when the instance is deleted, or `storage` is removed from it: `retain` or `delete`.
    /// Default: `retain`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "retentions")]
    pub on_delete: Option<Retention>,
}

/// What becomes of volumes that nobody uses any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Retention {
    /// They stay, with their content.
    #[default]
    Retain,
    /// They are removed, with their content.
    Delete,
}

/// How many servers may be missing by intent: Kubernetes' PodDisruptionBudget, named after the instance with `-pdb`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.minAvailable) || !has(self.maxUnavailable)")
    .message("give minAvailable or maxUnavailable, not both"))]
pub struct DisruptionBudget {
    /// `false`: there is no PodDisruptionBudget. Default: true. A PodDisruptionBudget `NAME-pdb` that somebody else made
    /// is left alone and counts instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Servers, or the part of them in percent, that have to stay. As many as there are replicas would let no node be
    /// drained. Default: one less than there are replicas, from three on. Examples: `2`, `50%`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "count_or_percentage")]
    pub min_available: Option<IntOrString>,
    /// Servers, or the part of them in percent, that may be missing at once. Default: one of two; with one server or
    /// none there is no budget, for it would let no node be drained. Examples: `1`, `25%`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "count_or_percentage")]
    pub max_unavailable: Option<IntOrString>,
}

/// Schema of a map of quantities, as Kubernetes' own kinds have it.
fn quantities(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 16,
        "additionalProperties": {
            "anyOf": [{ "type": "integer" }, { "type": "string" }],
            "x-kubernetes-int-or-string": true,
            "pattern": "^\\+?(([0-9]+(\\.[0-9]*)?)|(\\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE][-+]?[0-9]+))?$",
        },
    })
}

fn node_labels(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 32,
        "additionalProperties": { "type": "string", "maxLength": 63 },
    })
}

fn strictness(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": [Strictness::Preferred, Strictness::Required] })
}

fn access_modes(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 3,
        "items": { "type": "string", "enum": ["ReadWriteOnce", "ReadWriteOncePod", "ReadWriteMany"] },
    })
}

fn retentions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": [Retention::Retain, Retention::Delete] })
}

fn toleration_operators(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": ["Equal", "Exists"] })
}

fn taint_effects(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": ["NoSchedule", "PreferNoSchedule", "NoExecute"] })
}

fn count_or_percentage(_: &mut SchemaGenerator) -> Schema {
    let rule =
        Rule::new("type(self) == int ? self >= 0 && self <= 100 : self.matches('^(100|[1-9]?[0-9])%$')")
            .message("must be a number from 0 to 100, or a percentage such as 50%");
    json_schema!({
        "x-kubernetes-int-or-string": true,
        "maxLength": 4,
        "x-kubernetes-validations": [rule],
    })
}
