//! Runs every fuzz target of `fuzz/` for a moment: long enough to notice that one broke, or an easy crash.
//!
//! The instrumentation is LLVM's own, switched on by compiler flags, so that the pinned stable toolchain does.

use std::num::NonZero;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, anyhow};
use serde_json::Value;

use crate::steps::{Steps, cargo, host, output, root, run};

/// Seconds for each target.
const SECONDS: u32 = 10;
const FLAGS: [&str; 6] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Ccodegen-units=1",
];

/// Builds and runs all targets.
pub(crate) fn run_all(steps: &mut Steps) -> Result<()> {
    let manifest = root().join("fuzz/Cargo.toml");
    let manifest = manifest.to_str().context("a repository path that is not UTF-8")?;
    let metadata =
        output(&mut cargo(&["metadata", "--no-deps", "--format-version=1", "--manifest-path", manifest]))?;
    let metadata: Value = serde_json::from_str(&metadata)?;
    let targets = target_names(&metadata);
    anyhow::ensure!(!targets.is_empty(), "no fuzz target in {manifest}");
    let platform = host()?;
    // With --target the flags leave build scripts and procedural macros alone.
    let mut build = cargo(&["build", "--release", "--manifest-path", manifest, "--target", &platform]);
    let directory = root().join("fuzz/target");
    build.env("RUSTFLAGS", FLAGS.join(" ")).env("CARGO_TARGET_DIR", &directory);
    steps.command("build fuzz targets", &mut build)?;
    let executables = directory.join(&platform).join("release");
    // Each keeps one core busy.
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    for targets in targets.chunks(cores) {
        steps.run(&format!("fuzz {}", targets.join(", ")), || at_once(targets, &executables))?;
    }
    Ok(())
}

/// Runs these targets side by side.
fn at_once(targets: &[String], executables: &Path) -> Result<()> {
    std::thread::scope(|scope| {
        let runs: Vec<_> = targets
            .iter()
            .map(|target| scope.spawn(move || fuzz(target, &executables.join(target))))
            .collect();
        let ended = runs.into_iter().map(|run| run.join().unwrap_or_else(|_| Err(anyhow!("a run panicked"))));
        // All come to their end before the first failure is told.
        ended.collect::<Vec<_>>().into_iter().collect()
    })
}

fn fuzz(target: &str, executable: &Path) -> Result<()> {
    let (corpus, artifacts) =
        (root().join("fuzz/corpus").join(target), root().join("fuzz/artifacts").join(target));
    std::fs::create_dir_all(&corpus)?;
    std::fs::create_dir_all(&artifacts)?;
    let mut command = Command::new(executable);
    command.arg(format!("-max_total_time={SECONDS}")).arg("-verbosity=0");
    command.arg(format!("-artifact_prefix={}/", artifacts.display())).arg(corpus);
    run(&mut command)
}

fn target_names(metadata: &Value) -> Vec<String> {
    let packages = metadata.get("packages").and_then(Value::as_array).into_iter().flatten();
    let targets = packages.filter_map(|package| package.get("targets")?.as_array()).flatten();
    let names = targets.filter_map(|target| target.get("name")?.as_str().map(str::to_owned));
    names.collect()
}
