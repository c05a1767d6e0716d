//! Memory of 1 000 000 A records in 1 000 zones, from decoded objects to served versions:
//! `cargo xtask bench memory`. It is what the system has given to the process, and the most that it ever had.

#![allow(clippy::expect_used, reason = "a bench fails loudly")]

mod common;

use std::fs;

use bindy_model::ObjectEvent;
use common::{World, record, report};

const ZONES: u32 = 1_000;
const RECORDS: u32 = 1_000;

/// Bytes by a field of `/proc/self/status`: proc_pid_status(5) has them in KiB.
fn status(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux tells about this process");
    let value = status.lines().find_map(|line| line.strip_prefix(field)?.strip_suffix(" kB"));
    let kibibytes: u64 =
        value.and_then(|value| value.trim_start_matches(':').trim().parse().ok()).expect(field);
    kibibytes * 1024
}

fn main() {
    let total = ZONES * RECORDS;
    let (before, anonymous) = (status("VmRSS"), status("RssAnon"));
    let mut world = World::with_records(ZONES, RECORDS);
    world.objects(vec![ObjectEvent::Listed]);
    // A change of every zone, so that each has a history.
    for n in 0..ZONES {
        world.objects(vec![record(n, 0, 1)]);
    }
    assert!(world.published >= 2 * ZONES as usize, "{} versions were published", world.published);
    let per_record = |bytes| bytes as f64 / f64::from(total);
    report("memory", "bytes_per_record", per_record(status("RssAnon") - anonymous), "bytes", total);
    report("memory", "peak_bytes_per_record", per_record(status("VmHWM") - before), "bytes", total);
}
