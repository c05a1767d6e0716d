//! The watched world and everything that is decided from it, without any IO.
//!
//! ```text
//!   objects ─► World ─► compile ─► Content ─► publication ─► serial, version, hold
//!                 └──► Fleet ─► catalogs, named configuration
//! ```
//! Time is always an argument; nothing here waits, reads or writes.

mod agent_conf;
mod claim;
mod compile;
pub mod conditions;
mod core;
mod decode;
mod delivery;
mod fleet;
mod links;
pub mod named_conf;
mod object;
mod publication;
mod record_data;
mod record_table;
mod symbol;
mod verdict;
pub mod workload;
mod world;
mod zone_state;

pub use agent_conf::{AgentConfig, NamedConfig, SourceConfig, SourceKind};
pub use claim::{MAX_RECORDS_PER_RRSET, MAX_RRSET_OCTETS};
pub use compile::{Compiled, DEFAULT_TTL, ServingInstance};
pub use core::{
    Core, Input, InstanceReport, LedgerKind, ObjectEvent, Output, ServerId, ServerReport, ServerState,
    Target, ZoneReport,
};
pub use decode::{decode, decode_config_map};
pub use delivery::{Answer, Delivery, Pending, Probe, Progress};
pub use fleet::{Fleet, FleetProblem};
pub use links::{Link, LinkKey, Origin};
pub use object::{
    ConfigMap, Instance, Kind, Labels, Metadata, NameServer, NamespacedName, Object, ObjectKey, PodSettings,
    Record, Requirement, Role, Selector, SoaFields, Zone, ZoneFileRef,
};
pub use publication::{Command, Guard, Hold, LedgerEntry, Now, Publication, Swapped};
pub use record_data::RecordData;
pub use record_table::RecordId;
pub use verdict::{Kept, Refusal, Verdict, ZoneProblem};
pub use world::{Removal, World};
