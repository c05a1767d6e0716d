//! Zones of which a file cannot be read, and was not before.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    dead_code,
    reason = "a test fails by panicking, and shares the objects of its neighbours"
)]

mod common;

use std::time::Duration;

use bindy_api::{ConditionStatus, ConditionType, Reason};
use bindy_model::conditions::zone_conditions;
use bindy_model::{
    Core, Input, LedgerEntry, LedgerKind, Now, Object, ObjectEvent, Output, Purpose, Removal, Role, ServerId,
    ServerState, Swapped, Target, ZoneFileRef,
};
use bindy_zone::{OwnerName, Rtype, Version};
use common::{a, file, instance, key, zone_with_file};

const NOW: Now = Now { monotonic: Duration::from_secs(10), unix: 1_700_000_000 };

/// Takes objects in. Every server has lost what it served. Returns the versions of zones that are published.
fn apply(core: &mut Core, objects: &[Object]) -> Vec<Version> {
    let events = objects.iter().cloned().map(ObjectEvent::Applied).chain([ObjectEvent::Listed]);
    take(core, Input::Objects(events.collect()), None)
}

/// Takes something in, and what follows from it. `kept` is what servers have. Returns the versions of zones that are published.
fn take<'a>(core: &mut Core, input: Input, kept: impl IntoIterator<Item = &'a Version>) -> Vec<Version> {
    let published = take_all(core, (input, NOW), &kept.into_iter().collect::<Vec<_>>()).into_iter();
    let of_zones = |(target, version)| matches!(target, Target::Zone(..)).then_some(version);
    published.filter_map(of_zones).collect()
}

/// The same with the versions of catalogs.
fn take_all(core: &mut Core, (input, now): (Input, Now), kept: &[&Version]) -> Vec<(Target, Version)> {
    let (mut inputs, mut published) = (vec![input], Vec::new());
    while let Some(input) = inputs.pop() {
        for output in core.step(input, now) {
            match output {
                Output::Swap { target, .. } => inputs.push(Input::Swapped(target, Swapped::Done)),
                Output::Fetch(target, apex, ..) => {
                    let kept = kept.iter().find(|version| *version.content.apex() == apex);
                    inputs.push(Input::Fetched(target, kept.map(|kept| (*kept).clone())));
                }
                Output::CatchUp(number) => inputs.push(Input::CaughtUp(number)),
                Output::Publish(target, _, version) => published.push((target, version)),
                _ => {}
            }
        }
    }
    published
}

fn objects() -> [Object; 3] {
    [instance("one", Role::Primary, &[]), zone_with_file("zone", "example.com"), a("www", "www", 1)]
}

/// What the zone is told of being served.
fn ready(core: &Core) -> (ConditionStatus, Reason) {
    let conditions = zone_conditions(&core.zone_report(&key("zone")).unwrap());
    let ready = conditions.into_iter().find(|one| one.condition == ConditionType::Ready).unwrap();
    (ready.status, ready.reason)
}

/// Whether there is an address at the name.
fn has(version: &Version, name: &str) -> bool {
    let owner = OwnerName::parse(name, version.content.apex()).unwrap();
    let rrsets = version.content.get(&owner).into_iter().flat_map(|rrsets| rrsets.iter());
    rrsets.into_iter().any(|rrset| rrset.rtype() == Rtype::A)
}

/// Nothing is published before the file is good, and then everything.
fn waits_for_its_file(mut core: Core) {
    assert_eq!(apply(&mut core, &objects()), []);
    assert_eq!(ready(&core), (ConditionStatus::False, Reason::ZoneFileMissing));
    assert_eq!(apply(&mut core, &[file("mail A 192.0.2.333\n"), a("more", "more", 2)]), []);
    assert_eq!(ready(&core), (ConditionStatus::False, Reason::InvalidZoneFile));
    let published = apply(&mut core, &[file("mail A 192.0.2.3\n")]);
    let [version] = &published[..] else { panic!("{published:?}") };
    assert_eq!(["www", "more", "mail"].map(|name| has(version, name)), [true; 3]);
    // From now on it keeps what was good.
    let published = apply(&mut core, &[file("mail A 192.0.2.333\n"), a("later", "later", 4)]);
    let [version] = &published[..] else { panic!("{published:?}") };
    assert_eq!(["later", "mail"].map(|name| has(version, name)), [true; 2]);
}

