//! Our client against our server: what is published is what arrives, whole or by differences.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bindy_testing::dns;
use bindy_wire::{
    ClientError, Connection, Endpoint, Key, Relayed, Reply, Request, ServerLimits, Service, Timeouts,
    Transfer,
};
use bindy_zone::{Content, Serial, Version};
use bytes::Bytes;
use proptest::prelude::*;
use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(2).build().unwrap()
}

/// Owner names by number, some below others, and their numbers of addresses.
fn changed(content: &Content, changes: &[(u8, u16)]) -> Content {
    let zone = content.apex().clone();
    let mut content = content.clone();
    for (number, count) in changes {
        let text = format!("h{}.sub{}", number / 4, number % 4);
        let first = u32::from(*number) << 16;
        content.set(owner(&zone, &text), addresses(first..first + u32::from(*count)));
    }
    content
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn random_versions_arrive_whole_and_by_differences(
        steps in proptest::collection::vec(proptest::collection::vec((any::<u8>(), 0u16..40), 1..30), 2..5)
    ) {
        runtime().block_on(async {
            let zones = Zones::default();
            let server = serve(zones.clone(), ServerLimits::default()).await;
            let zone = name("random.example");
            let mut content = content(&zone);
            let mut versions: Vec<Version> = Vec::new();
            for (serial, changes) in (1..).zip(&steps) {
                content = changed(&content, changes);
                versions.push(version(serial, &content));
                zones.publish(version(serial, &content));
            }
            let last = versions.last().unwrap();
            let mut connection = server.connect().await;
            match connection.transfer(&zone, None).await.unwrap() {
                Transfer::Full(full) => assert_eq!(&full, last),
                other => panic!("{other:?}"),
            }
            for base in &versions {
                match connection.transfer(&zone, Some(base)).await.unwrap() {
                    Transfer::Current => assert_eq!(base, last),
                    Transfer::Incremental(next) | Transfer::Full(next) => {
                        assert_eq!(&next, last);
                        assert_eq!(next.content.digest(), last.content.digest());
                    }
                }
            }
            assert_eq!(connection.soa(&zone).await.unwrap(), last.serial);
            server.stop().await;
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn differences_are_used_where_they_are_known_and_the_whole_zone_where_not() {
    let zones = Zones::default();
    let server = serve(zones.clone(), ServerLimits::default()).await;
    let zone = name("example.org");
    let first = version(10, &content(&zone));
    zones.publish(first.clone());
    let second = version(12, &changed(&first.content, &[(1, 5), (2, 6)]));
    zones.publish(second.clone());
    let mut connection = server.connect().await;
    let got = connection.transfer(&zone, Some(&first)).await.unwrap();
    assert!(matches!(got, Transfer::Incremental(got) if got == second));
    assert!(matches!(connection.transfer(&zone, Some(&second)).await.unwrap(), Transfer::Current));
    let foreign = version(11, &first.content);
    let got = connection.transfer(&zone, Some(&foreign)).await.unwrap();
    assert!(matches!(got, Transfer::Full(got) if got == second));
    let ahead = connection.transfer(&zone, Some(&version(99, &first.content))).await;
    assert!(matches!(ahead, Err(ClientError::Behind { .. })), "{ahead:?}");
    assert!(connection.is_usable());
    // The same serial with another content: the differences do not fit, so everything comes.
    let liar = version(10, &changed(&first.content, &[(1, 3)]));
    let _ = connection.transfer(&zone, Some(&liar)).await.unwrap();
    let counters = &server.counters;
    assert_eq!((read(&counters.ixfr), read(&counters.current), read(&counters.fallback)), (2, 2, 1));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_name_with_more_records_than_a_message_holds_arrives() {
    let zones = Zones::default();
    let server = serve(zones.clone(), ServerLimits::default()).await;
    let zone = name("large.example");
    let mut large = content(&zone);
    large.set(owner(&zone, "many"), addresses(0..20_000));
    large.set(owner(&zone, "more"), addresses(0..3));
    zones.publish(version(1, &large));
    let got = server.connect().await.transfer(&zone, None).await.unwrap();
    assert!(matches!(got, Transfer::Full(got) if got == version(1, &large)));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_wrong_keys_and_unsigned_requests_get_nothing() {
    let zones = Zones::default();
    let server = serve(zones.clone(), ServerLimits::default()).await;
    let zone = name("example.org");
    zones.publish(version(1, &content(&zone)));
    let stranger = Key::new(name("stranger"), &[1; 32]);
    let forger = Key::new(key().name().clone(), &[2; 32]);
    for (key, shown) in [(None, "refused"), (Some(stranger), "badkey"), (Some(forger), "badsig")] {
        let endpoint = Endpoint { address: server.address, key };
        let mut connection = Connection::open(&endpoint, Timeouts::default()).await.unwrap();
        let error = connection.transfer(&zone, None).await.unwrap_err().to_string();
        assert!(error.to_lowercase().contains(shown), "{error}");
        let key = endpoint.key.map(|key| bindy_testing::Key::new(key.name(), key.secret()));
        let error = dns::serial_with(server.address, &zone, key.as_ref()).await.unwrap_err().to_string();
        assert!(error.to_lowercase().contains(shown), "{error}");
        let error = dns::notify(server.address, &zone, key.as_ref()).await.unwrap_err().to_string();
        assert!(error.to_lowercase().contains(shown), "{error}");
    }
    assert_eq!(read(&server.counters.axfr), 0);
    assert_eq!(read(&server.counters.bad_signature), 6);
    let mut connection = server.connect().await;
    assert!(matches!(connection.soa(&name("example.net")).await, Err(ClientError::Refused)));
    assert_eq!(connection.soa(&zone).await.unwrap(), Serial::new(1), "a refusal ends no connection");
    let serial = dns::serial_with(server.address, &zone, Some(&testing_key())).await.unwrap();
    assert_eq!(serial, Serial::new(1));
    connection.notify(&zone, Serial::new(2)).await.unwrap();
    assert_eq!(read(&zones.notified), 1);
    server.stop().await;
}

/// Passes every request on to another server, as an agent does.
struct Forward(Endpoint);

impl Service for Forward {
    async fn call(&self, request: Request) -> Reply {
        let (sink, messages) = mpsc::channel(4);
        let endpoint = self.0.clone();
        tokio::spawn(async move {
            let mut connection = Connection::open(&endpoint, Timeouts::default()).await.unwrap();
            connection.exchange(request.message, &sink).await
        });
        Reply::Relay(messages)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forwarded_answers_are_those_of_the_origin() {
    let zones = Zones::default();
    let origin = serve(zones.clone(), ServerLimits::default()).await;
    let zone = name("example.org");
    let mut large = content(&zone);
    large.set(owner(&zone, "many"), addresses(0..20_000));
    let first = version(1, &large);
    zones.publish(first.clone());
    let second = version(2, &changed(&first.content, &[(7, 9)]));
    zones.publish(second.clone());
    let relay = serve(Forward(origin.endpoint()), ServerLimits::default()).await;
    let mut connection = relay.connect().await;
    assert_eq!(connection.soa(&zone).await.unwrap(), Serial::new(2));
    let got = connection.transfer(&zone, None).await.unwrap();
    assert!(matches!(got, Transfer::Full(got) if got == second));
    let got = connection.transfer(&zone, Some(&first)).await.unwrap();
    assert!(matches!(got, Transfer::Incremental(got) if got == second));
    assert!(matches!(connection.transfer(&zone, Some(&second)).await.unwrap(), Transfer::Current));
    assert!(matches!(connection.soa(&name("example.net")).await, Err(ClientError::Refused)));
    let serial = dns::serial_with(relay.address, &zone, Some(&testing_key())).await.unwrap();
    assert_eq!(serial, Serial::new(2));
    assert_eq!((read(&origin.counters.axfr), read(&origin.counters.ixfr)), (1, 1));
    relay.stop().await;
    origin.stop().await;
}

/// Answers everything with the first part of a transfer, and then nothing.
struct Truncating(Bytes);

impl Service for Truncating {
    async fn call(&self, _request: Request) -> Reply {
        let (sink, messages) = mpsc::channel(1);
        sink.send(Relayed::Part(self.0.clone())).await.unwrap();
        Reply::Relay(messages)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_that_ends_early_is_an_error() {
    // Header, question AXFR of `t.`, one SOA with serial 5 and one A record; the closing SOA is missing.
    let mut message = vec![0, 0, 0x84, 0, 0, 1, 0, 2, 0, 0, 0, 0, 1, b't', 0, 0, 252, 0, 1];
    message.extend([0xC0, 12, 0, 6, 0, 1, 0, 0, 0, 9, 0, 22, 0, 0, 0, 0, 0, 5]);
    message.extend([0; 16]);
    message.extend([0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 1, 2, 3, 4]);
    let server = serve(Truncating(message.into()), ServerLimits::default()).await;
    let mut connection = server.connect().await;
    let result = connection.transfer(&name("t"), None).await;
    assert!(matches!(result, Err(ClientError::Closed)), "{result:?}");
    assert!(!connection.is_usable());
    server.stop().await;
}

/// Tells who asked.
struct Peers(mpsc::Sender<IpAddr>);

impl Service for Peers {
    async fn call(&self, request: Request) -> Reply {
        self.0.send(request.peer.ip()).await.unwrap();
        Reply::Refused
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_both_families_are_served_at_one_port_and_known_by_their_own_addresses() {
    let (sink, mut peers) = mpsc::channel(4);
    let everywhere = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
    let server = serve_at(everywhere, Peers(sink), ServerLimits::default()).await;
    let families = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    for own in families.into_iter().filter(|own: &IpAddr| own.is_ipv4() || server.address.is_ipv6()) {
        let endpoint = Endpoint { address: SocketAddr::new(own, server.address.port()), key: Some(key()) };
        let mut connection = Connection::open(&endpoint, Timeouts::default()).await.unwrap();
        assert!(matches!(connection.soa(&name("t")).await, Err(ClientError::Refused)));
        assert_eq!(peers.recv().await, Some(own));
        let error = dns::serial_with(endpoint.address, &name("t"), Some(&testing_key())).await.unwrap_err();
        assert!(error.to_string().contains("REFUSED"), "{error}");
        assert_eq!(peers.recv().await, Some(own));
    }
    server.stop().await;
}

#[tokio::test]
async fn silence_is_a_timeout_and_a_closed_port_is_said_so() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Endpoint { address: listener.local_addr().unwrap(), key: Some(key()) };
    let limit = Duration::from_millis(100);
    let timeouts = Timeouts { connect: limit, answer: limit, between: limit };
    let mut connection = Connection::open(&endpoint, timeouts).await.unwrap();
    assert!(matches!(connection.soa(&name("t")).await, Err(ClientError::Timeout(_))));
    drop(listener);
    assert!(matches!(Connection::open(&endpoint, timeouts).await, Err(ClientError::Connect(..))));
}

/// Carries `rounds` times as many requests as `window` has to a server, and brings their answers back in reverse. Returns the
/// requests.
async fn reverse(listener: TcpListener, server: SocketAddr, window: usize, rounds: usize) -> Vec<Vec<u8>> {
    async fn read_message(stream: &mut TcpStream) -> Vec<u8> {
        let mut message = vec![0; usize::from(stream.read_u16().await.unwrap())];
        stream.read_exact(&mut message).await.unwrap();
        message
    }
    async fn write_message(stream: &mut TcpStream, message: &[u8]) {
        stream.write_u16(message.len().try_into().unwrap()).await.unwrap();
        stream.write_all(message).await.unwrap();
    }
    let (mut client, _) = listener.accept().await.unwrap();
    let mut server = TcpStream::connect(server).await.unwrap();
    let mut requests = Vec::new();
    for _ in 0..rounds {
        let mut answers = Vec::new();
        for _ in 0..window {
            let request = read_message(&mut client).await;
            write_message(&mut server, &request).await;
            requests.push(request);
            answers.push(read_message(&mut server).await);
        }
        for answer in answers.iter().rev() {
            write_message(&mut client, answer).await;
        }
    }
    requests
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_on_their_way_together_get_their_own_answers_in_any_order() {
    let zones = Zones::default();
    let names: Vec<_> = (1..=39).map(|n| name(&format!("zone-{n}.example"))).collect();
    for (serial, zone) in (1..).zip(&names) {
        zones.publish(version(serial, &content(zone)));
    }
    let server = serve(zones, ServerLimits::default()).await;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let endpoint = Endpoint { address: listener.local_addr().unwrap(), key: Some(key()) };
    let between = tokio::spawn(reverse(listener, server.address, 8, 5));
    let mut connection = Connection::open(&endpoint, Timeouts::default()).await.unwrap();

    let unknown = name("unknown.example");
    let mut asked: BTreeSet<_> = names.iter().chain([&unknown]).cloned().collect();
    let (sender, mut receiver) = mpsc::channel(1);
    let take = async {
        let mut answers = BTreeMap::new();
        while let Some((zone, answer)) = receiver.recv().await {
            assert!(answers.insert(zone, answer).is_none(), "answered twice");
        }
        answers
    };
    let ask = async {
        connection.serials(&mut asked, 8, &sender).await.unwrap();
        drop(sender);
        assert!(asked.is_empty(), "{asked:?}");
    };
    let ((), mut answers) = tokio::join!(ask, take);
    assert!(matches!(answers.remove(&unknown), Some(Err(ClientError::Refused))));
    let serials: Vec<_> = names.iter().map(|zone| answers.remove(zone).unwrap().unwrap().get()).collect();
    assert_eq!(serials, (1..=39).collect::<Vec<u32>>());
    assert!(answers.is_empty(), "{answers:?}");
    assert!(connection.is_usable());
    let parsed =
        between.await.unwrap().into_iter().map(|request| bindy_wire::parse_request(&request).unwrap());
    let mut requests: Vec<_> = parsed.map(|request| request.name).collect();
    requests.sort();
    requests.dedup();
    assert_eq!(requests.len(), 40, "each zone is asked for once");
    server.stop().await;
}
