//! `cargo xtask generate`: files that are written from the types, and the check that none is stale.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use crate::steps::{Steps, root};

/// Writes all generated files, or compares them.
pub(crate) fn run(steps: &mut Steps, check: bool) -> Result<()> {
    let name = if check { "generated files" } else { "generate" };
    steps.run(name, || {
        let files = bindy_api::generate().context("cannot generate")?;
        if check { compare(&files) } else { write(&files) }
    })
}

fn write(files: &BTreeMap<PathBuf, String>) -> Result<()> {
    for (path, text) in files {
        let path = root().join(path);
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn compare(files: &BTreeMap<PathBuf, String>) -> Result<()> {
    let is_stale = |(path, text): &(&PathBuf, &String)| {
        std::fs::read_to_string(root().join(path)).ok().as_ref() != Some(text)
    };
    let stale: Vec<String> =
        files.iter().filter(is_stale).map(|(path, _)| path.display().to_string()).collect();
    ensure!(
        stale.is_empty(),
        "stale: {}; run `cargo xtask generate` and commit the result",
        stale.join(", ")
    );
    Ok(())
}
