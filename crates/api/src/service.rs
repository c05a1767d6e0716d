//! How clients reach the servers of an instance on Kubernetes; nothing of it matters to `bindy up`.

use std::collections::BTreeMap;

use kube::KubeSchema;
use kube::core::Rule;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// The Service of an instance, as far as it differs from the default: an address within the cluster, port 53.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.loadBalancerClass) || (has(self.type) && self.type == 'LoadBalancer')")
        .message("loadBalancerClass is for type LoadBalancer only"),
    validation = Rule::new("!has(self.externalTrafficPolicy) || has(self.addresses) || (has(self.type) && self.type != 'ClusterIP')")
        .message("externalTrafficPolicy is about clients outside of the cluster: set type to NodePort or LoadBalancer, or give addresses"),
    validation = Rule::new("!has(self.addresses) || !has(self.type) || self.type != 'LoadBalancer' || size(self.addresses) == 1")
        .message("one address can be asked of a load balancer, not several"),
)]
pub struct ServiceSettings {
    /// `ClusterIP` (clients within the cluster), `NodePort` (a port of each node too) or `LoadBalancer` (an address that
    /// the cluster's load balancer gives). Default: `ClusterIP`.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "service_types")]
    pub type_: Option<String>,
    /// Which load balancer takes care of it, where the cluster has several; cannot be changed later. Default: the
    /// cluster's. Example: `service.k8s.aws/nlb`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 316))]
    pub load_balancer_class: Option<String>,
    /// Annotations of the Service, by which load balancers and address announcers are told more. Example:
    /// `{metallb.io/address-pool: dns}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "annotations")]
    pub annotations: BTreeMap<String, String>,
    /// Fixed addresses for clients. With type `LoadBalancer` the one that is asked of it (`loadBalancerIP`; some load
    /// balancers want an annotation instead). Otherwise addresses that the nodes answer at (`externalIPs`), as soon as
    /// somebody routes them there: a router, or an announcement by BGP. Example: `[192.0.2.53]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "address_list")]
    pub addresses: Vec<String>,
    /// Fixed address within the cluster, out of its range of Service addresses, for resolvers that forward to it; cannot
    /// be changed later. Default: a free one. Example: `10.96.0.53`.
    #[serde(rename = "clusterIP", default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "address")]
    pub cluster_ip: Option<String>,
    /// `Cluster`: every node passes questions on to any server, which sees the node's address instead of the client's;
    /// `Local`: nodes with a server answer themselves, and see the client's address. Default: `Cluster`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "traffic_policies")]
    pub external_traffic_policy: Option<String>,
    /// IPv4, IPv6 or both: `SingleStack`, `PreferDualStack` (both where the cluster has them) or `RequireDualStack`.
    /// Default: `PreferDualStack`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "family_policies")]
    pub ip_family_policy: Option<String>,
    /// Ports of the Service that lead to DNS, over UDP and TCP. Resolvers ask port 53 only: a list without 53 is
    /// for instances that nobody delegates to. Default: `[53]`. Example: `[53, 5353]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "ports")]
    pub ports: Vec<u16>,
}

fn service_types(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": ["ClusterIP", "NodePort", "LoadBalancer"] })
}

fn traffic_policies(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": ["Cluster", "Local"] })
}

fn family_policies(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": ["SingleStack", "PreferDualStack", "RequireDualStack"] })
}

fn annotations(_: &mut SchemaGenerator) -> Schema {
    let foreign = Rule::new("self.all(key, !key.startsWith('bindy.firestoned.io/'))")
        .message("annotations of bindy.firestoned.io are Bindy's own");
    json_schema!({
        "type": "object",
        "maxProperties": 32,
        "additionalProperties": { "type": "string", "maxLength": 4096 },
        "x-kubernetes-validations": [foreign],
    })
}

fn address(_: &mut SchemaGenerator) -> Schema {
    let rule = Rule::new("isIP(self)").message("must be an IPv4 or IPv6 address such as 192.0.2.53");
    json_schema!({ "type": "string", "maxLength": 45, "x-kubernetes-validations": [rule] })
}

fn address_list(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "array", "minItems": 1, "maxItems": 8, "items": address(generator) })
}

fn ports(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "minItems": 1,
        "maxItems": 4,
        "x-kubernetes-list-type": "set",
        "items": { "type": "integer", "format": "int32", "minimum": 1, "maximum": 65535 },
    })
}
