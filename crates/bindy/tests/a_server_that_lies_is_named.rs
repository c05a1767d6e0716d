//! A server counts as served only when it answers the changed data and not only the serial: one that has the serial and
//! says something else is named in the status, and one that answers nobody but its own agent counts all the same.

mod common;

use anyhow::{Context, Result, ensure};
use bindy_local::status::ServerStatus;
use bindy_testing::dns::{self, Transport};
use bindy_testing::manifest::manifest;
use bindy_testing::wait_for;
use bindy_wire::Rcode;
use bindy_zone::{Name, Rtype, ZoneFile};
use common::{LIMIT, Up, a, condition, faults, instance, zone};
use rustix::process::Signal;

const TRUTH: &str = "192.0.2.77";
const LIE: &str = "192.0.2.66";

/// Puts another address under the published serial onto the disk of a server, as a restored backup may have it.
async fn teach_to_lie(up: &mut Up, liar: &ServerStatus, honest: &ServerStatus) -> Result<()> {
    let version = up.transfer(honest, &Name::parse("example.com")?).await?;
    let text = liar.directory.join("lie.zone");
    std::fs::write(&text, ZoneFile::display(&version).to_string().replace(TRUTH, LIE))?;
    faults::signal(liar.named_pid, Signal::STOP)?;
    let data = liar.directory.join("named/__catz___default_secondary.default.catalog.bindy_example.com.db");
    ensure!(data.is_file(), "named has no {}", data.display());
    let compiled = std::process::Command::new("named-compilezone")
        .args(["-q", "-F", "raw", "-o"])
        .args([&data, std::path::Path::new("example.com"), &text])
        .status()
        .context("named-compilezone is needed: apt-get install bind9-utils")?;
    ensure!(compiled.success(), "named-compilezone: {compiled}");
    let _none = std::fs::remove_file(data.with_extension("db.jnl"));
    faults::kill(liar.named_pid).await
}

