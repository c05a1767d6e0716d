//! An instance pulls zones from a plain BIND that knows nothing of Bindy: they are served by it and by the tier below, beside
//! the zones of objects, follow their edits, and are no worse off than other zones when servers die.

mod common;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bindy_testing::dns::{self, Transport};
use bindy_testing::manifest::manifest;
use bindy_testing::{Key, Named, NamedConfig, Scratch, ZoneSource, wait_for};
use bindy_wire::Rcode;
use bindy_zone::{Name, Rtype, Serial};
use common::faults::{arrives, wipe_and_kill_named};
use common::{LIMIT, Up, a, condition, instance, zone};
use rustix::process::Signal;

/// The zones of the server outside; it has another one which is not asked for.
const ZONES: [&str; 2] = ["hq.example", "labs.example"];
const UNLISTED: &str = "private.example";

fn key() -> Result<Key> {
    Ok(Key { name: Name::parse("hq-transfer")?, secret: (0..32).collect() })
}

/// What the server outside has: `www` of each zone with this address.
fn content(serial: u32, address: &str) -> Result<NamedConfig> {
    let text = format!(
        "$TTL 60\n@ IN SOA ns.example.net. admin.example.net. {serial} 3600 600 604800 60\n@ IN NS ns.example.net.\n\
         www IN A {address}\n"
    );
    let source = |zone: &str| Ok((Name::parse(zone)?, ZoneSource::Text(text.clone())));
    let zones = ZONES.into_iter().chain([UNLISTED]).map(source).collect::<Result<_>>()?;
    Ok(NamedConfig { zones, transfer_key: Some(key()?), ..NamedConfig::default() })
}

/// What the server outside has from now on.
fn edit(hq: &mut Named, serial: u32, address: &str) -> Result<()> {
    hq.configure(&content(serial, address)?)?;
    hq.process()?.signal(Signal::HUP)
}

fn edge(hq: &Named, zones: &str) -> String {
    let at = hq.address();
    let upstream = format!(
        "{{name: hq, address: {}, port: {}, keyName: hq-transfer, keySecret: hq-key, zones: [{zones}]}}",
        at.ip(),
        at.port()
    );
    manifest("Bind9Instance", "edge", &format!("role: secondary, replicas: 2, upstreams: [{upstream}]"))
}

/// A server outside, an instance that pulls from it, one below that, and the zone example.com of an object.
async fn served(test: &str, scratch: &Scratch) -> Result<(Named, Up)> {
    let hq = Named::start(scratch, "hq", &content(10, "192.0.2.10")?).await?;
    let mut up = Up::new(test)?;
    let keys = up.state().join("upstreams/default.hq-key");
    std::fs::create_dir_all(&keys)?;
    let secret = bindy_wire::Key::new(key()?.name, &key()?.secret).secret_base64();
    let statement =
        format!("key \"hq-transfer\" {{\n\talgorithm hmac-sha256;\n\tsecret \"{secret}\";\n}};\n");
    std::fs::write(keys.join("key"), statement)?;
    up.write("leaf.yaml", &instance("leaf", "secondary", 1, &["edge"]))?;
    up.write("edge.yaml", &edge(&hq, "hq.example, labs.example"))?;
    up.write("zones.yaml", &(zone("z", "example.com") + &a("www", "z", "www", "192.0.2.1")))?;
    up.start()?;
    up.settled().await?;
    Ok((hq, up))
}

