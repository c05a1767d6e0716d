//! Which test targets there are, and which of their tests a name selects.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::steps::{cargo, output};

/// The package whose tests need a cluster.
pub(crate) const ON_CLUSTER: &str = "bindy-e2e";

/// A built test binary.
pub(crate) struct TestBinary {
    /// Whether it needs a cluster.
    pub(crate) on_cluster: bool,
    /// `lib`, `bin` or `test`.
    pub(crate) kind: String,
    /// The name of the target: of an integration test, the name of its file.
    pub(crate) name: String,
    executable: PathBuf,
}

/// Builds all tests and returns their binaries.
pub(crate) fn build() -> Result<Vec<TestBinary>> {
    let messages =
        output(&mut cargo(&["test", "--workspace", "--no-run", "--message-format=json-render-diagnostics"]))?;
    Ok(messages.lines().filter_map(|line| read_artifact(&serde_json::from_str(line).ok()?)).collect())
}

fn read_artifact(message: &Value) -> Option<TestBinary> {
    let of_tests = message.pointer("/profile/test")?.as_bool()?;
    let executable = message.get("executable")?.as_str()?;
    let kind = message.pointer("/target/kind/0")?.as_str()?.to_owned();
    let name = message.pointer("/target/name")?.as_str()?.to_owned();
    let on_cluster = message.get("package_id")?.as_str()?.contains(&format!("#{ON_CLUSTER}@"));
    of_tests.then(|| TestBinary { on_cluster, kind, name, executable: executable.into() })
}

impl TestBinary {
    /// Whether one of its tests has `name` in its own.
    fn has_test(&self, name: &str) -> Result<bool> {
        let list = output(Command::new(&self.executable).args(["--list", "--format", "terse"]))?;
        Ok(list.lines().filter_map(|line| line.strip_suffix(": test")).any(|test| test.contains(name)))
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

/// The options for cargo of two runs.
#[derive(Default)]
pub(crate) struct Selected {
    /// Integration tests whose file has the name in its own, to run whole.
    pub(crate) files: Vec<String>,
    /// Targets in which single tests have it.
    pub(crate) single: Vec<String>,
}

impl Selected {
    pub(crate) fn is_empty(&self) -> bool {
        self.files.is_empty() && self.single.is_empty()
    }
}

/// What a name selects: without a cluster, and on one.
pub(crate) fn select(binaries: &[TestBinary], name: &str) -> Result<(Selected, Selected)> {
    let (mut here, mut on_cluster) = (Selected::default(), Selected::default());
    for binary in binaries {
        let selected = if binary.on_cluster { &mut on_cluster } else { &mut here };
        if binary.kind == "test" && binary.name.contains(name) {
            selected.files.extend(binary.option());
        } else if binary.has_test(name)? {
            selected.single.extend(binary.option());
        }
    }
    ensure!(
        !here.is_empty() || !on_cluster.is_empty(),
        "no test has {name:?} in its name or the name of its file"
    );
    Ok((here, on_cluster))
}
