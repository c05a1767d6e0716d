//! Strangers hold connections and send garbage to every port that takes DNS; changes arrive as fast as before.

mod common;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bindy_testing::dns::query_message;
use bindy_zone::{Name, Rtype};
use common::faults::{self, STEADY, STEADY_ADDRESS};
use common::{Up, a, instance, zone};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::task::JoinSet;

/// Idle connections to each port.
const IDLE: usize = 1_500;
/// How long an edit may take to be everywhere meanwhile.
const PROMPT: Duration = Duration::from_secs(2);

/// Connections that are held without a word, from several loopback addresses as strangers would come.
async fn idle(target: SocketAddr) -> Vec<TcpStream> {
    let mut connecting = JoinSet::new();
    for number in 0..IDLE {
        connecting.spawn(async move {
            let socket = TcpSocket::new_v4()?;
            let last = u8::try_from(2 + number % 50).unwrap_or(2);
            socket.bind((Ipv4Addr::new(127, 1, 0, last), 0).into())?;
            let connect = socket.connect(target);
            tokio::time::timeout(Duration::from_secs(3), connect).await.map_err(std::io::Error::other)?
        });
        // The queue of a listener holds some hundred connections that are not accepted yet.
        if number % 100 == 99 {
            tokio::task::yield_now().await;
        }
    }
    let mut open = Vec::new();
    while let Some(connected) = connecting.join_next().await {
        open.extend(connected.into_iter().filter_map(std::io::Result::ok));
    }
    open
}

/// Sends octets of every kind until it is dropped: random ones, half messages, queries that are cut, wrong lengths.
async fn garbage(target: SocketAddr, mut random: StdRng) {
    let query = Name::parse("steady.example.com").ok().and_then(|n| query_message(7, &n, Rtype::AXFR).ok());
    let query = query.unwrap_or_default();
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await;
    loop {
        let mut noise = vec![0_u8; random.random_range(0..600)];
        random.fill(noise.as_mut_slice());
        let half = query.get(..random.random_range(0..=query.len())).unwrap_or_default();
        let mut framed = u16::try_from(query.len()).unwrap_or(0).to_be_bytes().to_vec();
        framed.extend_from_slice(half);
        if let Ok(socket) = &socket {
            for datagram in [noise.as_slice(), half] {
                let _lost = socket.send_to(datagram, target).await;
            }
        }
        if let Ok(Ok(mut stream)) =
            tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(target)).await
        {
            let text = if random.random_ratio(1, 2) { &noise } else { &framed };
            let _cut = stream.write_all(text).await;
        }
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edit_arrives_within_two_seconds_whatever_strangers_send() -> Result<()> {
    let mut random = StdRng::seed_from_u64(bindy_testing::seed());
    let mut up = Up::new("strangers-load")?;
    let primary = instance("primary", "primary", 2, &[]);
    up.write("instances.yaml", &(primary + &instance("secondary", "secondary", 1, &["primary"])))?;
    up.write("zone.yaml", &zone("z", "example.com"))?;
    up.write("steady.yaml", &a("steady", "z", STEADY, STEADY_ADDRESS))?;
    up.start()?;
    let status = up.settled().await?;
    let hidden = status.hidden_primary.context("no hidden primary")?;
    // For the test alone: the processes above run with the limit that they were given.
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    rustix::process::setrlimit(
        rustix::process::Resource::Nofile,
        rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum },
    )?;
    let first = up.server("default/primary", 0)?;
    let targets = [hidden, first.transfer, first.dns];
    let mut load = JoinSet::new();
    for target in targets {
        load.spawn(garbage(target, StdRng::from_rng(&mut random)));
    }
    let mut held = Vec::new();
    for target in targets {
        let open = idle(target).await;
        ensure!(open.len() >= IDLE / 2, "only {} connections to {target}", open.len());
        held.push(open);
    }
    for edit in 1..=20 {
        let address = format!("198.51.100.{edit}");
        up.write("www.yaml", &a("www", "z", "www", &address))?;
        let start = std::time::Instant::now();
        faults::arrives(&status.servers, "www.example.com", &address, PROMPT).await?;
        ensure!(start.elapsed() < PROMPT, "edit {edit} took {:?}", start.elapsed());
    }
    up.answers("steady.example.com", Rtype::A, &[STEADY_ADDRESS]).await?;
    up.contents_are_equal().await?;
    ensure!(load.try_join_next().is_none(), "the garbage has ended");
    drop(held);
    up.stop().await
}
