//! Versions of a zone, and the recent ones as differences.

use std::sync::Arc;

use imbl::Vector;

use crate::content::Content;
use crate::difference::Difference;
use crate::serial::Serial;

/// One content of a zone under its serial. A published version never changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The SOA serial.
    pub serial: Serial,
    /// What the zone contains.
    pub content: Content,
}

impl Version {
    /// The SOA's RDATA of this version.
    pub fn soa_rdata(&self) -> Vec<u8> {
        self.content.soa().rdata(self.serial)
    }
}

/// The current version of a zone and how it came about. Cloning is cheap and a clone never changes.
#[derive(Clone, Debug)]
pub struct History {
    current: Arc<Version>,
    differences: Vector<Arc<Difference>>,
    /// Sum of their sizes, in octets.
    size: usize,
    /// Sum of their lengths, in records.
    changes: usize,
    limit: usize,
}

/// What brings somebody who has an older version up to date.
#[derive(Clone, Debug)]
pub enum Since {
    /// Nothing: that version is the current one, or one after it.
    Current,
    /// These differences, in order; the last one leads to the current version.
    Differences(Vec<Arc<Difference>>),
    /// Everything: that version is not known any more.
    Unknown,
}

/// Of a zone with fewer records as many changes are kept as of one with so many: there may be a hundred thousand such zones.
const LEAST_CHANGES: usize = 16;

impl History {
    /// A history that starts with `current` and keeps at most `limit` octets of differences.
    pub fn new(current: Version, limit: usize) -> Self {
        Self { current: Arc::new(current), differences: Vector::new(), size: 0, changes: 0, limit }
    }

    /// The version that is served.
    pub fn current(&self) -> &Arc<Version> {
        &self.current
    }

    /// Makes `next` the current version. Returns false, and changes nothing, unless its serial comes after the
    /// current one.
    pub fn push(&mut self, next: Version) -> bool {
        if !next.serial.is_after(self.current.serial) {
            return false;
        }
        let difference = Difference::between(&self.current, &next);
        self.size += difference.size();
        self.changes += difference.len();
        self.differences.push_back(Arc::new(difference));
        self.current = Arc::new(next);
        // A full transfer is as cheap as differences that carry more records than the zone has.
        while self.size > self.limit
            || self.changes > self.current.content.record_count().max(LEAST_CHANGES) * 2
        {
            let Some(oldest) = self.differences.pop_front() else { break };
            self.size -= oldest.size();
            self.changes -= oldest.len();
        }
        true
    }

    /// About how many octets the differences take in memory; at most the limit.
    pub fn size(&self) -> usize {
        self.size
    }

    /// What leads from the version `serial` to the current one.
    pub fn since(&self, serial: Serial) -> Since {
        if serial == self.current.serial || serial.is_after(self.current.serial) {
            return Since::Current;
        }
        match self.differences.iter().position(|difference| difference.from == serial) {
            Some(first) => Since::Differences(self.differences.iter().skip(first).cloned().collect()),
            None => Since::Unknown,
        }
    }
}
