//! All RRsets of one owner name, packed into one allocation.
//!
//! ```text
//! rrset  = type:u16 ttl:u32 count:u16 { length:u16 rdata }*      (big-endian, rrsets in ascending type)
//! ```
//! RDATA is uncompressed, embedded names lower-case, and sorted within its RRset (RFC 4034 section 6.3), so equal
//! sets have equal octets.

use std::collections::BTreeMap;
use std::fmt;

use domain::base::iana::Rtype;

use crate::octets::Octets;
use crate::rdata::{DisplayRdata, Rdata};

/// A time to live in seconds, at most 2³¹ − 1 (RFC 2181 section 8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ttl(u32);

impl Ttl {
    /// The longest TTL there is.
    pub const MAX: Self = Self(i32::MAX as u32);

    /// The TTL of that many seconds, unless it exceeds [`Ttl::MAX`].
    pub const fn new(seconds: u32) -> Option<Self> {
        if seconds <= Self::MAX.0 { Some(Self(seconds)) } else { None }
    }

    /// The TTL of that many seconds, [`Ttl::MAX`] where it exceeds that.
    pub const fn saturating(seconds: u32) -> Self {
        if seconds <= Self::MAX.0 { Self(seconds) } else { Self::MAX }
    }

    /// Its length in seconds.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Ttl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Every RRset of one owner name; may be empty.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct RrSets(Octets);

/// One RRset within a [`RrSets`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RrSet<'a> {
    rtype: Rtype,
    ttl: Ttl,
    count: u16,
    rdatas: &'a [u8],
}

/// RRsets that cannot be packed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RrSetsError {
    /// More records of one type than a 16-bit count holds.
    #[error("{0} records of type {1} at one name; no transfer carries more than 65535")]
    TooMany(usize, Rtype),
}

impl RrSets {
    /// Packs RRsets; records are sorted and duplicates collapse.
    pub fn pack(rrsets: BTreeMap<Rtype, (Ttl, Vec<Rdata>)>) -> Result<Self, RrSetsError> {
        let mut packed = Vec::new();
        for (rtype, (ttl, mut rdatas)) in rrsets {
            rdatas.sort_unstable();
            rdatas.dedup();
            let count = u16::try_from(rdatas.len()).map_err(|_| RrSetsError::TooMany(rdatas.len(), rtype))?;
            if count == 0 {
                continue;
            }
            packed.extend(rtype.to_int().to_be_bytes());
            packed.extend(ttl.get().to_be_bytes());
            packed.extend(count.to_be_bytes());
            for rdata in rdatas {
                packed.extend(rdata.wire_len().to_be_bytes());
                packed.extend(rdata.as_wire());
            }
        }
        Ok(Self(packed.into()))
    }

    /// One record.
    pub fn single(rtype: Rtype, ttl: Ttl, rdata: &Rdata) -> Self {
        let mut packed = Vec::with_capacity(10 + rdata.as_wire().len());
        packed.extend(rtype.to_int().to_be_bytes());
        packed.extend(ttl.get().to_be_bytes());
        packed.extend(1u16.to_be_bytes());
        packed.extend(rdata.wire_len().to_be_bytes());
        packed.extend(rdata.as_wire());
        Self(packed.into())
    }

    /// The RRsets in ascending type.
    pub fn iter(&self) -> impl Iterator<Item = RrSet<'_>> + Clone {
        let mut rest = &*self.0;
        std::iter::from_fn(move || {
            let (rrset, after) = RrSet::split(rest)?;
            rest = after;
            Some(rrset)
        })
    }

    /// The RRset of one type.
    pub fn get(&self, rtype: Rtype) -> Option<RrSet<'_>> {
        self.iter().find(|rrset| rrset.rtype == rtype)
    }

    /// Number of records.
    pub fn record_count(&self) -> usize {
        self.iter().map(|rrset| usize::from(rrset.count)).sum()
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The same RRsets as owned parts, to change and [`RrSets::pack`] again.
    pub fn unpack(&self) -> BTreeMap<Rtype, (Ttl, Vec<Rdata>)> {
        self.iter()
            .map(|rrset| (rrset.rtype, (rrset.ttl, rrset.rdatas().map(Rdata::from_canonical).collect())))
            .collect()
    }
}

impl<'a> RrSet<'a> {
    fn split(packed: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (rtype, rest) = split_u16(packed)?;
        let (ttl, rest) = rest.split_first_chunk()?;
        let (count, start) = split_u16(rest)?;
        let mut rest = start;
        for _ in 0..count {
            let (length, after) = split_u16(rest)?;
            rest = after.get(usize::from(length)..)?;
        }
        let rdatas = start.get(..start.len() - rest.len())?;
        let rtype = Rtype::from_int(rtype);
        Some((Self { rtype, ttl: Ttl::saturating(u32::from_be_bytes(*ttl)), count, rdatas }, rest))
    }

    /// The type of all its records.
    pub fn rtype(&self) -> Rtype {
        self.rtype
    }

    /// The TTL of all its records.
    pub fn ttl(&self) -> Ttl {
        self.ttl
    }

    /// Number of records, at least one.
    pub fn record_count(&self) -> usize {
        usize::from(self.count)
    }

    /// The RDATA of each record in canonical order.
    pub fn rdatas(&self) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a> {
        let mut rest = self.rdatas;
        std::iter::from_fn(move || {
            let (length, after) = split_u16(rest)?;
            let (rdata, after) = after.split_at_checked(usize::from(length))?;
            rest = after;
            Some(rdata)
        })
    }
}

fn split_u16(octets: &[u8]) -> Option<(u16, &[u8])> {
    let (first, rest) = octets.split_first_chunk()?;
    Some((u16::from_be_bytes(*first), rest))
}

impl fmt::Debug for RrSets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl fmt::Debug for RrSet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.ttl, self.rtype)?;
        self.rdatas().try_for_each(|rdata| write!(f, " {}", DisplayRdata { rtype: self.rtype, wire: rdata }))
    }
}
