//! Services and NetworkPolicy.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer,
    NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;

use super::names::{MANAGED_BY, MANAGED_BY_LABEL, pod_labels};
use super::{Cluster, DNS_PORT, HTTP_PORT, TRANSFER_PORT};
use crate::object::Instance;

/// Where clients ask: the ready servers.
pub(super) fn dns_service(mut metadata: ObjectMeta, instance: &Instance) -> Service {
    let bindy_api::ServiceSettings {
        type_,
        load_balancer_class,
        annotations,
        addresses,
        cluster_ip,
        external_traffic_policy,
        ip_family_policy,
        ports,
    } = instance.pods.service.clone();
    metadata.annotations.get_or_insert_default().extend(annotations);
    let ports = if ports.is_empty() { vec![DNS_PORT] } else { ports };
    let mut spec = selecting(instance, ports.into_iter().flat_map(dns_ports).collect());
    let balanced = type_.as_deref() == Some("LoadBalancer");
    if balanced {
        spec.load_balancer_ip = addresses.into_iter().next();
    } else {
        spec.external_ips = (!addresses.is_empty()).then_some(addresses);
    }
    spec.type_ = type_.or(spec.type_);
    spec.load_balancer_class = load_balancer_class;
    spec.cluster_ip = cluster_ip;
    spec.external_traffic_policy = external_traffic_policy;
    spec.ip_family_policy = ip_family_policy.or(spec.ip_family_policy);
    Service { metadata, spec: Some(spec), ..Service::default() }
}

/// A Service has another address within the cluster than is asked for, and cannot get it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "Service {name} keeps its clusterIP {live}; {wanted} is asked for, and Kubernetes lets nobody change it. To have that \
     address delete the Service: it is made again at once, and clients have to go to the new address"
)]
pub struct FixedAddress {
    /// Name of the Service.
    pub name: String,
    /// What it has.
    pub live: String,
    /// What it should have.
    pub wanted: String,
}

/// Gives a wanted Service the address of the live one, so that everything else about it can be changed; `Some` when another
/// address is asked for.
pub fn keep_address(live: &Value, wanted: &mut Value) -> Option<FixedAddress> {
    const ADDRESS: &str = "/spec/clusterIP";
    let kept = live.pointer(ADDRESS)?.as_str()?;
    let address = wanted.pointer_mut(ADDRESS)?;
    let asked = std::mem::replace(address, kept.into()).as_str()?.to_owned();
    let parsed = |text: &str| text.parse::<IpAddr>().ok();
    let name = live.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned();
    (parsed(kept) != parsed(&asked)).then(|| FixedAddress { name, live: kept.to_owned(), wanted: asked })
}

/// Where other servers get zones: from the ready ones only, which have them all. A BIND outside asks for serials, and tells of new
/// ones, by UDP.
pub(super) fn transfer_service(metadata: ObjectMeta, instance: &Instance) -> Service {
    let mut ports = vec![port("transfer", "TCP", TRANSFER_PORT, TRANSFER_PORT)];
    if !instance.downstreams.is_empty() || !instance.outside.is_empty() {
        ports.push(port("transfer-udp", "UDP", TRANSFER_PORT, TRANSFER_PORT));
    }
    Service { metadata, spec: Some(selecting(instance, ports)), ..Service::default() }
}

/// A Service within the cluster.
fn selecting(instance: &Instance, ports: Vec<ServicePort>) -> ServiceSpec {
    ServiceSpec {
        type_: Some("ClusterIP".to_owned()),
        selector: Some(pod_labels(&instance.metadata.key.name)),
        ports: Some(ports),
        ip_family_policy: Some("PreferDualStack".to_owned()),
        publish_not_ready_addresses: Some(false),
        ..ServiceSpec::default()
    }
}

fn dns_ports(number: u16) -> [ServicePort; 2] {
    let name = if number == DNS_PORT { "dns".to_owned() } else { format!("dns-{number}") };
    [port(&name, "UDP", number, DNS_PORT), port(&format!("{name}-tcp"), "TCP", number, DNS_PORT)]
}

fn port(name: &str, protocol: &str, number: u16, target: u16) -> ServicePort {
    ServicePort {
        name: Some(name.to_owned()),
        protocol: Some(protocol.to_owned()),
        port: number.into(),
        target_port: Some(IntOrString::Int(target.into())),
        ..ServicePort::default()
    }
}

