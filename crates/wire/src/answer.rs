//! The messages of SOA, AXFR and IXFR answers, made of a zone's [`History`] one after another (RFC 5936, RFC 1995).
//!
//! An answer holds references to versions that never change, and a position; so a slow client costs one message of
//! memory and sees one version, whatever is published meanwhile.

use std::collections::VecDeque;
use std::sync::Arc;

use bindy_zone::{Difference, History, Name, OwnerName, Record, Rtype, Serial, Since, Version};

use crate::message::{CLASS_IN, FLAG_AA, FLAG_QR, FLAG_RD, HEADER, Header, put_u16};

/// Where the question's name is in every message that we make: right after the header.
const APEX_POINTER: [u8; 2] = [0xC0, 12];
/// Pointers have 14 bits.
const POINTER_LIMIT: usize = 0x4000;

/// How an IXFR request, or another one, gets answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Soa,
    Full,
    Differences,
    Current,
    /// The whole zone, although differences were asked for.
    Fallback,
}

/// A part of an answer.
enum Part {
    Soa(Arc<Version>),
    SoaOf(Arc<Difference>, Side),
    Content { version: Arc<Version>, after: Option<OwnerName>, skip: usize },
    Records { difference: Arc<Difference>, side: Side, next: usize },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    From,
    To,
}

/// An answer that is being sent.
pub(crate) struct Transmission {
    header: Header,
    question: Vec<u8>,
    apex: Name,
    parts: VecDeque<Part>,
    started: bool,
}

/// A record is too large for any message.
#[derive(Debug)]
pub(crate) struct TooLarge;

impl Transmission {
    /// The answer to a question for `rtype`; `None` when that type is not ours to answer.
    pub(crate) fn new(
        request: &[u8],
        rtype: Rtype,
        serial: Option<Serial>,
        history: &History,
    ) -> Option<(Self, Kind)> {
        let current = history.current();
        let mut parts = VecDeque::from([Part::Soa(current.clone())]);
        let kind = match (rtype, serial) {
            (Rtype::SOA, _) => Kind::Soa,
            (Rtype::AXFR, _) => Kind::Full,
            (Rtype::IXFR, Some(serial)) => match history.since(serial) {
                Since::Current => Kind::Current,
                Since::Unknown => Kind::Fallback,
                Since::Differences(differences) => {
                    parts.extend(differences.iter().flat_map(parts_of));
                    Kind::Differences
                }
            },
            _ => return None,
        };
        if matches!(kind, Kind::Full | Kind::Fallback) {
            parts.push_back(Part::Content { version: current.clone(), after: None, skip: 0 });
        }
        if !matches!(kind, Kind::Soa | Kind::Current) {
            parts.push_back(Part::Soa(current.clone()));
        }
        let asked = Header::parse(request).ok()?;
        let flags = FLAG_QR | FLAG_AA | asked.flags & FLAG_RD;
        let header = Header { id: asked.id, flags, questions: 1, answers: 0, authorities: 0, additionals: 0 };
        let question = crate::request::question_octets(request).to_vec();
        let apex = current.content.apex().clone();
        Some((Self { header, question, apex, parts, started: false }, kind))
    }

    /// The first SOA alone: what an IXFR over UDP gets, so that the client comes back over TCP (RFC 1995 section 2).
    pub(crate) fn only_soa(mut self) -> Self {
        self.parts.truncate(1);
        self
    }

    /// The next message of at most `limit` octets, or `None` after the last one.
    pub(crate) fn next_message(&mut self, limit: usize) -> Result<Option<Vec<u8>>, TooLarge> {
        if self.parts.is_empty() {
            return if self.started { Ok(None) } else { Err(TooLarge) };
        }
        self.started = true;
        let mut message = Message::new(&self.header, &self.question, &self.apex, limit);
        while let Some(part) = self.parts.front_mut() {
            if !message.fill(part) {
                break;
            }
            self.parts.pop_front();
        }
        if message.answers == 0 {
            return Err(TooLarge);
        }
        Ok(Some(message.finish()))
    }
}

fn parts_of(difference: &Arc<Difference>) -> [Part; 4] {
    let records = |side| Part::Records { difference: difference.clone(), side, next: 0 };
    [
        Part::SoaOf(difference.clone(), Side::From),
        records(Side::From),
        Part::SoaOf(difference.clone(), Side::To),
        records(Side::To),
    ]
}

