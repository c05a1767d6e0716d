//! named's only primary: passes its SOA, IXFR and AXFR queries to the best live source.
//!
//! ```text
//!   named ── SOA | IXFR | AXFR ──► candidates in order ──► first message: older than named's? refused? silent?
//!                                        ▲                     │ yes: the next one          │ no
//!                                        └─────────────────────┘                            ▼
//!                                  none left: SERVFAIL at once          the stream goes to named with back-pressure
//! ```
//! It always answers the SOA questions of named quickly: named would cache a silent primary as unreachable for ten minutes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bindy_model::STOP_QUESTION;
use bindy_wire::{ClientError, Opcode, Relayed, Reply, Request, Service};
use bindy_zone::{Name, NameError, Rtype, Serial};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;
use tracing::{debug, info};

use crate::agent::Agent;
use crate::answer::{Verdict, judge};
use crate::farewell::until_few_ask;
use crate::metrics::Asked;
use crate::pool::{Stream, Use};
use crate::transfer::only;

/// How long sources are tried for a SOA question; named waits longer than this, and for transfers much longer.
const PATIENCE: Duration = Duration::from_millis(3_500);

/// The service on loopback for named.
pub(crate) struct Relay {
    agent: Arc<Agent>,
    tasks: TaskTracker,
    stop_question: Name,
}

/// What one source gave.
enum Attempt {
    /// The zone at this serial, and it is good enough.
    Good(Stream, Serial),
    /// Not older than named's, but older than what a NOTIFY announced.
    Behind(Stream, Serial),
    /// Nothing of use.
    Failed,
}

impl Relay {
    pub(crate) fn new(agent: Arc<Agent>, tasks: TaskTracker) -> Result<Self, NameError> {
        Ok(Self { agent, tasks, stop_question: Name::parse(STOP_QUESTION)? })
    }

    async fn pass(&self, request: Request) -> Reply {
        let zone = &request.name;
        let started = Instant::now();
        let is_new = request.serial.is_none() && self.agent.serial(zone).is_none();
        let purpose = match (request.rtype, is_new) {
            (Rtype::SOA, true) => Use::FirstQuestion,
            (Rtype::SOA, false) => Use::Question,
            (_, true) => Use::FirstTransfer,
            (_, false) => Use::Transfer,
        };
        let mut behind: Option<(String, Stream, Serial)> = None;
        for (source, pool) in self.agent.candidates(zone) {
            if request.rtype == Rtype::SOA && started.elapsed() > PATIENCE {
                break;
            }
            let outcome = pool.exchange(&request.message, purpose).await;
            match self.assess(&source, &request, outcome) {
                Attempt::Good(stream, serial) => {
                    return self.forward(source, &request, started, stream, serial);
                }
                Attempt::Behind(stream, serial) => {
                    if behind.as_ref().is_none_or(|(.., best)| serial.is_after(*best)) {
                        behind = Some((source, stream, serial));
                    }
                }
                Attempt::Failed => {}
            }
        }
        match behind {
            Some((source, stream, serial)) => self.forward(source, &request, started, stream, serial),
            None => {
                self.agent.metrics.unanswered.inc();
                Reply::ServFail
            }
        }
    }

    /// Makes this server un-ready while named still answers, and replies when it may stop.
    async fn stop(&self) -> Reply {
        info!("named is about to be stopped");
        let process = self.agent.readiness().boot_time().to_owned();
        tokio::time::sleep(Duration::from_secs(self.agent.config().ready_while_stopping_seconds)).await;
        self.agent.readiness().stopping(&process);
        until_few_ask().await;
        info!("named may be stopped");
        Reply::Refused
    }