/// Everybody may ask; transfers, NOTIFY and questions of servers come from the operator and other servers of the
/// namespace, and from everywhere when there are servers outside that give or take zones; readiness and metrics are for
/// the cluster. (Probes come from the node, which no policy keeps out.) Pods connect to the operator, to other servers and
/// to the servers outside that they pull from, and to nobody else.
pub(super) fn policy(metadata: ObjectMeta, instance: &Instance, cluster: &Cluster) -> NetworkPolicy {
    let from = |peers, ports| NetworkPolicyIngressRule { from: peers, ports: Some(ports) };
    let to = |peers, ports| NetworkPolicyEgressRule { to: Some(peers), ports: Some(ports) };
    let transfer = || vec![allow("TCP", TRANSFER_PORT)];
    let outside = vec![allow("TCP", TRANSFER_PORT), allow("UDP", TRANSFER_PORT)];
    let strangers = !instance.downstreams.is_empty() || !instance.outside.is_empty();
    let outside = strangers.then(|| from(None, outside));
    let ingress = vec![
        from(None, vec![allow("UDP", DNS_PORT), allow("TCP", DNS_PORT)]),
        from(Some(vec![operator(cluster), servers()]), transfer()),
        from(Some(vec![everybody()]), vec![allow("TCP", HTTP_PORT)]),
    ];
    let egress = [
        to(vec![operator(cluster)], vec![allow("TCP", TRANSFER_PORT), allow("UDP", TRANSFER_PORT)]),
        to(vec![servers()], transfer()),
    ];
    let source =
        |at: SocketAddr| to(vec![host(at.ip())], vec![allow("TCP", at.port()), allow("UDP", at.port())]);
    let sources = instance.outside.iter().map(|upstream| source(upstream.address));
    let spec = NetworkPolicySpec {
        pod_selector: Some(selector(pod_labels(&instance.metadata.key.name))),
        policy_types: Some(vec!["Ingress".to_owned(), "Egress".to_owned()]),
        ingress: Some(ingress.into_iter().chain(outside).collect()),
        egress: Some(egress.into_iter().chain(sources).collect()),
    };
    NetworkPolicy { metadata, spec: Some(spec) }
}

fn allow(protocol: &str, number: u16) -> NetworkPolicyPort {
    NetworkPolicyPort {
        protocol: Some(protocol.to_owned()),
        port: Some(IntOrString::Int(number.into())),
        end_port: None,
    }
}

fn selector(labels: BTreeMap<String, String>) -> LabelSelector {
    LabelSelector { match_labels: Some(labels), match_expressions: None }
}

fn operator(cluster: &Cluster) -> NetworkPolicyPeer {
    let label = ("kubernetes.io/metadata.name".to_owned(), cluster.operator_namespace.clone());
    NetworkPolicyPeer {
        namespace_selector: Some(selector(BTreeMap::from([label]))),
        ..NetworkPolicyPeer::default()
    }
}

/// Servers of any instance of this namespace.
fn servers() -> NetworkPolicyPeer {
    let label = (MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned());
    NetworkPolicyPeer {
        pod_selector: Some(selector(BTreeMap::from([label]))),
        ..NetworkPolicyPeer::default()
    }
}

/// That address.
fn host(address: IpAddr) -> NetworkPolicyPeer {
    let bits = if address.is_ipv4() { 32 } else { 128 };
    NetworkPolicyPeer {
        ip_block: Some(IPBlock { cidr: format!("{address}/{bits}"), except: None }),
        ..NetworkPolicyPeer::default()
    }
}

fn everybody() -> NetworkPolicyPeer {
    NetworkPolicyPeer { namespace_selector: Some(LabelSelector::default()), ..NetworkPolicyPeer::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_address_that_cannot_be_changed_is_kept_and_the_wish_is_answered() {
        let service =
            |address: &str| json!({ "metadata": { "name": "dns" }, "spec": { "clusterIP": address } });
        let live = service("fd10:96::53");
        let mut same = service("FD10:96:0::53");
        assert_eq!(keep_address(&live, &mut same), None, "it is written in another way");
        assert_eq!(same, live, "it is sent as it is there");
        let mut other = service("10.96.0.53");
        let fixed = keep_address(&live, &mut other).unwrap();
        assert_eq!(other, live);
        assert_eq!((&*fixed.live, &*fixed.wanted), ("fd10:96::53", "10.96.0.53"));
        let mut free = json!({ "spec": {} });
        assert_eq!(keep_address(&live, &mut free), None);
        assert_eq!(free, json!({ "spec": {} }), "nobody asks for one");
        let mut first = service("10.96.0.53");
        assert_eq!(keep_address(&json!({ "spec": {} }), &mut first), None);
        assert_eq!(first, service("10.96.0.53"));
    }
}
