//! What the world knows of one zone between two compilations.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;

use bindy_zone::{
    Catalog, Content, Name, OwnerName, Rdata, RrSets, Rtype, Serial, Soa, Ttl, ZoneFile, ZoneFileError,
};
use hashbrown::HashTable;

use crate::object::{NamespacedName, Zone, ZoneFileRef};
use crate::record_data;
use crate::record_table::{RecordId, RecordTable};
use crate::verdict::{Refusal, Verdict, ZoneProblem};

/// Records of one type at one name that [`RrSets::pack`] takes, far more than an RRset may have.
const MAX_PACKED: usize = u16::MAX as usize;

/// Owner names that have to be compiled again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Dirty {
    /// All of them: the zone is new, or its defaults changed.
    Everything,
    /// These.
    Names(BTreeSet<OwnerName>),
}

impl Dirty {
    pub(crate) fn none() -> Self {
        Self::Names(BTreeSet::new())
    }

    pub(crate) fn add(&mut self, owner: OwnerName) {
        if let Self::Names(names) = self {
            names.insert(owner);
        }
    }
}

/// One zone file as it was last read.
#[derive(Clone, Debug, Default)]
pub(crate) struct FilePart {
    /// The last good records by owner name; `None` before there were any.
    pub(crate) records: Option<BTreeMap<OwnerName, RrSets>>,
    /// SOA of the last good state.
    pub(crate) soa: Option<(Soa, Serial)>,
    /// Why the present text is not in force.
    pub(crate) fault: Option<FileFault>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FileFault {
    Missing,
    Broken(ZoneFileError),
}

/// One zone.
pub(crate) struct ZoneState {
    /// The specification as it was last readable.
    pub(crate) spec: Zone,
    /// Why the present object cannot be read.
    pub(crate) unreadable: Option<String>,
    /// The zone's name.
    pub(crate) apex: Result<Name, ZoneProblem>,
    /// Set while an older object has the name.
    pub(crate) claimed_by: Option<Claimant>,
    /// Record objects by the hash of their owner name.
    members: HashTable<(u32, RecordId)>,
    /// Record objects whose owner name cannot be in this zone.
    misnamed: BTreeSet<RecordId>,
    /// Zone files by reference.
    pub(crate) files: BTreeMap<ZoneFileRef, FilePart>,
    /// What has to be compiled.
    pub(crate) dirty: Dirty,
    /// Records that left since the last compilation by a relist, not by a deletion that was seen.
    pub(crate) relisted: bool,
    /// The result of the last compilation.
    pub(crate) content: Option<Content>,
    /// Verdicts other than `Accepted`.
    pub(crate) verdicts: HashMap<RecordId, Verdict>,
    /// Owner names with records that are left out below a delegation or a DNAME.
    pub(crate) occluded: BTreeSet<OwnerName>,
    /// Names of the zone that its NS records point to.
    pub(crate) server_names: BTreeMap<OwnerName, BTreeSet<OwnerName>>,
    /// Records of zone files that are left out, by owner name.
    pub(crate) file_refusals: BTreeMap<OwnerName, Vec<(ZoneFileRef, Refusal)>>,
    /// Name servers and their addresses at the last compilation.
    pub(crate) servers: Vec<(Name, Vec<IpAddr>)>,
    /// What was served before a restart, or an object before this one, while something that may have been part of it cannot be read.
    pub(crate) residue: Option<Content>,
    hasher: RandomState,
}

impl ZoneState {
    pub(crate) fn new(spec: Zone) -> Self {
        let apex = parse_apex(&spec.zone_name);
        Self {
            spec,
            unreadable: None,
            apex,
            claimed_by: None,
            members: HashTable::new(),
            misnamed: BTreeSet::new(),
            files: BTreeMap::new(),
            dirty: Dirty::Everything,
            relisted: false,
            content: None,
            verdicts: HashMap::new(),
            occluded: BTreeSet::new(),
            server_names: BTreeMap::new(),
            file_refusals: BTreeMap::new(),
            servers: Vec::new(),
            residue: None,
            hasher: RandomState::new(),
        }
    }

