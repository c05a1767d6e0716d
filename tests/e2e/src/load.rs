//! Clients of a Service: questions at a constant rate from a node, by UDP and by TCP, whether or not those before were answered.
//!
//! Every question is for [`STEADY`](crate::STEADY), whose answer no test changes. A question is lost when no answer came within
//! two seconds; any answer but the right one is wrong.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bindy_testing::cluster::{Namespace, within};
use bindy_testing::dns::{self, Answer, AnswerRecord, Transport};
use bindy_zone::{Name, Rtype};
use tokio::net::UdpSocket;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{Count, STEADY, STEADY_ADDRESS};

/// After this a question is lost.
const LIMIT: Duration = Duration::from_secs(2);
/// Questions that are lost within this time are lost at once.
const BURST: Duration = Duration::from_millis(200);
/// What was sent within this time may be under way at once.
const UNDER_WAY: Duration = Duration::from_millis(100);
/// The source ports of clients that change them. A node remembers a question and its answer for 30 s
/// (`nf_conntrack_udp_timeout`) and sends what comes from that port meanwhile to the same server, so all clients of this process take
/// them in turn: at 1 250 questions a second one comes again after 44 s.
const NEW_PORTS: Range<u16> = 10_000..65_000;
/// How many of them were taken.
static TAKEN: AtomicUsize = AtomicUsize::new(0);
/// Questions a second of each of the clients by UDP that are there beside what a test is about.
const FEW: u32 = 50;
/// Questions a second by TCP, each with a connection of its own.
const BY_TCP: u32 = 20;
/// How often questions are sent, several at once where the rate asks for it.
const TICK: Duration = Duration::from_millis(2);

/// An answer that took longer than this is worth telling where others were lost.
const SLOW: Duration = Duration::from_millis(100);
/// For a client with one port: room for what comes while the client itself has to wait for a processor.
const RECEIVE_BUFFER: usize = 4 << 20;

/// How questions come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By UDP, all from the same port: what a resolver's connection tracking makes of a pod that is gone shows here.
    KeptPort,
    /// By UDP, each from another port, and from none that the node still remembers.
    NewPorts,
    /// By TCP, each with a connection of its own.
    Tcp,
}

/// What became of the questions.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Questions a second.
    rate: u32,
    /// Questions sent.
    pub asked: usize,
    /// Those without an answer, in the order in which they were sent.
    pub lost: Vec<Loss>,
    /// What was wrong with the wrong answers.
    pub wrong: Vec<String>,
    /// Those that took longer than [`SLOW`], in the order in which they came: when they were sent, and how long they took.
    slow: Vec<(Duration, Duration)>,
}

/// A question without an answer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Loss {
    /// When it was sent, since the first one.
    pub sent: Duration,
    /// How it ended.
    pub end: String,
}

/// Clients that ask until they are stopped.
pub struct Load {
    stop: CancellationToken,
    asking: JoinHandle<Result<Tally>>,
}

impl Tally {
    /// An error unless every question was answered, and rightly so.
    pub fn nothing_missed(&self) -> Result<()> {
        ensure!(self.lost.is_empty(), "{}", self.losses());
        self.nothing_wrong()
    }

    /// The same for a client with [`Way::KeptPort`] when that many servers were taken away: for each of them kube-proxy makes the
    /// node forget the connections to it, and answers that are on their way at that moment find no way back.
    pub fn only_answers_under_way_missed(&self, servers: usize) -> Result<()> {
        let bursts = self.bursts().count();
        let under_way = under_way(self.rate);
        let expected = bursts <= servers && self.lost.len() <= servers * under_way;
        ensure!(expected, "{}, where {servers} times {under_way} are expected", self.losses());
        self.nothing_wrong()
    }

    /// An error if any answer was wrong.
    pub fn nothing_wrong(&self) -> Result<()> {
        let first = self.wrong.iter().take(5).cloned().collect::<Vec<_>>().join("\n");
        ensure!(self.wrong.is_empty(), "{} wrong answers of {}:\n{first}", self.wrong.len(), self.asked);
        Ok(())
    }

    /// The numbers alone.
    pub fn count(&self) -> Count {
        Count { asked: self.asked, lost: self.lost.len(), wrong: self.wrong.len() }
    }

    fn new(rate: u32) -> Self {
        Self { rate, asked: 0, lost: Vec::new(), wrong: Vec::new(), slow: Vec::new() }
    }

    /// What was lost at once.
    fn bursts(&self) -> impl Iterator<Item = &[Loss]> {
        self.lost.chunk_by(|first, second| second.sent <= first.sent + BURST)
    }

    /// How many were lost, when, and which answers were slow: a server that stands still shows as answers of two seconds next to
    /// lost ones.
    fn losses(&self) -> String {
        let times = self.bursts().filter_map(|burst| {
            let (first, last) = (burst.first()?, burst.last()?);
            Some(format!("{} from {:?} to {:?}: {}", burst.len(), first.sent, last.sent, first.end))
        });
        let times: Vec<_> = times.collect();
        let slow: Vec<_> = self.slow.iter().map(|(sent, took)| format!("{took:?} at {sent:?}")).collect();
        let (lost, asked) = (self.lost.len(), self.asked);
        format!(
            "{lost} of {asked} questions were lost, {}; slow answers: {}",
            times.join("; "),
            slow.join(", ")
        )
    }

