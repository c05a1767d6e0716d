//! Kept connections to one server, bounded in number.
//!
//! A connection that was idle may have been closed by the other side meanwhile; then the question is asked once more on
//! a new one, so that an idle limit of a server never looks like its loss.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bindy_wire::{Answer, ClientError, Connection, Endpoint, Relayed, Timeouts, Transfer};
use bindy_zone::{Name, Rtype, Serial, Version};
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Connections for short questions, and those for transfers: a rush of transfers must not delay SOA queries.
const QUESTIONS: usize = 8;
const TRANSFERS: usize = 24;
/// Answer messages of up to 64 KiB that wait for a slow reader.
const WAITING_MESSAGES: usize = 2;
/// How long a source may keep silent before the first answer.
pub(crate) const SILENCE: Duration = Duration::from_secs(1);
/// How long it may pause within an answer.
const STALLED: Duration = Duration::from_secs(15);

/// What a connection is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    Question,
    Transfer,
}

/// Connections to one server.
pub(crate) struct Pool {
    endpoint: Endpoint,
    idle: Mutex<Vec<Connection>>,
    questions: Arc<Semaphore>,
    transfers: Arc<Semaphore>,
    opened: AtomicU64,
    /// Connections of an earlier one are not kept.
    generation: AtomicU64,
}

/// An answer on its way: the first message, and a channel with those that follow.
pub(crate) struct Stream {
    pub(crate) first: Relayed,
    pub(crate) rest: mpsc::Receiver<Relayed>,
}

/// Asks once more on a new connection when an idle one turned out to be closed.
macro_rules! ask {
    ($pool:expr, $connection:ident => $question:expr) => {{
        let _permit = $pool.permit(Use::Question).await?;
        loop {
            let generation = $pool.generation();
            let (mut $connection, reused) = $pool.connect().await?;
            match $question.await {
                Err(error) if reused && is_broken(&error) => $pool.forget_idle(),
                result => {
                    $pool.give_back($connection, generation);
                    break result;
                }
            }
        }
    }};
}

impl Pool {
    pub(crate) fn new(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            idle: Mutex::default(),
            questions: Arc::new(Semaphore::new(QUESTIONS)),
            transfers: Arc::new(Semaphore::new(TRANSFERS)),
            opened: AtomicU64::new(0),
            generation: AtomicU64::new(0),
        }
    }

    /// How many connections were opened. Where one question is asked at a time, it changes only when a connection broke.
    pub(crate) fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(crate) async fn soa(&self, zone: &Name) -> Result<Serial, ClientError> {
        ask!(self, connection => connection.soa(zone))
    }

    pub(crate) async fn query(&self, name: &Name, rtype: Rtype) -> Result<Answer, ClientError> {
        ask!(self, connection => connection.query(name, rtype))
    }

    pub(crate) async fn notify(&self, zone: &Name, serial: Serial) -> Result<(), ClientError> {
        ask!(self, connection => connection.notify(zone, serial))
    }

    pub(crate) async fn transfer(
        &self,
        zone: &Name,
        base: Option<&Version>,
    ) -> Result<Transfer, ClientError> {
        ask!(self, connection => connection.transfer(zone, base))
    }

    /// Sends `message` as it is and returns when the first answer message is there.
    pub(crate) async fn exchange(
        self: &Arc<Self>,
        message: &Bytes,
        purpose: Use,
    ) -> Result<Stream, ClientError> {
        loop {
            let permit = self.permit(purpose).await?;
            let generation = self.generation();
            let (connection, reused) = self.connect().await?;
            let (sender, mut rest) = mpsc::channel(WAITING_MESSAGES);
            let run = Arc::clone(self).run((connection, generation), message.clone(), sender, permit);
            let running = tokio::spawn(run);
            let error = match tokio::time::timeout(SILENCE, rest.recv()).await {
                Ok(Some(first)) => return Ok(Stream { first, rest }),
                Ok(None) => running.await.ok().flatten().unwrap_or(ClientError::Closed),
                Err(_) => {
                    running.abort();
                    return Err(ClientError::Timeout(SILENCE));
                }
            };
            if !(reused && is_broken(&error)) {
                return Err(error);
            }
            self.forget_idle();
        }
    }

    /// Passes one whole answer to `sender`; a failure closes the channel before the last message.
    async fn run(
        self: Arc<Self>,
        (mut connection, generation): (Connection, u64),
        message: Bytes,
        sender: mpsc::Sender<Relayed>,
        _permit: OwnedSemaphorePermit,
    ) -> Option<ClientError> {
        let error = connection.exchange(message, &sender).await.err();
        self.give_back(connection, generation);
        error
    }

    /// A place in the queue; whoever asked has a limit of its own for the whole answer.
    async fn permit(&self, purpose: Use) -> Result<OwnedSemaphorePermit, ClientError> {
        let semaphore = match purpose {
            Use::Question => &self.questions,
            Use::Transfer => &self.transfers,
        };
        Arc::clone(semaphore).acquire_owned().await.map_err(|_| ClientError::Closed)
    }

    async fn connect(&self) -> Result<(Connection, bool), ClientError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match idle {
            Some(connection) => Ok((connection, true)),
            None => {
                let timeouts = Timeouts { connect: SILENCE, answer: SILENCE, between: STALLED };
                let connection = Connection::open(&self.endpoint, timeouts).await?;
                self.opened.fetch_add(1, Ordering::Relaxed);
                Ok((connection, false))
            }
        }
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    fn give_back(&self, connection: Connection, generation: u64) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let is_current = generation == self.generation();
        if is_current && connection.is_usable() && idle.len() < QUESTIONS + TRANSFERS {
            idle.push(connection);
        }
    }

    /// Opens new connections from now on. The address of a source may be that of a Service, behind which one server has
    /// what another has not; a kept connection would lead to the same one for ever, which may even be this one.
    pub(crate) fn leave(&self) {
        self.generation.fetch_add(1, Ordering::Relaxed);
        self.forget_idle();
    }

    /// Closes what is idle: when one of them is dead, all may be.
    pub(crate) fn forget_idle(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// Whether the connection is of no use any more, as opposed to an answer that says no.
pub(crate) fn is_broken(error: &ClientError) -> bool {
    !matches!(
        error,
        ClientError::Refused | ClientError::NotAuth | ClientError::ServFail | ClientError::Rcode(_)
    )
}
