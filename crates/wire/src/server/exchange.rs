//! From one request to its reply, the same for TCP and UDP.

use std::net::SocketAddr;
use std::time::SystemTime;

use bindy_zone::Rtype;
use bytes::Bytes;
use domain::base::iana::Rcode;

use super::{Opcode, Reply, Request, Service, Shared, Signatures, Transport, count};
use crate::answer::{Kind, Transmission};
use crate::message::{FLAG_AA, Header};
use crate::request::{ParsedRequest, parse_request, short_answer};
use crate::tsig::{Rejected, Signer, verify_request};

/// What to do about a request that is not good.
pub(super) enum Rejection {
    /// Say nothing.
    Silent,
    /// Send this.
    Answer(Vec<u8>),
}

/// The answer to a good request.
pub(super) struct Answer {
    pub(super) body: Body,
    pub(super) signer: Option<Signer>,
    /// The id that the client chose.
    pub(super) id: u16,
}

pub(super) enum Body {
    /// One message.
    Short(Vec<u8>),
    /// Of a zone.
    Zone(Transmission, Kind),
    /// Of somebody else.
    Relay(tokio::sync::mpsc::Receiver<super::Relayed>),
}

/// A request that may be put before the service.
pub(super) struct Accepted {
    message: Vec<u8>,
    parsed: ParsedRequest,
    signer: Option<Signer>,
}

/// Seconds since 1970.
pub(crate) fn unix_time() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Checks form and signature.
pub(super) fn check<S>(mut message: Vec<u8>, shared: &Shared<S>) -> Result<Accepted, Rejection> {
    let counters = &shared.counters;
    let parsed = match parse_request(&message) {
        Ok(parsed) => parsed,
        Err(rcode) => {
            count(&counters.malformed);
            return Err(match rcode {
                Some(rcode) => Rejection::Answer(short_answer(&message, rcode, 0)),
                None => Rejection::Silent,
            });
        }
    };
    if shared.options.signatures == Signatures::None {
        return Ok(Accepted { message, parsed, signer: None });
    }
    match verify_request(&mut message, &*shared.keys, unix_time()) {
        Ok(signer) => Ok(Accepted { message, parsed, signer: Some(signer) }),
        Err((Rejected::Unsigned, _)) => {
            count(&counters.refused);
            Err(Rejection::Answer(short_answer(&message, Rcode::REFUSED, 0)))
        }
        Err((Rejected::Malformed, _)) => {
            count(&counters.malformed);
            Err(Rejection::Answer(short_answer(&message, Rcode::FORMERR, 0)))
        }
        Err((Rejected::Tsig(error), answer)) => {
            count(&counters.bad_signature);
            tracing::debug!(zone = %parsed.name, ?error, "request with a TSIG error");
            Err(answer.map_or(Rejection::Silent, Rejection::Answer))
        }
    }
}

/// Asks the service, and prepares its answer.
pub(super) async fn answer<S: Service>(
    accepted: Accepted,
    peer: SocketAddr,
    transport: Transport,
    shared: &Shared<S>,
) -> Answer {
    let Accepted { message, parsed, signer } = accepted;
    let id = Header::parse(&message).map_or(0, |header| header.id);
    let short = |rcode, flags| Body::Short(short_answer(&message, rcode, flags));
    let (opcode, rtype, serial) = (parsed.opcode, parsed.rtype, parsed.serial);
    if transport == Transport::Udp && opcode == Opcode::Query && !matches!(rtype, Rtype::SOA | Rtype::IXFR) {
        count(&shared.counters.refused);
        return Answer { body: short(Rcode::REFUSED, 0), signer, id };
    }
    let request = Request {
        // A socket for both families has clients of IPv4 as addresses of IPv6.
        peer: SocketAddr::new(peer.ip().to_canonical(), peer.port()),
        transport,
        key: signer.as_ref().map(|signer| signer.key().name().clone()),
        opcode,
        name: parsed.name.clone(),
        rtype,
        serial,
        message: Bytes::copy_from_slice(&message),
    };
    let reply = tokio::time::timeout(shared.options.limits.reply, shared.service.call(request)).await;
    let refuse = || {
        count(&shared.counters.refused);
        short(Rcode::REFUSED, 0)
    };
    let body = match reply {
        Err(_) | Ok(Reply::ServFail) => short(Rcode::SERVFAIL, 0),
        Ok(Reply::Refused) => refuse(),
        Ok(Reply::NotAuth) => short(Rcode::NOTAUTH, 0),
        Ok(Reply::Notified) => short(Rcode::NOERROR, FLAG_AA),
        Ok(Reply::Relay(messages)) => Body::Relay(messages),
        Ok(Reply::Zone(history)) if *history.current().content.apex() != parsed.name => {
            short(Rcode::NOTAUTH, 0)
        }
        Ok(Reply::Zone(history)) => match Transmission::new(&message, rtype, serial, &history) {
            Some((transmission, kind)) if opcode == Opcode::Query => match transport {
                Transport::Udp => Body::Zone(transmission.only_soa(), Kind::Soa),
                Transport::Tcp => Body::Zone(transmission, kind),
            },
            _ => refuse(),
        },
    };
    Answer { body, signer, id }
}

/// Counts a zone answer that was sent to its end.
pub(super) fn count_zone<S>(kind: Kind, shared: &Shared<S>) {
    let counters = &shared.counters;
    match kind {
        Kind::Soa => count(&counters.soa),
        Kind::Full => count(&counters.axfr),
        Kind::Differences => count(&counters.ixfr),
        Kind::Current => count(&counters.current),
        Kind::Fallback => count(&counters.fallback),
    }
}