#[test]
fn a_new_zone_is_not_published_before_its_files_can_be_read() {
    waits_for_its_file(Core::new([]));
}

#[test]
fn a_zone_that_no_server_has_any_more_is_not_published_before_its_files_can_be_read() {
    let before: Vec<Object> = objects().into_iter().chain([file("mail A 192.0.2.3\n")]).collect();
    let lost = LedgerEntry::of(&apply(&mut Core::new([]), &before)[0]);
    waits_for_its_file(Core::new([((key("zone"), LedgerKind::Zone), lost)]));
}

#[test]
fn a_zone_that_lacks_a_file_is_asked_for_again_when_servers_come_that_may_have_it() {
    let before: Vec<Object> = objects().into_iter().chain([file("mail A 192.0.2.3\n")]).collect();
    let version = apply(&mut Core::new([]), &before).remove(0);
    let mut core = Core::new([((key("zone"), LedgerKind::Zone), LedgerEntry::of(&version))]);
    assert_eq!(apply(&mut core, &objects()), []);
    let id = ServerId { instance: key("one"), name: "one-1".to_owned() };
    let come = Input::Servers(vec![ServerState { id, incarnation: 1, ready: true, going: false }]);
    assert_eq!(take(&mut core, come, Some(&version)), [version]);
    let published = apply(&mut core, &[a("more", "more", 2)]);
    let [version] = &published[..] else { panic!("{published:?}") };
    assert_eq!(["www", "more", "mail"].map(|name| has(version, name)), [true; 3]);
}

#[test]
fn what_is_deleted_is_gone_also_while_something_else_cannot_be_read() {
    let before: Vec<Object> = objects().into_iter().chain([file("mail A 192.0.2.3\n")]).collect();
    let version = apply(&mut Core::new([]), &before).remove(0);
    let mut core = Core::new([((key("zone"), LedgerKind::Zone), LedgerEntry::of(&version))]);
    let events = objects().map(ObjectEvent::Applied).into_iter().chain([ObjectEvent::Listed]);
    let served = take(&mut core, Input::Objects(events.collect()), Some(&version));
    assert_eq!(served, [version]);
    let deleted = ObjectEvent::Removed(a("www", "www", 1).key(), Removal::Deleted);
    let published = take(&mut core, Input::Objects(vec![deleted]), None);
    let [version] = &published[..] else { panic!("{published:?}") };
    assert_eq!(["www", "mail"].map(|name| has(version, name)), [false, true]);
}

