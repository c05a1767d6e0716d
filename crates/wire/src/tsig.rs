//! TSIG with hmac-sha256 (RFC 8945), for one request and the one or many messages of its answer.
//!
//! Own code, since the one of the `domain` crate answers a wrong signature with FORMERR instead of BADSIG and signs
//! eight octets where BADTIME has six, so that neither error can be told apart with named at the other end.
//!
//! ```text
//! request:   HMAC(message + variables)
//! first:     HMAC(MAC of request + message + variables)
//! further:   HMAC(MAC before + unsigned messages since + message + timers)
//! ```
//! The time is an argument everywhere, in seconds since 1970.

use bindy_zone::{Name, Rtype};
use ring::hmac;

use crate::keys::{Key, KeyRing};
use crate::message::{HEADER, Header, Malformed, Reader, owner, put_u16};

/// How much clocks may differ, in seconds (RFC 8945 section 10).
const FUDGE: u16 = 300;
/// Octets of a whole MAC.
const MAC: usize = 32;
const CLASS_ANY: u16 = 255;
/// hmac-sha256. in wire form.
const ALGORITHM: &[u8] = b"\x0bhmac-sha256\0";
/// Messages of one answer that may lack a signature between two that have one (RFC 8945 section 5.3.1).
const MAX_UNSIGNED: usize = 99;

/// The error codes in a TSIG record (RFC 8945 section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TsigError {
    /// BADSIG.
    Sig = 16,
    /// BADKEY.
    Key = 17,
    /// BADTIME.
    Time = 18,
    /// BADTRUNC.
    Trunc = 22,
}

/// Why a request is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rejected {
    /// No usable TSIG record: FORMERR.
    Malformed,
    /// No TSIG record at all.
    Unsigned,
    /// NOTAUTH with this TSIG error.
    Tsig(TsigError),
}

/// Why an answer is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadAnswer {
    Malformed(&'static str),
    Signature(&'static str),
    /// BADKEY.
    UnknownKey,
    /// Seconds that the server's clock is ahead of ours.
    ClockSkew(i64),
}

/// A TSIG record as it lies in a message.
struct Record<'a> {
    start: usize,
    name: Name,
    algorithm: Vec<u8>,
    time: u64,
    fudge: u16,
    mac: &'a [u8],
    original_id: u16,
    error: u16,
    other: &'a [u8],
}

/// Signs what is sent, in turn: a request, or the messages of one answer.
#[derive(Debug)]
pub(crate) struct Signer {
    key: Key,
    /// The MAC that the next message is tied to.
    previous: Vec<u8>,
    first: bool,
}

/// Verifies the messages of one answer, in turn.
pub(crate) struct Verifier {
    key: Key,
    /// Has taken the previous MAC and all unsigned messages since.
    context: hmac::Context,
    first: bool,
    unsigned: usize,
}

impl<'a> Record<'a> {
    /// The TSIG record of a message: the last one, or none.
    fn find(message: &'a [u8]) -> Result<Option<Self>, Malformed> {
        let header = Header::parse(message)?;
        let mut reader = Reader::at(message, HEADER);
        for _ in 0..header.questions {
            reader.question()?;
        }
        let before = u32::from(header.answers) + u32::from(header.authorities);
        let count = before + u32::from(header.additionals);
        for position in 0..count {
            let record = reader.record()?;
            if record.rtype == Rtype::TSIG {
                if position + 1 != count || position < before {
                    return Err(Malformed("the TSIG record is not the last one"));
                }
                if record.class != CLASS_ANY || record.ttl != 0 {
                    return Err(Malformed("the TSIG record has a wrong class or TTL"));
                }
                let name = owner(message, &record)?;
                return Self::parse(message, record.start, name, record.rdata).map(Some);
            }
        }
        Ok(None)
    }

    fn parse(
        message: &'a [u8],
        start: usize,
        name: Name,
        rdata: std::ops::Range<usize>,
    ) -> Result<Self, Malformed> {
        let mut reader = Reader::at(message, rdata.start);
        let mut algorithm = Vec::new();
        reader.append_name(&mut algorithm)?;
        let (time, fudge) = (reader.u48()?, reader.u16()?);
        let length = reader.u16()?;
        let mac = reader.take(usize::from(length))?;
        let (original_id, error) = (reader.u16()?, reader.u16()?);
        let length = reader.u16()?;
        let other = reader.take(usize::from(length))?;
        if reader.position() != rdata.end {
            return Err(Malformed("the TSIG record has a wrong length"));
        }
        Ok(Self { start, name, algorithm, time, fudge, mac, original_id, error, other })
    }

    fn update_variables(&self, context: &mut hmac::Context) {
        context.update(&self.name.to_wire());
        context.update(&[0, 255, 0, 0, 0, 0]);
        context.update(&self.algorithm);
        self.update_timers(context);
        context.update(&self.error.to_be_bytes());
        context.update(&length_of(self.other));
        context.update(self.other);
    }

