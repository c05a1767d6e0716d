//! Any object of this group, from a manifest or from the API.

use std::fmt;

use kube::Resource;
use kube::core::ObjectMeta;
use serde_json::Value;

use crate::{API_VERSION, Bind9Instance, DNSZone, GROUP, Record, RecordKind};

/// A kind of this group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A set of servers.
    Bind9Instance,
    /// A zone.
    DNSZone,
    /// A record.
    Record(RecordKind),
}

impl Kind {
    /// The kind with this name. Example: `DNSZone`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "Bind9Instance" => Some(Self::Bind9Instance),
            "DNSZone" => Some(Self::DNSZone),
            _ => RecordKind::from_name(name).map(Self::Record),
        }
    }

    /// The kind as it is written in manifests.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bind9Instance => "Bind9Instance",
            Self::DNSZone => "DNSZone",
            Self::Record(kind) => kind.row().name,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Any object of this group.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    /// A set of servers.
    Bind9Instance(Box<Bind9Instance>),
    /// A zone.
    DNSZone(Box<DNSZone>),
    /// A record.
    Record(Record),
}

/// Why a manifest is no object of this group.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// `apiVersion` is of another group. Such an object is none of ours.
    #[error("apiVersion is {0:?}: not of the group {GROUP}")]
    OtherGroup(String),
    /// `apiVersion` is of our group but not our version.
    #[error("apiVersion is {0:?}: use {API_VERSION}")]
    OtherVersion(String),
    /// `kind` is not one of the group's.
    #[error("{0:?} is no kind of {API_VERSION}")]
    UnknownKind(String),
    /// A field is missing or has the wrong type.
    #[error("{kind} cannot be read: {source}")]
    Field {
        /// The object's kind.
        kind: Kind,
        /// What the decoder said.
        source: serde_json::Error,
    },
}

impl Object {
    /// Decodes a manifest. Unknown fields are ignored, as the API server drops them; [`crate::check`] names them.
    pub fn decode(value: Value) -> Result<Self, DecodeError> {
        let kind = Kind::of(&value)?;
        let field = |source| DecodeError::Field { kind, source };
        match kind {
            Kind::Bind9Instance => serde_json::from_value(value).map(Self::Bind9Instance),
            Kind::DNSZone => serde_json::from_value(value).map(Self::DNSZone),
            Kind::Record(record) => record.decode(value).map(Self::Record),
        }
        .map_err(field)
    }

    /// The object's kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Bind9Instance(_) => Kind::Bind9Instance,
            Self::DNSZone(_) => Kind::DNSZone,
            Self::Record(record) => Kind::Record(record.kind()),
        }
    }

    /// The object's metadata.
    #[must_use]
    pub fn meta(&self) -> &ObjectMeta {
        match self {
            Self::Bind9Instance(instance) => instance.meta(),
            Self::DNSZone(zone) => zone.meta(),
            Self::Record(record) => record.meta(),
        }
    }

    /// The object's metadata, to be changed.
    pub fn meta_mut(&mut self) -> &mut ObjectMeta {
        match self {
            Self::Bind9Instance(instance) => instance.meta_mut(),
            Self::DNSZone(zone) => zone.meta_mut(),
            Self::Record(record) => record.meta_mut(),
        }
    }
}

impl Kind {
    /// The kind that a manifest says it is of.
    pub fn of(value: &Value) -> Result<Self, DecodeError> {
        let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
        let version = text("apiVersion");
        if version != API_VERSION {
            let group = version.split_once('/').map_or("", |(group, _)| group);
            return Err(if group == GROUP {
                DecodeError::OtherVersion(version.to_owned())
            } else {
                DecodeError::OtherGroup(version.to_owned())
            });
        }
        Self::from_name(text("kind")).ok_or_else(|| DecodeError::UnknownKind(text("kind").to_owned()))
    }
}
