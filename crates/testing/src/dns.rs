//! Asking a server: one question, or the whole content of a zone.
//!
//! Written on the `domain` crate's messages and TSIG alone, so that it shares no code with what it checks.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow, bail, ensure};
use bindy_zone::{Content, Name, Rdata, RrSets, Rtype, Serial, Soa, Ttl, Version};
use domain::base::iana::{Class, Opcode, Rcode};
use domain::base::message_builder::AdditionalBuilder;
use domain::base::name::ParsedName;
use domain::base::rdata::ComposeRecordData;
use domain::base::{Message, MessageBuilder, ToName};
use domain::rdata::AllRecordData;
use domain::rdata::tsig::Time48;
use domain::tsig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::expected::Expected;
use crate::history::Outcome;
use crate::{Key, wait_for};

/// How long one UDP answer, or one read from a TCP connection, may take.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(3);
/// Room for the largest message.
const MAX_MESSAGE: usize = 65_535;

/// How a question is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    /// One datagram.
    Udp,
    /// A connection of its own.
    Tcp,
}

/// One record of an answer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AnswerRecord {
    /// Owner name.
    pub owner: Name,
    /// Type.
    pub rtype: Rtype,
    /// TTL in seconds.
    pub ttl: u32,
    /// RDATA, canonical.
    pub rdata: Vec<u8>,
}

/// What a server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The id of the message.
    pub id: u16,
    /// The response code.
    pub rcode: Rcode,
    /// Whether the server called itself authoritative.
    pub authoritative: bool,
    /// Whether the answer did not fit and has to be asked for by TCP.
    pub truncated: bool,
    /// The answer section.
    pub records: BTreeSet<AnswerRecord>,
    /// The serial of the SOA in the answer or authority section.
    pub serial: Option<Serial>,
}

/// The octets of a query.
pub fn query_message(id: u16, name: &Name, rtype: Rtype) -> Result<Vec<u8>> {
    Ok(build_query(id, name, rtype, Class::IN)?.finish())
}

/// Reads an answer.
pub fn parse_answer(octets: &[u8]) -> Result<Answer> {
    let message = Message::from_octets(octets)?;
    let header = message.header();
    ensure!(header.qr(), "a query where an answer was expected");
    let (mut records, mut serial) = (BTreeSet::new(), None);
    let mut section = message.answer()?;
    for record in section.by_ref() {
        let record = read_record(&record?)?;
        serial = serial.or(soa_serial(&record)?);
        records.insert(record);
    }
    if let Some(authority) = section.next_section()? {
        for record in authority {
            serial = serial.or(soa_serial(&read_record(&record?)?)?);
        }
    }
    let (id, rcode) = (header.id(), header.rcode());
    Ok(Answer { id, rcode, authoritative: header.aa(), truncated: header.tc(), records, serial })
}

/// Asks one question. A truncated UDP answer is returned as it is.
pub async fn ask(server: SocketAddr, transport: Transport, name: &Name, rtype: Rtype) -> Result<Answer> {
    let id = rand::random();
    let query = query_message(id, name, rtype)?;
    let answer = match transport {
        Transport::Udp => ask_udp(server, &query).await?,
        Transport::Tcp => ask_tcp(server, &query).await?,
    };
    let answer = parse_answer(&answer).with_context(|| format!("answer of {server} to {name} {rtype}"))?;
    ensure!(answer.id == id, "{server} answered id {} to id {id}", answer.id);
    Ok(answer)
}

/// The serial of `zone` on a server that answers for it with authority.
pub async fn serial(server: SocketAddr, transport: Transport, zone: &Name) -> Result<Serial> {
    serial_in(&ask(server, transport, zone, Rtype::SOA).await?, server, zone)
}

/// The same by UDP, signed when a key is given.
pub async fn serial_with(server: SocketAddr, zone: &Name, key: Option<&Key>) -> Result<Serial> {
    let request = build_query(rand::random(), zone, Rtype::SOA, Class::IN)?;
    serial_in(&exchange(server, request, key).await?, server, zone)
}

fn serial_in(answer: &Answer, server: SocketAddr, zone: &Name) -> Result<Serial> {
    let said = format!("{server} says {} to {zone} SOA", answer.rcode);
    ensure!(answer.rcode == Rcode::NOERROR && answer.authoritative, "{said}");
    answer.serial.context(said)
}