    /// Takes a record in.
    pub(crate) fn add_member(&mut self, table: &RecordTable, id: RecordId) {
        let (Ok(apex), Some(stored)) = (&self.apex, table.get(id)) else {
            self.misnamed.insert(id);
            return;
        };
        match record_data::owner(&stored.owner, apex) {
            Ok(owner) => {
                let hash = short(self.hasher.hash_one(&owner));
                self.members.insert_unique(long(hash), (hash, id), |(hash, _)| long(*hash));
                self.dirty.add(owner);
            }
            Err(refusal) => {
                self.misnamed.insert(id);
                self.verdicts.insert(id, Verdict::Refused(refusal));
            }
        }
    }

    /// Lets a record go; it must still be in the table.
    pub(crate) fn remove_member(&mut self, table: &RecordTable, id: RecordId) {
        self.verdicts.remove(&id);
        if self.misnamed.remove(&id) {
            return;
        }
        let (Ok(apex), Some(stored)) = (&self.apex, table.get(id)) else { return };
        if let Ok(owner) = record_data::owner(&stored.owner, apex) {
            let hash = long(short(self.hasher.hash_one(&owner)));
            if let Ok(entry) = self.members.find_entry(hash, |(_, other)| *other == id) {
                entry.remove();
            }
            self.dirty.add(owner);
        }
    }

    /// A record was seen to be deleted: it is none of those that were served before and are not known yet.
    pub(crate) fn take_out_of_residue(&mut self, table: &RecordTable, id: RecordId) {
        let (Ok(apex), Some(stored), Some(residue)) = (&self.apex, table.get(id), &mut self.residue) else {
            return;
        };
        let (Ok(owner), Ok(rdatas)) = (record_data::owner(&stored.owner, apex), stored.data.rdatas(apex))
        else {
            return;
        };
        let mut rrsets = residue.get(&owner).map(RrSets::unpack).unwrap_or_default();
        if let Some((_, served)) = rrsets.get_mut(&stored.data.rtype()) {
            served.retain(|rdata| !rdatas.contains(rdata));
        }
        // Of fewer records than were packed.
        if let Ok(rest) = RrSets::pack(rrsets) {
            residue.set(owner, rest);
        }
    }

    /// What it says of a record that it wants.
    pub(crate) fn verdict(&self, id: RecordId) -> Verdict {
        if self.apex.is_err() || self.claimed_by.is_some() {
            return Verdict::Refused(Refusal::ZoneRefused(self.spec.metadata.key.to_string()));
        }
        self.verdicts.get(&id).cloned().unwrap_or(Verdict::Accepted)
    }

    /// Every record object of the zone.
    pub(crate) fn members(&self) -> impl Iterator<Item = RecordId> {
        self.members.iter().map(|(_, id)| *id).chain(self.misnamed.iter().copied())
    }

    /// The record objects of one owner name.
    pub(crate) fn members_at<'a>(
        &'a self,
        table: &'a RecordTable,
        owner: &'a OwnerName,
    ) -> impl Iterator<Item = RecordId> + 'a {
        let hash = long(short(self.hasher.hash_one(owner)));
        self.members.iter_hash(hash).map(|(_, id)| *id).filter(move |&id| {
            let (Ok(apex), Some(stored)) = (&self.apex, table.get(id)) else { return false };
            record_data::owner(&stored.owner, apex).as_ref() == Ok(owner)
        })
    }

    /// Every owner name that something is wanted at.
    pub(crate) fn wanted_names(&self, table: &RecordTable) -> BTreeSet<OwnerName> {
        let Ok(apex) = &self.apex else { return BTreeSet::new() };
        let of = |id: RecordId| table.get(id).and_then(|stored| record_data::owner(&stored.owner, apex).ok());
        let objects = self.members.iter().filter_map(|(_, id)| of(*id));
        let files =
            self.files.values().flat_map(|part| part.records.iter().flat_map(BTreeMap::keys)).cloned();
        let residue = self.residue.iter().flat_map(|content| content.iter().map(|(owner, _)| owner.clone()));
        let served = self.content.iter().flat_map(|content| content.iter().map(|(owner, _)| owner.clone()));
        objects.chain(files).chain(residue).chain(served).chain([OwnerName::apex()]).collect()
    }

    /// Reads the zone file `text` (`None`: it does not exist) and marks what it changes.
    pub(crate) fn read_file(&mut self, reference: &ZoneFileRef, text: Option<&str>) {
        let ttl = Ttl::saturating(self.spec.ttl.unwrap_or(crate::DEFAULT_TTL));
        let Ok(apex) = &self.apex else { return };
        let parsed = text.map(|text| ZoneFile::parse(text, apex, ttl));
        let part = self.files.entry(reference.clone()).or_default();
        let file = match parsed {
            None => {
                part.fault = Some(FileFault::Missing);
                return;
            }
            Some(Err(error)) => {
                part.fault = Some(FileFault::Broken(error));
                return;
            }
            Some(Ok(file)) => file,
        };
        part.fault = None;
        let soa = file.soa.map(|soa| (soa, file.serial.unwrap_or(Serial::new(0))));
        if part.soa != soa {
            part.soa = soa;
            self.dirty.add(OwnerName::apex());
        }
        let records = by_owner(file.records);
        let old = part.records.replace(records.clone()).unwrap_or_default();
        let gone = old.keys().filter(|owner| !records.contains_key(*owner));
        let changed = records.iter().filter(|(owner, rrsets)| old.get(*owner) != Some(rrsets));
        for owner in gone.chain(changed.map(|(owner, _)| owner)) {
            self.dirty.add(owner.clone());
        }
    }

    /// Forgets a zone file that the specification does not name any more.
    pub(crate) fn drop_file(&mut self, reference: &ZoneFileRef) {
        let Some(part) = self.files.remove(reference) else { return };
        self.dirty.add(OwnerName::apex());
        for owner in part.records.into_iter().flat_map(BTreeMap::into_keys) {
            self.dirty.add(owner);
        }
    }

    /// Whether one of its files was never readable since the start.
    pub(crate) fn lacks_file(&self) -> bool {
        self.files.values().any(|part| part.records.is_none())
    }
}

