//! Loopback ports of servers: chosen once, kept in the server's directory, known to all servers.
//!
//! A port in use is held against other runners on this machine by a UDP socket on the same port of another loopback
//! address: named shares its port with another named of the same user without a word, so a collision would not fail.
//! The range lies below the kernel's ephemeral ports, so no outgoing connection takes one.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{ServerKey, files};

const FIRST: u16 = 10_000;
const COUNT: u16 = 22_000;
const ATTEMPTS: usize = 1_000;
const RESERVATIONS: Ipv4Addr = Ipv4Addr::new(127, 53, 53, 53);

/// The ports of one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ports {
    pub(super) dns: u16,
    pub(super) control: u16,
    pub(super) relay: u16,
    pub(super) transfer: u16,
    pub(super) http: u16,
}

/// The ports of all servers.
#[derive(Debug)]
pub(super) struct PortTable {
    ports: watch::Sender<BTreeMap<ServerKey, Ports>>,
    reserved: Mutex<BTreeMap<u16, UdpSocket>>,
}

/// 127.0.0.1 with that port.
pub(super) fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Whether nothing listens there, over UDP or TCP.
pub(super) fn is_free(port: u16) -> bool {
    TcpListener::bind(loopback(port)).is_ok() && UdpSocket::bind(loopback(port)).is_ok()
}

impl Ports {
    fn all(&self) -> [u16; 5] {
        let Self { dns, control, relay, transfer, http } = *self;
        [dns, control, relay, transfer, http]
    }
}

impl PortTable {
    pub(super) fn new() -> Self {
        Self { ports: watch::Sender::default(), reserved: Mutex::default() }
    }

    /// Tells when any server's ports change.
    pub(super) fn subscribe(&self) -> watch::Receiver<BTreeMap<ServerKey, Ports>> {
        self.ports.subscribe()
    }

    pub(super) fn get(&self, key: &ServerKey) -> Option<Ports> {
        self.ports.borrow().get(key).copied()
    }

    /// The ports that the file has; new ones without it.
    pub(super) fn load(&self, key: &ServerKey, file: &Path) -> io::Result<Ports> {
        let stored = std::fs::read(file).ok().and_then(|text| serde_json::from_slice::<Ports>(&text).ok());
        let usable = |ports: &Ports| {
            let own: BTreeSet<u16> = ports.all().into();
            own.len() == ports.all().len() && self.in_use().is_disjoint(&own)
        };
        let Some(ports) = stored.filter(usable) else { return self.choose(key, file) };
        for port in ports.all() {
            self.reserve(port);
        }
        self.put(key, ports);
        Ok(ports)
    }

    /// Chooses other ports and stores them.
    pub(super) fn choose(&self, key: &ServerKey, file: &Path) -> io::Result<Ports> {
        self.remove(key);
        let next = || self.choose_one();
        let ports =
            Ports { dns: next()?, control: next()?, relay: next()?, transfer: next()?, http: next()? };
        let text = serde_json::to_string(&ports)?;
        files::replace(file, &(text + "\n"))?;
        self.put(key, ports);
        Ok(ports)
    }

    fn put(&self, key: &ServerKey, ports: Ports) {
        self.ports.send_modify(|all| {
            all.insert(key.clone(), ports);
        });
    }

    /// Forgets a server.
    pub(super) fn remove(&self, key: &ServerKey) {
        let mut removed = None;
        self.ports.send_if_modified(|all| {
            removed = all.remove(key);
            removed.is_some()
        });
        let mut reserved = self.reserved.lock().unwrap_or_else(PoisonError::into_inner);
        for port in removed.iter().flat_map(Ports::all) {
            reserved.remove(&port);
        }
    }

    fn in_use(&self) -> BTreeSet<u16> {
        self.ports.borrow().values().flat_map(Ports::all).collect()
    }

    /// A free port that nobody else on this machine chooses meanwhile.
    fn choose_one(&self) -> io::Result<u16> {
        let in_use = self.in_use();
        for _ in 0..ATTEMPTS {
            let port = random()?;
            if !in_use.contains(&port) && is_free(port) && self.reserve(port) {
                return Ok(port);
            }
        }
        let range = FIRST..FIRST + COUNT;
        Err(io::Error::other(format!("no free port of 127.0.0.1 in {ATTEMPTS} attempts in {range:?}")))
    }

    /// False when it is somebody else's. A system without that address (macOS) has no reservations.
    fn reserve(&self, port: u16) -> bool {
        let mut reserved = self.reserved.lock().unwrap_or_else(PoisonError::into_inner);
        if reserved.contains_key(&port) {
            return false;
        }
        match UdpSocket::bind((RESERVATIONS, port)) {
            Ok(socket) => drop(reserved.insert(port, socket)),
            Err(error) => return error.kind() == io::ErrorKind::AddrNotAvailable,
        }
        true
    }
}

/// A port that is free now, below those that outgoing connections get: so it is likely to be free again later.
pub(crate) fn free_port() -> io::Result<u16> {
    for _ in 0..ATTEMPTS {
        let port = random()?;
        if is_free(port) {
            return Ok(port);
        }
    }
    Err(io::Error::new(io::ErrorKind::AddrInUse, "no free port was found"))
}

fn random() -> io::Result<u16> {
    let mut octets = [0; 2];
    SystemRandom::new().fill(&mut octets).map_err(|_| io::Error::other("no randomness"))?;
    Ok(FIRST + u16::from_ne_bytes(octets) % COUNT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bindy_model::NamespacedName;

    fn key(index: u32) -> ServerKey {
        ServerKey { instance: NamespacedName::new("prod", "dns"), index }
    }

    #[test]
    fn ports_are_distinct_and_stored() {
        let directory = tempfile::tempdir().unwrap();
        let file = |index| directory.path().join(format!("{index}.json"));
        let table = PortTable::new();
        let chosen: Vec<Ports> =
            (0..20).map(|index| table.load(&key(index), &file(index)).unwrap()).collect();
        let distinct: BTreeSet<u16> = chosen.iter().flat_map(Ports::all).collect();
        assert_eq!(distinct.len(), 100);
        drop(table);
        let table = PortTable::new();
        let again: Vec<Ports> = (0..20).map(|index| table.load(&key(index), &file(index)).unwrap()).collect();
        assert_eq!(again, chosen);
    }

    #[test]
    fn two_runners_never_choose_the_same_port() {
        let directory = tempfile::tempdir().unwrap();
        let (one, other) = (PortTable::new(), PortTable::new());
        let chosen = one.choose(&key(0), &directory.path().join("0")).unwrap();
        assert!(chosen.all().into_iter().all(|port| !other.reserve(port)));
        one.remove(&key(0));
        // Whether another one gets it now depends on what else chooses ports at this moment.
        assert!(one.reserved.into_inner().unwrap().is_empty());
    }

    #[test]
    fn damaged_or_copied_file_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ports.json");
        let table = PortTable::new();
        let ports = table.load(&key(0), &file).unwrap();
        let other = table.load(&key(1), &file).unwrap();
        assert_ne!(ports, other, "the ports of a running server are not given away twice");
        std::fs::write(&file, "{").unwrap();
        assert_ne!(table.load(&key(2), &file).unwrap(), other);
    }
}
