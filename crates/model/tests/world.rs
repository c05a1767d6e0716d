//! Which zones are looked at again when an object changes, and what of their records is served.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    dead_code,
    reason = "a test fails by panicking, and shares the objects of its neighbours"
)]

mod common;

use std::collections::BTreeSet;

use bindy_api::RecordKind;
use bindy_model::{Instance, NamespacedName, Object, Removal, Role, Verdict, World};
use bindy_zone::{OwnerName, Rtype};
use common::{a, elsewhere, file, instance, key, record, zone, zone_spec, zone_with_file};
use serde_json::json;

/// A world with these objects, all looked at.
fn settled(objects: impl IntoIterator<Item = Object>) -> World {
    let mut world = World::new();
    objects.into_iter().for_each(|object| world.apply(object));
    world.listed();
    settle(&mut world);
    world
}

/// Compiles what is dirty.
fn settle(world: &mut World) -> BTreeSet<NamespacedName> {
    let dirty = world.take_dirty();
    for key in &dirty {
        world.compile(key);
    }
    dirty
}

/// Why a record is left out, if it is.
fn refusal(world: &World, record: &Object) -> Option<String> {
    let (_, _, verdict) = world.verdict(world.record(&record.key()).unwrap()).unwrap();
    if let Verdict::Refused(refusal) = verdict { Some(refusal.to_string()) } else { None }
}

/// The types that are served at a name.
fn types_at(world: &mut World, owner: &str) -> Vec<Rtype> {
    let content = world.compile(&key("zone")).unwrap().content;
    let owner = OwnerName::parse(owner, content.apex()).unwrap();
    let rrsets = content.get(&owner).into_iter().flat_map(|rrsets| rrsets.iter());
    rrsets.map(|rrset| rrset.rtype()).collect()
}

fn here() -> [Object; 2] {
    [instance("one", Role::Primary, &[]), zone("zone", "example.com", 1)]
}

#[test]
fn what_filled_the_gap_of_an_unreadable_record_goes_when_the_record_does() {
    for end in ["removed", "readable"] {
        let bad = a("bad", "bad", 1);
        let mut world = settled(here().into_iter().chain(here().map(elsewhere)).chain([a("www", "www", 1)]));
        let served = world.compile(&key("zone")).unwrap().content;
        world.unreadable(bad.key(), "why".to_owned());
        world.set_residue(&key("zone"), Some(served));
        settle(&mut world);
        match end {
            "removed" => world.remove(&bad.key(), Removal::Deleted),
            _ => {
                let mut of_another_zone = bad;
                let Object::Record(record) = &mut of_another_zone else { panic!("no record") };
                record.zone_ref = Some("other".to_owned());
                world.apply(of_another_zone);
            }
        }
        assert_eq!(settle(&mut world), [key("zone")].into(), "{end}");
    }
}

#[test]
fn records_that_vanished_from_a_listing_do_so_also_when_their_zone_is_edited_at_once() {
    let www = a("www", "www", 1);
    let mut world = settled(here().into_iter().chain([www.clone()]));
    world.remove(&www.key(), Removal::Relisted);
    let mut edited = zone_spec("zone", "example.com", 1);
    edited.ttl = Some(60);
    world.apply(Object::Zone(Box::new(edited)));
    assert!(world.compile(&key("zone")).unwrap().relisted);
}

#[test]
fn a_zone_whose_name_servers_are_no_names_has_those_that_zones_have_by_default() {
    let mut spec = zone_spec("zone", "example.com", 1);
    spec.name_servers[0].hostname = "ns1 .example.net.".to_owned();
    let mut world = settled([instance("one", Role::Primary, &[]), Object::Zone(Box::new(spec))]);
    assert!(types_at(&mut world, "@").contains(&Rtype::NS));
    assert_eq!(world.compile(&key("zone")).unwrap().problems.len(), 1);
}

#[test]
fn no_zone_takes_the_name_of_a_catalog() {
    let mut world =
        settled([instance("one", Role::Primary, &[]), zone("zone", "one.default.catalog.bindy", 1)]);
    let problem = world.zone_refusal(&key("zone")).unwrap().to_string();
    assert!(problem.contains("among the names of catalogs"), "{problem}");
    assert!(world.compile(&key("zone")).is_none());
}

/// An instance after a change of it.
fn changed(change: impl FnOnce(&mut Instance)) -> Object {
    let Object::Instance(mut instance) = instance("one", Role::Primary, &[]) else { panic!("no instance") };
    instance.metadata.generation += 1;
    change(&mut instance);
    Object::Instance(instance)
}

