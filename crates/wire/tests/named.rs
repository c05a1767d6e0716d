//! Our server and client against BIND: named as a secondary, `dig`, named's control channel.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]

mod support;

use std::process::Command;
use std::time::Duration;

use bindy_testing::dns::{self, Transport};
use bindy_testing::{Named, NamedConfig, Scratch, ZoneSource, wait_for};
use bindy_wire::{ClientError, Connection, Endpoint, Key, Rndc, RndcError, ServerLimits, Timeouts, Transfer};
use bindy_zone::{Catalog, Name, Serial};
use support::*;

const LIMIT: Duration = Duration::from_secs(20);

async fn wait_for_serial(named: &Named, zone: &Name, serial: u32) {
    wait_for("named to have the version", LIMIT, async || {
        let found = dns::serial(named.address(), Transport::Udp, zone).await?;
        if found == Serial::new(serial) { Ok(()) } else { anyhow::bail!("named has {found}") }
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn named_takes_a_zone_whole_and_then_by_differences() {
    let scratch = Scratch::new("wire-ixfr").unwrap();
    let zones = Zones::default();
    let server = serve(zones.clone(), ServerLimits::default()).await;
    let zone = name("example.org");
    let mut content = content(&zone);
    content.set(owner(&zone, "many"), addresses(0..90));
    zones.publish(version(1, &content));
    let source = ZoneSource::Primary(server.address, Some(testing_key()));
    let config = NamedConfig {
        zones: vec![(zone.clone(), source)],
        transfer_key: Some(testing_key()),
        ..NamedConfig::default()
    };
    let named = Named::start(&scratch, "secondary", &config).await.unwrap();
    wait_for_serial(&named, &zone, 1).await;
    for serial in 2..5 {
        content.set(owner(&zone, "www"), addresses([serial]));
        content.set(owner(&zone, "many"), addresses(serial..90));
        zones.publish(version(serial, &content));
        dns::notify(named.address(), &zone, None).await.unwrap();
        wait_for_serial(&named, &zone, serial).await;
    }
    let counters = &server.counters;
    assert_eq!((read(&counters.axfr), read(&counters.ixfr)), (1, 3), "differences were used");
    assert_eq!(read(&counters.refused) + read(&counters.bad_signature) + read(&counters.malformed), 0);

    // And back: what named has by now is what was published.
    let endpoint = Endpoint { address: named.address(), key: Some(key()) };
    let mut connection = Connection::open(&endpoint, Timeouts::default()).await.unwrap();
    let full = connection.transfer(&zone, None).await.unwrap();
    assert!(matches!(&full, Transfer::Full(got) if *got == version(4, &content)), "{full:?}");
    let old = version(4, &content);
    assert!(matches!(connection.transfer(&zone, Some(&old)).await.unwrap(), Transfer::Current));
    assert_eq!(connection.soa(&zone).await.unwrap(), Serial::new(4));
    let forger = Endpoint { key: Some(Key::new(key().name().clone(), &[9; 32])), ..endpoint };
    let refused = Connection::open(&forger, Timeouts::default()).await.unwrap().soa(&zone).await;
    assert!(matches!(refused, Err(ClientError::Signature(_))), "{refused:?}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_of_the_catalog_appears_and_disappears() {
    let scratch = Scratch::new("wire-catalog").unwrap();
    let zones = Zones::default();
    let server = serve(zones.clone(), ServerLimits::default()).await;
    let catalog_name = Catalog::name("dns", "primary").unwrap();
    let mut catalog = Catalog::empty(catalog_name.clone());
    zones.publish(version(1, &catalog));
    let source = ZoneSource::Catalog(server.address, Some(testing_key()));
    let config = NamedConfig { zones: vec![(catalog_name.clone(), source)], ..NamedConfig::default() };
    let named = Named::start(&scratch, "secondary", &config).await.unwrap();
    wait_for_serial(&named, &catalog_name, 1).await;

    let member = name("member.example");
    zones.publish(version(7, &content(&member)));
    assert!(Catalog::insert(&mut catalog, &member));
    zones.publish(version(2, &catalog));
    dns::notify(named.address(), &catalog_name, None).await.unwrap();
    wait_for_serial(&named, &member, 7).await;

    assert!(Catalog::remove(&mut catalog, &member));
    zones.publish(version(3, &catalog));
    dns::notify(named.address(), &catalog_name, None).await.unwrap();
    wait_for("the member to be gone", LIMIT, async || {
        match dns::serial(named.address(), Transport::Udp, &member).await {
            Ok(serial) => anyhow::bail!("named still has {serial}"),
            Err(_) => Ok(()),
        }
    })
    .await
    .unwrap();
    server.stop().await;
}

fn dig(arguments: &[&str]) -> String {
    let output = Command::new("dig").args(["+time=3", "+tries=1"]).args(arguments).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn dig_agrees_with_our_signatures_and_refusals() {
    let zones = Zones::default();
    let server = serve(zones.clone(), ServerLimits::default()).await;
    let zone = name("example.org");
    let mut large = content(&zone);
    large.set(owner(&zone, "many"), addresses(0..20_000));
    zones.publish(version(5, &large));
    let port = server.address.port().to_string();
    let signed = format!("hmac-sha256:{}:{}", key().name(), key().secret_base64());
    let run = |key: Option<&str>, rest: &[&str]| {
        let mut arguments = vec!["@127.0.0.1", "-p", &port];
        if let Some(key) = key {
            arguments.extend(["-y", key]);
        }
        arguments.extend(rest);
        dig(&arguments)
    };
    let whole = run(Some(&signed), &["example.org", "AXFR"]);
    assert!(whole.contains("XFR size: 20003 records"), "{}", &whole[whole.len().saturating_sub(500)..]);
    assert!(!whole.contains("Couldn't verify"), "every message verifies");
    let soa = run(Some(&signed), &["example.org", "SOA"]);
    assert!(soa.contains("hostmaster.example. 5 3600") && !soa.contains("Couldn't verify"), "{soa}");
    assert!(run(Some(&signed), &["example.org", "IXFR=5"]).contains("XFR size: 1 records"));
    assert!(run(None, &["example.org", "SOA"]).contains("status: REFUSED"));
    assert!(run(None, &["example.org", "AXFR"]).contains("Transfer failed"));
    assert!(run(Some(&signed), &["www.example.org", "A"]).contains("status: REFUSED"));
    assert!(run(Some(&signed), &["example.org", "SOA", "+opcode=5"]).contains("status: NOTIMP"));
    let stranger = "hmac-sha256:stranger:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    assert!(run(Some(stranger), &["example.org", "SOA"]).contains("BADKEY"));
    let forged = format!("hmac-sha256:{}:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", key().name());
    assert!(run(Some(&forged), &["example.org", "SOA"]).contains("BADSIG"));
    let sha1 = format!("hmac-sha1:{}:{}", key().name(), key().secret_base64());
    assert!(run(Some(&sha1), &["example.org", "SOA"]).contains("BADKEY"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_control_channel_carries_many_commands() {
    let scratch = Scratch::new("wire-rndc").unwrap();
    let config = |place: &bindy_testing::Place| {
        format!(
            "key \"{0}\" {{ algorithm hmac-sha256; secret \"{1}\"; }};\n\
             options {{ directory \"{2}\"; listen-on port {3} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};\n\
             pid-file none; session-keyfile none; recursion no; }};\n\
             controls {{ inet 127.0.0.1 port {4} allow {{ any; }} keys {{ \"{0}\"; }}; }};\n",
            key().name(),
            key().secret_base64(),
            place.directory.display(),
            place.dns.number(),
            place.control.number(),
        )
    };
    let named = Named::with_text(&scratch, "controlled", config).await.unwrap();
    let control = named.place().control.address();
    let mut rndc = Rndc::connect(control, &key(), LIMIT).await.unwrap();
    assert!(rndc.command("status").await.unwrap().contains("server is up and running"));
    for _ in 0..20 {
        rndc.command("reconfig").await.unwrap();
    }
    let failed = rndc.command("zonestatus nowhere.example").await;
    assert!(
        matches!(&failed, Err(RndcError::Failed { code, text }) if *code > 0 && !text.is_empty()),
        "{failed:?}"
    );
    assert!(rndc.command("status").await.is_ok(), "an error ends no channel");
    let forged = Key::new(key().name().clone(), &[1; 32]);
    let refused = Rndc::connect(control, &forged, Duration::from_secs(5)).await;
    assert!(refused.is_err_and(|error| matches!(error, RndcError::Io(_) | RndcError::Signature)));
}
