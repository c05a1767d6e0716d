//! Bind9Instance: a set of interchangeable BIND servers.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::core::Rule;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::condition::condition_list;
use crate::{
    DisruptionBudget, Placement, PullSecret, REGION_LABEL, ROLE_LABEL, Resources, ServiceSettings, Storage,
};

/// A domain name of letters, digits, `-`, `_` and, within a label, `/` (RFC 2317).
const PLAIN_NAME: &str = r"^[A-Za-z0-9_]([-A-Za-z0-9_/]{0,61}[A-Za-z0-9_])?(\.[A-Za-z0-9_]([-A-Za-z0-9_/]{0,61}[A-Za-z0-9_])?)*\.?$";

/// Where an instance gets its zones from.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// First tier: pulls from Bindy itself.
    #[default]
    Primary,
    /// Pulls from primaries, or from another secondary.
    Secondary,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Primary => "primary",
            Self::Secondary => "secondary",
        })
    }
}

/// What a Bind9Instance should be.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "bindy.firestoned.io",
    version = "v1beta1",
    kind = "Bind9Instance",
    plural = "bind9instances",
    namespaced,
    status = "Bind9InstanceStatus",
    derive = "PartialEq",
    shortname = "b9",
    shortname = "b9s",
    category = "bindy",
    doc = "A set of interchangeable BIND servers: the same zones with the same serials, any of which may fail. The role comes from the label `dns-role` (primary when absent), the region from the label `region`. `spec.replicas` alone is a complete spec.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Role", type_ = "string", json_path = ".status.role", description = "primary or secondary"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.ready", description = "servers that are ready, of those asked for"),
    printcolumn(name = "Zones", type_ = "integer", json_path = ".status.zones", description = "zones in the catalog"),
    printcolumn(name = "Address", type_ = "string", json_path = ".status.address", description = "where clients ask it"),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version", description = "version of BIND"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].message", priority = 1),
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$') && size(self.metadata.name) <= 52")
        .message("metadata.name must be a DNS label (lower-case letters, digits and '-', a letter first) of at most 52 characters: it becomes part of the names of Services, of pods' labels and of names in DNS"),
    validation = Rule::new("!has(self.spec.upstreams) || self.spec.upstreams.all(u, u.name != self.metadata.name)")
        .message("an instance cannot be its own upstream")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.role) || self.role != 'primary' || !has(self.upstreams) || size(self.upstreams) == 0")
    .message("a primary pulls from Bindy itself and takes no upstreams: remove them, or set role to secondary"))]
pub struct Bind9InstanceSpec {
    /// How many servers to run, 0 to 100. Two or more survive the loss of one without a missed answer. Changed by
    /// `kubectl scale` too.
    #[schemars(range(min = 0, max = 100))]
    pub replicas: u32,
    /// `primary` (pulls from Bindy itself) or `secondary` (pulls from primaries or another secondary). Overrides the
    /// label `dns-role`; without both the instance is a primary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "role_names")]
    pub role: Option<Role>,
    /// Where a secondary pulls its zones from, in order of preference: instances of the namespace, where another secondary
    /// makes a chain, and servers outside of Bindy, each for the zones listed with it. Default: every primary of the
    /// namespace. Only for secondaries.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "named_list::<Upstream, 16>")]
    pub upstreams: Vec<Upstream>,
    /// Servers outside of Bindy, such as a plain BIND on another machine, that may follow this instance: its catalog and all
    /// zones in it. For each a Secret `INSTANCE-downstream-NAME` is made with a key of its own and the configuration of
    /// BIND that uses it (`bindy up` writes them to files below `downstreams` in its state directory); removing the entry
    /// removes the Secret and shuts the key out. While there is one, the transfer port of the instance's servers takes
    /// connections from everywhere. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "named_list::<Downstream, 64>")]
    pub downstreams: Vec<Downstream>,
    /// Settings of BIND that differ from Bindy's defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<InstanceConfig>,
    /// Version of BIND: the tag of the image `ghcr.io/firestoned/bindy-bind9`. A change replaces the servers one by
    /// one. Default: `9.18`. Tested: that and `9.20`. `bindy up` runs the installed BIND instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), regex(pattern = r"^9\.(1[89]|[2-9][0-9])([-.][0-9A-Za-z]+)*$"))]
    pub version: Option<String>,
    /// Another image with BIND 9.18.28 or later, as a whole reference; it needs `named` and `dig` and may run as any user.
    /// Overrides `version`. Default: none. Example: `internetsystemsconsortium/bind9:9.20`. Not used by `bindy up`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^[^\s]+$"))]
    pub image: Option<String>,
    /// Secrets of the namespace by which nodes may pull the images of BIND and of the agent, for registries that ask who
    /// wants them. Default: none. Example: `[{name: registry}]`. Not used by `bindy up`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "named_list::<PullSecret, 8>")]
    pub image_pull_secrets: Vec<PullSecret>,
    /// What each server's `named` container asks for and may use. Default: no limits. Not used by `bindy up`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// On which nodes the servers run. Default: any, those of the region of the label `region` first, spread over nodes
    /// and zones. Not used by `bindy up`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
    /// How clients reach the servers. Default: at an address within the cluster, port 53. Not used by `bindy up`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceSettings>,
    /// Keeps the zones of each server on a volume of its own, so that it answers after a restart even if nobody is left to
    /// get them from. The servers are those of a StatefulSet then, which replaces a server by stopping it first: with one
    /// replica each change of its pod is a gap of some seconds. Setting and removing it loses no question: the new servers
    /// are all there before the old ones go. Default: none, a server that restarts gets its zones from the others. Not
    /// used by `bindy up`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<Storage>,
    /// How many servers may be missing while nodes are drained and the like. Default: one, from two servers on. Not
    /// used by `bindy up`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disruption_budget: Option<DisruptionBudget>,
    /// Stops changes to this instance: zones are neither added to it nor removed from it, its settings stay. Its
    /// servers keep running, answering, and following the zones they have. Default: false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
}

