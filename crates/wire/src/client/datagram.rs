//! Questions by UDP: they need no place among the connections of a server.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::connection::verify;
use super::query::{Question, random_id};
use super::{ClientError, Endpoint};
use crate::message::{FLAG_TC, Header};
use crate::server::unix_time;
use crate::tsig::Signer;

/// Octets of a longer answer than servers give by UDP.
const BUFFER: usize = 4_096;

/// Asks by UDP, from a socket of its own. The same request is sent once for each pause, while nothing comes within it
/// (RFC 1035 section 4.2.1).
pub async fn ask_by_udp<Q: Question>(
    endpoint: &Endpoint,
    question: &Q,
    pauses: &[Duration],
) -> Result<Q::Answer, ClientError> {
    let own: IpAddr =
        if endpoint.address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((own, 0)).await?;
    socket.connect(endpoint.address).await?;
    let request = question.request(random_id());
    let mut sent = request.clone();
    let verifier = endpoint.key.as_ref().map(|key| Signer::request(key, &mut sent, unix_time()));
    let Some(mut message) = exchange(&socket, &sent, pauses).await? else {
        return Err(ClientError::Timeout(pauses.iter().sum()));
    };
    if let Some(mut verifier) = verifier
        && !verify(&mut verifier, &mut message)?
    {
        return Err(ClientError::Signature("the answer is not signed"));
    }
    if Header::parse(&message)?.flags & FLAG_TC != 0 {
        return Err(ClientError::Truncated);
    }
    question.read(&request, message)
}

async fn exchange(
    socket: &UdpSocket,
    request: &[u8],
    pauses: &[Duration],
) -> Result<Option<Vec<u8>>, ClientError> {
    let mut buffer = vec![0; BUFFER];
    for pause in pauses {
        socket.send(request).await?;
        if let Ok(received) = timeout(*pause, socket.recv(&mut buffer)).await {
            buffer.truncate(received?);
            return Ok(Some(buffer));
        }
    }
    Ok(None)
}
