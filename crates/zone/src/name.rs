//! Domain names in the form that this crate sorts and shares them.
//!
//! A name is kept as its labels from the root downwards, lower-case, each ended by a zero octet. Octets 0 and 1
//! inside a label are escaped (`01 01` and `01 02`), so that comparing two keys octet by octet is the canonical
//! order of RFC 4034 section 6.1, a parent is a prefix of its descendants, and joining a zone's key with the key of
//! an owner name relative to it gives the absolute name.

use std::fmt;

use crate::octets::Octets;
use crate::text::excerpt;

/// Octets a name may have in wire form, the root label included (RFC 1035 section 2.3.4).
const MAX_WIRE: usize = 255;
/// Octets a label may have (RFC 1035 section 2.3.4).
const MAX_LABEL: usize = 63;

/// Why a text or wire form is not a usable name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Two dots in a row, or a dot at the start.
    #[error("{0:?} has an empty label: remove the extra dot")]
    EmptyLabel(String),
    /// A label over 63 octets.
    #[error("the label {label:?} has {length} octets; a label has at most 63 (RFC 1035 section 2.3.4)")]
    LabelTooLong {
        /// The label as it was written.
        label: String,
        /// Its length in octets.
        length: usize,
    },
    /// A name over 255 octets in wire form.
    #[error("{name:?} has {length} octets on the wire; a name has at most 255 (RFC 1035 section 2.3.4)")]
    NameTooLong {
        /// The name as it was written.
        name: String,
        /// Its length in octets, the root label included.
        length: usize,
    },
    /// A backslash that starts neither `\DDD` nor `\X`.
    #[error(
        "{0:?} ends in an unfinished escape: write \\\\ for a backslash, \\DDD for an octet (RFC 1035 section 5.1)"
    )]
    BadEscape(String),
    /// A character that has to be written as an escape or in punycode.
    #[error(
        "{name:?} contains {character:?}: write names in ASCII (IDNs in their xn-- form) and other octets as \\DDD"
    )]
    BadCharacter {
        /// The name as it was written.
        name: String,
        /// The first offending character.
        character: char,
    },
    /// An absolute name that is not below the zone it was written for.
    #[error("{name} is outside of zone {zone}: use a name relative to the zone, or one that ends in {zone}")]
    OutOfZone {
        /// The absolute name.
        name: Name,
        /// The apex of the zone.
        zone: Name,
    },
    /// A wire form that is cut short or has compression pointers.
    #[error("not an uncompressed name in wire form")]
    BadWire,
}

/// An absolute domain name, lower-case, in canonical order.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Octets);

/// A name relative to the apex of its zone; the empty one is the apex itself.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OwnerName(Octets);

impl Name {
    /// The root of the name space.
    pub fn root() -> Self {
        Self(Octets::default())
    }

