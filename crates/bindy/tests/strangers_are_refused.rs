//! Who has no key, a wrong one, or another instance's, gets nothing and changes nothing; and no secret is to be found
//! where others can read.

mod common;

use std::path::PathBuf;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bindy_local::status::{ServerStatus, Status};
use bindy_testing::dns::{self, Transport, query_message};
use bindy_testing::manifest::manifest;
use bindy_testing::wait_for;
use bindy_wire::{Connection, Endpoint, Key, Rcode, Timeouts};
use bindy_zone::{Name, Rtype};
use common::faults::{self, STEADY, STEADY_ADDRESS};
use common::{LIMIT, Up, a, instance, testing, zone};
use tokio::net::UdpSocket;

const BOTH: &str = "both.example";
const ONLY_B: &str = "only-b.example";

/// Two instances; one zone is served by both, one by the second alone.
async fn two_instances(test: &str) -> Result<(Up, Status)> {
    let mut up = Up::new(test)?;
    let selector = "bind9InstancesFrom: [{selector: {matchLabels: {tier: b}}}]";
    let selected = manifest("DNSZone", "only-b", &format!("zoneName: {ONLY_B}, {selector}"));
    up.write("zones.yaml", &(zone("z", BOTH) + &selected))?;
    up.write(
        "records.yaml",
        &(a("steady", "z", STEADY, STEADY_ADDRESS) + &a("b", "only-b", "www", "192.0.2.1")),
    )?;
    let labelled = instance("b", "primary", 1, &[]).replace("{name: b}", "{name: b, labels: {tier: b}}");
    up.write("instances.yaml", &(instance("a", "primary", 1, &[]) + &labelled))?;
    up.start()?;
    let status = up.settled().await?;
    Ok((up, status))
}

/// Neither SOA nor transfer of a zone is to be had there with this key, and the reason is that one.
async fn refused(at: SocketAddr, zone: &str, key: Option<&Key>, reason: &str) -> Result<()> {
    let name = Name::parse(zone)?;
    let endpoint = Endpoint { address: at, key: key.cloned() };
    let key = key.map(testing);
    let open = async || Connection::open(&endpoint, Timeouts::default()).await;
    let answers = [
        ("SOA by TCP", open().await?.soa(&name).await.map(drop).map_err(anyhow::Error::from)),
        ("a transfer", open().await?.transfer(&name, None).await.map(drop).map_err(anyhow::Error::from)),
        ("SOA by UDP", dns::serial_with(at, &name, key.as_ref()).await.map(drop)),
        ("AXFR", dns::transfer(at, &name, key.as_ref()).await.map(drop)),
    ];
    for (what, answer) in answers {
        let what = format!("{what} of {zone} at {at} with {:?}", key.as_ref().map(|key| &key.name));
        let error = answer.err().with_context(|| format!("{what} is given"))?;
        ensure!(format!("{error:#}").to_uppercase().contains(reason), "{what}: {error:#}, not {reason}");
    }
    Ok(())
}

