//! RDATA in canonical wire form (RFC 4034 section 6.2 as amended by RFC 6840 section 5.1): uncompressed, with the
//! names that are compared without case in lower case.
//!
//! ```text
//!   typed values ─┐                      layout   types that are a sequence of simple fields (one table row each)
//!   wire form ────┼─► Rdata ─► text      other    types with a grammar of their own: the `domain` crate's
//!   text ─────────┘                      \# n hex any type (RFC 3597 section 5)
//! ```

mod layout;
mod other;

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use domain::base::iana::Rtype;

use crate::name::{Name, NameError};
use crate::text::{Entries, SyntaxError, Token, excerpt};

/// Octets that the data of one record may have.
const MAX_LENGTH: usize = 65_535;
/// Octets that one character-string may have (RFC 1035 section 3.3).
const MAX_TEXT: usize = 255;

/// The data of one record in canonical wire form; at most 65535 octets.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rdata(Box<[u8]>);

/// Why data cannot be a record's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RdataError {
    /// Longer than a record can be.
    #[error("the data has {0} octets; a record has at most 65535: spread it over more records")]
    TooLong(usize),
    /// A TXT record without any string.
    #[error("there is no text: give at least one string, which may be empty")]
    NoText,
    /// One string of a zone file over 255 octets.
    #[error(
        "a string of {rtype} data has {length} octets; one string has at most 255 (RFC 1035 section 3.3): split it \
         into several quoted strings"
    )]
    TextTooLong {
        /// Type of the record.
        rtype: Rtype,
        /// Octets of the string.
        length: usize,
    },
    /// A CAA tag that is empty or has other characters than letters and digits.
    #[error("{0:?} is not a CAA tag: use letters and digits, as in issue, issuewild or iodef")]
    Tag(String),
    /// Wire form that ends too early or has octets too many at a field.
    #[error("not the wire form of {rtype} data: the {field} is malformed")]
    Wire {
        /// Type of the record.
        rtype: Rtype,
        /// The first field that cannot be read.
        field: &'static str,
    },
    /// Text without a field that the type has.
    #[error("{rtype} data lacks its {field}")]
    Missing {
        /// Type of the record.
        rtype: Rtype,
        /// The first field that is not there.
        field: &'static str,
    },
    /// Text with more fields than the type has.
    #[error("{rtype} data ends before {text:?}: remove it, or put text with spaces in quotes")]
    Extra {
        /// Type of the record.
        rtype: Rtype,
        /// The first word too many.
        text: String,
    },
    /// Text of a field that has another form.
    #[error("{text:?} is not the {field} of {rtype} data: expected {expected}")]
    Field {
        /// Type of the record.
        rtype: Rtype,
        /// The field.
        field: &'static str,
        /// What is there.
        text: String,
        /// What should be there.
        expected: &'static str,
    },
    /// Data of a type with a grammar of its own.
    #[error("malformed {rtype} data: {reason}")]
    Malformed {
        /// Type of the record.
        rtype: Rtype,
        /// What is wrong with it.
        reason: String,
    },
    /// `\# LENGTH HEX` that is not.
    #[error("not generic data: write \\# LENGTH HEX with as many octets as LENGTH says (RFC 3597 section 5)")]
    Generic,
    /// A type of questions or of messages, of which a zone has no records.
    #[error("{0} is not a type that records of a zone have")]
    NotForZones(Rtype),
    /// A name within the data.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Text that cannot be split into words.
    #[error(transparent)]
    Syntax(#[from] SyntaxError),
}

impl Rdata {
    /// Takes octets that already are in canonical form.
    pub fn from_canonical(octets: &[u8]) -> Self {
        Self(octets.into())
    }

    /// The octets.
    pub fn as_wire(&self) -> &[u8] {
        &self.0
    }

    /// Number of octets.
    pub fn wire_len(&self) -> u16 {
        u16::try_from(self.0.len()).unwrap_or(u16::MAX)
    }

    /// An A record's (RFC 1035 section 3.4.1).
    pub fn a(address: Ipv4Addr) -> Self {
        Self(address.octets().into())
    }

    /// An AAAA record's (RFC 3596 section 2.2).
    pub fn aaaa(address: Ipv6Addr) -> Self {
        Self(address.octets().into())
    }

    /// The data of CNAME, NS, PTR and DNAME.
    pub fn name(target: &Name) -> Self {
        Self(target.to_wire().into())
    }

