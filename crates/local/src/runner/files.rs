//! The files of one server, and the ports that it keeps.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bindy_model::named_conf::{LogLevel, NamedSettings, Paths, Text, TextError, instance_config};
use bindy_zone::Name;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{WantedServer, WantedSource};

/// Where ports are looked for.
const PORTS: std::ops::Range<u16> = 10_000..32_000;

/// The loopback ports of one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ports {
    dns: u16,
    control: u16,
    relay: u16,
    transfer: u16,
    http: u16,
}

impl Ports {
    /// The ports of the server in `directory`: those of the last run, or free ones, remembered for the next.
    pub(crate) fn of(directory: &Path) -> io::Result<Self> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let file = directory.join("ports.json");
        if let Ok(text) = std::fs::read(&file)
            && let Ok(ports) = serde_json::from_slice(&text)
        {
            return Ok(ports);
        }
        let ports = Self::free(&Self::of_neighbours(directory))?;
        write(&file, serde_json::to_string(&ports).map_err(io::Error::other)?.as_bytes())?;
        Ok(ports)
    }

    /// The ports that other servers keep, whether or not they use them now.
    fn of_neighbours(directory: &Path) -> BTreeSet<u16> {
        let servers = directory.parent().and_then(|servers| std::fs::read_dir(servers).ok());
        let files = servers.into_iter().flatten().flatten().map(|server| server.path().join("ports.json"));
        let texts = files.filter_map(|file| std::fs::read(file).ok());
        let known = texts.filter_map(|text| serde_json::from_slice::<Self>(&text).ok());
        known.flat_map(|p| [p.dns, p.control, p.relay, p.transfer, p.http]).collect()
    }

    fn free(taken: &BTreeSet<u16>) -> io::Result<Self> {
        let mut taken = taken.clone();
        let mut next = || -> io::Result<u16> {
            loop {
                let port = free_port()?;
                if taken.insert(port) {
                    return Ok(port);
                }
            }
        };
        Ok(Self { dns: next()?, control: next()?, relay: next()?, transfer: next()?, http: next()? })
    }

    pub(crate) fn dns(&self) -> SocketAddr {
        loopback(self.dns)
    }

    pub(crate) fn transfer(&self) -> SocketAddr {
        loopback(self.transfer)
    }

    pub(crate) fn http(&self) -> SocketAddr {
        loopback(self.http)
    }
}

/// A port that is free for UDP and TCP now. It lies below the ports that the system gives to outgoing connections: one of
/// those could take it while its server is down, and a client that tries again and again can even connect to itself.
pub(crate) fn free_port() -> io::Result<u16> {
    for _ in 0..1_000 {
        let random = RandomState::new().build_hasher().finish();
        let port = PORTS.start + (random % u64::from(PORTS.end - PORTS.start)) as u16;
        let address = (Ipv4Addr::LOCALHOST, port);
        if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            return Ok(port);
        }
    }
    Err(io::Error::new(io::ErrorKind::AddrInUse, "no free port from 10000 to 31999 on 127.0.0.1"))
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Where things are in a server's directory.
pub(crate) fn data(directory: &Path) -> PathBuf {
    directory.join("named")
}

/// The file with the key between agent and named. Outside of named's data: it must survive a wipe while named runs.
pub(crate) fn local_key(directory: &Path) -> PathBuf {
    directory.join("local.key")
}

pub(crate) fn named_conf_file(directory: &Path) -> PathBuf {
    directory.join("named.conf")
}

pub(crate) fn agent_json_file(directory: &Path) -> PathBuf {
    directory.join("agent.json")
}

pub(crate) fn key_file(directory: &Path, number: usize) -> PathBuf {
    directory.join("keys").join(number.to_string())
}

/// The configuration of named.
pub(crate) fn named_conf(server: &WantedServer, directory: &Path, ports: Ports) -> Result<String, TextError> {
    let text = |path: PathBuf| Text::new(path.to_string_lossy());
    Ok(instance_config(&NamedSettings {
        paths: Paths {
            directory: text(data(directory))?,
            pid_file: text(directory.join("named.own-pid"))?,
            key_file: text(local_key(directory))?,
        },
        listen: vec![ports.dns()],
        control: loopback(ports.control),
        relay: loopback(ports.relay),
        catalog: server.catalog.clone(),
        local_key: Name::parse(bindy_agent::LOCAL_KEY).unwrap_or_else(|_| Name::root()),
        allow_query: server.allow_query.clone(),
        rate_limit: server.rate_limit,
        lmdb_mapsize_mib: None,
        log: LogLevel::Info,
    }))
}

/// The configuration of the agent.
pub(crate) fn agent_json(
    server: &WantedServer,
    directory: &Path,
    ports: Ports,
    address: impl Fn(&WantedSource) -> Option<SocketAddr>,
) -> String {
    let sources: Vec<serde_json::Value> = server
        .sources
        .iter()
        .filter_map(|source| {
            let address = address(source)?;
            Some(json!({
                "name": source.name, "kind": source.kind, "address": address, "key": source.key.to_string()
            }))
        })
        .collect();
    let keys: Vec<PathBuf> = (0..server.keys.len()).map(|number| key_file(directory, number)).collect();
    let config = json!({
        "instance": server.key.instance.to_string(),
        "catalog": server.catalog.to_string(),
        "relay": loopback(ports.relay),
        "transfer": ports.transfer(),
        "http": ports.http(),
        "named": {
            "dns": ports.dns(),
            "control": loopback(ports.control),
            "keyFile": local_key(directory),
            "configFile": named_conf_file(directory),
        },
        "keys": keys,
        "sources": sources,
    });
    format!("{config:#}\n")
}

/// Replaces a file as a whole, and only when it differs. Only its owner can read it.
pub(crate) fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    if std::fs::read(path).is_ok_and(|old| old == content) {
        return Ok(());
    }
    if let Some(directory) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    let temporary = path.with_extension("new");
    let mut file =
        std::fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    io::Write::write_all(&mut file, content)?;
    std::fs::rename(temporary, path)
}

/// Where named is; distributions keep it out of the path of ordinary users.
pub(crate) fn find_named() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/usr/local/sbin", "/sbin", "/opt/homebrew/sbin"].map(PathBuf::from);
    let directories = std::env::split_paths(&path).chain(usual.into_iter().filter(|_| !path.is_empty()));
    directories.map(|directory| directory.join("named")).find(|named| named.is_file())
}

/// The command that installs BIND on this system.
pub(crate) fn install_command() -> &'static str {
    let system = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let is = |name: &str| system.lines().any(|line| line.starts_with("ID") && line.contains(name));
    if is("alpine") {
        "apk add bind"
    } else if is("fedora") || is("rhel") || is("centos") {
        "dnf install -y bind"
    } else if is("suse") {
        "zypper install -y bind"
    } else if is("arch") {
        "pacman -S bind"
    } else if cfg!(target_os = "macos") {
        "brew install bind"
    } else {
        "apt-get install -y bind9"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_never_share_a_port_even_while_none_of_them_runs() {
        let state = tempfile::tempdir().unwrap();
        let mut seen = BTreeSet::new();
        for server in 0..40 {
            let directory = state.path().join(format!("default.dns.{server}"));
            let ports = Ports::of(&directory).unwrap();
            assert_eq!(Ports::of(&directory).unwrap(), ports, "kept for the next run");
            for port in [ports.dns, ports.control, ports.relay, ports.transfer, ports.http] {
                assert!(PORTS.contains(&port) && seen.insert(port), "{port} twice");
            }
        }
    }
}
