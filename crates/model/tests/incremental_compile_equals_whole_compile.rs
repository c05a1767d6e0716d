//! Whatever happens to objects, in whatever order: compiling only what changed gives the same zone, and the same
//! verdicts, as compiling everything anew.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    unreachable_pub,
    dead_code,
    reason = "a test fails by panicking, and shares the objects of its neighbours"
)]

mod common;

use std::collections::BTreeMap;

use bindy_api::RecordKind;
use bindy_model::{Kind, Labels, Object, ObjectKey, Removal, Role, Selector, Verdict, World};
use bindy_zone::Content;
use common::{file, instance, key, record, zone_spec, zone_with_file};
use proptest::prelude::*;
use serde_json::json;

#[derive(Clone, Debug)]
enum Step {
    Apply(usize, usize, u8),
    Remove(usize),
    File(usize),
    RemoveZone,
    AddZone(u32),
    RemoveOther,
    AddOther(u32),
    Compile,
}

const OWNERS: [&str; 8] = ["@", "www", "sub", "a.sub", "*.sub", "deep.a.sub", "ns.sub", "bad..name"];

const FILES: [&str; 4] = [
    "www 300 IN A 198.51.100.1\n",
    "www 60 IN A 198.51.100.2\nsub 60 IN NS ns.sub\nns.sub 60 IN A 198.51.100.3\n",
    "txt 60 IN TXT \"hello\"\nwww 60 IN CNAME txt\na.sub 60 IN DNAME txt\n",
    "broken (\n",
];

/// Object `n` (its kind and name are fixed) with an owner name, data and labels that depend on `owner` and `value`; some
/// refer to no zone.
fn object(n: usize, owner: usize, value: u8) -> Object {
    let owner = OWNERS[owner % OWNERS.len()];
    let name = format!("object-{n}");
    let created = u32::try_from(n % 5).unwrap();
    let ttl = 60 * u32::from(value % 3 + 1);
    let (kind, spec) = match n % 5 {
        0 => (RecordKind::A, json!({ "ttl": ttl, "ipv4Addresses": [format!("192.0.2.{value}")] })),
        1 => (RecordKind::Cname, json!({ "ttl": ttl, "target": format!("target-{}", value % 2) })),
        2 => {
            let target = ["ns.sub.example.com.", "www.example.com.", "ns"][usize::from(value) % 3];
            (RecordKind::Ns, json!({ "nameserver": target }))
        }
        3 => (RecordKind::Txt, json!({ "text": [format!("value {value}")] })),
        _ => (RecordKind::Aaaa, json!({ "ipv6Addresses": [format!("2001:db8::{value:x}")] })),
    };
    let Object::Record(mut record) = record(kind, &name, owner, created, spec) else { panic!("no record") };
    if value > 1 {
        record.metadata.labels.insert("app".to_owned(), format!("app-{value}"));
    }
    if value == 3 {
        record.zone_ref = None;
    }
    Object::Record(record)
}

/// A zone besides, which selects some of the records, all that have labels, or none.
fn other(choice: u32) -> Object {
    let mut zone = zone_spec("other", "example.org", 1);
    let of = |labels: Labels| Selector { labels, expressions: Vec::new() };
    zone.records_from = match choice {
        1 => vec![of([("app".to_owned(), "app-2".to_owned())].into())],
        2 => vec![of(Labels::new())],
        _ => Vec::new(),
    };
    Object::Zone(Box::new(zone))
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        10 => (0usize..15, 0usize..8, 0u8..4).prop_map(|(n, owner, value)| Step::Apply(n, owner, value)),
        4 => (0usize..15).prop_map(Step::Remove),
        2 => (0usize..4).prop_map(Step::File),
        1 => Just(Step::RemoveZone),
        2 => (1u32..4).prop_map(Step::AddZone),
        1 => Just(Step::RemoveOther),
        2 => (1u32..4).prop_map(Step::AddOther),
        4 => Just(Step::Compile),
    ];
    proptest::collection::vec(step, 1..60)
}

fn fresh() -> World {
    let mut world = World::new();
    world.apply(instance("primary", Role::Primary, &[]));
    world.listed();
    world
}

fn result(world: &mut World) -> ([Option<Content>; 2], BTreeMap<ObjectKey, Verdict>) {
    world.take_dirty();
    let contents = ["zone", "other"].map(|zone| world.compile(&key(zone)).map(|compiled| compiled.content));
    (contents, world.remarks().collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn incremental_compile_equals_whole_compile(steps in steps()) {
        let mut world = fresh();
        let mut objects: BTreeMap<ObjectKey, Object> = BTreeMap::new();
        let mut last_good_file = None;
        for step in steps {
            match step {
                Step::Apply(n, owner, value) => {
                    let object = object(n, owner, value);
                    objects.insert(object.key(), object.clone());
                    world.apply(object);
                }
                Step::Remove(n) => {
                    let key = object(n, 0, 0).key();
                    objects.remove(&key);
                    world.remove(&key, Removal::Deleted);
                }
                Step::File(n) => {
                    // A broken text keeps the last good one, which the fresh world below has to know of.
                    let has_zone = objects.contains_key(&ObjectKey { kind: Kind::Zone, key: key("zone") });
                    if n == 3 && (last_good_file.is_none() || !has_zone) {
                        continue;
                    }
                    if n != 3 {
                        last_good_file = Some(file(FILES[n]));
                    }
                    world.apply(file(FILES[n]));
                }
                Step::RemoveZone => {
                    let key = ObjectKey { kind: Kind::Zone, key: key("zone") };
                    objects.remove(&key);
                    world.remove(&key, Removal::Deleted);
                    if let Some(file) = &last_good_file {
                        world.apply(file.clone());
                    }
                }
                Step::AddZone(ttl) => {
                    // A text that is broken when the zone begins to name it has no last good state.
                    if let Some(file) = &last_good_file {
                        world.apply(file.clone());
                    }
                    let Object::Zone(mut zone) = zone_with_file("zone", "example.com") else { panic!("no zone") };
                    zone.ttl = Some(ttl);
                    if ttl == 2 {
                        let labels = [("app".to_owned(), "app-3".to_owned())].into();
                        zone.records_from = vec![Selector { labels, expressions: Vec::new() }];
                    }
                    if ttl == 3 {
                        zone.zone_files.clear();
                    }
                    let zone = Object::Zone(zone);
                    objects.insert(zone.key(), zone.clone());
                    world.apply(zone);
                }
                Step::RemoveOther => {
                    let key = other(0).key();
                    objects.remove(&key);
                    world.remove(&key, Removal::Deleted);
                }
                Step::AddOther(choice) => {
                    let zone = other(choice);
                    objects.insert(zone.key(), zone.clone());
                    world.apply(zone);
                }
                Step::Compile => drop(result(&mut world)),
            }
        }
        let mut whole = fresh();
        for object in objects.into_values().rev().chain(last_good_file) {
            whole.apply(object);
        }
        let (incremental, remarks) = result(&mut world);
        let (content, expected) = result(&mut whole);
        let digests = |contents: &[Option<Content>; 2]| contents.each_ref().map(|one| one.as_ref().map(Content::digest));
        prop_assert_eq!(digests(&incremental), digests(&content));
        prop_assert_eq!(&incremental, &content);
        prop_assert_eq!(remarks, expected);
    }
}