    /// An MX record's (RFC 1035 section 3.3.9).
    pub fn mx(preference: u16, server: &Name) -> Self {
        Self::numbers_and_name(&[preference], server)
    }

    /// An SRV record's (RFC 2782).
    pub fn srv(priority: u16, weight: u16, port: u16, target: &Name) -> Self {
        Self::numbers_and_name(&[priority, weight, port], target)
    }

    fn numbers_and_name(numbers: &[u16], name: &Name) -> Self {
        let mut wire: Vec<u8> = numbers.iter().flat_map(|number| number.to_be_bytes()).collect();
        name.append_wire(&mut wire);
        Self(wire.into())
    }

    /// A TXT record's (RFC 1035 section 3.3.14); a string over 255 octets becomes several that follow each other.
    pub fn txt(strings: &[&[u8]]) -> Result<Self, RdataError> {
        let mut wire = Vec::new();
        for string in strings {
            // An empty string has no chunk, but is one string of length zero.
            let empty: Option<&[u8]> = string.is_empty().then_some(&[]);
            for chunk in string.chunks(MAX_TEXT).chain(empty) {
                wire.push(u8::try_from(chunk.len()).unwrap_or(u8::MAX));
                wire.extend(chunk);
            }
        }
        if wire.is_empty() { Err(RdataError::NoText) } else { Self::bounded(wire) }
    }

    /// A CAA record's (RFC 8659 section 4.1).
    pub fn caa(flags: u8, tag: &str, value: &[u8]) -> Result<Self, RdataError> {
        let length = u8::try_from(tag.len())
            .ok()
            .filter(|_| layout::is_tag(tag.as_bytes()))
            .ok_or_else(|| RdataError::Tag(excerpt(tag)))?;
        let mut wire = vec![flags, length];
        wire.extend(tag.as_bytes());
        wire.extend(value);
        Self::bounded(wire)
    }

    fn bounded(wire: Vec<u8>) -> Result<Self, RdataError> {
        if wire.len() > MAX_LENGTH { Err(RdataError::TooLong(wire.len())) } else { Ok(Self(wire.into())) }
    }

    /// Checks the uncompressed wire form of a known type and makes it canonical; data of other types is opaque
    /// (RFC 3597 section 7).
    pub fn from_wire(rtype: Rtype, wire: &[u8]) -> Result<Self, RdataError> {
        if !is_for_zones(rtype) {
            return Err(RdataError::NotForZones(rtype));
        }
        if wire.len() > MAX_LENGTH {
            return Err(RdataError::TooLong(wire.len()));
        }
        let canonical = match layout::fields(rtype) {
            Some(fields) => layout::from_wire(rtype, fields, wire)?,
            None => other::from_wire(rtype, wire)?,
        };
        Ok(Self(canonical.into()))
    }

    /// Reads the presentation form of a type, or the generic form `\# LENGTH HEX`; names without a dot at their end
    /// are relative to `origin`.
    ///
    /// ```
    /// # use bindy_zone::{Name, Rdata, Rtype};
    /// let origin = Name::parse("example.com")?;
    /// let data = Rdata::parse(Rtype::MX, "10 mail", &origin)?;
    /// assert_eq!(data.display(Rtype::MX).to_string(), "10 mail.example.com.");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn parse(rtype: Rtype, text: &str, origin: &Name) -> Result<Self, RdataError> {
        let mut entries = Entries::new(text);
        let tokens = match entries.next_entry() {
            Some(entry) => entry.map_err(|(_, error)| error)?.tokens,
            None => Vec::new(),
        };
        if entries.next_entry().is_some() {
            return Err(SyntaxError::LineBreak.into());
        }
        Self::from_tokens(rtype, &tokens, origin)
    }

    pub(crate) fn from_tokens(rtype: Rtype, tokens: &[Token<'_>], origin: &Name) -> Result<Self, RdataError> {
        if !is_for_zones(rtype) {
            return Err(RdataError::NotForZones(rtype));
        }
        if let Some((marker, rest)) = tokens.split_first()
            && marker.text == "\\#"
            && !marker.quoted
        {
            return Self::from_wire(rtype, &generic(rest).ok_or(RdataError::Generic)?);
        }
        match layout::fields(rtype) {
            Some(fields) => Self::bounded(layout::from_tokens(rtype, fields, tokens, origin)?),
            None => Self::bounded(other::from_tokens(rtype, tokens, origin)?),
        }
    }

    /// The presentation form for that type, which [`Rdata::parse`] reads back; the generic form where the type has
    /// no other or the data is not of that type.
    pub fn display(&self, rtype: Rtype) -> impl fmt::Display + '_ {
        DisplayRdata { rtype, wire: &self.0 }
    }
}

