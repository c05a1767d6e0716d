//! Making a version of the messages of a transfer.

use std::collections::BTreeMap;

use bindy_zone::{
    Content, Difference, Name, OwnerName, Rdata, Record, RrSets, Rtype, Serial, Soa, Ttl, Version,
};

use super::progress::{Asked, Progress, Step};
use super::{ClientError, Transfer};
use crate::message::{CLASS_IN, RawRecord, Reader, owner, rdata, soa};

/// A transfer that is arriving.
pub(super) struct Incoming<'a> {
    zone: &'a Name,
    base: Option<&'a Version>,
    progress: Progress,
    whole: Option<Whole>,
    differences: Option<Differences>,
    /// The SOA that the transfer started with.
    current: Option<(Soa, Serial)>,
}

/// A zone that is being filled, one owner name at a time.
struct Whole {
    content: Content,
    owner: OwnerName,
    rrsets: BTreeMap<Rtype, (Ttl, Vec<Rdata>)>,
}

/// The base with the complete differences applied, and the one that is being read.
struct Differences {
    version: Version,
    open: Option<Difference>,
}

impl<'a> Incoming<'a> {
    pub(super) fn new(zone: &'a Name, base: Option<&'a Version>) -> Self {
        let asked = base.map_or(Asked::Axfr, |base| Asked::Ixfr(base.serial));
        Self { zone, base, progress: Progress::new(asked), whole: None, differences: None, current: None }
    }

    /// Takes the answer section of the next message, `count` records from `start`; true when it was the last one.
    pub(super) fn message(&mut self, message: &[u8], start: usize, count: u16) -> Result<bool, ClientError> {
        let mut reader = Reader::at(message, start);
        for _ in 0..count {
            let record = reader.record()?;
            self.record(message, &record)?;
        }
        if count == 0 {
            return Err(ClientError::Malformed("a message of a transfer has no records"));
        }
        Ok(self.progress.is_complete())
    }

    fn record(&mut self, message: &[u8], raw: &RawRecord) -> Result<(), ClientError> {
        if raw.class != CLASS_IN {
            return Err(ClientError::Malformed("a transferred record is not of class IN"));
        }
        let name = owner(message, raw)?;
        let Some(owner) = name.relative_to(self.zone) else {
            return Err(ClientError::Malformed("a transferred record is outside of the zone"));
        };
        if raw.rtype != Rtype::SOA {
            let step = self.progress.record(None)?;
            let rdata = rdata(message, raw)?.into();
            let record = Record { owner, rtype: raw.rtype, ttl: Ttl::saturating(raw.ttl), rdata };
            return self.data(step, record);
        }
        if !owner.is_apex() {
            return Err(ClientError::Malformed("a transferred SOA is not at the apex"));
        }
        let (soa, serial) = soa(message, raw)?;
        match self.progress.record(Some(serial))? {
            Step::Current => self.current = Some((soa, serial)),
            Step::From => self.difference_from(soa, serial)?,
            Step::To => {
                if let Some(open) = self.open() {
                    (open.to, open.to_soa) = (serial, soa);
                }
            }
            Step::End => self.end(&soa)?,
            Step::Whole | Step::Remove | Step::Add => {}
        }
        Ok(())
    }

    fn open(&mut self) -> Option<&mut Difference> {
        self.differences.as_mut()?.open.as_mut()
    }

    fn data(&mut self, step: Step, record: Record) -> Result<(), ClientError> {
        match step {
            Step::Remove => {
                if let Some(open) = self.open() {
                    open.removed.push(record);
                }
            }
            Step::Add => {
                if let Some(open) = self.open() {
                    open.added.push(record);
                }
            }
            _ => {
                if let Some(whole) = self.whole_mut() {
                    whole.add(record)?;
                }
            }
        }
        Ok(())
    }

    fn whole_mut(&mut self) -> Option<&mut Whole> {
        let (soa, _) = self.current.as_ref()?;
        Some(self.whole.get_or_insert_with(|| Whole {
            content: Content::new(self.zone.clone(), soa.clone()),
            owner: OwnerName::apex(),
            rrsets: BTreeMap::new(),
        }))
    }

    fn difference_from(&mut self, soa: Soa, serial: Serial) -> Result<(), ClientError> {
        self.apply_open()?;
        let Some(base) = self.base else { return Ok(()) };
        let differences =
            self.differences.get_or_insert_with(|| Differences { version: base.clone(), open: None });
        differences.open = Some(Difference {
            from: serial,
            from_soa: soa.clone(),
            to: serial,
            to_soa: soa,
            removed: Vec::new(),
            added: Vec::new(),
        });
        Ok(())
    }

    fn apply_open(&mut self) -> Result<(), ClientError> {
        if let Some(differences) = &mut self.differences
            && let Some(open) = differences.open.take()
        {
            differences.version = open
                .apply(&differences.version)
                .map_err(|_| ClientError::Malformed("a difference does not fit the version that we have"))?;
        }
        Ok(())
    }

    fn end(&mut self, soa: &Soa) -> Result<(), ClientError> {
        if self.current.as_ref().is_some_and(|(first, _)| first != soa) {
            return Err(ClientError::Malformed("a transfer ends with another SOA than it starts with"));
        }
        self.apply_open()?;
        if self.differences.is_none()
            && let Some(whole) = self.whole_mut()
        {
            whole.flush()?;
        }
        Ok(())
    }

    /// What the complete transfer gave.
    pub(super) fn finish(self) -> Result<Transfer, ClientError> {
        let theirs = self.progress.current();
        if self.progress.says_nothing_newer() {
            return match self.base {
                Some(base) if base.serial != theirs => Err(ClientError::Behind { theirs, ours: base.serial }),
                _ => Ok(Transfer::Current),
            };
        }
        if let Some(Differences { version, open: None }) = self.differences {
            return Ok(Transfer::Incremental(version));
        }
        let whole = self.whole.ok_or(ClientError::Closed)?;
        Ok(Transfer::Full(Version { serial: theirs, content: whole.content }))
    }
}

impl Whole {
    fn add(&mut self, record: Record) -> Result<(), ClientError> {
        if record.owner != self.owner {
            self.flush()?;
            self.rrsets = self.content.get(&record.owner).map(RrSets::unpack).unwrap_or_default();
            self.owner = record.owner;
        }
        let (ttl, rdatas) = self.rrsets.entry(record.rtype).or_insert((record.ttl, Vec::new()));
        *ttl = record.ttl.min(*ttl);
        rdatas.push(Rdata::from_canonical(&record.rdata));
        Ok(())
    }

    fn flush(&mut self) -> Result<(), ClientError> {
        let rrsets = RrSets::pack(std::mem::take(&mut self.rrsets))
            .map_err(|_| ClientError::Malformed("an RRset has more than 65535 records"))?;
        if !rrsets.is_empty() {
            self.content.set(self.owner.clone(), rrsets);
        }
        Ok(())
    }
}