async fn all_are(up: &mut Up, address: &str, limit: Duration) -> Result<()> {
    let servers = up.status()?.servers;
    ensure!(servers.len() == 3, "{} servers", servers.len());
    for zone in ZONES {
        arrives(&servers, &format!("www.{zone}"), address, limit).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edits_outside_arrive_at_every_tier_with_and_without_notify() -> Result<()> {
    let scratch = Scratch::new("from-outside-bind")?;
    let (mut hq, mut up) = served("from-outside", &scratch).await?;
    // Settled means that these are there.
    for server in up.status()?.servers {
        for zone in ZONES {
            let serial = dns::serial(server.dns, Transport::Udp, &Name::parse(zone)?).await?;
            ensure!(serial == Serial::new(10), "{zone}: {serial:?}");
        }
        let unlisted = dns::ask(server.dns, Transport::Udp, &Name::parse(UNLISTED)?, Rtype::SOA).await?;
        ensure!(unlisted.rcode == Rcode::REFUSED, "{UNLISTED}: {}", unlisted.rcode);
    }
    up.answers("www.example.com", Rtype::A, &["192.0.2.1"]).await?;

    edit(&mut hq, 11, "192.0.2.11")?;
    all_are(&mut up, "192.0.2.11", Duration::from_secs(12)).await?;

    // With one, as BIND sends it, to one server of the instance.
    let wire = bindy_wire::Key::new(key()?.name, &key()?.secret);
    let server = up.server("default/edge", 0)?;
    let client = bindy_wire::Endpoint { address: server.transfer, key: Some(wire) };
    edit(&mut hq, 12, "192.0.2.12")?;
    let at = Name::parse(ZONES[0])?;
    wait_for("the edit outside", LIMIT, async || {
        let serial = dns::serial(hq.address(), Transport::Udp, &at).await?;
        ensure!(serial == Serial::new(12), "{serial:?}");
        anyhow::Ok(())
    })
    .await?;
    notify(&client, &at, 12).await.context("a NOTIFY of a zone that comes from there")?;
    arrives(&[server], "www.hq.example", "192.0.2.12", Duration::from_secs(2)).await?;
    let foreign = notify(&client, &Name::parse("example.com")?, u32::MAX / 2).await;
    ensure!(foreign.is_err(), "a NOTIFY of a zone that does not come from there was taken");
    all_are(&mut up, "192.0.2.12", Duration::from_secs(12)).await?;
    up.stop().await
}

async fn notify(at: &bindy_wire::Endpoint, zone: &Name, serial: u32) -> Result<()> {
    let mut connection = bindy_wire::Connection::open(at, bindy_wire::Timeouts::default()).await?;
    Ok(connection.notify(zone, Serial::new(serial)).await?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_server_outside_is_gone_its_zones_are_served_and_given_to_new_servers() -> Result<()> {
    let scratch = Scratch::new("outside-gone-bind")?;
    let (mut hq, mut up) = served("outside-gone", &scratch).await?;
    hq.kill().await?;
    let before = up.server("default/edge", 0)?;
    wipe_and_kill_named(&before).await?;
    up.healed(&before).await?;
    all_are(&mut up, "192.0.2.10", LIMIT).await?;
    up.write("zones.yaml", &(zone("z", "example.com") + &a("www", "z", "www", "192.0.2.2")))?;
    up.answers("www.example.com", Rtype::A, &["192.0.2.2"]).await?;

    hq.configure(&content(11, "192.0.2.11")?)?;
    hq.restart().await?;
    all_are(&mut up, "192.0.2.11", LIMIT).await?;
    up.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_outside_that_never_answers_holds_up_nothing_else_and_is_told() -> Result<()> {
    let scratch = Scratch::new("outside-dead-bind")?;
    let mut hq = Named::start(&scratch, "hq", &content(10, "192.0.2.10")?).await?;
    hq.kill().await?;
    let mut up = Up::new("outside-dead")?;
    up.write("edge.yaml", &edge(&hq, "hq.example"))?;
    up.write("zones.yaml", &(zone("z", "example.com") + &a("www", "z", "www", "192.0.2.1")))?;
    up.start()?;
    up.until("servers that are ready and lack one zone", |status| {
        let edge = status.servers.iter().filter(|server| server.instance == "default/edge");
        let told: Vec<_> = edge.map(|server| (server.ready, server.missing)).collect();
        ensure!(told == [(true, Some(1)), (true, Some(1))], "{told:?}");
        Ok(())
    })
    .await?;
    up.answers("www.example.com", Rtype::A, &["192.0.2.1"]).await?;
    up.until("the missing zone to be named", |status| {
        let edge = status.instances.iter().find(|one| one.key == "default/edge").context("no edge")?;
        let degraded = edge.conditions.iter().find(|one| one.kind == "Degraded").context("no condition")?;
        ensure!(degraded.message.contains("hq.example"), "{}", degraded.message);
        Ok(())
    })
    .await?;
    up.stop().await
}

/// The zone `z` of an object is refused while a server outside has its name, and takes over without a gap afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zone_moves_from_outside_to_an_object_without_a_gap() -> Result<()> {
    let scratch = Scratch::new("from-outside-to-object-bind")?;
    let (hq, mut up) = served("from-outside-to-object", &scratch).await?;
    let object = zone("hq", "hq.example") + &a("hq-www", "hq", "www", "192.0.2.99");
    up.write("hq.yaml", &object)?;
    up.until("the zone to be refused", |status| {
        let zone = status.zones.iter().find(|zone| zone.key == "default/hq").context("no such zone")?;
        let (value, message) = condition(zone, "Accepted")?;
        ensure!(
            value == "False" && message.contains("default/edge") && message.contains("outside"),
            "{message}"
        );
        Ok(())
    })
    .await?;
    all_are(&mut up, "192.0.2.10", LIMIT).await?;

    let servers = up.status()?.servers;
    let name = Name::parse("www.hq.example")?;
    up.write("edge.yaml", &edge(&hq, "labs.example"))?;
    wait_for("the object's answer everywhere", LIMIT, async || {
        for server in &servers {
            let answer = dns::ask(server.dns, Transport::Udp, &name, Rtype::A).await?;
            // Whichever it is, there is one.
            assert_eq!(answer.rcode, Rcode::NOERROR, "{}/{}", server.instance, server.index);
        }
        arrives(&servers, "www.hq.example", "192.0.2.99", Duration::ZERO).await
    })
    .await?;
    for server in &servers {
        let serial = dns::serial(server.dns, Transport::Udp, &Name::parse("hq.example")?).await?;
        ensure!(serial.is_after(Serial::new(10)), "{serial:?}");
    }
    up.stop().await
}
