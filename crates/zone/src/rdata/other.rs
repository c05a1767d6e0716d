//! The record types with data of their own grammar (DNSSEC, TLSA, SVCB …), as the `domain` crate knows them.

use bytes::Bytes;
use domain::base::ParseRecordData;
use domain::base::iana::{Class, Rtype};
use domain::base::name::ParsedName;
use domain::base::rdata::ComposeRecordData;
use domain::base::zonefile_fmt::{DisplayKind, ZonefileFmt};
use domain::dep::octseq::Parser;
use domain::rdata::ZoneRecordData;
use domain::zonefile::inplace::{Entry, Zonefile};

use super::RdataError;
use crate::name::Name;
use crate::text::Token;

type Parsed<'a> = ZoneRecordData<&'a [u8], ParsedName<&'a [u8]>>;

fn parse(rtype: Rtype, wire: &[u8]) -> Result<Parsed<'_>, RdataError> {
    let malformed = |reason: String| RdataError::Malformed { rtype, reason };
    let mut parser = Parser::from_ref(wire);
    let data = Parsed::parse_rdata(rtype, &mut parser).map_err(|error| malformed(error.to_string()))?;
    match data {
        Some(data) if parser.remaining() == 0 => Ok(data),
        _ => Err(malformed("there are octets after its end".to_owned())),
    }
}

/// Checks wire form and returns its canonical form; types that nobody knows are opaque (RFC 3597 section 7).
pub(super) fn from_wire(rtype: Rtype, wire: &[u8]) -> Result<Vec<u8>, RdataError> {
    let data = parse(rtype, wire)?;
    let malformed = |reason: &str| RdataError::Malformed { rtype, reason: reason.to_owned() };
    let (mut plain, mut canonical) = (Vec::new(), Vec::new());
    data.compose_rdata(&mut plain).map_err(|_| malformed("it is too long"))?;
    if plain != wire {
        return Err(malformed("its names are compressed, or a field has another length than its contents"));
    }
    data.compose_canonical_rdata(&mut canonical).map_err(|_| malformed("it is too long"))?;
    Ok(canonical)
}

/// Reads the presentation form of a type that has one in the `domain` crate.
pub(super) fn from_tokens(rtype: Rtype, tokens: &[Token<'_>], origin: &Name) -> Result<Vec<u8>, RdataError> {
    let mut text = format!(". 0 IN {rtype}");
    for token in tokens {
        if !token.joined {
            text.push(' ');
        }
        let quote = if token.quoted { "\"" } else { "" };
        text.extend([quote, token.text, quote]);
    }
    text.push('\n');
    let malformed = |reason: String| RdataError::Malformed { rtype, reason };
    let mut zone = Zonefile::from(text.as_str());
    let origin = domain::base::Name::from_octets(Bytes::from(origin.to_wire()))
        .map_err(|error| malformed(error.to_string()))?;
    zone.set_origin(origin);
    zone.set_default_class(Class::IN);
    let entry = zone.next_entry().map_err(|error| malformed(reason(&error.to_string())))?;
    let Some(Entry::Record(record)) = entry else { return Err(malformed("there is no data".to_owned())) };
    let mut wire = Vec::new();
    record.data().compose_rdata(&mut wire).map_err(|_| malformed("it is too long".to_owned()))?;
    from_wire(rtype, &wire)
}

/// The scanner's message without its position, which counts in the line made above.
fn reason(error: &str) -> String {
    let text = error.trim_start_matches(|character: char| character.is_ascii_digit() || character == ':');
    match text.trim() {
        "unknown record type with concrete data" => {
            "no text form of this type is known: write \\# LENGTH HEX (RFC 3597 section 5)".to_owned()
        }
        text => text.to_owned(),
    }
}

/// The presentation form, where there is one that is read back as the same data.
pub(super) fn display(rtype: Rtype, wire: &[u8]) -> Option<String> {
    let data = parse(rtype, wire).ok().filter(|data| !matches!(data, ZoneRecordData::Unknown(_)))?;
    let text = data.display_zonefile(DisplayKind::Simple).to_string();
    let read = super::Rdata::parse(rtype, &text, &Name::root()).ok()?;
    (read.as_wire() == wire).then_some(text)
}
