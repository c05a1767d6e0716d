//! One TCP connection to a server; requests go one after another, but for many questions of one kind.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::SocketAddr;
use std::ops::Bound::{Excluded, Unbounded};
use std::time::Duration;

use bindy_zone::{Name, Rtype, Serial, Version};
use bytes::Bytes;
use domain::base::iana::Rcode;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::progress::{Asked, Progress};
use super::query::{self, News, Question, RecordsAt, SerialOf, matching, question, random_id};
use super::transfer::Incoming;
use super::{Answer, ClientError, Endpoint, Timeouts, Transfer};
use crate::message::{HEADER, Header, Reader, put_u16, soa};
use crate::request::parse_request;
use crate::server::{Relayed, unix_time};
use crate::tsig::{Signer, Verifier};

/// Octets read at once; transfers come in messages of this size.
const READ_BUFFER: usize = 65_536;
/// How often a message id that is not in use is looked for; few are.
const TRIES: usize = 1_000;

/// A TCP connection to a server.
pub struct Connection {
    stream: BufReader<TcpStream>,
    endpoint: Endpoint,
    timeouts: Timeouts,
    usable: bool,
}

/// A request that is being answered.
struct Pending {
    request: Vec<u8>,
    verifier: Option<Verifier>,
    first: bool,
}

impl Connection {
    /// Connects.
    pub async fn open(endpoint: &Endpoint, timeouts: Timeouts) -> Result<Self, ClientError> {
        let stream = connect(endpoint.address, timeouts.connect).await?;
        Ok(Self { stream, endpoint: endpoint.clone(), timeouts, usable: true })
    }

    /// Whether it can take another request: not after an answer that was cut short or wrongly signed.
    pub fn is_usable(&self) -> bool {
        self.usable
    }

    /// The same connection with other limits.
    pub fn with_timeouts(self, timeouts: Timeouts) -> Self {
        Self { timeouts, ..self }
    }

    /// The serial of the server's version of `zone`.
    pub async fn soa(&mut self, zone: &Name) -> Result<Serial, ClientError> {
        self.ask(&SerialOf(zone)).await
    }

    /// The answer to one question, whatever its response code.
    pub async fn query(&mut self, name: &Name, rtype: Rtype) -> Result<Answer, ClientError> {
        self.ask(&RecordsAt(name, rtype)).await
    }

    /// Announces a version; returns once that has been acknowledged.
    pub async fn notify(&mut self, zone: &Name, serial: Serial) -> Result<(), ClientError> {
        self.ask(&News(zone, serial)).await
    }

    /// Sends a request that has one message as its answer, and reads that.
    pub async fn ask<Q: Question>(&mut self, question: &Q) -> Result<Q::Answer, ClientError> {
        let mut pending = self.send(question.request(random_id())).await?;
        let (message, signed) = self.receive(&mut pending).await?;
        self.finished(signed)?;
        self.judge(question.read(&pending.request, message))
    }

    /// Asks for the serials of `zones`, up to `window` questions on their way at a time; answers may come in any order (RFC
    /// 7766 section 6.2.1.1). What has been answered is out of `zones`, and goes to `answers` with what it says.
    pub async fn serials(
        &mut self,
        zones: &mut BTreeSet<Name>,
        window: usize,
        answers: &mpsc::Sender<(Name, Result<Serial, ClientError>)>,
    ) -> Result<(), ClientError> {
        self.take()?;
        let mut all_signed = true;
        let mut last = None;
        let mut asked: HashMap<u16, (Name, Pending)> = HashMap::new();
        loop {
            while asked.len() < window
                && let Some(zone) =
                    zones.range((last.clone().map_or(Unbounded, Excluded), Unbounded)).next().cloned()
            {
                let id = std::iter::repeat_with(random_id).take(TRIES).find(|id| !asked.contains_key(id));
                let id = id.ok_or(ClientError::Malformed("our request"))?;
                let pending = self.write(SerialOf(&zone).request(id)).await?;
                asked.insert(id, (zone.clone(), pending));
                last = Some(zone);
            }
            if asked.is_empty() {
                self.usable = all_signed;
                return Ok(());
            }
            let mut message = self.read(self.timeouts.answer).await?;
            let Some((zone, pending)) = asked.remove(&Header::parse(&message)?.id) else {
                return Err(ClientError::Malformed("it answers nothing that was asked"));
            };
            let answer = match pending.verifier.map_or(Ok(true), |mut it| verify(&mut it, &mut message)) {
                Ok(true) => SerialOf(&zone).read(&pending.request, message),
                Ok(false) => Err(ClientError::Signature("an answer is not signed")),
                Err(denial) => {
                    all_signed = false;
                    Err(denial)
                }
            };
            match answer {
                Err(error) if !error.leaves_connection_usable() => return Err(error),
                answer => {
                    zones.remove(&zone);
                    answers.send((zone, answer)).await.map_err(|_| ClientError::SinkGone)?;
                }
            }
        }
    }

