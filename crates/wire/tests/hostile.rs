//! Clients that waste what a server has: others are served all the same.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]

mod support;

use std::time::Duration;

use bindy_testing::{dns, wait_for};
use bindy_wire::ServerLimits;
use bindy_zone::Serial;
use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

async fn serving(limits: ServerLimits) -> (Running, bindy_zone::Name) {
    let zones = Zones::default();
    let zone = name("example.org");
    zones.publish(version(1, &content(&zone)));
    (serve(zones, limits).await, zone)
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_idle_connections_do_not_keep_others_out() {
    let limits = ServerLimits { connections: 100, per_client: 100, ..ServerLimits::default() };
    let (server, zone) = serving(limits).await;
    let mut trusted = server.connect().await;
    trusted.soa(&zone).await.unwrap();
    let mut idle = Vec::new();
    for _ in 0..1_000 {
        idle.push(TcpStream::connect(server.address).await.unwrap());
    }
    let mut newcomer = server.connect().await;
    assert_eq!(newcomer.soa(&zone).await.unwrap(), Serial::new(1));
    assert_eq!(trusted.soa(&zone).await.unwrap(), Serial::new(1), "a connection that has signed stays");
    assert!(read(&server.counters.connections_open) <= 101);
    assert!(read(&server.counters.connections_refused) >= 900);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_written_requests_and_silence_run_out_of_time() {
    let short = Duration::from_millis(200);
    let limits = ServerLimits { idle: short, stalled: short, ..ServerLimits::default() };
    let (server, _) = serving(limits).await;
    for start in [&b""[..], &[0], &[0, 100], &[0, 100, 1, 2, 3], &[0xFF, 0xFF, 1]] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(start).await.unwrap();
        let mut rest = Vec::new();
        let end = timeout(Duration::from_secs(5), stream.read_to_end(&mut rest)).await;
        let end = end.expect("the server hangs up");
        assert!(end.is_err() || rest.is_empty());
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_changes_nothing_for_others() {
    let (server, zone) = serving(ServerLimits::default()).await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut seed: u32 = 1;
    for round in 0..500u16 {
        let garbage: Vec<u8> = (0..round % 120)
            .map(|_| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (seed >> 24) as u8
            })
            .collect();
        socket.send_to(&garbage, server.address).await.unwrap();
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let _ = stream.write_all(&u16::try_from(garbage.len()).unwrap().to_be_bytes()).await;
        let _ = stream.write_all(&garbage).await;
    }
    assert_eq!(server.connect().await.soa(&zone).await.unwrap(), Serial::new(1));
    // Behind all that garbage, a datagram may be one too many.
    let asked = wait_for("an answer by UDP", Duration::from_secs(10), async || {
        dns::serial_with(server.address, &zone, Some(&testing_key())).await
    });
    assert_eq!(asked.await.unwrap(), Serial::new(1));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_holds_up_nobody() {
    let zones = Zones::default();
    let zone = name("example.org");
    let mut large = content(&zone);
    for number in 0..200 {
        large.set(owner(&zone, &format!("n{number}")), addresses(0..2_000));
    }
    zones.publish(version(1, &large));
    let limits = ServerLimits { stalled: Duration::from_millis(300), ..ServerLimits::default() };
    let server = serve(zones, limits).await;
    // Forwarding to a sink that nobody empties is a client that does not read.
    let (sink, kept) = tokio::sync::mpsc::channel(1);
    let question = [&[0u8, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], &zone.to_wire(), &[0, 252, 0, 1]].concat();
    let mut slow = server.connect().await;
    let stuck = tokio::spawn(async move { slow.exchange(question.into(), &sink).await.map(drop) });
    assert_eq!(server.connect().await.soa(&zone).await.unwrap(), Serial::new(1));
    timeout(Duration::from_secs(10), async {
        while read(&server.counters.connections_open) > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("the stalled transfer is given up");
    assert_eq!(read(&server.counters.axfr), 0);
    drop(kept);
    assert!(stuck.await.unwrap().is_err());
    server.stop().await;
}
