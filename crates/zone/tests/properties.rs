//! The algebra of names, record data, contents, differences and histories over random inputs.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panicking, and so do their functions"
)]

use std::collections::BTreeMap;

use bindy_zone::{
    Content, Difference, History, Name, OwnerName, Rdata, Record, RrSets, Rtype, Serial, Since, Soa, Ttl,
    Version, ZoneFile,
};
use proptest::prelude::*;

fn apex() -> Name {
    Name::parse("example.com").unwrap()
}

fn soa(minimum: u32) -> Soa {
    let ns = Name::parse("ns.example.com").unwrap();
    let (primary, mailbox) = (ns.clone(), ns);
    Soa { ttl: 60, primary, mailbox, refresh: 1, retry: 2, expire: 3, negative_ttl: minimum }
}

/// Owner names from few labels, so that steps meet each other.
fn owner() -> impl Strategy<Value = OwnerName> {
    "(@|[a-c*](\\.[a-c]){0,2})".prop_map(|text| OwnerName::parse(&text, &apex()).unwrap())
}

fn rrsets() -> impl Strategy<Value = RrSets> {
    let rdatas =
        proptest::collection::vec((0u8..4).prop_map(|last| Rdata::a([192, 0, 2, last].into())), 0..4);
    proptest::collection::btree_map(
        prop_oneof![Just(Rtype::A), Just(Rtype::from_int(65280))],
        ((0u32..3).prop_map(Ttl::saturating), rdatas),
        0..3,
    )
    .prop_map(|sets| RrSets::pack(sets).unwrap())
}

type Step = (OwnerName, RrSets);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    proptest::collection::vec((owner(), rrsets()), 0..30)
}

fn content(minimum: u32, steps: &[Step]) -> Content {
    let mut content = Content::new(apex(), soa(minimum));
    for (owner, rrsets) in steps {
        content.set(owner.clone(), rrsets.clone());
    }
    content
}

fn version(serial: u32, minimum: u32, steps: &[Step]) -> Version {
    Version { serial: Serial::new(serial), content: content(minimum, steps) }
}

/// Any name of the wire: arbitrary octets in up to six labels.
fn any_name() -> impl Strategy<Value = Vec<Vec<u8>>> {
    proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..12), 0..6)
}