    /// Brings `base` up to date, or transfers the whole zone without one. Where the differences cannot be had, or do
    /// not fit, the whole zone is transferred.
    pub async fn transfer(&mut self, zone: &Name, base: Option<&Version>) -> Result<Transfer, ClientError> {
        match self.attempt(zone, base).await {
            Err(ClientError::Rcode(Rcode::NOTIMP | Rcode::FORMERR)) if base.is_some() => {
                self.attempt(zone, None).await
            }
            Err(ClientError::Malformed(problem)) if base.is_some() => {
                tracing::warn!(%zone, server = %self.endpoint.address, problem, "unusable differences");
                self.stream = connect(self.endpoint.address, self.timeouts.connect).await?;
                self.usable = true;
                self.attempt(zone, None).await
            }
            result => result,
        }
    }

    async fn attempt(&mut self, zone: &Name, base: Option<&Version>) -> Result<Transfer, ClientError> {
        let id = random_id();
        let request = match base {
            Some(base) => query::ixfr(id, zone, base.content.soa(), base.serial),
            None => question(id, zone, Rtype::AXFR),
        };
        let mut incoming = Incoming::new(zone, base);
        let mut pending = self.send(request).await?;
        loop {
            let (message, signed) = self.receive(&mut pending).await?;
            let (header, start) = matching(&pending.request, &message, pending.first)?;
            pending.first = false;
            if let Some(error) = ClientError::of(header.rcode()) {
                self.usable = signed;
                return Err(error);
            }
            if incoming.message(&message, start, header.answers)? {
                self.finished(signed)?;
                return self.judge(incoming.finish());
            }
        }
    }

    /// Forwards a request that carries no TSIG, and passes every message of its answer on, verified and without TSIG,
    /// with the id of the request. Returns the response code, whatever it is.
    pub async fn exchange(
        &mut self,
        message: Bytes,
        sink: &mpsc::Sender<Relayed>,
    ) -> Result<Rcode, ClientError> {
        let parsed = parse_request(&message).map_err(|_| ClientError::Malformed("our request"))?;
        let id = Header::parse(&message)?.id;
        let mut request = message.to_vec();
        put_u16(&mut request, 0, random_id());
        let mut progress = match (parsed.rtype, parsed.serial) {
            (Rtype::AXFR, _) => Some(Progress::new(Asked::Axfr)),
            (Rtype::IXFR, Some(serial)) => Some(Progress::new(Asked::Ixfr(serial))),
            _ => None,
        };
        let mut pending = self.send(request).await?;
        loop {
            let (mut message, signed) = self.receive(&mut pending).await?;
            let (header, start) = matching(&pending.request, &message, pending.first)?;
            pending.first = false;
            let rcode = header.rcode();
            let last = match &mut progress {
                Some(progress) if ClientError::of(rcode).is_none() => {
                    advance(progress, &message, start, header.answers)?
                }
                _ => true,
            };
            put_u16(&mut message, 0, id);
            if last {
                self.finished(signed)?;
            }
            let relayed = if last { Relayed::Last(message.into()) } else { Relayed::Part(message.into()) };
            if sink.send(relayed).await.is_err() {
                self.usable = last;
                return Err(ClientError::SinkGone);
            }
            if last {
                return Ok(rcode);
            }
        }
    }

    /// Sends a request.
    async fn send(&mut self, request: Vec<u8>) -> Result<Pending, ClientError> {
        self.take()?;
        self.write(request).await
    }

