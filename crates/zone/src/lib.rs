//! Zone content without any IO: names, RRsets, whole zones, their digests, differences, versions and serials.
//!
//! ```text
//!   text ─ zone_file ─┐
//!   objects (model) ──┼─► RrSets per owner name ─► Content ─► Version (serial + content) ─► History
//!   members ─ catalog ┘                              │ digest                              │ differences (IXFR)
//! ```
//!
//! Everything here is a pure value: a [`Content`] is persistent (copy-on-write), so a reader that streams an old
//! version never sees a newer one, and making the next version costs work proportional to the change.

mod catalog;
mod content;
mod difference;
mod digest;
mod name;
mod octets;
mod rdata;
mod rrsets;
mod serial;
mod soa;
mod text;
mod version;
mod zone_file;

pub use catalog::{CATALOGS, Catalog, MemberLabel};
pub use content::{Content, Record};
pub use difference::{Difference, DifferenceError};
pub use digest::{Digest, ParseDigestError};
pub use domain::base::iana::{Rcode, Rtype};
pub use name::{Name, NameError, OwnerName};
pub use rdata::{Rdata, RdataError};
pub use rrsets::{RrSet, RrSets, RrSetsError, Ttl};
pub use serial::Serial;
pub use soa::Soa;
pub use text::SyntaxError;
pub use version::{History, Since, Version};
pub use zone_file::{ZoneFile, ZoneFileError, ZoneFileMistake, ZoneFileProblem};