    /// Reads a name in presentation form (RFC 1035 section 5.1); it is absolute with or without the last dot.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let relative = text.strip_suffix('.').filter(|rest| !ends_in_escape(rest)).unwrap_or(text);
        if relative.is_empty() {
            return if text == "." { Ok(Self::root()) } else { Err(NameError::EmptyLabel(excerpt(text))) };
        }
        let labels = split_labels(relative, text)?;
        Self::from_labels(labels.iter().map(Vec::as_slice), text)
    }

    /// Reads a name in a zone file: `@` is `origin`, a name without a dot at its end is relative to it.
    pub fn parse_in(text: &str, origin: &Name) -> Result<Self, NameError> {
        let absolute = text.strip_suffix('.').is_some_and(|rest| !ends_in_escape(rest));
        if absolute { Self::parse(text) } else { Ok(OwnerName::parse(text, origin)?.in_zone(origin)) }
    }

    /// Reads an uncompressed wire form that ends with the root label, and nothing after it.
    pub fn from_wire(wire: &[u8]) -> Result<Self, NameError> {
        let (name, rest) = Self::split_wire(wire)?;
        if rest.is_empty() { Ok(name) } else { Err(NameError::BadWire) }
    }

    /// Reads an uncompressed wire form from the start of `wire` and returns what follows it.
    pub fn split_wire(wire: &[u8]) -> Result<(Self, &[u8]), NameError> {
        let mut labels = Vec::new();
        let mut rest = wire;
        loop {
            let (&length, after) = rest.split_first().ok_or(NameError::BadWire)?;
            if length == 0 {
                rest = after;
                break;
            }
            if usize::from(length) > MAX_LABEL || after.len() < usize::from(length) {
                return Err(NameError::BadWire);
            }
            let (label, after) = after.split_at(usize::from(length));
            labels.push(label);
            rest = after;
        }
        if wire.len() - rest.len() > MAX_WIRE {
            return Err(NameError::BadWire);
        }
        Ok((Self::from_labels(labels.into_iter(), "")?, rest))
    }

    fn from_labels<'a>(
        labels: impl DoubleEndedIterator<Item = &'a [u8]>,
        text: &str,
    ) -> Result<Self, NameError> {
        let mut key = Vec::new();
        let mut wire = 1;
        for label in labels.rev() {
            if label.len() > MAX_LABEL {
                let shown = excerpt(&String::from_utf8_lossy(label));
                return Err(NameError::LabelTooLong { label: shown, length: label.len() });
            }
            wire += label.len() + 1;
            push_label(&mut key, label);
        }
        if wire > MAX_WIRE {
            return Err(NameError::NameTooLong { name: excerpt(text), length: wire });
        }
        Ok(Self(key.into()))
    }

    /// The wire form: uncompressed, lower-case, ended by the root label.
    pub fn to_wire(&self) -> Vec<u8> {
        let mut wire = Vec::with_capacity(self.0.len() + 1);
        self.append_wire(&mut wire);
        wire
    }

    /// Appends the wire form to `wire`.
    pub fn append_wire(&self, wire: &mut Vec<u8>) {
        append_labels(&self.0, wire);
        wire.push(0);
    }

    /// Whether this name is `ancestor` or below it.
    pub fn is_within(&self, ancestor: &Name) -> bool {
        self.0.starts_with(&ancestor.0)
    }

    /// This name relative to `zone`, if it is within it.
    pub fn relative_to(&self, zone: &Name) -> Option<OwnerName> {
        self.0.strip_prefix(&*zone.0).map(|key| OwnerName(key.into()))
    }

    /// The next name towards the root; `None` for the root.
    pub fn parent(&self) -> Option<Name> {
        parent_key(&self.0).map(|key| Self(key.into()))
    }

    /// Whether the first label is `*`.
    pub fn is_wildcard(&self) -> bool {
        labels(&self.0).last() == Some(b"*")
    }

    /// Number of labels, the root not counted.
    pub fn label_count(&self) -> usize {
        labels(&self.0).count()
    }
}

impl OwnerName {
    /// The apex of the zone.
    pub fn apex() -> Self {
        Self(Octets::default())
    }

    /// Reads the owner name of a record in `zone`: `@` or nothing is the apex, a name with a dot at its end is
    /// absolute and has to be within the zone, anything else is relative to it.
    pub fn parse(text: &str, zone: &Name) -> Result<Self, NameError> {
        if text.is_empty() || text == "@" {
            return Ok(Self::apex());
        }
        if text.ends_with('.') && !ends_in_escape(text.strip_suffix('.').unwrap_or(text)) {
            let name = Name::parse(text)?;
            return name.relative_to(zone).ok_or_else(|| NameError::OutOfZone { name, zone: zone.clone() });
        }
        let labels = split_labels(text, text)?;
        let relative = Name::from_labels(labels.iter().map(Vec::as_slice), text)?;
        Self(relative.0).checked_in(zone)
    }

    /// This owner name, unless it is too long for a name in `zone`.
    pub(crate) fn checked_in(self, zone: &Name) -> Result<Self, NameError> {
        let length = self.wire_len(zone);
        if length > MAX_WIRE {
            return Err(NameError::NameTooLong { name: format!("{self}.{zone}"), length });
        }
        Ok(self)
    }

    /// The absolute name of this owner in `zone`.
    pub fn in_zone(&self, zone: &Name) -> Name {
        if self.is_apex() {
            return zone.clone();
        }
        Name([&*zone.0, &*self.0].concat().into())
    }

    /// Appends the absolute name's wire form to `wire`.
    pub fn append_wire(&self, zone: &Name, wire: &mut Vec<u8>) {
        append_labels(&self.0, wire);
        zone.append_wire(wire);
    }

    fn wire_len(&self, zone: &Name) -> usize {
        let octets = |key: &[u8]| labels(key).map(|label| unescaped(label).count() + 1).sum::<usize>();
        octets(&self.0) + octets(&zone.0) + 1
    }

