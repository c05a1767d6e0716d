//! Seeds of what tests do at random. `BINDY_SEED` repeats one run.

/// `BINDY_SEED`, if it is given.
pub fn given_seed() -> Option<u64> {
    std::env::var("BINDY_SEED").ok()?.parse().ok()
}

/// `BINDY_SEED`, or another seed each time; printed, so that a failure can be repeated.
#[expect(clippy::print_stderr, reason = "the seed is for the person who reads the failure")]
pub fn seed() -> u64 {
    let seed = given_seed().unwrap_or_else(rand::random);
    eprintln!("BINDY_SEED={seed}");
    seed
}