    /// Whether an answer may go to named.
    fn assess(&self, source: &str, request: &Request, outcome: Result<Stream, ClientError>) -> Attempt {
        let zone = &request.name;
        let stream = match outcome {
            Ok(stream) => stream,
            Err(error) => {
                self.count(source, "failed");
                self.agent.source_failed(source, zone, &error);
                return Attempt::Failed;
            }
        };
        let verdict = judge(&stream.first, zone);
        let Verdict::Serves(serial) = verdict else {
            self.count(source, "declined");
            let offered = self.agent.sources().answered_last(source, zone, Instant::now());
            if verdict == Verdict::Refuses && request.rtype != Rtype::SOA && offered {
                // To whoever waits for the zone that is no better than a transfer that breaks.
                self.agent.transfer_ended(zone, None);
            }
            self.agent.pass_over(source, zone);
            return Attempt::Failed;
        };
        let own = request.serial.or_else(|| self.agent.serial(zone));
        if own.is_some_and(|own| own != serial && !serial.is_after(own)) {
            self.count(source, "stale");
            self.agent.pass_over(source, zone);
            return Attempt::Failed;
        }
        let announced = self.agent.sources().announced(zone, Instant::now());
        if announced.is_some_and(|announced| announced.is_after(serial)) {
            self.count(source, "behind");
            self.agent.pass_over(source, zone);
            return Attempt::Behind(stream, serial);
        }
        Attempt::Good(stream, serial)
    }

    fn forward(
        &self,
        source: String,
        request: &Request,
        asked: Instant,
        stream: Stream,
        serial: Serial,
    ) -> Reply {
        self.count(&source, "answered");
        self.agent.sources().answered(&source, &request.name, asked, Instant::now());
        if matches!(stream.first, Relayed::Last(_)) && request.rtype == Rtype::SOA {
            return only(stream.first);
        }
        let (sender, receiver) = mpsc::channel(1);
        let agent = Arc::clone(&self.agent);
        let zone = request.name.clone();
        self.tasks.spawn(async move {
            let complete = stream_to(stream, sender).await;
            ended(&agent, &zone, &source, complete.then_some(serial)).await;
        });
        Reply::Relay(receiver)
    }

    fn count(&self, source: &str, outcome: &'static str) {
        self.agent.metrics.relayed.get_or_create(&Asked { source: source.to_owned(), outcome }).inc();
    }
}

/// Passes a whole answer on; true when it was complete.
pub(crate) async fn stream_to(stream: Stream, sender: mpsc::Sender<Relayed>) -> bool {
    let Stream { first, mut rest } = stream;
    let mut next = Some(first);
    while let Some(message) = next {
        let last = matches!(message, Relayed::Last(_));
        if sender.send(message).await.is_err() {
            return false;
        }
        if last {
            return true;
        }
        next = rest.recv().await;
    }
    false
}

/// Writes down how a transfer ended. One that broke makes the next source's turn, and named is told to ask again: by
/// itself it would wait for the zone's retry time. After ten in a row it does, or until a new version is found.
async fn ended(agent: &Agent, zone: &Name, source: &str, serial: Option<Serial>) {
    debug!(%zone, source, serial = ?serial.map(Serial::get), "transferred");
    let broken = agent.transfer_ended(zone, serial);
    if *zone == agent.config().catalog {
        agent.look.notify_one();
    }
    if broken > 0 {
        agent.pass_over(source, zone);
    }
    if (1..=10).contains(&broken) {
        tokio::time::sleep(Duration::from_millis(200) * broken).await;
        let next = agent.candidates(zone).into_iter().next();
        if let Some((_, pool)) = next
            && let Ok(offered) = pool.soa(zone).await
        {
            drop(agent.nudge(zone, offered).await);
        }
    }
}

impl Service for Relay {
    async fn call(&self, request: Request) -> Reply {
        match (request.opcode, request.rtype) {
            (Opcode::Query, Rtype::SOA | Rtype::IXFR | Rtype::AXFR) => self.pass(request).await,
            (Opcode::Query, Rtype::TXT) if request.name == self.stop_question => self.stop().await,
            _ => Reply::Refused,
        }
    }
}
