//! Reading DNS messages, and writing their headers. Every octet may be hostile: nothing is read out of bounds, names
//! with pointer loops end (a pointer has to point backwards), and the work is bounded by the length of the message.

use bindy_zone::{Name, Rtype, Serial, Soa};
use domain::base::iana::Rcode;

/// Octets of a header (RFC 1035 section 4.1.1).
pub(crate) const HEADER: usize = 12;
/// Class IN.
pub(crate) const CLASS_IN: u16 = 1;
/// QR: the message is an answer.
pub(crate) const FLAG_QR: u16 = 0x8000;
/// AA: the answer is authoritative.
pub(crate) const FLAG_AA: u16 = 0x0400;
/// TC: the answer is cut short.
pub(crate) const FLAG_TC: u16 = 0x0200;
/// RD: copied from question to answer.
pub(crate) const FLAG_RD: u16 = 0x0100;

/// What is wrong with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Malformed(pub(crate) &'static str);

const SHORT: Malformed = Malformed("it ends too early");

/// Identifier, flags and counts of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) id: u16,
    pub(crate) flags: u16,
    pub(crate) questions: u16,
    pub(crate) answers: u16,
    pub(crate) authorities: u16,
    pub(crate) additionals: u16,
}

/// The question of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) name: Name,
    pub(crate) rtype: Rtype,
    pub(crate) class: u16,
}

/// A record as it lies in a message.
#[derive(Clone, Debug)]
pub(crate) struct RawRecord {
    /// Where it starts.
    pub(crate) start: usize,
    /// Where its RDATA starts and ends.
    pub(crate) rdata: std::ops::Range<usize>,
    pub(crate) rtype: Rtype,
    pub(crate) class: u16,
    pub(crate) ttl: u32,
}

impl Header {
    pub(crate) fn parse(message: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::at(message, 0);
        Ok(Self {
            id: reader.u16()?,
            flags: reader.u16()?,
            questions: reader.u16()?,
            answers: reader.u16()?,
            authorities: reader.u16()?,
            additionals: reader.u16()?,
        })
    }

    pub(crate) fn append(&self, message: &mut Vec<u8>) {
        for field in [self.id, self.flags, self.questions, self.answers, self.authorities, self.additionals] {
            message.extend(field.to_be_bytes());
        }
    }

    pub(crate) fn opcode(&self) -> u8 {
        (self.flags >> 11 & 0xF) as u8
    }

    pub(crate) fn rcode(&self) -> Rcode {
        Rcode::masked_from_int((self.flags & 0xF) as u8)
    }

    pub(crate) fn is_answer(&self) -> bool {
        self.flags & FLAG_QR != 0
    }
}

/// Overwrites two octets, where they exist.
pub(crate) fn put_u16(message: &mut [u8], position: usize, value: u16) {
    if let Some(field) = message.get_mut(position..position + 2) {
        field.copy_from_slice(&value.to_be_bytes());
    }
}

/// A position in a message.
#[derive(Clone)]
pub(crate) struct Reader<'a> {
    message: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn at(message: &'a [u8], position: usize) -> Self {
        Self { message, position }
    }

    pub(crate) fn position(&self) -> usize {
        self.position
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let taken = self.message.get(self.position..).and_then(|rest| rest.get(..count)).ok_or(SHORT)?;
        self.position += count;
        Ok(taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        self.take(1)?.first().copied().ok_or(SHORT)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(self.take(2)?.iter().fold(0, |value, &octet| value << 8 | u16::from(octet)))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(self.take(4)?.iter().fold(0, |value, &octet| value << 8 | u32::from(octet)))
    }

    pub(crate) fn u48(&mut self) -> Result<u64, Malformed> {
        Ok(self.take(6)?.iter().fold(0, |value, &octet| value << 8 | u64::from(octet)))
    }

    /// Appends the name's uncompressed, lower-case wire form to `wire`.
    pub(crate) fn append_name(&mut self, wire: &mut Vec<u8>) -> Result<(), Malformed> {
        let start = wire.len();
        let mut reader = self.clone();
        let mut lowest = self.position;
        let mut jumped = false;
        loop {
            let length = reader.u8()?;
            match length {
                0 => break,
                1..=63 => {
                    wire.push(length);
                    wire.extend(reader.take(usize::from(length))?.iter().map(u8::to_ascii_lowercase));
                    if wire.len() - start > 254 {
                        return Err(Malformed("a name is longer than 255 octets"));
                    }
                }
                0xC0.. => {
                    let target = usize::from(length & 0x3F) << 8 | usize::from(reader.u8()?);
                    if !jumped {
                        self.position = reader.position;
                    }
                    if target >= lowest {
                        return Err(Malformed("a compression pointer does not point backwards"));
                    }
                    jumped = true;
                    lowest = target;
                    reader.position = target;
                }
                _ => return Err(Malformed("a label has an unknown type")),
            }
        }
        wire.push(0);
        if !jumped {
            self.position = reader.position;
        }
        Ok(())
    }

    pub(crate) fn name(&mut self) -> Result<Name, Malformed> {
        let mut wire = Vec::with_capacity(64);
        self.append_name(&mut wire)?;
        Name::from_wire(&wire).map_err(|_| Malformed("a name is malformed"))
    }

    fn skip_name(&mut self) -> Result<(), Malformed> {
        loop {
            let length = self.u8()?;
            match length {
                0 => return Ok(()),
                1..=63 => self.take(usize::from(length)).map(drop)?,
                0xC0.. => return self.take(1).map(drop),
                _ => return Err(Malformed("a label has an unknown type")),
            }
        }
    }

    pub(crate) fn question(&mut self) -> Result<Question, Malformed> {
        let name = self.name()?;
        Ok(Question { name, rtype: Rtype::from_int(self.u16()?), class: self.u16()? })
    }

    /// The next record; its owner name is skipped, [`owner`] reads it.
    pub(crate) fn record(&mut self) -> Result<RawRecord, Malformed> {
        let start = self.position;
        self.skip_name()?;
        let rtype = Rtype::from_int(self.u16()?);
        let class = self.u16()?;
        let ttl = self.u32()?;
        let length = usize::from(self.u16()?);
        let first = self.position;
        self.take(length)?;
        Ok(RawRecord { start, rdata: first..first + length, rtype, class, ttl })
    }
}

