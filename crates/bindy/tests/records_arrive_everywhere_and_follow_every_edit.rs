//! All eight record types reach every server of two tiers, and every edit follows: by UDP, by TCP and by transfer.

mod common;

use anyhow::{Context, Result, ensure};
use bindy_testing::manifest::manifest;
use bindy_testing::{ProbeTarget, Prober, ProberConfig, Question};
use bindy_zone::{Name, OwnerName, Rtype, Version};
use common::{Up, a, instance, zone};

fn record(kind: &str, name: &str, spec: &str) -> String {
    manifest(
        kind,
        &format!("{}-{}", kind.to_lowercase(), name.trim_start_matches('_')),
        &format!("zoneRef: z, name: \"{name}\", {spec}"),
    )
}

fn all_types() -> String {
    [
        record("ARecord", "www", "ipv4Addresses: [192.0.2.1, 192.0.2.2]"),
        record("AAAARecord", "www", "ipv6Addresses: [\"2001:db8::1\"]"),
        record("CNAMERecord", "alias", "target: www"),
        record("MXRecord", "mail", "priority: 10, mailServer: mx.example.net."),
        record("TXTRecord", "txt", "text: [\"v=spf1 -all\", \"it's; {hostile} \\\" text\"]"),
        record("NSRecord", "sub", "nameserver: ns.example.net."),
        record("SRVRecord", "sip", "priority: 1, weight: 2, port: 5060, target: sip.example.net."),
        record("CAARecord", "caa", "flags: 0, tag: issue, value: ca.example.net"),
    ]
    .concat()
}