/// Whether records of a type can be in a zone: not those of meta types (RFC 6895 section 3.1) and OPT.
fn is_for_zones(rtype: Rtype) -> bool {
    !matches!(rtype.to_int(), 0 | 41 | 128..=255)
}

/// LENGTH and HEX; the digits may be in several words.
fn generic(tokens: &[Token<'_>]) -> Option<Vec<u8>> {
    let (length, digits) = tokens.split_first()?;
    let length: u16 = length.text.parse().ok()?;
    let mut nibbles = Vec::with_capacity(usize::from(length) * 2);
    for token in digits {
        for digit in token.text.chars() {
            nibbles.push(u8::try_from(digit.to_digit(16)?).ok()?);
        }
    }
    if nibbles.len() != usize::from(length) * 2 {
        return None;
    }
    Some(
        nibbles
            .chunks_exact(2)
            .map(|pair| pair.iter().fold(0, |octet, nibble| octet << 4 | nibble))
            .collect(),
    )
}

/// The presentation form of canonical wire form.
pub(crate) struct DisplayRdata<'a> {
    pub(crate) rtype: Rtype,
    pub(crate) wire: &'a [u8],
}

impl fmt::Display for DisplayRdata<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match layout::fields(self.rtype) {
            Some(fields) if layout::from_wire(self.rtype, fields, self.wire).is_ok() => {
                return layout::display(fields, self.wire, f);
            }
            Some(_) => {}
            None => {
                if let Some(text) = other::display(self.rtype, self.wire) {
                    return f.write_str(&text);
                }
            }
        }
        write!(f, "\\# {}", self.wire.len())?;
        if !self.wire.is_empty() {
            f.write_str(" ")?;
        }
        self.wire.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

