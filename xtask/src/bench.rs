//! `cargo xtask bench NAME`: one benchmark as a release build, as a table or as JSON lines.
//!
//! A benchmark is a `[[bench]]` target of that name without harness. It prints one JSON object per result,
//! `{"bench":…, "metric":…, "value":…, "unit":…, "n":…}`, on standard output and everything else on standard error.
//! Those in the package of the tests on a cluster get one with the operator; where there is another of the same name,
//! `--embedded` chooses that.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::selection::ON_CLUSTER;
use crate::steps::{Steps, cargo, output};
use crate::{prerequisites, test};

/// Where a benchmark runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// On local servers, wherever there is a choice.
    Embedded,
    /// On a cluster, wherever there is a choice.
    Cluster,
}

/// Builds and runs one benchmark with its own arguments.
pub(crate) fn run(
    steps: &mut Steps,
    name: &str,
    json: bool,
    place: Place,
    arguments: &[String],
) -> Result<()> {
    let known = benchmarks()?;
    let listed = known.iter().map(|(_, name)| name.clone()).collect::<BTreeSet<_>>();
    let listed = listed.into_iter().collect::<Vec<_>>().join(", ");
    let mut packages: Vec<&str> =
        known.iter().filter(|(_, its)| its == name).map(|(package, _)| package.as_str()).collect();
    packages.sort_by_key(|package| (*package == ON_CLUSTER) != (place == Place::Cluster));
    let package =
        packages.first().with_context(|| format!("there is no benchmark {name:?}; there are {listed}"))?;
    prerequisites::install(steps, &prerequisites::SERVERS)?;
    let mut command = cargo(&["bench", "--quiet", "--package", package, "--bench", name]);
    if *package == ON_CLUSTER {
        prerequisites::install(steps, &prerequisites::LOAD)?;
        // What is measured is in the images; the program that asks needs no long build.
        command.args(["--profile", "dev"]);
    }
    command.arg("--").args(arguments);
    let title = format!("bench {name}");
    let results = if *package == ON_CLUSTER {
        let mut results = String::new();
        test::with_clusters(steps, &[test::CLUSTER], |steps, names| {
            command.env(test::VARIABLE, names);
            results = steps.run(&title, || output(&mut command))?;
            Ok(())
        })?;
        results
    } else {
        steps.command("build", &mut cargo(&["build", "--release", "--workspace", "--bins"]))?;
        steps.run(&title, || output(&mut command))?
    };
    print(name, json, &results)
}

fn print(name: &str, json: bool, results: &str) -> Result<()> {
    let results: Vec<&str> = results.lines().filter(|line| line.starts_with('{')).collect();
    ensure!(!results.is_empty(), "benchmark {name} gave no result");
    for line in results {
        if json {
            println!("{line}");
        } else {
            println!("{}", row(line)?);
        }
    }
    Ok(())
}

/// `transfer  axfr_1m_s  3.41 s  (n 5)`
fn row(line: &str) -> Result<String> {
    let result: Value = serde_json::from_str(line).with_context(|| format!("not JSON: {line}"))?;
    let text = |field: &str| result.get(field).and_then(Value::as_str).unwrap_or("?").to_owned();
    let value = result.get("value").and_then(Value::as_f64).with_context(|| format!("no value: {line}"))?;
    let count = result.get("n").map_or_else(String::new, |n| format!("  (n {n})"));
    Ok(format!("{:<12} {:<28} {value:>14.3} {}{count}", text("bench"), text("metric"), text("unit")))
}

/// Package and name of each.
fn benchmarks() -> Result<Vec<(String, String)>> {
    let metadata = output(&mut cargo(&["metadata", "--no-deps", "--format-version=1"]))?;
    let metadata: Value = serde_json::from_str(&metadata)?;
    let text = |value: &Value| value.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let is_bench = |target: &&Value| target.pointer("/kind/0").and_then(Value::as_str) == Some("bench");
    let mut found = Vec::new();
    for package in metadata.get("packages").and_then(Value::as_array).into_iter().flatten() {
        let targets = package.get("targets").and_then(Value::as_array).into_iter().flatten();
        found.extend(targets.filter(is_bench).map(|target| (text(package), text(target))));
    }
    Ok(found)
}
