//! The content of one zone: its SOA and its RRsets by owner name, as a persistent map.

use std::collections::BTreeMap;

use imbl::OrdMap;
use imbl::ordmap::DiffItem;

use crate::digest::Digest;
use crate::name::{Name, OwnerName};
use crate::rdata::Rdata;
use crate::rrsets::{RrSet, RrSets, RrSetsError, Ttl};
use crate::soa::Soa;
use domain::base::iana::Rtype;

/// What one zone contains apart from its serial. Cloning is cheap and a clone never changes.
#[derive(Clone)]
pub struct Content {
    apex: Name,
    soa: Soa,
    names: OrdMap<OwnerName, RrSets>,
    records: usize,
    digest: Digest,
}

/// One record of a zone, the SOA excepted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Record {
    /// Owner name.
    pub owner: OwnerName,
    /// Type.
    pub rtype: Rtype,
    /// TTL.
    pub ttl: Ttl,
    /// RDATA, uncompressed and canonical.
    pub rdata: Box<[u8]>,
}

impl Content {
    /// A zone that has an SOA and nothing else.
    pub fn new(apex: Name, soa: Soa) -> Self {
        let mut digest = Digest::default();
        digest.add_soa(&apex, &soa);
        Self { apex, soa, names: OrdMap::new(), records: 0, digest }
    }

    /// A zone with these records, in any order. Duplicates collapse; where the TTLs within an RRset differ, the
    /// lowest is that of all (RFC 2181 section 5.2).
    pub fn from_records(
        apex: Name,
        soa: Soa,
        records: impl IntoIterator<Item = Record>,
    ) -> Result<Self, RrSetsError> {
        let mut names: BTreeMap<OwnerName, BTreeMap<Rtype, (Ttl, Vec<Rdata>)>> = BTreeMap::new();
        for Record { owner, rtype, ttl, rdata } in records {
            let rrsets = names.entry(owner).or_default();
            let (lowest, rdatas) = rrsets.entry(rtype).or_insert((ttl, Vec::new()));
            *lowest = ttl.min(*lowest);
            rdatas.push(Rdata::from_canonical(&rdata));
        }
        let mut content = Self::new(apex, soa);
        for (owner, rrsets) in names {
            content.set(owner, RrSets::pack(rrsets)?);
        }
        Ok(content)
    }

    /// The zone's name.
    pub fn apex(&self) -> &Name {
        &self.apex
    }

    /// The SOA without its serial.
    pub fn soa(&self) -> &Soa {
        &self.soa
    }

    /// Replaces the SOA.
    pub fn set_soa(&mut self, soa: Soa) {
        if soa != self.soa {
            self.digest.subtract_soa(&self.apex, &self.soa);
            self.digest.add_soa(&self.apex, &soa);
            self.soa = soa;
        }
    }

    /// The RRsets of one owner name.
    pub fn get(&self, owner: &OwnerName) -> Option<&RrSets> {
        self.names.get(owner)
    }

    /// Replaces all RRsets of one owner name; empty ones remove it. Costs O(log names). True if it was a change.
    pub fn set(&mut self, owner: OwnerName, rrsets: RrSets) -> bool {
        let previous = self.names.get(&owner);
        if previous.map_or(rrsets.is_empty(), |previous| *previous == rrsets) {
            return false;
        }
        if let Some(previous) = previous {
            self.records -= previous.record_count();
            self.digest.subtract(&self.apex, &owner, previous);
        }
        self.records += rrsets.record_count();
        self.digest.add(&self.apex, &owner, &rrsets);
        if rrsets.is_empty() {
            self.names.remove(&owner);
        } else {
            self.names.insert(owner, rrsets);
        }
        true
    }

    /// Owner names and their RRsets in canonical order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&OwnerName, &RrSets)> {
        self.names.iter()
    }

    /// `ancestor` and everything below it, in canonical order.
    pub fn within<'a>(
        &'a self,
        ancestor: &OwnerName,
    ) -> impl Iterator<Item = (&'a OwnerName, &'a RrSets)> + use<'a> {
        let ancestor = ancestor.clone();
        self.names.range(ancestor.clone()..).take_while(move |(owner, _)| owner.is_within(&ancestor))
    }

    /// The owner names after `owner` in canonical order: how a reader goes on where it stopped.
    pub fn after(&self, owner: &OwnerName) -> impl Iterator<Item = (&OwnerName, &RrSets)> {
        use std::ops::Bound::{Excluded, Unbounded};
        self.names.range((Excluded(owner.clone()), Unbounded))
    }

    /// All records in canonical order, the SOA excepted.
    pub fn records(&self) -> impl Iterator<Item = Record> {
        self.iter().flat_map(|(owner, rrsets)| records_of(owner, rrsets))
    }

    /// Number of records, the SOA excepted.
    pub fn record_count(&self) -> usize {
        self.records
    }

    /// Number of owner names with records, the SOA not counted.
    pub fn name_count(&self) -> usize {
        self.names.len()
    }

    /// The digest of the SOA (without serial) and every record.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Each owner name whose RRsets differ, and them before and after. Costs O(differences) between contents that
    /// descend from each other, since shared parts are skipped.
    pub fn differences<'a>(
        &'a self,
        newer: &'a Content,
    ) -> impl Iterator<Item = (&'a OwnerName, Option<&'a RrSets>, Option<&'a RrSets>)> {
        self.names.diff(&newer.names).map(|item| match item {
            DiffItem::Add(owner, rrsets) => (owner, None, Some(rrsets)),
            DiffItem::Update { old: (owner, old), new: (_, new) } => (owner, Some(old), Some(new)),
            DiffItem::Remove(owner, rrsets) => (owner, Some(rrsets), None),
        })
    }
}

pub(crate) fn records_of<'a>(owner: &'a OwnerName, rrsets: &'a RrSets) -> impl Iterator<Item = Record> + 'a {
    rrsets.iter().flat_map(move |rrset| records_of_set(owner, rrset))
}

fn records_of_set<'a>(owner: &'a OwnerName, rrset: RrSet<'a>) -> impl Iterator<Item = Record> + use<'a> {
    rrset.rdatas().map(move |rdata| Record {
        owner: owner.clone(),
        rtype: rrset.rtype(),
        ttl: rrset.ttl(),
        rdata: rdata.into(),
    })
}

/// Equal when apex, SOA and records are.
impl PartialEq for Content {
    fn eq(&self, other: &Self) -> bool {
        self.apex == other.apex && self.soa == other.soa && self.names == other.names
    }
}

impl Eq for Content {}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Content")
            .field("apex", &self.apex)
            .field("soa", &self.soa)
            .field("records", &self.records)
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}
