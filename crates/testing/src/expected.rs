//! What an authoritative server has to say to a question, computed from a version of the zone (RFC 1034 section
//! 4.3.2, with wildcards as in RFC 4592). Only the records at the name itself: CNAMEs are not followed.

use bindy_zone::{Content, Name, OwnerName, RrSets, Rtype, Version};
use domain::base::iana::Rcode;

use crate::history::{Outcome, Records};

/// What one version gives for one question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    /// These records, or none with NOERROR.
    Records(Records),
    /// This CNAME, with whatever response code its target has.
    Alias(Records),
    /// NXDOMAIN.
    NoName,
}

impl Expected {
    /// The answer of `version` to `name` and `rtype`; the name has to be within the zone.
    pub(crate) fn of(version: &Version, name: &Name, rtype: Rtype) -> Option<Self> {
        let content = &version.content;
        let owner = name.relative_to(content.apex())?;
        if owner.is_apex() && rtype == Rtype::SOA {
            let soa = (Rtype::SOA, content.soa().ttl, version.soa_rdata());
            return Some(Self::Records([soa].into()));
        }
        if let Some(cut) = zone_cut(content, &owner, rtype) {
            return Some(cut);
        }
        if let Some(rrsets) = content.get(&owner) {
            return Some(Self::from_rrsets(rrsets, rtype));
        }
        if owner.is_apex() || content.within(&owner).next().is_some() {
            return Some(Self::Records(Records::new()));
        }
        Some(from_wildcard(content, &owner, rtype))
    }

    fn from_rrsets(rrsets: &RrSets, rtype: Rtype) -> Self {
        let records = |wanted: Rtype| -> Records {
            let rrset = rrsets.get(wanted);
            let records = |set: bindy_zone::RrSet<'_>| -> Records {
                set.rdatas().map(|rdata| (set.rtype(), set.ttl().get(), rdata.to_vec())).collect()
            };
            rrset.map(records).unwrap_or_default()
        };
        if rtype != Rtype::CNAME && rrsets.get(Rtype::CNAME).is_some() {
            return Self::Alias(records(Rtype::CNAME));
        }
        Self::Records(records(rtype))
    }

    /// Whether `outcome` is this answer.
    pub(crate) fn matches(&self, outcome: &Outcome) -> bool {
        let Outcome::Answer { rcode, records, .. } = outcome else { return false };
        match self {
            Self::Records(expected) => *rcode == Rcode::NOERROR && records == expected,
            Self::Alias(expected) => records == expected,
            Self::NoName => *rcode == Rcode::NXDOMAIN && records.is_empty(),
        }
    }

    /// As the outcome that it would be, for explanations.
    pub(crate) fn explain(&self) -> String {
        let (rcode, records) = match self {
            Self::Records(records) | Self::Alias(records) => (Rcode::NOERROR, records.clone()),
            Self::NoName => (Rcode::NXDOMAIN, Records::new()),
        };
        Outcome::Answer { rcode, records, serial: None }.to_string()
    }
}

/// The referral (an empty answer section) for names at or below a delegation, DS at the delegation excepted.
fn zone_cut(content: &Content, owner: &OwnerName, rtype: Rtype) -> Option<Expected> {
    let mut name = Some(owner.clone());
    while let Some(candidate) = name.filter(|name| !name.is_apex()) {
        let delegated = content.get(&candidate).is_some_and(|rrsets| rrsets.get(Rtype::NS).is_some());
        if delegated && !(candidate == *owner && rtype == Rtype::DS) {
            return Some(Expected::Records(Records::new()));
        }
        name = candidate.parent();
    }
    None
}

/// The source of synthesis is `*` below the closest encloser, and nothing further up.
fn from_wildcard(content: &Content, owner: &OwnerName, rtype: Rtype) -> Expected {
    let mut encloser = owner.parent();
    while let Some(candidate) = encloser {
        let exists = candidate.is_apex() || content.within(&candidate).next().is_some();
        if exists {
            let apex = content.apex();
            let source = OwnerName::parse(&format!("*.{}", candidate.in_zone(apex)), apex);
            let rrsets = source.ok().and_then(|source| content.get(&source));
            return rrsets.map_or(Expected::NoName, |rrsets| Expected::from_rrsets(rrsets, rtype));
        }
        encloser = candidate.parent();
    }
    Expected::NoName
}
