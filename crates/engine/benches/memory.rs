//! Memory of 1 000 000 A records in 1 000 zones, from decoded objects to served versions:
//! `cargo xtask bench memory`.

#![allow(clippy::print_stdout, clippy::expect_used, unreachable_pub, reason = "a bench prints, and fails loudly")]

mod common;

use bindy_model::ObjectEvent;
use common::{World, record, report, zone};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const ZONES: u32 = 1_000;
const RECORDS: u32 = 1_000;

fn allocated() -> usize {
    tikv_jemalloc_ctl::epoch::advance().expect("jemalloc keeps statistics");
    tikv_jemalloc_ctl::stats::allocated::read().expect("jemalloc keeps statistics")
}

fn main() {
    let total = ZONES * RECORDS;
    let before = allocated();
    let mut world = World::new();
    let mut peak = 0;
    // As a watch delivers them: kind by kind, page by page, and nothing compiled before all are listed.
    world.objects((0..ZONES).map(zone).collect());
    for n in 0..ZONES {
        world.objects((0..RECORDS).map(|host| record(n, host, n * RECORDS + host)).collect());
        peak = peak.max(allocated());
    }
    world.objects(vec![ObjectEvent::Listed]);
    peak = peak.max(allocated());
    // A change of every zone, so that each has a history.
    for n in 0..ZONES {
        world.objects(vec![record(n, 0, 1)]);
        peak = peak.max(allocated());
    }
    assert!(world.published >= 2 * ZONES as usize, "{} versions were published", world.published);
    let used = allocated() - before;
    report("memory", "bytes_per_record", used as f64 / f64::from(total), "bytes", total);
    report("memory", "peak_bytes_per_record", (peak - before) as f64 / f64::from(total), "bytes", total);
}
