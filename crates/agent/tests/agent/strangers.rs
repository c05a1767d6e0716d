//! Strangers that fill the places which named has for connections, at the port where clients and the agent ask it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::ensure;
use bindy_model::ConfigState;
use bindy_testing::dns::{self, Transport};
use bindy_testing::{Scratch, wait_for};
use bindy_wire::{Connection, Transfer};
use bindy_zone::{Rtype, Serial};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::support::{LIMIT, Rig, Source, catalog, catalog_text, name, own_key, www, zone_text};
use crate::{ZONE, notify, timeouts, until_source_has};

/// Places for connections that named has in these tests (`tcp-clients`), and strangers that want one.
const PLACES: usize = 60;
const STRANGERS: usize = 100;

/// Longer than named keeps a connection that says nothing (`tcp-idle-timeout`).
const QUIET: Duration = Duration::from_secs(35);

/// Connections that ask once, for as long a stay as named allows (`tcp-idle-timeout`), and that come again when they are closed.
struct Strangers {
    /// Those that have got an answer, and so a place.
    inside: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Strangers {
    fn come(server: SocketAddr) -> Self {
        let (inside, mut tasks) = (Arc::new(AtomicUsize::new(0)), JoinSet::new());
        for _ in 0..STRANGERS {
            let inside = Arc::clone(&inside);
            tasks.spawn(async move {
                loop {
                    let _ended = Self::stay(server, &inside).await;
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            });
        }
        Self { inside, _tasks: tasks }
    }

    async fn stay(server: SocketAddr, inside: &AtomicUsize) -> std::io::Result<()> {
        // . IN NS, with its length in front (RFC 1035 section 4.2.2).
        const QUESTION: [u8; 19] = [0, 17, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1];
        let mut stream = TcpStream::connect(server).await?;
        stream.write_all(&QUESTION).await?;
        let length = stream.read_u16().await?;
        stream.read_exact(&mut vec![0; usize::from(length)]).await?;
        inside.fetch_add(1, Ordering::Relaxed);
        let left = stream.read_u8().await;
        inside.fetch_sub(1, Ordering::Relaxed);
        left.map(drop)
    }

    /// Waits until named takes nobody in any more.
    async fn until_full(&self, server: SocketAddr) {
        let zone = name(ZONE);
        wait_for("named to have no place left", LIMIT, async || {
            let asked = dns::ask(server, Transport::Tcp, &zone, Rtype::SOA);
            let answered = tokio::time::timeout(Duration::from_millis(500), asked).await;
            let inside = self.inside.load(Ordering::Relaxed);
            ensure!(!matches!(answered, Ok(Ok(_))), "it answers, with {inside} strangers inside");
            Ok(())
        })
        .await
        .unwrap();
    }
}

/// Gives named so few places that strangers can take them all.
async fn narrow(rig: &Rig) {
    let file = &rig.named_config;
    let text = std::fs::read_to_string(file).unwrap();
    let narrow = text.replace("tcp-clients 2000;", &format!("tcp-clients {PLACES};"));
    assert_ne!(text, narrow, "tcp-clients is not set as it was");
    std::fs::write(file, &narrow).unwrap();
    let taken = ConfigState::Taken(ConfigState::digest(narrow.as_bytes()));
    rig.until_configs("named to have fewer places", |configs| configs.named == taken).await;
}

/// Another server asks for the zone, and gets it.
async fn take_zone(rig: &Rig, serial: u32) {
    let mut neighbour = Connection::open(&rig.transfer_port(Some(own_key())), timeouts()).await.unwrap();
    assert_eq!(neighbour.soa(&name(ZONE)).await.unwrap(), Serial::new(serial));
    let given = neighbour.transfer(&name(ZONE), None).await.unwrap();
    assert!(matches!(&given, Transfer::Full(version) if version.serial == Serial::new(serial)), "{given:?}");
}

async fn stays_ready_for(rig: &Rig, time: Duration) {
    let begun = std::time::Instant::now();
    while begun.elapsed() < time {
        let (status, report) = rig.readyz().await.unwrap();
        assert_eq!(status, 200, "{report}");
        assert_eq!(www(rig.named.address(), ZONE).await.unwrap(), [192, 0, 2, 10]);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The catalog and the zone at that serial, and one more zone for each serial.
fn grown(serial: u32) -> Vec<(bindy_zone::Name, String)> {
    let names: Vec<String> = (2..=serial).map(|n| format!("grown-{n}.example")).collect();
    let members: Vec<&str> = names.iter().map(String::as_str).chain([ZONE]).collect();
    let mut zones: Vec<_> = names.iter().map(|zone| (name(zone), zone_text(zone, 1, "192.0.2.1"))).collect();
    zones.push((catalog(), catalog_text(&catalog(), serial, &members)));
    zones.push((name(ZONE), zone_text(ZONE, serial, "192.0.2.10")));
    zones
}

#[tokio::test]
async fn strangers_that_take_every_connection_of_named_hold_up_neither_edits_nor_readiness() {
    let scratch = Scratch::new("agent-strangers").unwrap();
    let mut source = Source::start(&scratch, "operator", &grown(1)).await;
    let rig = Rig::start(&scratch, &[("operator", "operator", source.named.address())]).await;
    rig.until_ready().await;
    narrow(&rig).await;
    let strangers = Strangers::come(rig.named.address());
    strangers.until_full(rig.named.address()).await;

    stays_ready_for(&rig, QUIET).await;
    for serial in 2..=4 {
        source.change(&grown(serial)).await;
        until_source_has(&source, &name(ZONE), serial).await;
        notify(&rig, ZONE, serial).await;
        rig.until_serial(ZONE, serial, Duration::from_secs(2)).await;
        notify(&rig, &catalog().to_string(), serial).await;
        rig.until_serial(&format!("grown-{serial}.example"), 1, Duration::from_secs(5)).await;
        let neighbours = (0..8).map(|_| take_zone(&rig, serial));
        futures::future::join_all(neighbours).await;
        stays_ready_for(&rig, Duration::from_secs(1)).await;
    }
    assert_eq!(rig.readyz().await.unwrap().1["missing"], 0, "the agent has seen every new zone");
    strangers.until_full(rig.named.address()).await;
}

/// Its connections are gone, and strangers have their places: what needs none goes on at once, and the catalog, of which the
/// agent asks for the whole, comes with the first place.
#[tokio::test]
async fn an_agent_that_starts_among_strangers_is_ready_and_gets_edits_at_once() {
    let scratch = Scratch::new("agent-strangers-start").unwrap();
    let mut source = Source::start(&scratch, "operator", &grown(1)).await;
    let mut rig = Rig::start(&scratch, &[("operator", "operator", source.named.address())]).await;
    rig.until_ready().await;
    narrow(&rig).await;
    rig.kill_agent();
    let strangers = Strangers::come(rig.named.address());
    strangers.until_full(rig.named.address()).await;
    rig.start_agent().await;
    rig.until_report("readiness", Duration::from_secs(3), |status, _| status == 200).await;
    assert_eq!(rig.metric("bindy_agent_members").await.unwrap(), Some(0.0));
    source.change(&grown(2)).await;
    until_source_has(&source, &name(ZONE), 2).await;
    notify(&rig, ZONE, 2).await;
    rig.until_serial(ZONE, 2, Duration::from_secs(2)).await;
    wait_for("the catalog", 2 * QUIET, async || {
        let members = rig.metric("bindy_agent_members").await?;
        ensure!(members == Some(2.0), "{members:?} members");
        Ok(())
    })
    .await
    .unwrap();
    strangers.until_full(rig.named.address()).await;
}
