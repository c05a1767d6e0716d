//! Records that come, change and go at random, valid and not, with hostile strings wherever a string may be: what is not told to
//! be wrong is served by every server exactly as it was written, and of what is wrong nothing new is. Nothing else suffers.

mod common;

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use bindy_local::status::{Severity, Status};
use bindy_testing::manifest::manifest;
use bindy_testing::wait_for;
use bindy_zone::{Name, OwnerName, Record, Rtype};
use common::faults::{STEADY, STEADY_ADDRESS};
use common::{LIMIT, Up, a};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

const BATCHES: u32 = 100;
/// Changes in each, small enough for no guard against removals.
const CHANGES: usize = 10;
const OBJECTS: usize = 48;
const KINDS: [(&str, Rtype); 8] = [
    ("ARecord", Rtype::A),
    ("AAAARecord", Rtype::AAAA),
    ("CNAMERecord", Rtype::CNAME),
    ("MXRecord", Rtype::MX),
    ("TXTRecord", Rtype::TXT),
    ("NSRecord", Rtype::NS),
    ("SRVRecord", Rtype::SRV),
    ("CAARecord", Rtype::CAA),
];
/// Of which each is a name within the zone, if its record is accepted.
const PLAIN: [&str; 10] = ["@", "a", "b", "c", "d", "*.w", "x.w", "deep.a", "_sip._tcp", "ns.sub"];
const HOSTILE: [&str; 20] = [
    "",
    ".",
    "..",
    "a..b",
    "a b",
    "a;b",
    "x}; zone \"evil\" {",
    "\"quoted\"",
    "\\",
    "\\046",
    "\\999",
    "line\nbreak",
    "tab\t",
    "$INCLUDE /etc/passwd",
    "*",
    "*.*",
    "www.example.org.",
    "m\u{fc}nchen",
    "\u{1f600}",
    "nul\u{0}",
];

/// A record as it was written last.
struct Written {
    manifest: String,
    kind: &'static str,
    rtype: Rtype,
    /// Its name, where it is one of the plain ones.
    owner: Option<String>,
    /// Octets that no other data of that type have.
    mark: Vec<u8>,
    /// The data of a TXT record, in all.
    whole: Option<Vec<u8>>,
}

impl Written {
    /// Writes object `number` with data that nothing had before.
    fn random(number: usize, change: u32, random: &mut StdRng) -> Result<Self> {
        let (kind, rtype) = *KINDS.get(number % KINDS.len()).context("no kind")?;
        let text = |text: &str| serde_json::Value::from(text).to_string();
        let hostile = |random: &mut StdRng| -> String {
            match random.random_range(0..22) {
                20 => "l".repeat(64),
                21 => "long.".repeat(52),
                at => HOSTILE.get(at).copied().unwrap_or_default().to_owned(),
            }
        };
        let owner = random.random_bool(0.8).then(|| (*PLAIN.choose(random).unwrap_or(&"@")).to_owned());
        let name = owner.clone().unwrap_or_else(|| hostile(random));
        let ttl = match random.random_range(0..12) {
            0 => "ttl: -1, ",
            1 => "ttl: 2147483648, ",
            2 => "ttl: soon, ",
            3 => "ttl: 300, ",
            _ => "",
        };
        let spoil = random.random_bool(0.15).then(|| hostile(random));
        let unique = format!("m{change}x");
        let target = match &spoil {
            Some(hostile) => text(&format!("{unique}{hostile}")),
            None => text(&format!("{unique}.example.net.")),
        };
        let mut mark = unique.clone().into_bytes();
        let mut whole = None;
        let data = match rtype {
            Rtype::A | Rtype::AAAA => {
                let [_, b, c, d] = change.to_be_bytes();
                let good = if rtype == Rtype::A {
                    format!("10.{b}.{c}.{d}")
                } else {
                    format!("2001:db8::{change:x}")
                };
                mark = match good.parse::<std::net::IpAddr>() {
                    Ok(std::net::IpAddr::V4(address)) => address.octets().to_vec(),
                    Ok(std::net::IpAddr::V6(address)) => address.octets().to_vec(),
                    Err(_) => Vec::new(),
                };
                let address = spoil.map_or(good.clone(), |hostile| format!("{good}{hostile}"));
                format!(
                    "{}: [{}]",
                    if rtype == Rtype::A { "ipv4Addresses" } else { "ipv6Addresses" },
                    text(&address)
                )
            }
            Rtype::MX => format!("priority: {}, mailServer: {target}", random.random_range(-1..70_000)),
            Rtype::TXT => {
                let strings = [unique, hostile(random)];
                // What is longer than a character-string is several.
                let octets = strings.iter().flat_map(|one| match one.as_bytes() {
                    [] => vec![0],
                    bytes => bytes.chunks(255).flat_map(character_string).collect(),
                });
                whole = Some(octets.collect());
                format!("text: [{}, {}]", text(&strings[0]), text(&strings[1]))
            }
            Rtype::NS => format!("nameserver: {target}"),
            Rtype::SRV => {
                format!("priority: 1, weight: 2, port: {}, target: {target}", random.random_range(0..70_000))
            }
            Rtype::CAA => {
                let tag = if random.random_bool(0.2) { hostile(random) } else { "issue".to_owned() };
                format!("flags: 0, tag: {}, value: {target}", text(&tag))
            }
            _ => format!("target: {target}"),
        };
        let spec = format!("zoneRef: z, {ttl}name: {}, {data}", text(&name));
        let manifest = manifest(kind, &format!("object-{number}"), &spec);
        Ok(Self { manifest, kind, rtype, owner, mark, whole })
    }

