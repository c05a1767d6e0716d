//! The custom resources of Bindy: what users write and what they read back.
//!
//! ```text
//!   ARecord … CAARecord ──zoneRef──► DNSZone ──bind9InstancesFrom──► Bind9Instance ──upstreams──► Bind9Instance
//!                       ◄─recordsFrom──┘  └──zoneFilesFrom──► ConfigMap
//! ```
//!
//! All objects of one picture live in one namespace. The types are the single source of the CRDs in `deploy/`, of
//! `kubectl explain` and of the reference in `docs/`; [`generate`] writes them. A field exists here when it has an
//! effect, not before. Strings are kept as they were written: whoever puts them into a zone parses them and answers
//! on the object. Nothing here does IO.

#![expect(
    unreachable_pub,
    reason = "the derive of schemas puts a public copy of each type inside of a function"
)]
#![expect(clippy::duplicated_attributes, reason = "each column of a kind has its own type and priority")]

mod condition;
mod crds;
mod instance;
mod manifest;
mod pods;
mod reason;
mod record;
mod reference;
mod rules;
mod schema_check;
mod selector;
mod service;
mod zone;

pub use condition::{
    ConditionStatus, ConditionType, Merged, Verdict, condition, dated, is_true, merge_conditions,
};
pub use crds::{GenerateError, crds, crds_yaml, generate};
pub use instance::{
    Bind9Instance, Bind9InstanceSpec, Bind9InstanceStatus, CatalogVersion, Downstream, InstanceConfig,
    LogLevel, Logging, RateLimit, Role, Upstream,
};
pub use manifest::{DecodeError, Kind, Object};
pub use pods::{
    DisruptionBudget, Placement, PullSecret, Resources, Retention, Storage, Strictness, Toleration,
};
pub use reason::Reason;
pub use record::{
    AAAARecord, AAAARecordSpec, ARecord, ARecordSpec, CAARecord, CAARecordSpec, CNAMERecord, CNAMERecordSpec,
    DataField, FieldValue, MXRecord, MXRecordSpec, NSRecord, NSRecordSpec, RECORD_KINDS, Record, RecordKind,
    RecordResource, RecordStatus, RecordType, SRVRecord, SRVRecordSpec, TXTRecord, TXTRecordSpec,
};
pub use schema_check::{Finding, Severity, check};
pub use selector::{LabelSelector, Operator, Requirement};
pub use service::ServiceSettings;
pub use zone::{
    ConfigMapKey, DNSZone, DNSZoneSpec, DNSZoneStatus, NameServer, SelectorSource, ServerCount, SoaRecord,
    ZoneFileSource,
};

pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
pub use kube::core::ObjectMeta;

/// The API group of every kind.
pub const GROUP: &str = "bindy.firestoned.io";
/// The version of the group that is served and stored.
pub const VERSION: &str = "v1beta1";
/// `apiVersion` of every object.
pub const API_VERSION: &str = "bindy.firestoned.io/v1beta1";

/// Label of a Bind9Instance that gives its role when `spec.role` does not: `primary` or `secondary`.
pub const ROLE_LABEL: &str = "dns-role";
/// Label of a Bind9Instance that names the region it runs in.
pub const REGION_LABEL: &str = "region";
/// Label that a ConfigMap needs (with the value `true`) before a DNSZone may read zone files from it.
pub const ZONE_FILE_LABEL: &str = "bindy.firestoned.io/zone-file";
/// Annotation that releases a held object: its value is the version that the condition `Held` names.
pub const RELEASE_ANNOTATION: &str = "bindy.firestoned.io/release";

/// Image of BIND without its tag, for instances that name none.
pub const BIND_IMAGE: &str = "ghcr.io/firestoned/bindy-bind9";
/// Version of BIND of instances that name none.
pub const BIND_VERSION: &str = "9.18";

/// Servers, and addresses, that a status names at most.
pub const MAX_NAMED: usize = 16;
