//! Finds `named`, and says how to install it where it is missing.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::RunnerError;

/// The `named` that is used.
#[derive(Clone, Debug)]
pub(super) struct Installed {
    pub(super) path: PathBuf,
    /// Whether it keeps catalog members in an LMDB database, whose size is an option then.
    pub(super) lmdb: bool,
}

/// The first `named` of these directories that starts.
pub(super) fn find(directories: &[PathBuf]) -> Result<Installed, RunnerError> {
    let missing = || RunnerError::NamedMissing { install: install_command() };
    let path = directories.iter().map(|path| path.join("named")).find(|path| path.is_file());
    let path = path.ok_or_else(missing)?;
    let run = Command::new(&path).arg("-V").output();
    let output = run.map_err(|error| RunnerError::Named { path: path.clone(), error })?;
    let text = String::from_utf8_lossy(&output.stdout);
    let lmdb = text.contains("--with-lmdb") && !text.contains("--with-lmdb=no");
    Ok(Installed { path, lmdb })
}

/// The directories of `PATH`, and those of system programs that a user's `PATH` often lacks.
pub(super) fn search_path() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).filter(|path| path.is_absolute()).chain(system).collect()
}

fn install_command() -> &'static str {
    if cfg!(target_os = "macos") {
        return "brew install bind";
    }
    let text = std::fs::read_to_string(Path::new("/etc/os-release")).unwrap_or_default();
    command_for(&text)
}

/// What installs `named` on the system with this `os-release`.
fn command_for(os_release: &str) -> &'static str {
    let fields = os_release.lines().filter_map(|line| line.split_once('='));
    let ids = fields.filter(|(field, _)| matches!(*field, "ID" | "ID_LIKE"));
    for id in ids.flat_map(|(_, ids)| ids.trim_matches(['"', '\'']).split_whitespace()) {
        match id {
            "debian" | "ubuntu" => return "apt-get install -y bind9",
            "fedora" | "rhel" | "centos" => return "dnf install -y bind",
            "alpine" => return "apk add bind",
            "arch" => return "pacman -S bind",
            "suse" | "opensuse" => return "zypper install bind",
            _ => {}
        }
    }
    "install the package of BIND 9 that has the program named"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_is_the_one_of_the_system() {
        for (os_release, command) in [
            ("NAME=\"Debian\"\nID=debian\n", "apt-get install -y bind9"),
            ("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n", "apt-get install -y bind9"),
            ("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n", "dnf install -y bind"),
            ("ID=alpine\n", "apk add bind"),
            ("", "install the package of BIND 9 that has the program named"),
        ] {
            assert_eq!(command_for(os_release), command, "{os_release}");
        }
    }

    #[test]
    fn missing_named_is_told_in_one_line_with_the_command() {
        let error = find(&[]).unwrap_err().to_string();
        assert!(error.contains("named") && error.contains(install_command()), "{error}");
        assert_eq!(error.lines().count(), 1);
    }
}
