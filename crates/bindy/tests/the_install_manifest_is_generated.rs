//! `deploy/install.yaml` is what `bindy install` prints, after a line that says so: the rights in it are those of the tables
//! beside the operator's calls.

use std::path::Path;
use std::process::Command;

#[test]
fn the_install_manifest_is_what_the_program_prints() {
    let printed = Command::new(env!("CARGO_BIN_EXE_bindy")).arg("install").output().unwrap();
    assert!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/install.yaml");
    let file = std::fs::read_to_string(file).unwrap();
    let (_, manifest) = file.split_once('\n').unwrap();
    assert!(manifest.as_bytes() == printed.stdout, "stale: run `cargo xtask generate` and commit the result");
}
