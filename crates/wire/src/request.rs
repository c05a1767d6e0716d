//! What a request asks for, read without any IO.

use bindy_zone::{Name, Rtype, Serial};
use domain::base::iana::Rcode;

use crate::message::{CLASS_IN, FLAG_QR, FLAG_RD, HEADER, Header, Malformed, Question, Reader, soa};
use crate::server::Opcode;

const QUERY: u8 = 0;
const NOTIFY: u8 = 4;

/// A request whose form is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParsedRequest {
    /// What it is.
    pub opcode: Opcode,
    /// The name in question.
    pub name: Name,
    /// The type in question.
    pub rtype: Rtype,
    /// IXFR: the version that the client has. NOTIFY: the version that is announced, where it says so.
    pub serial: Option<Serial>,
}

/// Reads a request. The error is the response code for it; none means that it deserves no answer at all.
pub fn parse_request(message: &[u8]) -> Result<ParsedRequest, Option<Rcode>> {
    let header = Header::parse(message).map_err(|_| None)?;
    if header.is_answer() {
        return Err(None);
    }
    let opcode = match header.opcode() {
        QUERY => Opcode::Query,
        NOTIFY => Opcode::Notify,
        _ => return Err(Some(Rcode::NOTIMP)),
    };
    if header.questions != 1 {
        return Err(Some(Rcode::FORMERR));
    }
    let (question, serial) = read_sections(message, &header).map_err(|_| Some(Rcode::FORMERR))?;
    if question.class != CLASS_IN {
        return Err(Some(Rcode::REFUSED));
    }
    if opcode == Opcode::Query && question.rtype == Rtype::IXFR && serial.is_none() {
        return Err(Some(Rcode::FORMERR));
    }
    Ok(ParsedRequest { opcode, name: question.name, rtype: question.rtype, serial })
}

/// The question, and the serial of the first SOA record in the answer or authority section.
fn read_sections(message: &[u8], header: &Header) -> Result<(Question, Option<Serial>), Malformed> {
    let mut reader = Reader::at(message, HEADER);
    let question = reader.question()?;
    let mut serial = None;
    let before_additionals = u32::from(header.answers) + u32::from(header.authorities);
    for position in 0..before_additionals + u32::from(header.additionals) {
        let record = reader.record()?;
        if record.rtype == Rtype::SOA && position < before_additionals && serial.is_none() {
            serial = Some(soa(message, &record)?.1);
        }
    }
    Ok((question, serial))
}

/// The question section's octets of a request that [`parse_request`] accepted, or as much as there is.
pub(crate) fn question_octets(message: &[u8]) -> &[u8] {
    let mut reader = Reader::at(message, HEADER);
    match reader.question() {
        Ok(_) => message.get(HEADER..reader.position()).unwrap_or_default(),
        Err(_) => &[],
    }
}

/// An answer that consists of a response code.
pub(crate) fn short_answer(request: &[u8], rcode: Rcode, flags: u16) -> Vec<u8> {
    let mut answer = Vec::with_capacity(64);
    let Ok(header) = Header::parse(request) else { return answer };
    let question = if header.questions == 1 { question_octets(request) } else { &[] };
    let flags = FLAG_QR | flags | header.flags & (0x7800 | FLAG_RD) | u16::from(rcode.to_int() & 0xF);
    let questions = u16::from(!question.is_empty());
    Header { id: header.id, flags, questions, answers: 0, authorities: 0, additionals: 0 }
        .append(&mut answer);
    answer.extend(question);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn query(opcode: u16, rtype: u16, class: u16) -> Vec<u8> {
        let mut message = Vec::new();
        let (id, flags) = (7, opcode << 11);
        Header { id, flags, questions: 1, answers: 0, authorities: 0, additionals: 0 }.append(&mut message);
        message.extend(b"\x07eXample\0");
        message.extend(rtype.to_be_bytes());
        message.extend(class.to_be_bytes());
        message
    }

    #[test]
    fn only_queries_and_notifies_of_class_in_pass() {
        let parsed = parse_request(&query(0, 6, 1)).unwrap();
        assert_eq!(parsed.name.to_string(), "example.");
        assert_eq!(parsed.rtype, Rtype::SOA);
        assert_eq!(parse_request(&query(4, 6, 1)).unwrap().opcode, Opcode::Notify);
        assert_eq!(parse_request(&query(5, 6, 1)), Err(Some(Rcode::NOTIMP)));
        assert_eq!(parse_request(&query(0, 6, 3)), Err(Some(Rcode::REFUSED)));
        assert_eq!(parse_request(&query(0, 251, 1)), Err(Some(Rcode::FORMERR)), "IXFR without a serial");
        assert_eq!(parse_request(&[0; 11]), Err(None));
        let mut answer = query(0, 6, 1);
        answer[2] |= 0x80;
        assert_eq!(parse_request(&answer), Err(None));
    }

    #[test]
    fn wrong_counts_are_format_errors() {
        for position in [5, 7, 9, 11] {
            let mut message = query(0, 6, 1);
            message[position] += 1;
            assert_eq!(parse_request(&message), Err(Some(Rcode::FORMERR)));
        }
    }

    proptest! {
        #[test]
        fn no_request_makes_parsing_panic(octets in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = parse_request(&octets);
            let _ = short_answer(&octets, Rcode::FORMERR, 0);
        }

        #[test]
        fn damaged_requests_never_panic(position in 0usize..29, octet: u8, cut in 0usize..30) {
            let mut message = query(0, 6, 1);
            if let Some(target) = message.get_mut(position) { *target = octet; }
            message.truncate(cut);
            let _ = parse_request(&message);
        }
    }
}