fn wire_of(labels: &[Vec<u8>]) -> Vec<u8> {
    let mut wire = Vec::new();
    for label in labels {
        wire.push(label.len() as u8);
        wire.extend(label);
    }
    wire.push(0);
    wire
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn applying_a_difference_gives_the_other_version(
        a in steps(), b in steps(), minimum in 0u32..2, related: bool
    ) {
        let older = version(1, 0, &a);
        let mut newer = version(2, minimum, &b);
        if related {
            newer.content = older.content.clone();
            newer.content.set_soa(soa(minimum));
            for (owner, rrsets) in &b {
                newer.content.set(owner.clone(), rrsets.clone());
            }
        }
        let difference = Difference::between(&older, &newer);
        let applied = difference.apply(&older).unwrap();
        prop_assert_eq!(&applied, &newer);
        prop_assert_eq!(applied.content.digest(), newer.content.digest());
        prop_assert_eq!(applied.content.record_count(), newer.content.record_count());
        prop_assert_eq!(difference.is_empty(), older.content.records().eq(newer.content.records()));
        let back = Difference::between(&newer, &older);
        prop_assert_eq!(back.apply(&newer).unwrap(), older);
        let elsewhere = version(9, 0, &a);
        prop_assert!(difference.apply(&elsewhere).is_err());
    }

    #[test]
    fn content_is_a_map_and_its_digest_forgets_the_path(steps in steps(), other in steps()) {
        let mut model = BTreeMap::new();
        let mut actual = content(0, &[]);
        for (owner, rrsets) in &steps {
            let before = model.get(owner).cloned().unwrap_or_default();
            prop_assert_eq!(actual.set(owner.clone(), rrsets.clone()), before != *rrsets);
            if rrsets.is_empty() { model.remove(owner) } else { model.insert(owner.clone(), rrsets.clone()) };
        }
        prop_assert!(actual.iter().map(|(owner, sets)| (owner.clone(), sets.clone())).eq(model.clone()));
        prop_assert_eq!(actual.name_count(), model.len());
        prop_assert_eq!(actual.record_count(), model.values().map(RrSets::record_count).sum::<usize>());
        prop_assert_eq!(actual.records().count(), actual.record_count());

        let last: Vec<Step> = model.into_iter().rev().collect();
        let direct = content(0, &last);
        prop_assert_eq!(&direct, &actual);
        prop_assert_eq!(direct.digest(), actual.digest());
        // Through any other content and back again.
        for (owner, rrsets) in &other {
            actual.set(owner.clone(), rrsets.clone());
        }
        actual.set_soa(soa(5));
        prop_assert_ne!(actual.digest(), direct.digest());
        for (owner, _) in &other {
            actual.set(owner.clone(), direct.get(owner).cloned().unwrap_or_default());
        }
        actual.set_soa(soa(0));
        prop_assert_eq!(&actual, &direct);
        prop_assert_eq!(actual.digest(), direct.digest());
    }

    #[test]
    fn history_leads_every_known_version_to_the_current_one(
        first: u32, changes in proptest::collection::vec(steps(), 1..12), limit in 0usize..6000
    ) {
        let mut versions = vec![version(first, 0, &[])];
        let mut history = History::new(versions[0].clone(), limit);
        for (number, steps) in changes.iter().enumerate() {
            let mut next = versions.last().unwrap().clone();
            next.serial = Serial::new(next.serial.get().wrapping_add(number as u32 + 1));
            for (owner, rrsets) in steps {
                next.content.set(owner.clone(), rrsets.clone());
            }
            prop_assert!(history.push(next.clone()));
            prop_assert!(!history.push(next.clone()), "the same serial again");
            prop_assert!(!history.push(versions[0].clone()), "an older serial");
            versions.push(next);
            prop_assert!(history.size() <= limit);
        }
        let current = versions.last().unwrap();
        prop_assert!(matches!(history.since(current.serial), Since::Current));
        prop_assert!(matches!(history.since(current.serial.next()), Since::Current));
        prop_assert!(matches!(history.since(Serial::new(first.wrapping_sub(1))), Since::Unknown));
        let mut known = true;
        for older in versions.iter().rev().skip(1) {
            match history.since(older.serial) {
                Since::Differences(differences) => {
                    prop_assert!(known, "a gap: an older version is known, a newer one is not");
                    let size: usize = differences.iter().map(|difference| difference.size()).sum();
                    prop_assert!(size <= limit);
                    let applied = differences.iter().try_fold(older.clone(), |at, next| next.apply(&at));
                    prop_assert_eq!(&applied.unwrap(), current);
                }
                Since::Unknown => known = false,
                Since::Current => prop_assert!(false, "{:?} is not current", older.serial),
            }
        }
    }

    #[test]
    fn names_survive_wire_and_text_and_sort_canonically(a in any_name(), b in any_name()) {
        let (first, second) = (Name::from_wire(&wire_of(&a)).unwrap(), Name::from_wire(&wire_of(&b)).unwrap());
        for (labels, name) in [(&a, &first), (&b, &second)] {
            let lower: Vec<Vec<u8>> = labels.iter().map(|label| label.to_ascii_lowercase()).collect();
            prop_assert_eq!(name.to_wire(), wire_of(&lower));
            prop_assert_eq!(&Name::parse(&name.to_string()).unwrap(), name);
            let owner = name.relative_to(&Name::root()).unwrap();
            prop_assert_eq!(&OwnerName::parse(&owner.to_string(), &apex()).unwrap(), &owner);
            prop_assert_eq!(owner.in_zone(&apex()).relative_to(&apex()), Some(owner));
            prop_assert_eq!(name.label_count(), labels.len());
        }
        // RFC 4034 section 6.1: compare the labels from the right, as octets in lower case.
        let key = |labels: &[Vec<u8>]| -> Vec<Vec<u8>> {
            labels.iter().rev().map(|label| label.to_ascii_lowercase()).collect()
        };
        prop_assert_eq!(first.cmp(&second), key(&a).cmp(&key(&b)));
        let is_within = key(&a).starts_with(&key(&b));
        prop_assert_eq!(first.is_within(&second), is_within);
    }

    #[test]
    fn accepted_wire_data_survives_text(number in 0u16..300, octets in proptest::collection::vec(any::<u8>(), 0..60)) {
        let rtype = Rtype::from_int(number);
        if let Ok(data) = Rdata::from_wire(rtype, &octets) {
            prop_assert_eq!(data.as_wire().len(), octets.len());
            prop_assert_eq!(&Rdata::from_wire(rtype, data.as_wire()).unwrap(), &data);
            let text = data.display(rtype).to_string();
            prop_assert_eq!(Rdata::parse(rtype, &text, &apex()).unwrap(), data, "{} {}", rtype, text);
        }
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "([a-z@$ \\t\\n();\"\\\\0-9.]|A |TXT |DS |HTTPS |\\$TTL |SVCB |NSEC3 |\\PC){0,80}") {
        if let Err(error) = ZoneFile::parse(&text, &apex(), Ttl::saturating(1)) {
            prop_assert!(!error.problems.is_empty());
            prop_assert!(error.to_string().len() < 20_000);
        }
    }
}

#[test]
fn records_of_a_content_make_the_same_content() {
    let record = |owner: &str, last| Record {
        owner: OwnerName::parse(owner, &apex()).unwrap(),
        rtype: Rtype::A,
        ttl: Ttl::saturating(last),
        rdata: Rdata::a([192, 0, 2, last as u8].into()).as_wire().into(),
    };
    let content =
        Content::from_records(apex(), soa(0), [record("b", 2), record("a", 9), record("b", 1)]).unwrap();
    assert_eq!(Content::from_records(apex(), soa(0), content.records()).unwrap(), content);
    assert_eq!(content.records().map(|record| record.ttl.get()).collect::<Vec<_>>(), [9, 1, 1]);
}

#[test]
fn a_small_zone_that_is_edited_again_and_again_keeps_few_differences() {
    let mut history = History::new(version(1, 0, &[]), 16 << 20);
    let www = OwnerName::parse("www", &apex()).unwrap();
    for edit in 0..1_000u32 {
        let mut next = Version::clone(history.current());
        next.serial = next.serial.next();
        next.content.set(www.clone(), RrSets::single(Rtype::A, Ttl::MAX, &Rdata::a(edit.into())));
        assert!(history.push(next));
    }
    assert!(history.size() < 8 << 10, "{} octets", history.size());
    let away = Serial::new(history.current().serial.get() - 15);
    assert!(matches!(history.since(away), Since::Differences(missed) if missed.len() == 15));
}
