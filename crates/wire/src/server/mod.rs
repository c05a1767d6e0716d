//! The server side: one port, TCP and UDP, for SOA, AXFR, IXFR and NOTIFY.
//!
//! ```text
//! accept ─► Connections (bounds) ─► tcp ─┐
//!                                        ├─► exchange: parse, TSIG ─► Service ─► Reply ─► messages, signed
//! datagram ─► semaphore (bounds) ─► udp ─┘
//! ```
//! What is no DNS, not signed or not ours to answer is answered here and never reaches the service.

mod connections;
mod exchange;
mod tcp;
mod udp;

pub(crate) use exchange::unix_time;

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bindy_zone::{History, Name, Rtype, Serial};
use bytes::Bytes;
use rustix::net::sockopt::set_socket_recv_buffer_size;
use tokio::net::{TcpListener, TcpSocket, UdpSocket};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::keys::KeyRing;

/// Connections that the kernel holds until they are accepted.
const BACKLOG: u32 = 1024;

/// What the kernel counts for a datagram that waits.
const DATAGRAM: usize = 1_024;

/// For how long clients of a server that ends are waited for.
const FAREWELL: Duration = Duration::from_millis(200);

/// How a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// In one datagram.
    Udp,
    /// On a connection.
    Tcp,
}

/// What a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// A question.
    Query,
    /// News of a zone (RFC 1996).
    Notify,
}

/// A request that has passed every check of form and signature.
#[derive(Clone, Debug)]
pub struct Request {
    /// Who sent it.
    pub peer: SocketAddr,
    /// How it came.
    pub transport: Transport,
    /// The key whose signature was verified; none only with [`Signatures::None`].
    pub key: Option<Name>,
    /// What it is.
    pub opcode: Opcode,
    /// The name in question.
    pub name: Name,
    /// The type in question.
    pub rtype: Rtype,
    /// IXFR: the version that the client has. NOTIFY: the version that is announced, where it says so.
    pub serial: Option<Serial>,
    /// The whole message without its TSIG record.
    pub message: Bytes,
}

/// What a [`Service`] wants said.
#[derive(Debug)]
pub enum Reply {
    /// Not for this client.
    Refused,
    /// It cannot be answered now.
    ServFail,
    /// Not a zone of this server.
    NotAuth,
    /// A NOTIFY was taken.
    Notified,
    /// The zone; answers to SOA, AXFR and IXFR are made of it, any other type is refused.
    Zone(Arc<History>),
    /// Whole messages without TSIG that somebody else answered. Their id is replaced, and each is signed when the
    /// request was. The sender is dropped after the last one; over UDP only the first is sent.
    Relay(mpsc::Receiver<Relayed>),
}

/// A message to pass on.
#[derive(Clone, Debug)]
pub enum Relayed {
    /// More will follow.
    Part(Bytes),
    /// The last one of this answer.
    Last(Bytes),
}

/// Who may have what: decides on requests whose form and signature are good.
pub trait Service: Send + Sync + 'static {
    /// The reply to one request.
    fn call(&self, request: Request) -> impl Future<Output = Reply> + Send;
}

/// Whether requests have to be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signatures {
    /// Anything without a good signature is refused.
    Required,
    /// Nothing is signed: for loopback only.
    None,
}

/// What one server may use up. Each has a default.
#[derive(Clone, Debug)]
pub struct ServerLimits {
    /// Open TCP connections; when another one comes, the one that has been idle longest is closed.
    pub connections: usize,
    /// Open TCP connections of one client address.
    pub per_client: usize,
    /// How long a connection may say nothing.
    pub idle: Duration,
    /// How long a request may take to arrive, and an answer message to be taken.
    pub stalled: Duration,
    /// How long the service may take for a reply.
    pub reply: Duration,
    /// Octets of a request; the largest that is needed is an IXFR question with two names in its SOA.
    pub request_size: usize,
    /// Datagrams that are being answered at one time; more are dropped.
    pub datagrams: usize,
}

/// Where and how to serve.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Address and port; port 0 takes a free one.
    pub address: SocketAddr,
    /// Whether requests have to be signed.
    pub signatures: Signatures,
    /// Bounds.
    pub limits: ServerLimits,
}

/// What a server has done since its start.
#[derive(Debug, Default)]
pub struct ServerCounters {
    /// AXFR requests answered, to the end of the zone.
    pub axfr: AtomicU64,
    /// IXFR requests answered with differences, to their end.
    pub ixfr: AtomicU64,
    /// IXFR requests answered with the whole zone, to its end.
    pub fallback: AtomicU64,
    /// IXFR requests answered with "you are current".
    pub current: AtomicU64,
    /// SOA answers.
    pub soa: AtomicU64,
    /// Requests refused, those with bad signatures not counted.
    pub refused: AtomicU64,
    /// Requests with a TSIG error.
    pub bad_signature: AtomicU64,
    /// Requests that were no DNS, or nothing that this server does.
    pub malformed: AtomicU64,
    /// Connections open now.
    pub connections_open: AtomicU64,
    /// Connections closed to make room, or refused because of a limit.
    pub connections_refused: AtomicU64,
}