/// Tells by UDP that `zone` has changed (RFC 1996), signed when a key is given; the serial is left out.
pub async fn notify(server: SocketAddr, zone: &Name, key: Option<&Key>) -> Result<()> {
    let mut request = build_query(rand::random(), zone, Rtype::SOA, Class::IN)?;
    request.header_mut().set_opcode(Opcode::NOTIFY);
    request.header_mut().set_aa(true);
    let rcode = exchange(server, request, key).await?.rcode;
    ensure!(rcode == Rcode::NOERROR, "{server} says {rcode} to the NOTIFY of {zone}");
    Ok(())
}

/// The answer to a request by UDP, its signature verified when a key is given.
async fn exchange(
    server: SocketAddr,
    mut request: AdditionalBuilder<Vec<u8>>,
    key: Option<&Key>,
) -> Result<Answer> {
    let signature = match key {
        Some(key) => Some(tsig::ClientTransaction::request(tsig_key(key)?, &mut request, Time48::now())?),
        None => None,
    };
    let id = request.header().id();
    let answer = ask_udp(server, &request.finish()).await?;
    let mut answer = Message::from_octets(answer).context("a message without header")?;
    if let Some(signature) = signature {
        signature.answer(&mut answer, Time48::now()).map_err(unverified)?;
    }
    let answer = parse_answer(answer.as_slice())?;
    ensure!(answer.id == id, "{server} answered id {} to id {id}", answer.id);
    Ok(answer)
}

/// With the name of what the server says of our signature (RFC 8945 section 3).
fn unverified(error: tsig::ValidationError) -> Error {
    let name = match error {
        tsig::ValidationError::ServerBadKey => "BADKEY: ",
        tsig::ValidationError::ServerBadSig => "BADSIG: ",
        _ => "",
    };
    anyhow!("{name}{error}")
}

/// The texts of an answer's records at the name itself, sorted; the response code where it is not NOERROR.
pub async fn texts(
    server: SocketAddr,
    transport: Transport,
    name: &Name,
    rtype: Rtype,
) -> Result<Vec<String>> {
    let answer = ask(server, transport, name, rtype).await?;
    if answer.rcode != Rcode::NOERROR {
        return Ok(vec![answer.rcode.to_string()]);
    }
    let own = answer.records.iter().filter(|record| record.owner == *name);
    let text = |one: &AnswerRecord| Rdata::from_canonical(&one.rdata).display(one.rtype).to_string();
    let mut texts: Vec<String> = own.map(text).collect();
    texts.sort();
    Ok(texts)
}

/// Waits until the server answers this with exactly these texts, by UDP and TCP.
pub async fn answers_at(
    server: SocketAddr,
    name: &str,
    rtype: Rtype,
    expected: &[&str],
    limit: Duration,
) -> Result<()> {
    let (question, mut expected) = (Name::parse(name)?, expected.to_vec());
    expected.sort_unstable();
    for transport in [Transport::Udp, Transport::Tcp] {
        let what = format!("{name} {rtype} to be {expected:?} at {server} by {transport:?}");
        wait_for(&what, limit, async || {
            let found = texts(server, transport, &question, rtype).await?;
            ensure!(found == expected, "it is {found:?}");
            anyhow::Ok(())
        })
        .await?;
    }
    Ok(())
}

/// Who the server says it is (`id.server`).
pub async fn server_name(server: SocketAddr, transport: Transport) -> Result<String> {
    let query = build_query(rand::random(), &Name::parse("id.server")?, Rtype::TXT, Class::CH)?.finish();
    let answer = match transport {
        Transport::Udp => ask_udp(server, &query).await?,
        Transport::Tcp => ask_tcp(server, &query).await?,
    };
    let answer = parse_answer(&answer)?;
    let record = answer.records.first().with_context(|| format!("{server} says {}", answer.rcode))?;
    let text = Rdata::from_canonical(&record.rdata).display(record.rtype).to_string();
    Ok(text.trim_matches('"').to_owned())
}

/// Whether something answers DNS there, whatever it says.
pub async fn is_answering(server: SocketAddr) -> Result<()> {
    let query = build_query(1, &Name::parse("version.bind")?, Rtype::TXT, Class::CH)?.finish();
    timeout(Duration::from_millis(300), ask_udp(server, &query)).await.context("no answer by UDP yet")??;
    ask_tcp(server, &query).await.map(drop)
}