/// The zone name of a specification.
pub(crate) fn parse_apex(text: &str) -> Result<Name, ZoneProblem> {
    match Name::parse(text).map_err(ZoneProblem::Name)? {
        apex if apex == Name::root() => Err(ZoneProblem::Root),
        apex if Catalog::is_ours(&apex) => Err(ZoneProblem::Catalog(apex)),
        apex => Ok(apex),
    }
}

/// Half of a hash is kept beside each member, so that the table can grow without parsing names again.
fn short(hash: u64) -> u32 {
    (hash >> 32) as u32
}

fn long(short: u32) -> u64 {
    u64::from(short).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// Who has a zone's name on common servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Claimant {
    /// An older DNSZone.
    Zone(NamespacedName),
    /// This instance has it from outside of Bindy.
    Instance(NamespacedName),
}

impl Claimant {
    pub(crate) fn problem(&self, apex: &Name) -> ZoneProblem {
        let apex = apex.clone();
        match self {
            Self::Zone(winner) => ZoneProblem::Claimed { apex, winner: winner.to_string() },
            Self::Instance(instance) => ZoneProblem::FromOutside { apex, instance: instance.to_string() },
        }
    }
}

/// Why a record cannot be in any zone.
pub(crate) fn no_zone(stored_zone: Option<&str>, namespace: &str) -> Verdict {
    Verdict::Refused(Refusal::NoZone(match stored_zone {
        Some(zone) => format!(
            "spec.zoneRef: DNSZone {zone} does not exist in namespace {namespace}: create it, or correct the reference"
        ),
        None => format!(
            "no zone wants this record: set spec.zoneRef, or labels that a DNSZone's recordsFrom in namespace {namespace} selects"
        ),
    }))
}

/// The records of a zone file as RRsets; of different TTLs in one RRset the lowest holds.
fn by_owner(records: Vec<bindy_zone::Record>) -> BTreeMap<OwnerName, RrSets> {
    let mut owners: BTreeMap<OwnerName, BTreeMap<Rtype, (Ttl, Vec<Rdata>)>> = BTreeMap::new();
    for record in records {
        let rrset =
            owners.entry(record.owner).or_default().entry(record.rtype).or_insert((record.ttl, Vec::new()));
        rrset.0 = rrset.0.min(record.ttl);
        rrset.1.push(Rdata::from_canonical(&record.rdata));
    }
    // More records than can be packed are refused as those are that can be: the RRset is too large.
    let rrsets = owners.values_mut().flat_map(BTreeMap::values_mut);
    for (_, rdatas) in rrsets.filter(|(_, rdatas)| rdatas.len() > MAX_PACKED) {
        rdatas.sort_unstable();
        rdatas.dedup();
        rdatas.truncate(MAX_PACKED);
    }
    owners.into_iter().map(|(owner, rrsets)| (owner, RrSets::pack(rrsets).unwrap_or_default())).collect()
}