#[test]
fn an_instance_has_the_zones_of_its_namespace_looked_at_again_and_no_others() {
    let mut world = settled(here().into_iter().chain(here().map(elsewhere)));
    let label = |instance: &mut Instance| drop(instance.metadata.labels.insert("tier".into(), "edge".into()));
    world.apply(changed(label));
    assert_eq!(settle(&mut world), [key("zone")].into());
    world.apply(instance("two", Role::Secondary, &[]));
    assert_eq!(settle(&mut world), [key("zone")].into());
    world.remove(&instance("two", Role::Secondary, &[]).key(), Removal::Deleted);
    assert_eq!(settle(&mut world), [key("zone")].into());
}

#[test]
fn how_many_servers_run_and_how_is_nothing_to_compile_a_zone_for() {
    let settings: [fn(&mut Instance); 4] = [
        |instance| instance.replicas = 5,
        |instance| instance.paused = true,
        |instance| instance.metadata.release = Some("held".to_owned()),
        |instance| instance.pods.version = Some("9.20".to_owned()),
    ];
    for setting in settings {
        let mut world = settled(here());
        let version = world.fleet_version();
        world.apply(changed(setting));
        assert_eq!(settle(&mut world), BTreeSet::new());
        assert_ne!(world.fleet_version(), version);
    }
}

#[test]
fn a_delegated_name_has_nothing_but_its_delegation_whichever_record_came_first() {
    let ns = |created| record(RecordKind::Ns, "ns", "sub", created, json!({ "nameserver": "sub" }));
    let txt = record(RecordKind::Txt, "txt", "sub", 2, json!({ "text": ["hidden"] }));
    let glue = a("glue", "sub", 1);
    for ns in [ns(1), ns(3)] {
        for objects in [[ns.clone(), txt.clone(), glue.clone()], [txt.clone(), glue.clone(), ns.clone()]] {
            let mut world = settled(here());
            for object in objects {
                world.apply(object);
                settle(&mut world);
            }
            assert_eq!(types_at(&mut world, "sub"), [Rtype::A, Rtype::NS]);
            let why = refusal(&world, &txt).unwrap();
            assert!(why.contains("at or below the delegation of sub.example.com."), "{why}");
            assert_eq!((refusal(&world, &ns), refusal(&world, &glue)), (None, None));
            world.remove(&ns.key(), Removal::Deleted);
            settle(&mut world);
            assert_eq!(types_at(&mut world, "sub"), [Rtype::A, Rtype::TXT]);
            assert_eq!(refusal(&world, &txt), None);
        }
    }
}

#[test]
fn below_a_dname_of_a_zone_file_nothing_is_served_whichever_came_first() {
    let with_dname = file("sub 60 DNAME other.example.net.\nsub 60 TXT beside\nin.sub 60 AAAA 2001:db8::1\n");
    let without = file("sub 60 TXT beside\n");
    let www = a("www", "www.sub", 1);
    for objects in [[with_dname.clone(), www.clone()], [www.clone(), with_dname]] {
        let mut world = settled([instance("one", Role::Primary, &[]), zone_with_file("zone", "example.com")]);
        for object in objects {
            world.apply(object);
            settle(&mut world);
        }
        let why = refusal(&world, &www).unwrap();
        assert!(why.contains("www.sub.example.com. is below the DNAME of sub.example.com."), "{why}");
        assert_eq!(types_at(&mut world, "www.sub"), []);
        assert_eq!(types_at(&mut world, "in.sub"), []);
        assert_eq!(types_at(&mut world, "sub"), [Rtype::TXT, Rtype::DNAME]);
        let told: Vec<String> =
            world.compile(&key("zone")).unwrap().problems.iter().map(ToString::to_string).collect();
        assert!(told.iter().any(|problem| problem.contains("the AAAA is never seen")), "{told:?}");
        world.apply(without.clone());
        settle(&mut world);
        assert_eq!((types_at(&mut world, "www.sub"), refusal(&world, &www)), (vec![Rtype::A], None));
    }
}

#[test]
fn more_records_of_one_name_in_a_zone_file_than_any_count_holds_are_told_and_cost_only_themselves() {
    let many: String = (0..=0x1_0000).map(|n: u32| format!(" A {}\n", std::net::Ipv4Addr::from(n))).collect();
    let files = [
        format!("big 60 A 192.0.2.1\n{many}big 60 TXT beside\nwww 60 A 192.0.2.1\n"),
        format!("big 60 A 192.0.2.1\n{}", " A 192.0.2.1\n".repeat(0x1_0000)),
    ];
    for (text, at_big) in files.into_iter().zip([[Rtype::TXT], [Rtype::A]]) {
        let zone = zone_with_file("zone", "example.com");
        let mut world = settled([instance("one", Role::Primary, &[]), zone, file(&text)]);
        assert_eq!(types_at(&mut world, "big"), at_big);
        let compiled = world.compile(&key("zone")).unwrap();
        let told: Vec<String> = compiled.problems.iter().map(ToString::to_string).collect();
        let told = told.iter().filter(|one| one.contains("big.example.com.: the A RRset would have"));
        assert_eq!(told.count() == 1, at_big == [Rtype::TXT]);
    }
}