    /// Whether this is the apex of the zone.
    pub fn is_apex(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this name is `ancestor` or below it.
    pub fn is_within(&self, ancestor: &OwnerName) -> bool {
        self.0.starts_with(&ancestor.0)
    }

    /// The next name towards the apex; `None` for the apex.
    pub fn parent(&self) -> Option<OwnerName> {
        parent_key(&self.0).map(|key| Self(key.into()))
    }

    /// Whether the first label is `*` (RFC 4592 section 2.1.1).
    pub fn is_wildcard(&self) -> bool {
        labels(&self.0).last() == Some(b"*")
    }

    /// The wildcard below this name, for looking it up: it is not checked to be short enough for a name.
    pub fn wildcard(&self) -> Self {
        Self([&*self.0, b"*\0"].concat().into())
    }
}

/// Whether `text` ends in an odd number of backslashes, so that they escape what follows.
fn ends_in_escape(text: &str) -> bool {
    text.bytes().rev().take_while(|&b| b == b'\\').count() % 2 == 1
}

/// The labels of a presentation form without a last dot, escapes resolved, in the order they are written.
fn split_labels(text: &str, whole: &str) -> Result<Vec<Vec<u8>>, NameError> {
    let mut labels = vec![Vec::new()];
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        let octet = match character {
            '.' => {
                labels.push(Vec::new());
                continue;
            }
            '\\' => read_escape(&mut characters).ok_or_else(|| NameError::BadEscape(excerpt(whole)))?,
            '!'..='~' => character as u8,
            _ => return Err(NameError::BadCharacter { name: excerpt(whole), character }),
        };
        if let Some(label) = labels.last_mut() {
            label.push(octet);
        }
    }
    if labels.iter().any(Vec::is_empty) {
        return Err(NameError::EmptyLabel(excerpt(whole)));
    }
    Ok(labels)
}

/// What follows a backslash: three decimal digits, or one character that stands for itself.
fn read_escape(characters: &mut std::str::Chars<'_>) -> Option<u8> {
    let first = characters.next()?;
    let Some(hundreds) = first.to_digit(10) else {
        return u8::try_from(first).ok().filter(u8::is_ascii);
    };
    let tens = characters.next()?.to_digit(10)?;
    let ones = characters.next()?.to_digit(10)?;
    u8::try_from(hundreds * 100 + tens * 10 + ones).ok()
}

fn push_label(key: &mut Vec<u8>, label: &[u8]) {
    for octet in label {
        match octet.to_ascii_lowercase() {
            0 => key.extend([1, 1]),
            1 => key.extend([1, 2]),
            octet => key.push(octet),
        }
    }
    key.push(0);
}

/// The escaped labels of a key from the root downwards.
fn labels(key: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    key.strip_suffix(&[0]).into_iter().flat_map(|key| key.split(|&octet| octet == 0))
}

fn unescaped(label: &[u8]) -> impl Iterator<Item = u8> + Clone {
    let mut octets = label.iter().copied();
    std::iter::from_fn(move || match octets.next()? {
        1 => octets.next().map(|escape| escape - 1),
        octet => Some(octet),
    })
}

fn append_labels(key: &[u8], wire: &mut Vec<u8>) {
    for label in labels(key).rev() {
        let start = wire.len();
        wire.push(0);
        wire.extend(unescaped(label));
        let length = wire.len() - start - 1;
        if let Some(first) = wire.get_mut(start) {
            *first = u8::try_from(length).unwrap_or(0);
        }
    }
}

fn parent_key(key: &[u8]) -> Option<&[u8]> {
    let (_, rest) = key.split_last()?;
    let cut = rest.iter().rposition(|&octet| octet == 0).map_or(0, |position| position + 1);
    rest.get(..cut)
}

fn write_labels(key: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (position, label) in labels(key).rev().enumerate() {
        if position > 0 {
            f.write_str(".")?;
        }
        for octet in unescaped(label) {
            match octet {
                b'.' | b'\\' | b'"' | b'(' | b')' | b';' | b'@' | b'$' => write!(f, "\\{}", octet as char)?,
                b'!'..=b'~' => write!(f, "{}", octet as char)?,
                _ => write!(f, "\\{octet:03}")?,
            }
        }
    }
    Ok(())
}