    /// From now on the connection is not usable, until all answers are complete.
    fn take(&mut self) -> Result<(), ClientError> {
        if std::mem::take(&mut self.usable) { Ok(()) } else { Err(ClientError::Closed) }
    }

    /// Signs and writes a request.
    async fn write(&mut self, request: Vec<u8>) -> Result<Pending, ClientError> {
        let mut signed = request.clone();
        let verifier = self.endpoint.key.as_ref().map(|key| Signer::request(key, &mut signed, unix_time()));
        let length = u16::try_from(signed.len()).map_err(|_| ClientError::Malformed("our request"))?;
        let mut framed = length.to_be_bytes().to_vec();
        framed.extend(signed);
        let limit = self.timeouts.answer;
        within(limit, self.stream.get_mut().write_all(&framed)).await?;
        Ok(Pending { request, verifier, first: true })
    }

    /// The next message, which begins within `limit`.
    async fn read(&mut self, limit: Duration) -> Result<Vec<u8>, ClientError> {
        let length = within(limit, self.stream.read_u16()).await?;
        let mut message = vec![0; usize::from(length)];
        within(self.timeouts.between, self.stream.read_exact(&mut message)).await?;
        Ok(message)
    }

    /// The next message of an answer, and whether it was signed where it has to be.
    async fn receive(&mut self, pending: &mut Pending) -> Result<(Vec<u8>, bool), ClientError> {
        let limit = if pending.first { self.timeouts.answer } else { self.timeouts.between };
        let mut message = self.read(limit).await?;
        let signed = match &mut pending.verifier {
            Some(verifier) => verify(verifier, &mut message)?,
            None => true,
        };
        Ok((message, signed))
    }

    /// The answer is complete: its last message has to be signed (RFC 8945 section 5.3.1).
    fn finished(&mut self, signed: bool) -> Result<(), ClientError> {
        self.usable = signed;
        if signed { Ok(()) } else { Err(ClientError::Signature("the last message is not signed")) }
    }

    fn judge<T>(&mut self, result: Result<T, ClientError>) -> Result<T, ClientError> {
        if let Err(error) = &result {
            self.usable = error.leaves_connection_usable();
        }
        result
    }
}

async fn connect(address: SocketAddr, limit: Duration) -> Result<BufReader<TcpStream>, ClientError> {
    let stream = timeout(limit, TcpStream::connect(address))
        .await
        .map_err(|_| ClientError::Timeout(limit))?
        .map_err(|error| ClientError::Connect(address, error))?;
    stream.set_nodelay(true)?;
    Ok(BufReader::with_capacity(READ_BUFFER, stream))
}

/// Verifies a message. A server that refuses us without knowing our key cannot sign that; its word is taken for it,
/// since it only denies.
pub(super) fn verify(verifier: &mut Verifier, message: &mut Vec<u8>) -> Result<bool, ClientError> {
    let header = Header::parse(message)?;
    match verifier.verify(message, unix_time()) {
        Ok(signed) => Ok(signed),
        Err(crate::tsig::BadAnswer::Signature(_)) if header.additionals == 0 => {
            match ClientError::of(header.rcode()) {
                Some(denial) => Err(denial),
                None => Err(ClientError::Signature("the answer is not signed")),
            }
        }
        Err(error) => Err(error.into()),
    }
}

/// Follows the records of one message of a transfer; true when it was the last one.
fn advance(progress: &mut Progress, message: &[u8], start: usize, count: u16) -> Result<bool, ClientError> {
    let mut reader = Reader::at(message, start.max(HEADER));
    for _ in 0..count {
        let record = reader.record()?;
        let serial = match record.rtype {
            Rtype::SOA => Some(soa(message, &record)?.1),
            _ => None,
        };
        progress.record(serial)?;
    }
    if count == 0 {
        return Err(ClientError::Malformed("a message of a transfer has no records"));
    }
    Ok(progress.is_complete())
}

async fn within<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> Result<T, ClientError> {
    match timeout(limit, work).await {
        Err(_) => Err(ClientError::Timeout(limit)),
        Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Err(ClientError::Closed),
        Ok(result) => Ok(result?),
    }
}