#[test]
fn a_version_is_needed_for_its_content_where_something_of_it_cannot_be_read_and_for_nothing_else_otherwise() {
    let entry = |kind| {
        let mut core = Core::new([]);
        let objects = [instance("one", Role::Primary, &[]), common::zone("zone", "example.com", 1)];
        let events = objects.into_iter().map(ObjectEvent::Applied).chain([ObjectEvent::Listed]);
        let mut all = take_all(&mut core, (Input::Objects(events.collect()), NOW), &[]);
        let later = Now { monotonic: NOW.monotonic * 2, ..NOW };
        all.extend(take_all(&mut core, (Input::Tick, later), &[]));
        let is_it = |target: &Target| matches!(target, Target::Catalog(_)) == (kind == LedgerKind::Catalog);
        LedgerEntry::of(&all.iter().rfind(|(target, _)| is_it(target)).unwrap().1)
    };
    let fetched = |events: Vec<ObjectEvent>, paused: bool| {
        let ledger = [
            ((key("zone"), LedgerKind::Zone), entry(LedgerKind::Zone)),
            ((key("one"), LedgerKind::Catalog), entry(LedgerKind::Catalog)),
        ];
        let mut core = Core::new(ledger);
        let mut zone = common::zone_spec("zone", "example.com", 1);
        zone.paused = paused;
        let objects = [instance("one", Role::Primary, &[]), Object::Zone(Box::new(zone)), a("www", "www", 1)];
        let all = objects.into_iter().map(ObjectEvent::Applied).chain(events).chain([ObjectEvent::Listed]);
        let outputs = core.step(Input::Objects(all.collect()), NOW).into_iter();
        let purposes = outputs.filter_map(|output| match output {
            Output::Fetch(target, _, _, purpose) => Some((matches!(target, Target::Catalog(_)), purpose)),
            _ => None,
        });
        purposes.collect::<Vec<_>>()
    };
    let unreadable = |object: Object| vec![ObjectEvent::Unreadable(object.key(), "why".to_owned())];
    assert_eq!(fetched(vec![], false), [(false, Purpose::Comparison)]);
    assert_eq!(fetched(vec![], true), [(false, Purpose::Content)]);
    assert_eq!(fetched(unreadable(a("bad", "bad", 1)), false), [(false, Purpose::Content)]);
    let hidden = unreadable(common::zone("other", "example.net", 1));
    assert_eq!(fetched(hidden, false), [(false, Purpose::Comparison), (true, Purpose::Content)]);
}

#[test]
fn a_name_of_a_zone_file_that_never_was_can_be_corrected_and_taken_out() {
    for end in [vec!["files"], vec![]] {
        let mut core = Core::new([]);
        assert_eq!(apply(&mut core, &[&objects()[..], &[file("mail A 192.0.2.3\n")]].concat()).len(), 1);
        for named in [vec!["files", "typo"], end.clone()] {
            let Object::Zone(mut zone) = zone_with_file("zone", "example.com") else { panic!("no zone") };
            let file = zone.zone_files.remove(0);
            let files = named.iter().map(|map| ZoneFileRef { config_map: (*map).to_owned(), ..file.clone() });
            zone.zone_files = files.collect();
            apply(&mut core, &[Object::Zone(zone)]);
        }
        let published = apply(&mut core, &[a("more", "more", 2)]);
        let [version] = &published[..] else { panic!("{published:?}") };
        assert_eq!((has(version, "more"), has(version, "mail")), (true, !end.is_empty()));
        assert_eq!(core.zone_report(&key("zone")).unwrap().problems, []);
    }
}

#[test]
fn a_zone_file_goes_when_the_one_that_takes_its_place_can_be_read() {
    let mut core = Core::new([]);
    let before: Vec<Object> = objects().into_iter().chain([file("mail A 192.0.2.3\n")]).collect();
    assert_eq!(apply(&mut core, &before).len(), 1);
    let (Object::Zone(mut zone), Object::ConfigMap(mut next)) =
        (zone_with_file("zone", "example.com"), file("post A 192.0.2.4\n"))
    else {
        panic!("other objects");
    };
    zone.zone_files[0].config_map = "next".to_owned();
    zone.metadata.generation += 1;
    next.metadata.key.name = "next".into();
    let published = apply(&mut core, &[Object::Zone(zone), a("more", "more", 2)]);
    assert!(!published.is_empty() && published.iter().all(|version| has(version, "mail")), "{published:?}");
    let published = apply(&mut core, &[Object::ConfigMap(next)]);
    let [version] = &published[..] else { panic!("{published:?}") };
    assert_eq!(["more", "mail", "post"].map(|name| has(version, name)), [true, false, true]);
}

