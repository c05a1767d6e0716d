//! DNSZones whose `spec.zoneName` becomes another one, and that go.

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

use bindy_model::{
    Answer, Ask, Core, Input, Now, Object, ObjectEvent, Output, Removal, Role, ServerId, ServerState,
    Swapped, Target,
};
use bindy_zone::{Catalog, Name, Serial};
use common::{a, instance, key, zone};

const NOW: Now = Now { monotonic: Duration::from_secs(10), unix: 1_700_000_000 };

/// Takes objects in, and what follows from them in the ledger. Returns all that was to be done.
fn apply(core: &mut Core, objects: &[Object]) -> Vec<Output> {
    let events = objects.iter().cloned().map(ObjectEvent::Applied).chain([ObjectEvent::Listed]);
    let (mut inputs, mut done) = (vec![Input::Objects(events.collect())], Vec::new());
    while let Some(input) = inputs.pop() {
        for output in core.step(input, NOW) {
            if let Output::Swap { target, .. } = &output {
                inputs.push(Input::Swapped(target.clone(), Swapped::Done));
            }
            done.push(output);
        }
    }
    done
}

/// What the ledger had to say before a zone of this name was published, and the serial that it got.
fn published(outputs: &[Output], name: &str) -> (Option<Serial>, Serial) {
    let apex = Name::parse(name).unwrap();
    let swap = outputs.iter().find_map(|output| match output {
        Output::Swap { target: Target::Zone(_, of), expected, next } if *of == apex => {
            Some((*expected, next.serial))
        }
        _ => None,
    });
    let (expected, serial) = swap.unwrap_or_else(|| panic!("{name} is not published: {outputs:?}"));
    let served = |output: &Output| matches!(output, Output::Publish(_, of, version) if *of == apex && version.serial == serial);
    assert!(outputs.iter().any(served), "{outputs:?}");
    (expected, serial)
}

#[test]
fn a_zone_with_another_name_is_published_at_once_under_the_next_serial() {
    let mut core = Core::new([]);
    let objects = [instance("one", Role::Primary, &[]), zone("zone", "example.com", 1), a("www", "www", 1)];
    let (_, mut last) = published(&apply(&mut core, &objects), "example.com");
    // The last one has been published before, and no catalog without it yet.
    for name in ["example.org", "example.net", "example.com"] {
        let outputs = apply(&mut core, &[zone("zone", name, 1)]);
        let asks = |output: &&Output| matches!(output, Output::Fetch(..) | Output::CatchUp(_));
        assert_eq!(outputs.iter().filter(asks).count(), 0, "{name}: {outputs:?}");
        let (expected, serial) = published(&outputs, name);
        assert_eq!(expected, Some(last));
        assert!(serial.is_after(last), "{name}: {serial} after {last}");
        last = serial;
    }
}

/// Takes something in at that time. Swaps are left to the caller, and servers take every NOTIFY and answer nothing else.
fn step(core: &mut Core, input: Input, seconds: u64) -> Vec<Output> {
    let now = Now { monotonic: NOW.monotonic + Duration::from_secs(seconds), ..NOW };
    let (mut inputs, mut done) = (vec![input], Vec::new());
    while let Some(input) = inputs.pop() {
        for output in core.step(input, now) {
            if let Output::Probe(id, probes) = &output {
                for probe in probes {
                    let answer = match probe.ask {
                        Ask::Notify => Answer::Notified,
                        _ => Answer::Failure("REFUSED".to_owned()),
                    };
                    inputs.push(Input::Probed(id.clone(), probe.clone(), answer));
                }
            }
            done.push(output);
        }
    }
    done
}

/// Answers that every swap among these is done, and those that follow from them too.
fn carry_out_swaps(core: &mut Core, outputs: Vec<Output>, seconds: u64) -> Vec<Output> {
    let (mut all, mut next) = (Vec::new(), outputs);
    while !next.is_empty() {
        let swaps = next.iter().filter_map(|output| match output {
            Output::Swap { target, .. } => Some(Input::Swapped(target.clone(), Swapped::Done)),
            _ => None,
        });
        let swaps: Vec<Input> = swaps.collect();
        all.append(&mut next);
        next = swaps.into_iter().flat_map(|swap| step(core, swap, seconds)).collect();
    }
    all
}

