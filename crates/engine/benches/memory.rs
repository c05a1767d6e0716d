//! Memory of 1 000 000 A records in 1 000 zones, from decoded objects to served versions:
//! `cargo xtask bench memory`. The peak is what a thread sees that looks at the allocator all the time.

#![allow(clippy::expect_used, reason = "a bench fails loudly")]

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bindy_model::ObjectEvent;
use common::{World, record, report};

const ZONES: u32 = 1_000;
const RECORDS: u32 = 1_000;

/// Between two looks at the allocator.
const LOOK: Duration = Duration::from_micros(500);

fn allocated() -> usize {
    tikv_jemalloc_ctl::epoch::advance().expect("jemalloc keeps statistics");
    tikv_jemalloc_ctl::stats::allocated::read().expect("jemalloc keeps statistics")
}

/// Does the work, and returns its result with the most that was allocated meanwhile.
fn with_peak<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let sampler = scope.spawn(|| {
            let mut peak = 0;
            while !ended.load(Ordering::Relaxed) {
                peak = peak.max(allocated());
                std::thread::sleep(LOOK);
            }
            peak
        });
        let result = work();
        ended.store(true, Ordering::Relaxed);
        (result, sampler.join().expect("the sampler ends"))
    })
}

fn main() {
    let total = ZONES * RECORDS;
    let before = allocated();
    let (world, peak) = with_peak(|| {
        let mut world = World::with_records(ZONES, RECORDS);
        world.objects(vec![ObjectEvent::Listed]);
        // A change of every zone, so that each has a history.
        for n in 0..ZONES {
            world.objects(vec![record(n, 0, 1)]);
        }
        world
    });
    assert!(world.published >= 2 * ZONES as usize, "{} versions were published", world.published);
    let used = allocated() - before;
    report("memory", "bytes_per_record", used as f64 / f64::from(total), "bytes", total);
    report("memory", "peak_bytes_per_record", (peak - before) as f64 / f64::from(total), "bytes", total);
}