/// As after a deletion by mistake that the catalog has not followed.
#[test]
fn a_zone_that_is_made_again_before_its_file_has_what_servers_still_serve_of_it() {
    let mut core = Core::new([]);
    let Object::Instance(mut paused) = instance("one", Role::Primary, &[]) else { panic!("no instance") };
    let before: Vec<Object> = objects().into_iter().chain([file("mail A 192.0.2.3\n")]).collect();
    assert_eq!(apply(&mut core, &before).len(), 1);
    paused.paused = true;
    apply(&mut core, &[Object::Instance(paused)]);
    let gone = [file("").key(), zone_with_file("zone", "example.com").key()];
    let gone = gone.map(|key| ObjectEvent::Removed(key, Removal::Deleted));
    assert_eq!(take(&mut core, Input::Objects(gone.to_vec()), None), []);
    let published = apply(&mut core, &[zone_with_file("zone", "example.com"), a("more", "more", 2)]);
    assert!(!published.is_empty() && published.iter().all(|version| has(version, "mail")), "{published:?}");
    let published = apply(&mut core, &[file("post A 192.0.2.4\n")]);
    let [version] = &published[..] else { panic!("{published:?}") };
    assert_eq!(["www", "more", "mail", "post"].map(|name| has(version, name)), [true, true, false, true]);
}

/// As after a deletion by mistake while no operator was there: of so many zones it is not believed.
#[test]
fn a_zone_that_is_served_without_its_object_and_made_again_before_its_file_keeps_what_is_served() {
    let others = (0..20).map(|n| zone_with_file(&format!("zone-{n}"), &format!("zone-{n}.example")));
    let before = objects().into_iter().chain([file("mail A 192.0.2.3\n")]).chain(others);
    let events = before.map(ObjectEvent::Applied).chain([ObjectEvent::Listed]);
    let mut core = Core::new([]);
    let mut served = take_all(&mut core, (Input::Objects(events.collect()), NOW), &[]);
    // A catalog waits for more members.
    let later = Now { monotonic: NOW.monotonic + Duration::from_secs(10), ..NOW };
    served.extend(take_all(&mut core, (Input::Tick, later), &[]));
    let (catalogs, zones): (Vec<_>, Vec<_>) =
        served.iter().partition(|(target, _)| matches!(target, Target::Catalog(_)));
    let (_, catalog) = catalogs.last().unwrap();
    let kept: Vec<&Version> = zones.into_iter().map(|(_, zone)| zone).chain([catalog]).collect();
    let mut core = Core::new([((key("one"), LedgerKind::Catalog), LedgerEntry::of(catalog))]);
    let alone = [ObjectEvent::Applied(instance("one", Role::Primary, &[])), ObjectEvent::Listed];
    take(&mut core, Input::Objects(alone.to_vec()), kept);
    let published = apply(&mut core, &[zone_with_file("zone", "example.com"), a("more", "more", 2)]);
    assert!(!published.is_empty() && published.iter().all(|version| has(version, "mail")), "{published:?}");
    assert!(has(published.last().unwrap(), "more"));
    let published = apply(&mut core, &[file("post A 192.0.2.4\n")]);
    let [version] = &published[..] else { panic!("{published:?}") };
    assert_eq!(["more", "mail", "post"].map(|name| has(version, name)), [true, false, true]);
}

#[test]
fn a_zone_that_was_published_without_one_of_its_files_is_published_so_again_when_all_servers_have_lost_it() {
    let Object::Zone(mut zone) = zone_with_file("zone", "example.com") else { panic!("no zone") };
    let good: Vec<Object> = objects().into_iter().chain([file("mail A 192.0.2.3\n")]).collect();
    let version = apply(&mut Core::new([]), &good).remove(0);
    zone.zone_files.push(ZoneFileRef { config_map: "typo".to_owned(), ..zone.zone_files[0].clone() });
    let mut core = Core::new([((key("zone"), LedgerKind::Zone), LedgerEntry::of(&version))]);
    let objects: Vec<Object> = good.into_iter().chain([Object::Zone(zone)]).collect();
    assert_eq!(apply(&mut core, &objects), [version]);
}
