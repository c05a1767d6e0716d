//! `cargo xtask test` and `cargo xtask check`.

use std::process::Command;

use anyhow::Result;

use crate::cluster::{self, Name, Replicas, Wish};
use crate::selection::{self, ALSO_LONG, ON_CLUSTER, Run};
use crate::steps::{Steps, cargo, programs};
use crate::{fuzz, image, prerequisites};

/// The cluster that tests make for themselves, so that nobody's own is touched.
pub(crate) const CLUSTER: &str = "test";
/// It and others beside it, since tests that need a whole cluster each mostly wait: with two they took 789 s, with three 608 s. Two
/// cores still idle a tenth to two fifths of most minutes then, which tests of leases of seconds need.
const CLUSTERS: [&str; 3] = [CLUSTER, "test2", "test3"];
/// Names clusters that are there already, for tests that are run again and again. They stay.
pub(crate) const VARIABLE: &str = "BINDY_CLUSTER";
/// One for each region of the guide on high availability.
const NODES: u8 = 3;

/// Everything, also after a failed step: one run shows all there is to mend. Cargo's tests come last, so that their
/// closing lines end the output.
pub(crate) fn all(steps: &mut Steps, long: bool) -> Result<()> {
    if clusters_given().is_empty() {
        cluster::can_be_made()?;
    }
    prerequisites::install(steps, &prerequisites::SERVERS)?;
    prerequisites::install(steps, &prerequisites::FUZZING)?;
    if !programs("debug")?.join("bindy").exists() {
        // Nothing was compiled here yet: what the compiler would keep for the next time takes two fifths more of the processor.
        steps.set("CARGO_INCREMENTAL", "0");
    }
    let all =
        Run { targets: Vec::new(), arguments: long.then(|| ALSO_LONG.to_owned()).into_iter().collect() };
    let kubernetes = cluster::Build::begin()?;
    let mut build = cargo(&["test", "--quiet", "--workspace", "--no-run"]);
    let mut here = vec![lints(steps), fuzz::run_all(steps), steps.command("build tests", &mut build)];
    let bindy = image::begin()?;
    here.push(steps.command("tests", &mut tests_here(&all)));
    here.push(kubernetes.map_or(Ok(()), |kubernetes| kubernetes.end(steps)));
    if clusters_given().is_empty() {
        // It mostly waits, while the compiler does not.
        here.push(image::bind9(steps).map(drop));
        here.extend(CLUSTERS.iter().map(|name| cluster::up(steps, &name.parse()?, own_cluster())));
    }
    bindy.end(steps)?;
    let on_cluster = |targets: &[&str]| {
        let targets = targets.iter().map(|word| (*word).to_owned()).collect();
        tests_on_cluster(&Run { targets, arguments: all.arguments.clone() })
    };
    let (alone, together) = (on_cluster(&["--test", "alone"]), on_cluster(&["--test", "together"]));
    let on_cluster = with_clusters(steps, &CLUSTERS, |steps, names| {
        let alone = run_on(steps, names, vec![alone]);
        // Tests side by side start pods all the time and count lost questions: nothing else is to run then.
        let down = match clusters_given().is_empty() {
            true => CLUSTERS.iter().skip(1).try_for_each(|name| cluster::down(steps, &name.parse()?)),
            false => Ok(()),
        };
        let first = names.split(' ').next().unwrap_or(names);
        let together = run_on(steps, first, vec![together]);
        alone.and(down).and(together)
    });
    here.into_iter().chain([on_cluster]).collect()
}

/// What needs neither servers nor a fuzzer.
pub(crate) fn check(steps: &mut Steps) -> Result<()> {
    let lints = lints(steps);
    // `crds` compares the generated files.
    let mut unit = cargo(&["test", "--workspace", "--no-fail-fast", "--lib", "--bins", "--test", "crds"]);
    lints.and(steps.command("unit and property tests", &mut unit))
}

