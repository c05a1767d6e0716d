//! Building requests, and reading answers of one message.

use bindy_zone::{Name, Rtype, Serial, Soa};
use bytes::Bytes;

use super::{Answer, AnswerRecord, ClientError};
use crate::message::{CLASS_IN, FLAG_AA, HEADER, Header, Reader, owner, put_u16, rdata, soa};

const OPCODE_NOTIFY: u16 = 4 << 11;

/// A request whose answer is one message, by TCP or UDP.
pub trait Question: Sync {
    /// What the answer says.
    type Answer: Send;

    /// The request with this id, without TSIG.
    fn request(&self, id: u16) -> Vec<u8>;

    /// Reads the answer to `request`, which has been verified.
    fn read(&self, request: &[u8], message: Vec<u8>) -> Result<Self::Answer, ClientError>;
}

/// Which version of a zone a server has.
#[derive(Clone, Copy, Debug)]
pub struct SerialOf<'a>(pub &'a Name);

/// What there is of one type at a name, whatever the response code.
#[derive(Clone, Copy, Debug)]
pub struct RecordsAt<'a>(pub &'a Name, pub Rtype);

/// NOTIFY of a version.
#[derive(Clone, Copy, Debug)]
pub struct News<'a>(pub &'a Name, pub Serial);

/// Somebody else's question, whose answer they get as it is, but for its signature.
#[derive(Clone, Copy, Debug)]
pub struct Forwarded<'a>(pub &'a Bytes);

impl Question for SerialOf<'_> {
    type Answer = Serial;

    fn request(&self, id: u16) -> Vec<u8> {
        question(id, self.0, Rtype::SOA)
    }

    fn read(&self, request: &[u8], message: Vec<u8>) -> Result<Serial, ClientError> {
        serial(self.0, request, &message)
    }
}

impl Question for RecordsAt<'_> {
    type Answer = Answer;

    fn request(&self, id: u16) -> Vec<u8> {
        question(id, self.0, self.1)
    }

    fn read(&self, request: &[u8], message: Vec<u8>) -> Result<Answer, ClientError> {
        answer(request, &message)
    }
}

impl Question for News<'_> {
    type Answer = ();

    fn request(&self, id: u16) -> Vec<u8> {
        notify(id, self.0, self.1)
    }

    fn read(&self, request: &[u8], message: Vec<u8>) -> Result<(), ClientError> {
        let rcode = matching(request, &message, true)?.0.rcode();
        ClientError::of(rcode).map_or(Ok(()), Err)
    }
}

impl Question for Forwarded<'_> {
    type Answer = Bytes;

    fn request(&self, id: u16) -> Vec<u8> {
        let mut request = self.0.to_vec();
        put_u16(&mut request, 0, id);
        request
    }

    fn read(&self, request: &[u8], mut message: Vec<u8>) -> Result<Bytes, ClientError> {
        matching(request, &message, true)?;
        put_u16(&mut message, 0, Header::parse(self.0)?.id);
        Ok(message.into())
    }
}

/// A question.
pub(super) fn question(id: u16, name: &Name, rtype: Rtype) -> Vec<u8> {
    let mut message = Vec::with_capacity(256);
    Header { id, flags: 0, questions: 1, answers: 0, authorities: 0, additionals: 0 }.append(&mut message);
    append_question(name, rtype, &mut message);
    message
}

/// A request for the differences since `serial` (RFC 1995 section 3).
pub(super) fn ixfr(id: u16, zone: &Name, soa: &Soa, serial: Serial) -> Vec<u8> {
    let mut message = Vec::with_capacity(256);
    Header { id, flags: 0, questions: 1, answers: 0, authorities: 1, additionals: 0 }.append(&mut message);
    append_question(zone, Rtype::IXFR, &mut message);
    append_soa(soa, serial, &mut message);
    message
}