/// The whole content of a zone by AXFR, signed when a key is given.
pub async fn transfer(server: SocketAddr, zone: &Name, key: Option<&Key>) -> Result<Version> {
    let mut stream = connect(server).await?;
    let mut query = build_query(rand::random(), zone, Rtype::AXFR, Class::IN)?;
    let mut signature = match key {
        Some(key) => Some(tsig::ClientSequence::request(tsig_key(key)?, &mut query, Time48::now())?),
        None => None,
    };
    send(&mut stream, &query.finish()).await?;
    let mut collected = Collected::new(zone);
    while !collected.complete {
        let mut message =
            Message::from_octets(receive(&mut stream).await?).context("a message without header")?;
        if let Some(signature) = &mut signature {
            let verified = signature.answer(&mut message, Time48::now());
            verified.map_err(unverified).context("the signature is wrong")?;
        }
        let rcode = message.header().rcode();
        ensure!(rcode == Rcode::NOERROR, "{server} says {rcode} to the AXFR of {zone}");
        for record in message.answer()? {
            collected.add(read_record(&record?)?)?;
        }
    }
    if let Some(signature) = signature {
        signature.done().context("the end is not signed")?;
    }
    collected.version()
}

/// What a transfer has brought so far.
struct Collected {
    zone: Name,
    soa: Option<(Soa, Serial)>,
    complete: bool,
    names: BTreeMap<Name, BTreeMap<Rtype, (Ttl, Vec<Rdata>)>>,
}

impl Collected {
    fn new(zone: &Name) -> Self {
        Self { zone: zone.clone(), soa: None, complete: false, names: BTreeMap::new() }
    }

    fn add(&mut self, record: AnswerRecord) -> Result<()> {
        ensure!(!self.complete, "{} {} after the last SOA", record.owner, record.rtype);
        if record.rtype == Rtype::SOA {
            let soa = Soa::from_rdata(record.ttl, &record.rdata)?;
            match &self.soa {
                None => self.soa = Some(soa),
                Some(first) => {
                    ensure!(*first == soa, "the transfer ends with another SOA than it started with");
                    self.complete = true;
                }
            }
            return Ok(());
        }
        ensure!(self.soa.is_some(), "the transfer starts with {} {}", record.owner, record.rtype);
        let rrsets = self.names.entry(record.owner).or_default();
        let ttl = Ttl::saturating(record.ttl);
        rrsets.entry(record.rtype).or_insert((ttl, Vec::new())).1.push(Rdata::from_canonical(&record.rdata));
        Ok(())
    }

    fn version(self) -> Result<Version> {
        let (soa, serial) = self.soa.context("a transfer without SOA")?;
        let mut content = Content::new(self.zone.clone(), soa);
        for (name, rrsets) in self.names {
            let owner =
                name.relative_to(&self.zone).with_context(|| format!("{name} is outside of the zone"))?;
            content.set(owner, RrSets::pack(rrsets)?);
        }
        Ok(Version { serial, content })
    }
}

/// What one content has and the other has not, as lines that start with `-` (missing) and `+` (too much); `None`
/// when they are equal.
pub fn difference(expected: &Content, found: &Content) -> Option<String> {
    let lines = |content: &Content| -> BTreeSet<String> {
        let records = content.records();
        let soa = format!("@ {:?}", content.soa());
        let line = |r: bindy_zone::Record| {
            format!("{} {} {} {}", r.owner, r.ttl, r.rtype, Rdata::from_canonical(&r.rdata).display(r.rtype))
        };
        records.map(line).chain([soa]).collect()
    };
    if expected == found {
        return None;
    }
    let (expected, found) = (lines(expected), lines(found));
    let missing = expected.difference(&found).map(|line| format!("- {line}\n"));
    let surplus = found.difference(&expected).map(|line| format!("+ {line}\n"));
    Some(missing.chain(surplus).collect())
}

fn build_query(id: u16, name: &Name, rtype: Rtype, class: Class) -> Result<AdditionalBuilder<Vec<u8>>> {
    let mut builder = MessageBuilder::new_vec();
    builder.header_mut().set_id(id);
    let mut question = builder.question();
    question.push((domain::base::Name::from_octets(name.to_wire())?, rtype, class))?;
    Ok(question.additional())
}

fn read_record<'a, Octs>(record: &domain::base::ParsedRecord<'a, Octs>) -> Result<AnswerRecord>
where
    Octs: domain::dep::octseq::Octets + ?Sized,
{
    let full = record
        .to_record::<AllRecordData<Octs::Range<'_>, ParsedName<Octs::Range<'_>>>>()?
        .context("record data of an unreadable kind")?;
    let mut rdata = Vec::new();
    full.data().compose_canonical_rdata(&mut rdata)?;
    let owner = full.owner().to_name::<Vec<u8>>();
    Ok(AnswerRecord {
        owner: Name::from_wire(owner.as_slice())?,
        rtype: full.rtype(),
        ttl: full.ttl().as_secs(),
        rdata,
    })
}

