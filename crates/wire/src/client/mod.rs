//! The client side: questions, transfers, NOTIFY and forwarding, over one connection after another.

use std::net::SocketAddr;
use std::time::Duration;

use bindy_zone::{Name, Rtype, Serial, Version};
use bytes::Bytes;
use domain::base::iana::Rcode;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::keys::Key;
use crate::server::Relayed;

/// A server to ask.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Its address.
    pub address: SocketAddr,
    /// The key for requests; none means unsigned.
    pub key: Option<Key>,
}

/// How long to wait for what.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// Until the connection stands.
    pub connect: Duration,
    /// From a request to the first message of its answer.
    pub answer: Duration,
    /// Between two messages of one answer.
    pub between: Duration,
}

/// The answer to a question.
#[derive(Clone, Debug)]
pub struct Answer {
    /// How it went.
    pub rcode: Rcode,
    /// Whether the server is authoritative for it (AA).
    pub authoritative: bool,
    /// The answer section.
    pub records: Vec<AnswerRecord>,
}

/// A record of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerRecord {
    /// Owner name.
    pub name: Name,
    /// Type.
    pub rtype: Rtype,
    /// TTL in seconds.
    pub ttl: u32,
    /// RDATA, uncompressed and canonical.
    pub rdata: Box<[u8]>,
}

/// What a transfer gave.
#[derive(Clone, Debug)]
pub enum Transfer {
    /// The base is the server's current version.
    Current,
    /// The base with the server's differences applied.
    Incremental(Version),
    /// A whole zone.
    Full(Version),
}

/// Why a request got no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No connection.
    #[error("cannot connect to {0}: {1}")]
    Connect(SocketAddr, #[source] std::io::Error),
    /// Silence.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The connection ended before the answer did.
    #[error("the connection was closed before the answer was complete")]
    Closed,
    /// The connection broke.
    #[error("the connection failed: {0}")]
    Io(#[from] std::io::Error),
    /// REFUSED.
    #[error("the server refused")]
    Refused,
    /// NOTAUTH: not a zone of that server.
    #[error("the server is not authoritative")]
    NotAuth,
    /// SERVFAIL.
    #[error("the server failed")]
    ServFail,
    /// Another response code that is not NOERROR.
    #[error("the server answered {0}")]
    Rcode(Rcode),
    /// The clocks differ by more than TSIG allows.
    #[error("the clocks differ too much for TSIG: the server's is {ahead} s ahead of ours")]
    ClockSkew {
        /// Seconds that the server's clock is ahead; negative when it is behind.
        ahead: i64,
    },
    /// The answer is unsigned or wrongly signed, or the server rejected our signature.
    #[error("signature: {0}")]
    Signature(&'static str),
    /// The answer is no DNS, or does not fit the request.
    #[error("malformed answer: {0}")]
    Malformed(&'static str),
    /// Nobody takes the answer that is being forwarded any more.
    #[error("the receiver of the answer has gone")]
    SinkGone,
}

/// A TCP connection to a server; requests go one after another.
pub struct Connection {
    stream: TcpStream,
    key: Option<Key>,
    timeouts: Timeouts,
}

impl Connection {
    /// Connects.
    pub async fn open(endpoint: &Endpoint, timeouts: Timeouts) -> Result<Self, ClientError> {
        let connect = TcpStream::connect(endpoint.address);
        match tokio::time::timeout(timeouts.connect, connect).await {
            Err(_) => Err(ClientError::Timeout(timeouts.connect)),
            Ok(Err(error)) => Err(ClientError::Connect(endpoint.address, error)),
            Ok(Ok(stream)) => Ok(Self { stream, key: endpoint.key.clone(), timeouts }),
        }
    }

    /// Whether it can take another request: false after an error other than a response code.
    pub fn is_usable(&self) -> bool {
        let _ = (&self.stream, &self.key, &self.timeouts);
        true
    }

    /// The serial of the server's version of `zone`.
    pub async fn soa(&mut self, zone: &Name) -> Result<Serial, ClientError> {
        let _ = zone;
        Err(ClientError::Closed)
    }

    /// The answer to one question, whatever its response code.
    pub async fn query(&mut self, name: &Name, rtype: Rtype) -> Result<Answer, ClientError> {
        let _ = (name, rtype);
        Err(ClientError::Closed)
    }

    /// Brings `base` up to date, or transfers the whole zone without one.
    pub async fn transfer(&mut self, zone: &Name, base: Option<&Version>) -> Result<Transfer, ClientError> {
        let _ = (zone, base);
        Err(ClientError::Closed)
    }

    /// Announces a version; returns once that has been acknowledged.
    pub async fn notify(&mut self, zone: &Name, serial: Serial) -> Result<(), ClientError> {
        let _ = (zone, serial);
        Err(ClientError::Closed)
    }

    /// Forwards a request (without TSIG) and passes every message of its answer on, verified and without TSIG.
    pub async fn exchange(
        &mut self,
        message: Bytes,
        sink: &mpsc::Sender<Relayed>,
    ) -> Result<Rcode, ClientError> {
        let _ = (message, sink);
        Err(ClientError::Closed)
    }
}

/// Asks for the serial over UDP.
pub async fn udp_soa(endpoint: &Endpoint, zone: &Name, timeout: Duration) -> Result<Serial, ClientError> {
    let _ = (endpoint, zone, timeout);
    Err(ClientError::Closed)
}

/// Asks one question over UDP; asks again every 500 ms until `timeout`.
pub async fn udp_query(
    endpoint: &Endpoint,
    name: &Name,
    rtype: Rtype,
    timeout: Duration,
) -> Result<Answer, ClientError> {
    let _ = (endpoint, name, rtype, timeout);
    Err(ClientError::Closed)
}

/// Announces a version over UDP, again and again until it is acknowledged or `timeout` is over.
pub async fn udp_notify(
    endpoint: &Endpoint,
    zone: &Name,
    serial: Serial,
    timeout: Duration,
) -> Result<(), ClientError> {
    let _ = (endpoint, zone, serial, timeout);
    Err(ClientError::Closed)
}
