//! Kept connections to one server, bounded in number.
//!
//! A connection that was idle may have been closed by the other side meanwhile; then the question is asked once more on
//! a new one, so that an idle limit of a server never looks like its loss.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bindy_wire::{ClientError, Connection, Endpoint, Question, Relayed, SerialOf, Timeouts, Transfer};
use bindy_zone::{Name, Serial, Version};
use bytes::Bytes;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};

/// Connections for short questions, and those for transfers: a rush of transfers must not delay SOA queries. As many again are
/// for zones that the server does not have yet, since a rush of these must not delay news of those that it has.
const QUESTIONS: usize = 32;
const TRANSFERS: usize = 24;
/// Questions for serials on their way at a time: 2 500 answers a second over 50 ms.
const ON_THEIR_WAY: usize = 128;
/// For how long an address that failed is not preferred again.
const AVOIDED: Duration = Duration::from_secs(60);
/// Answer messages of up to 64 KiB that wait for a slow reader.
const WAITING_MESSAGES: usize = 2;
/// How long a source may keep silent before the first answer.
pub(crate) const SILENCE: Duration = Duration::from_secs(1);
/// How long a place is waited for on behalf of somebody who counts silence in the same way.
const WAIT_FOR_A_PLACE: Duration = Duration::from_millis(500);
/// How long it may pause within an answer.
const STALLED: Duration = Duration::from_secs(15);
const TIMEOUTS: Timeouts = Timeouts { connect: SILENCE, answer: SILENCE, between: STALLED };

/// What a connection is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    Question,
    Transfer,
    /// Of a zone that the server does not have yet.
    FirstQuestion,
    /// The same.
    FirstTransfer,
}

/// Connections to one server.
pub(crate) struct Pool {
    endpoint: Endpoint,
    /// With the time of their last use, the latest one last.
    idle: Mutex<Vec<(Connection, Instant)>>,
    questions: Arc<Semaphore>,
    transfers: Arc<Semaphore>,
    first_questions: Arc<Semaphore>,
    first_transfers: Arc<Semaphore>,
    preferred: Mutex<Preferred>,
    /// Connections of an earlier one are not kept.
    generation: AtomicU64,
    /// Tells those that wait for a place that the server keeps silent.
    silent: Notify,
    /// Nobody else has the answer, so they wait for their turn all the same; SERVFAIL where that takes too long.
    is_only: bool,
}

/// Which one is asked of those behind the address.
#[derive(Debug, Default)]
struct Preferred {
    address: Option<IpAddr>,
    failed: Option<(IpAddr, Instant)>,
}

