//! A server with zones that a test changes, and the parts that its tests share.
#![allow(dead_code, reason = "each test binary uses a part of this")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bindy_wire::{
    Connection, Endpoint, Key, Opcode, Reply, Request, Server, ServerCounters, ServerLimits, ServerOptions,
    Service, Signatures, Timeouts,
};
use bindy_zone::{Content, History, Name, OwnerName, Rdata, RrSets, Rtype, Serial, Soa, Ttl, Version};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

pub(crate) fn key() -> Key {
    Key::new(name("tests.key.bindy"), &[42; 32])
}

/// The same one, for the library of tests.
pub(crate) fn testing_key() -> bindy_testing::Key {
    bindy_testing::Key::new(key().name(), key().secret())
}

pub(crate) fn content(zone: &Name) -> Content {
    let soa = Soa {
        ttl: 3600,
        primary: name("ns1.example"),
        mailbox: name("hostmaster.example"),
        refresh: 3600,
        retry: 600,
        expire: 3_024_000,
        negative_ttl: 300,
    };
    let mut content = Content::new(zone.clone(), soa);
    let ns = (Ttl::saturating(3600), vec![Rdata::name(&name("ns1.example"))]);
    content.set(OwnerName::apex(), RrSets::pack([(Rtype::NS, ns)].into()).unwrap());
    content
}

pub(crate) fn addresses(addresses: impl IntoIterator<Item = u32>) -> RrSets {
    let rdatas = addresses.into_iter().map(|address| Rdata::a(Ipv4Addr::from(address))).collect();
    RrSets::pack([(Rtype::A, (Ttl::saturating(300), rdatas))].into()).unwrap()
}

pub(crate) fn owner(zone: &Name, text: &str) -> OwnerName {
    OwnerName::parse(text, zone).unwrap()
}

pub(crate) fn version(serial: u32, content: &Content) -> Version {
    Version { serial: Serial::new(serial), content: content.clone() }
}

/// Zones that anybody with the key may have, and how many NOTIFYs of them were taken.
#[derive(Clone, Default)]
pub(crate) struct Zones {
    published: Arc<Mutex<HashMap<Name, Arc<History>>>>,
    pub(crate) notified: Arc<AtomicU64>,
}

impl Zones {
    pub(crate) fn publish(&self, version: Version) {
        let mut zones = self.published.lock().unwrap();
        let history = match zones.get(version.content.apex()) {
            None => History::new(version, 64 << 20),
            Some(history) => {
                let mut next = (**history).clone();
                assert!(next.push(version), "a serial has to rise");
                next
            }
        };
        zones.insert(history.current().content.apex().clone(), Arc::new(history));
    }
}

impl Service for Zones {
    async fn call(&self, request: Request) -> Reply {
        if request.opcode == Opcode::Notify {
            self.notified.fetch_add(1, Ordering::Relaxed);
            return Reply::Notified;
        }
        match self.published.lock().unwrap().get(&request.name) {
            Some(history) => Reply::Zone(history.clone()),
            None => Reply::Refused,
        }
    }
}

pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) counters: Arc<ServerCounters>,
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint { address: self.address, key: Some(key()) }
    }

    pub(crate) async fn connect(&self) -> Connection {
        Connection::open(&self.endpoint(), Timeouts::default()).await.unwrap()
    }

    pub(crate) async fn stop(self) {
        self.cancel.cancel();
        tokio::time::timeout(Duration::from_secs(5), self.task).await.expect("the server stops").unwrap();
    }
}

pub(crate) async fn serve(service: impl Service, limits: ServerLimits) -> Running {
    serve_at(SocketAddr::from(([127, 0, 0, 1], 0)), service, limits).await
}

pub(crate) async fn serve_at(address: SocketAddr, service: impl Service, limits: ServerLimits) -> Running {
    let options = ServerOptions { address, signatures: Signatures::Required, limits };
    let server = Server::bind(options, key(), service).await.unwrap();
    let (address, counters) = (server.local_addr().unwrap(), server.counters());
    let cancel = CancellationToken::new();
    let task = tokio::spawn(server.serve(cancel.clone()));
    Running { address, counters, cancel, task }
}

pub(crate) fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
