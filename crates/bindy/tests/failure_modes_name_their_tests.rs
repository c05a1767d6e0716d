//! Documents name tests: of each failure, of each guard, of each promise of the election. The tests exist, and the tests of
//! failures are all named.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Result;

/// Directories whose tests are of failures, all of them, but for those of these files.
const OF_FAILURES: &str = "tests/e2e/tests/alone";
const OF_OTHERS: [&str; 1] = ["page_operator.rs"];
/// Files with tests of failures, elsewhere.
const FILES: [&str; 12] = [
    "a_bind_upstream.rs",
    "containers_die.rs",
    "disk_trouble.rs",
    "frozen_agent.rs",
    "harmful_settings.rs",
    "local_traffic.rs",
    "lost_notifies.rs",
    "pods_come_and_go.rs",
    "primaries_gone.rs",
    "silent_upstream.rs",
    "two_tiers.rs",
    "wrong_clock.rs",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn sources(directory: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            sources(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(())
}

/// The names of the functions behind the attribute of a test in these files.
fn tests_in(files: &[PathBuf]) -> Result<BTreeSet<String>> {
    let texts: Vec<String> = files.iter().map(std::fs::read_to_string).collect::<std::io::Result<_>>()?;
    let text = texts.concat();
    let behind = text.split("#[tokio::test").skip(1).chain(text.split("#[test]").skip(1));
    let name = |text: &str| Some(text.split_once("fn ")?.1.split_once('(')?.0.to_owned());
    Ok(behind.filter_map(name).collect())
}

/// What is in backquotes in the last column of every table of a document, below its head.
fn named(document: &str) -> Result<BTreeSet<String>> {
    let text = std::fs::read_to_string(root().join(document))?;
    let rows = text.lines().filter(|line| line.starts_with('|'));
    let cells = rows.filter_map(|row| row.trim_end_matches('|').rsplit('|').next());
    Ok(cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).map(str::to_owned).collect())
}

/// Whether a test has this name, or one that begins as it does before `…`.
fn is_one_of(tests: &BTreeSet<String>, name: &str) -> bool {
    match name.strip_suffix('…') {
        Some(start) => tests.iter().any(|test| test.starts_with(start)),
        None => tests.contains(name),
    }
}

#[test]
fn every_test_named_there_exists() {
    let mut files = Vec::new();
    for directory in ["crates", "tests", "xtask"] {
        sources(&root().join(directory), &mut files).unwrap();
    }
    let tests = tests_in(&files).unwrap();
    for document in ["docs/failure-modes.md", "docs/testing.md", "docs/operator-ha.md"] {
        let mut named = named(document).unwrap();
        // Tests are sentences; what else is in such a column is a file, a field or a word.
        let is_sentence = |name: &String| name.matches('_').count() > 1 && !name.contains(['/', '.', ' ']);
        named.retain(is_sentence);
        assert!(!named.is_empty(), "{document} names no test");
        let missing: Vec<&String> = named.iter().filter(|name| !is_one_of(&tests, name)).collect();
        assert!(missing.is_empty(), "{document} names tests that there are not: {missing:#?}");
    }
}

#[test]
fn every_test_of_a_failure_is_named_there() {
    let mut files = Vec::new();
    sources(&root().join(OF_FAILURES), &mut files).unwrap();
    files.retain(|file| OF_OTHERS.iter().all(|other| !file.ends_with(other)));
    files.extend(FILES.map(|file| root().join("tests/e2e/tests/together").join(file)));
    let tests = tests_in(&files).unwrap();
    assert!(tests.len() > 20, "{tests:?}");
    let named = named("docs/failure-modes.md").unwrap();
    let missing: Vec<&String> = tests.difference(&named).collect();
    assert!(missing.is_empty(), "docs/failure-modes.md does not name {missing:#?}");
}
