//! Programs that the tests need besides Rust: installed where that is possible, otherwise named with the command.

use std::process::Command;

use anyhow::{Result, bail};

use crate::steps::{Steps, output, run, search_path};

/// A program and the Debian package that has it.
type Tool = (&'static str, &'static str);

/// What `bindy up` needs.
pub(crate) const NAMED: [Tool; 1] = [("named", "bind9")];
/// What tests with real servers need.
pub(crate) const SERVERS: [Tool; 4] = [
    ("named", "bind9"),
    ("dig", "bind9-dnsutils"),
    ("named-checkzone", "bind9-utils"),
    ("setpriv", "util-linux"),
];
/// What building the fuzz targets needs.
pub(crate) const FUZZING: [Tool; 1] = [("c++", "g++")];

/// Makes sure that these programs are there.
pub(crate) fn install(steps: &mut Steps, tools: &[Tool]) -> Result<()> {
    let packages = missing(tools);
    if packages.is_empty() {
        return Ok(());
    }
    let named = packages.join(" ");
    if !is_root() || !is_on_path("apt-get") {
        bail!("programs are missing; run as root: apt-get update && apt-get install {named}");
    }
    steps.run(&format!("install {named}"), || {
        run(apt_get().arg("update"))?;
        run(apt_get().args(["install", "-y", "--no-install-recommends"]).args(&packages))
    })?;
    match missing(tools).as_slice() {
        [] => Ok(()),
        still => bail!("still missing after the installation: {}", still.join(" ")),
    }
}

fn missing(tools: &[Tool]) -> Vec<&'static str> {
    tools.iter().filter(|(program, _)| !is_on_path(program)).map(|(_, package)| *package).collect()
}

fn is_on_path(program: &str) -> bool {
    std::env::split_paths(&search_path()).any(|directory| directory.join(program).is_file())
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.arg("-qq").env("DEBIAN_FRONTEND", "noninteractive");
    command
}

fn is_root() -> bool {
    output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0")
}