/// Presentation form with the last dot.
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_labels(&self.0, f)?;
        f.write_str(".")
    }
}

/// Presentation form relative to the zone; `@` for the apex.
impl fmt::Display for OwnerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_apex() { f.write_str("@") } else { write_labels(&self.0, f) }
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for OwnerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    #[test]
    fn canonical_order_is_that_of_rfc_4034() {
        let sorted = [
            "example.",
            "a.example.",
            "yljkjljk.a.example.",
            "Z.a.example.",
            "zABC.a.EXAMPLE.",
            "z.example.",
            "\\001.z.example.",
            "*.z.example.",
            "\\200.z.example.",
        ];
        let names: Vec<Name> = sorted.iter().map(|text| name(text)).collect();
        assert!(names.is_sorted(), "{names:?}");
    }

    #[test]
    fn zero_and_one_octets_keep_order_and_survive_the_wire() {
        let names =
            ["\\000.example.", "\\000\\000.example.", "\\001.example.", "\\001a.example.", "a.example."];
        let names: Vec<Name> = names.iter().map(|text| name(text)).collect();
        assert!(names.is_sorted(), "{names:?}");
        for name in names {
            assert_eq!(Name::from_wire(&name.to_wire()).unwrap(), name);
            assert_eq!(Name::parse(&name.to_string()).unwrap(), name);
        }
    }

    #[test]
    fn owner_names_are_relative_absolute_or_apex() {
        let zone = name("example.com");
        assert!(OwnerName::parse("@", &zone).unwrap().is_apex());
        assert!(OwnerName::parse("", &zone).unwrap().is_apex());
        assert!(OwnerName::parse("EXAMPLE.com.", &zone).unwrap().is_apex());
        assert_eq!(OwnerName::parse("www.example.com.", &zone).unwrap().to_string(), "www");
        assert_eq!(
            OwnerName::parse("www.example.com", &zone).unwrap().in_zone(&zone),
            name("www.example.com.example.com")
        );
        assert!(matches!(OwnerName::parse("www.example.org.", &zone), Err(NameError::OutOfZone { .. })));
        assert!(matches!(OwnerName::parse("notexample.com.", &zone), Err(NameError::OutOfZone { .. })));
    }

    #[test]
    fn lengths_and_forms_are_checked() {
        let zone = name("example.com");
        assert!(matches!(Name::parse("a..b"), Err(NameError::EmptyLabel(_))));
        assert!(matches!(Name::parse(&"a".repeat(64)), Err(NameError::LabelTooLong { length: 64, .. })));
        let long = vec!["a".repeat(60); 4].join(".");
        assert!(Name::parse(&long).is_ok());
        assert!(matches!(OwnerName::parse(&long, &zone), Err(NameError::NameTooLong { length: 257, .. })));
        assert!(matches!(Name::parse("a\\"), Err(NameError::BadEscape(_))));
        assert!(matches!(Name::parse("a\\25"), Err(NameError::BadEscape(_))));
        assert!(matches!(Name::parse("a\\256.b"), Err(NameError::BadEscape(_))));
        assert!(matches!(Name::parse("bücher.example"), Err(NameError::BadCharacter { character: 'ü', .. })));
        assert!(matches!(Name::parse("a b.example"), Err(NameError::BadCharacter { character: ' ', .. })));
        assert_eq!(name("a\\.b.c").label_count(), 2);
    }

    #[test]
    fn parents_and_prefixes() {
        let zone = name("example.com");
        let owner = OwnerName::parse("a.b", &zone).unwrap();
        assert_eq!(owner.parent().unwrap().to_string(), "b");
        assert_eq!(owner.parent().unwrap().parent().unwrap(), OwnerName::apex());
        assert_eq!(OwnerName::apex().parent(), None);
        assert!(owner.is_within(&OwnerName::parse("b", &zone).unwrap()));
        assert!(!owner.is_within(&OwnerName::parse("a", &zone).unwrap()));
        assert!(OwnerName::parse("*.b", &zone).unwrap().is_wildcard());
        assert_eq!(OwnerName::parse("b", &zone).unwrap().wildcard(), OwnerName::parse("*.b", &zone).unwrap());
        assert_eq!(OwnerName::apex().wildcard(), OwnerName::parse("*", &zone).unwrap());
        assert!(!OwnerName::parse("a*.b", &zone).unwrap().is_wildcard());
    }
}
