//! The transfer port: siblings, downstreams and the operator, signed requests only.
//!
//! ```text
//!   NOTIFY by an own, an upstream's or, for its zones, an outside server's key ──► remembered as what to expect ──► named, from loopback
//!   query by an own key ─ for the configuration, or whose turn it is? ──► answered here;  any other ──► named, with the local key
//!   SOA | IXFR | AXFR by a neighbour's key ─ is it its catalog, or a member of it? ──► named
//!   SOA | IXFR | AXFR by the key of a downstream outside ─ a member? ──► named;  our catalog? ──► answered here
//!   anything else ──► REFUSED
//! ```
//! Whose zones are whose is asked of named itself: the catalogs of downstreams and upstreams are zones there.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bindy_model::CONFIG_QUESTION;
use bindy_wire::{ClientError, Opcode, Relayed, Reply, Request, Service};
use bindy_zone::{MemberLabel, Name, NameError, Rdata, Rtype, Serial};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;
use tracing::debug;

use crate::agent::Agent;
use crate::keys::Peer;
use crate::members::Members;
use crate::metrics::Served;
use crate::pool::{Stream, is_broken};

/// The service for everybody who has a key.
pub(crate) struct TransferPort {
    agent: Arc<Agent>,
    members: Arc<Members>,
    tasks: TaskTracker,
    config_question: Name,
}

impl TransferPort {
    pub(crate) fn new(
        agent: Arc<Agent>,
        members: Arc<Members>,
        tasks: TaskTracker,
    ) -> Result<Self, NameError> {
        Ok(Self { agent, members, tasks, config_question: Name::parse(CONFIG_QUESTION)? })
    }

    /// A NOTIFY goes to named at once; what named says to it goes back to the sender.
    async fn notify(&self, request: &Request, peer: &Peer) -> Reply {
        let zone = &request.name;
        self.agent.metrics.notifies.inc();
        let now = Instant::now();
        if *peer == Peer::Own {
            self.agent.operator_told(request.peer.ip());
        }
        // Without a serial nothing can be expected; zero would be older or newer than anything.
        if let Some(serial) = request.serial {
            let sender = self.sender(request.peer);
            self.agent.sources().notified(zone, serial, sender, now);
        }
        let serial = request.serial.or_else(|| self.agent.serial(zone).map(Serial::next));
        match self.agent.nudge(zone, serial.unwrap_or(Serial::new(1))).await {
            Ok(()) => Reply::Notified,
            Err(ClientError::NotAuth | ClientError::Refused) => Reply::NotAuth,
            Err(_) => Reply::ServFail,
        }
    }

    /// The source at that address, when there is exactly one.
    fn sender(&self, peer: SocketAddr) -> Option<String> {
        let config = self.agent.config();
        let mut there = config.sources.iter().filter(|source| source.address.ip() == peer.ip());
        let source = there.next()?;
        there.next().is_none().then(|| source.name.clone())
    }

    /// Whether a NOTIFY of this zone counts when this key has signed it.
    fn may_notify(&self, peer: &Peer, key: &Name, zone: &Name) -> bool {
        match peer {
            Peer::Own | Peer::Upstream { .. } => true,
            Peer::Source => {
                let config = self.agent.config();
                config.sources.iter().any(|source| source.key == *key && source.zones.contains(zone))
            }
            Peer::Downstream { .. } | Peer::Outside => false,
        }
    }

    async fn query(&self, request: &Request, peer: &Peer) -> Reply {
        if *peer == Peer::Outside && is_transfer(request) && request.name == self.agent.config().catalog {
            return self.members.shown_outside().map_or(Reply::ServFail, Reply::Zone);
        }
        if *peer == Peer::Own && request.rtype == Rtype::TXT && request.name.is_within(&self.config_question)
        {
            if request.name != self.config_question {
                self.agent.set_turn(request.name.clone());
            }
            return self.tell_config(request);
        }
        match self.may_read(request, peer).await {
            Ok(true) => self.answer(request).await,
            Ok(false) => Reply::Refused,
            Err(error) => {
                debug!(zone = %request.name, %error, "named could not be asked whose zone this is");
                Reply::ServFail
            }
        }
    }

    /// Which configuration this server runs with.
    fn tell_config(&self, request: &Request) -> Reply {
        let configs = self.agent.configs();
        let answer = configs.and_then(|configs| crate::answer::txt(&request.message, &configs.to_rdata()));
        answer.map_or(Reply::ServFail, |message| only(Relayed::Last(message)))
    }

    async fn may_read(&self, request: &Request, peer: &Peer) -> Result<bool, ClientError> {
        match peer {
            Peer::Own => Ok(true),
            Peer::Source => Ok(false),
            Peer::Outside => Ok(is_transfer(request) && self.members.shows_outside(&request.name)),
            Peer::Downstream { catalog } | Peer::Upstream { catalog } => Ok(is_transfer(request)
                && (request.name == *catalog || self.is_member(catalog, &request.name).await?)),
        }
    }

    /// Whether named's copy of that catalog lists the zone.
    async fn is_member(&self, catalog: &Name, zone: &Name) -> Result<bool, ClientError> {
        let owner = MemberLabel::of(zone).owner().in_zone(catalog);
        let answer = self.agent.named.query(&owner, Rtype::PTR).await?;
        let wanted = Rdata::name(zone);
        Ok(answer.records.iter().any(|record| {
            record.rtype == Rtype::PTR && record.name == owner && *record.rdata == *wanted.as_wire()
        }))
    }

    async fn answer(&self, request: &Request) -> Reply {
        let named = &self.agent.named;
        let answer = if matches!(request.rtype, Rtype::IXFR | Rtype::AXFR) {
            named.exchange(&request.message).await.map(|stream| self.forward(stream))
        } else {
            named.forward(&request.message).await.map(only)
        };
        match answer {
            Ok(reply) => reply,
            Err(ClientError::ServFail) => Reply::ServFail,
            Err(error) if !is_broken(&error) => Reply::Refused,
            Err(_) => Reply::ServFail,
        }
    }

    fn forward(&self, stream: Stream) -> Reply {
        if matches!(stream.first, Relayed::Last(_)) {
            return only(stream.first);
        }
        let (sender, receiver) = mpsc::channel(1);
        self.tasks.spawn(crate::relay::stream_to(stream, sender));
        Reply::Relay(receiver)
    }
}

/// An answer of one message.
pub(crate) fn only(message: Relayed) -> Reply {
    let (sender, receiver) = mpsc::channel(1);
    if sender.try_send(message).is_ok() { Reply::Relay(receiver) } else { Reply::ServFail }
}

fn is_transfer(request: &Request) -> bool {
    matches!(request.rtype, Rtype::SOA | Rtype::IXFR | Rtype::AXFR)
}

impl Service for TransferPort {
    async fn call(&self, request: Request) -> Reply {
        let signed = request.key.as_ref().and_then(|key| Some((key, self.agent.keys.peer(key)?)));
        let reply = match (&signed, request.opcode) {
            (Some((key, peer)), Opcode::Notify) if self.may_notify(peer, key, &request.name) => {
                self.notify(&request, peer).await
            }
            (Some((_, peer)), Opcode::Query) => self.query(&request, peer).await,
            _ => Reply::Refused,
        };
        let outcome = match reply {
            Reply::Refused | Reply::NotAuth => "refused",
            Reply::ServFail => "failed",
            _ => "answered",
        };
        self.agent.metrics.served.get_or_create(&Served { outcome }).inc();
        reply
    }
}
