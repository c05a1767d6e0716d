//! DNSZone: a zone and where it is served.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::condition::condition_list;
use crate::rules;
use crate::selector::LabelSelector;

/// What a zone should be.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "bindy.firestoned.io",
    version = "v1beta1",
    kind = "DNSZone",
    plural = "dnszones",
    namespaced,
    status = "DNSZoneStatus",
    derive = "PartialEq",
    shortname = "zone",
    shortname = "zones",
    shortname = "dz",
    category = "bindy",
    doc = "An authoritative DNS zone. `spec.zoneName` alone is a complete spec: SOA and NS get defaults, and every Bind9Instance of the namespace serves it. Its content comes from record objects, zone files, or both.",
    printcolumn(name = "Zone", type_ = "string", json_path = ".spec.zoneName"),
    printcolumn(
        name = "Serial",
        type_ = "integer",
        json_path = ".status.serial",
        description = "the published serial"
    ),
    printcolumn(
        name = "Records",
        type_ = "integer",
        json_path = ".status.records",
        description = "resource records in the zone"
    ),
    printcolumn(
        name = "Servers",
        type_ = "string",
        json_path = ".status.servers.summary",
        description = "servers that answer the published serial, of those that should"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Accepted",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Accepted\")].reason",
        priority = 1
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
pub struct DNSZoneSpec {
    /// The zone's domain name, with or without the final dot. Examples: `example.com`, `2.0.192.in-addr.arpa`.
    #[schemars(length(min = 1, max = 1004))]
    #[x_kube(
        validation = rules::name_is_text(),
        validation = rules::no_empty_label(),
        validation = rules::label_length(),
        validation = rules::zone_name_is_plain(),
    )]
    pub zone_name: String,
    /// Values of the zone's SOA record that differ from the defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soa_record: Option<SoaRecord>,
    /// TTL in seconds of records that give none, of the default NS records and of the SOA record, 0 to 2147483647.
    /// Default: 3600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2_147_483_647))]
    pub ttl: Option<u32>,
    /// The zone's own NS records. Default, unless a zone file or an NSRecord has some: `INSTANCE.ns` within the zone for each
    /// instance that serves it, with the addresses of its status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    pub name_servers: Option<Vec<NameServer>>,
    /// Takes the records that any of these selectors matches into the zone, besides those that name it in
    /// `spec.zoneRef`. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub records_from: Vec<SelectorSource>,
    /// Serves the zone on the Bind9Instances that any of these selectors matches, and on those that these pull from. Default:
    /// every instance of the namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    pub bind9_instances_from: Option<Vec<SelectorSource>>,
    /// Takes zone files (RFC 1035 section 5) into the zone. They merge with record objects; a SOA record in a file
    /// counts where `soaRecord` is silent, and of two serials the higher one. This is how an existing zone is brought in. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub zone_files_from: Vec<ZoneFileSource>,
    /// Stops publication: changes are gathered but not served, the last version stays. Default: false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
}

/// Values of a SOA record (RFC 1035 section 3.3.13). Times are in seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SoaRecord {
    /// Name of the primary server. A name with a dot in it is absolute, with or without a final dot; a single label is
    /// relative to the zone. Default: the first of the zone's name servers. Example: `ns1.example.com.`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1004))]
    #[x_kube(
        validation = rules::name_is_text(),
        validation = rules::no_empty_label(),
        validation = rules::label_length(),
    )]
    pub primary_ns: Option<String>,
    /// Mail address of the person responsible, as an address or in its domain form. Default: hostmaster at the zone.
    /// Examples: `admin@example.com`, `admin.example.com.`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1004))]
    #[x_kube(validation = rules::name_is_text(), validation = rules::mailbox())]
    pub admin_email: Option<String>,
    /// Lowest serial to use; Bindy raises the serial with every change and never lowers it. Set it above the serial of
    /// the servers that the zone moves from, also later: what is served is then published again under it, unless it does
    /// not come after the published serial (RFC 1982). Default: none. Example: 2026010100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 4_294_967_295_u32))]
    pub serial: Option<u32>,
    /// How often servers ask for a new version when nobody told them of one; those of Bindy do at least once an hour.
    /// Default: 3600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub refresh: Option<u32>,
    /// How long servers wait after a failed refresh; those of Bindy for 30 seconds at most. Default: 600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub retry: Option<u32>,
    /// How long servers go on answering without any contact to a source. Default: 3024000 (5 weeks).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub expire: Option<u32>,
    /// How long resolvers may remember that a name does not exist (RFC 2308). Default: 300.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2_147_483_647))]
    pub negative_ttl: Option<u32>,
}

/// A name server of the zone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct NameServer {
    /// Its host name. A name with a dot in it is absolute, with or without a final dot; a single label is relative to the
    /// zone. Example: `ns1.example.com.`
    #[schemars(length(min = 1, max = 1004))]
    #[x_kube(
        validation = rules::name_is_text(),
        validation = rules::no_empty_label(),
        validation = rules::label_length(),
    )]
    pub hostname: String,
    /// Its IPv4 address, added to the zone as an A record when the host name is in the zone. Example: `192.0.2.53`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rules::ipv4_address")]
    pub ipv4_address: Option<String>,
    /// Its IPv6 address, added to the zone as an AAAA record when the host name is in the zone. Example: `2001:db8::53`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rules::ipv6_address")]
    pub ipv6_address: Option<String>,
}

/// Objects of the same namespace, chosen by labels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SelectorSource {
    /// The labels to match. Example: `{matchLabels: {zone: example.com}}`; `{}` matches every object of the namespace.
    pub selector: LabelSelector,
}

/// A source of zone-file text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ZoneFileSource {
    /// A key of a ConfigMap in the same namespace. The ConfigMap needs the label
    /// `bindy.firestoned.io/zone-file: "true"`.
    pub config_map: ConfigMapKey,
}

/// A key of a ConfigMap.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapKey {
    /// Name of the ConfigMap. Example: `example-com-zone`.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key in its `data`. Example: `example.com.zone`.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// What is known about a zone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DNSZoneStatus {
    /// The `metadata.generation` that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The published serial (RFC 1982). It only rises, and it is recorded here before any server answers with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<u32>,
    /// Digest of the content that the serial stands for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub digest: Option<String>,
    /// Resource records in the published version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records: Option<u64>,
    /// How many servers answer the published serial.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub servers: Option<ServerCount>,
    /// Servers that should answer the published serial and do not, at most 16 of them; those that are not ready yet only if
    /// something is wrong with their answers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub lagging: Vec<String>,
    /// `Accepted`, `Ready`, `Held` and `Degraded`.
    #[serde(default)]
    #[schemars(schema_with = "condition_list")]
    pub conditions: Vec<Condition>,
}

/// Servers of a zone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServerCount {
    /// Servers that should serve the zone.
    pub desired: u32,
    /// Servers that answer the published serial.
    pub in_sync: u32,
    /// Both, for the column. Example: `4/4`.
    #[serde(default)]
    pub summary: String,
}

impl ServerCount {
    /// The count with its summary.
    #[must_use]
    pub fn new(in_sync: u32, desired: u32) -> Self {
        Self { desired, in_sync, summary: format!("{in_sync}/{desired}") }
    }
}
