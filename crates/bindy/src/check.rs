//! `bindy check`: the problems of manifests for people and for CI.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use bindy_local::status::Severity;

use crate::cli::Output;
use crate::print;

/// Prints every problem; success when none of them is an error.
pub(crate) fn check(directory: &Path, output: Output) -> Result<ExitCode> {
    let problems = bindy_local::check(directory)?;
    match output {
        Output::Json => print(&format!("{}\n", serde_json::to_string_pretty(&problems)?)),
        Output::Text => problems.iter().for_each(|problem| print(&format!("{problem}\n"))),
    }
    let failed = problems.iter().any(|problem| problem.severity == Severity::Error);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