    fn update_timers(&self, context: &mut hmac::Context) {
        context.update(time_octets(self.time).as_slice());
        context.update(&self.fudge.to_be_bytes());
    }

    /// Puts the message as it was signed into `context`.
    fn update_message(&self, message: &[u8], context: &mut hmac::Context) {
        if let Ok(header) = Header::parse(message) {
            let mut octets = Vec::with_capacity(HEADER);
            let additionals = header.additionals.saturating_sub(1);
            Header { id: self.original_id, additionals, ..header }.append(&mut octets);
            context.update(&octets);
        }
        context.update(message.get(HEADER..self.start).unwrap_or_default());
    }

    fn append(&self, message: &mut Vec<u8>) {
        self.name.append_wire(message);
        message.extend(Rtype::TSIG.to_int().to_be_bytes());
        message.extend([0, 255, 0, 0, 0, 0]);
        let length = self.algorithm.len() + 16 + self.mac.len() + self.other.len();
        message.extend(u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
        message.extend(&self.algorithm);
        message.extend(time_octets(self.time));
        message.extend(self.fudge.to_be_bytes());
        message.extend(length_of(self.mac));
        message.extend(self.mac);
        message.extend(self.original_id.to_be_bytes());
        message.extend(self.error.to_be_bytes());
        message.extend(length_of(self.other));
        message.extend(self.other);
        if let Ok(header) = Header::parse(message) {
            put_u16(message, 10, header.additionals.wrapping_add(1));
        }
    }

    fn is_fresh(&self, now: u64) -> bool {
        self.time.abs_diff(now) <= u64::from(self.fudge)
    }
}

fn time_octets(time: u64) -> Vec<u8> {
    time.to_be_bytes().iter().skip(2).copied().collect()
}

fn length_of(octets: &[u8]) -> [u8; 2] {
    u16::try_from(octets.len()).unwrap_or(u16::MAX).to_be_bytes()
}

fn update_mac(context: &mut hmac::Context, mac: &[u8]) {
    context.update(&length_of(mac));
    context.update(mac);
}

/// Takes the TSIG record that starts at `start` off a message. Its id stays what it is: a forwarder gives messages ids of its
/// own, and knows answers by them (RFC 8945 section 5.5).
fn strip(message: &mut Vec<u8>, start: usize) {
    message.truncate(start);
    if let Ok(header) = Header::parse(message) {
        put_u16(message, 10, header.additionals.saturating_sub(1));
    }
}

impl Signer {
    /// Signs a request and returns what verifies its answer.
    pub(crate) fn request(key: &Key, message: &mut Vec<u8>, now: u64) -> Verifier {
        let mut signer = Self { key: key.clone(), previous: Vec::new(), first: true };
        signer.sign(message, now);
        Verifier::after(key.clone(), &signer.previous)
    }

    /// Octets that signing adds to a message.
    pub(crate) fn overhead(key: &Key) -> usize {
        key.name().to_wire().len() + 10 + ALGORITHM.len() + 16 + MAC
    }

    /// The key that signs.
    pub(crate) fn key(&self) -> &Key {
        &self.key
    }

    /// Signs the next message.
    pub(crate) fn sign(&mut self, message: &mut Vec<u8>, now: u64) {
        self.sign_with(message, now, 0, &[]);
    }

    fn sign_with(&mut self, message: &mut Vec<u8>, time: u64, error: u16, other: &[u8]) {
        let original_id = Header::parse(message).map_or(0, |header| header.id);
        let name = self.key.name().clone();
        let algorithm = ALGORITHM.to_vec();
        let mut record =
            Record { start: 0, name, algorithm, time, fudge: FUDGE, mac: &[], original_id, error, other };
        let mut context = hmac::Context::with_key(self.key.hmac());
        if !self.previous.is_empty() {
            update_mac(&mut context, &self.previous);
        }
        context.update(message);
        if self.first {
            record.update_variables(&mut context);
        } else {
            record.update_timers(&mut context);
        }
        let mac = context.sign();
        record.mac = mac.as_ref();
        record.append(message);
        self.previous = mac.as_ref().to_vec();
        self.first = false;
    }
}

/// Verifies a request and takes its TSIG record off. Returns the signer of its answer; the second part of the error
/// is the whole answer to a request that has a TSIG error.
pub(crate) fn verify_request(
    message: &mut Vec<u8>,
    keys: &dyn KeyRing,
    now: u64,
) -> Result<Signer, (Rejected, Option<Vec<u8>>)> {
    let record = match Record::find(message) {
        Err(_) => return Err((Rejected::Malformed, None)),
        Ok(None) => return Err((Rejected::Unsigned, None)),
        Ok(Some(record)) => record,
    };
    let refuse = |error: TsigError| {
        let answer = unsigned_error(message, &record, error);
        Err((Rejected::Tsig(error), Some(answer)))
    };
    let key = (record.algorithm == ALGORITHM).then(|| keys.key(&record.name)).flatten();
    let Some(key) = key else { return refuse(TsigError::Key) };
    if record.mac.len() != MAC {
        let truncated = (MAC / 2..MAC).contains(&record.mac.len());
        return if truncated { refuse(TsigError::Trunc) } else { Err((Rejected::Malformed, None)) };
    }
    let mut signed = Vec::with_capacity(message.len());
    let mut context = hmac::Context::with_key(key.hmac());
    record.update_message(message, &mut context);
    record.update_variables(&mut context);
    // Compared as `ring` does it, in constant time.
    if !macs_equal(context, record.mac) {
        return refuse(TsigError::Sig);
    }
    let mut signer = Signer { key, previous: record.mac.to_vec(), first: true };
    if !record.is_fresh(now) {
        signed.extend(error_header(message));
        signer.sign_with(&mut signed, record.time, TsigError::Time as u16, &time_octets(now));
        return Err((Rejected::Tsig(TsigError::Time), Some(signed)));
    }
    let start = record.start;
    strip(message, start);
    Ok(signer)
}

fn macs_equal(context: hmac::Context, mac: &[u8]) -> bool {
    let computed = context.sign();
    // A second HMAC under a fixed key makes the comparison independent of where the first difference is.
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"comparison");
    hmac::verify(&key, computed.as_ref(), hmac::sign(&key, mac).as_ref()).is_ok()
}

