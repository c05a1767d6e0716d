//! The client side: questions, transfers, NOTIFY and forwarding.
//!
//! ```text
//! Endpoint ─► ask_by_udp ─ Question ─► one message
//!    └─► Connection ─ ask (query, soa, notify) ─► one message
//!                 ├─ serials ─► one message each, many on their way
//!                 ├─ transfer ─► progress (order of records) ─► transfer (content) ─► Version
//!                 └─ exchange ─► progress ─► messages passed on
//! ```
//! Every answer is verified before it is used, and a transfer counts only when its last record has arrived.

mod connection;
mod datagram;
mod progress;
mod query;
mod transfer;

pub use connection::Connection;
pub use datagram::ask_by_udp;
pub use query::{Forwarded, News, Question, RecordsAt, SerialOf};

use std::net::SocketAddr;
use std::time::Duration;

use bindy_zone::{Name, Rtype, Serial, Version};
use domain::base::iana::Rcode;

use crate::keys::Key;
use crate::message::Malformed;
use crate::tsig::BadAnswer;

/// A server to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its address.
    pub address: SocketAddr,
    /// The key for requests; none means unsigned.
    pub key: Option<Key>,
}

/// How long to wait for what. [`Timeouts::default`] suits servers nearby.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// Until the connection stands.
    pub connect: Duration,
    /// From a request to the first message of its answer.
    pub answer: Duration,
    /// Between two messages of one answer.
    pub between: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(1),
            answer: Duration::from_secs(5),
            between: Duration::from_secs(5),
        }
    }
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
    /// The clocks differ by more than TSIG allows. Told in minutes, since seconds would be others each time.
    #[error("the clocks differ too much for TSIG: the server's is {} min ahead of ours", (ahead + 30 * ahead.signum()) / 60)]
    ClockSkew {
        /// Seconds that the server's clock is ahead; negative when it is behind.
        ahead: i64,
    },
    /// BADKEY.
    #[error("signature: the server does not know our key (BADKEY)")]
    UnknownKey,
    /// The answer is unsigned or wrongly signed, or the server rejected our signature.
    #[error("signature: {0}")]
    Signature(&'static str),
    /// The answer is no DNS, or does not fit the request.
    #[error("malformed answer: {0}")]
    Malformed(&'static str),
    /// The answer did not fit into a datagram (TC): by TCP it can be had.
    #[error("the answer was truncated")]
    Truncated,
    /// The server has an older version than we have.
    #[error("the server is at serial {theirs}, before our {ours}")]
    Behind {
        /// The server's serial.
        theirs: Serial,
        /// Ours.
        ours: Serial,
    },
    /// Nobody takes the answer that is being forwarded any more.
    #[error("the receiver of the answer has gone")]
    SinkGone,
}

impl ClientError {
    /// Whether the connection can take another request: the answer was complete and is only not what we wanted.
    pub fn leaves_connection_usable(&self) -> bool {
        matches!(self, Self::Refused | Self::NotAuth | Self::ServFail | Self::Rcode(_) | Self::Behind { .. })
    }

    /// The error that a response code is, if it is one.
    pub(crate) fn of(rcode: Rcode) -> Option<Self> {
        match rcode {
            Rcode::NOERROR => None,
            Rcode::REFUSED => Some(Self::Refused),
            Rcode::NOTAUTH => Some(Self::NotAuth),
            Rcode::SERVFAIL => Some(Self::ServFail),
            other => Some(Self::Rcode(other)),
        }
    }
}

impl From<Malformed> for ClientError {
    fn from(error: Malformed) -> Self {
        Self::Malformed(error.0)
    }
}

impl From<BadAnswer> for ClientError {
    fn from(error: BadAnswer) -> Self {
        match error {
            BadAnswer::Malformed(text) => Self::Malformed(text),
            BadAnswer::UnknownKey => Self::UnknownKey,
            BadAnswer::Signature(text) => Self::Signature(text),
            BadAnswer::ClockSkew(ahead) => Self::ClockSkew { ahead },
        }
    }
}