/// A message that is being filled.
struct Message<'a> {
    octets: Vec<u8>,
    answers: u16,
    limit: usize,
    apex: &'a Name,
    /// Octets that the apex takes at the end of every name.
    apex_length: usize,
    /// The owner name written last, and where.
    owner: Option<(OwnerName, usize)>,
}

impl<'a> Message<'a> {
    fn new(header: &Header, question: &[u8], apex: &'a Name, limit: usize) -> Self {
        let mut octets = Vec::with_capacity(limit + 2);
        header.append(&mut octets);
        octets.extend(question);
        Self { octets, answers: 0, limit, apex, apex_length: apex.to_wire().len(), owner: None }
    }

    fn finish(mut self) -> Vec<u8> {
        put_u16(&mut self.octets, 6, self.answers);
        self.octets
    }

    /// Appends as much of a part as fits, and notes where it stopped; true when all of it did.
    fn fill(&mut self, part: &mut Part) -> bool {
        match part {
            Part::Soa(version) => {
                let ttl = version.content.soa().ttl;
                self.record(&OwnerName::apex(), Rtype::SOA, ttl, &version.soa_rdata())
            }
            Part::SoaOf(difference, side) => {
                let (soa, serial) = match side {
                    Side::From => (&difference.from_soa, difference.from),
                    Side::To => (&difference.to_soa, difference.to),
                };
                self.record(&OwnerName::apex(), Rtype::SOA, soa.ttl, &soa.rdata(serial))
            }
            Part::Records { difference, side, next } => {
                let records = match side {
                    Side::From => &difference.removed,
                    Side::To => &difference.added,
                };
                self.fill_records(records, next)
            }
            Part::Content { version, after, skip } => self.fill_content(version, after, skip),
        }
    }

    fn fill_records(&mut self, records: &[Record], next: &mut usize) -> bool {
        for record in records.iter().skip(*next) {
            if !self.record(&record.owner, record.rtype, record.ttl.get(), &record.rdata) {
                return false;
            }
            *next += 1;
        }
        true
    }

    /// `after` is the last owner name that is complete, `skip` counts records of the one after it.
    fn fill_content(&mut self, version: &Version, after: &mut Option<OwnerName>, skip: &mut usize) -> bool {
        let mut last = None;
        let mut done = true;
        let start = after.take();
        let (first, rest) = match &start {
            None => (Some(version.content.iter()), None),
            Some(owner) => (None, Some(version.content.after(owner))),
        };
        let names = first.into_iter().flatten().chain(rest.into_iter().flatten());
        'names: for (owner, rrsets) in names {
            let records = rrsets
                .iter()
                .flat_map(|rrset| rrset.rdatas().map(move |rdata| (rrset.rtype(), rrset.ttl(), rdata)));
            for (rtype, ttl, rdata) in records.skip(*skip) {
                if !self.record(owner, rtype, ttl.get(), rdata) {
                    done = false;
                    break 'names;
                }
                *skip += 1;
            }
            *skip = 0;
            last = Some(owner);
        }
        *after = last.cloned().or(start);
        done
    }

    /// Appends one record, unless it does not fit.
    fn record(&mut self, owner: &OwnerName, rtype: Rtype, ttl: u32, rdata: &[u8]) -> bool {
        let start = self.octets.len();
        self.owner_name(owner);
        if self.answers == u16::MAX || self.octets.len() + 10 + rdata.len() > self.limit {
            self.octets.truncate(start);
            return false;
        }
        self.octets.extend(rtype.to_int().to_be_bytes());
        self.octets.extend(CLASS_IN.to_be_bytes());
        self.octets.extend(ttl.to_be_bytes());
        self.octets.extend(u16::try_from(rdata.len()).unwrap_or(u16::MAX).to_be_bytes());
        self.octets.extend(rdata);
        self.answers += 1;
        if start < POINTER_LIMIT && self.owner.as_ref().is_none_or(|(last, _)| last != owner) {
            self.owner = Some((owner.clone(), start));
        }
        true
    }

    fn owner_name(&mut self, owner: &OwnerName) {
        if owner.is_apex() {
            self.octets.extend(APEX_POINTER);
            return;
        }
        if let Some((last, position)) = &self.owner
            && last == owner
            && let Ok(position) = u16::try_from(*position)
        {
            self.octets.extend((0xC000 | position).to_be_bytes());
            return;
        }
        owner.append_wire(self.apex, &mut self.octets);
        self.octets.truncate(self.octets.len() - self.apex_length);
        self.octets.extend(APEX_POINTER);
    }
}

const _: () = assert!(HEADER == 12, "the question follows the header");
