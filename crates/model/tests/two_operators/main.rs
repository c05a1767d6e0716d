//! Two operators over one API server and the same DNS servers, of which one leads at a time: each sees changes late,
//! stalls, crashes, and loses its term anywhere; its writes arrive late, twice removed from its knowledge, or never, and
//! so do their answers. After every step:
//!
//! 1. a serial names one content, and nobody serves a version that the ledger did not name;
//! 2. serials of the ledger, of each operator while it runs, and of every server only rise;
//! 4. a record that was told to be served in a generation is not told the contrary in it;
//! 5. a record that is wanted all the time is in every version, and its zone in every catalog; an edit that a version has is not
//!    taken back by a later one;
//! 6. nothing that was sent without a live term has an effect, nor anything that the next leader's write has overtaken.
//!
//! When the faults stop, both operators and every server have what a fresh compilation gives, every status says so, and a
//! last change of leader writes nothing. Each run prints its seed when it fails; BINDY_SEED runs that one alone.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    unreachable_pub,
    dead_code,
    reason = "a test fails by panicking, and shares the objects of its neighbours"
)]

mod api;
#[path = "../common/mod.rs"]
mod common;
mod counts;
mod operator;
mod simulation;

use counts::Counts;
use simulation::Simulation;

/// Rounds of faults in one run.
const ROUNDS: usize = 12;

fn run_all(seeds: impl Iterator<Item = u64>) {
    let mut counts = Counts::default();
    for seed in seeds {
        match std::panic::catch_unwind(|| Simulation::new(seed).run(ROUNDS)) {
            Ok(more) => counts.add(&more),
            Err(panic) => {
                eprintln!("failed with BINDY_SEED={seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    eprintln!("{counts:?}");
    counts.all_happened();
}

#[test]
fn invariants_hold_with_two_operators_whatever_arrives_late() {
    match std::env::var("BINDY_SEED") {
        Ok(seed) => drop(Simulation::new(seed.parse().unwrap()).run(ROUNDS)),
        Err(_) => run_all(0..40),
    }
}

#[test]
#[ignore = "long: other seeds, many more"]
fn invariants_hold_with_two_operators_for_a_long_time() {
    run_all(1_000..4_000);
}
