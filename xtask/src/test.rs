//! `cargo xtask test` and `cargo xtask check`.

use std::process::Command;

use anyhow::Result;

use crate::steps::{Steps, cargo};
use crate::{fuzz, generate, prerequisites, selection};

/// Everything, also after a failed step: one run shows all there is to mend. Cargo's tests come last, so that their
/// closing lines end the output.
pub(crate) fn all(steps: &mut Steps, long: bool) -> Result<()> {
    prerequisites::install(steps, &prerequisites::SERVERS)?;
    prerequisites::install(steps, &prerequisites::FUZZING)?;
    let before = [lints(steps), fuzz::run_all(steps)];
    let mut tests = tests(long);
    let tests = steps.command("tests", &mut tests);
    before.into_iter().chain([tests]).collect()
}

/// What needs neither servers nor a fuzzer.
pub(crate) fn check(steps: &mut Steps) -> Result<()> {
    let lints = lints(steps);
    let mut unit = cargo(&["test", "--workspace", "--no-fail-fast", "--lib", "--bins"]);
    lints.and(steps.command("unit and property tests", &mut unit))
}

/// Only what `name` selects.
pub(crate) fn only(steps: &mut Steps, name: &str, long: bool) -> Result<()> {
    prerequisites::install(steps, &prerequisites::SERVERS)?;
    let binaries = steps.run("build tests", selection::build)?;
    let (files, single) = steps.run("select tests", || selection::select(&binaries, name))?;
    // Both run even if the first fails: the point of --only is to see them all.
    let mut results = Vec::new();
    if !files.is_empty() {
        results.push(steps.command("tests by file", with_options(&mut tests_of(&files), None, long)));
    }
    if !single.is_empty() {
        results.push(steps.command("tests by name", with_options(&mut tests_of(&single), Some(name), long)));
    }
    results.into_iter().collect()
}

fn lints(steps: &mut Steps) -> Result<()> {
    let format = steps.command("format", &mut cargo(&["fmt", "--all", "--check"]));
    let mut clippy = cargo(&["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"]);
    let clippy = steps.command("lints", &mut clippy);
    [format, clippy, generate::run(steps, true)].into_iter().collect()
}

fn tests(long: bool) -> Command {
    let mut command = tests_of(&[]);
    with_options(&mut command, None, long);
    command
}

fn tests_of(targets: &[String]) -> Command {
    let mut command = cargo(&["test", "--workspace", "--no-fail-fast"]);
    command.args(targets).env("RUST_TEST_THREADS", threads().to_string());
    // Errors of tests say what they waited for; where they passed by helps nobody.
    command.env("RUST_LIB_BACKTRACE", "0");
    command
}

fn with_options<'a>(command: &'a mut Command, name: Option<&str>, long: bool) -> &'a mut Command {
    command.arg("--").args(name);
    if long { command.arg("--include-ignored") } else { command }
}

/// Tests with real servers mostly wait, so twice as many as there are cores run at once.
fn threads() -> usize {
    std::thread::available_parallelism().map_or(4, |cores| cores.get() * 2)
}
