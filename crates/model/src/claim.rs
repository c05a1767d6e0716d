//! What is served at one owner name, out of everything that is wanted there.
//!
//! ```text
//!   record objects ─┐
//!   zone files ─────┼─► claims, oldest first ─► RrSets + a verdict for each claim
//!   defaults ───────┘
//! ```
//! Claims of one type merge into one RRset: duplicates collapse and the lowest TTL holds. A CNAME stands alone, so
//! among a CNAME and anything else the oldest claim decides which of the two is served (RFC 1034 section 3.6.2); of
//! several CNAMEs or DNAMEs the oldest is served (RFC 6672 section 2.4). NS records below the apex are a delegation,
//! whatever is older: servers give nothing else of the name than what belongs to that.

use std::collections::BTreeMap;

use bindy_zone::{Name, Rdata, RrSets, Rtype, Ttl};

use crate::verdict::{Refusal, Verdict};

/// The most records an RRset may have. Nothing is left out later: `named` is configured with no limit of its own.
pub const MAX_RECORDS_PER_RRSET: usize = 1_000;

/// The most octets of RDATA in an RRset, so that it fits into one DNS message together with its names.
pub const MAX_RRSET_OCTETS: usize = 48_000;

/// One source's wish for one type at one owner name. `S` names the source.
#[derive(Clone, Debug)]
pub(crate) struct Claim<S> {
    /// Who claims; shown to the losers of a conflict.
    pub(crate) source: S,
    /// Type of the records.
    pub(crate) rtype: Rtype,
    /// TTL wished for.
    pub(crate) ttl: Ttl,
    /// The records' data, at least one.
    pub(crate) rdatas: Vec<Rdata>,
}

/// What is served at the name, and what each claim is told, in the order of the claims.
pub(crate) struct Resolution<S> {
    pub(crate) rrsets: RrSets,
    pub(crate) verdicts: Vec<(S, Verdict)>,
}

#[derive(Default)]
struct Merged {
    ttl: Option<Ttl>,
    rdatas: Vec<Rdata>,
    octets: usize,
}

/// Merges the claims on one owner name, given from the oldest to the youngest. `cut` is the absolute name where NS records
/// delegate it.
pub(crate) fn resolve<S: Clone + ToString>(claims: Vec<Claim<S>>, cut: Option<&Name>) -> Resolution<S> {
    let mut merged: BTreeMap<Rtype, Merged> = BTreeMap::new();
    let mut accepted: Vec<Claim<S>> = Vec::new();
    let mut verdicts = Vec::with_capacity(claims.len());
    for claim in claims {
        let conflict =
            accepted.iter().find(|older| conflicting(older, &claim)).map(|older| older.source.to_string());
        let refusal = match conflict {
            Some(winner) => Some(Refusal::Conflict { rtype: claim.rtype, winner }),
            None => merged.entry(claim.rtype).or_default().admit(&claim),
        };
        verdicts.push((claim.source.clone(), claim.rtype, claim.ttl, refusal.clone()));
        if refusal.is_none() {
            accepted.push(claim);
        }
    }
    let has_ns = merged.get(&Rtype::NS).is_some_and(|rrset| !rrset.rdatas.is_empty());
    if let Some(cut) = cut.filter(|_| has_ns) {
        merged.retain(|rtype, _| is_seen_at_cut(*rtype));
        for (_, rtype, _, refusal) in &mut verdicts {
            if refusal.is_none() && !is_seen_at_cut(*rtype) {
                *refusal = Some(Refusal::Occluded { owner: cut.clone(), cut: cut.clone(), rtype: *rtype });
            }
        }
    }
    let told = |rtype: Rtype, wished: Ttl| match merged.get(&rtype).and_then(|rrset| rrset.ttl) {
        Some(served) if served != wished => Verdict::LowerTtl { wished, served },
        _ => Verdict::Accepted,
    };
    let verdicts = verdicts
        .into_iter()
        .map(|(source, rtype, ttl, refusal)| {
            (source, refusal.map_or_else(|| told(rtype, ttl), Verdict::Refused))
        })
        .collect();
    let rrsets =
        merged.into_iter().map(|(rtype, rrset)| (rtype, (rrset.ttl.unwrap_or(Ttl::MAX), rrset.rdatas)));
    // Packing fails above 65 535 records; `admit` stops far below.
    Resolution { rrsets: RrSets::pack(rrsets.collect()).unwrap_or_default(), verdicts }
}

