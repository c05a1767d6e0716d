//! The record types whose data is a fixed sequence of simple fields: one table row per type.
//!
//! Every name in these types is compared without regard to case (RFC 4034 section 6.2), so reading a field from
//! either form yields its canonical wire form. Types that are not in the table are the `domain` crate's.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use domain::base::iana::Rtype;

use super::RdataError;
use crate::name::Name;
use crate::text::{Token, excerpt, parse_period, write_quoted};

/// One field of a record's data, with the name that error messages use.
#[derive(Clone, Copy)]
pub(super) enum Field {
    Ipv4,
    Ipv6,
    U8(&'static str),
    U16(&'static str),
    U32(&'static str),
    /// Seconds; text may have units.
    Period(&'static str),
    Name(&'static str),
    /// One character-string.
    Text(&'static str),
    /// All remaining character-strings, at least one.
    Texts,
    /// The tag of CAA: letters and digits (RFC 8659 section 4.1).
    Tag,
    /// All remaining octets, one quoted string in text.
    Rest(&'static str),
}

use Field::{Ipv4, Ipv6, Period, Rest, Tag, Text, Texts, U8, U16, U32};

/// The fields of a type; `None` where the type is not in the table.
pub(super) fn fields(rtype: Rtype) -> Option<&'static [Field]> {
    const fn name(field: &'static str) -> Field {
        Field::Name(field)
    }
    Some(match rtype {
        Rtype::A => &[Ipv4],
        Rtype::AAAA => &[Ipv6],
        Rtype::NS => const { &[name("name server")] },
        Rtype::CNAME | Rtype::DNAME | Rtype::PTR => const { &[name("target")] },
        Rtype::MD | Rtype::MF | Rtype::MB | Rtype::MG | Rtype::MR => const { &[name("host")] },
        Rtype::MX | Rtype::KX | Rtype::RT => const { &[U16("preference"), name("host")] },
        Rtype::AFSDB => const { &[U16("subtype"), name("host")] },
        Rtype::RP => const { &[name("mailbox"), name("name of its text")] },
        Rtype::MINFO => const { &[name("mailbox"), name("error mailbox")] },
        Rtype::PX => const { &[U16("preference"), name("RFC 822 domain"), name("X.400 domain")] },
        Rtype::SRV => const { &[U16("priority"), U16("weight"), U16("port"), name("target")] },
        Rtype::TXT | Rtype::SPF => &[Texts],
        Rtype::HINFO => &[Text("CPU"), Text("operating system")],
        Rtype::CAA => &[U8("flags"), Tag, Rest("value")],
        Rtype::NAPTR => {
            const {
                &[
                    U16("order"),
                    U16("preference"),
                    Text("flags"),
                    Text("services"),
                    Text("regular expression"),
                    name("replacement"),
                ]
            }
        }
        Rtype::SOA => {
            const {
                &[
                    name("primary server"),
                    name("mailbox"),
                    U32("serial"),
                    Period("refresh"),
                    Period("retry"),
                    Period("expire"),
                    Period("negative TTL"),
                ]
            }
        }
        _ => return None,
    })
}

/// Reads all `fields` from wire form and returns the canonical form.
pub(super) fn from_wire(rtype: Rtype, fields: &[Field], wire: &[u8]) -> Result<Vec<u8>, RdataError> {
    let mut canonical = Vec::with_capacity(wire.len());
    let mut rest = wire;
    for field in fields {
        rest = field
            .copy(rest, &mut canonical)
            .ok_or_else(|| RdataError::Wire { rtype, field: field.name() })?;
    }
    if rest.is_empty() { Ok(canonical) } else { Err(RdataError::Wire { rtype, field: "end" }) }
}

/// Reads all `fields` from `tokens` and returns the canonical wire form.
pub(super) fn from_tokens(
    rtype: Rtype,
    fields: &[Field],
    tokens: &[Token<'_>],
    origin: &Name,
) -> Result<Vec<u8>, RdataError> {
    let mut wire = Vec::new();
    let mut tokens = tokens.iter();
    for field in fields {
        let token = tokens.next().ok_or_else(|| RdataError::Missing { rtype, field: field.name() })?;
        field.read(rtype, token, origin, &mut wire)?;
        if matches!(field, Texts) {
            tokens.by_ref().try_for_each(|token| field.read(rtype, token, origin, &mut wire))?;
        }
    }
    match tokens.next() {
        Some(token) => Err(RdataError::Extra { rtype, text: excerpt(token.text) }),
        None => Ok(wire),
    }
}

/// Writes the presentation form of canonical data; an error if it is not data of these fields.
pub(super) fn display(fields: &[Field], wire: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut rest = wire;
    for (position, field) in fields.iter().enumerate() {
        if position > 0 {
            f.write_str(" ")?;
        }
        rest = field.write(rest, f)?;
    }
    Ok(())
}

impl Field {
    pub(super) fn name(self) -> &'static str {
        match self {
            Ipv4 => "IPv4 address",
            Ipv6 => "IPv6 address",
            Texts => "text",
            Tag => "tag",
            U8(name) | U16(name) | U32(name) | Period(name) => name,
            Field::Name(name) | Text(name) | Rest(name) => name,
        }
    }

    /// Octets of a field of fixed length.
    fn fixed(self) -> Option<usize> {
        match self {
            U8(_) => Some(1),
            U16(_) => Some(2),
            Ipv4 | U32(_) | Period(_) => Some(4),
            Ipv6 => Some(16),
            Field::Name(_) | Text(_) | Texts | Tag | Rest(_) => None,
        }
    }

    /// Copies this field in canonical form from the start of `wire` and returns what follows it.
    fn copy<'a>(self, wire: &'a [u8], canonical: &mut Vec<u8>) -> Option<&'a [u8]> {
        let (field, rest) = match self {
            Field::Name(_) => {
                let (name, rest) = Name::split_wire(wire).ok()?;
                name.append_wire(canonical);
                return Some(rest);
            }
            Text(_) => wire.split_at_checked(split_text(wire)?.0.len() + 1)?,
            Tag => {
                let (tag, _) = split_text(wire).filter(|(tag, _)| is_tag(tag))?;
                wire.split_at_checked(tag.len() + 1)?
            }
            Texts => {
                let mut rest = split_text(wire)?.1;
                while !rest.is_empty() {
                    rest = split_text(rest)?.1;
                }
                (wire, rest)
            }
            Rest(_) => wire.split_at_checked(wire.len())?,
            Ipv4 | Ipv6 | U8(_) | U16(_) | U32(_) | Period(_) => wire.split_at_checked(self.fixed()?)?,
        };
        canonical.extend(field);
        Some(rest)
    }

    fn read(
        self,
        rtype: Rtype,
        token: &Token<'_>,
        origin: &Name,
        wire: &mut Vec<u8>,
    ) -> Result<(), RdataError> {
        let wrong =
            |expected| RdataError::Field { rtype, field: self.name(), text: excerpt(token.text), expected };
        let text = token.text;
        match self {
            Ipv4 => {
                wire.extend(text.parse::<Ipv4Addr>().map_err(|_| wrong("an address as 192.0.2.1"))?.octets());
            }
            Ipv6 => {
                wire.extend(
                    text.parse::<Ipv6Addr>().map_err(|_| wrong("an address as 2001:db8::1"))?.octets(),
                );
            }
            U8(_) => wire.push(text.parse().map_err(|_| wrong("a number from 0 to 255"))?),
            U16(_) => {
                wire.extend(
                    text.parse::<u16>().map_err(|_| wrong("a number from 0 to 65535"))?.to_be_bytes(),
                );
            }
            U32(_) => wire.extend(
                text.parse::<u32>().map_err(|_| wrong("a number from 0 to 4294967295"))?.to_be_bytes(),
            ),
            Period(_) => wire.extend(
                parse_period(text).ok_or_else(|| wrong("seconds, or a time as 1h30m"))?.to_be_bytes(),
            ),
            Field::Name(_) if token.quoted => return Err(wrong("a domain name without quotes")),
            Field::Name(_) => Name::parse_in(text, origin)?.append_wire(wire),
            Text(_) | Texts => {
                let octets = token.octets()?;
                let length = u8::try_from(octets.len())
                    .map_err(|_| RdataError::TextTooLong { rtype, length: octets.len() })?;
                wire.push(length);
                wire.extend(octets);
            }
            Tag => {
                let octets = token.octets()?;
                let length = u8::try_from(octets.len())
                    .ok()
                    .filter(|_| is_tag(&octets))
                    .ok_or_else(|| wrong("letters and digits, as in issue"))?;
                wire.push(length);
                wire.extend(octets);
            }
            Rest(_) => wire.extend(token.octets()?),
        }
        Ok(())
    }

    fn write<'a>(self, wire: &'a [u8], f: &mut fmt::Formatter<'_>) -> Result<&'a [u8], fmt::Error> {
        match self {
            Field::Name(_) => {
                let (name, rest) = Name::split_wire(wire).map_err(|_| fmt::Error)?;
                write!(f, "{name}")?;
                Ok(rest)
            }
            Text(_) => {
                let (text, rest) = split_text(wire).ok_or(fmt::Error)?;
                write_quoted(text, f)?;
                Ok(rest)
            }
            Tag => {
                let (tag, rest) = split_text(wire).ok_or(fmt::Error)?;
                f.write_str(&String::from_utf8_lossy(tag))?;
                Ok(rest)
            }
            Texts => {
                let (text, mut rest) = split_text(wire).ok_or(fmt::Error)?;
                write_quoted(text, f)?;
                while !rest.is_empty() {
                    let (text, after) = split_text(rest).ok_or(fmt::Error)?;
                    f.write_str(" ")?;
                    write_quoted(text, f)?;
                    rest = after;
                }
                Ok(rest)
            }
            Rest(_) => write_quoted(wire, f).map(|()| [].as_slice()),
            Ipv4 => {
                let (octets, rest) = wire.split_first_chunk::<4>().ok_or(fmt::Error)?;
                write!(f, "{}", Ipv4Addr::from(*octets))?;
                Ok(rest)
            }
            Ipv6 => {
                let (octets, rest) = wire.split_first_chunk::<16>().ok_or(fmt::Error)?;
                write!(f, "{}", Ipv6Addr::from(*octets))?;
                Ok(rest)
            }
            U8(_) | U16(_) | U32(_) | Period(_) => {
                let length = self.fixed().ok_or(fmt::Error)?;
                let (octets, rest) = wire.split_at_checked(length).ok_or(fmt::Error)?;
                write!(f, "{}", octets.iter().fold(0u32, |value, &octet| value << 8 | u32::from(octet)))?;
                Ok(rest)
            }
        }
    }
}

fn split_text(wire: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&length, rest) = wire.split_first()?;
    rest.split_at_checked(usize::from(length))
}

/// RFC 8659 section 4.1: letters and digits, at least one.
pub(super) fn is_tag(tag: &[u8]) -> bool {
    !tag.is_empty() && tag.iter().all(u8::is_ascii_alphanumeric)
}