/// Only what `name` selects; a cluster is made if that is among it.
pub(crate) fn only(steps: &mut Steps, name: &str, long: bool) -> Result<()> {
    prerequisites::install(steps, &prerequisites::SERVERS)?;
    let binaries = steps.run("build tests", selection::build)?;
    let (here, on_cluster) = steps.run("select tests", || selection::select(&binaries, name, long))?;
    // All run even if the first fails: the point of --only is to see them all.
    let mut results = Vec::new();
    for run in &here {
        results.push(steps.command("tests", &mut tests_here(run)));
    }
    let commands: Vec<_> = on_cluster.iter().map(tests_on_cluster).collect();
    if !commands.is_empty() {
        results.push(with_clusters(steps, &[CLUSTER], |steps, names| run_on(steps, names, commands)));
    }
    results.into_iter().collect()
}

/// Runs `tests` with the names of clusters that have the operator, as [`VARIABLE`] has them. They are taken down afterwards,
/// whatever came of them, unless somebody else has made them.
pub(crate) fn with_clusters(
    steps: &mut Steps,
    own: &[&str],
    tests: impl FnOnce(&mut Steps, &str) -> Result<()>,
) -> Result<()> {
    let given = clusters_given();
    let given: Vec<&str> = given.iter().map(String::as_str).collect();
    let names = if given.is_empty() { own } else { &given };
    let wish = || if given.is_empty() { own_cluster() } else { Wish::default() };
    let made = names.iter().try_for_each(|name| with_operator(steps, &name.parse()?, wish()));
    let made =
        made.and_then(|()| names.iter().try_for_each(|name| cluster::operator_ready(steps, &name.parse()?)));
    let tested = made.and_then(|()| tests(steps, &names.join(" ")));
    let down = if given.is_empty() {
        let ended: Vec<_> = own.iter().map(|name| cluster::down(steps, &name.parse()?)).collect();
        ended.into_iter().collect()
    } else {
        Ok(())
    };
    tested.and(down)
}

fn own_cluster() -> Wish {
    Wish { nodes: Some(NODES), ..Wish::default() }
}

/// The names in [`VARIABLE`].
fn clusters_given() -> Vec<String> {
    std::env::var(VARIABLE).unwrap_or_default().split_whitespace().map(str::to_owned).collect()
}

fn with_operator(steps: &mut Steps, name: &Name, wish: Wish) -> Result<()> {
    cluster::up(steps, name, wish)?;
    cluster::load_images(steps, name)?;
    cluster::install(steps, name, Replicas::One)
}

fn run_on(steps: &mut Steps, clusters: &str, commands: Vec<Command>) -> Result<()> {
    let mut results = Vec::new();
    for mut command in commands {
        command.env(VARIABLE, clusters);
        results.push(steps.command("tests on the cluster", &mut command));
    }
    results.into_iter().collect()
}

fn lints(steps: &mut Steps) -> Result<()> {
    let format = steps.command("format", &mut cargo(&["fmt", "--all", "--check"]));
    let mut clippy = cargo(&["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"]);
    let clippy = steps.command("lints", &mut clippy);
    format.and(clippy)
}

fn tests_here(run: &Run) -> Command {
    tests_of(&["--workspace", "--exclude", ON_CLUSTER], run)
}

fn tests_on_cluster(run: &Run) -> Command {
    // With a package chosen, those that it depends on would have other features, and be built anew.
    tests_of(&["--workspace"], run)
}

/// Tests with real servers mostly wait, so twice as many as there are cores run at once.
fn tests_of(packages: &[&str], run: &Run) -> Command {
    let mut command = cargo(&["test", "--no-fail-fast"]);
    command.args(packages).args(&run.targets).env("RUST_TEST_THREADS", (2 * cores()).to_string());
    // Errors of tests say what they waited for; where they passed by helps nobody.
    command.env("RUST_LIB_BACKTRACE", "0");
    command.arg("--").args(&run.arguments);
    command
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(2, std::num::NonZero::get)
}
