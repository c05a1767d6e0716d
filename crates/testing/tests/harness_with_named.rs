//! The test library itself against real servers: named, transfers with and without key, prober, proxy.

#![cfg(test)]

use std::time::Duration;

use bindy_testing::checker::{Published, Rule, check, verify};
use bindy_testing::dns::{self, Transport};
use bindy_testing::history::{Observation, Outcome};
use bindy_testing::{
    Fault, Key, Named, NamedConfig, ProbeTarget, Prober, ProberConfig, Proxy, Question, Scratch, ZoneSource,
    wait_for,
};
use bindy_zone::{Name, Rtype, Serial};
use domain::base::iana::Rcode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const LIMIT: Duration = Duration::from_secs(20);

fn zone() -> Name {
    Name::parse("example.test").unwrap()
}

fn www() -> Name {
    Name::parse("www.example.test").unwrap()
}

fn text(serial: u32, www: &str) -> String {
    format!(
        "$TTL 300\n@ SOA ns hostmaster {serial} 3600 600 3024000 300\n@ NS ns\nns A 127.0.0.1\nwww A {www}\n\
         alias CNAME www\nmail MX 10 www\nnote TXT \"two\" \"strings\"\n_sip._tcp SRV 1 2 5060 WWW\n"
    )
}

fn key() -> Key {
    Key { name: Name::parse("transfer.key").unwrap(), secret: b"0123456789abcdef0123456789abcdef".to_vec() }
}

#[tokio::test]
async fn transfer_and_queries_give_the_same_content() {
    let scratch = Scratch::new("harness-transfer").unwrap();
    let config = NamedConfig::primary(&zone(), &text(1, "192.0.2.1"));
    let named = Named::start(&scratch, "primary", &config).await.unwrap();
    let version = dns::transfer(named.address(), &zone(), None).await.unwrap();
    assert_eq!(version.serial, Serial::new(1));
    assert_eq!(version.content.record_count(), 7);
    for transport in [Transport::Udp, Transport::Tcp] {
        assert_eq!(dns::serial(named.address(), transport, &zone()).await.unwrap(), version.serial);
        dns::expect_answers(named.address(), transport, &version).await.unwrap();
    }
    let other = NamedConfig::primary(&zone(), &text(1, "192.0.2.2"));
    let other = Named::start(&scratch, "other", &other).await.unwrap();
    let error = dns::expect_answers(other.address(), Transport::Udp, &version).await.unwrap_err();
    assert!(error.to_string().contains("www.example.test. A"), "{error}");
    let found = dns::transfer(other.address(), &zone(), None).await.unwrap();
    let difference = dns::difference(&version.content, &found.content).unwrap();
    assert_eq!(difference.lines().count(), 2, "{difference}");
    assert_eq!(dns::difference(&version.content, &version.content), None);
}

#[tokio::test]
async fn key_is_needed_where_one_is_configured() {
    let scratch = Scratch::new("harness-key").unwrap();
    let config =
        NamedConfig { transfer_key: Some(key()), ..NamedConfig::primary(&zone(), &text(1, "192.0.2.1")) };
    let named = Named::start(&scratch, "primary", &config).await.unwrap();
    dns::transfer(named.address(), &zone(), Some(&key())).await.unwrap();
    let unsigned = dns::transfer(named.address(), &zone(), None).await.unwrap_err();
    assert!(format!("{unsigned:#}").contains("REFUSED"), "{unsigned:#}");
    let wrong = Key { secret: b"another secret".to_vec(), ..key() };
    dns::transfer(named.address(), &zone(), Some(&wrong)).await.unwrap_err();

    // One octet that changes on the way is noticed by the signature, not by luck of the parser.
    let proxy = Proxy::start(named.address()).await.unwrap();
    proxy.set(Fault::Corrupt);
    let changed = dns::transfer(proxy.address(), &zone(), Some(&key())).await.unwrap_err();
    assert!(format!("{changed:#}").contains("signature is wrong"), "{changed:#}");
}

#[tokio::test]
async fn cut_resets_open_connections() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = Proxy::start(listener.local_addr().unwrap()).await.unwrap();
    let mut client = tokio::net::TcpStream::connect(proxy.address()).await.unwrap();
    client.write_all(b"hello").await.unwrap();
    let passed = async || if proxy.counts().to_target == 5 { Ok(()) } else { Err("nothing has passed") };
    wait_for("the octets at the target", LIMIT, passed).await.unwrap();
    proxy.set(Fault::Cut);
    let ended = tokio::time::timeout(LIMIT, client.read_u8()).await.unwrap().unwrap_err();
    assert_eq!(ended.kind(), std::io::ErrorKind::ConnectionReset, "RST, not FIN");
}

#[tokio::test]
async fn named_survives_kill_freeze_wipe_and_restart() {
    let scratch = Scratch::new("harness-restart").unwrap();
    let config = NamedConfig::primary(&zone(), &text(1, "192.0.2.1"));
    let mut primary = Named::start(&scratch, "primary", &config).await.unwrap();
    let from = ZoneSource::Primary(primary.address(), None);
    let config = NamedConfig { zones: vec![(zone(), from)], ..NamedConfig::default() };
    let mut secondary = Named::start(&scratch, "secondary", &config).await.unwrap();
    let address = secondary.address();
    let served = async || dns::serial(address, Transport::Udp, &zone()).await;
    wait_for("the zone on the secondary", LIMIT, served).await.unwrap();

    secondary.freeze().await.unwrap();
    dns::is_answering(address).await.unwrap_err();
    secondary.thaw().unwrap();
    wait_for("an answer after the thaw", LIMIT, served).await.unwrap();

    primary.kill().await.unwrap();
    secondary.terminate().await.unwrap();
    secondary.restart().await.unwrap();
    wait_for("the zone from disk", LIMIT, served).await.unwrap();
    secondary.kill().await.unwrap();
    secondary.wipe().unwrap();
    secondary.restart().await.unwrap();
    let empty = dns::ask(address, Transport::Udp, &zone(), Rtype::SOA).await.unwrap();
    assert_eq!(empty.rcode, Rcode::SERVFAIL, "nothing is left, and the primary is down");
}

