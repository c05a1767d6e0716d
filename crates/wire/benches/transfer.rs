//! Transfers to a real named: the time from our NOTIFY to named answering the new serial.
//!
//! ```text
//! cargo bench -p bindy-wire --bench transfer            # JSON lines
//! cargo bench -p bindy-wire --bench transfer -- 100000  # with as many records instead of a million
//! ```
#![allow(clippy::print_stdout, reason = "the results are the output")]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bindy_testing::dns::{self, Transport};
use bindy_testing::{Named, NamedConfig, Scratch, ZoneSource};
use bindy_wire::{Key, Reply, Request, Server, ServerLimits, ServerOptions, Service, Signatures};
use bindy_zone::{Content, History, Name, OwnerName, Rdata, RrSets, Rtype, Serial, Soa, Ttl, Version};
use tokio_util::sync::CancellationToken;

const RECORDS: u32 = 1_000_000;
const CHANGES: u32 = 50_000;
/// Octets of differences that are kept.
const HISTORY: usize = 256 << 20;
const LIMIT: Duration = Duration::from_secs(120);

#[derive(Clone)]
struct OneZone(Arc<RwLock<Arc<History>>>);

impl Service for OneZone {
    async fn call(&self, request: Request) -> Reply {
        match self.0.read() {
            Ok(history) if *history.current().content.apex() == request.name => Reply::Zone(history.clone()),
            _ => Reply::Refused,
        }
    }
}

impl OneZone {
    /// Publishes a version without saying how it came about, so that it is transferred whole.
    fn replace(&self, version: Version) -> Result<()> {
        let history = History::new(version, HISTORY);
        *self.0.write().map_err(|_| anyhow::anyhow!("poisoned"))? = Arc::new(history);
        Ok(())
    }

    fn publish(&self, version: Version) -> Result<()> {
        let mut next = self.0.read().map_err(|_| anyhow::anyhow!("poisoned"))?.as_ref().clone();
        ensure!(next.push(version), "the serial does not rise");
        *self.0.write().map_err(|_| anyhow::anyhow!("poisoned"))? = Arc::new(next);
        Ok(())
    }
}

fn empty(zone: &Name) -> Result<Content> {
    let soa = Soa {
        ttl: 3600,
        primary: Name::parse("ns1.example")?,
        mailbox: Name::parse("hostmaster.example")?,
        refresh: 3600,
        retry: 600,
        expire: 3_024_000,
        negative_ttl: 300,
    };
    let mut content = Content::new(zone.clone(), soa);
    let ns = (Ttl::saturating(3600), vec![Rdata::name(&Name::parse("ns1.example")?)]);
    content.set(OwnerName::apex(), RrSets::pack([(Rtype::NS, ns)].into())?);
    Ok(content)
}

fn set_address(content: &mut Content, zone: &Name, number: u32, address: u32) -> Result<()> {
    let owner = OwnerName::parse(&format!("host-{number}"), zone)?;
    let a = (Ttl::saturating(300), vec![Rdata::a(Ipv4Addr::from(address))]);
    content.set(owner, RrSets::pack([(Rtype::A, a)].into())?);
    Ok(())
}

/// Seconds until named answers `serial`, asked every 5 ms.
async fn announce(named: &Named, zone: &Name, serial: u32) -> Result<f64> {
    let start = Instant::now();
    dns::notify(named.address(), zone, None).await?;
    while start.elapsed() < LIMIT {
        let found = dns::serial(named.address(), Transport::Udp, zone).await;
        if found.is_ok_and(|found| found.get() == serial) {
            return Ok(start.elapsed().as_secs_f64());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    anyhow::bail!("named did not get serial {serial} within {LIMIT:?}")
}

fn report(metric: &str, seconds: f64, records: u32) {
    println!(
        "{{\"bench\":\"transfer\",\"metric\":\"{metric}\",\"value\":{seconds:.3},\"unit\":\"s\",\"n\":{records}}}"
    );
}

#[tokio::main]
async fn main() -> Result<()> {
    let records = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(RECORDS);
    let changes = CHANGES.min(records);
    let zone = Name::parse("bench.example")?;
    let key = Key::generate(Name::parse("bench.key.bindy")?)?;
    let mut content = empty(&zone)?;
    let first = Version { serial: Serial::new(1), content: content.clone() };
    let service = OneZone(Arc::new(RwLock::new(Arc::new(History::new(first, HISTORY)))));
    let options = ServerOptions {
        address: SocketAddr::from(([127, 0, 0, 1], 0)),
        signatures: Signatures::Required,
        limits: ServerLimits::default(),
    };
    let server = Server::bind(options, key.clone(), service.clone()).await?;
    let (address, counters) = (server.local_addr()?, server.counters());
    let cancel = CancellationToken::new();
    let task = tokio::spawn(server.serve(cancel.clone()));

    let scratch = Scratch::new("bench-transfer")?;
    let shared = bindy_testing::Key::new(key.name(), key.secret());
    let source = ZoneSource::Primary(address, Some(shared));
    let config = NamedConfig { zones: vec![(zone.clone(), source)], ..NamedConfig::default() };
    let mut named = Named::start(&scratch, "secondary", &config).await?;
    announce(&named, &zone, 1).await.context("the first version")?;

    for number in 0..records {
        set_address(&mut content, &zone, number, number)?;
    }
    service.replace(Version { serial: Serial::new(2), content: content.clone() })?;
    let whole = announce(&named, &zone, 2).await?;
    for number in 0..changes {
        set_address(&mut content, &zone, number * (records / changes), !number)?;
    }
    service.publish(Version { serial: Serial::new(3), content })?;
    let differences = announce(&named, &zone, 3).await?;
    let owner = Name::parse(&format!("host-{}.{zone}", (changes - 1) * (records / changes)))?;
    let answer = dns::ask(named.address(), Transport::Udp, &owner, Rtype::A).await?;
    let expected = Ipv4Addr::from(!(changes - 1)).octets();
    ensure!(answer.records.iter().any(|record| record.rdata == expected), "wrong answer: {answer:?}");
    let sent = [&counters.axfr, &counters.fallback, &counters.ixfr];
    let sent = sent.map(|counter| counter.load(Ordering::Relaxed));
    ensure!(sent == [1, 1, 1], "expected 2 whole transfers and 1 by differences, sent {sent:?}");
    report("axfr_1m_s", whole, records);
    report("ixfr_50k_s", differences, changes);
    named.kill().await?;
    cancel.cancel();
    task.await?;
    Ok(())
}