    /// The records of a zone that have its data.
    fn found<'a>(&self, records: &'a [Record]) -> Vec<&'a Record> {
        let has = |one: &&Record| one.rdata.windows(self.mark.len()).any(|part| part == self.mark);
        records.iter().filter(|one| one.rtype == self.rtype).filter(has).collect()
    }

    fn check(&self, records: &[Record], refused: bool, apex: &Name) -> Result<()> {
        let found = self.found(records);
        if refused {
            ensure!(found.is_empty(), "it is told to be wrong, and served: {found:?}");
            return Ok(());
        }
        let [one] = found.as_slice() else { anyhow::bail!("nothing is said, and it is served as {found:?}") };
        if let Some(owner) = &self.owner {
            ensure!(one.owner == OwnerName::parse(owner, apex)?, "it is served as {one:?}");
        }
        ensure!(self.whole.as_ref().is_none_or(|whole| *one.rdata == **whole), "it is served as {one:?}");
        Ok(())
    }
}

/// With its length in front (RFC 1035 section 3.3).
fn character_string(octets: &[u8]) -> impl Iterator<Item = u8> {
    u8::try_from(octets.len()).into_iter().chain(octets.iter().copied())
}

/// Compares every server with what was written and told.
async fn compare(up: &mut Up, objects: &BTreeMap<usize, Written>) -> Result<()> {
    let status = up.settled().await?;
    let apex = Name::parse("example.com")?;
    for server in &status.servers {
        let records: Vec<Record> = up.transfer(server, &apex).await?.content.records().collect();
        for (number, written) in objects {
            let object = format!("{} default/object-{number}", written.kind);
            let checked = written.check(&records, is_refused(&status, &object), &apex);
            checked.with_context(|| format!("{}/{}: {}", server.instance, server.index, written.manifest))?;
        }
    }
    Ok(())
}

fn is_refused(status: &Status, object: &str) -> bool {
    let of_it = |one: &&bindy_local::status::Problem| one.object.as_deref() == Some(object);
    status.problems.iter().filter(of_it).any(|one| one.severity == Severity::Error)
}

async fn walk(seed: u64) -> Result<()> {
    let mut up = Up::two_tiers(&format!("random-objects-{seed}"), "").await?;
    let before: Vec<_> = up.status()?.servers.iter().map(|server| server.named_pid).collect();
    let mut random = StdRng::seed_from_u64(seed);
    let mut objects = BTreeMap::new();
    let mut change = 0;
    for batch in 0..BATCHES {
        for _ in 0..CHANGES {
            change += 1;
            let number = random.random_range(0..OBJECTS);
            if random.random_bool(0.2) {
                objects.remove(&number);
            } else {
                objects.insert(number, Written::random(number, change, &mut random)?);
            }
        }
        let seen = format!("192.0.2.{}", batch + 1);
        let texts: String = objects.values().map(|one| one.manifest.as_str()).collect();
        up.write("objects.yaml", &(texts + &a("batch", "z", "batch", &seen)))?;
        up.answers("batch.example.com", Rtype::A, &[&seen]).await?;
        // What is told follows a few milliseconds after what is served.
        let what = format!("what is served and told to agree, seed {seed}, batch {batch}");
        wait_for(&what, LIMIT, async || compare(&mut up, &objects).await).await?;
    }
    up.answers(&format!("{STEADY}.example.com"), Rtype::A, &[STEADY_ADDRESS]).await?;
    let after: Vec<_> = up.status()?.servers.iter().map(|server| server.named_pid).collect();
    ensure!(before == after, "servers were restarted");
    up.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_changes_at_random_are_served_exactly_or_refused() -> Result<()> {
    walk(bindy_testing::given_seed().unwrap_or(1)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: twenty walks"]
async fn many_changes_at_random_are_served_exactly_or_refused() -> Result<()> {
    for seed in 2..22 {
        walk(seed).await?;
    }
    Ok(())
}
