//! What the zone-file reader says about mistakes: all of them, where they are, and how to correct them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panicking, and so do their functions"
)]

use std::time::{Duration, Instant};

use bindy_zone::{Name, Ttl, ZoneFile, ZoneFileError, ZoneFileMistake};

fn read(text: &str) -> Result<ZoneFile, ZoneFileError> {
    ZoneFile::parse(text, &Name::parse("example.com").unwrap(), Ttl::saturating(300))
}

fn problems(text: &str) -> Vec<(usize, usize, String)> {
    let problems = read(text).unwrap_err().problems;
    problems.into_iter().map(|problem| (problem.line, problem.column, problem.mistake.to_string())).collect()
}

#[test]
fn every_mistake_is_reported_with_its_place() {
    let text =
        "a A 192.0.2.1\nb A 192.0.2\n  A 192.0.2.2 extra\nwww.example.org. A 192.0.2.1\n  A 1\nc CH TXT x\n";
    let found = problems(text);
    let places: Vec<(usize, usize)> = found.iter().map(|(line, column, _)| (*line, *column)).collect();
    assert_eq!(places, [(2, 5), (3, 15), (4, 1), (5, 5), (6, 3)], "{found:?}");
    assert!(found[2].2.contains("is outside of zone example.com."), "{found:?}");
    assert_eq!(found[4].2, "class CH is not supported: records are of class IN");
}

#[test]
fn neither_is_a_wildcard_delegated_nor_the_apex_an_alias() {
    let text = "ns A 192.0.2.1\n*.sub NS ns\n  A 192.0.2.2\n@ CNAME ns\n";
    let found = problems(text);
    let places: Vec<(usize, usize)> = found.iter().map(|(line, column, _)| (*line, *column)).collect();
    assert_eq!(places, [(2, 1), (4, 1)], "{found:?}");
    assert!(found[0].2.contains("at a wildcard") && found[1].2.contains("at the apex"), "{found:?}");
}

#[test]
fn an_empty_file_is_a_mistake() {
    for text in ["", "\n\n", "; nothing\n$TTL 1h\n", "@ SOA ns h 1 2 3 4 5"] {
        let error = read(text).unwrap_err();
        assert_eq!(error.problems[0].mistake, ZoneFileMistake::Empty, "{text}");
        assert!(error.to_string().contains("has no records"), "{error}");
    }
}

#[test]
fn no_file_is_ever_included() {
    for text in ["$INCLUDE /etc/passwd", "$include x", " $Include x", "\"$INCLUDE\" x", "$INCLUDE"] {
        assert_eq!(read(text).unwrap_err().problems[0].mistake, ZoneFileMistake::Include, "{text}");
    }
    assert_eq!(
        problems("$GENERATE 1-9 a$ A 192.0.2.$")[0].2,
        "$GENERATE is not supported: write the records out"
    );
}

#[test]
fn messages_and_their_number_are_bounded() {
    let text = format!("{}{} A x\n", "a A 1\n".repeat(1_000), "x".repeat(100_000));
    let error = read(&text).unwrap_err();
    assert_eq!((error.problems.len(), error.more), (20, 981));
    assert!(error.to_string().len() < 10_000);
    let long = read(&format!("{} A x\n", "x".repeat(100_000))).unwrap_err();
    assert!(long.to_string().len() < 1_000, "{}", long.to_string().len());
}

#[test]
fn time_grows_no_faster_than_the_text() {
    let inputs = [
        "(".repeat(2_000_000),
        "\"".repeat(2_000_000),
        "\\".repeat(2_000_000),
        "a ".repeat(1_000_000),
        format!("a TXT {}", "\"x\" ".repeat(500_000)),
        format!("a HTTPS 1 . {}", "key=\"x\" ".repeat(250_000)),
        "a A 192.0.2.1\n".repeat(100_000),
        "(\n".repeat(1_000_000),
        ")\n".repeat(1_000_000),
    ];
    for text in inputs {
        let start = Instant::now();
        let _ = read(&text);
        // Seconds in a debug build on a busy machine; anything quadratic would take hours.
        assert!(start.elapsed() < Duration::from_secs(30), "{:.20}: {:?}", text, start.elapsed());
    }
}

#[test]
fn serial_and_soa_are_read() {
    let file = read("@ 1h SOA ns host.master 2026010100 1h 15m 5w 300 ; serial\n@ NS ns").unwrap();
    let soa = file.soa.unwrap();
    assert_eq!(file.serial.unwrap().get(), 2_026_010_100);
    assert_eq!((soa.ttl, soa.refresh, soa.retry, soa.expire), (3600, 3600, 900, 3_024_000));
    assert_eq!(file.records[0].ttl.get(), 3600);
    let both = "@ 1 SOA ns h 1 2 3 4 5\n@ 1 SOA ns h 2 2 3 4 5\n@ NS ns";
    assert_eq!(read(both).unwrap_err().problems[0].mistake, ZoneFileMistake::SecondSoa);
}
