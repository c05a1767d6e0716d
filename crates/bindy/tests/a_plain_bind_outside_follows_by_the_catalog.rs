//! A BIND that knows nothing of Bindy follows an instance with what it is given: the key, the catalog, the zones in it.

mod common;

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use bindy_testing::dns::{self, Transport};
use bindy_testing::manifest::manifest;
use bindy_testing::{Key, Named, Scratch, wait_for};
use bindy_wire::Rcode;
use bindy_zone::{Name, Rtype};
use common::faults::{STEADY, STEADY_ADDRESS};
use common::{LIMIT, Up, a, instance, testing, zone};

const CATALOG: &str = "secondary.default.catalog.bindy";

fn primary() -> String {
    instance("primary", "primary", 2, &[])
        .replace("{name: primary}", "{name: primary, labels: {tier: first}}")
}

/// Two primaries and two secondaries, which a server called `vm` may follow.
async fn fleet(test: &str) -> Result<Up> {
    let mut up = Up::new(test)?;
    let secondary = "role: secondary, replicas: 2, upstreams: [{name: primary}], downstreams: [{name: vm}]";
    up.write("instances.yaml", &(primary() + &manifest("Bind9Instance", "secondary", secondary)))?;
    // Of the primary alone.
    let selector = "bind9InstancesFrom: [{selector: {matchLabels: {tier: first}}}]";
    let elsewhere = manifest("DNSZone", "elsewhere", &format!("zoneName: elsewhere.example, {selector}"));
    up.write("zones.yaml", &(zone("z", "example.com") + &zone("other", "example.net")))?;
    up.write("elsewhere.yaml", &elsewhere)?;
    up.write("steady.yaml", &a("steady", "z", STEADY, STEADY_ADDRESS))?;
    up.write("www.yaml", &a("www", "z", "www", "192.0.2.1"))?;
    up.start()?;
    up.until("the servers", |status| {
        ensure!(status.servers.len() == 4 && status.servers.iter().all(|server| server.ready), "not yet");
        ensure!(status.zones.iter().all(|zone| zone.serial.is_some()), "not yet served");
        Ok(())
    })
    .await?;
    Ok(up)
}

fn handout(up: &Up, file: &str) -> PathBuf {
    up.state().join("downstreams/default.secondary.vm").join(file)
}

/// Where the instance is to be reached from outside.
fn primaries(up: &mut Up) -> Result<Vec<SocketAddr>> {
    let servers = up.servers_of("default/secondary")?;
    ensure!(servers.len() == 2, "{} servers", servers.len());
    Ok(servers.iter().map(|server| server.transfer).collect())
}

/// The key that was handed out.
fn key(up: &Up) -> Result<Key> {
    let text = std::fs::read_to_string(handout(up, "named.conf"))?;
    let quoted = |after: &str| {
        let rest = text.split_once(after).map(|(_, rest)| rest)?;
        rest.split('"').nth(1).map(str::to_owned)
    };
    let name = Name::parse(&quoted("\nkey ").context("a key's name")?)?;
    let file = format!("{name} {}", quoted("secret ").context("a secret")?);
    Ok(testing(&file.parse()?))
}

/// A plain BIND that includes the two files; members are refreshed by their SOA, shortened as the how-to says.
async fn outside(up: &mut Up, scratch: &Scratch) -> Result<Named> {
    let list: Vec<String> = primaries(up)?
        .iter()
        .map(|at| Ok(format!("{} port {} key \"{}\";", at.ip(), at.port(), key(up)?.name)))
        .collect::<Result<_>>()?;
    let (named_conf, options) = (handout(up, "named.conf"), handout(up, "options.conf"));
    Named::with_text(scratch, "outside", |place| {
        format!(
            "include \"{}\";\nprimaries \"bindy-default-secondary\" {{ {} }};\n\
             options {{\n  directory \"{}\"; listen-on port {} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};\n  \
             pid-file none; session-keyfile none; recursion no; dnssec-validation no; allow-transfer {{ none; }};\n  \
             min-refresh-time 1; max-refresh-time 2;\n  include \"{}\";\n}};\ncontrols {{ }};\n",
            named_conf.display(),
            list.join(" "),
            place.directory.display(),
            place.dns.number(),
            options.display(),
        )
    })
    .await
}

