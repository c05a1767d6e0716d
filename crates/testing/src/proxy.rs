//! A TCP and UDP proxy on loopback that misbehaves on demand.
//!
//! ```text
//!   client ──► Proxy::address() ──[ Fault ]──► target
//!          ◄──[ Fault ]──
//! ```
//! The fault can be switched at any time and holds for open connections too, except that [`Fault::Cut`] ends them.
//! What user space cannot do: leave a SYN without answer. [`Fault::Drop`] therefore completes the connection and
//! then neither reads nor answers, as [`Fault::Freeze`] does; only the UDP side is really lost.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;

use crate::Port;

/// More clients of the UDP side than this at once are not served.
const MAX_UDP_CLIENTS: usize = 4_096;

/// How the proxy misbehaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// Not at all.
    #[default]
    None,
    /// Everything passes, that much later in each direction.
    Delay(Duration),
    /// Connections are accepted; nothing is read from them and nothing passes. Passes on what was held back when
    /// the fault ends.
    Freeze,
    /// Open connections are reset, new ones as soon as they are accepted; datagrams are lost.
    Cut,
    /// Nothing passes in either direction, and what is sent by UDP meanwhile is lost.
    Drop,
    /// What the client sends reaches the target; what the target says never reaches the client.
    Silence,
    /// One octet in the middle of each piece that the target sends is changed.
    Corrupt,
}

/// What has passed so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections accepted.
    pub connections: u64,
    /// Connections reset by [`Fault::Cut`].
    pub cut: u64,
    /// Octets from clients to the target by TCP.
    pub to_target: u64,
    /// Octets from the target to clients by TCP.
    pub to_client: u64,
    /// Datagrams from clients that passed.
    pub datagrams: u64,
    /// Datagrams of either direction that were lost on purpose.
    pub datagrams_lost: u64,
}

#[derive(Debug, Default)]
struct Counters {
    connections: AtomicU64,
    cut: AtomicU64,
    to_target: AtomicU64,
    to_client: AtomicU64,
    datagrams: AtomicU64,
    datagrams_lost: AtomicU64,
}

/// A running proxy; it ends when dropped.
#[derive(Debug)]
pub struct Proxy {
    port: Port,
    shared: Shared,
    fault: watch::Sender<Fault>,
    target: watch::Sender<SocketAddr>,
    task: AbortHandle,
}

#[derive(Clone, Debug)]
struct Shared {
    fault: watch::Receiver<Fault>,
    target: watch::Receiver<SocketAddr>,
    counters: Arc<Counters>,
}

impl Proxy {
    /// Starts a proxy in front of `target` on a free port.
    pub async fn start(target: SocketAddr) -> io::Result<Self> {
        Self::start_at(Port::free()?, target).await
    }

    /// Starts a proxy in front of `target` on that port.
    pub async fn start_at(port: Port, target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(port.address()).await?;
        let socket = Arc::new(UdpSocket::bind(port.address()).await?);
        let (fault, faults) = watch::channel(Fault::None);
        let (target, targets) = watch::channel(target);
        let shared = Shared { fault: faults, target: targets, counters: Arc::default() };
        let (tcp, udp) = (shared.clone(), shared.clone());
        // Both sides live in one task, so that aborting it ends every connection.
        let task = tokio::spawn(async move {
            tokio::join!(accept(listener, tcp), datagrams(socket, udp));
        });
        Ok(Self { port, shared, fault, target, task: task.abort_handle() })
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Switches the fault.
    pub fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }

    /// Leads new connections and datagrams to another target.
    pub fn redirect(&self, target: SocketAddr) {
        self.target.send_replace(target);
    }

    /// What has passed so far.
    pub fn counts(&self) -> Counts {
        let counters = &self.shared.counters;
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            connections: load(&counters.connections),
            cut: load(&counters.cut),
            to_target: load(&counters.to_target),
            to_client: load(&counters.to_client),
            datagrams: load(&counters.datagrams),
            datagrams_lost: load(&counters.datagrams_lost),
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn current(&self) -> Fault {
        *self.fault.borrow()
    }

    /// Waits until the fault is another one than the `held` kinds; false when the proxy has ended.
    async fn passes(&mut self, held: fn(Fault) -> bool) -> bool {
        self.fault.wait_for(|fault| !held(*fault)).await.is_ok()
    }
}

fn add(counter: &AtomicU64, amount: usize) {
    counter.fetch_add(amount as u64, Ordering::Relaxed);
}

async fn accept(listener: TcpListener, shared: Shared) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        // An accept fails only for that connection, or for a lack of descriptors, which passes.
        let Ok((client, _)) = listener.accept().await else {
            sleep(Duration::from_millis(10)).await;
            continue;
        };
        add(&shared.counters.connections, 1);
        connections.spawn(connection(client, shared.clone()));
    }
}

