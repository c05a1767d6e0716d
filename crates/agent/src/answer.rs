//! What an answer message says, as far as passing it on depends on it.

use bindy_wire::Relayed;
use bindy_zone::{Name, Serial};
use bytes::Bytes;
use domain::base::iana::{Rcode, Rtype};
use domain::base::{Message, MessageBuilder, ToName, UnknownRecordData};
use domain::rdata::Soa;

/// The first message of an answer about one zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The zone at this serial.
    Serves(Serial),
    /// It will not: refused, or the key is not for this.
    Refuses,
    /// Anything else: failed, not authoritative, not DNS.
    Declines,
}

/// Reads the first message of an answer to SOA, AXFR or IXFR.
pub(crate) fn judge(message: &Relayed, zone: &Name) -> Verdict {
    let octets = message_octets(message);
    let rcode = Message::from_octets(octets.as_ref()).map(|message| message.header().rcode());
    match (soa_serial(octets, zone), rcode) {
        (Some(serial), _) => Verdict::Serves(serial),
        (None, Ok(Rcode::REFUSED | Rcode::NOTAUTH)) => Verdict::Refuses,
        (None, _) => Verdict::Declines,
    }
}

fn message_octets(message: &Relayed) -> &Bytes {
    match message {
        Relayed::Part(octets) | Relayed::Last(octets) => octets,
    }
}

/// An answer to `request` of TXT records with this RDATA.
pub(crate) fn txt<R: AsRef<[u8]>>(request: &Bytes, rdata: &[R]) -> Option<Bytes> {
    let request = Message::from_octets(request.as_ref()).ok()?;
    let mut answer = MessageBuilder::new_vec().start_answer(&request, Rcode::NOERROR).ok()?;
    answer.header_mut().set_aa(true);
    let question = request.sole_question().ok()?;
    for rdata in rdata {
        let data = UnknownRecordData::from_octets(Rtype::TXT, rdata.as_ref()).ok()?;
        answer.push((question.qname(), 0, data)).ok()?;
    }
    Some(answer.finish().into())
}

/// The serial of the SOA that the answer section starts with.
fn soa_serial(octets: &Bytes, zone: &Name) -> Option<Serial> {
    let message = Message::from_octets(octets.as_ref()).ok()?;
    if message.header().rcode() != Rcode::NOERROR || !message.header().aa() {
        return None;
    }
    let first = message.answer().ok()?.next()?.ok()?;
    let record = first.to_record::<Soa<_>>().ok()??;
    let owner = record.owner().to_vec();
    let same = owner.as_slice().eq_ignore_ascii_case(&zone.to_wire());
    same.then(|| Serial::new(record.data().serial().into_int()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::base::{Name as WireName, Serial as WireSerial, Ttl};
    use std::str::FromStr;

    fn answer(rcode: Rcode, authoritative: bool, owner: &str) -> Relayed {
        let owner = WireName::<Vec<u8>>::from_str(owner).unwrap();
        let mut builder = MessageBuilder::new_vec().question();
        builder.header_mut().set_rcode(rcode);
        builder.header_mut().set_aa(authoritative);
        builder.push((&owner, Rtype::SOA)).unwrap();
        let mut builder = builder.answer();
        let zero = Ttl::from_secs(1);
        let soa = Soa::new(owner.clone(), owner.clone(), WireSerial(2024), zero, zero, zero, zero);
        builder.push((&owner, 60, soa)).unwrap();
        Relayed::Last(builder.finish().into())
    }

    #[test]
    fn an_authoritative_soa_of_the_zone_tells_its_serial() {
        let zone = Name::parse("example.com").unwrap();
        let served = Verdict::Serves(Serial::new(2024));
        assert_eq!(judge(&answer(Rcode::NOERROR, true, "Example.COM."), &zone), served);
    }

    #[test]
    fn anything_else_declines() {
        let zone = Name::parse("example.com").unwrap();
        assert_eq!(judge(&answer(Rcode::REFUSED, true, "example.com."), &zone), Verdict::Refuses);
        assert_eq!(judge(&answer(Rcode::SERVFAIL, true, "example.com."), &zone), Verdict::Declines);
        assert_eq!(judge(&answer(Rcode::NOERROR, false, "example.com."), &zone), Verdict::Declines);
        assert_eq!(judge(&answer(Rcode::NOERROR, true, "example.org."), &zone), Verdict::Declines);
        assert_eq!(judge(&Relayed::Last(Bytes::from_static(b"garbage")), &zone), Verdict::Declines);
    }
}