async fn refused(at: SocketAddr, zone: &str, key: &Key, reason: &str) -> Result<()> {
    let transferred = dns::transfer(at, &Name::parse(zone)?, Some(key)).await;
    let error = transferred.err().with_context(|| format!("{zone} is given at {at} to {}", key.name))?;
    ensure!(format!("{error:#}").to_uppercase().contains(reason), "{zone} at {at}: {error:#}, not {reason}");
    Ok(())
}

async fn unknown(outside: &Named, zone: &str) -> Result<()> {
    wait_for(&format!("{zone} to be gone"), LIMIT, async || {
        let answer = dns::ask(outside.address(), Transport::Udp, &Name::parse(zone)?, Rtype::SOA).await?;
        ensure!(answer.rcode == Rcode::REFUSED, "{}", answer.rcode);
        anyhow::Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn zones_edits_and_removals_arrive_at_a_plain_bind() -> Result<()> {
    let mut up = fleet("outside-follows").await?;
    let mode = std::fs::metadata(handout(&up, "named.conf"))?.permissions().mode();
    ensure!(mode & 0o777 == 0o600, "mode {mode:o}");
    let scratch = Scratch::new("outside-follows-bind")?;
    let outside = outside(&mut up, &scratch).await?;
    let at = outside.address();
    dns::answers_at(at, "www.example.com", Rtype::A, &["192.0.2.1"], LIMIT).await?;
    dns::answers_at(at, &format!("{STEADY}.example.com"), Rtype::A, &[STEADY_ADDRESS], LIMIT).await?;
    // An edit; a zone more; a zone less.
    up.write("www.yaml", &a("www", "z", "www", "192.0.2.2"))?;
    dns::answers_at(at, "www.example.com", Rtype::A, &["192.0.2.2"], LIMIT).await?;
    up.write("third.yaml", &(zone("third", "example.org") + &a("third", "third", "www", "192.0.2.3")))?;
    dns::answers_at(at, "www.example.org", Rtype::A, &["192.0.2.3"], LIMIT).await?;
    up.remove("third.yaml")?;
    unknown(&outside, "example.org").await?;
    // It has the instance's catalog and members, and never heard of other instances or zones.
    unknown(&outside, "primary.default.catalog.bindy").await?;
    unknown(&outside, "elsewhere.example").await?;
    let log = outside.log();
    ensure!(!log.contains("primary.default.catalog"), "{log}");
    ensure!(log.contains("Transfer status: success"), "{log}");
    up.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_was_handed_out_opens_the_catalog_and_its_members_until_it_is_taken_back() -> Result<()> {
    let mut up = fleet("outside-key").await?;
    let key = key(&up)?;
    let at = primaries(&mut up)?[0];
    for zone in [CATALOG, "example.com", "example.net"] {
        dns::transfer(at, &Name::parse(zone)?, Some(&key)).await.with_context(|| zone.to_owned())?;
    }
    let catalog = dns::transfer(at, &Name::parse(CATALOG)?, Some(&key)).await?;
    let members: Vec<String> =
        bindy_zone::Catalog::members(&catalog.content).map(|name| name.to_string()).collect();
    ensure!(members.len() == 2, "{members:?}");
    for zone in ["primary.default.catalog.bindy", "elsewhere.example"] {
        refused(at, zone, &key, "REFUSED").await?;
    }
    let hidden = up.status()?.hidden_primary.context("no hidden primary")?;
    refused(hidden, "example.com", &key, "BADKEY").await?;
    let elsewhere = up.servers_of("default/primary")?[0].transfer;
    refused(elsewhere, "example.com", &key, "BADKEY").await?;
    let mut forged = key.clone();
    forged.secret[0] ^= 1;
    // Nobody has given a key to this one, although whoever has the instance's key can derive it.
    let server = up.server("default/secondary", 0)?;
    let unlisted = testing(&up.key(&server)?.derive_outside("other")?);
    for (wrong, reason) in [(&forged, "BADSIG"), (&unlisted, "BADKEY")] {
        for zone in [CATALOG, "example.com"] {
            refused(at, zone, wrong, reason).await?;
        }
    }
    let plain = primary() + &instance("secondary", "secondary", 2, &["primary"]);
    up.write("instances.yaml", &plain)?;
    wait_for("the key to be of no use any more", LIMIT, async || {
        ensure!(!handout(&up, "named.conf").exists(), "its file is still there");
        refused(at, CATALOG, &key, "BADKEY").await?;
        refused(at, "example.com", &key, "BADKEY").await
    })
    .await?;
    up.stop().await
}
