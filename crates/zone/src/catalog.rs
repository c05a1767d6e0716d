//! Catalog zones (RFC 9432, schema version 2): the zone that tells a server which zones it has.
//!
//! ```text
//!   @              SOA, NS invalid.           a catalog is transferred, never asked (section 4.2.1)
//!   version        TXT "2"
//!   LABEL.zones    PTR member.example.        one per member; LABEL is a hash of the member's name
//! ```
//! The label depends on the member's name alone, so a member keeps it for ever: another label means remove and add.

use std::fmt;

use domain::base::iana::Rtype;

use crate::content::Content;
use crate::name::{Name, NameError, OwnerName};
use crate::rdata::Rdata;
use crate::rrsets::{RrSets, Ttl};
use crate::soa::Soa;

/// Records of a catalog are never in a cache.
const TTL: Ttl = Ttl::saturating(0);
/// What the names of the catalogs of all instances end in.
pub const CATALOGS: &str = "catalog.bindy.";
/// Octets of the hash that a label shows.
const HASH_LENGTH: usize = 20;

/// The operations on the content of a catalog zone.
#[derive(Debug)]
pub enum Catalog {}

/// The unique label of a member zone: 160 bits of SHA-256 of its name, in base32hex (RFC 4648 section 7).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberLabel(String);

impl MemberLabel {
    /// The label of the zone with that name.
    pub fn of(member: &Name) -> Self {
        let hash = ring::digest::digest(&ring::digest::SHA256, &member.to_wire());
        let octets = hash.as_ref().get(..HASH_LENGTH).unwrap_or_default();
        Self(domain::utils::base32::encode_string_hex(octets).to_ascii_lowercase())
    }

    /// The owner name of the member's PTR record in any catalog.
    pub fn owner(&self) -> OwnerName {
        // 32 letters and digits below one label are a name below every catalog's name.
        OwnerName::parse(&format!("{self}.zones"), &Name::root()).unwrap_or_else(|_| OwnerName::apex())
    }
}

impl fmt::Display for MemberLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Catalog {
    /// Whether that is the name of a catalog of some instance.
    pub fn is_ours(zone: &Name) -> bool {
        Name::parse(CATALOGS).is_ok_and(|suffix| zone.is_within(&suffix))
    }

    /// The name of an instance's catalog: `INSTANCE.NAMESPACE.catalog.bindy.`; an error where that is too long.
    pub fn name(namespace: &str, instance: &str) -> Result<Name, NameError> {
        let name = Name::parse(&format!("{instance}.{namespace}.{CATALOGS}"))?;
        // Room for a member's label and for `zones`.
        MemberLabel::of(&name).owner().checked_in(&name)?;
        Ok(name)
    }

    /// A catalog without members.
    pub fn empty(name: Name) -> Content {
        let invalid = invalid();
        let soa = Soa {
            ttl: TTL.get(),
            primary: invalid.clone(),
            mailbox: invalid.clone(),
            refresh: 3_600,
            retry: 60,
            // What named caps it at: servers keep their zones through any outage.
            expire: 14_515_200,
            negative_ttl: 0,
        };
        let mut content = Content::new(name, soa);
        content.set(OwnerName::apex(), RrSets::single(Rtype::NS, TTL, &Rdata::name(&invalid)));
        if let Ok(version) = Rdata::txt(&[b"2"]) {
            content.set(owner("version"), RrSets::single(Rtype::TXT, TTL, &version));
        }
        content
    }

    /// A catalog with these members.
    pub fn content<'a>(name: Name, members: impl IntoIterator<Item = &'a Name>) -> Content {
        let mut content = Self::empty(name);
        for member in members {
            Self::insert(&mut content, member);
        }
        content
    }

    /// Makes a zone a member. True unless it was one. Costs O(log members).
    pub fn insert(catalog: &mut Content, member: &Name) -> bool {
        let pointer = RrSets::single(Rtype::PTR, TTL, &Rdata::name(member));
        catalog.set(MemberLabel::of(member).owner(), pointer)
    }

    /// Makes a zone no member any more. True if it was one. Costs O(log members).
    pub fn remove(catalog: &mut Content, member: &Name) -> bool {
        catalog.set(MemberLabel::of(member).owner(), RrSets::default())
    }

    /// Whether a zone is a member.
    pub fn contains(catalog: &Content, member: &Name) -> bool {
        catalog.get(&MemberLabel::of(member).owner()).and_then(pointer).as_ref() == Some(member)
    }

    /// The members, in the order of their labels.
    pub fn members(catalog: &Content) -> impl Iterator<Item = Name> {
        catalog.within(&owner("zones")).filter_map(|(_, rrsets)| pointer(rrsets))
    }

    /// Number of members.
    pub fn member_count(catalog: &Content) -> usize {
        let fixed = [OwnerName::apex(), owner("version")];
        catalog.name_count() - fixed.iter().filter(|owner| catalog.get(owner).is_some()).count()
    }
}

fn owner(label: &str) -> OwnerName {
    OwnerName::parse(label, &Name::root()).unwrap_or_else(|_| OwnerName::apex())
}

fn invalid() -> Name {
    Name::parse("invalid").unwrap_or_else(|_| Name::root())
}

fn pointer(rrsets: &RrSets) -> Option<Name> {
    Name::from_wire(rrsets.get(Rtype::PTR)?.rdatas().next()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    #[test]
    fn members_come_and_go_and_leave_no_trace() {
        let empty = Catalog::empty(Catalog::name("dns-system", "primary").unwrap());
        assert_eq!(empty.apex(), &name("primary.dns-system.catalog.bindy"));
        let mut catalog = empty.clone();
        let (first, second) = (name("example.com"), name("example.org"));
        assert!(Catalog::insert(&mut catalog, &first));
        assert!(Catalog::insert(&mut catalog, &second));
        assert!(!Catalog::insert(&mut catalog, &name("EXAMPLE.com")));
        let mut members: Vec<Name> = Catalog::members(&catalog).collect();
        members.sort();
        assert_eq!(members, [first.clone(), second.clone()]);
        assert_eq!(Catalog::member_count(&catalog), 2);
        assert!(Catalog::contains(&catalog, &first));
        assert!(Catalog::remove(&mut catalog, &first));
        assert!(!Catalog::remove(&mut catalog, &first));
        assert!(!Catalog::contains(&catalog, &first));
        assert!(Catalog::remove(&mut catalog, &second));
        assert_eq!(catalog, empty);
        assert_eq!(catalog.digest(), empty.digest());
    }

    #[test]
    fn labels_are_distinct_and_stable() {
        assert_eq!(MemberLabel::of(&name("example.com")), MemberLabel::of(&name("Example.COM.")));
        assert_ne!(MemberLabel::of(&name("example.com")), MemberLabel::of(&name("example.org")));
        assert_eq!(MemberLabel::of(&name("example.com")).to_string().len(), 32);
        assert_eq!(MemberLabel::of(&Name::root()).owner().to_string().len(), 38);
    }

    #[test]
    fn instance_names_that_leave_no_room_for_members_are_refused() {
        let long = vec!["a".repeat(63); 3].join(".");
        assert!(matches!(Catalog::name("namespace", &long), Err(NameError::NameTooLong { .. })));
        assert!(matches!(Catalog::name("", "a"), Err(NameError::EmptyLabel(_))));
    }
}
