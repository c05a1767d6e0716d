//! Runs steps and says how each ended; the last line tells the whole story.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use serde_json::Value;

/// The steps of one command, as far as they have come.
pub(crate) struct Steps {
    start: Instant,
    done: Vec<(String, Duration)>,
    failed: Vec<String>,
    variables: Vec<(&'static str, &'static str)>,
}

impl Steps {
    pub(crate) fn start() -> Self {
        Self { start: Instant::now(), done: Vec::new(), failed: Vec::new(), variables: Vec::new() }
    }

    /// Sets a variable of every program that is a step from now on.
    pub(crate) fn set(&mut self, name: &'static str, value: &'static str) {
        self.variables.push((name, value));
    }

    /// Announces and runs one step.
    pub(crate) fn run<T>(&mut self, name: &str, step: impl FnOnce() -> Result<T>) -> Result<T> {
        eprintln!("── {name}");
        let start = Instant::now();
        let result = step();
        let took = start.elapsed();
        match &result {
            Ok(_) => {
                eprintln!("── {name}: ok in {:.1} s", took.as_secs_f64());
                self.done.push((name.to_owned(), took));
            }
            Err(_) => {
                eprintln!("── {name}: failed after {:.1} s", took.as_secs_f64());
                self.failed.push(name.to_owned());
            }
        }
        result
    }

    /// Runs a program as one step.
    pub(crate) fn command(&mut self, name: &str, command: &mut Command) -> Result<()> {
        command.envs(self.variables.iter().copied());
        self.run(name, || run(command))
    }

    /// The closing line.
    pub(crate) fn finish(&self, result: &Result<()>) {
        let steps: Vec<String> =
            self.done.iter().map(|(name, took)| format!("{name} {:.0} s", took.as_secs_f64())).collect();
        let total = self.start.elapsed().as_secs_f64();
        match result {
            Ok(()) => eprintln!("xtask: passed in {total:.0} s ({})", steps.join(", ")),
            Err(error) => {
                let at = if self.failed.is_empty() {
                    String::new()
                } else {
                    format!(" at {}", self.failed.join(", "))
                };
                eprintln!("xtask: FAILED{at} after {total:.0} s: {error:#}");
            }
        }
    }
}

/// A program that has what the steps after its start leave of the processor.
pub(crate) struct Beside {
    name: String,
    program: Child,
}

impl Beside {
    pub(crate) fn start(name: &str, program: &Command) -> Result<Self> {
        let mut niced = Command::new("nice");
        niced.args(["-n", "19"]).arg(program.get_program()).args(program.get_args());
        niced.current_dir(program.get_current_dir().unwrap_or(&root()));
        niced.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let program =
            prepare(&mut niced).spawn().with_context(|| format!("cannot start {}", shown(program)))?;
        Ok(Self { name: name.to_owned(), program })
    }

    /// Waits until it has ended, which is a step.
    pub(crate) fn end(mut self, steps: &mut Steps) -> Result<ExitStatus> {
        steps.run(&format!("the rest of {}", self.name), || Ok(self.program.wait()?))
    }
}

/// Runs a program to its end; its failure is an error that shows the command.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = prepare(command).status().with_context(|| format!("cannot start {}", shown(command)))?;
    if status.success() { Ok(()) } else { Err(anyhow!("{} ended with {status}", shown(command))) }
}

/// Runs a program and returns what it printed on standard output.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = prepare(command).stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("cannot start {}", shown(command)))?;
    anyhow::ensure!(output.status.success(), "{} ended with {}", shown(command), output.status);
    Ok(String::from_utf8(output.stdout)?)
}

/// No input, and the directories of servers on PATH, which Debian leaves out for ordinary users.
fn prepare(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::null()).env("PATH", search_path())
}

/// PATH with /usr/sbin and /sbin at its end.
pub(crate) fn search_path() -> std::ffi::OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/sbin:/sbin");
    path
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// Cargo, run in the root of the repository.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(arguments).current_dir(root());
    command
}

/// Where cargo puts programs, by its name of the directory of their profile.
pub(crate) fn programs(profile: &str) -> Result<PathBuf> {
    let metadata = output(&mut cargo(&["metadata", "--no-deps", "--format-version=1"]))?;
    let metadata: Value = serde_json::from_str(&metadata)?;
    let target = metadata.get("target_directory").and_then(Value::as_str).context("no target directory")?;
    Ok(Path::new(target).join(host()?).join(profile))
}

/// The platform of this machine, as compilers name it.
pub(crate) fn host() -> Result<String> {
    let version = output(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc -vV names no host")
}

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}