async fn given(at: SocketAddr, zone: &str, key: &Key) -> Result<()> {
    let name = Name::parse(zone)?;
    dns::transfer(at, &name, Some(&testing(key))).await.with_context(|| format!("{zone} at {at}"))?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_right_key_nothing_is_given() -> Result<()> {
    let (mut up, status) = two_instances("strangers-keys").await?;
    let hidden = status.hidden_primary.context("no hidden primary")?;
    let server = status.server("default/a", 0).context("no server of a")?;
    let key = up.key(server)?;
    // What is right works, so that a refusal means something.
    given(hidden, BOTH, &key).await?;
    given(server.transfer, BOTH, &key).await?;
    let mut secret = key.secret().to_vec();
    secret[0] ^= 1;
    let forged = Key::new(key.name().clone(), &secret);
    let unknown = Key::new(Name::parse("stranger.key")?, &secret);
    let catalog = "a.default.catalog.bindy";
    for zone in [BOTH, ONLY_B, catalog, "nowhere.example"] {
        for (key, reason) in [(None, "REFUSED"), (Some(&forged), "BADSIG"), (Some(&unknown), "BADKEY")] {
            refused(hidden, zone, key, reason).await?;
            refused(server.transfer, zone, key, reason).await?;
        }
    }
    // named answers questions of everybody, and transfers to its agent only.
    for key in [None, Some(&key), Some(&forged)] {
        let transferred = dns::transfer(server.dns, &Name::parse(BOTH)?, key.map(testing).as_ref()).await;
        ensure!(transferred.is_err(), "named gives its zone to strangers");
    }
    for at in [hidden, server.transfer] {
        for transport in [Transport::Udp, Transport::Tcp] {
            let answer = dns::ask(at, transport, &Name::parse(BOTH)?, Rtype::SOA).await?;
            ensure!(answer.rcode == Rcode::REFUSED, "{at} says {} to the unsigned", answer.rcode);
            ensure!(answer.records.is_empty() && answer.serial.is_none(), "a refusal with content");
        }
    }
    up.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_reads_only_what_it_serves() -> Result<()> {
    let (mut up, status) = two_instances("strangers-instances").await?;
    let hidden = status.hidden_primary.context("no hidden primary")?;
    let (a, b) = (status.server("default/a", 0).context("a")?, status.server("default/b", 0).context("b")?);
    let (key_a, key_b) = (up.key(a)?, up.key(b)?);
    for zone in [ONLY_B, BOTH, "b.default.catalog.bindy"] {
        given(hidden, zone, &key_b).await?;
        given(b.transfer, zone, &key_b).await?;
        refused(b.transfer, zone, Some(&key_a), "BADKEY").await?;
    }
    given(hidden, BOTH, &key_a).await?;
    for zone in [ONLY_B, "b.default.catalog.bindy"] {
        refused(hidden, zone, Some(&key_a), "REFUSED").await?;
    }
    refused(hidden, "a.default.catalog.bindy", Some(&key_b), "REFUSED").await?;
    // Being a stranger's name below one's own key gives nothing either: no instance is downstream of a.
    let invented = key_a.derive("default", "b")?;
    refused(a.transfer, BOTH, Some(&invented), "REFUSED").await?;
    let answer = dns::ask(a.dns, Transport::Udp, &Name::parse(ONLY_B)?, Rtype::SOA).await?;
    ensure!(answer.rcode == Rcode::REFUSED, "a serves what b alone should: {}", answer.rcode);
    up.stop().await
}

/// An unsigned NOTIFY that announces a serial far ahead.
fn notify(zone: &str) -> Result<Vec<u8>> {
    let mut message = query_message(99, &Name::parse(zone)?, Rtype::SOA)?;
    for (position, octet) in [(2, 0x24), (7, 1)] {
        *message.get_mut(position).context("a message without a header")? = octet;
    }
    // The SOA of the question's name: TTL 0, names of the root, serial 0xF0000000.
    message.extend([0xC0, 12, 0, 6, 0, 1, 0, 0, 0, 0, 0, 22, 0, 0, 0xF0, 0, 0, 0]);
    message.extend([0; 16]);
    Ok(message)
}

async fn send(at: SocketAddr, message: &[u8]) -> Result<Option<u8>> {
    let socket = UdpSocket::bind("127.0.0.9:0").await?;
    socket.send_to(message, at).await?;
    let mut answer = [0; 512];
    let length = tokio::time::timeout(Duration::from_millis(500), socket.recv(&mut answer)).await;
    Ok(length.ok().transpose()?.map(|_| answer[3] & 0x0F))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notifies_of_strangers_change_nothing() -> Result<()> {
    let (mut up, status) = two_instances("strangers-notify").await?;
    let hidden = status.hidden_primary.context("no hidden primary")?;
    let before = up.published()?;
    let transfers: Vec<usize> = status.servers.iter().map(faults::transfers).collect();
    let server = status.server("default/a", 0).context("a")?;
    let message = notify(BOTH)?;
    for _ in 0..50 {
        for at in [hidden, server.transfer, server.dns] {
            let rcode = send(at, &message).await?;
            ensure!(rcode != Some(0), "{at} takes a stranger's NOTIFY");
        }
    }
    // Signed with a key that is not a source's, by another instance.
    let other = up.key(status.server("default/b", 0).context("b")?)?;
    let endpoint = Endpoint { address: server.transfer, key: Some(other) };
    let mut connection = Connection::open(&endpoint, Timeouts::default()).await?;
    let serial = bindy_zone::Serial::new(0xF000_0000);
    ensure!(
        connection.notify(&Name::parse(BOTH)?, serial).await.is_err(),
        "another instance's NOTIFY is taken"
    );
    // A change still arrives: nobody waits for the serial that was announced.
    up.write("www.yaml", &a("www", "z", "www", "192.0.2.5"))?;
    up.answers(&format!("www.{BOTH}"), Rtype::A, &["192.0.2.5"]).await?;
    // `status.json` follows a few milliseconds after the servers.
    let status = wait_for("the published version on every server", LIMIT, async || {
        let status = up.settled().await?;
        let zone = status.zone("default/z").context("no zone")?;
        for server in &status.servers {
            up.content_is(server, zone).await?;
        }
        anyhow::Ok(status)
    })
    .await?;
    let after = up.published()?;
    let changed: Vec<&String> = after
        .iter()
        .zip(&before)
        .filter(|(after, before)| after != before)
        .map(|(zone, _)| &zone.0)
        .collect();
    ensure!(changed == ["default/z"], "changed: {changed:?}");
    let now: Vec<usize> = status.servers.iter().map(faults::transfers).collect();
    let more: Vec<usize> = now.iter().zip(&transfers).map(|(now, before)| now - before).collect();
    ensure!(more.iter().all(|more| *more == 1), "one change, and transfers: {more:?}");
    up.stop().await
}

/// Everything that others can read: status, logs, configuration of servers, arguments and environment.
fn readable(up: &Up, servers: &[ServerStatus], own: u32) -> Result<Vec<(String, Vec<u8>)>> {
    let mut found = Vec::new();
    let mut files = vec![up.state().join("status.json"), up.state().with_file_name("up-1.log")];
    for server in servers {
        let names = ["named.log", "agent.log", "named.conf", "agent.json", "ports.json"];
        files.extend(names.map(|name| server.directory.join(name)));
    }
    for pid in servers.iter().flat_map(|s| [s.named_pid, s.agent_pid]).flatten().chain([own]) {
        files.extend(["cmdline", "environ"].map(|file| format!("/proc/{pid}/{file}").into()));
    }
    for file in files {
        let text = std::fs::read(&file).with_context(|| file.display().to_string())?;
        found.push((file.display().to_string(), text));
    }
    Ok(found)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_readable_by_others() -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let (mut up, status) = two_instances("strangers-secrets").await?;
    up.write("www.yaml", &a("www", "z", "www", "192.0.2.5"))?;
    up.answers(&format!("www.{BOTH}"), Rtype::A, &["192.0.2.5"]).await?;
    let mut secrets = Vec::new();
    for server in &status.servers {
        let local = std::fs::read_to_string(server.directory.join("agent.key"))?;
        let local = local
            .split('"')
            .find(|word| word.len() > 30 && !word.contains(' '))
            .context("no secret in agent.key")?;
        secrets.extend([local.to_owned(), up.key(server)?.secret_base64()]);
        // Not even in agent's answers.
        for path in ["/readyz", "/metrics"] {
            let answer = faults::get(server.http, path).await?;
            ensure!(secrets.iter().all(|secret| !answer.contains(secret)), "{path} tells a secret");
        }
        let keys = std::fs::read_dir(server.directory.join("keys"))?.map(|entry| Ok(entry?.path()));
        let mut keys: Vec<PathBuf> = keys.collect::<Result<_>>()?;
        ensure!(!keys.is_empty(), "no keys");
        keys.push(server.directory.join("agent.key"));
        for file in keys {
            let mode = std::fs::metadata(&file)?.permissions().mode();
            ensure!(mode & 0o077 == 0, "{} has mode {mode:o}", file.display());
        }
    }
    let mode = std::fs::metadata(up.state())?.permissions().mode();
    ensure!(mode & 0o077 == 0, "the state directory has mode {mode:o}");
    for (place, text) in readable(&up, &status.servers, status.pid)? {
        ensure!(!text.is_empty(), "{place} is empty");
        for secret in &secrets {
            let hit = text.windows(secret.len()).any(|part| part == secret.as_bytes());
            ensure!(!hit, "a secret is in {place}");
        }
    }
    wait_for("a last look at the status", LIMIT, async || up.status().map(drop)).await?;
    up.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whom_an_instance_lets_transfers_its_zones_without_a_key_and_nothing_is_restarted() -> Result<()> {
    let (mut up, status) = two_instances("strangers-let").await?;
    let before = status.server("default/a", 0).context("no server of a")?;
    let (zone, catalog) = (Name::parse(BOTH)?, Name::parse("a.default.catalog.bindy")?);
    ensure!(dns::transfer(before.dns, &zone, None).await.is_err(), "given to everybody");
    let lets = "role: primary, replicas: 1, config: {allowTransfer: [127.0.0.0/8], logging: {level: debug}}";
    let b = instance("b", "primary", 1, &[]).replace("{name: b}", "{name: b, labels: {tier: b}}");
    up.write("instances.yaml", &(manifest("Bind9Instance", "a", lets) + &b))?;
    wait_for("the zone to be given", LIMIT, async || dns::transfer(before.dns, &zone, None).await).await?;
    ensure!(dns::transfer(before.dns, &catalog, None).await.is_err(), "the catalog is given");
    let status = up.settled().await?;
    let after = status.server("default/a", 0).context("no server of a")?;
    let processes = |server: &ServerStatus| (server.named_pid, server.agent_pid, server.dns);
    ensure!(processes(after) == processes(before), "{after:?} was {before:?}");
    up.stop().await
}