/// A source of zones: an instance of the namespace, or with `address` a server outside of Bindy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.address), has(self.keyName), has(self.keySecret), has(self.zones)].all(one, one == has(self.address)) && (has(self.address) || !has(self.port))")
    .message("a server outside of Bindy needs address, keyName, keySecret and zones; an instance of this namespace has a name only"))]
#[x_kube(validation = Rule::new("!has(self.address) || isIP(self.address)").message("address must be an IPv4 or IPv6 address"))]
pub struct Upstream {
    /// Name of a Bind9Instance in the same namespace; or, with `address`, what the server outside is called in logs and
    /// metrics. Example: `primary-dns`.
    #[schemars(length(min = 1, max = 52), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Address of a server outside of Bindy that gives its zones away, such as a BIND on another machine or the transfer
    /// Service of an instance in another cluster. Example: `192.0.2.53`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 45))]
    pub address: Option<String>,
    /// Its port. Default: 53.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
    /// Name of the TSIG key that it knows. Example: `hq-transfer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = PLAIN_NAME))]
    pub key_name: Option<String>,
    /// Secret of the namespace whose entry `key` has that key, with the algorithm hmac-sha256: the statement that
    /// `tsig-keygen NAME` prints. (`bindy up` reads the file `upstreams/NAMESPACE.SECRET/key` in its state directory.)
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$"))]
    pub key_secret: Option<String>,
    /// The zones to pull from it; this instance and everything downstream of it serve them. A DNSZone of one of these
    /// names is refused on these servers. Example: `[example.org]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "zone_names")]
    pub zones: Option<Vec<String>>,
}

/// A server outside of Bindy that follows an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Downstream {
    /// What it is called: part of the names of its Secret and of its key. Example: `branch-office`.
    #[schemars(length(min = 1, max = 40), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
}

/// Settings of BIND.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InstanceConfig {
    /// Who may ask: addresses, prefixes, `any`, `none`, `localhost` or `localnets`, each with an optional leading `!`
    /// to exclude; the first match counts. Default: `[any]`. Example: `["!192.0.2.7", "192.0.2.0/24", "2001:db8::/32"]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "address_matches")]
    pub allow_query: Option<Vec<String>>,
    /// Who may transfer zones (AXFR, IXFR) from where clients ask, without a key: as in `allowQuery`. They get every zone
    /// that the instance serves and, where there are other tiers, lists of zone names (the catalogs of these instances).
    /// Servers of Bindy and those of `downstreams` have keys and need no entry; `allowQuery` does not limit it. An
    /// address says who asks only where `service.externalTrafficPolicy` is `Local`. Default: nobody. Example:
    /// `[192.0.2.53]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "address_matches")]
    pub allow_transfer: Option<Vec<String>>,
    /// Response rate limiting, against reflection attacks. Default: off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    /// What BIND logs, to the log of its container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logging: Option<Logging>,
}

/// What BIND logs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Logging {
    /// `warning`: only what is wrong; `info`: transfers and zones as well; `debug`: everything, many lines a second.
    /// Default: `info`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "log_levels")]
    pub level: Option<LogLevel>,
}

/// From which severity on BIND logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum LogLevel {
    /// Only what is wrong.
    Warning,
    /// Transfers and zones as well.
    #[default]
    Info,
    /// Everything.
    Debug,
}

/// BIND's response rate limiting (the statement `rate-limit`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RateLimit {
    /// Identical answers per second to one client network (an IPv4 /24 or an IPv6 /56). Example: 20.
    #[schemars(range(min = 1, max = 1000))]
    pub responses_per_second: u32,
    /// Seconds over which the rate is measured. Default: 15.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3600))]
    pub window: Option<u32>,
    /// Of the answers over the limit every n-th is sent truncated, so that real clients can ask again over TCP;
    /// 0 drops all of them, 1 truncates all. Default: 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10))]
    pub slip: Option<u32>,
}