async fn connection(mut client: TcpStream, mut shared: Shared) {
    let mut cut = shared.fault.clone();
    let counters = Arc::clone(&shared.counters);
    let forward = async {
        if !shared.passes(|fault| matches!(fault, Fault::Freeze | Fault::Drop | Fault::Cut)).await {
            return None;
        }
        let target = *shared.target.borrow();
        TcpStream::connect(target).await.ok()
    };
    let target = tokio::select! {
        target = forward => target,
        _ = cut.wait_for(|fault| *fault == Fault::Cut) => None,
    };
    let Some(mut target) = target else {
        add(&counters.cut, 1);
        reset(&client);
        return;
    };
    let _ = (client.set_nodelay(true), target.set_nodelay(true));
    let was_cut = {
        let (client_read, client_write) = client.split();
        let (target_read, target_write) = target.split();
        tokio::select! {
            () = async {
                tokio::join!(
                    pump(client_read, target_write, Direction::ToTarget, shared.clone()),
                    pump(target_read, client_write, Direction::ToClient, shared.clone()),
                );
            } => false,
            _ = cut.wait_for(|fault| *fault == Fault::Cut) => true,
        }
    };
    if was_cut {
        add(&counters.cut, 1);
        reset(&client);
        reset(&target);
    }
}

/// Makes closing send RST instead of FIN.
fn reset(stream: &TcpStream) {
    let _ = rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO));
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    ToTarget,
    ToClient,
}

async fn pump(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, direction: Direction, mut shared: Shared) {
    let mut buffer = vec![0; 32 * 1024];
    loop {
        if !shared.passes(|fault| matches!(fault, Fault::Freeze | Fault::Drop)).await {
            return;
        }
        let length = match from.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(length) => length,
        };
        if !shared.passes(|fault| matches!(fault, Fault::Freeze | Fault::Drop)).await {
            return;
        }
        let Some(piece) = buffer.get_mut(..length) else { return };
        match (shared.current(), direction) {
            (Fault::Delay(delay), _) => sleep(delay).await,
            (Fault::Silence, Direction::ToClient) => continue,
            (Fault::Corrupt, Direction::ToClient) => corrupt(piece),
            _ => {}
        }
        if to.write_all(piece).await.is_err() {
            return;
        }
        let counters = &shared.counters;
        let counter =
            if direction == Direction::ToTarget { &counters.to_target } else { &counters.to_client };
        add(counter, length);
    }
    // Half-closed, as the other side did it, so that an answer on its way still arrives.
    let _ = to.shutdown().await;
}

fn corrupt(piece: &mut [u8]) {
    let middle = piece.len() / 2;
    if let Some(octet) = piece.get_mut(middle) {
        *octet ^= 0x5A;
    }
}

async fn datagrams(socket: Arc<UdpSocket>, shared: Shared) {
    let mut clients: HashMap<SocketAddr, (SocketAddr, Arc<UdpSocket>, AbortHandle)> = HashMap::new();
    let mut answers = JoinSet::new();
    let mut buffer = vec![0; 65_535];
    loop {
        while answers.try_join_next().is_some() {}
        clients.retain(|_, (_, _, task)| !task.is_finished());
        let Ok((length, client)) = socket.recv_from(&mut buffer).await else { continue };
        let lost = matches!(shared.current(), Fault::Freeze | Fault::Cut | Fault::Drop);
        if lost || clients.len() > MAX_UDP_CLIENTS {
            add(&shared.counters.datagrams_lost, 1);
            continue;
        }
        let target = *shared.target.borrow();
        if clients.get(&client).is_none_or(|(known, ..)| *known != target) {
            let Ok(upstream) = connected(target).await else { continue };
            let task =
                answers.spawn(replies(Arc::clone(&socket), client, Arc::clone(&upstream), shared.clone()));
            if let Some((.., previous)) = clients.insert(client, (target, upstream, task)) {
                previous.abort();
            }
        }
        let Some((_, upstream, _)) = clients.get(&client) else { continue };
        let Some(datagram) = buffer.get(..length).map(<[u8]>::to_vec) else { continue };
        let upstream = Arc::clone(upstream);
        let delay = delay(shared.current());
        add(&shared.counters.datagrams, 1);
        answers.spawn(async move {
            sleep(delay).await;
            let _ = upstream.send(&datagram).await;
        });
    }
}

async fn connected(target: SocketAddr) -> io::Result<Arc<UdpSocket>> {
    let upstream = UdpSocket::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await?;
    upstream.connect(target).await?;
    Ok(Arc::new(upstream))
}

/// Carries answers back to one client; ends after a minute without any.
async fn replies(socket: Arc<UdpSocket>, client: SocketAddr, upstream: Arc<UdpSocket>, shared: Shared) {
    let mut buffer = vec![0; 65_535];
    while let Ok(received) = tokio::time::timeout(Duration::from_secs(60), upstream.recv(&mut buffer)).await {
        // A refused datagram comes back as an error of the next receive.
        let Ok(length) = received else { continue };
        let Some(datagram) = buffer.get_mut(..length) else { continue };
        match shared.current() {
            Fault::Freeze | Fault::Cut | Fault::Drop | Fault::Silence => {
                add(&shared.counters.datagrams_lost, 1);
                continue;
            }
            Fault::Corrupt => corrupt(datagram),
            fault => sleep(delay(fault)).await,
        }
        let _ = socket.send_to(datagram, client).await;
    }
}

fn delay(fault: Fault) -> Duration {
    if let Fault::Delay(delay) = fault { delay } else { Duration::ZERO }
}