async fn says(server: &ServerStatus, address: &str) -> Result<()> {
    let www = Name::parse("www.example.com")?;
    let what = format!("{} to say {address}", faults::name_of(server));
    wait_for(&what, LIMIT, async || {
        let found = common::texts(server.dns, Transport::Udp, &www, Rtype::A).await?;
        ensure!(found == [address], "it says {found:?}");
        anyhow::Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_the_serial_and_other_data_is_not_in_sync_and_is_named() -> Result<()> {
    let mut up = Up::two_tiers("liar", "").await?;
    // The only server of its instance: without it the zone cannot be ready.
    let (honest, liar) = (up.server("default/primary", 0)?, up.server("default/secondary", 0)?);
    // The new version passes it by, and it comes back with the serial of that version and other data.
    faults::signal(liar.agent_pid, Signal::STOP)?;
    up.write("www.yaml", &a("www", "z", "www", TRUTH))?;
    says(&honest, TRUTH).await?;
    teach_to_lie(&mut up, &liar, &honest).await?;
    says(&liar, LIE).await?;
    faults::signal(liar.agent_pid, Signal::CONT)?;
    let serial = up
        .until("the liar to be named", |status| {
            let zone = &status.zones[0];
            ensure!((zone.servers.desired, zone.servers.in_sync) == (3, 2), "{:?}", zone.servers);
            let (ready, degraded) = (condition(zone, "Ready")?, condition(zone, "Degraded")?);
            ensure!(ready.0 == "False", "ready: {}", ready.1);
            let lie = format!("default/secondary/0: has serial {}", zone.serial.context("no serial")?);
            ensure!(degraded.1.contains(&lie) && degraded.1.contains(LIE), "{}", degraded.1);
            ensure!(
                degraded.1.contains("www.example.com. A") && degraded.1.contains(TRUTH),
                "{}",
                degraded.1
            );
            Ok(zone.serial)
        })
        .await?;
    for server in up.status()?.servers {
        let found = dns::serial(server.dns, Transport::Udp, &Name::parse("example.com")?).await?;
        ensure!(Some(found.get()) == serial, "{} has {found}", faults::name_of(&server));
        if faults::name_of(&server) != "default/secondary/0" {
            says(&server, TRUTH).await?;
        }
    }

    faults::wipe_and_kill_named(&up.server("default/secondary", 0)?).await?;
    says(&liar, TRUTH).await?;
    let status = up.settled().await?;
    ensure!(status.zones[0].serial == serial && status.zones[0].servers.in_sync == 3, "{:?}", status.zones);
    up.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_answers_nobody_here_proves_what_it_has_to_its_own_agent() -> Result<()> {
    let mut up = Up::new("closed")?;
    let closed = "role: primary, replicas: 2, config: {allowQuery: [198.51.100.0/24]}";
    up.write("instance.yaml", &manifest("Bind9Instance", "primary", closed))?;
    up.write("zone.yaml", &zone("z", "example.com"))?;
    up.write("www.yaml", &a("www", "z", "www", "192.0.2.1"))?;
    up.start()?;
    up.settled().await?;
    up.write("www.yaml", &a("www", "z", "www", TRUTH))?;
    up.contents_are_equal().await?;
    let www = Name::parse("www.example.com")?;
    for server in up.status()?.servers {
        let answer = dns::ask(server.dns, Transport::Udp, &www, Rtype::A).await?;
        ensure!(answer.rcode == Rcode::REFUSED, "{} answers {answer:?}", faults::name_of(&server));
    }
    up.stop().await
}

/// Manifests of a zone with everything that a server answers in other ways than with the records of a name.
fn labyrinth(address: &str, more: &str) -> String {
    let file = [
        "@ 300 NS ns",
        "ns 300 A 192.0.2.53",
        "*.wild 300 A 192.0.2.9",
        "*.wild 300 TXT any",
        "sub 300 NS ns.sub",
        &format!("ns.sub 300 A {address}"),
        "old 300 DNAME new",
        &format!("deep.below.nothing 300 A {address}"),
        "alias 300 CNAME deep.below.nothing",
        &format!("child 300 A {address}"),
        &format!("www.child 300 A {address}"),
        more,
    ];
    let lines: String = file.iter().map(|line| format!("    {line}\n")).collect();
    format!(
        "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: file, labels: {{bindy.firestoned.io/zone-file: \"true\"}}}}\n\
         data:\n  zone: |\n{lines}"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_accused_for_wildcards_delegations_aliases_and_child_zones() -> Result<()> {
    let mut up = Up::new("labyrinth")?;
    up.write("instance.yaml", &instance("primary", "primary", 2, &[]))?;
    let spec = "zoneName: example.com, zoneFilesFrom: [{configMap: {name: file, key: zone}}]";
    up.write("zone.yaml", &manifest("DNSZone", "z", spec))?;
    up.write("file.yaml", &labyrinth("192.0.2.1", ""))?;
    up.start()?;
    up.settled().await?;
    let mut serial = None;
    for (address, more) in [
        ("192.0.2.2", "one.wild 300 A 192.0.2.10"),
        // What was below the wildcard is answered by it again; a name above others becomes an empty one.
        ("192.0.2.3", "nothing 300 A 192.0.2.11"),
        ("192.0.2.4", "alias.again 300 CNAME gone"),
        ("192.0.2.5", "deep.sub 300 A 192.0.2.12"),
        ("192.0.2.6", "x.y.z 300 AAAA 2001:db8::1"),
    ] {
        up.write("file.yaml", &labyrinth(address, more))?;
        up.answers("deep.below.nothing.example.com", Rtype::A, &[address]).await?;
        up.contents_are_equal().await?;
        let now = up.status()?.zones[0].serial;
        ensure!(now != serial, "no version");
        serial = now;
    }
    // The child answers for names that its parent has as well.
    up.write("child.yaml", &(zone("c", "child.example.com") + &a("www", "c", "www", "192.0.2.99")))?;
    up.answers("www.child.example.com", Rtype::A, &["192.0.2.99"]).await?;
    up.write("file.yaml", &labyrinth("192.0.2.7", ""))?;
    up.answers("deep.below.nothing.example.com", Rtype::A, &["192.0.2.7"]).await?;
    up.contents_are_equal().await?;
    up.stop().await
}
