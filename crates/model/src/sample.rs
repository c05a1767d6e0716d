//! Which RRsets of a version a server is asked for, and what it has to answer: the proof that it has the version, and
//! not only its serial.
//!
//! ```text
//!   changed RRsets, removed ones too ──► an even sample ──► questions with their answers (RFC 1034 section 4.3.2)
//! ```
//! Left out is what a server answers otherwise than from this zone's own data at that name: delegations and what is
//! below them, names below a DNAME, names of other zones, and types with rules of their own.

use std::collections::BTreeSet;
use std::fmt;

use bindy_zone::{Content, Name, OwnerName, Rcode, Rdata, RrSets, Rtype};

/// Questions that one server is asked about one version at most.
pub(crate) const SAMPLE: usize = 16;

/// RRsets that are looked at to find that many.
const CANDIDATES: usize = 4 * SAMPLE;

/// Records and octets of an answer that a message shows.
const SHOWN_RECORDS: usize = 3;
const SHOWN_TEXT: usize = 80;

/// An RRset of a zone, whether or not it is there.
pub(crate) type RrSetName = (OwnerName, Rtype);

/// A question, and the answer of a server that has the version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The name asked for.
    pub name: Name,
    /// The type asked for.
    pub rtype: Rtype,
    expected: Answered,
    /// Behind a CNAME the response code is that of its target.
    any_rcode: bool,
}

/// What a server answers, of the name and the type that it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// How it went.
    pub rcode: Rcode,
    /// Whether the server is authoritative for it (AA).
    pub authoritative: bool,
    /// TTL and canonical RDATA of each record.
    pub records: BTreeSet<(u32, Box<[u8]>)>,
}

impl Question {
    /// What is wrong with an answer, if anything is.
    pub fn check(&self, answer: &Answered) -> Result<(), String> {
        let Self { name, rtype, expected, any_rcode } = self;
        let rcode = *any_rcode || answer.rcode == expected.rcode;
        if rcode && answer.authoritative && answer.records == expected.records {
            return Ok(());
        }
        let (found, wanted) = (answer.describe(*rtype), expected.describe(*rtype));
        Err(format!("it answers {name} {rtype} with {found}, not with {wanted}"))
    }

    /// The question for an RRset of `content`, unless what a server answers is not to be told from it. `foreign`
    /// says whether a name is the apex of another zone.
    fn of(content: &Content, (owner, rtype): &RrSetName, foreign: impl Fn(&Name) -> bool) -> Option<Self> {
        let apex = content.apex();
        if has_rules_of_its_own(*rtype) || is_covered(content, owner, foreign) {
            return None;
        }
        let rrsets = match content.get(owner) {
            Some(rrsets) => Some(rrsets),
            None if exists(content, owner) => None,
            None => match content.get(&closest_encloser(content, owner).wildcard()) {
                Some(source) if source.get(Rtype::NS).is_some() => return None,
                Some(source) => Some(source),
                None => {
                    let expected = Answered::authoritative(Rcode::NXDOMAIN, BTreeSet::new());
                    return Some(Self {
                        name: owner.in_zone(apex),
                        rtype: *rtype,
                        expected,
                        any_rcode: false,
                    });
                }
            },
        };
        let any_rcode = *rtype != Rtype::CNAME && rrsets.is_some_and(|all| all.get(Rtype::CNAME).is_some());
        let records = rrsets.and_then(|all| all.get(*rtype)).map(|rrset| {
            let ttl = rrset.ttl().get();
            rrset.rdatas().map(|rdata| (ttl, rdata.into())).collect()
        });
        let expected = Answered::authoritative(Rcode::NOERROR, records.unwrap_or_default());
        Some(Self { name: owner.in_zone(apex), rtype: *rtype, expected, any_rcode })
    }
}

impl Answered {
    fn authoritative(rcode: Rcode, records: BTreeSet<(u32, Box<[u8]>)>) -> Self {
        Self { rcode, authoritative: true, records }
    }

    fn describe(&self, rtype: Rtype) -> impl fmt::Display {
        let shown = self.records.iter().take(SHOWN_RECORDS).map(|(ttl, rdata)| {
            let text: String =
                Rdata::from_canonical(rdata).display(rtype).to_string().chars().take(SHOWN_TEXT).collect();
            format!("{text} (TTL {ttl})")
        });
        let mut texts: Vec<String> = shown.collect();
        if self.records.len() > SHOWN_RECORDS {
            texts.push(format!("{} more", self.records.len() - SHOWN_RECORDS));
        }
        if texts.is_empty() {
            texts.push(if self.rcode == Rcode::NOERROR {
                "no record".to_owned()
            } else {
                self.rcode.to_string()
            });
        }
        let authority = if self.authoritative { "" } else { " (not authoritative)" };
        format!("{}{authority}", texts.join(", "))
    }
}

