//! What changes from one version of a zone to the next, in the shape that IXFR sends it (RFC 1995 section 4).

use std::collections::BTreeMap;

use crate::content::{Record, records_of};
use crate::name::OwnerName;
use crate::rdata::Rdata;
use crate::rrsets::{RrSets, RrSetsError};
use crate::serial::Serial;
use crate::soa::Soa;
use crate::version::Version;

/// The records to remove from one version and to add, to get another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The version that it starts from.
    pub from: Serial,
    /// Its SOA.
    pub from_soa: Soa,
    /// The version that it leads to.
    pub to: Serial,
    /// Its SOA.
    pub to_soa: Soa,
    /// Records of the first that are not in the second. A new TTL removes the record and adds it again.
    pub removed: Vec<Record>,
    /// Records of the second that are not in the first.
    pub added: Vec<Record>,
}

/// A difference that does not fit the version it is applied to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DifferenceError {
    /// The difference starts from another version.
    #[error("the difference starts at serial {expected}, the zone is at {found}")]
    OtherVersion {
        /// Serial that the difference starts from.
        expected: Serial,
        /// Serial of the zone.
        found: Serial,
    },
    /// A record to remove is not there.
    #[error("{0} {1} to be removed is not in the zone")]
    NotThere(OwnerName, domain::base::iana::Rtype),
    /// The result cannot be packed.
    #[error(transparent)]
    RrSets(#[from] RrSetsError),
}

impl Difference {
    /// What leads from `older` to `newer`; costs O(differences) when `newer` was made from `older`.
    pub fn between(older: &Version, newer: &Version) -> Self {
        let (mut removed, mut added) = (Vec::new(), Vec::new());
        for (owner, old, new) in older.content.differences(&newer.content) {
            let old: Vec<Record> = old.into_iter().flat_map(|rrsets| records_of(owner, rrsets)).collect();
            let new: Vec<Record> = new.into_iter().flat_map(|rrsets| records_of(owner, rrsets)).collect();
            removed.extend(old.iter().filter(|record| new.binary_search(record).is_err()).cloned());
            added.extend(new.iter().filter(|record| old.binary_search(record).is_err()).cloned());
        }
        // It is kept for long, and most often of one or two records.
        removed.shrink_to_fit();
        added.shrink_to_fit();
        Self {
            from: older.serial,
            from_soa: older.content.soa().clone(),
            to: newer.serial,
            to_soa: newer.content.soa().clone(),
            removed,
            added,
        }
    }

    /// The version that this difference makes of `older`.
    pub fn apply(&self, older: &Version) -> Result<Version, DifferenceError> {
        if older.serial != self.from {
            return Err(DifferenceError::OtherVersion { expected: self.from, found: older.serial });
        }
        let mut changed = BTreeMap::new();
        let content = &older.content;
        let of = |owner: &OwnerName| content.get(owner).map(RrSets::unpack).unwrap_or_default();
        for record in &self.removed {
            let rrsets = changed.entry(record.owner.clone()).or_insert_with(|| of(&record.owner));
            let gone = || DifferenceError::NotThere(record.owner.clone(), record.rtype);
            let (ttl, rdatas) = rrsets.get_mut(&record.rtype).ok_or_else(gone)?;
            // Sorted as they were unpacked, and removing keeps the order.
            let position =
                rdatas.binary_search_by(|rdata| rdata.as_wire().cmp(&record.rdata)).map_err(|_| gone())?;
            if *ttl != record.ttl {
                return Err(gone());
            }
            rdatas.remove(position);
        }
        for record in &self.added {
            let rrsets = changed.entry(record.owner.clone()).or_insert_with(|| of(&record.owner));
            let (ttl, rdatas) = rrsets.entry(record.rtype).or_insert((record.ttl, Vec::new()));
            *ttl = record.ttl;
            rdatas.push(Rdata::from_canonical(&record.rdata));
        }
        let mut content = older.content.clone();
        content.set_soa(self.to_soa.clone());
        for (owner, rrsets) in changed {
            content.set(owner, RrSets::pack(rrsets)?);
        }
        Ok(Version { serial: self.to, content })
    }

    /// Number of records that it removes and adds.
    pub fn len(&self) -> usize {
        self.removed.len() + self.added.len()
    }

    /// Whether the records are the same on both sides.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// About how many octets this takes in memory: what [`crate::History`] is bounded by.
    pub fn size(&self) -> usize {
        let records = self.removed.iter().chain(&self.added);
        size_of::<Self>() + records.map(|record| size_of::<Record>() + record.rdata.len()).sum::<usize>()
    }
}
