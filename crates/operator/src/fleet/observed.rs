//! The objects of instances as they are, kept up to date by watches and by the answers to our own writes.
//!
//! Whatever carries our label is here, and what was found to be an instance's own when it was asked for. An object that is not
//! here may exist all the same, made by somebody else.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};

use bindy_api::MAX_NAMED;
use bindy_model::NamespacedName;
use bindy_model::workload::{
    INSTANCE_LABEL, MANAGED_BY, MANAGED_BY_LABEL, Nodes, ObjectKind, ObjectNames, Ownership, TRANSFER_PORT,
    ownership,
};
use serde_json::Value;

use bindy_model::Fleet;

type ObjectId = (ObjectKind, NamespacedName);

/// The live objects, shared by all who look at them.
#[derive(Clone, Debug, Default)]
pub(super) struct Observed(Arc<RwLock<Live>>);

#[derive(Debug, Default)]
struct Live {
    objects: HashMap<ObjectId, Arc<Value>>,
    /// The last version that a watch has told of, by kind.
    heard: HashMap<ObjectKind, u64>,
    hidden_primary: Option<SocketAddr>,
    nodes: Option<Arc<Nodes>>,
}

impl Observed {
    /// The object of that kind and name.
    pub(super) fn get(&self, kind: ObjectKind, key: &NamespacedName) -> Option<Arc<Value>> {
        self.read().objects.get(&(kind, key.clone())).cloned()
    }

    /// Takes an object that a watch tells of, unless a later version of it is known; returns whether it is news.
    pub(super) fn heard(&self, kind: ObjectKind, object: Value) -> bool {
        let mut live = self.write();
        live.hear(kind, &object);
        live.put(kind, object)
    }

    /// Forgets an object that is gone, as a watch tells.
    pub(super) fn heard_gone(&self, kind: ObjectKind, object: &Value) {
        let mut live = self.write();
        live.hear(kind, object);
        live.remove(kind, object);
    }

    /// Takes an object from an answer of the API server, unless the watch is past it: it may have told already that the object
    /// is gone, and will not tell that again.
    pub(super) fn answered(&self, kind: ObjectKind, object: Value) {
        let mut live = self.write();
        let is_past = live.heard.get(&kind).is_some_and(|heard| version(&object) <= Some(*heard));
        if !(is_past && is_watched(&object)) {
            live.put(kind, object);
        }
    }

    /// Forgets an object that is gone, as an answer of the API server says.
    pub(super) fn answered_gone(&self, kind: ObjectKind, object: &Value) {
        self.write().remove(kind, object);
    }

    /// Keeps only these of a kind; returns the others.
    pub(super) fn retain(&self, kind: ObjectKind, listed: &HashSet<NamespacedName>) -> Vec<Arc<Value>> {
        let mut live = self.write();
        let gone = |(its, key): &&ObjectId| *its == kind && !listed.contains(key);
        let gone: Vec<ObjectId> = live.objects.keys().filter(gone).cloned().collect();
        gone.iter().filter_map(|id| live.objects.remove(id)).collect()
    }

    /// The nodes; `None` before they have been listed.
    pub(super) fn nodes(&self) -> Option<Arc<Nodes>> {
        self.read().nodes.clone()
    }

    /// Takes all the nodes.
    pub(super) fn set_nodes(&self, nodes: Nodes) {
        self.write().nodes = Some(Arc::new(nodes));
    }

    /// Where the hidden primary is.
    pub(super) fn hidden_primary(&self) -> Option<SocketAddr> {
        self.read().hidden_primary
    }

    /// Takes the Service of the hidden primary, or that there is none; returns whether its address is news. The last
    /// address is kept: servers are told another one when there is one.
    pub(super) fn set_hidden_primary(&self, service: &Value) -> bool {
        let Some(address) = cluster_ips(service).first().copied() else { return false };
        let address = SocketAddr::new(address, TRANSFER_PORT);
        self.write().hidden_primary.replace(address) != Some(address)
    }

