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
mod config_state;
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
mod sample;
mod symbol;
pub mod told;
mod verdict;
pub mod workload;
mod world;
mod zone_state;

pub use agent_conf::{AgentConfig, NamedConfig, STOP_QUESTION, SourceConfig, SourceKind};
pub use claim::{MAX_RECORDS_PER_RRSET, MAX_RRSET_OCTETS};
pub use compile::{Compiled, DEFAULT_TTL, ServingInstance};
pub use config_state::{CONFIG_QUESTION, ConfigDigests, ConfigState, ConfigStates, turn_question};
pub use core::{
    Core, Input, InstanceNotice, InstanceReport, LedgerKind, Notices, ObjectEvent, Output, Purpose,
    RecordNotice, ServerId, ServerReport, ServerState, Target, UnreadableNotice, ZoneNotice, ZoneReport,
};
pub use decode::{decode, decode_config_map};
pub use delivery::{Answer, Ask, Delivery, Pending, Probe, Progress, Rank};
pub use fleet::{Fleet, FleetProblem};
pub use links::{Link, LinkKey, Origin};
pub use object::{
    ConfigMap, Instance, Kind, Labels, Metadata, NameServer, NamespacedName, Object, ObjectKey,
    OutsideUpstream, PodSettings, Record, Requirement, Role, Selector, SoaFields, Zone, ZoneFileRef,
};
pub use publication::{Command, Guard, Hold, LedgerEntry, Now, Publication, Swapped};
pub use record_data::RecordData;
pub use record_table::RecordId;
pub use sample::{Answered, Question};
pub use told::Told;
pub use verdict::{Kept, Refusal, Verdict, ZoneProblem};
pub use world::{Removal, World};
