//! Records: one kind per DNS type, all of one shape.
//!
//! `types` has the fields of each type and how they become record data; `kinds` has the table. Adding a type touches
//! those two and nothing else: commands, CRDs, documentation and the compiler of zones follow from them. Data leaves
//! here as [`DataField`]s, a typed form of RFC 1035's RDATA, so that no string of a user is ever pasted into text
//! that is parsed again.

mod kinds;
mod types;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::condition::condition_list;

pub use kinds::{RECORD_KINDS, Record, RecordKind, RecordType};
pub use types::*;

/// What is known about a record.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecordStatus {
    /// The `metadata.generation` that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Domain name of the zone that the record went into; of the first one when there are several. Example: `example.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1004))]
    pub zone: Option<String>,
    /// `Accepted` and `Ready`.
    #[serde(default)]
    #[schemars(schema_with = "condition_list")]
    pub conditions: Vec<Condition>,
}

/// One field of record data, in wire order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataField<'a> {
    /// The field it came from, below the object's root. Example: `spec.ipv4Addresses`.
    pub path: &'static str,
    /// Its index, when that field is a list.
    pub index: Option<usize>,
    /// Its value, as it was written.
    pub value: FieldValue<'a>,
}

/// How a field is encoded in record data (RFC 1035 section 3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldValue<'a> {
    /// Four octets; the text of an IPv4 address.
    Ipv4(&'a str),
    /// Sixteen octets; the text of an IPv6 address.
    Ipv6(&'a str),
    /// A domain name, relative to the zone unless it ends in a dot.
    Name(&'a str),
    /// One octet.
    U8(u8),
    /// Two octets.
    U16(u16),
    /// A length octet and up to 255 octets of text, verbatim.
    CharacterString(&'a str),
    /// Text, verbatim, as as many character strings as it needs.
    Text(&'a str),
    /// Text, verbatim, up to the end of the data.
    Rest(&'a str),
}

impl DataField<'_> {
    /// Where the field is, for messages. Example: `spec.ipv4Addresses[1]`.
    #[must_use]
    pub fn location(&self) -> String {
        match self.index {
            Some(index) => format!("{}[{index}]", self.path),
            None => self.path.to_owned(),
        }
    }
}

/// What every record kind has.
pub trait RecordResource {
    /// Its row in the table.
    const KIND: RecordKind;

    /// The owner name as it was written: relative to the zone, absolute with a final dot, `@` for the apex.
    fn owner(&self) -> &str;

    /// The TTL in seconds, when the object gives one.
    fn ttl(&self) -> Option<u32>;

    /// The object name of the zone, when the record names one.
    fn zone_ref(&self) -> Option<&str>;

    /// The data of each resource record that the object stands for.
    fn data(&self) -> Vec<Vec<DataField<'_>>>;
}