/// A zone, and what a server says of its serial.
pub(crate) type SerialAnswer = (Name, Result<Serial, ClientError>);

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
        Self::with_transfers(endpoint, TRANSFERS, false)
    }

    /// One for that many transfers at a time, to a server whose answers nobody else has.
    pub(crate) fn to_the_only_one(endpoint: Endpoint, transfers: usize) -> Self {
        Self::with_transfers(endpoint, transfers, true)
    }

    fn with_transfers(endpoint: Endpoint, transfers: usize, is_only: bool) -> Self {
        Self {
            endpoint,
            idle: Mutex::default(),
            questions: Arc::new(Semaphore::new(QUESTIONS)),
            transfers: Arc::new(Semaphore::new(transfers)),
            first_questions: Arc::new(Semaphore::new(QUESTIONS)),
            first_transfers: Arc::new(Semaphore::new(TRANSFERS)),
            preferred: Mutex::default(),
            generation: AtomicU64::new(0),
            silent: Notify::new(),
            is_only,
        }
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(crate) async fn soa(&self, zone: &Name) -> Result<Serial, ClientError> {
        self.ask(&SerialOf(zone)).await
    }

    pub(crate) async fn ask<Q: Question>(&self, question: &Q) -> Result<Q::Answer, ClientError> {
        ask!(self, connection => connection.ask(question))
    }

    /// Asks for the serials of `zones`; see [`Connection::serials`].
    pub(crate) async fn serials(
        &self,
        zones: &mut BTreeSet<Name>,
        answers: &mpsc::Sender<SerialAnswer>,
    ) -> Result<(), ClientError> {
        loop {
            let before = zones.len();
            match ask!(self, connection => connection.serials(zones, ON_THEIR_WAY, answers)) {
                // Servers may end a connection after so many questions.
                Err(error) if is_broken(&error) && zones.len() < before => {}
                result => return result,
            }
        }
    }

    /// Asks over a connection that is open already; `None` when there is none that works.
    pub(crate) async fn ask_idle<Q: Question>(&self, question: &Q) -> Option<Result<Q::Answer, ClientError>> {
        let generation = self.generation();
        let mut connection = self.pop()?;
        match connection.ask(question).await {
            Err(error) if is_broken(&error) => {
                self.forget_idle();
                None
            }
            result => {
                self.give_back(connection, generation);
                Some(result)
            }
        }
    }

    pub(crate) async fn transfer(
        &self,
        zone: &Name,
        base: Option<&Version>,
    ) -> Result<Transfer, ClientError> {
        ask!(self, connection => connection.transfer(zone, base))
    }

    /// Sends `message` as it is and returns when the first answer message is there. When the server keeps silent, those that wait
    /// for a place fail as well: others may have the answer at once.
    pub(crate) async fn exchange(
        self: &Arc<Self>,
        message: &Bytes,
        purpose: Use,
    ) -> Result<Stream, ClientError> {
        loop {
            let permit = tokio::select! {
                permit = self.permit(purpose) => permit?,
                () = self.silent.notified() => return Err(ClientError::Timeout(SILENCE)),
                // Whoever waits would take this server for a silent one.
                () = tokio::time::sleep(WAIT_FOR_A_PLACE), if self.is_only => return Err(ClientError::ServFail),
            };
            let (mut reused, generation) = (false, self.generation());
            let asked = async {
                let (connection, was_idle) = self.connect().await?;
                reused = was_idle;
                let (sender, mut rest) = mpsc::channel(WAITING_MESSAGES);
                let run = Arc::clone(self).run((connection, generation), message.clone(), sender, permit);
                let running = tokio::spawn(run);
                match tokio::time::timeout(SILENCE, rest.recv()).await {
                    Ok(Some(first)) => Ok(Stream { first, rest }),
                    Ok(None) => Err(running.await.ok().flatten().unwrap_or(ClientError::Closed)),
                    Err(_) => {
                        running.abort();
                        Err(ClientError::Timeout(SILENCE))
                    }
                }
            };
            match asked.await {
                Err(error) if reused && is_broken(&error) && !matches!(error, ClientError::Timeout(_)) => {
                    self.forget_idle();
                }
                answer => {
                    if !self.is_only && matches!(answer, Err(ClientError::Timeout(_))) {
                        self.silent.notify_waiters();
                    }
                    return answer;
                }
            }
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
            Use::FirstQuestion => &self.first_questions,
            Use::FirstTransfer => &self.first_transfers,
        };
        Arc::clone(semaphore).acquire_owned().await.map_err(|_| ClientError::Closed)
    }

    async fn connect(&self) -> Result<(Connection, bool), ClientError> {
        match self.pop() {
            Some(connection) => Ok((connection, true)),
            None => Ok((self.open().await?, false)),
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<(Connection, Instant)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pop(&self) -> Option<Connection> {
        self.idle().pop().map(|(connection, _)| connection)
    }

    async fn open(&self) -> Result<Connection, ClientError> {
        let preferred = self.preferred().address;
        if let Some(address) = preferred {
            let there = SocketAddr::new(address, self.endpoint.address.port());
            let endpoint = Endpoint { address: there, key: self.endpoint.key.clone() };
            match Connection::open(&endpoint, TIMEOUTS).await {
                Ok(connection) => return Ok(connection),
                Err(_) => {
                    let mut preferred = self.preferred();
                    preferred.failed = Some((address, Instant::now()));
                    // Another one may have told of a version meanwhile.
                    preferred.address = preferred.address.filter(|now| *now != address);
                }
            }
        }
        Connection::open(&self.endpoint, TIMEOUTS).await
    }

    /// How many connections are idle, and those of them that have been for that long: for [`Pool::renew`].
    pub(crate) fn take_resting(&self, rested: Duration) -> (usize, Vec<Connection>) {
        let mut idle = self.idle();
        let count = idle.len();
        let resting = idle.iter().take_while(|(_, since)| since.elapsed() >= rested).count();
        (count, idle.drain(..resting).map(|(connection, _)| connection).collect())
    }

    /// Asks for a serial over this connection, so that the server does not close it, or over one that is opened for it, however
    /// long that takes. It is idle then.
    pub(crate) async fn renew(&self, connection: Option<Connection>, zone: &Name, patience: Duration) {
        let generation = self.generation();
        let patient = Timeouts { connect: patience, answer: patience, between: STALLED };
        let opened = match connection {
            Some(connection) => Ok(connection),
            None => Connection::open(&self.endpoint, patient).await,
        };
        if let Ok(mut connection) = opened
            && !matches!(connection.soa(zone).await, Err(error) if is_broken(&error))
        {
            self.give_back(connection.with_timeouts(TIMEOUTS), generation);
        }
    }

    fn preferred(&self) -> MutexGuard<'_, Preferred> {
        self.preferred.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks this one from now on, of those behind the address: it has told of a version, and others may not have it yet. What
    /// cannot be reached where it told from, as behind a network address translation, is not preferred.
    pub(crate) fn prefer(&self, address: IpAddr) {
        let preferred = self.preferred();
        let avoided = preferred.failed.is_some_and(|(it, at)| it == address && at.elapsed() < AVOIDED);
        if avoided || preferred.address == Some(address) || self.endpoint.address.ip() == address {
            return;
        }
        drop(preferred);
        self.leave();
        self.preferred().address = Some(address);
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    fn give_back(&self, connection: Connection, generation: u64) {
        let mut idle = self.idle();
        let is_current = generation == self.generation();
        if is_current && connection.is_usable() && idle.len() < 2 * (QUESTIONS + TRANSFERS) {
            idle.push((connection, Instant::now()));
        }
    }

    /// Opens new connections from now on. The address of a source may be that of a Service, behind which one server has
    /// what another has not; a kept connection would lead to the same one for ever, which may even be this one.
    pub(crate) fn leave(&self) {
        self.preferred().address = None;
        self.generation.fetch_add(1, Ordering::Relaxed);
        self.forget_idle();
    }

    /// Closes what is idle: when one of them is dead, all may be.
    pub(crate) fn forget_idle(&self) {
        self.idle().clear();
    }
}

/// Whether the connection is of no use any more, as opposed to an answer that says no.
pub(crate) fn is_broken(error: &ClientError) -> bool {
    !matches!(
        error,
        ClientError::Refused | ClientError::NotAuth | ClientError::ServFail | ClientError::Rcode(_)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{FutureExt, future};
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn questions_that_wait_for_a_place_at_a_silent_server_do_not_wait_for_their_turn() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let pool = Arc::new(Pool::new(Endpoint { address: silent.local_addr().unwrap(), key: None }));
        // SOA of the root.
        let question = Bytes::from_static(b"\0\x01\0\0\0\x01\0\0\0\0\0\0\0\0\x06\0\x01");
        let ask = |_| pool.exchange(&question, Use::Question);
        let mut connections = Vec::new();
        let answers = tokio::select! {
            answers = future::join_all((0..3 * QUESTIONS).map(ask)) => answers,
            () = async { while let Ok((one, _)) = silent.accept().await { connections.push(one); } } => unreachable!(),
        };
        assert!(answers.iter().all(|answer| matches!(answer, Err(ClientError::Timeout(_)))));
        assert_eq!(connections.len(), QUESTIONS, "no one else was sent there");
    }

    #[tokio::test]
    async fn who_would_wait_too_long_for_a_place_at_the_only_server_is_told_so() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = Endpoint { address: silent.local_addr().unwrap(), key: None };
        let pool = Arc::new(Pool::to_the_only_one(endpoint, 1));
        let _taken = pool.permit(Use::Transfer).await.unwrap();
        let answer = tokio::time::timeout(SILENCE, pool.exchange(&Bytes::new(), Use::Transfer)).await;
        assert!(
            matches!(answer, Ok(Err(ClientError::ServFail))),
            "before the other side takes it for silent"
        );
    }

    #[tokio::test]
    async fn zones_that_are_new_take_no_room_from_those_that_are_there() {
        let pool = Pool::new(Endpoint { address: "127.0.0.1:1".parse().unwrap(), key: None });
        let mut taken = Vec::new();
        for purpose in [Use::FirstQuestion, Use::FirstTransfer] {
            while let Some(permit) = pool.permit(purpose).now_or_never() {
                taken.push(permit.unwrap());
            }
        }
        assert_eq!(taken.len(), QUESTIONS + TRANSFERS);
        for purpose in [Use::Question, Use::Transfer] {
            assert!(pool.permit(purpose).now_or_never().is_some(), "{purpose:?}");
        }
    }
}