/// Two tiers that find each other without `upstreams`, and a zone without records.
async fn empty_zone(test: &str) -> Result<Up> {
    let mut up = Up::new(test)?;
    up.write(
        "instances.yaml",
        &(instance("primary", "primary", 2, &[]) + &instance("secondary", "secondary", 1, &[])),
    )?;
    up.write("zone.yaml", &zone("z", "example.com"))?;
    up.start()?;
    Ok(up)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_eight_types_are_served_as_they_were_written() -> Result<()> {
    let mut up = empty_zone("all-eight-types").await?;
    up.write("records.yaml", &all_types())?;
    up.settled().await?;
    up.contents_are_equal().await?;
    up.answers("www.example.com", Rtype::A, &["192.0.2.1", "192.0.2.2"]).await?;
    up.answers("www.example.com", Rtype::AAAA, &["2001:db8::1"]).await?;
    up.answers("alias.example.com", Rtype::CNAME, &["www.example.com."]).await?;
    up.answers("mail.example.com", Rtype::MX, &["10 mx.example.net."]).await?;
    up.answers("txt.example.com", Rtype::TXT, &["\"v=spf1 -all\" \"it's; {hostile} \\\" text\""]).await?;
    up.answers("sip.example.com", Rtype::SRV, &["1 2 5060 sip.example.net."]).await?;
    up.answers("caa.example.com", Rtype::CAA, &["0 issue \"ca.example.net\""]).await?;
    up.answers("nothing.example.com", Rtype::A, &["NXDOMAIN"]).await?;
    up.stop().await
}

/// Every state that the A records of a name go through, in order: the last octets of its addresses, or what else is
/// answered.
const STATES: [(&str, &[&str]); 3] = [
    ("one", &["1", "11", "NXDOMAIN"]),
    ("two", &["2", "2 11", "11", "2 3 11", "3 11", "3", "CNAME", "1", "NXDOMAIN"]),
    ("renamed", &["NXDOMAIN", "11", "NXDOMAIN", "2", "NXDOMAIN"]),
];

async fn probe_states(up: &mut Up) -> Result<Prober> {
    let servers = up.status()?.servers;
    let targets = servers.iter().map(|server| ProbeTarget {
        name: format!("{}/{}", server.instance, server.index),
        address: server.dns,
    });
    let questions = STATES.iter().map(|(name, _)| {
        Ok(Question { name: Name::parse(&format!("{name}.example.com"))?, rtype: Rtype::A })
    });
    let mut config = ProberConfig::new(targets.collect(), questions.collect::<Result<_>>()?);
    config.rate = 300;
    Prober::start(config).await
}

fn state(version: &Version, owner: &str) -> Result<String> {
    let Some(rrsets) = version.content.get(&OwnerName::parse(owner, version.content.apex())?) else {
        return Ok("NXDOMAIN".to_owned());
    };
    if rrsets.get(Rtype::CNAME).is_some() {
        return Ok("CNAME".to_owned());
    }
    let addresses = rrsets.get(Rtype::A).context("neither an address nor a CNAME")?;
    let mut octets: Vec<u8> = addresses.rdatas().filter_map(|rdata| rdata.last().copied()).collect();
    octets.sort_unstable();
    Ok(octets.iter().map(u8::to_string).collect::<Vec<_>>().join(" "))
}

/// What was published is what was wanted: no state of its own, none after a later one, and the last one at the end.
fn as_wanted(versions: &[Version]) -> Result<()> {
    for (owner, states) in STATES {
        let mut position = 0;
        for version in versions {
            let found = state(version, owner)?;
            let forward = states.iter().skip(position).position(|state| *state == found);
            position += forward.with_context(|| {
                format!("{owner} was published as {found} after {}", states.get(position).unwrap_or(&""))
            })?;
        }
        ensure!(position + 1 == states.len(), "{owner} ended as state {position}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edits_renames_swaps_and_deletes_follow_and_nothing_else_is_answered_in_between() -> Result<()> {
    let mut up = empty_zone("edits-follow").await?;
    up.write("one.yaml", &a("one", "z", "one", "192.0.2.1"))?;
    up.write("two.yaml", &a("two", "z", "two", "192.0.2.2"))?;
    up.settled().await?;
    up.answers("one.example.com", Rtype::A, &["192.0.2.1"]).await?;
    let prober = probe_states(&mut up).await?;
    // An edit.
    up.write("one.yaml", &a("one", "z", "one", "192.0.2.11"))?;
    up.answers("one.example.com", Rtype::A, &["192.0.2.11"]).await?;
    up.contents_are_equal().await?;
    // A rename.
    up.write("one.yaml", &a("one", "z", "renamed", "192.0.2.11"))?;
    up.answers("renamed.example.com", Rtype::A, &["192.0.2.11"]).await?;
    up.answers("one.example.com", Rtype::A, &["NXDOMAIN"]).await?;
    up.contents_are_equal().await?;
    // Two names are swapped, one after the other.
    up.write("one.yaml", &a("one", "z", "two", "192.0.2.11"))?;
    up.write("two.yaml", &a("two", "z", "renamed", "192.0.2.2"))?;
    up.answers("two.example.com", Rtype::A, &["192.0.2.11"]).await?;
    up.answers("renamed.example.com", Rtype::A, &["192.0.2.2"]).await?;
    up.contents_are_equal().await?;
    // Objects of one name and type are one RRset; deleting one leaves the other.
    up.write("two.yaml", &(a("two", "z", "two", "192.0.2.2") + &a("three", "z", "two", "192.0.2.3")))?;
    up.answers("two.example.com", Rtype::A, &["192.0.2.11", "192.0.2.2", "192.0.2.3"]).await?;
    up.write("two.yaml", &a("three", "z", "two", "192.0.2.3"))?;
    up.answers("two.example.com", Rtype::A, &["192.0.2.11", "192.0.2.3"]).await?;
    up.contents_are_equal().await?;
    // From A to CNAME and back.
    up.remove("two.yaml")?;
    up.write(
        "one.yaml",
        &manifest("CNAMERecord", "one", "zoneRef: z, name: two, target: host.example.net."),
    )?;
    up.answers("two.example.com", Rtype::CNAME, &["host.example.net."]).await?;
    up.write("one.yaml", &a("one", "z", "two", "192.0.2.1"))?;
    up.answers("two.example.com", Rtype::A, &["192.0.2.1"]).await?;
    up.contents_are_equal().await?;
    // Everything goes.
    up.remove("one.yaml")?;
    up.answers("two.example.com", Rtype::A, &["NXDOMAIN"]).await?;
    up.contents_are_equal().await?;
    let history = prober.stop().await?;
    up.versions_are_complete().await?;
    let versions = up.versions()?;
    let versions = versions.get(&Name::parse("example.com")?).context("nothing was published")?;
    // From the version on that the prober found.
    let first = versions.iter().position(|version| state(version, "two").is_ok_and(|state| state == "2"));
    as_wanted(versions.iter().as_slice().get(first.context("no first state")?..).unwrap_or_default())?;
    up.verify(&history)?;
    up.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn zone_files_merge_with_records_and_follow_their_config_map() -> Result<()> {
    let mut up = empty_zone("zone-files").await?;
    let file = |text: &str| {
        format!(
            "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: files, labels: {{bindy.firestoned.io/zone-file: \"true\"}}}}\ndata:\n  zone: |\n{}",
            text.lines().map(|line| format!("    {line}\n")).collect::<String>()
        )
    };
    up.write(
        "zone.yaml",
        &manifest(
            "DNSZone",
            "z",
            "zoneName: example.com, zoneFilesFrom: [{configMap: {name: files, key: zone}}]",
        ),
    )?;
    up.write(
        "file.yaml",
        &file("$TTL 300\nwww A 192.0.2.1\nunknown TYPE65400 \\# 3 010203\n*.wild TXT \"any\""),
    )?;
    up.write("records.yaml", &a("www", "z", "www", "192.0.2.2"))?;
    up.settled().await?;
    up.answers("www.example.com", Rtype::A, &["192.0.2.1", "192.0.2.2"]).await?;
    up.answers("unknown.example.com", Rtype::from_int(65400), &["\\# 3 010203"]).await?;
    up.answers("a.b.wild.example.com", Rtype::TXT, &["\"any\""]).await?;
    up.contents_are_equal().await?;
    up.write("file.yaml", &file("$TTL 300\nwww A 192.0.2.3\nother A 192.0.2.4"))?;
    up.answers("www.example.com", Rtype::A, &["192.0.2.2", "192.0.2.3"]).await?;
    up.answers("unknown.example.com", Rtype::from_int(65400), &["NXDOMAIN"]).await?;
    up.contents_are_equal().await?;
    up.stop().await
}
