//! Candidates against a world in which everything goes wrong that may: requests and replies lost, late or carried out
//! although an error was answered; watches late, repeated or half open; stale reads; the API server away; processes
//! stopped, killed, restarted with the same name, two of one name at once; the lease deleted, edited, given to others, put
//! back from a copy. Clocks begin anywhere and run up to 5 % wrong; wall clocks do not exist here, because the step
//! function has none.
//!
//! At every step: never two live terms at one moment of true time; a term that is over stays over; numbers rise unless
//! somebody edited them away; what a leader writes is accepted only in the order of terms. After the faults: a leader within
//! duration + 2 × retry period (by the slowest clock), and then the same one, with one write each retry period and
//! none by others. A run that fails prints its seed; BINDY_SEED runs that one alone.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    unreachable_pub,
    reason = "a test fails by panicking"
)]

mod api;
mod world;

use rand::Rng;
use world::{SECOND, World};

/// Rounds of faults and quiet of one seed.
const ROUNDS: u64 = 12;

fn run(seed: u64) -> u64 {
    let mut world = World::new(seed);
    for _ in 0..ROUNDS {
        world.faults = true;
        let end = world.now + world.random.random_range(10 * SECOND..150 * SECOND);
        while world.now < end {
            let pause = world.random.random_range(0..8 * SECOND);
            world.run_until(world.now + pause);
            world.fault();
        }
        world.heal();
        quiet(&mut world);
    }
    world.steps
}

fn quiet(world: &mut World) {
    // Messages under way and processes that start are the last faults.
    while world.last_fault() > world.now + SECOND / 10 {
        world.run_until(world.last_fault());
    }
    let last = world.now;
    let foreign = world.api.lease.as_ref().map_or(0, |lease| lease.record.duration.as_micros());
    let wait = world.duration().max(u64::try_from(foreign).unwrap()) + 2 * world.retry();
    // By the slowest clock, and with the time that the messages themselves take.
    world.run_until(last + wait * 100 / 95 + SECOND / 4);
    let leaders = world.leaders();
    assert_eq!(leaders.len(), 1, "leaders at {} µs, {wait} µs after the last fault", world.now);
    // Others may have tried at the same moment.
    world.run_until(world.now + world.retry());
    for node in &mut world.nodes {
        node.writes = 0;
    }
    let periods = 10;
    world.run_until(world.now + periods * world.retry());
    assert_eq!(world.leaders(), leaders, "the leader changed although nothing happened");
    for (at, node) in world.nodes.iter().enumerate() {
        let wanted = if at == leaders[0].0 { periods - 1..=periods + 1 } else { 0..=0 };
        assert!(wanted.contains(&node.writes), "{} writes of {at}, the leader is {leaders:?}", node.writes);
    }
}

fn run_all(mut seeds: impl Iterator<Item = u64>, wanted: u64) {
    let mut steps = 0;
    while steps < wanted
        && let Some(seed) = seeds.next()
    {
        match std::panic::catch_unwind(|| run(seed)) {
            Ok(taken) => steps += taken,
            Err(panic) => {
                eprintln!("failed with BINDY_SEED={seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    eprintln!("{steps} steps");
}

#[test]
fn never_two_live_terms_in_a_million_steps() {
    match std::env::var("BINDY_SEED") {
        Ok(seed) => run_all(std::iter::once(seed.parse().unwrap()), 1),
        Err(_) => run_all(0.., 1_000_000),
    }
}

#[test]
#[ignore = "long: other seeds, ten times as many steps"]
fn never_two_live_terms_in_ten_million_steps() {
    run_all(1_000_000.., 10_000_000);
}
