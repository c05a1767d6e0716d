//! The data of a record object: RDATA with its target names still as text, since only the zone makes them absolute.
//!
//! ```text
//!   template = { part* end }*        part = octets | name
//! ```
//! It is packed into one allocation; of a million A records each costs twelve octets.

use bindy_api::{DataField, FieldValue, RecordKind};
use bindy_zone::{Name, NameError, OwnerName, Rdata, Rtype};

use crate::verdict::Refusal;

/// Longest character-string (RFC 1035 section 3.3).
const MAX_STRING: usize = 255;

const END: u8 = 0;
const OCTETS: u8 = 1;
const NAME: u8 = 2;

/// The data of a record object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RecordData {
    kind: RecordKind,
    refused: bool,
    /// The template, or why there is none, in UTF-8.
    octets: Box<[u8]>,
}

impl RecordData {
    /// Packs the fields of each record of an object. Fields that cannot be encoded become a refusal, which is told
    /// when the object is compiled.
    pub fn pack(kind: RecordKind, records: &[Vec<DataField<'_>>]) -> Self {
        let mut template = Vec::new();
        for record in records {
            for field in record {
                if let Err(message) = append(&mut template, field) {
                    return Self::refused(kind, format!("{}: {message}", field.location()));
                }
            }
            template.push(END);
        }
        if records.is_empty() {
            return Self::refused(
                kind,
                "the object has no data: give at least one value, or delete it".to_owned(),
            );
        }
        Self { kind, refused: false, octets: template.into() }
    }

    fn refused(kind: RecordKind, message: String) -> Self {
        Self { kind, refused: true, octets: message.into_bytes().into() }
    }

    /// The kind of object that carries this data.
    pub fn kind(&self) -> RecordKind {
        self.kind
    }

    /// Type of the records.
    pub fn rtype(&self) -> Rtype {
        Rtype::from_int(self.kind.row().code)
    }

    /// The RDATA of each record in a zone with this apex.
    pub(crate) fn rdatas(&self, apex: &Name) -> Result<Vec<Rdata>, Refusal> {
        if self.refused {
            return Err(Refusal::Invalid(String::from_utf8_lossy(&self.octets).into_owned()));
        }
        let mut rest = &*self.octets;
        let (mut rdatas, mut octets) = (Vec::new(), Vec::new());
        while let Some((&tag, after)) = rest.split_first() {
            rest = after;
            if tag == END {
                rdatas.push(Rdata::from_wire(self.rtype(), &octets).map_err(Refusal::Data)?);
                octets.clear();
                continue;
            }
            let Some((length, after)) = rest.split_first_chunk() else { break };
            let Some((part, after)) = after.split_at_checked(usize::from(u16::from_be_bytes(*length))) else {
                break;
            };
            rest = after;
            if tag == OCTETS {
                octets.extend(part);
            } else {
                let text = std::str::from_utf8(part).unwrap_or_default();
                target(text, apex)
                    .map_err(|error| Refusal::Target { field: "spec", error })?
                    .append_wire(&mut octets);
            }
        }
        Ok(rdatas)
    }
}

/// Appends one field, or says why it cannot be.
fn append(template: &mut Vec<u8>, field: &DataField<'_>) -> Result<(), String> {
    match field.value {
        FieldValue::Ipv4(text) => {
            let address: std::net::Ipv4Addr =
                text.parse().map_err(|_| format!("{text:?} is no IPv4 address: write it as 192.0.2.1"))?;
            part(template, OCTETS, &address.octets())
        }
        FieldValue::Ipv6(text) => {
            let address: std::net::Ipv6Addr =
                text.parse().map_err(|_| format!("{text:?} is no IPv6 address: write it as 2001:db8::1"))?;
            part(template, OCTETS, &address.octets())
        }
        FieldValue::Name(text) => {
            if text != "@" && text != "." {
                Name::parse(text).map_err(|error| error.to_string())?;
            }
            part(template, NAME, text.as_bytes())
        }
        FieldValue::U8(value) => part(template, OCTETS, &[value]),
        FieldValue::U16(value) => part(template, OCTETS, &value.to_be_bytes()),
        FieldValue::CharacterString(text) => part(template, OCTETS, &character_string(text.as_bytes())?),
        FieldValue::Text("") => part(template, OCTETS, &character_string(b"")?),
        FieldValue::Text(text) => text
            .as_bytes()
            .chunks(MAX_STRING)
            .try_for_each(|chunk| part(template, OCTETS, &character_string(chunk)?)),
        FieldValue::Rest(text) => part(template, OCTETS, text.as_bytes()),
    }
}

fn character_string(text: &[u8]) -> Result<Vec<u8>, String> {
    let length = u8::try_from(text.len())
        .map_err(|_| format!("the text has {} octets; there is room for {MAX_STRING}", text.len()))?;
    Ok([&[length], text].concat())
}

fn part(template: &mut Vec<u8>, tag: u8, octets: &[u8]) -> Result<(), String> {
    let length = u16::try_from(octets.len())
        .map_err(|_| format!("the value has {} octets; a record has at most 65535", octets.len()))?;
    template.push(tag);
    template.extend(length.to_be_bytes());
    template.extend(octets);
    Ok(())
}

/// Reads a name that data points to. As in the rest of Kubernetes a host name with a dot in it is absolute, with or
/// without one at its end; a single label is relative to the zone, `@` is its apex, and `.` the root (RFC 2782, RFC 7505).
pub(crate) fn target(text: &str, apex: &Name) -> Result<Name, NameError> {
    if text.contains('.') { Name::parse(text) } else { Ok(OwnerName::parse(text, apex)?.in_zone(apex)) }
}

/// Reads the owner name of a record object.
pub(crate) fn owner(text: &str, apex: &Name) -> Result<OwnerName, Refusal> {
    let owner = OwnerName::parse(text, apex).map_err(Refusal::Name)?;
    if !text.ends_with('.')
        && apex.label_count() > 1
        && Name::parse(text).is_ok_and(|name| name.is_within(apex))
    {
        return Err(Refusal::AmbiguousName { written: text.to_owned() });
    }
    if owner.parent().is_some_and(|parent| has_wildcard_label(&parent)) {
        return Err(Refusal::InnerWildcard);
    }
    Ok(owner)
}

fn has_wildcard_label(owner: &OwnerName) -> bool {
    owner.is_wildcard() || owner.parent().is_some_and(|parent| has_wildcard_label(&parent))
}

/// The name that records of this type point to, where a server adds its addresses.
pub(crate) fn pointed_to(rtype: Rtype, rdata: &[u8]) -> Option<Name> {
    let name = match rtype {
        Rtype::NS => rdata,
        Rtype::MX => rdata.get(2..)?,
        Rtype::SRV => rdata.get(6..)?,
        _ => return None,
    };
    Name::from_wire(name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_host_names_or_labels_of_the_zone() {
        let apex = Name::parse("example.com").unwrap();
        let read = |text| target(text, &apex).unwrap().to_string();
        assert_eq!(read("mail"), "mail.example.com.");
        assert_eq!(read("@"), "example.com.");
        assert_eq!(read("mail.provider.net"), "mail.provider.net.");
        assert_eq!(read("mail.provider.net."), "mail.provider.net.");
        assert_eq!(read("."), ".");
    }

    #[test]
    fn an_owner_that_repeats_the_zone_without_a_dot_is_refused_with_both_readings() {
        let apex = Name::parse("example.com").unwrap();
        assert!(owner("www", &apex).is_ok());
        assert!(owner("www.example.com.", &apex).is_ok());
        let refusal = owner("www.example.com", &apex).unwrap_err();
        assert!(refusal.to_string().contains("\"www.example.com.\""), "{refusal}");
        assert!(matches!(owner("a.*.b", &apex), Err(Refusal::InnerWildcard)));
        assert!(owner("*.b", &apex).is_ok());
    }
}
