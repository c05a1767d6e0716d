//! The table of record kinds, and any record as one type.

use std::fmt;

use kube::Resource;
use kube::core::{CustomResourceExt, ObjectMeta};
use serde_json::Value;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

use super::{
    AAAARecord, ARecord, CAARecord, CNAMERecord, DataField, MXRecord, NSRecord, RecordResource, RecordStatus,
    SRVRecord, TXTRecord,
};

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordType {
    /// The row's key.
    pub kind: RecordKind,
    /// `kind` of the objects. Example: `ARecord`.
    pub name: &'static str,
    /// Resource name in URLs and commands. Example: `arecords`.
    pub plural: &'static str,
    /// Short names in commands. Example: `a`.
    pub short_names: &'static [&'static str],
    /// The DNS type. Example: `A`.
    pub dns_type: &'static str,
    /// The DNS type's number (IANA). Example: 1.
    pub code: u16,
}

macro_rules! record_kinds {
    ($($variant:ident: $type:ident, $plural:literal, [$($short:literal),+], $dns:literal, $code:literal;)+) => {
        /// A record kind.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum RecordKind {
            $(#[doc = concat!("The kind `", stringify!($type), "`.")] $variant,)+
        }

        /// Every record kind, in the order in which they are documented.
        pub const RECORD_KINDS: &[RecordType] = &[$(RecordType {
            kind: RecordKind::$variant,
            name: stringify!($type),
            plural: $plural,
            short_names: &[$($short),+],
            dns_type: $dns,
            code: $code,
        },)+];

        impl RecordKind {
            /// The kind's row.
            #[must_use]
            pub const fn row(self) -> &'static RecordType {
                match self { $(Self::$variant => const { &RecordType {
                    kind: RecordKind::$variant,
                    name: stringify!($type),
                    plural: $plural,
                    short_names: &[$($short),+],
                    dns_type: $dns,
                    code: $code,
                } },)+ }
            }

            /// The kind's custom resource definition, as derived from its type.
            pub(crate) fn crd(self) -> CustomResourceDefinition {
                match self { $(Self::$variant => $type::crd(),)+ }
            }

            /// Decodes an object of this kind.
            pub(crate) fn decode(self, value: Value) -> Result<Record, serde_json::Error> {
                match self { $(Self::$variant => serde_json::from_value(value).map(|one| Record::$variant(Box::new(one))),)+ }
            }
        }

        /// Any record.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Record {
            $(#[doc = concat!("A record of type ", $dns, ".")] $variant(Box<$type>),)+
        }

        impl Record {
            /// Its kind.
            #[must_use]
            pub const fn kind(&self) -> RecordKind {
                match self { $(Self::$variant(_) => RecordKind::$variant,)+ }
            }

            /// Its metadata.
            #[must_use]
            pub fn meta(&self) -> &ObjectMeta {
                match self { $(Self::$variant(one) => one.meta(),)+ }
            }

            /// Its metadata, to be changed.
            pub fn meta_mut(&mut self) -> &mut ObjectMeta {
                match self { $(Self::$variant(one) => one.meta_mut(),)+ }
            }

            /// Its owner name as it was written.
            #[must_use]
            pub fn owner(&self) -> &str {
                match self { $(Self::$variant(one) => one.owner(),)+ }
            }

            /// Its TTL in seconds, when it gives one.
            #[must_use]
            pub fn ttl(&self) -> Option<u32> {
                match self { $(Self::$variant(one) => one.ttl(),)+ }
            }

            /// The object name of its zone, when it names one.
            #[must_use]
            pub fn zone_ref(&self) -> Option<&str> {
                match self { $(Self::$variant(one) => one.zone_ref(),)+ }
            }

            /// The data of each resource record it stands for.
            #[must_use]
            pub fn data(&self) -> Vec<Vec<DataField<'_>>> {
                match self { $(Self::$variant(one) => one.data(),)+ }
            }

            /// Its status.
            #[must_use]
            pub fn status(&self) -> Option<&RecordStatus> {
                match self { $(Self::$variant(one) => one.status.as_ref(),)+ }
            }
        }

        $(impl From<$type> for Record {
            fn from(one: $type) -> Self {
                Self::$variant(Box::new(one))
            }
        })+
    };
}

record_kinds! {
    A: ARecord, "arecords", ["a"], "A", 1;
    Aaaa: AAAARecord, "aaaarecords", ["aaaa"], "AAAA", 28;
    Cname: CNAMERecord, "cnamerecords", ["cname"], "CNAME", 5;
    Mx: MXRecord, "mxrecords", ["mx"], "MX", 15;
    Txt: TXTRecord, "txtrecords", ["txt"], "TXT", 16;
    Ns: NSRecord, "nsrecords", ["nsr"], "NS", 2;
    Srv: SRVRecord, "srvrecords", ["srv"], "SRV", 33;
    Caa: CAARecord, "caarecords", ["caa"], "CAA", 257;
}

impl RecordKind {
    /// The kind with this name. Example: `ARecord`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        RECORD_KINDS.iter().find(|row| row.name == name).map(|row| row.kind)
    }
}

impl fmt::Display for RecordKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.row().name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_agrees_with_the_types() {
        for row in RECORD_KINDS {
            let names = row.kind.crd().spec.names;
            assert_eq!(row.kind.row(), row);
            assert_eq!(RecordKind::from_name(row.name), Some(row.kind));
            assert_eq!(names.kind, row.name);
            assert_eq!(names.plural, row.plural);
            assert_eq!(names.short_names.unwrap_or_default(), row.short_names);
        }
    }
}