/// News of a version; the serial is only a hint (RFC 1996 section 3.7), so the rest of its SOA is left empty.
fn notify(id: u16, zone: &Name, serial: Serial) -> Vec<u8> {
    let mut message = Vec::with_capacity(256);
    let flags = OPCODE_NOTIFY | FLAG_AA;
    Header { id, flags, questions: 1, answers: 1, authorities: 0, additionals: 0 }.append(&mut message);
    append_question(zone, Rtype::SOA, &mut message);
    let (primary, mailbox) = (Name::root(), Name::root());
    let hint = Soa { ttl: 0, primary, mailbox, refresh: 0, retry: 0, expire: 0, negative_ttl: 0 };
    append_soa(&hint, serial, &mut message);
    message
}

fn append_question(name: &Name, rtype: Rtype, message: &mut Vec<u8>) {
    name.append_wire(message);
    message.extend(rtype.to_int().to_be_bytes());
    message.extend(CLASS_IN.to_be_bytes());
}

/// Appends an SOA record whose owner is the question's name.
fn append_soa(soa: &Soa, serial: Serial, message: &mut Vec<u8>) {
    let rdata = soa.rdata(serial);
    message.extend([0xC0, 12]);
    message.extend(Rtype::SOA.to_int().to_be_bytes());
    message.extend(CLASS_IN.to_be_bytes());
    message.extend(soa.ttl.to_be_bytes());
    message.extend(u16::try_from(rdata.len()).unwrap_or(u16::MAX).to_be_bytes());
    message.extend(rdata);
}

/// Checks that a message is the answer to `request`, and returns its header and where its records start. Only the
/// first message of an answer has to repeat the question (RFC 5936 section 2.2).
pub(super) fn matching(request: &[u8], message: &[u8], first: bool) -> Result<(Header, usize), ClientError> {
    let (asked, header) = (Header::parse(request)?, Header::parse(message)?);
    if !header.is_answer() || header.id != asked.id || header.opcode() != asked.opcode() {
        return Err(ClientError::Malformed("it does not answer our request"));
    }
    if header.questions > 1 {
        return Err(ClientError::Malformed("it has more than one question"));
    }
    let mut reader = Reader::at(message, HEADER);
    if header.questions == 1 {
        if reader.question()? != Reader::at(request, HEADER).question()? {
            return Err(ClientError::Malformed("it answers another question"));
        }
    } else if first && ClientError::of(header.rcode()).is_none() {
        return Err(ClientError::Malformed("it does not say what it answers"));
    }
    Ok((header, reader.position()))
}

/// Reads an answer of one message.
fn answer(request: &[u8], message: &[u8]) -> Result<Answer, ClientError> {
    let (header, start) = matching(request, message, true)?;
    let mut reader = Reader::at(message, start);
    let mut records = Vec::new();
    for _ in 0..header.answers {
        let record = reader.record()?;
        records.push(AnswerRecord {
            name: owner(message, &record)?,
            rtype: record.rtype,
            ttl: record.ttl,
            rdata: rdata(message, &record)?.into(),
        });
    }
    Ok(Answer { rcode: header.rcode(), authoritative: header.flags & FLAG_AA != 0, records })
}

/// The serial in an answer to an SOA question.
fn serial(zone: &Name, request: &[u8], message: &[u8]) -> Result<Serial, ClientError> {
    let (header, start) = matching(request, message, true)?;
    if let Some(error) = ClientError::of(header.rcode()) {
        return Err(error);
    }
    let mut reader = Reader::at(message, start);
    for _ in 0..header.answers {
        let record = reader.record()?;
        if record.rtype == Rtype::SOA && owner(message, &record)? == *zone {
            return Ok(soa(message, &record)?.1);
        }
    }
    // A referral or a name below the apex: whoever answers so does not have the zone.
    Err(ClientError::NotAuth)
}

/// A random identifier.
pub(super) fn random_id() -> u16 {
    let mut octets = [0; 2];
    let filled = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut octets);
    // Without randomness the signature and the connection still tie an answer to its request.
    if filled.is_ok() { u16::from_be_bytes(octets) } else { 1 }
}
