//! Time from an event to a published version in a zone of 1 000 000 records, and of compiling it whole:
//! `cargo xtask bench compile`.

#![allow(clippy::expect_used, reason = "a bench fails loudly")]

mod common;

use std::time::Instant;

use bindy_model::ObjectEvent;
use common::{World, record, report};

const RECORDS: u32 = 1_000_000;
const CHANGES: u32 = 2_000;

fn main() {
    let mut world = World::with_records(1, RECORDS);
    let begun = Instant::now();
    world.objects(vec![ObjectEvent::Listed]);
    report("compile", "full_1m_s", begun.elapsed().as_secs_f64(), "s", 1);
    let before = world.published;
    let mut times: Vec<f64> = Vec::new();
    for n in 0..CHANGES {
        let event = record(0, n * 499 % RECORDS, n + 7);
        let begun = Instant::now();
        world.objects(vec![event]);
        times.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    assert_eq!(world.published - before, CHANGES as usize, "each change is one version");
    times.sort_by(f64::total_cmp);
    let median = times.get(times.len() / 2).copied().expect("there are changes");
    report("compile", "change_in_1m_us", median, "us", CHANGES);
}
