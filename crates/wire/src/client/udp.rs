//! Questions and NOTIFY in datagrams, asked again until they are answered.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bindy_zone::{Name, Rtype, Serial};
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

use super::query::{self, matching, question, random_id};
use super::{Answer, ClientError, Endpoint};
use crate::message::FLAG_TC;
use crate::server::unix_time;
use crate::tsig::Signer;

/// The first repetition comes after this long, each further one after twice the time.
const FIRST_REPEAT: Duration = Duration::from_millis(100);
/// The longest time between two repetitions.
const LAST_REPEAT: Duration = Duration::from_secs(1);

/// Asks for the serial over UDP, again and again until `limit` is over.
pub async fn udp_soa(endpoint: &Endpoint, zone: &Name, limit: Duration) -> Result<Serial, ClientError> {
    let request = question(random_id(), zone, Rtype::SOA);
    let message = exchange(endpoint, &request, limit).await?;
    query::serial(zone, &request, &message)
}

/// Asks one question over UDP, again and again until `limit` is over.
pub async fn udp_query(
    endpoint: &Endpoint,
    name: &Name,
    rtype: Rtype,
    limit: Duration,
) -> Result<Answer, ClientError> {
    let request = question(random_id(), name, rtype);
    let message = exchange(endpoint, &request, limit).await?;
    let (header, _) = matching(&request, &message, true)?;
    if header.flags & FLAG_TC != 0 {
        return Err(ClientError::Malformed("it is cut short: ask over TCP"));
    }
    query::answer(&request, &message)
}

/// Announces a version over UDP, again and again until it is acknowledged or `limit` is over.
pub async fn udp_notify(
    endpoint: &Endpoint,
    zone: &Name,
    serial: Serial,
    limit: Duration,
) -> Result<(), ClientError> {
    let request = query::notify(random_id(), zone, serial);
    let message = exchange(endpoint, &request, limit).await?;
    let (header, _) = matching(&request, &message, true)?;
    ClientError::of(header.rcode()).map_or(Ok(()), Err)
}

/// Sends `request` until an answer to it comes.
async fn exchange(endpoint: &Endpoint, request: &[u8], limit: Duration) -> Result<Vec<u8>, ClientError> {
    let any = match endpoint.address {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(endpoint.address).await?;
    let deadline = Instant::now() + limit;
    let mut repeat = FIRST_REPEAT;
    while Instant::now() < deadline {
        let until = deadline.min(Instant::now() + repeat);
        if let Ok(result) = timeout_at(until, attempt(&socket, endpoint, request)).await {
            return result;
        }
        repeat = LAST_REPEAT.min(repeat * 2);
    }
    Err(ClientError::Timeout(limit))
}

/// Sends `request` once and waits for its answer; whatever else arrives is passed over.
async fn attempt(socket: &UdpSocket, endpoint: &Endpoint, request: &[u8]) -> Result<Vec<u8>, ClientError> {
    let mut signed = request.to_vec();
    let mut verifier = endpoint.key.as_ref().map(|key| Signer::request(key, &mut signed, unix_time()));
    if socket.send(&signed).await.is_err() {
        // Nobody listens there yet; the next attempt may find somebody.
        std::future::pending::<()>().await;
    }
    let mut buffer = vec![0; 65_535];
    loop {
        let Ok(length) = socket.recv(&mut buffer).await else {
            std::future::pending::<()>().await;
            continue;
        };
        let mut message = buffer.get(..length).unwrap_or_default().to_vec();
        if let Some(verifier) = &mut verifier {
            super::connection::verify(verifier, &mut message)?;
        }
        if matching(request, &message, true).is_ok() {
            return Ok(message);
        }
    }
}
