//! Which test targets there are, and which of their tests a name selects.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::steps::{cargo, output};

/// The package whose tests need a cluster.
pub(crate) const ON_CLUSTER: &str = "bindy-e2e";
/// For tests that are too long for CI, and ignored there.
pub(crate) const ALSO_LONG: &str = "--include-ignored";

/// A built test binary.
pub(crate) struct TestBinary {
    /// Whether it needs a cluster.
    on_cluster: bool,
    /// `lib`, `bin` or `test`.
    kind: String,
    /// The name of the target: of an integration test, the name of its file.
    name: String,
    tests: Vec<Test>,
}

struct Test {
    /// Its name behind those of its modules, with `::` between them.
    path: String,
    ignored: bool,
}

/// Builds all tests and returns their binaries.
pub(crate) fn build() -> Result<Vec<TestBinary>> {
    let messages =
        output(&mut cargo(&["test", "--workspace", "--no-run", "--message-format=json-render-diagnostics"]))?;
    let built = messages.lines().filter_map(|line| read_artifact(&serde_json::from_str(line).ok()?));
    let listed =
        built.map(|(binary, executable)| anyhow::Ok(TestBinary { tests: list(&executable)?, ..binary }));
    listed.collect()
}

fn read_artifact(message: &Value) -> Option<(TestBinary, PathBuf)> {
    let of_tests = message.pointer("/profile/test")?.as_bool()?;
    let executable = message.get("executable")?.as_str()?.into();
    let kind = message.pointer("/target/kind/0")?.as_str()?.to_owned();
    let name = message.pointer("/target/name")?.as_str()?.to_owned();
    let on_cluster = message.get("package_id")?.as_str()?.contains(&format!("#{ON_CLUSTER}@"));
    of_tests.then(|| (TestBinary { on_cluster, kind, name, tests: Vec::new() }, executable))
}

/// The tests of a binary.
fn list(executable: &Path) -> Result<Vec<Test>> {
    let paths = |more: &[&str]| -> Result<Vec<String>> {
        let list = output(Command::new(executable).args(["--list", "--format", "terse"]).args(more))?;
        Ok(list.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect())
    };
    let ignored = paths(&["--ignored"])?;
    let test = |path: String| Test { ignored: ignored.contains(&path), path };
    Ok(paths(&[])?.into_iter().map(test).collect())
}

/// What of a test a name is held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// Its whole name.
    Name,
    /// The name of its file, if that is an integration test: it is run whole.
    File,
    /// Its name, when that of its file does not have it.
    Part,
}

impl TestBinary {
    fn find(&self, by: By, name: &str) -> Vec<&Test> {
        let in_file = self.kind == "test" && self.name.contains(name);
        let found = |test: &&Test| match by {
            By::Name => test.path == name || test.path.ends_with(&format!("::{name}")),
            By::File => in_file,
            By::Part => !in_file && test.path.contains(name),
        };
        self.tests.iter().filter(found).collect()
    }

    /// The option by which cargo selects it.
    fn option(&self) -> Vec<String> {
        match self.kind.as_str() {
            "test" => vec!["--test".to_owned(), self.name.clone()],
            "bin" => vec!["--bin".to_owned(), self.name.clone()],
            _ => vec!["--lib".to_owned()],
        }
    }
}

/// One run of cargo.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// The options that select its targets.
    pub(crate) targets: Vec<String>,
    /// The arguments of their tests.
    pub(crate) arguments: Vec<String>,
}

