//! Asks servers all the time and records every answer.
//!
//! An open loop: questions leave at their rate whether or not the ones before were answered, so an outage shows as
//! lost questions instead of as a pause.

use std::collections::HashMap;
use std::io::{BufWriter, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bindy_zone::{Name, Rtype};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::dns::{Transport, ask, parse_answer, query_message, udp_socket};
use crate::history::{History, Observation, Outage, Outcome};
use crate::wait_for;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Question {
    /// The name.
    pub name: Name,
    /// The type.
    pub rtype: Rtype,
}

/// A server that is asked.
#[derive(Clone, Debug)]
pub struct ProbeTarget {
    /// Its name in the history.
    pub name: String,
    /// Where it answers.
    pub address: SocketAddr,
}

/// What a prober does.
#[derive(Clone, Debug)]
pub struct ProberConfig {
    /// The servers to begin with; each is asked at the full rate.
    pub targets: Vec<ProbeTarget>,
    /// The questions, asked in turn.
    pub questions: Vec<Question>,
    /// Questions a second to each server.
    pub rate: u32,
    /// Every how manyth question goes by TCP; 0 for none.
    pub tcp_every: u32,
    /// How long an answer may take.
    pub limit: Duration,
    /// The most observations that are kept.
    pub capacity: usize,
    /// The file of JSON lines, one per observation.
    pub file: Option<PathBuf>,
}

impl ProberConfig {
    /// 50 questions a second to each server, one in 20 by TCP, answers within a second, at most a million of them.
    pub fn new(targets: Vec<ProbeTarget>, questions: Vec<Question>) -> Self {
        let limit = Duration::from_secs(1);
        Self { targets, questions, rate: 50, tcp_every: 20, limit, capacity: 1_000_000, file: None }
    }
}

/// A running prober.
#[derive(Debug)]
pub struct Prober {
    config: ProberConfig,
    questions: Vec<Arc<Question>>,
    recorder: Arc<Recorder>,
    cancel: CancellationToken,
    servers: Mutex<Servers>,
}

/// Who is being asked, and the tasks that do it.
#[derive(Debug, Default)]
struct Servers {
    asked: HashMap<String, CancellationToken>,
    tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Recorder {
    start: Instant,
    capacity: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    history: History,
    latest: HashMap<(Arc<str>, Arc<Question>), Arc<Outcome>>,
    file: Option<BufWriter<std::fs::File>>,
}

impl Prober {
    /// Starts asking.
    pub async fn start(config: ProberConfig) -> Result<Self> {
        let file = match &config.file {
            Some(path) => Some(BufWriter::new(std::fs::File::create(path)?)),
            None => None,
        };
        let state = State { history: History::default(), latest: HashMap::new(), file };
        let recorder =
            Recorder { start: Instant::now(), capacity: config.capacity, state: Mutex::new(state) };
        let recorder = Arc::new(recorder);
        let questions = config.questions.iter().cloned().map(Arc::new).collect();
        let targets = config.targets.clone();
        let (cancel, servers) = (CancellationToken::new(), Mutex::default());
        let prober = Self { config, questions, recorder, cancel, servers };
        for target in &targets {
            prober.add(target).await?;
        }
        Ok(prober)
    }

    /// Asks one more server from now on.
    pub async fn add(&self, target: &ProbeTarget) -> Result<()> {
        let probe = Probe {
            server: target.name.as_str().into(),
            address: target.address,
            socket: udp_socket(target.address).await?,
            questions: self.questions.clone(),
            config: self.config.clone(),
            recorder: Arc::clone(&self.recorder),
            pending: Mutex::default(),
        };
        let cancel = self.cancel.child_token();
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = servers.asked.insert(target.name.clone(), cancel.clone()) {
            before.cancel();
        }
        servers.tasks.spawn(async move { Arc::new(probe).run(cancel).await });
        Ok(())
    }

    /// Asks this server no more; what it said stays in the history.
    pub fn remove(&self, server: &str) {
        let servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cancel) = servers.asked.get(server) {
            cancel.cancel();
        }
    }

    /// Notes that the test stops this server now; see [`Outage`].
    pub fn outage_begins(&self, server: &str) {
        self.begin_outage(server, false);
    }

    /// The same of a server whose disk does not have all that it served.
    pub fn outage_begins_with_loss(&self, server: &str) {
        self.begin_outage(server, true);
    }

    fn begin_outage(&self, server: &str, loses: bool) {
        let from = self.recorder.start.elapsed();
        self.recorder.lock().history.outages.push(Outage { server: server.into(), from, until: None, loses });
    }

    /// Notes that the server has been started again.
    pub fn outage_ends(&self, server: &str) {
        let now = self.recorder.start.elapsed();
        let mut state = self.recorder.lock();
        let open = state.history.outages.iter_mut().rev().find(|o| &*o.server == server && o.until.is_none());
        if let Some(outage) = open {
            outage.until = Some(now);
        }
    }

    /// Waits until each of these servers has given that many more answers.
    pub async fn more_answers(&self, servers: &[&str], count: usize, limit: Duration) -> Result<()> {
        let before: Vec<usize> = servers.iter().map(|server| self.recorder.answered(server)).collect();
        wait_for(&format!("{count} more answers of every server"), limit, async || {
            for (server, before) in servers.iter().zip(&before) {
                let more = self.recorder.answered(server) - before;
                ensure!(more >= count, "{server} has given {more}");
            }
            anyhow::Ok(())
        })
        .await
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.recorder.start.elapsed()
    }

    /// A copy of the history so far.
    pub fn history(&self) -> History {
        self.recorder.lock().history.clone()
    }

    /// Stops asking, waits for the answers under way, and returns the history.
    pub async fn stop(self) -> Result<History> {
        self.cancel.cancel();
        let mut servers = self.servers.into_inner().unwrap_or_else(PoisonError::into_inner);
        while let Some(ended) = servers.tasks.join_next().await {
            ended.context("a task of the prober failed")?;
        }
        let mut state = self.recorder.lock();
        if let Some(file) = &mut state.file {
            file.flush()?;
        }
        Ok(std::mem::take(&mut state.history))
    }
}

impl Recorder {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many answers this server has given.
    fn answered(&self, server: &str) -> usize {
        let state = self.lock();
        let own = state.history.observations.iter().filter(|one| &*one.server == server);
        own.filter(|one| *one.outcome != Outcome::Lost).count()
    }

    fn record(&self, server: &Arc<str>, sent: &Sent, transport: Transport, outcome: Outcome) {
        let ended = self.start.elapsed();
        let mut state = self.lock();
        if state.history.observations.len() >= self.capacity {
            state.history.dropped += 1;
            return;
        }
        let latest = state.latest.entry((Arc::clone(server), Arc::clone(&sent.question)));
        let latest = latest.or_insert_with(|| Arc::new(outcome.clone()));
        if **latest != outcome {
            *latest = Arc::new(outcome);
        }
        let outcome = Arc::clone(latest);
        let (server, question) = (Arc::clone(server), Arc::clone(&sent.question));
        let observation = Observation { sent: sent.at, ended, server, transport, question, outcome };
        if let Some(file) = &mut state.file {
            // The history in memory is what counts; a full disk must not stop the prober.
            let _ = writeln!(file, "{}", observation.to_json());
        }
        state.history.observations.push(observation);
    }
}

#[derive(Clone, Debug)]
struct Sent {
    at: Duration,
    question: Arc<Question>,
}

/// The work on one server.
struct Probe {
    server: Arc<str>,
    address: SocketAddr,
    socket: UdpSocket,
    questions: Vec<Arc<Question>>,
    config: ProberConfig,
    recorder: Arc<Recorder>,
    pending: Mutex<HashMap<u16, Sent>>,
}

impl Probe {
    async fn run(self: Arc<Self>, cancel: CancellationToken) {
        let ended = CancellationToken::new();
        let (receiver, sweeper) = (Arc::clone(&self), Arc::clone(&self));
        let mut side = JoinSet::new();
        side.spawn(ended.clone().run_until_cancelled_owned(async move { receiver.receive().await }));
        side.spawn(ended.clone().run_until_cancelled_owned(async move { sweeper.sweep().await }));
        self.send(&cancel).await;
        // Answers under way still count.
        let start = Instant::now();
        while !self.pending().is_empty() && start.elapsed() < self.config.limit * 2 {
            sleep(Duration::from_millis(5)).await;
        }
        ended.cancel();
        while side.join_next().await.is_some() {}
    }

    fn pending(&self) -> MutexGuard<'_, HashMap<u16, Sent>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn send(self: &Arc<Self>, cancel: &CancellationToken) {
        let mut ticks = interval(Duration::from_secs(1) / self.config.rate.max(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut by_tcp = JoinSet::new();
        let questions = self.questions.iter().cycle();
        for (number, question) in (0u32..).zip(questions) {
            tokio::select! {
                () = cancel.cancelled() => break,
                _ = ticks.tick() => {}
            }
            while by_tcp.try_join_next().is_some() {}
            let sent = Sent { at: self.recorder.start.elapsed(), question: Arc::clone(question) };
            if self.config.tcp_every > 0 && number % self.config.tcp_every == self.config.tcp_every - 1 {
                by_tcp.spawn(Arc::clone(self).ask_by_tcp(sent));
            } else {
                self.ask_by_udp(number, sent).await;
            }
        }
        while by_tcp.join_next().await.is_some() {}
    }

    async fn ask_by_udp(&self, number: u32, sent: Sent) {
        let id = (number & 0xFFFF) as u16;
        let Ok(query) = query_message(id, &sent.question.name, sent.question.rtype) else { return };
        if let Some(previous) = self.pending().insert(id, sent) {
            self.recorder.record(&self.server, &previous, Transport::Udp, Outcome::Lost);
        }
        // A dead server makes this fail (ICMP); the question then counts as lost after its time.
        let _ = self.socket.send(&query).await;
    }

    async fn ask_by_tcp(self: Arc<Self>, sent: Sent) {
        let Question { name, rtype } = &*sent.question;
        let answer = timeout(self.config.limit, ask(self.address, Transport::Tcp, name, *rtype)).await;
        let outcome = match answer {
            Ok(Ok(answer)) => answer.outcome(name),
            _ => Outcome::Lost,
        };
        self.recorder.record(&self.server, &sent, Transport::Tcp, outcome);
    }

    async fn receive(&self) {
        let mut buffer = vec![0; 65_535];
        loop {
            let Ok(length) = self.socket.recv(&mut buffer).await else {
                tokio::task::yield_now().await;
                continue;
            };
            let Some(Ok(answer)) = buffer.get(..length).map(parse_answer) else { continue };
            let sent = self.pending().remove(&answer.id);
            let Some(sent) = sent else { continue };
            if answer.truncated {
                // The rest is asked for by TCP, as any resolver does.
                let Question { name, rtype } = &*sent.question;
                let full = timeout(self.config.limit, ask(self.address, Transport::Tcp, name, *rtype)).await;
                let outcome = if let Ok(Ok(full)) = full { full.outcome(name) } else { Outcome::Lost };
                self.recorder.record(&self.server, &sent, Transport::Tcp, outcome);
                continue;
            }
            let outcome = answer.outcome(&sent.question.name);
            self.recorder.record(&self.server, &sent, Transport::Udp, outcome);
        }
    }

    /// Gives up questions whose time had passed the last time already: when this process itself was held up, their answers
    /// are there and have to be read first.
    async fn sweep(&self) {
        let mut before = Duration::ZERO;
        loop {
            sleep(Duration::from_millis(20)).await;
            let now = self.recorder.start.elapsed();
            let last = std::mem::replace(&mut before, now);
            let late: Vec<Sent> = {
                let mut pending = self.pending();
                let expired = |sent: &Sent| sent.at + self.config.limit < last;
                let ids: Vec<u16> =
                    pending.iter().filter(|(_, sent)| expired(sent)).map(|(id, _)| *id).collect();
                ids.iter().filter_map(|id| pending.remove(id)).collect()
            };
            for sent in late {
                self.recorder.record(&self.server, &sent, Transport::Udp, Outcome::Lost);
            }
        }
    }
}
