//! Connections: requests one after another, each answer written message by message, so that a slow client costs one
//! message of memory. Everything has a time limit: silence between requests, a request that arrives in pieces, an
//! answer that is not taken.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connections::{Admitted, Connections};
use super::exchange::{Answer, Body, Rejection, answer, check, count_zone, unix_time};
use super::{Relayed, Service, Shared, Transport, count};
use crate::message::put_u16;
use crate::request::short_answer;
use crate::tsig::Signer;
use domain::base::iana::Rcode;

/// Octets that a TCP message can have.
const MAX_MESSAGE: usize = 65_535;
/// After this long without being able to accept, for example for want of file descriptors, it is tried again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// A longer request than most.
const READ_BUFFER: usize = 1_024;

/// Accepts connections until `cancel`.
pub(super) async fn serve<S: Service>(
    listener: TcpListener,
    shared: Arc<Shared<S>>,
    tasks: TaskTracker,
    cancel: CancellationToken,
) {
    let limits = &shared.options.limits;
    let connections = Connections::new(limits.connections, limits.per_client);
    loop {
        let accepted = tokio::select! {
            () = cancel.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, peer)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Some((admitted, closed)) = connections.admit(peer.ip(), Instant::now()) else {
            count(&shared.counters.connections_refused);
            continue;
        };
        shared.counters.connections_refused.fetch_add(closed as u64, Ordering::Relaxed);
        let (shared, cancel) = (shared.clone(), cancel.clone());
        tasks.spawn(async move {
            shared.counters.connections_open.fetch_add(1, Ordering::Relaxed);
            let close = admitted.close().clone();
            tokio::select! {
                () = cancel.cancelled() => {}
                () = close.cancelled() => {}
                result = converse(stream, peer, &admitted, &shared) => if let Err(error) = result {
                    tracing::debug!(client = %peer, %error, "connection ended");
                }
            }
            shared.counters.connections_open.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

/// Answers request after request until either side has enough.
async fn converse<S: Service>(
    stream: TcpStream,
    peer: SocketAddr,
    admitted: &Admitted,
    shared: &Shared<S>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let limits = &shared.options.limits;
    let mut stream = BufReader::with_capacity(READ_BUFFER, stream);
    while let Some(message) = read_request(&mut stream, shared).await? {
        let accepted = match check(message, shared) {
            Ok(accepted) => accepted,
            Err(Rejection::Answer(rejection)) => {
                write(&mut stream, &rejection, limits.stalled).await?;
                return linger(stream, limits.stalled).await;
            }
            Err(_) => return Ok(()),
        };
        admitted.answering(Instant::now());
        let answer = Box::pin(answer(accepted, peer, Transport::Tcp, shared)).await;
        let complete = send(&mut stream, answer, shared).await?;
        admitted.answered(Instant::now());
        if !complete {
            return Ok(());
        }
    }
    Ok(())
}

/// Lets the client read our last answer before the connection goes: closing with unread input would reset it.
async fn linger(mut stream: BufReader<TcpStream>, limit: Duration) -> io::Result<()> {
    stream.get_mut().shutdown().await?;
    let mut rest = [0; 512];
    let drain = async {
        for _ in 0..128 {
            if stream.read(&mut rest).await? == 0 {
                break;
            }
        }
        Ok(())
    };
    timeout(limit.min(Duration::from_secs(2)), drain).await.unwrap_or(Ok(()))
}

/// The next request, or `None` at the end of the connection. Its memory grows with what arrives, not with what it
/// claims to have.
async fn read_request<S>(
    stream: &mut BufReader<TcpStream>,
    shared: &Shared<S>,
) -> io::Result<Option<Vec<u8>>> {
    let limits = &shared.options.limits;
    let first = match timeout(limits.idle, stream.read_u8()).await? {
        Ok(first) => first,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    let rest = async {
        let length = usize::from(first) << 8 | usize::from(stream.read_u8().await?);
        if length > limits.request_size {
            count(&shared.counters.malformed);
            return Ok(None);
        }
        let mut message = Vec::new();
        stream.take(length as u64).read_to_end(&mut message).await?;
        Ok((message.len() == length).then_some(message))
    };
    timeout(limits.stalled, rest).await?
}

/// Sends a whole answer; false when it could not be completed and the connection has to go.
async fn send<S>(stream: &mut BufReader<TcpStream>, answer: Answer, shared: &Shared<S>) -> io::Result<bool> {
    let stalled = shared.options.limits.stalled;
    let Answer { body, mut signer, id } = answer;
    match body {
        Body::Short(message) => write_signed(stream, message, &mut signer, stalled).await.map(|()| true),
        Body::Zone(mut transmission, kind) => {
            let limit = MAX_MESSAGE - signer.as_ref().map_or(0, |signer| Signer::overhead(signer.key()));
            loop {
                match transmission.next_message(limit) {
                    Ok(Some(message)) => write_signed(stream, message, &mut signer, stalled).await?,
                    Ok(None) => break,
                    Err(_) => return Ok(false),
                }
            }
            count_zone(kind, shared);
            Ok(true)
        }
        Body::Relay(mut messages) => {
            while let Some(relayed) = messages.recv().await {
                let (message, last) = match relayed {
                    Relayed::Part(message) => (message, false),
                    Relayed::Last(message) => (message, true),
                };
                let mut message = message.to_vec();
                put_u16(&mut message, 0, id);
                write_signed(stream, message, &mut signer, stalled).await?;
                if last {
                    return Ok(true);
                }
            }
            Ok(false)
        }
    }
}

async fn write_signed(
    stream: &mut BufReader<TcpStream>,
    mut message: Vec<u8>,
    signer: &mut Option<Signer>,
    stalled: Duration,
) -> io::Result<()> {
    if let Some(signer) = signer {
        if message.len() + Signer::overhead(signer.key()) > MAX_MESSAGE {
            message = short_answer(&message, Rcode::SERVFAIL, 0);
        }
        signer.sign(&mut message, unix_time());
    }
    write(stream, &message, stalled).await
}

async fn write(stream: &mut BufReader<TcpStream>, message: &[u8], stalled: Duration) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut framed = Vec::with_capacity(message.len() + 2);
    framed.extend(length.to_be_bytes());
    framed.extend(message);
    // A client that takes a message slowly but steadily is given the whole time again for every part it takes.
    let mut rest = framed.as_slice();
    while !rest.is_empty() {
        let written = timeout(stalled, stream.get_mut().write(rest)).await??;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        rest = rest.get(written..).unwrap_or_default();
    }
    Ok(())
}