#[tokio::test]
async fn prober_sees_changes_outages_and_wrong_answers() {
    let scratch = Scratch::new("harness-prober").unwrap();
    let config = NamedConfig::primary(&zone(), &text(1, "192.0.2.1"));
    let mut named = Named::start(&scratch, "primary", &config).await.unwrap();
    let mut published = Published::new();
    let first = dns::transfer(named.address(), &zone(), None).await.unwrap();

    let question = |name: Name, rtype| Question { name, rtype };
    let questions = vec![question(www(), Rtype::A), question(zone(), Rtype::SOA)];
    let targets = vec![ProbeTarget { name: "primary".to_owned(), address: named.address() }];
    let file = scratch.path().join("history.jsonl");
    let config =
        ProberConfig { rate: 500, file: Some(file.clone()), ..ProberConfig::new(targets, questions) };
    let prober = Prober::start(config).await.unwrap();
    let answers = async |count: usize| {
        let (asked, lost) = prober.history().asked_and_lost();
        if asked - lost >= count { Ok(()) } else { Err(format!("{asked} asked, {lost} lost")) }
    };
    wait_for("100 answers", LIMIT, async || answers(100).await).await.unwrap();
    prober.outage_begins("primary");
    named.terminate().await.unwrap();
    named.configure(&NamedConfig::primary(&zone(), &text(2, "192.0.2.2"))).unwrap();
    named.restart().await.unwrap();
    prober.outage_ends("primary");
    let second = dns::transfer(named.address(), &zone(), None).await.unwrap();
    let so_far = prober.history().observations.len();
    wait_for("100 more", LIMIT, async || answers(so_far + 100).await).await.unwrap();
    let mut history = prober.stop().await.unwrap();

    published.insert(zone(), vec![first.clone(), second.clone()]);
    verify(&history, &published).unwrap();
    let lines = std::fs::read_to_string(file).unwrap();
    assert_eq!(lines.lines().count(), history.observations.len());
    assert!(lines.contains(r#""transport":"tcp""#) && lines.contains(r#""serial":2"#), "{lines}");

    // The same history is wrong when the second version was never published, or the outage not announced.
    let violations = check(&history, &Published::from([(zone(), vec![first.clone()])]), 3);
    assert!(violations.iter().any(|violation| violation.rule == Rule::UnknownSerial), "{violations:#?}");
    assert!(violations.iter().any(|violation| violation.rule == Rule::WrongAnswer), "{violations:#?}");
    let swapped = check(&history, &Published::from([(zone(), vec![second, first])]), 3);
    assert!(swapped.iter().any(|violation| violation.rule == Rule::Backward), "{swapped:#?}");
    history.outages.clear();
    let violations = check(&history, &published, 3);
    assert!(violations.iter().all(|v| matches!(v.rule, Rule::Lost | Rule::WrongRcode)), "{violations:#?}");
    assert!(!violations.is_empty());
    let lost = |o: &&Observation| *o.outcome == Outcome::Lost && o.transport == Transport::Udp;
    assert!(history.observations.iter().filter(lost).count() > 5, "datagrams to a stopped server are lost");
}

#[tokio::test]
async fn proxy_injects_each_fault_and_recovers() {
    let scratch = Scratch::new("harness-proxy").unwrap();
    let config = NamedConfig::primary(&zone(), &text(1, "192.0.2.1"));
    let named = Named::start(&scratch, "primary", &config).await.unwrap();
    let proxy = Proxy::start(named.address()).await.unwrap();
    let ask = async |transport| {
        let limit = Duration::from_millis(400);
        let name = www();
        let answer = dns::ask(proxy.address(), transport, &name, Rtype::A);
        tokio::time::timeout(limit, answer).await.map_err(anyhow::Error::from).flatten()
    };
    let both = [Transport::Udp, Transport::Tcp];
    for fault in [Fault::Freeze, Fault::Drop, Fault::Silence, Fault::Cut] {
        for transport in both {
            proxy.set(Fault::None);
            assert_eq!(ask(transport).await.unwrap().rcode, Rcode::NOERROR);
            proxy.set(fault);
            let error = ask(transport).await.expect_err(&format!("{fault:?} by {transport:?}"));
            let reset = format!("{error:#}").contains("connection ended");
            assert_eq!(reset, fault == Fault::Cut && transport == Transport::Tcp, "{fault:?}: {error:#}");
        }
    }
    proxy.set(Fault::Delay(Duration::from_millis(60)));
    for transport in both {
        let start = std::time::Instant::now();
        ask(transport).await.unwrap();
        assert!(start.elapsed() >= Duration::from_millis(120), "60 ms in each direction");
    }
    proxy.set(Fault::Corrupt);
    for transport in both {
        let right = dns::ask(named.address(), transport, &www(), Rtype::A).await.unwrap();
        let wrong = ask(transport).await;
        assert!(wrong.is_err() || wrong.unwrap().records != right.records);
    }
    let counts = proxy.counts();
    assert!(counts.cut >= 1 && counts.datagrams_lost >= 3 && counts.connections >= 8, "{counts:?}");
    assert!(counts.to_client > 0 && counts.to_target > 0 && counts.datagrams >= 5, "{counts:?}");
    drop(proxy);
}
