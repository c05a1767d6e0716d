//! `bindy check`: the problems of manifests for people and for CI.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use bindy_local::status::Severity;

use crate::cli::Output;
use crate::{eprintln, print};

/// Prints every problem. 0: none of them is an error, 1: at least one is, 2: the directory cannot be read.
pub(crate) fn check(directory: &Path, output: Output) -> Result<ExitCode> {
    let problems = match bindy_local::check(directory) {
        Ok(problems) => problems,
        Err(error) => {
            eprintln(&format!("bindy: {error}"));
            return Ok(ExitCode::from(2));
        }
    };
    match output {
        Output::Json => print(&format!("{}\n", serde_json::to_string_pretty(&problems)?)),
        Output::Text => problems.iter().for_each(|problem| print(&format!("{problem}\n"))),
    }
    let failed = problems.iter().any(|problem| problem.severity == Severity::Error);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
