//! From the data of a record object to RDATA, once the zone is known.

use bindy_api::RecordKind;
use bindy_zone::{Name, NameError, OwnerName, Rdata, Rtype};

use crate::object::RecordData;
use crate::verdict::Refusal;

impl RecordData {
    /// The kind of object that carries this data.
    pub fn kind(&self) -> RecordKind {
        match self {
            Self::A(_) => RecordKind::A,
            Self::Aaaa(_) => RecordKind::Aaaa,
            Self::Cname(_) => RecordKind::Cname,
            Self::Mx(_) => RecordKind::Mx,
            Self::Txt(_) => RecordKind::Txt,
            Self::Ns(_) => RecordKind::Ns,
            Self::Srv(_) => RecordKind::Srv,
            Self::Caa(_) => RecordKind::Caa,
            Self::Invalid(kind, _) => *kind,
        }
    }

    /// The RDATA of each record that this data stands for, in a zone with this apex.
    pub(crate) fn rdatas(&self, apex: &Name) -> Result<Vec<Rdata>, Refusal> {
        let target = |field, text: &str| {
            target(text, apex).map_err(|error| Refusal::Target { field, error })
        };
        let rdatas: Vec<Rdata> = match self {
            Self::A(addresses) => addresses.iter().map(|&address| Rdata::a(address)).collect(),
            Self::Aaaa(addresses) => addresses.iter().map(|&address| Rdata::aaaa(address)).collect(),
            Self::Cname(name) => vec![Rdata::name(&target("spec.target", name)?)],
            Self::Ns(name) => vec![Rdata::name(&target("spec.nameserver", name)?)],
            Self::Mx(mx) => vec![Rdata::mx(mx.0, &target("spec.mailServer", &mx.1)?)],
            Self::Srv(srv) => vec![Rdata::srv(srv.0, srv.1, srv.2, &target("spec.target", &srv.3)?)],
            Self::Txt(texts) if texts.is_empty() => Vec::new(),
            Self::Txt(texts) => {
                let texts: Vec<&[u8]> = texts.iter().map(|text| &**text).collect();
                vec![Rdata::txt(&texts).map_err(Refusal::Data)?]
            }
            Self::Caa(caa) => vec![Rdata::caa(caa.0, &caa.1, caa.2.as_bytes()).map_err(Refusal::Data)?],
            Self::Invalid(_, message) => return Err(Refusal::Invalid(message.to_string())),
        };
        if rdatas.is_empty() {
            return Err(Refusal::Empty { field: self.field() });
        }
        Ok(rdatas)
    }

    fn field(&self) -> &'static str {
        match self {
            Self::A(_) => "spec.ipv4Addresses",
            Self::Aaaa(_) => "spec.ipv6Addresses",
            Self::Txt(_) => "spec.text",
            _ => "spec",
        }
    }
}

/// Reads a name that data points to. As in the rest of Kubernetes a host name with a dot in it is absolute, with or
/// without one at its end; a single label is relative to the zone, `@` is its apex, and `.` the root (RFC 2782, RFC 7505).
pub(crate) fn target(text: &str, apex: &Name) -> Result<Name, NameError> {
    if text.contains('.') { Name::parse(text) } else { Ok(OwnerName::parse(text, apex)?.in_zone(apex)) }
}

/// Reads the owner name of a record object.
pub(crate) fn owner(text: &str, apex: &Name) -> Result<OwnerName, Refusal> {
    let owner = OwnerName::parse(text, apex).map_err(Refusal::Name)?;
    if !text.ends_with('.') && apex.label_count() > 1 && Name::parse(text).is_ok_and(|name| name.is_within(apex)) {
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
