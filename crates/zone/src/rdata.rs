//! RDATA in canonical wire form (RFC 4034 section 6.2): uncompressed, embedded names lower-case.
use crate::name::Name;
use domain::base::iana::Rtype;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The data of one record in canonical wire form; at most 65535 octets.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rdata(Box<[u8]>);

/// Why data cannot be a record's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RdataError {
    /// Longer than a record can be.
    #[error("the data has {0} octets; a record has at most 65535")]
    TooLong(usize),
}

impl Rdata {
    /// Takes octets that already are in canonical form.
    pub fn from_canonical(octets: &[u8]) -> Self {
        Self(octets.into())
    }
    /// The octets.
    pub fn as_wire(&self) -> &[u8] {
        &self.0
    }
    /// Number of octets.
    pub fn wire_len(&self) -> u16 {
        u16::try_from(self.0.len()).unwrap_or(u16::MAX)
    }
    /// An A record's (RFC 1035 section 3.4.1).
    pub fn a(address: Ipv4Addr) -> Self {
        Self(address.octets().into())
    }
    /// An AAAA record's (RFC 3596 section 2.2).
    pub fn aaaa(address: Ipv6Addr) -> Self {
        Self(address.octets().into())
    }
    /// The data of CNAME, NS, PTR and DNAME.
    pub fn name(target: &Name) -> Self {
        Self(target.to_wire().into())
    }
    /// Presentation form for that type.
    pub fn display(&self, _rtype: Rtype) -> impl fmt::Display + '_ {
        format!("{:02x?}", self.0)
    }
}