/// A server that is bound to its port.
pub struct Server<S> {
    tcp: TcpListener,
    udp: UdpSocket,
    shared: Arc<Shared<S>>,
}

/// What every task of a server uses.
struct Shared<S> {
    keys: Box<dyn KeyRing>,
    options: ServerOptions,
    service: S,
    counters: Arc<ServerCounters>,
}

impl<S: Service> Server<S> {
    /// Binds TCP and UDP to one port.
    pub async fn bind(options: ServerOptions, keys: impl KeyRing, service: S) -> io::Result<Self> {
        let mut attempts = 0;
        let (tcp, udp) = loop {
            let tcp = listen(options.address)?;
            match UdpSocket::bind(tcp.local_addr()?).await {
                Ok(udp) => break (tcp, udp),
                // A port that is free for TCP may be taken for UDP.
                Err(_) if options.address.port() == 0 && attempts < 20 => attempts += 1,
                Err(error) => return Err(error),
            }
        };
        // Where nobody answers for a moment, questions wait; the kernel gives what it allows (net.core.rmem_max).
        set_socket_recv_buffer_size(&udp, options.limits.datagrams * DATAGRAM)?;
        let counters = Arc::default();
        Ok(Self { tcp, udp, shared: Arc::new(Shared { keys: Box::new(keys), options, service, counters }) })
    }

    /// The address that it is bound to.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// What it has done so far; outlives the server.
    pub fn counters(&self) -> Arc<ServerCounters> {
        self.shared.counters.clone()
    }

    /// Serves until `cancel`; every task has ended when this returns.
    pub async fn serve(self, cancel: CancellationToken) {
        let tasks = TaskTracker::new();
        let udp = udp::serve(Arc::new(self.udp), self.shared.clone(), tasks.clone(), cancel.clone());
        let tcp = tcp::serve(self.tcp, self.shared, tasks.clone(), cancel.clone());
        tokio::join!(udp, tcp);
        tasks.close();
        tasks.wait().await;
    }
}

/// Listens on a port. `[::]` stands for every address of both families; where the kernel has no IPv6 it stands for those of
/// IPv4.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    listen_on(address, TcpSocket::new_v6)
}

/// Waits for a server that ends by itself once it is cancelled, after that for a moment only: a client that leaves its
/// connection open, or its request half sent, does not hold up the end. `None`: it did not end by itself.
pub async fn until_ended<T>(served: impl IntoFuture<Output = T>, cancel: &CancellationToken) -> Option<T> {
    tokio::select! {
        result = served.into_future() => Some(result),
        () = async { cancel.cancelled().await; tokio::time::sleep(FAREWELL).await } => None,
    }
}

fn listen_on(address: SocketAddr, new_v6: impl FnOnce() -> io::Result<TcpSocket>) -> io::Result<TcpListener> {
    let (socket, address) = if address.is_ipv4() {
        (TcpSocket::new_v4()?, address)
    } else {
        match new_v6() {
            Err(_) if address.ip().is_unspecified() => {
                (TcpSocket::new_v4()?, SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port())))
            }
            socket => (socket?, address),
        }
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            connections: 2_000,
            per_client: 1_000,
            idle: Duration::from_secs(300),
            stalled: Duration::from_secs(15),
            reply: Duration::from_secs(10),
            request_size: 4_096,
            datagrams: 256,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn without_ipv6_in_the_kernel_everywhere_is_every_address_of_ipv4() {
        let none = || Err(io::Error::from(io::ErrorKind::Unsupported));
        let bound = listen_on("[::]:0".parse().unwrap(), none).unwrap();
        assert_eq!(bound.local_addr().unwrap().ip(), Ipv4Addr::UNSPECIFIED);
        assert!(listen_on("[::1]:0".parse().unwrap(), none).is_err());
    }

    struct Nobody;

    impl Service for Nobody {
        async fn call(&self, _: Request) -> Reply {
            Reply::Refused
        }
    }

    #[tokio::test]
    async fn datagrams_have_as_much_room_to_wait_as_the_kernel_allows() {
        let limits = ServerLimits { datagrams: 20_000, ..ServerLimits::default() };
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let options = ServerOptions { address, signatures: Signatures::None, limits };
        let server = Server::bind(options, Vec::<crate::Key>::new(), Nobody).await.unwrap();
        let allowed = std::fs::read_to_string("/proc/sys/net/core/rmem_max").unwrap();
        let allowed: usize = allowed.trim().parse().unwrap();
        let room = rustix::net::sockopt::socket_recv_buffer_size(&server.udp).unwrap();
        // The kernel tells twice what it was asked for (socket(7)).
        assert!(room >= 2 * allowed.min(20_000 * DATAGRAM), "{room} octets of {allowed}");
    }
}
