//! The objects that the world watches, reduced to what DNS needs of them.
//!
//! Kubernetes objects are decoded, converted to these types and dropped (see `decode`). Text that has not been
//! checked against a zone yet (owner names, targets) stays text here: the same record may be wanted by two zones.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use bindy_api::RecordKind;
use bindy_zone::Name;

use crate::named_conf::Wishes;
use crate::record_data::RecordData;

/// The kinds of objects that the world is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Bind9Instance.
    Instance,
    /// DNSZone.
    Zone,
    /// One of the record kinds.
    Record(RecordKind),
    /// ConfigMap with zone files.
    ConfigMap,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Instance => "Bind9Instance",
            Self::Zone => "DNSZone",
            Self::Record(kind) => kind.row().name,
            Self::ConfigMap => "ConfigMap",
        })
    }
}

/// Namespace and name of an object whose kind is known from the context.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamespacedName {
    /// The object's namespace.
    pub namespace: String,
    /// The object's name.
    pub name: String,
}

impl NamespacedName {
    /// The key of that object.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

/// `namespace/name`, as kubectl and client-go write it.
impl fmt::Display for NamespacedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What identifies an object among all others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace and name.
    pub key: NamespacedName,
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.key)
    }
}

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// What every object has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Namespace and name.
    pub key: NamespacedName,
    /// UID as the API server gave it.
    pub uid: String,
    /// creationTimestamp in seconds since 1970: decides who wins a conflict.
    pub created: u32,
    /// metadata.generation.
    pub generation: u32,
    /// Labels.
    pub labels: Labels,
    /// Value of the annotation that releases a held version.
    pub release: Option<String>,
}

/// Any object of the world.
#[derive(Clone, Debug)]
pub enum Object {
    /// A Bind9Instance.
    Instance(Box<Instance>),
    /// A DNSZone.
    Zone(Box<Zone>),
    /// A record.
    Record(Record),
    /// A ConfigMap.
    ConfigMap(ConfigMap),
}

impl Object {
    /// The key of this object.
    pub fn key(&self) -> ObjectKey {
        let (kind, metadata) = match self {
            Self::Instance(instance) => (Kind::Instance, &instance.metadata),
            Self::Zone(zone) => (Kind::Zone, &zone.metadata),
            Self::Record(record) => (Kind::Record(record.data.kind()), &record.metadata),
            Self::ConfigMap(map) => (Kind::ConfigMap, &map.metadata),
        };
        ObjectKey { kind, key: metadata.key.clone() }
    }
}

/// The tier of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// First tier: pulls from the hidden primary.
    Primary,
    /// Pulls from other instances.
    Secondary,
}

/// A fleet of interchangeable BIND servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Metadata; the labels decide which zones choose this instance.
    pub metadata: Metadata,
    /// Number of servers wanted.
    pub replicas: u32,
    /// Tier.
    pub role: Role,
    /// Instances of the same namespace that this one pulls from; empty: every primary of the namespace (for a
    /// secondary), the hidden primary (for a primary).
    pub upstreams: Vec<String>,
    /// The servers outside of Bindy that this one pulls from.
    pub outside: Vec<OutsideUpstream>,
    /// Names of the servers outside of Bindy that may follow this instance.
    pub downstreams: BTreeSet<String>,
    /// Settings of BIND.
    pub config: Wishes,
    /// What its pods are like; without meaning where servers are local processes.
    pub pods: PodSettings,
    /// Nothing about this instance is changed while this is set.
    pub paused: bool,
}

/// A server outside of Bindy that an instance pulls zones from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutsideUpstream {
    /// What logs and metrics call it.
    pub name: String,
    /// Where it gives zones away.
    pub address: SocketAddr,
    /// Name of the key that signs requests to it.
    pub key: Name,
    /// Name of the Secret of the namespace that has the key.
    pub secret: String,
    /// The zones to pull from it, at least one.
    pub zones: BTreeSet<Name>,
}

impl OutsideUpstream {
    /// What it is called among all sources of a server, and the file with its key.
    pub fn source_name(&self) -> String {
        format!("outside-{}", self.name)
    }
}

impl Instance {
    /// Whether the same zones come by the same ways: the two differ at most in how many servers run, and how.
    pub(crate) fn carries_as(&self, other: &Self) -> bool {
        // What is not named here counts.
        let mut alike = self.clone();
        alike.metadata.generation = other.metadata.generation;
        alike.metadata.release.clone_from(&other.metadata.release);
        alike.replicas = other.replicas;
        alike.downstreams.clone_from(&other.downstreams);
        alike.config.clone_from(&other.config);
        alike.pods.clone_from(&other.pods);
        alike.paused = other.paused;
        alike == *other
    }