    fn judge(&mut self, sent: Duration, took: Duration, answer: &Answer) {
        if took > SLOW {
            self.slow.push((sent, took));
        }
        let address: Option<Ipv4Addr> = STEADY_ADDRESS.parse().ok();
        let octets = address.map(|address| address.octets());
        let is_right = |one: &AnswerRecord| octets.is_some_and(|octets| one.rdata[..] == octets);
        if !answer.records.iter().any(is_right) {
            self.wrong.push(format!("{answer:?}"));
        }
    }
}

impl Load {
    /// Starts asking a Service from the first node, `rate` questions a second.
    pub async fn start(namespace: &Namespace, service: &str, rate: u32, way: Way) -> Result<Self> {
        let address = SocketAddr::new(namespace.service_address(service).await?, 53);
        Self::start_at(namespace, address, rate, way)
    }

    /// Starts asking whoever is at this address.
    pub fn start_at(namespace: &Namespace, address: SocketAddr, rate: u32, way: Way) -> Result<Self> {
        let node = namespace.cluster().description().nodes.first().context("no nodes")?.netns.clone();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let asking = tokio::spawn(async move {
            match way {
                Way::KeptPort => within(&node, move || from_one_port(address, rate, stopped)).await,
                Way::NewPorts => {
                    within(&node, move || one_by_one(rate, stopped, move || from_a_new_port(address))).await
                }
                Way::Tcp => within(&node, move || one_by_one(rate, stopped, move || by_tcp(address))).await,
            }
        });
        Ok(Self { stop, asking })
    }

    /// Stops asking, and waits for the last answers.
    pub async fn stop(self) -> Result<Tally> {
        self.stop.cancel();
        self.asking.await?.context("a client of the Service")
    }
}

/// The kinds of clients of a Service together.
pub struct Clients {
    begun: Instant,
    kept: Load,
    new: Load,
    tcp: Load,
}

impl Clients {
    /// Starts them, those by UDP with `rate` questions a second each.
    pub async fn start(namespace: &Namespace, service: &str, rate: u32) -> Result<Self> {
        let kept = Load::start(namespace, service, rate, Way::KeptPort).await?;
        let new = Load::start(namespace, service, rate, Way::NewPorts).await?;
        let tcp = Load::start(namespace, service, BY_TCP, Way::Tcp).await?;
        Ok(Self { begun: Instant::now(), kept, new, tcp })
    }

    /// Starts a few of each, beside what a test is about, as soon as the Service answers.
    pub async fn beside(namespace: &Namespace, service: &str) -> Result<Self> {
        namespace.answers_by_service(service, STEADY, Rtype::A, &[STEADY_ADDRESS]).await?;
        Self::start(namespace, service, FEW).await
    }

    /// Stops them. An error if any answer was wrong.
    pub async fn nothing_wrong(self) -> Result<()> {
        self.stop().await?.iter().try_for_each(Tally::nothing_wrong)
    }

    /// Stops them. An error if anything was missed, but for what was under way to the client with a kept port when so many
    /// servers were taken away.
    pub async fn missed_nothing(self, servers: usize) -> Result<()> {
        let [kept, new, tcp] = self.stop().await?;
        new.nothing_missed()?;
        tcp.nothing_missed().context("by TCP")?;
        kept.only_answers_under_way_missed(servers)
    }

    async fn stop(self) -> Result<[Tally; 3]> {
        let took = self.begun.elapsed();
        let tallies = [self.kept.stop().await?, self.new.stop().await?, self.tcp.stop().await?];
        for Tally { asked, rate, .. } in &tallies {
            // Clients that were held up have seen little of what happened meanwhile.
            let enough = (took.as_secs_f64() * f64::from(*rate) / 2.0).ceil() as usize;
            ensure!(
                *asked >= enough,
                "{asked} questions in {took:?}, where {enough} are half of what is wanted"
            );
        }
        Ok(tallies)
    }
}

/// How many questions may be under way at once, at this rate.
fn under_way(rate: u32) -> usize {
    (f64::from(rate) * UNDER_WAY.as_secs_f64()).ceil() as usize
}

/// How many questions are due, of those that a constant rate asks for.
struct Pace {
    rate: u32,
    begun: Instant,
    /// Questions that were due so far.
    counted: usize,
}

impl Pace {
    fn new(rate: u32) -> Self {
        Self { rate, begun: Instant::now(), counted: 0 }
    }

    /// Clients that were held up do not make up for all of it at once: nobody else asks like that.
    fn due(&mut self) -> usize {
        let wanted = (self.begun.elapsed().as_secs_f64() * f64::from(self.rate)) as usize;
        let due = wanted.saturating_sub(self.counted).min(under_way(self.rate));
        self.counted = wanted;
        due
    }
}