/// The runs of what a name selects: without a cluster, and on one. That is the test of exactly this name, also a long one;
/// where there is none, everything that has it in its name or that of its file.
pub(crate) fn select(binaries: &[TestBinary], name: &str, long: bool) -> Result<(Vec<Run>, Vec<Run>)> {
    let named = binaries.iter().any(|binary| !binary.find(By::Name, name).is_empty());
    let ways = if named { &[By::Name][..] } else { &[By::File, By::Part] };
    let (mut here, mut on_cluster, mut ignored) = (Vec::new(), Vec::new(), Vec::new());
    for (runs, of) in [(&mut here, false), (&mut on_cluster, true)] {
        for by in ways {
            let binaries = binaries.iter().filter(|binary| binary.on_cluster == of);
            let found: Vec<_> = binaries.map(|binary| (binary, binary.find(*by, name))).collect();
            let targets = found.iter().filter(|(_, tests)| !tests.is_empty());
            let targets: Vec<String> = targets.flat_map(|(binary, _)| binary.option()).collect();
            let tests: Vec<&Test> = found.into_iter().flat_map(|(_, tests)| tests).collect();
            if !tests.is_empty() {
                ignored.extend(tests.iter().map(|test| test.ignored));
                runs.push(Run { targets, arguments: arguments(*by, name, &tests, long) });
            }
        }
    }
    ensure!(!ignored.is_empty(), "no test has {name:?} in its name or the name of its file");
    let runs_one = named || long || ignored.contains(&false);
    ensure!(
        runs_one,
        "every test that {name:?} selects is a long one: add --long, or give the whole name of one"
    );
    Ok((here, on_cluster))
}

fn arguments(by: By, name: &str, tests: &[&Test], long: bool) -> Vec<String> {
    let mut arguments = match by {
        By::Name => tests.iter().map(|test| test.path.clone()).chain(["--exact".to_owned()]).collect(),
        By::File => Vec::new(),
        By::Part => vec![name.to_owned()],
    };
    arguments.extend((long || by == By::Name).then(|| ALSO_LONG.to_owned()));
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binary(kind: &str, name: &str, tests: &[(&str, bool)]) -> TestBinary {
        let test = |(path, ignored): &(&str, bool)| Test { path: (*path).to_owned(), ignored: *ignored };
        let (kind, name, on_cluster) = (kind.to_owned(), name.to_owned(), name == "alone");
        TestBinary { on_cluster, kind, name, tests: tests.iter().map(test).collect() }
    }

    /// `targets | arguments` of every run, those on a cluster behind the others.
    fn selected(name: &str, long: bool) -> Result<Vec<String>> {
        let binaries = [
            binary("lib", "zone", &[("serial::tests::a_serial_rises", false)]),
            binary("test", "steps", &[("a_step", false), ("steps_for_long", true), ("a_step_back", false)]),
            binary("test", "world", &[("a_million_steps", true), ("a_week_of_steps", true)]),
            binary("test", "alone", &[("leases::watches_are_half_open", true)]),
        ];
        let (here, on_cluster) = select(&binaries, name, long)?;
        let text = |run: Run| format!("{} | {}", run.targets.join(" "), run.arguments.join(" "));
        Ok(here.into_iter().chain(on_cluster).map(text).collect())
    }

    #[test]
    fn a_part_of_a_name_selects_whole_files_and_single_tests() {
        let runs = selected("steps", false).unwrap();
        assert_eq!(runs, ["--test steps | ", "--test world | steps"]);
        let runs = selected("steps", true).unwrap();
        assert_eq!(runs, ["--test steps | --include-ignored", "--test world | steps --include-ignored"]);
        assert_eq!(selected("serial", false).unwrap(), ["--lib | serial"]);
    }

    #[test]
    fn a_whole_name_selects_that_test_alone_also_a_long_one() {
        assert_eq!(selected("a_step", false).unwrap(), ["--test steps | a_step --exact --include-ignored"]);
        let runs = selected("watches_are_half_open", false).unwrap();
        assert_eq!(runs, ["--test alone | leases::watches_are_half_open --exact --include-ignored"]);
    }

    #[test]
    fn a_selection_of_which_nothing_would_run_is_an_error() {
        let error = |name| selected(name, false).unwrap_err().to_string();
        assert!(error("a_million").contains("--long"), "{}", error("a_million"));
        assert!(error("world").contains("--long"), "{}", error("world"));
        assert!(error("nowhere").contains("no test has"), "{}", error("nowhere"));
        assert_eq!(selected("a_million", true).unwrap(), ["--test world | a_million --include-ignored"]);
    }
}