impl fmt::Debug for Rdata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> Name {
        Name::parse("example.com").unwrap()
    }

    fn text(rtype: Rtype, input: &str) -> String {
        let data = Rdata::parse(rtype, input, &origin()).unwrap();
        assert_eq!(Rdata::from_wire(rtype, data.as_wire()).unwrap(), data, "{rtype} {input}");
        let text = data.display(rtype).to_string();
        assert_eq!(Rdata::parse(rtype, &text, &Name::root()).unwrap(), data, "{rtype} {input}");
        text
    }

    #[test]
    fn presentation_forms_are_read_and_written() {
        let cases = [
            ("A", "192.0.2.1", "192.0.2.1"),
            ("AAAA", "2001:DB8:0::1", "2001:db8::1"),
            ("CNAME", "WWW", "www.example.com."),
            ("NS", "@", "example.com."),
            ("MX", "10 Mail.Example.org.", "10 mail.example.org."),
            ("SRV", "1 2 3 .", "1 2 3 ."),
            ("TXT", "a \"b c\" \"\" \\\"\\200", r#""a" "b c" "" "\"\200""#),
            ("TXT", "ü", "\"\\195\\188\""),
            ("CAA", "0 issue \"letsencrypt.org; x=1\"", "0 issue \"letsencrypt.org; x=1\""),
            ("HINFO", "a b", "\"a\" \"b\""),
            ("NAPTR", "1 2 u E2U+sip \"!^.*$!sip:a@b!\" .", "1 2 \"u\" \"E2U+sip\" \"!^.*$!sip:a@b!\" ."),
            ("RP", "host.mail @", "host.mail.example.com. example.com."),
            ("AFSDB", "1 db", "1 db.example.com."),
            ("DS", "1 8 2 (00FF \n AA)", "1 8 2 00FFAA"),
            ("TLSA", "3 1 1 ab", "3 1 1 AB"),
            ("SSHFP", "1 1 abcd", "1 1 ABCD"),
            ("TYPE65280", "\\# 3 (ab CD\n ef)", "\\# 3 abcdef"),
            ("TYPE65280", "\\# 0", "\\# 0"),
            ("A", "\\# 4 c0000201", "192.0.2.1"),
        ];
        for (rtype, input, output) in cases {
            assert_eq!(text(rtype.parse().unwrap(), input), output, "{rtype}");
        }
    }

    #[test]
    fn service_bindings_survive_quoted_parameters() {
        assert!(text(Rtype::HTTPS, "1 . alpn=\"h2,h3\" port=53").starts_with("1 . alpn="));
        assert!(text(Rtype::SVCB, "0 Other").to_lowercase().starts_with("0 other.example.com."));
    }

    #[test]
    fn malformed_text_says_what_is_expected() {
        let cases = [
            ("A", "1.2.3", "\"1.2.3\" is not the IPv4 address of A data: expected an address as 192.0.2.1"),
            ("A", "", "A data lacks its IPv4 address"),
            ("A", "1.2.3.4 5", "A data ends before \"5\": remove it, or put text with spaces in quotes"),
            (
                "MX",
                "70000 a",
                "\"70000\" is not the preference of MX data: expected a number from 0 to 65535",
            ),
            ("MX", "10", "MX data lacks its host"),
            (
                "CAA",
                "0 is-sue x",
                "\"is-sue\" is not the tag of CAA data: expected letters and digits, as in issue",
            ),
            ("ANY", "\\# 0", "ANY is not a type that records of a zone have"),
            ("A", "\\# 3 010203", "not the wire form of A data: the IPv4 address is malformed"),
        ];
        for (rtype, input, message) in cases {
            let error = Rdata::parse(rtype.parse().unwrap(), input, &origin()).unwrap_err();
            assert_eq!(error.to_string(), message);
        }
        let errors = [
            ("CNAME", "a..b"),
            ("TXT", "\"open"),
            ("TXT", "\\300"),
            ("A", "1.2.3.4\n1.2.3.5"),
            ("TYPE65280", "abc"),
            ("TYPE65280", "\\# 2 ab"),
            ("TYPE65280", "\\# 1 zz"),
            ("DS", "1 8"),
        ];
        for (rtype, input) in errors {
            assert!(Rdata::parse(rtype.parse().unwrap(), input, &origin()).is_err(), "{rtype} {input}");
        }
    }

    #[test]
    fn wire_form_is_checked_and_lower_cased() {
        let wire = b"\x00\x0a\x04MAIL\x00";
        assert_eq!(Rdata::from_wire(Rtype::MX, wire).unwrap().as_wire(), b"\x00\x0a\x04mail\x00");
        for wrong in [&wire[..7], b"\x00\x0a\xc0\x00", b"\x00\x0a\x00\x00", b""] {
            assert!(Rdata::from_wire(Rtype::MX, wrong).is_err(), "{wrong:?}");
        }
        // RRSIG: the signer is lower-cased; NSEC: the next name is not (RFC 6840 section 5.1).
        let nsec = b"\x01A\x00\x00\x01\x40";
        assert_eq!(Rdata::from_wire(Rtype::NSEC, nsec).unwrap().as_wire(), nsec);
        let signature =
            [&[0, 1, 8, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 7][..], b"\x01A\x00sig"].concat();
        assert_eq!(
            &Rdata::from_wire(Rtype::RRSIG, &signature).unwrap().as_wire()[18..],
            b"\x01a\x00sig".as_slice()
        );
        assert!(Rdata::from_wire(Rtype::OPT, b"").is_err());
        assert_eq!(Rdata::from_wire(Rtype::from_int(65280), b"Any").unwrap().as_wire(), b"Any");
    }

    #[test]
    fn long_texts_are_split_and_bounded() {
        let long = vec![b'x'; 600];
        let data = Rdata::txt(&[&long, b""]).unwrap();
        let lengths: Vec<usize> =
            [0, 256, 512, 603].iter().map(|&at| usize::from(data.as_wire()[at])).collect();
        assert_eq!(lengths, [255, 255, 90, 0]);
        assert_eq!(Rdata::from_wire(Rtype::TXT, data.as_wire()).unwrap(), data);
        assert_eq!(Rdata::txt(&[]), Err(RdataError::NoText));
        assert!(matches!(Rdata::txt(&[&vec![b'x'; 65_500]]), Err(RdataError::TooLong(_))));
        assert!(matches!(
            Rdata::parse(Rtype::TXT, &"x".repeat(256), &origin()),
            Err(RdataError::TextTooLong { .. })
        ));
        assert_eq!(
            Rdata::caa(0, "issue", b"ca.example").unwrap().display(Rtype::CAA).to_string(),
            "0 issue \"ca.example\""
        );
        assert!(Rdata::caa(0, "", b"x").is_err());
    }
}