    /// The region that it is labelled with.
    pub fn region(&self) -> Option<&str> {
        self.metadata.labels.get(bindy_api::REGION_LABEL).map(String::as_str)
    }
}

/// What differs between the pods of instances.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodSettings {
    /// Version of BIND.
    pub version: Option<String>,
    /// Reference of the image of BIND, instead of a version.
    pub image: Option<String>,
    /// What opens the registries of the images.
    pub image_pull_secrets: Vec<bindy_api::PullSecret>,
    /// What named asks for and may use.
    pub resources: bindy_api::Resources,
    /// On which nodes.
    pub placement: bindy_api::Placement,
    /// How clients reach them.
    pub service: bindy_api::ServiceSettings,
    /// The volume of each, if they have any.
    pub storage: Option<bindy_api::Storage>,
    /// How many may be missing by intent.
    pub disruption_budget: bindy_api::DisruptionBudget,
}

/// A label selector: all labels and expressions have to match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// Labels that have to have exactly these values.
    pub labels: Labels,
    /// Further requirements.
    pub expressions: Vec<Requirement>,
}

/// One requirement of a label selector (the operators of Kubernetes' LabelSelectorRequirement).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Requirement {
    /// The label has one of these values.
    In(String, Vec<String>),
    /// The label is absent or has none of these values.
    NotIn(String, Vec<String>),
    /// The label is present.
    Exists(String),
    /// The label is absent.
    DoesNotExist(String),
}

impl Selector {
    /// Whether an object with these labels is selected; an empty selector selects everything.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.expressions.iter().all(|requirement| requirement.matches(labels))
    }
}

impl Requirement {
    fn matches(&self, labels: &Labels) -> bool {
        match self {
            Self::In(key, values) => labels.get(key).is_some_and(|value| values.contains(value)),
            Self::NotIn(key, values) => labels.get(key).is_none_or(|value| !values.contains(value)),
            Self::Exists(key) => labels.contains_key(key),
            Self::DoesNotExist(key) => !labels.contains_key(key),
        }
    }
}

/// A zone as it is wished for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    /// Metadata.
    pub metadata: Metadata,
    /// The zone's name as it was written.
    pub zone_name: String,
    /// Fields of the SOA that are not left to their defaults.
    pub soa: SoaFields,
    /// TTL of records that have none of their own.
    pub ttl: Option<u32>,
    /// Name servers of the zone; empty: the instances that serve it.
    pub name_servers: Vec<NameServer>,
    /// Chooses records by their labels, besides those that name the zone.
    pub records_from: Vec<Selector>,
    /// Chooses instances by their labels; `None`: every instance of the namespace.
    pub instances_from: Option<Vec<Selector>>,
    /// Zone files.
    pub zone_files: Vec<ZoneFileRef>,
    /// The served version stays as it is while this is set.
    pub paused: bool,
}

/// The fields of an SOA that a zone gives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SoaFields {
    /// MNAME.
    pub primary: Option<String>,
    /// RNAME, as a mail address or as a name.
    pub mailbox: Option<String>,
    /// Seconds.
    pub refresh: Option<u32>,
    /// Seconds.
    pub retry: Option<u32>,
    /// Seconds.
    pub expire: Option<u32>,
    /// Seconds.
    pub negative_ttl: Option<u32>,
    /// No serial below this one is used.
    pub serial_floor: Option<u32>,
}

/// A name server of a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameServer {
    /// Its name, in the notation of targets.
    pub hostname: String,
    /// Its addresses; served as glue when the name is within the zone.
    pub addresses: Vec<IpAddr>,
}

/// One key of a ConfigMap in the zone's namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ZoneFileRef {
    /// Name of the ConfigMap.
    pub config_map: String,
    /// Key within it.
    pub key: String,
}

impl fmt::Display for ZoneFileRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.config_map, self.key)
    }
}

/// Texts of zone files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigMap {
    /// Metadata.
    pub metadata: Metadata,
    /// Texts by key.
    pub data: BTreeMap<String, String>,
}

/// One record object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Metadata; the labels decide which zones choose this record.
    pub metadata: Metadata,
    /// Name of the DNSZone that it belongs to.
    pub zone_ref: Option<String>,
    /// Owner name as it was written.
    pub name: String,
    /// TTL; the zone's when absent.
    pub ttl: Option<u32>,
    /// Type and data.
    pub data: RecordData,
}
