//! Which test targets there are, and which of their tests a name selects.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::steps::{cargo, output};

/// A built test binary.
pub(crate) struct TestBinary {
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
    of_tests.then(|| TestBinary { kind, name, executable: executable.into() })
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

/// The options for cargo of two runs: integration tests whose file has `name` in its own, to run whole; and targets
/// in which single tests have it.
pub(crate) fn select(binaries: &[TestBinary], name: &str) -> Result<(Vec<String>, Vec<String>)> {
    let (mut files, mut single) = (Vec::new(), Vec::new());
    for binary in binaries {
        if binary.kind == "test" && binary.name.contains(name) {
            files.extend(binary.option());
        } else if binary.has_test(name)? {
            single.extend(binary.option());
        }
    }
    ensure!(
        !files.is_empty() || !single.is_empty(),
        "no test has {name:?} in its name or the name of its file"
    );
    Ok((files, single))
}