/// The RRsets that differ between two contents, evenly chosen where there are many. Costs O(differences).
pub(crate) fn changed(older: &Content, newer: &Content) -> Vec<RrSetName> {
    let mut chosen = Even::new(CANDIDATES);
    for (owner, old, new) in older.differences(newer) {
        let of = |rrsets: Option<&RrSets>| -> BTreeSet<Rtype> {
            rrsets.into_iter().flat_map(|rrsets| rrsets.iter().map(|rrset| rrset.rtype())).collect()
        };
        for rtype in &of(old) | &of(new) {
            if old.and_then(|old| old.get(rtype)) != new.and_then(|new| new.get(rtype)) {
                chosen.offer(|| (owner.clone(), rtype));
            }
        }
    }
    chosen.items
}

/// RRsets from both ends of a content of which nothing else is known to have changed.
pub(crate) fn ends(content: &Content) -> Vec<RrSetName> {
    let half = CANDIDATES / 2;
    let rest = content.name_count().saturating_sub(half).min(half);
    let names = content.iter().take(half).chain(content.iter().rev().take(rest));
    let rrsets = names.flat_map(|(owner, rrsets)| rrsets.iter().map(|set| (owner.clone(), set.rtype())));
    rrsets.take(2 * CANDIDATES).collect()
}

/// The questions for a sample of these RRsets.
pub(crate) fn questions(
    content: &Content,
    rrsets: &[RrSetName],
    foreign: impl Fn(&Name) -> bool,
) -> Vec<Question> {
    let askable: Vec<Question> =
        rrsets.iter().filter_map(|rrset| Question::of(content, rrset, &foreign)).collect();
    let count = askable.len();
    let at = |n: usize| n * count / SAMPLE.min(count).max(1);
    let chosen: BTreeSet<usize> = (0..SAMPLE.min(count)).map(at).collect();
    let numbered = askable.into_iter().enumerate();
    numbered.filter_map(|(n, question)| chosen.contains(&n).then_some(question)).collect()
}

/// Types that are answered from elsewhere, or together with others.
fn has_rules_of_its_own(rtype: Rtype) -> bool {
    matches!(
        rtype,
        Rtype::SOA | Rtype::DS | Rtype::RRSIG | Rtype::NSEC | Rtype::NSEC3 | Rtype::SIG | Rtype::NXT
    )
}

/// Whether a name is at or below a delegation or another zone, or below a DNAME.
fn is_covered(content: &Content, owner: &OwnerName, foreign: impl Fn(&Name) -> bool) -> bool {
    let has = |name: &OwnerName, rtype| content.get(name).is_some_and(|rrsets| rrsets.get(rtype).is_some());
    let mut next = Some(owner.clone());
    while let Some(name) = next {
        if name != *owner && has(&name, Rtype::DNAME) {
            return true;
        }
        if !name.is_apex() && (has(&name, Rtype::NS) || foreign(&name.in_zone(content.apex()))) {
            return true;
        }
        next = name.parent();
    }
    false
}

fn exists(content: &Content, owner: &OwnerName) -> bool {
    owner.is_apex() || content.within(owner).next().is_some()
}

/// The longest existing name above one that does not exist (RFC 4592 section 3.3.1).
fn closest_encloser(content: &Content, owner: &OwnerName) -> OwnerName {
    let mut name = owner.parent().unwrap_or_else(OwnerName::apex);
    while !exists(content, &name) {
        name = name.parent().unwrap_or_else(OwnerName::apex);
    }
    name
}

/// Some of a sequence whose length is not known before its end, at equal distances.
struct Even<T> {
    items: Vec<T>,
    limit: usize,
    stride: usize,
    seen: usize,
}

impl<T> Even<T> {
    fn new(limit: usize) -> Self {
        Self { items: Vec::new(), limit, stride: 1, seen: 0 }
    }