    /// The addresses of the transfer Services of these instances, as far as they have one of their own.
    pub(super) fn transfer_addresses<'a>(
        &self,
        fleet: &Fleet,
        keys: impl IntoIterator<Item = &'a NamespacedName>,
    ) -> Vec<(NamespacedName, IpAddr)> {
        let address = |key: &NamespacedName| {
            let name = NamespacedName::new(&*key.namespace, ObjectNames::new(key).transfer_service);
            let service = self.get(ObjectKind::Service, &name)?;
            let ours = ownership(&service, &fleet.get(key)?.metadata) == Ownership::Ours;
            Some((key.clone(), *cluster_ips(&service).first()?)).filter(|_| ours)
        };
        keys.into_iter().filter_map(address).collect()
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Live> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Live> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Live {
    /// A deletion has a version of its own, later than the last one of the object.
    fn hear(&mut self, kind: ObjectKind, object: &Value) {
        let heard = self.heard.entry(kind).or_default();
        *heard = version(object).unwrap_or_default().max(*heard);
    }

    fn put(&mut self, kind: ObjectKind, object: Value) -> bool {
        let Some(key) = key_of(&object) else { return false };
        let id = (kind, key);
        let known = self.objects.get(&id).map(|known| (uid(known), version(known)));
        let (uid, version) = (uid(&object), version(&object));
        let news = known.is_none_or(|(known_uid, known)| known_uid != uid || known < version);
        if news {
            self.objects.insert(id, Arc::new(object));
        }
        news
    }

    /// What is known of another object of the same name stays.
    fn remove(&mut self, kind: ObjectKind, object: &Value) {
        let Some(key) = key_of(object) else { return };
        let id = (kind, key);
        if self.objects.get(&id).is_some_and(|known| uid(known) == uid(object)) {
            self.objects.remove(&id);
        }
    }
}

/// The addresses of a Service within the cluster.
pub(super) fn cluster_ips(service: &Value) -> Vec<IpAddr> {
    let listed = service.pointer("/spec/clusterIPs").and_then(Value::as_array);
    listed.into_iter().flatten().filter_map(|address| address.as_str()?.parse().ok()).collect()
}

/// The addresses at which clients ask a Service: those of its load balancer, else its external ones, else those within the
/// cluster. Empty when a load balancer gives names only; `None`: there are none yet. A load balancer may list each node of the
/// cluster: the lowest ones are taken, as many as a status has room for.
pub(super) fn client_addresses(service: &Value) -> Option<Vec<IpAddr>> {
    let list = |pointer| service.pointer(pointer).and_then(Value::as_array).filter(|list| !list.is_empty());
    if service.pointer("/spec/type").and_then(Value::as_str) == Some("LoadBalancer") {
        let given = list("/status/loadBalancer/ingress")?.iter();
        let mut given: Vec<IpAddr> =
            given.filter_map(|entry| entry.get("ip")?.as_str()?.parse().ok()).collect();
        given.sort_unstable();
        given.truncate(MAX_NAMED);
        return Some(given);
    }
    let external = list("/spec/externalIPs").into_iter().flatten();
    let external: Vec<IpAddr> = external.filter_map(|address| address.as_str()?.parse().ok()).collect();
    Some(if external.is_empty() { cluster_ips(service) } else { external }).filter(|all| !all.is_empty())
}

/// Namespace and name of an object.
pub(super) fn key_of(object: &Value) -> Option<NamespacedName> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
    Some(NamespacedName::new(text("/metadata/namespace")?, text("/metadata/name")?))
}

/// The instances that an object may belong to: by its owner, and by its label.
pub(super) fn instances_of(object: &Value) -> HashSet<NamespacedName> {
    let Some(key) = key_of(object) else { return HashSet::new() };
    let labels = object.pointer("/metadata/labels").and_then(Value::as_object);
    let label = labels.and_then(|labels| labels.get(INSTANCE_LABEL));
    let owners = object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    let owners = owners
        .into_iter()
        .flatten()
        .filter(|owner| owner.get("kind").and_then(Value::as_str) == Some("Bind9Instance"));
    let names = label.into_iter().chain(owners.filter_map(|owner| owner.get("name")));
    names.filter_map(Value::as_str).map(|name| NamespacedName::new(&*key.namespace, name)).collect()
}

/// Whether the watch of its kind tells of the object.
fn is_watched(object: &Value) -> bool {
    let labels = object.pointer("/metadata/labels").and_then(Value::as_object);
    labels.and_then(|labels| labels.get(MANAGED_BY_LABEL)).and_then(Value::as_str) == Some(MANAGED_BY)
}

fn uid(object: &Value) -> Option<String> {
    object.pointer("/metadata/uid").and_then(Value::as_str).map(str::to_owned)
}

