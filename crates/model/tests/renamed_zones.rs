//! DNSZones whose `spec.zoneName` becomes another one.

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

use bindy_model::{Core, Input, Now, Object, ObjectEvent, Output, Role, Swapped, Target};
use bindy_zone::{Name, Serial};
use common::{a, instance, zone};

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
