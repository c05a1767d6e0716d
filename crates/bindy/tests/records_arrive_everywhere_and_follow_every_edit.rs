//! All eight record types reach every server of two tiers, and every edit follows: by UDP, by TCP and by transfer.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    dead_code,
    reason = "a test fails by panicking, and shares its harness with its neighbours"
)]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bindy_testing::dns::Transport;
use bindy_testing::history::{Observation, Outcome};
use bindy_testing::{History, ProbeTarget, Prober, ProberConfig, Question};
use bindy_zone::{Name, Rtype};
use common::{Up, a, instance, manifest, zone};

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

async fn two_tiers(test: &str) -> Result<Up> {
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
    let mut up = two_tiers("all-eight-types").await?;
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

#[test]
fn a_step_back_and_a_state_of_its_own_are_noticed() {
    let observation = |sent: u64, last: u8| {
        let question = Question { name: Name::parse("one.example.com").unwrap(), rtype: Rtype::A };
        let records = [(Rtype::A, 3600, vec![192, 0, 2, last])].into();
        Observation {
            sent: Duration::from_millis(sent),
            ended: Duration::from_millis(sent),
            server: "a".into(),
            transport: Transport::Udp,
            question: Arc::new(question),
            outcome: Arc::new(Outcome::Answer { rcode: bindy_wire::Rcode::NOERROR, records, serial: None }),
        }
    };
    let fault = |observations: Vec<Observation>| {
        only_forward(&History { observations, ..History::default() }).unwrap_err().to_string()
    };
    assert!(
        fault(vec![observation(1, 11), observation(2, 1)])
            .contains("answered 1 for one.example.com. after 11")
    );
    assert!(fault(vec![observation(1, 1), observation(2, 7)]).contains("answered 7"));
    assert!(fault(vec![observation(1, 1)]).contains("ended with 1"));
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

fn state(outcome: &Outcome) -> String {
    let Outcome::Answer { rcode, records, .. } = outcome else { return "no answer".to_owned() };
    if records.iter().any(|(rtype, ..)| *rtype == Rtype::CNAME) {
        return "CNAME".to_owned();
    }
    if records.is_empty() {
        return rcode.to_string();
    }
    let mut octets: Vec<u8> = records.iter().filter_map(|(_, _, rdata)| rdata.last().copied()).collect();
    octets.sort_unstable();
    octets.iter().map(u8::to_string).collect::<Vec<_>>().join(" ")
}

/// No server ever answered anything but the states of a name, and none went back to an earlier one.
fn only_forward(history: &History) -> Result<()> {
    let mut at: BTreeMap<(Arc<str>, Name), usize> = BTreeMap::new();
    let mut observations: Vec<_> = history.observations.iter().collect();
    observations.sort_by_key(|observation| observation.sent);
    for observation in observations {
        let name = observation.question.name.clone();
        let known = STATES.iter().find(|(owner, _)| name.to_string() == format!("{owner}.example.com."));
        let (_, states) = known.context("a name that was not asked for")?;
        let position = at.entry((observation.server.clone(), name.clone())).or_default();
        let found = state(&observation.outcome);
        let forward = states.iter().skip(*position).position(|state| *state == found);
        let steps = forward.with_context(|| {
            format!("{} answered {found} for {name} after {}", observation.server, states[*position])
        })?;
        *position += steps;
    }
    for ((server, name), position) in &at {
        let (_, states) =
            STATES.iter().find(|(owner, _)| name.to_string() == format!("{owner}.example.com.")).unwrap();
        ensure!(position + 1 == states.len(), "{server} ended with {} for {name}", states[*position]);
    }
    ensure!(at.len() == STATES.len() * 3, "{} servers and names were asked", at.len());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edits_renames_swaps_and_deletes_follow_and_nothing_else_is_answered_in_between() -> Result<()> {
    let mut up = two_tiers("edits-follow").await?;
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
    only_forward(&prober.stop().await?)?;
    up.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn zone_files_merge_with_records_and_follow_their_config_map() -> Result<()> {
    let mut up = two_tiers("zone-files").await?;
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