/// The resourceVersion; API servers count it up.
fn version(object: &Value) -> Option<u64> {
    object.pointer("/metadata/resourceVersion")?.as_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn service(uid: &str, version: &str, address: &str) -> Value {
        json!({
            "metadata": {
                "namespace": "default", "name": "dns-transfer", "uid": uid, "resourceVersion": version,
                "labels": { INSTANCE_LABEL: "dns", MANAGED_BY_LABEL: MANAGED_BY },
                "ownerReferences": [{ "apiVersion": "v1", "kind": "Bind9Instance", "name": "owner", "uid": "u" }],
            },
            "spec": { "clusterIPs": [address] },
        })
    }

    fn key() -> NamespacedName {
        NamespacedName::new("default", "dns-transfer")
    }

    #[test]
    fn an_older_version_does_not_replace_the_answer_to_our_own_write() {
        let observed = Observed::default();
        observed.answered(ObjectKind::Service, service("u", "10", "10.0.0.2"));
        assert!(!observed.heard(ObjectKind::Service, service("u", "9", "10.0.0.1")));
        assert!(!observed.heard(ObjectKind::Service, service("u", "10", "10.0.0.2")));
        assert!(observed.heard(ObjectKind::Service, service("v", "11", "10.0.0.3")));
        observed.heard_gone(ObjectKind::Service, &service("u", "12", "10.0.0.2"));
        let live = observed.get(ObjectKind::Service, &key()).unwrap();
        assert_eq!(cluster_ips(&live), ["10.0.0.3".parse::<IpAddr>().unwrap()]);
        observed.heard_gone(ObjectKind::Service, &service("v", "13", "10.0.0.3"));
        assert!(observed.get(ObjectKind::Service, &key()).is_none());
    }

    #[test]
    fn an_answer_that_comes_after_the_news_of_the_objects_end_does_not_bring_it_back() {
        let observed = Observed::default();
        let made = service("u", "10", "10.0.0.1");
        assert!(observed.heard(ObjectKind::Service, made.clone()));
        observed.heard_gone(ObjectKind::Service, &service("u", "11", "10.0.0.1"));
        observed.answered(ObjectKind::Service, made.clone());
        assert!(observed.get(ObjectKind::Service, &key()).is_none());
        let next = service("v", "12", "10.0.0.2");
        observed.heard(ObjectKind::Service, next.clone());
        observed.answered(ObjectKind::Service, made.clone());
        assert_eq!(*observed.get(ObjectKind::Service, &key()).unwrap(), next, "nor in place of the next one");
        let mut unlabelled = made;
        unlabelled["metadata"]["labels"] = json!({});
        observed.answered(ObjectKind::Service, unlabelled.clone());
        assert_eq!(*observed.get(ObjectKind::Service, &key()).unwrap(), unlabelled, "no watch tells of it");
        observed.answered_gone(ObjectKind::Service, &unlabelled);
        observed.answered(ObjectKind::Service, service("w", "13", "10.0.0.3"));
        assert!(observed.get(ObjectKind::Service, &key()).is_some(), "the watch will tell of its end");
    }

    #[test]
    fn what_a_new_list_lacks_is_gone() {
        let observed = Observed::default();
        observed.heard(ObjectKind::Service, service("u", "1", "10.0.0.1"));
        assert!(observed.retain(ObjectKind::ConfigMap, &HashSet::new()).is_empty());
        assert!(observed.retain(ObjectKind::Service, &[key()].into()).is_empty());
        assert_eq!(observed.retain(ObjectKind::Service, &HashSet::new()).len(), 1);
    }

    #[test]
    fn an_object_concerns_its_owner_and_whom_its_label_names() {
        let names = instances_of(&service("u", "1", "10.0.0.1"));
        assert_eq!(names, ["dns", "owner"].map(|name| NamespacedName::new("default", name)).into());
    }

    #[test]
    fn the_hidden_primary_keeps_its_last_address() {
        let observed = Observed::default();
        assert!(!observed.set_hidden_primary(&json!({ "spec": { "clusterIPs": ["None"] } })));
        assert!(observed.set_hidden_primary(&service("u", "1", "10.0.0.9")));
        assert!(!observed.set_hidden_primary(&service("u", "2", "10.0.0.9")));
        assert!(!observed.set_hidden_primary(&json!({})));
        assert_eq!(observed.hidden_primary(), Some("10.0.0.9:5353".parse().unwrap()));
    }

    #[test]
    fn clients_ask_the_load_balancer_else_fixed_addresses_else_those_within_the_cluster() {
        let given = |kind: &str, external: Value, ingress: Value| {
            let own = ["10.0.0.1", "fd00::1"];
            let spec = json!({ "type": kind, "clusterIPs": own, "externalIPs": external });
            let service = json!({ "spec": spec, "status": { "loadBalancer": { "ingress": ingress } } });
            let addresses = client_addresses(&service)?;
            Some(addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
        };
        let said = |text: &str| Some(text.to_owned());
        let (none, fixed) = (json!(null), json!(["192.0.2.53"]));
        assert_eq!(given("ClusterIP", none.clone(), none.clone()), said("10.0.0.1 fd00::1"));
        assert_eq!(given("NodePort", fixed, none.clone()), said("192.0.2.53"));
        let ingress =
            json!([{ "ip": "198.51.100.1" }, { "hostname": "lb.example" }, { "ip": "2001:db8::1" }]);
        assert_eq!(given("LoadBalancer", none.clone(), ingress.clone()), said("198.51.100.1 2001:db8::1"));
        assert_eq!(given("LoadBalancer", none.clone(), none.clone()), None, "it has not been given any yet");
        assert_eq!(given("LoadBalancer", none.clone(), json!([])), None, "nor has it then");
        let names = json!([{ "hostname": "lb.example" }]);
        assert_eq!(given("LoadBalancer", none.clone(), names), said(""), "it never will be");
        let nodes: Vec<String> = (10..40).rev().map(|n| format!("192.0.2.{n}")).collect();
        let ingress_of_nodes: Vec<Value> = nodes.iter().map(|ip| json!({ "ip": ip })).collect();
        let lowest: Vec<&str> = nodes.iter().rev().take(16).map(String::as_str).collect();
        assert_eq!(given("LoadBalancer", none.clone(), json!(ingress_of_nodes)), said(&lowest.join(" ")));
        assert_eq!(
            given("ClusterIP", none, ingress),
            said("10.0.0.1 fd00::1"),
            "what is left of a load balancer"
        );
    }
}