/// Whether `younger` cannot be served beside `older`.
fn conflicting<S>(older: &Claim<S>, younger: &Claim<S>) -> bool {
    match (older.rtype, younger.rtype) {
        (Rtype::CNAME, Rtype::CNAME) | (Rtype::DNAME, Rtype::DNAME) => older.rdatas != younger.rdatas,
        (Rtype::CNAME, _) | (_, Rtype::CNAME) => true,
        _ => false,
    }
}

/// Whether servers give records of this type at a delegation: its NS records, their addresses as glue, and what the zone
/// above says of it (RFC 4035 section 2.6).
fn is_seen_at_cut(rtype: Rtype) -> bool {
    matches!(rtype, Rtype::NS | Rtype::A | Rtype::AAAA | Rtype::DS | Rtype::NSEC | Rtype::RRSIG)
}

impl Merged {
    /// Takes the records of `claim` in, unless the RRset would grow over a limit.
    fn admit<S>(&mut self, claim: &Claim<S>) -> Option<Refusal> {
        let fresh: Vec<&Rdata> = claim.rdatas.iter().filter(|rdata| !self.rdatas.contains(rdata)).collect();
        let octets =
            self.octets + fresh.iter().map(|rdata| usize::from(rdata.wire_len()) + 12).sum::<usize>();
        let records = self.rdatas.len() + fresh.len();
        if records > MAX_RECORDS_PER_RRSET || octets > MAX_RRSET_OCTETS {
            return Some(Refusal::RrSetTooLarge { rtype: claim.rtype, records, octets });
        }
        self.octets = octets;
        self.rdatas.extend(fresh.into_iter().cloned());
        self.ttl = Some(self.ttl.map_or(claim.ttl, |ttl| ttl.min(claim.ttl)));
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn a(source: &'static str, ttl: u32, last: u8) -> Claim<&'static str> {
        let rdatas = vec![Rdata::a(Ipv4Addr::new(192, 0, 2, last))];
        Claim { source, rtype: Rtype::A, ttl: Ttl::saturating(ttl), rdatas }
    }

    fn cname(source: &'static str, target: &str) -> Claim<&'static str> {
        let rdatas = vec![Rdata::name(&Name::parse(target).unwrap())];
        Claim { source, rtype: Rtype::CNAME, ttl: Ttl::saturating(60), rdatas }
    }

    #[test]
    fn same_type_merges_and_the_lowest_ttl_is_served() {
        let resolution = resolve(vec![a("one", 300, 1), a("two", 60, 2), a("three", 60, 1)], None);
        let rrset = resolution.rrsets.get(Rtype::A).unwrap();
        assert_eq!((rrset.record_count(), rrset.ttl().get()), (2, 60));
        assert!(matches!(resolution.verdicts[0], ("one", Verdict::LowerTtl { .. })));
        assert_eq!(resolution.verdicts[1].1, Verdict::Accepted);
    }

    #[test]
    fn the_oldest_of_cname_and_other_data_wins() {
        let resolution = resolve(vec![a("old", 60, 1), cname("alias", "x."), a("young", 60, 2)], None);
        assert_eq!(resolution.rrsets.get(Rtype::A).unwrap().record_count(), 2);
        assert!(resolution.rrsets.get(Rtype::CNAME).is_none());
        assert!(matches!(&resolution.verdicts[1].1,
            Verdict::Refused(Refusal::Conflict { winner, .. }) if winner == "old"));

        let claims = vec![cname("alias", "x."), a("young", 60, 2), cname("same", "x."), cname("other", "y.")];
        let resolution = resolve(claims, None);
        assert_eq!(resolution.rrsets.iter().count(), 1);
        let refused: Vec<bool> =
            resolution.verdicts.iter().map(|(_, verdict)| matches!(verdict, Verdict::Refused(_))).collect();
        assert_eq!(refused, [false, true, false, true]);
    }

    #[test]
    fn an_rrset_over_the_limit_keeps_its_older_records() {
        let claims: Vec<Claim<String>> = (0..=MAX_RECORDS_PER_RRSET)
            .map(|n| Claim {
                source: n.to_string(),
                rtype: Rtype::A,
                ttl: Ttl::MAX,
                rdatas: vec![Rdata::a(Ipv4Addr::from(n as u32))],
            })
            .collect();
        let resolution = resolve(claims, None);
        assert_eq!(resolution.rrsets.record_count(), MAX_RECORDS_PER_RRSET);
        let (source, verdict) = resolution.verdicts.last().unwrap();
        assert_eq!(source, &MAX_RECORDS_PER_RRSET.to_string());
        assert!(matches!(verdict, Verdict::Refused(Refusal::RrSetTooLarge { .. })));
    }
}
