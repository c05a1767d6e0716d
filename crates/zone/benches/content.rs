//! What zone content costs in memory and one change costs in time. One JSON object per line:
//! `cargo bench -p bindy-zone --bench content`.

#![allow(clippy::print_stdout, reason = "the lines are what a bench is for")]
#![allow(clippy::expect_used, reason = "a bench that cannot measure has to fail")]

use std::time::Instant;

use bindy_zone::{
    Content, Difference, History, Name, OwnerName, Rdata, RrSets, Rtype, Serial, Soa, Ttl, Version, ZoneFile,
};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const RECORDS: u32 = 1_000_000;
const TTL: Ttl = Ttl::saturating(300);

fn allocated() -> usize {
    tikv_jemalloc_ctl::epoch::advance().expect("jemalloc keeps statistics");
    tikv_jemalloc_ctl::stats::allocated::read().expect("jemalloc keeps statistics")
}

fn report(bench: &str, metric: &str, value: f64, unit: &str, n: u32) {
    println!(
        "{{\"bench\":\"{bench}\",\"metric\":\"{metric}\",\"value\":{value:.3},\"unit\":\"{unit}\",\"n\":{n}}}"
    );
}

fn name(text: &str) -> Name {
    Name::parse(text).expect("a name")
}

fn owner(number: u32, zone: &Name) -> OwnerName {
    OwnerName::parse(&format!("host-{number}"), zone).expect("an owner name")
}

fn address(number: u32) -> RrSets {
    RrSets::single(Rtype::A, TTL, &Rdata::a(number.into()))
}

fn zone(number: u32, records: u32) -> Content {
    let apex = name(&format!("zone-{number}.example"));
    let primary = name("ns.example");
    let soa = Soa {
        ttl: 300,
        mailbox: primary.clone(),
        primary,
        refresh: 3_600,
        retry: 600,
        expire: 3_024_000,
        negative_ttl: 300,
    };
    let mut content = Content::new(apex.clone(), soa);
    for host in 0..records {
        content.set(owner(host, &apex), address(host));
    }
    content
}

fn memory() {
    let (zones, before) = (1_000, allocated());
    let start = Instant::now();
    let contents: Vec<Content> = (0..zones).map(|number| zone(number, RECORDS / zones)).collect();
    let build = start.elapsed().as_secs_f64();
    let bytes = (allocated() - before) as f64 / f64::from(RECORDS);
    report("content", "bytes_per_record", bytes, "B", RECORDS);
    report("content", "build_1m_s", build, "s", RECORDS);
    drop(contents);
}

fn change() {
    let before = allocated();
    let content = zone(0, RECORDS);
    let bytes = (allocated() - before) as f64 / f64::from(RECORDS);
    report("content", "bytes_per_record_one_zone", bytes, "B", RECORDS);
    let apex = content.apex().clone();
    let mut history = History::new(Version { serial: Serial::new(0), content }, 1 << 20);
    let rounds = 20_000u32;
    let mut times: Vec<f64> = Vec::new();
    for round in 0..rounds {
        let host = round.wrapping_mul(2_654_435_761) % RECORDS;
        let (owner, address) = (owner(host, &apex), address(!round));
        let start = Instant::now();
        let mut content = history.current().content.clone();
        content.set(owner, address);
        let next = Version { serial: Serial::new(round + 1), content };
        let difference = Difference::between(history.current(), &next);
        history.push(next);
        times.push(start.elapsed().as_secs_f64() * 1e6);
        assert_eq!(difference.len(), 2, "one record replaced");
    }
    times.sort_by(f64::total_cmp);
    let at = |quantile: usize| times.get(times.len() * quantile / 100).copied().unwrap_or_default();
    report("content", "change_in_1m_p50_us", at(50), "us", rounds);
    report("content", "change_in_1m_p99_us", at(99), "us", rounds);
}

fn zone_file() {
    let records = RECORDS / 10;
    let version = Version { serial: Serial::new(1), content: zone(0, records) };
    let start = Instant::now();
    let text = ZoneFile::display(&version).to_string();
    report("zone_file", "write_100k_s", start.elapsed().as_secs_f64(), "s", records);
    let start = Instant::now();
    let file = ZoneFile::parse(&text, version.content.apex(), TTL).expect("what was written is read");
    report("zone_file", "read_100k_s", start.elapsed().as_secs_f64(), "s", records);
    assert_eq!(file.records.len(), records as usize);
}

fn main() {
    memory();
    change();
    zone_file();
}