/// What is known about a Bind9Instance.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Bind9InstanceStatus {
    /// The `metadata.generation` that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The role in effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "role_names")]
    pub role: Option<Role>,
    /// Servers that exist.
    #[serde(default)]
    pub replicas: u32,
    /// Servers that are ready: they have loaded every zone and answer.
    #[serde(default)]
    pub ready_replicas: u32,
    /// Servers that are ready, of those asked for. Example: `2/2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<String>,
    /// Label selector of the servers, for the scale subresource. Example:
    /// `app.kubernetes.io/managed-by=bindy,instance=primary-dns`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// Zones that the instance serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zones: Option<u32>,
    /// The first of `addresses`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub address: Option<String>,
    /// Where clients ask it, from the first time on that a server is ready: the addresses that a load balancer gave its
    /// Service, else the fixed ones, else those within the cluster. Zones without `nameServers` name them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub addresses: Vec<String>,
    /// The BIND that its servers are to run: `spec.version`, or the tag of `spec.image`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub version: Option<String>,
    /// The published version of the instance's catalog zone (RFC 9432), which tells its servers what to serve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catalog: Option<CatalogVersion>,
    /// Servers that do not have the published version, at most 16 of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub lagging: Vec<String>,
    /// `Accepted`, `Ready`, `Held` and `Degraded`.
    #[serde(default)]
    #[schemars(schema_with = "condition_list")]
    pub conditions: Vec<Condition>,
}

/// A version of a catalog zone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CatalogVersion {
    /// Its serial (RFC 1982); it only rises.
    pub serial: u32,
    /// Digest of its content.
    #[schemars(length(max = 128))]
    pub digest: String,
    /// Number of its records.
    #[serde(default)]
    pub records: u64,
}

impl Upstream {
    /// An instance of the namespace.
    pub fn instance(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }
}

impl Bind9Instance {
    /// The role in effect: of the spec, else of the label, else primary. `Err` is a label value that is no role.
    pub fn role(&self) -> Result<Role, String> {
        if let Some(role) = self.spec.role {
            return Ok(role);
        }
        match self.label(ROLE_LABEL) {
            None | Some("primary") => Ok(Role::Primary),
            Some("secondary") => Ok(Role::Secondary),
            Some(other) => Err(format!(
                "the label {ROLE_LABEL} is {other:?}: it must be primary or secondary (spec.role overrides it)"
            )),
        }
    }

    /// The region, when the instance is labelled with one.
    #[must_use]
    pub fn region(&self) -> Option<&str> {
        self.label(REGION_LABEL)
    }

    fn label(&self, key: &str) -> Option<&str> {
        self.metadata.labels.as_ref().and_then(|labels: &BTreeMap<_, _>| labels.get(key)).map(String::as_str)
    }
}

/// Schema of an optional role: derived, the documentation of the type would hide that of the field.
fn role_names(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "string", "enum": [Role::Primary, Role::Secondary] })
}

fn log_levels(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "string", "enum": [LogLevel::Warning, LogLevel::Info, LogLevel::Debug] })
}

/// A list with one entry a name.
fn named_list<T: JsonSchema, const MOST: usize>(
    generator: &mut schemars::SchemaGenerator,
) -> schemars::Schema {
    schemars::json_schema!({
        "type": "array",
        "maxItems": MOST,
        "items": generator.subschema_for::<T>(),
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
    })
}

fn zone_names(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "array",
        "minItems": 1,
        "maxItems": 1000,
        // Labels of up to 63 octets; the final dot may be there or not.
        "items": { "type": "string", "minLength": 1, "maxLength": 253, "pattern": PLAIN_NAME },
    })
}

/// What `AclElement` of the model reads.
fn address_matches(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let element = Rule::new(
        "self.lastIndexOf('!') < 1 && (self.matches('^!?(any|none|localhost|localnets)$') || isIP(self.replace('!', '', 1)) || isCIDR(self.replace('!', '', 1)))",
    )
    .message("must be an address, a prefix, any, none, localhost or localnets, with an optional leading \"!\"");
    let host_bits = Rule::new(
        "!isCIDR(self.replace('!', '', 1)) || cidr(self.replace('!', '', 1)) == cidr(self.replace('!', '', 1)).masked()",
    )
    .message("has bits set beyond the prefix length: write the network's own address, or a longer prefix");
    schemars::json_schema!({
        "type": "array",
        "minItems": 1,
        "maxItems": 256,
        "items": { "type": "string", "minLength": 1, "maxLength": 64, "x-kubernetes-validations": [element, host_bits] },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labelled(role: Option<&str>, spec: Option<Role>) -> Bind9Instance {
        let mut instance = Bind9Instance::new("one", Bind9InstanceSpec { role: spec, ..Default::default() });
        instance.metadata.labels =
            role.map(|role| BTreeMap::from([(ROLE_LABEL.to_owned(), role.to_owned())]));
        instance
    }

    #[test]
    fn the_role_is_of_the_spec_then_of_the_label_then_primary() {
        assert_eq!(labelled(None, None).role(), Ok(Role::Primary));
        assert_eq!(labelled(Some("secondary"), None).role(), Ok(Role::Secondary));
        assert_eq!(labelled(Some("secondary"), Some(Role::Primary)).role(), Ok(Role::Primary));
        assert!(labelled(Some("master"), None).role().unwrap_err().contains("\"master\""));
    }
}