async fn from_one_port(service: SocketAddr, rate: u32, stopped: CancellationToken) -> Result<Tally> {
    let socket = bind(service, 0).await?;
    rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER)?;
    let (question, mut tally, mut pace) = (Name::parse(STEADY)?, Tally::new(rate), Pace::new(rate));
    let (mut waiting, mut next): (HashMap<u16, Instant>, u16) = (HashMap::new(), 0);
    let (mut buffer, mut ticks) = ([0; 4096], tokio::time::interval(TICK));
    let mut looked = Instant::now();
    loop {
        ticks.tick().await;
        let last = std::mem::replace(&mut looked, Instant::now());
        // First of all what has come: nothing of it is lost because this client had to wait.
        loop {
            let length = match socket.try_recv(&mut buffer) {
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // Refused: nobody is behind the Service at the moment; the question is lost by its time.
                Err(_) => continue,
            };
            let octets = buffer.get(..length).unwrap_or_default();
            let id = octets.first_chunk().map(|id| u16::from_be_bytes(*id)).context("a short answer")?;
            if let Some(sent) = waiting.remove(&id) {
                tally.judge(sent - pace.begun, sent.elapsed(), &dns::parse_answer(octets)?);
            }
        }
        // When it was held up for long, what has come may be seen the next time only.
        for (_, sent) in waiting.extract_if(|_, sent| last.saturating_duration_since(*sent) >= LIMIT) {
            tally.lost.push(Loss { sent: sent - pace.begun, end: "no answer".to_owned() });
        }
        if !stopped.is_cancelled() {
            for _ in 0..pace.due() {
                tally.asked += 1;
                waiting.insert(next, Instant::now());
                // What cannot be sent is lost by its time.
                let _ = socket.send(&dns::query_message(next, &question, Rtype::A)?).await;
                next = next.wrapping_add(1);
            }
        } else if waiting.is_empty() {
            tally.lost.sort();
            return Ok(tally);
        }
    }
}

/// Questions that know nothing of each other.
async fn one_by_one<A>(rate: u32, stopped: CancellationToken, ask: impl Fn() -> A) -> Result<Tally>
where
    A: Future<Output = Result<Answer>> + Send + 'static,
{
    let (mut tally, mut pace) = (Tally::new(rate), Pace::new(rate));
    let (mut asking, mut ticks) = (JoinSet::new(), tokio::time::interval(TICK));
    let take = |tally: &mut Tally, (sent, took, answer): (Duration, Duration, Result<Answer>)| match answer {
        Ok(answer) => tally.judge(sent, took, &answer),
        Err(error) => tally.lost.push(Loss { sent, end: format!("{error:#}") }),
    };
    while !stopped.is_cancelled() {
        tokio::select! {
            Some(answer) = asking.join_next() => take(&mut tally, answer?),
            _ = ticks.tick() => for _ in 0..pace.due() {
                tally.asked += 1;
                let (sent, asked, answer) = (pace.begun.elapsed(), Instant::now(), ask());
                asking.spawn(async move {
                    let answer = answer.await;
                    (sent, asked.elapsed(), answer)
                });
            },
        }
    }
    while let Some(answer) = asking.join_next().await {
        take(&mut tally, answer?);
    }
    tally.lost.sort();
    Ok(tally)
}

async fn by_tcp(service: SocketAddr) -> Result<Answer> {
    let question = Name::parse(STEADY)?;
    in_time(pin!(dns::ask(service, Transport::Tcp, &question, Rtype::A))).await?
}

async fn from_a_new_port(service: SocketAddr) -> Result<Answer> {
    let socket = new_socket(service).await?;
    socket.send(&dns::query_message(0, &Name::parse(STEADY)?, Rtype::A)?).await?;
    let mut buffer = [0; 4096];
    let length = in_time(pin!(socket.recv(&mut buffer))).await??;
    dns::parse_answer(buffer.get(..length).unwrap_or_default())
}

/// When this process was held up for long, what has come may be seen a moment later only.
async fn in_time<T>(mut answer: Pin<&mut impl Future<Output = T>>) -> Result<T> {
    match tokio::time::timeout(LIMIT, &mut answer).await {
        Ok(answer) => Ok(answer),
        Err(_) => tokio::time::timeout(10 * TICK, answer).await.context("no answer"),
    }
}

/// A socket at the next port that nobody has.
async fn new_socket(service: SocketAddr) -> Result<UdpSocket> {
    for _ in NEW_PORTS {
        let port = NEW_PORTS.start + (TAKEN.fetch_add(1, Ordering::Relaxed) % NEW_PORTS.len()) as u16;
        match bind(service, port).await {
            Err(error) if error.kind() == ErrorKind::AddrInUse => {}
            socket => return Ok(socket?),
        }
    }
    bail!("no port is left")
}

async fn bind(service: SocketAddr, port: u16) -> std::io::Result<UdpSocket> {
    let socket = UdpSocket::bind((if service.is_ipv4() { "0.0.0.0" } else { "::" }, port)).await?;
    socket.connect(service).await?;
    Ok(socket)
}
