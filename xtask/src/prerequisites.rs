//! Programs that the tests need besides Rust: installed where that is possible, otherwise named with the command.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::steps::{Steps, output, run, search_path};

/// A program, or its whole path, and the Debian package that has it.
type Tool = (&'static str, &'static str);

const POLICY: &str = "/usr/sbin/policy-rc.d";
const REFUSAL: &str = "#!/bin/sh\n# Written by cargo xtask while it installs packages.\nexit 101\n";

/// What `bindy up` needs.
pub(crate) const NAMED: [Tool; 1] = [("named", "bind9")];
/// What tests with real servers need.
pub(crate) const SERVERS: [Tool; 4] = [
    ("named", "bind9"),
    ("dig", "bind9-dnsutils"),
    ("named-checkzone", "bind9-utils"),
    ("setpriv", "util-linux"),
];
/// What benchmarks on a cluster need besides.
pub(crate) const LOAD: [Tool; 1] = [("dnsperf", "dnsperf")];
/// What building the fuzz targets needs.
pub(crate) const FUZZING: [Tool; 1] = [("c++", "g++")];

/// What the development cluster runs.
pub(crate) const CLUSTER: [Tool; 10] = [
    ("containerd", "containerd"),
    ("runc", "runc"),
    ("/usr/lib/cni/ptp", "containernetworking-plugins"),
    ("iptables", "iptables"),
    ("nft", "nftables"),
    ("ip", "iproute2"),
    ("openssl", "openssl"),
    ("nsenter", "util-linux"),
    ("docker-registry", "docker-registry"),
    ("buildah", "buildah"),
];
/// What building images needs.
pub(crate) const IMAGES: [Tool; 3] = [("buildah", "buildah"), ("debootstrap", "debootstrap"), ("tar", "tar")];

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
        let quiet = NoServices::begin()?;
        run(apt_get().args(["install", "-y", "--no-install-recommends"]).args(&packages))?;
        drop(quiet);
        Ok(())
    })?;
    match missing(tools).as_slice() {
        [] => Ok(()),
        still => bail!("still missing after the installation: {}", still.join(" ")),
    }
}

/// While it lives, packages do not start their services (policy-rc.d of Debian): the cluster starts what it needs
/// itself. A policy that is there already is left alone.
struct NoServices {
    is_ours: bool,
}

impl NoServices {
    fn begin() -> Result<Self> {
        // One of ours may be left from a run that was killed.
        let is_ours = fs::read_to_string(POLICY).map_or(!Path::new(POLICY).exists(), |text| text == REFUSAL);
        if is_ours {
            fs::write(POLICY, REFUSAL).context(POLICY)?;
            fs::set_permissions(POLICY, PermissionsExt::from_mode(0o755))?;
        }
        Ok(Self { is_ours })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.is_ours {
            let _ = fs::remove_file(POLICY);
        }
    }
}

/// Ends with one line that says what needs root.
pub(crate) fn require_root(what: &str) -> Result<()> {
    ensure!(is_root(), "{what} needs root");
    Ok(())
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
