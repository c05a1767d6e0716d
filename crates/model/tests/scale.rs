//! What many zones cost: in proportion to their number, not to its square.

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

use std::time::Duration;

use bindy_model::{
    Core, Input, Now, Object, ObjectEvent, Output, Removal, Role, ServerId, ServerState, Swapped, World,
};
use common::{a, instance, key, zone};
use rustix::time::{ClockId, clock_gettime};

/// Eight times as much takes about eight times as long; were it the square, it would be sixty-four times. `work` is
/// measured, by the time of the processor: others may use it as well.
fn grows_in_proportion<T>(what: &str, prepare: impl Fn(usize) -> T, work: impl Fn(T)) {
    let clock = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
    };
    let cost = |n: usize| {
        let prepared = prepare(n);
        let start = clock();
        work(prepared);
        clock() - start
    };
    let least = |n: usize| (0..3).map(|_| cost(n)).min().unwrap();
    let (few, many) = (least(500), least(4_000));
    let ratio = many.as_secs_f64() / few.as_secs_f64();
    eprintln!("{what}: {few:?}, eight times as much {many:?}, ratio {ratio:.1}");
    assert!(ratio < 24.0, "{what}: {few:?}, eight times as much {many:?}");
}

fn nth_zone(n: usize) -> Object {
    zone(&format!("zone-{n:05}"), &format!("zone-{n:05}.example"), 1)
}

const NOW: Now = Now { monotonic: Duration::from_secs(10), unix: 1_700_000_000 };

/// Takes the input in, and what follows from it in the ledger.
fn step(core: &mut Core, input: Input) {
    let mut inputs = vec![input];
    while let Some(input) = inputs.pop() {
        for output in core.step(input, NOW) {
            if let Output::Swap { target, .. } = output {
                inputs.push(Input::Swapped(target, Swapped::Done));
            }
        }
    }
}

/// A replica that has published one instance with so many zones.
fn published(zones: usize) -> Core {
    let mut core = Core::new([]).telling();
    let objects = (0..zones).map(nth_zone).chain([instance("one", Role::Primary, &[])]);
    let events = objects.map(ObjectEvent::Applied).chain([ObjectEvent::Listed]);
    step(&mut core, Input::Objects(events.collect()));
    core
}

#[test]
fn a_hand_over_costs_in_proportion_to_the_zones() {
    let follower = |zones| {
        let mut core = published(zones);
        step(&mut core, Input::Follow);
        let server = ServerId { instance: key("one"), name: "0".to_owned() };
        step(
            &mut core,
            Input::Servers(vec![ServerState { id: server, incarnation: 1, ready: true, going: false }]),
        );
        core
    };
    grows_in_proportion("hand-over", follower, |mut core| drop(core.step(Input::Lead, NOW)));
}

/// No catalog has another version meanwhile.
#[test]
fn an_edit_costs_nothing_for_zones_that_are_still_to_be_retired() {
    let retiring = |zones| {
        let mut core = published(zones);
        let gone = (1..zones).map(|n| ObjectEvent::Removed(nth_zone(n).key(), Removal::Deleted));
        step(&mut core, Input::Objects(gone.collect()));
        (core, zones)
    };
    grows_in_proportion("edits while zones retire", retiring, |(mut core, edits)| {
        for edit in 0..edits {
            let Object::Record(mut record) = a("www", "www", (edit % 2) as u8) else { panic!("no record") };
            record.zone_ref = Some("zone-00000".to_owned());
            step(&mut core, Input::Objects(vec![ObjectEvent::Applied(Object::Record(record))]));
        }
    });
}

/// Nothing is heard of the server meanwhile: all its zones wait.
#[test]
fn a_step_costs_nothing_for_zones_that_a_server_waits_for() {
    let waiting = |zones| {
        let mut core = published(zones);
        let server = ServerId { instance: key("one"), name: "0".to_owned() };
        step(
            &mut core,
            Input::Servers(vec![ServerState { id: server, incarnation: 1, ready: true, going: false }]),
        );
        (core, zones)
    };
    grows_in_proportion("steps while zones wait", waiting, |(mut core, steps)| {
        for _ in 0..steps {
            core.step(Input::Tick, NOW);
            assert!(core.next_tick().is_some());
        }
    });
}

/// A record for the zone of the same number, which refers to it or has a label.
fn nth_record(n: usize, labelled: bool) -> Object {
    let Object::Record(mut record) = a(&format!("record-{n:05}"), "www", 1) else { panic!("no record") };
    record.zone_ref = (!labelled).then(|| format!("zone-{n:05}"));
    if labelled {
        record.metadata.labels.insert("app".to_owned(), "web".to_owned());
    }
    Object::Record(record)
}

#[test]
fn zones_that_select_nothing_cost_no_look_at_the_records() {
    for (what, labelled, in_pairs) in [
        ("each zone before its record", false, true),
        ("zones after all records", false, false),
        ("labelled records among zones", true, true),
        ("zones after labelled records", true, false),
    ] {
        let objects = |count| -> Vec<Object> {
            let zones = (0..count).map(nth_zone);
            let records = (0..count).map(|n| nth_record(n, labelled));
            match in_pairs {
                true => zones.zip(records).flat_map(|(zone, record)| [zone, record]).collect(),
                false => records.chain(zones).collect(),
            }
        };
        grows_in_proportion(what, objects, |objects| {
            let mut world = World::new();
            objects.into_iter().for_each(|object| world.apply(object));
        });
    }
}
