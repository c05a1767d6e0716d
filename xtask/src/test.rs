//! `cargo xtask test` and `cargo xtask check`.

use std::process::Command;

use anyhow::Result;

use crate::cluster::{self, Name, Wish};
use crate::selection::{self, ON_CLUSTER, Selected};
use crate::steps::{Steps, cargo};
use crate::{fuzz, generate, prerequisites};

/// The cluster that tests make for themselves, so that nobody's own is touched.
const CLUSTER: &str = "test";
/// Names a cluster that is there already, for tests that are run again and again. It stays.
pub(crate) const VARIABLE: &str = "BINDY_CLUSTER";
/// One for each region of the guide.
const NODES: u8 = 3;

/// Everything, also after a failed step: one run shows all there is to mend. Cargo's tests come last, so that their
/// closing lines end the output.
pub(crate) fn all(steps: &mut Steps, long: bool) -> Result<()> {
    prerequisites::install(steps, &prerequisites::SERVERS)?;
    prerequisites::install(steps, &prerequisites::FUZZING)?;
    let before = [lints(steps), fuzz::run_all(steps)];
    let mut tests = tests_of(&["--workspace", "--exclude", ON_CLUSTER], &[]);
    let tests = steps.command("tests", with_options(&mut tests, None, long));
    let mut on_cluster = tests_of(&["--package", ON_CLUSTER], &[]);
    with_options(&mut on_cluster, None, long);
    let on_cluster = with_cluster(steps, |steps, name| run_on(steps, name, vec![on_cluster]));
    before.into_iter().chain([tests, on_cluster]).collect()
}

/// What needs neither servers nor a fuzzer.
pub(crate) fn check(steps: &mut Steps) -> Result<()> {
    let lints = lints(steps);
    let mut unit = cargo(&["test", "--workspace", "--no-fail-fast", "--lib", "--bins"]);
    lints.and(steps.command("unit and property tests", &mut unit))
}

/// Only what `name` selects; a cluster is made if that is among it.
pub(crate) fn only(steps: &mut Steps, name: &str, long: bool) -> Result<()> {
    prerequisites::install(steps, &prerequisites::SERVERS)?;
    let binaries = steps.run("build tests", selection::build)?;
    let (here, on_cluster) = steps.run("select tests", || selection::select(&binaries, name))?;
    // All run even if the first fails: the point of --only is to see them all.
    let mut results = Vec::new();
    for mut command in commands(&["--workspace", "--exclude", ON_CLUSTER], &here, name, long) {
        results.push(steps.command("tests", &mut command));
    }
    let commands = commands(&["--package", ON_CLUSTER], &on_cluster, name, long);
    if !commands.is_empty() {
        results.push(with_cluster(steps, |steps, cluster| run_on(steps, cluster, commands)));
    }
    results.into_iter().collect()
}

/// One run for whole files, one for single tests.
fn commands(packages: &[&str], selected: &Selected, name: &str, long: bool) -> Vec<Command> {
    let mut commands = Vec::new();
    for (targets, filter) in [(&selected.files, None), (&selected.single, Some(name))] {
        if !targets.is_empty() {
            let mut command = tests_of(packages, targets);
            with_options(&mut command, filter, long);
            commands.push(command);
        }
    }
    commands
}

/// Runs `tests` with the name of a cluster that has the operator. It is taken down afterwards, whatever came of them,
/// unless somebody else has made it.
pub(crate) fn with_cluster(
    steps: &mut Steps,
    tests: impl FnOnce(&mut Steps, &Name) -> Result<()>,
) -> Result<()> {
    let given = std::env::var(VARIABLE).ok().filter(|name| !name.is_empty());
    let name: Name = given.as_deref().unwrap_or(CLUSTER).parse()?;
    let wish = Wish { nodes: given.is_none().then_some(NODES), ..Wish::default() };
    let up = cluster::up(steps, &name, wish).and_then(|()| cluster::load_images(steps, &name));
    let installed = up.and_then(|()| cluster::install(steps, &name));
    let installed = installed.and_then(|()| cluster::one_replica(steps, &name));
    let tested = installed.and_then(|()| tests(steps, &name));
    let down = if given.is_some() { Ok(()) } else { cluster::down(steps, &name) };
    tested.and(down)
}

fn run_on(steps: &mut Steps, cluster: &Name, commands: Vec<Command>) -> Result<()> {
    let mut results = Vec::new();
    for mut command in commands {
        command.env(VARIABLE, cluster.to_string());
        results.push(steps.command("tests on the cluster", &mut command));
    }
    results.into_iter().collect()
}

fn lints(steps: &mut Steps) -> Result<()> {
    let format = steps.command("format", &mut cargo(&["fmt", "--all", "--check"]));
    let mut clippy = cargo(&["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"]);
    let clippy = steps.command("lints", &mut clippy);
    [format, clippy, generate::check_definitions(steps)].into_iter().collect()
}

fn tests_of(packages: &[&str], targets: &[String]) -> Command {
    let mut command = cargo(&["test", "--no-fail-fast"]);
    command.args(packages).args(targets).env("RUST_TEST_THREADS", threads().to_string());
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
