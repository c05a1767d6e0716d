//! Questions to the agent's own named.
//!
//! named counts the agent among its clients: strangers can take every place that it has for connections (`tcp-clients`, one
//! number for all addresses that it listens on). So the agent keeps some connections open, which nobody can take away, and
//! asks by UDP where none of them is left, as after a restart:
//!
//! ```text
//!   SOA, NOTIFY, other questions ──► a kept connection ──none works──► UDP ──truncated──► a new connection
//!   AXFR, IXFR ────────────────────► a kept connection ──none is idle──► a new connection
//! ```
//! Questions alone would go by UDP; but when datagrams are lost among those of strangers, a connection still carries them.

use std::sync::Arc;
use std::time::Duration;

use bindy_wire::{
    Answer, ClientError, Endpoint, Forwarded, News, Question, RecordsAt, Relayed, SerialOf, Transfer,
    ask_by_udp,
};
use bindy_zone::{Name, Rtype, Serial, Version};
use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::agent::Agent;
use crate::pool::{Pool, Stream, Use};
use crate::watch::tick;

/// Questions and transfers at a time, and as many connections as both need.
const QUESTIONS: usize = 4;
const TRANSFERS: usize = 12;
const KEPT: usize = QUESTIONS + TRANSFERS;
/// How often connections are looked at: a named that starts has places for whoever comes first.
const KEEP: Duration = Duration::from_millis(100);
/// After this long without use a connection is used; named closes it after 30 s (`tcp-idle-timeout`).
const RESTED: Duration = Duration::from_secs(5);
/// How long a new connection is waited for: among strangers until places are free, in the order of arrival.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long an answer by UDP is waited for, each time that the question is sent.
const PAUSES: [Duration; 4] = [
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(300),
    Duration::from_millis(400),
];

/// The agent's own named.
pub(crate) struct Local {
    pool: Arc<Pool>,
    questions: Semaphore,
}

impl Local {
    pub(crate) fn new(endpoint: Endpoint) -> Self {
        let pool = Arc::new(Pool::to_the_only_one(endpoint, TRANSFERS));
        Self { pool, questions: Semaphore::new(QUESTIONS) }
    }

    pub(crate) async fn soa(&self, zone: &Name) -> Result<Serial, ClientError> {
        self.ask(&SerialOf(zone)).await
    }

    /// The serial of `zone`, whatever else is being asked: silent answers to that must not make named look silent.
    pub(crate) async fn look(&self, zone: &Name) -> Result<Serial, ClientError> {
        self.ask_now(&SerialOf(zone)).await
    }

    pub(crate) async fn query(&self, name: &Name, rtype: Rtype) -> Result<Answer, ClientError> {
        self.ask(&RecordsAt(name, rtype)).await
    }

    pub(crate) async fn notify(&self, zone: &Name, serial: Serial) -> Result<(), ClientError> {
        self.ask(&News(zone, serial)).await
    }

    /// The answer to somebody else's question, which is no transfer.
    pub(crate) async fn forward(&self, message: &Bytes) -> Result<Relayed, ClientError> {
        self.ask(&Forwarded(message)).await.map(Relayed::Last)
    }

    /// Passes on somebody else's request for a transfer; returns when the first message of the answer is there.
    pub(crate) async fn exchange(&self, message: &Bytes) -> Result<Stream, ClientError> {
        self.pool.exchange(message, Use::Transfer).await
    }

    pub(crate) async fn transfer(
        &self,
        zone: &Name,
        base: Option<&Version>,
    ) -> Result<Transfer, ClientError> {
        self.pool.transfer(zone, base).await
    }

    async fn ask<Q: Question>(&self, question: &Q) -> Result<Q::Answer, ClientError> {
        let _permit = self.questions.acquire().await.map_err(|_| ClientError::Closed)?;
        self.ask_now(question).await
    }

    async fn ask_now<Q: Question>(&self, question: &Q) -> Result<Q::Answer, ClientError> {
        if let Some(result) = self.pool.ask_idle(question).await {
            return result;
        }
        match ask_by_udp(self.pool.endpoint(), question, &PAUSES).await {
            Err(ClientError::Truncated) => self.pool.ask(question).await,
            result => result,
        }
    }
}

/// Keeps connections to named open.
pub(crate) async fn keep(agent: Arc<Agent>, cancel: CancellationToken) {
    let mut ticks = tokio::time::interval(KEEP);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut renewing = JoinSet::new();
    while tick(&mut ticks, &cancel).await {
        while renewing.try_join_next().is_some() {}
        let pool = &agent.named.pool;
        let (idle, resting) = pool.take_resting(RESTED);
        let missing = KEPT.saturating_sub(idle + renewing.len());
        let new = std::iter::repeat_with(|| None).take(missing);
        for connection in resting.into_iter().map(Some).chain(new) {
            let (pool, catalog) = (Arc::clone(pool), agent.config().catalog.clone());
            renewing.spawn(async move { pool.renew(connection, &catalog, PATIENCE).await });
        }
    }
    renewing.shutdown().await;
}