/// The owner name of a record.
pub(crate) fn owner(message: &[u8], record: &RawRecord) -> Result<Name, Malformed> {
    Reader::at(message, record.start).name()
}

/// How the RDATA of a type that has names in it is built: octets before the first name, and how many names follow;
/// the rest is copied. These are the types whose names may be compressed, or are lower-case in canonical form (RFC
/// 1035 section 3.3, RFC 3597 section 4, RFC 4034 section 6.2).
fn names_in(rtype: Rtype) -> Option<(usize, usize)> {
    match rtype {
        Rtype::NS | Rtype::MD | Rtype::MF | Rtype::CNAME | Rtype::MB | Rtype::MG | Rtype::MR | Rtype::PTR => {
            Some((0, 1))
        }
        Rtype::DNAME | Rtype::NXT => Some((0, 1)),
        Rtype::SOA | Rtype::MINFO | Rtype::RP => Some((0, 2)),
        Rtype::MX | Rtype::AFSDB | Rtype::RT | Rtype::KX => Some((2, 1)),
        Rtype::PX => Some((2, 2)),
        Rtype::SRV => Some((6, 1)),
        Rtype::SIG | Rtype::RRSIG => Some((18, 1)),
        _ => None,
    }
}

/// The RDATA of a record, uncompressed and canonical.
pub(crate) fn rdata(message: &[u8], record: &RawRecord) -> Result<Vec<u8>, Malformed> {
    let whole = message.get(record.rdata.clone()).ok_or(SHORT)?;
    if record.rtype == Rtype::NAPTR {
        return naptr(message, record);
    }
    let Some((prefix, names)) = names_in(record.rtype) else { return Ok(whole.to_vec()) };
    let mut reader = Reader::at(message, record.rdata.start);
    let mut canonical = reader.take(prefix)?.to_vec();
    for _ in 0..names {
        reader.append_name(&mut canonical)?;
    }
    canonical.extend(remainder(message, record, &reader)?);
    Ok(canonical)
}

/// NAPTR has its name after two numbers and three strings (RFC 3403 section 4.1).
fn naptr(message: &[u8], record: &RawRecord) -> Result<Vec<u8>, Malformed> {
    let mut reader = Reader::at(message, record.rdata.start);
    let mut canonical = reader.take(4)?.to_vec();
    for _ in 0..3 {
        let length = reader.u8()?;
        canonical.push(length);
        canonical.extend(reader.take(usize::from(length))?);
    }
    reader.append_name(&mut canonical)?;
    canonical.extend(remainder(message, record, &reader)?);
    Ok(canonical)
}

fn remainder<'a>(message: &'a [u8], record: &RawRecord, reader: &Reader<'_>) -> Result<&'a [u8], Malformed> {
    message.get(reader.position()..record.rdata.end).ok_or(Malformed("a name runs out of its record"))
}

/// The SOA that a record is.
pub(crate) fn soa(message: &[u8], record: &RawRecord) -> Result<(Soa, Serial), Malformed> {
    let rdata = rdata(message, record)?;
    Soa::from_rdata(record.ttl, &rdata).map_err(|_| Malformed("an SOA record is malformed"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn pointer_loops_and_forward_pointers_are_refused() {
        for name in [&[0xC0, 0][..], &[1, b'a', 0xC0, 0], &[0xC0, 4, 0, 0, 0], &[0xC0, 2, 0xC0, 0]] {
            assert!(Reader::at(name, 0).name().is_err(), "{name:?}");
        }
        let message = [1, b'A', 0, 1, b'b', 0xC0, 0, 9];
        let mut reader = Reader::at(&message, 3);
        assert_eq!(reader.name().unwrap(), Name::parse("b.a").unwrap());
        assert_eq!(reader.position(), 7);
    }

    #[test]
    fn a_name_over_255_octets_is_refused() {
        let mut message = vec![63; 64 * 5];
        message.push(0);
        assert!(Reader::at(&message, 0).name().is_err());
    }

    proptest! {
        #[test]
        fn no_octets_make_reading_panic(octets in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut reader = Reader::at(&octets, 0);
            while let Ok(record) = reader.record() {
                let _ = owner(&octets, &record);
                let _ = rdata(&octets, &record);
            }
            let _ = Reader::at(&octets, 0).question();
        }
    }
}