#[test]
fn a_zone_that_goes_while_its_version_is_written_is_not_listed_again() {
    let mut core = Core::new([]);
    let zone = zone("zone", "example.com", 1);
    apply(&mut core, &[instance("one", Role::Primary, &[]), zone.clone(), a("www", "www", 1)]);
    let listed = step(&mut core, Input::Tick, 1);
    carry_out_swaps(&mut core, listed, 1);
    let edit = ObjectEvent::Applied(a("www", "www", 2));
    let edited = step(&mut core, Input::Objects(vec![edit]), 2);
    assert!(matches!(edited[..], [Output::Swap { .. }]), "{edited:?}");
    let gone = ObjectEvent::Removed(zone.key(), Removal::Deleted);
    let gone = step(&mut core, Input::Objects(vec![gone]), 3);
    // The answer to what was begun first comes first.
    let mut outputs = carry_out_swaps(&mut core, edited.into_iter().chain(gone).collect(), 3);
    let last = step(&mut core, Input::Tick, 4);
    outputs.extend(carry_out_swaps(&mut core, last, 4));
    let mut catalogs = outputs.iter().filter_map(|output| match output {
        Output::Publish(Target::Catalog(_), _, version) => Some(Catalog::members(&version.content).count()),
        _ => None,
    });
    assert_eq!(catalogs.next_back(), Some(0));
}

#[test]
fn a_zone_that_goes_while_its_first_version_is_written_leaves_nothing_behind() {
    let zone = zone("zone", "example.com", 1);
    for result in [Swapped::Done, Swapped::Failed] {
        let mut core = Core::new([]);
        let id = ServerId { instance: key("one"), name: "one-1".to_owned() };
        core.step(Input::Servers(vec![ServerState { id, incarnation: 1, ready: true, going: false }]), NOW);
        apply(&mut core, &[instance("one", Role::Primary, &[])]);
        let missing = |core: &Core| core.server_reports().next().unwrap().missing;
        let before = missing(&core);
        let begun = step(&mut core, Input::Objects(vec![ObjectEvent::Applied(zone.clone())]), 1);
        let [Output::Swap { target, .. }] = &begun[..] else { panic!("{begun:?}") };
        step(&mut core, Input::Objects(vec![ObjectEvent::Removed(zone.key(), Removal::Deleted)]), 2);
        let after = step(&mut core, Input::Swapped(target.clone(), result), 3);
        let swaps = after.iter().filter(|output| matches!(output, Output::Swap { .. })).count();
        assert_eq!((swaps, missing(&core)), (0, before), "{result:?}: {after:?}");
        // Another object of this name is written for itself.
        let Object::Zone(mut spec) = zone.clone() else { unreachable!() };
        spec.metadata.uid.push_str("-again");
        let again = Input::Objects(vec![ObjectEvent::Applied(Object::Zone(spec))]);
        let again = step(&mut core, again, 4);
        let all = carry_out_swaps(&mut core, again, 4);
        let (mut swapped, mut published) = (0, 0);
        for output in &all {
            swapped += usize::from(matches!(output, Output::Swap { target: Target::Zone(..), .. }));
            published += usize::from(matches!(output, Output::Publish(Target::Zone(..), ..)));
        }
        assert_eq!((swapped, published), (1, 1), "{result:?}: {all:?}");
    }
}

#[test]
fn nobody_waits_for_a_server_to_have_a_zone_that_is_gone() {
    let mut core = Core::new([]);
    let zone = zone("zone", "example.com", 1);
    let id = ServerId { instance: key("one"), name: "one-1".to_owned() };
    core.step(Input::Servers(vec![ServerState { id, incarnation: 1, ready: true, going: false }]), NOW);
    apply(&mut core, &[instance("one", Role::Primary, &[]), zone.clone()]);
    // It has neither its catalog nor the zone.
    step(&mut core, Input::Tick, 60);
    let missing = |core: &Core| core.server_reports().next().unwrap().missing;
    assert_eq!(missing(&core), 2);
    let gone = Input::Objects(vec![ObjectEvent::Removed(zone.key(), Removal::Deleted)]);
    let gone = step(&mut core, gone, 61);
    carry_out_swaps(&mut core, gone, 61);
    assert_eq!(missing(&core), 1);
}
