//! `cargo xtask bench NAME`: one benchmark as a release build, as a table or as JSON lines.
//!
//! A benchmark is a `[[bench]]` target of that name without harness. It prints one JSON object per result,
//! `{"bench":…, "metric":…, "value":…, "unit":…, "n":…}`, on standard output and everything else on standard error.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::prerequisites;
use crate::steps::{Steps, cargo, output};

/// Builds and runs one benchmark with its own arguments.
pub(crate) fn run(steps: &mut Steps, name: &str, json: bool, arguments: &[String]) -> Result<()> {
    let known = benchmarks()?;
    let listed = known.iter().cloned().collect::<Vec<_>>().join(", ");
    ensure!(known.contains(name), "there is no benchmark {name:?}; there are {listed}");
    prerequisites::install(steps, &prerequisites::SERVERS)?;
    steps.command("build", &mut cargo(&["build", "--release", "--workspace", "--bins"]))?;
    let mut command = cargo(&["bench", "--quiet", "--workspace", "--bench", name, "--"]);
    command.args(arguments);
    let results = steps.run(&format!("bench {name}"), || output(&mut command))?;
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

fn benchmarks() -> Result<BTreeSet<String>> {
    let metadata = output(&mut cargo(&["metadata", "--no-deps", "--format-version=1"]))?;
    let metadata: Value = serde_json::from_str(&metadata)?;
    let packages = metadata.get("packages").and_then(Value::as_array).into_iter().flatten();
    let targets = packages.filter_map(|package| package.get("targets")?.as_array()).flatten();
    let is_bench = |target: &&Value| target.pointer("/kind/0").and_then(Value::as_str) == Some("bench");
    let names = targets.filter(is_bench).filter_map(|target| target.get("name")?.as_str().map(str::to_owned));
    Ok(names.collect())
}