fn soa_serial(record: &AnswerRecord) -> Result<Option<Serial>> {
    if record.rtype != Rtype::SOA {
        return Ok(None);
    }
    Ok(Some(Soa::from_rdata(record.ttl, &record.rdata)?.1))
}

fn tsig_key(key: &Key) -> Result<tsig::Key> {
    let name = domain::base::Name::<Vec<u8>>::from_octets(key.name.to_wire())?;
    let name: tsig::KeyName = name.try_to_name().ok().context("a key name that is too long")?;
    Ok(tsig::Key::new(tsig::Algorithm::Sha256, &key.secret, name, None, None)?)
}

/// A socket that sends to this server alone. Towards loopback it is bound there too: what a test asks of its own
/// processes never leaves the machine.
pub(crate) async fn udp_socket(server: SocketAddr) -> std::io::Result<UdpSocket> {
    let own: IpAddr = match (server.is_ipv4(), server.ip().is_loopback()) {
        (true, true) => Ipv4Addr::LOCALHOST.into(),
        (true, false) => Ipv4Addr::UNSPECIFIED.into(),
        (false, true) => Ipv6Addr::LOCALHOST.into(),
        (false, false) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((own, 0)).await?;
    socket.connect(server).await?;
    Ok(socket)
}

async fn ask_udp(server: SocketAddr, query: &[u8]) -> Result<Vec<u8>> {
    let socket = udp_socket(server).await?;
    socket.send(query).await?;
    let mut buffer = vec![0; MAX_MESSAGE];
    let length = timeout(ANSWER_LIMIT, socket.recv(&mut buffer)).await;
    let length = length.with_context(|| format!("no answer from {server} by UDP"))??;
    buffer.truncate(length);
    Ok(buffer)
}

async fn ask_tcp(server: SocketAddr, query: &[u8]) -> Result<Vec<u8>> {
    let mut stream = connect(server).await?;
    send(&mut stream, query).await?;
    receive(&mut stream).await
}

async fn connect(server: SocketAddr) -> Result<TcpStream> {
    let stream = timeout(ANSWER_LIMIT, TcpStream::connect(server)).await;
    stream
        .with_context(|| format!("no connection to {server}"))?
        .with_context(|| format!("connecting to {server}"))
}

/// Sends one message with its length in front (RFC 1035 section 4.2.2).
async fn send(stream: &mut TcpStream, message: &[u8]) -> Result<()> {
    let mut framed = u16::try_from(message.len())?.to_be_bytes().to_vec();
    framed.extend(message);
    stream.write_all(&framed).await.context("the connection ended while sending")
}

async fn receive(stream: &mut TcpStream) -> Result<Vec<u8>> {
    let read = async {
        let length = stream.read_u16().await?;
        let mut message = vec![0; usize::from(length)];
        stream.read_exact(&mut message).await?;
        std::io::Result::Ok(message)
    };
    match timeout(ANSWER_LIMIT, read).await {
        Ok(message) => message.context("the connection ended before the message"),
        Err(_) => bail!("no message within {ANSWER_LIMIT:?}"),
    }
}

/// Asks for every RRset of `version`, and the SOA; the error lists the answers that differ.
pub async fn expect_answers(server: SocketAddr, transport: Transport, version: &Version) -> Result<()> {
    let apex = version.content.apex();
    let mut questions = vec![(apex.clone(), Rtype::SOA)];
    for (owner, rrsets) in version.content.iter() {
        questions.extend(rrsets.iter().map(|rrset| (owner.in_zone(apex), rrset.rtype())));
    }
    let mut wrong = Vec::new();
    for (name, rtype) in questions {
        let Some(expected) = Expected::of(version, &name, rtype) else { continue };
        let mut answer = ask(server, transport, &name, rtype).await?;
        if answer.truncated {
            answer = ask(server, Transport::Tcp, &name, rtype).await?;
        }
        let outcome = answer.outcome(&name);
        if !expected.matches(&outcome) {
            wrong.push(format!("{name} {rtype}: {outcome}, expected {}", expected.explain()));
        }
    }
    ensure!(wrong.is_empty(), "{server} by {transport:?}:\n{}", wrong.join("\n"));
    Ok(())
}

impl Answer {
    /// What counts of an answer in a history: the records at the name itself.
    pub fn outcome(self, name: &Name) -> Outcome {
        let at_name = self.records.into_iter().filter(|record| record.owner == *name);
        let records = at_name.map(|record| (record.rtype, record.ttl, record.rdata)).collect();
        Outcome::Answer { rcode: self.rcode, records, serial: self.serial }
    }
}