    fn offer(&mut self, item: impl FnOnce() -> T) {
        if self.seen.is_multiple_of(self.stride) {
            if self.items.len() == self.limit {
                let mut keep = false;
                self.items.retain(|_| {
                    keep = !keep;
                    keep
                });
                self.stride *= 2;
            }
            if self.seen.is_multiple_of(self.stride) {
                self.items.push(item());
            }
        }
        self.seen += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bindy_zone::{Ttl, ZoneFile};

    const ZONE: &str = "\
@ 3600 SOA ns host 1 3600 600 604800 60
@ 3600 NS ns
ns 3600 A 192.0.2.1
www 300 A 192.0.2.2
www 300 A 192.0.2.3
deep.er 300 TXT text
*.wild 300 A 192.0.2.9
alias 300 CNAME www
sub 300 NS ns.sub
ns.sub 300 A 192.0.2.4
old 300 DNAME new
";

    fn apex() -> Name {
        Name::parse("example.com").unwrap()
    }

    fn content(text: &str) -> Content {
        let file = ZoneFile::parse(text, &apex(), Ttl::saturating(60)).unwrap();
        Content::from_records(apex(), file.soa.unwrap(), file.records).unwrap()
    }

    fn question(content: &Content, owner: &str, rtype: Rtype) -> Option<Question> {
        let owner = OwnerName::parse(owner, &apex()).unwrap();
        Question::of(content, &(owner, rtype), |name| *name == Name::parse("own.example.com").unwrap())
    }

    fn answer(rcode: Rcode, records: &[(u32, &[u8])]) -> Answered {
        Answered::authoritative(rcode, records.iter().map(|(ttl, rdata)| (*ttl, (*rdata).into())).collect())
    }

    #[test]
    fn records_and_their_absence_are_known_as_a_server_answers_them() {
        let content = content(ZONE);
        let of = |owner: &str, rtype| question(&content, owner, rtype).unwrap();
        let both = answer(Rcode::NOERROR, &[(300, &[192, 0, 2, 2]), (300, &[192, 0, 2, 3])]);
        assert_eq!(of("www", Rtype::A).check(&both), Ok(()));
        let (none, no_name) = (answer(Rcode::NOERROR, &[]), answer(Rcode::NXDOMAIN, &[]));
        assert_eq!(of("www", Rtype::AAAA).check(&none), Ok(()));
        assert_eq!(of("gone", Rtype::A).check(&no_name), Ok(()));
        assert_eq!(of("er", Rtype::A).check(&none), Ok(()), "an empty non-terminal");
        let source = answer(Rcode::NOERROR, &[(300, &[192, 0, 2, 9])]);
        assert_eq!(of("gone.wild", Rtype::A).check(&source), Ok(()), "from the wildcard");
        assert_eq!(of("gone.wild", Rtype::TXT).check(&none), Ok(()));
        assert_eq!(of("alias", Rtype::A).check(&no_name), Ok(()), "whatever its target gives");
    }

    #[test]
    fn other_data_is_told_with_both_sides() {
        let content = content(ZONE);
        let www = question(&content, "www", Rtype::A).unwrap();
        let old = answer(Rcode::NOERROR, &[(300, &[192, 0, 2, 2])]);
        assert_eq!(
            www.check(&old).unwrap_err(),
            "it answers www.example.com. A with 192.0.2.2 (TTL 300), not with 192.0.2.2 (TTL 300), 192.0.2.3 (TTL 300)"
        );
        let ttl = answer(Rcode::NOERROR, &[(60, &[192, 0, 2, 2]), (60, &[192, 0, 2, 3])]);
        assert!(www.check(&ttl).is_err());
        assert!(www.check(&answer(Rcode::NXDOMAIN, &[])).unwrap_err().contains("with NXDOMAIN, not"));
        assert!(www.check(&answer(Rcode::REFUSED, &[])).is_err());
        let gone = question(&content, "gone", Rtype::A).unwrap();
        assert!(gone.check(&answer(Rcode::NOERROR, &[(300, &[192, 0, 2, 2])])).is_err());
        let referral = Answered { authoritative: false, ..answer(Rcode::NOERROR, &[]) };
        assert!(question(&content, "www", Rtype::AAAA).unwrap().check(&referral).is_err());
    }

    #[test]
    fn what_is_answered_from_elsewhere_is_left_out() {
        let content = content(ZONE);
        for (owner, rtype) in [
            ("sub", Rtype::NS),
            ("ns.sub", Rtype::A),
            ("x.old", Rtype::A),
            ("own", Rtype::A),
            ("www.own", Rtype::A),
            ("@", Rtype::SOA),
            ("www", Rtype::DS),
        ] {
            assert_eq!(question(&content, owner, rtype), None, "{owner} {rtype}");
        }
        assert!(question(&content, "old", Rtype::DNAME).is_some());
        assert!(question(&content, "@", Rtype::NS).is_some());
    }

    #[test]
    fn changes_are_found_and_many_are_thinned_evenly() {
        let older = content(ZONE);
        let newer = content(&ZONE.replace("192.0.2.3", "192.0.2.5").replace("deep.er 300 TXT text\n", ""));
        let owner = |text: &str| OwnerName::parse(text, &apex()).unwrap();
        let found: BTreeSet<RrSetName> = changed(&older, &newer).into_iter().collect();
        assert_eq!(found, [(owner("www"), Rtype::A), (owner("deep.er"), Rtype::TXT)].into());

        let many: String = (0..1_000).map(|n| format!("n{n:03} 60 A 192.0.2.1\n")).collect();
        let grown = content(&format!("{ZONE}{many}"));
        let chosen = changed(&older, &grown);
        assert!((CANDIDATES / 2..=CANDIDATES).contains(&chosen.len()), "{}", chosen.len());
        let asked = questions(&grown, &chosen, |_| false);
        assert_eq!(asked.len(), SAMPLE);
        let tens: BTreeSet<String> = asked.iter().map(|q| q.name.to_string()[..2].to_owned()).collect();
        assert!(tens.len() >= 8, "from all parts: {tens:?}");
        assert!(!ends(&grown).is_empty());
    }
}