/// Header and question of a NOTAUTH answer.
fn error_header(request: &[u8]) -> Vec<u8> {
    let mut answer = Vec::new();
    let Ok(header) = Header::parse(request) else { return answer };
    let flags = 0x8000 | header.flags & 0x7900 | 9;
    let questions = header.questions.min(1);
    Header { id: header.id, flags, questions, answers: 0, authorities: 0, additionals: 0 }
        .append(&mut answer);
    let mut reader = Reader::at(request, HEADER);
    if questions == 1 && reader.question().is_ok() {
        answer.extend(request.get(HEADER..reader.position()).unwrap_or_default());
    }
    answer
}

fn unsigned_error(request: &[u8], record: &Record<'_>, error: TsigError) -> Vec<u8> {
    let mut answer = error_header(request);
    let name = record.name.clone();
    let algorithm = record.algorithm.clone();
    let (time, fudge, original_id) = (record.time, record.fudge, record.original_id);
    let error = error as u16;
    Record { start: 0, name, algorithm, time, fudge, mac: &[], original_id, error, other: &[] }
        .append(&mut answer);
    answer
}

impl Verifier {
    fn after(key: Key, previous: &[u8]) -> Self {
        let mut context = hmac::Context::with_key(key.hmac());
        update_mac(&mut context, previous);
        Self { key, context, first: true, unsigned: 0 }
    }

    /// Verifies the next message and takes its TSIG record off. True if it was signed; an unsigned one counts only
    /// once a signed one has followed.
    pub(crate) fn verify(&mut self, message: &mut Vec<u8>, now: u64) -> Result<bool, BadAnswer> {
        let record = Record::find(message).map_err(|error| BadAnswer::Malformed(error.0))?;
        let Some(record) = record else { return self.take_unsigned(message) };
        if record.mac.is_empty() && record.error != 0 {
            return Err(match record.error {
                16 => BadAnswer::Signature("the server finds our signature wrong (BADSIG)"),
                17 => BadAnswer::UnknownKey,
                _ => BadAnswer::Signature("the server rejects our signature"),
            });
        }
        if record.name != *self.key.name() || record.algorithm != ALGORITHM {
            return Err(BadAnswer::Signature("the answer is signed with another key"));
        }
        record.update_message(message, &mut self.context);
        if self.first {
            record.update_variables(&mut self.context);
        } else {
            record.update_timers(&mut self.context);
        }
        let mut next = hmac::Context::with_key(self.key.hmac());
        update_mac(&mut next, record.mac);
        let context = std::mem::replace(&mut self.context, next);
        if record.mac.len() != MAC || !macs_equal(context, record.mac) {
            return Err(BadAnswer::Signature("the answer's signature is wrong"));
        }
        if record.error == TsigError::Time as u16 {
            let server = Reader::at(record.other, 0).u48().unwrap_or_default();
            return Err(BadAnswer::ClockSkew(seconds_ahead(server, now)));
        }
        if !record.is_fresh(now) {
            return Err(BadAnswer::ClockSkew(seconds_ahead(record.time, now)));
        }
        self.first = false;
        self.unsigned = 0;
        let start = record.start;
        strip(message, start);
        Ok(true)
    }

    fn take_unsigned(&mut self, message: &[u8]) -> Result<bool, BadAnswer> {
        self.unsigned += 1;
        if self.first || self.unsigned > MAX_UNSIGNED {
            return Err(BadAnswer::Signature("the answer is not signed"));
        }
        self.context.update(message);
        Ok(false)
    }
}

fn seconds_ahead(theirs: u64, ours: u64) -> i64 {
    i64::try_from(theirs).unwrap_or(i64::MAX).saturating_sub(i64::try_from(ours).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests;
