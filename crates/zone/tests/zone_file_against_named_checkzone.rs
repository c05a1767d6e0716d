//! The zone-file reader against BIND's own: both accept a text or both reject it, and read the same records.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panicking, and so do their functions"
)]

use std::io::Write;
use std::process::{Command, Stdio};

use bindy_zone::{
    Content, Name, OwnerName, Rdata, Record, RrSets, Rtype, Serial, Soa, Ttl, Version, ZoneFile,
};
use proptest::prelude::*;

const DEFAULT_TTL: Ttl = Ttl::saturating(300);

fn apex() -> Name {
    Name::parse("example.com").unwrap()
}

/// The zone as named-checkzone writes it, or its complaint.
fn checkzone(text: &str) -> Result<String, String> {
    let mut child = Command::new("named-checkzone")
        .args(["-i", "none", "-k", "ignore", "-n", "ignore", "-r", "ignore", "-m", "ignore", "-M", "ignore"])
        .args(["-S", "ignore", "-D", "-s", "full", "-q", "-o", "-", "example.com", "/dev/stdin"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("named-checkzone is needed: apt-get install bind9-utils");
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let written = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        Ok(written)
    } else {
        Err(written + &String::from_utf8_lossy(&output.stderr))
    }
}

fn read(text: &str) -> Result<Version, String> {
    let file = ZoneFile::parse(text, &apex(), DEFAULT_TTL).map_err(|error| error.to_string())?;
    let (Some(soa), Some(serial)) = (file.soa, file.serial) else { return Err("no SOA".to_owned()) };
    let content = Content::from_records(apex(), soa, file.records).map_err(|error| error.to_string())?;
    Ok(Version { serial, content })
}

/// A whole zone around the records that a case is about.
fn zone(records: &str) -> String {
    format!("$TTL 1h\n@ IN SOA ns hostmaster 7 1h 10m 5w 5m\n@ NS ns\nns A 192.0.2.53\n{records}\n")
}

fn same_on_both(text: &str) {
    match (read(text), checkzone(text)) {
        (Ok(ours), Ok(theirs)) => {
            let theirs = read(&theirs).unwrap_or_else(|error| panic!("{error}\n{theirs}"));
            assert_eq!(ours.serial, theirs.serial, "{text}");
            let (left, right): (Vec<_>, Vec<_>) =
                (ours.content.records().collect(), theirs.content.records().collect());
            assert_eq!(left, right, "{text}");
            assert_eq!(ours.content, theirs.content, "{text}");
        }
        (Err(_), Err(_)) => {}
        (ours, theirs) => panic!("ours: {ours:?}\nnamed-checkzone: {theirs:?}\n{text}"),
    }
}

#[test]
fn both_accept_and_read_the_same() {
    let records = [
        "www A 192.0.2.1\n    A 192.0.2.2\n\tAAAA 2001:db8::1",
        "WWW a 192.0.2.1\nwww.EXAMPLE.com. A 192.0.2.1",
        "www 5 IN A 192.0.2.1\nftp IN 6 A 192.0.2.1\nweb 1d2h TYPE1 192.0.2.1",
        "www CLASS1 A 192.0.2.1",
        "www A ( 192.0.2.1 ) ; comment ) \"\n ; nothing\n\n   \t\nb A 192.0.2.2",
        "www (\n 60 ; ttl\n A\n 192.0.2.1\n)",
        "$ORIGIN sub\nwww A 192.0.2.1\n$ORIGIN deep.example.com.\n@ A 192.0.2.2\n$origin example.com.\nx CNAME @",
        "$TTL 5\na A 192.0.2.1\n$TTL 2w\nb A 192.0.2.1",
        "t TXT a \"b c\" \"d\\\"e\" f\\032g \\200\\255 \"\" \"semi;colon\" \"(paren\"",
        "t TXT \"a\"\"b\"",
        "t TXT \"a\" \"a\"\nt TXT \"a\" \"a\"",
        "*.w A 192.0.2.1\n*.w TXT wild",
        "a\\.b A 192.0.2.1\na\\046b A 192.0.2.2",
        "\\000x A 192.0.2.1\n\\001 A 192.0.2.2\n\\\\ A 192.0.2.3\n\\@ A 192.0.2.4\n\\$x A 192.0.2.5",
        "_sip._tcp SRV 1 2 5060 sip\nsip A 192.0.2.1",
        "@ MX 10 mail\n@ MX 0 .\nmail A 192.0.2.1",
        "@ CAA 0 issue \"ca.example; account=1\"\n@ CAA 128 iodef mailto:a@example.com",
        "x TYPE65280 \\# 4 0a00 0001\ny TYPE65280 \\# 0\nz TYPE1 \\# 4 0A000001\nw A \\# 4 0a000001",
        "x NAPTR 100 10 u E2U+sip !^.*$!sip:info@example.com! .",
        "x HINFO PC Unix\nx RP me.example.com. .\nx AFSDB 1 db\ndb A 192.0.2.1",
        "x SSHFP 4 2 123456789abcdef67890123456789abcdef67890123456789abcdef123456789",
        "_443._tcp TLSA 3 1 1 ( 0123456789abcdef0123456789abcdef\n 0123456789abcdef0123456789abcdef )",
        "x DS 60485 5 1 2BB183AF5F22588179A53B0A98631FAD1A292118\nx NS ns.x\nns.x A 192.0.2.1",
        "x HTTPS 1 . alpn=\"h2,h3\" ipv4hint=192.0.2.1,192.0.2.2 port=8443\nx SVCB 0 other",
        "x DNAME y.example.org.",
        "host A 192.0.2.1\r\n A 192.0.2.3\r\nother A 192.0.2.2\r\n",
        "last A 192.0.2.1",
        "a A 192.0.2.1 ;\\",
        "1 A 192.0.2.1\n10.sub PTR a\n2 3 A 192.0.2.1",
        "in A 192.0.2.1\nns2 IN A 192.0.2.1\na IN CNAME a.b.c",
    ];
    for records in records {
        let text = zone(records);
        same_on_both(&text);
        assert!(read(&text).is_ok(), "{:?}\n{text}", read(&text));
    }
    same_on_both("@ SOA ns h 1 2 3 4 5\n@ NS ns\nns A 192.0.2.1\na 7 A 192.0.2.1\nb A 192.0.2.2");
    same_on_both("@ 9 SOA ns h 4294967295 2 3 4 5\n@ NS ns\nns 3 A 192.0.2.1\nb A 192.0.2.2");
}

#[test]
fn both_reject() {
    let records = [
        "www A 192.0.2",
        "www A 192.0.2.1 192.0.2.2",
        "www A",
        "www",
        "www AAAA 192.0.2.1",
        "www MX mail",
        "www MX 65536 mail",
        "www NOTYPE x",
        "www TYPE65280 x",
        "www TYPE65280 \\# 3 ab",
        "www CH A 192.0.2.1",
        "www A (192.0.2.1",
        "www A 192.0.2.1 )",
        "www TXT \"open",
        "www TXT \"open\nclose\"",
        "t TXT \\256",
        "a..b A 192.0.2.1",
        ".a A 192.0.2.1",
        "www CNAME a..b",
        "$INCLUDE /etc/passwd",
        "$iNcLuDe /etc/passwd",
        "$NOTHING x",
        " $INCLUDE /etc/passwd",
        "$ORIGIN a..b",
        "$TTL",
        "$TTL x",
        "$TTL 1 2",
        "www 1x A 192.0.2.1",
        "www SOA ns h 1 2 3 4 5",
        "@ SOA other h 1 2 3 4 5",
        "www ANY x",
        "x DS 1 2",
        "x SRV 1 2 3",
        "x CAA 0 is!sue x",
    ];
    for records in records {
        let text = zone(records);
        let ours = read(&text);
        assert!(ours.is_err(), "{text}");
        // `$INCLUDE` of a file that is no zone fails there too, at its contents.
        assert!(checkzone(&text).is_err(), "{ours:?}\n{text}");
    }
    let long = format!("{} A 192.0.2.1", "a".repeat(64));
    let longer = format!("{} A 192.0.2.1", vec!["a".repeat(60); 4].join("."));
    let text = format!("t TXT {}", "x".repeat(256));
    for records in [long, longer, text] {
        same_on_both(&zone(&records));
        assert!(read(&zone(&records)).is_err(), "{records}");
    }
}

/// Where the readers differ on purpose: the text, whether ours accepts it, and why.
#[test]
fn known_differences() {
    let cases = [
        (
            "www.example.org. A 192.0.2.1",
            false,
            "BIND ignores records outside of the zone, with a warning only",
        ),
        ("$GENERATE 1-2 host$ A 192.0.2.$", false, "not supported, and says so"),
        ("\"www\" A 192.0.2.1", false, "quotes around a name are a mistake rather than a wish"),
        ("ü A 192.0.2.1", false, "BIND takes the octets of the encoding; an IDN is meant, in its xn-- form"),
        ("www 3000000000 A 192.0.2.1", false, "BIND turns a TTL over 2147483647 into 0"),
        (
            "x LOC 52 22 23.000 N 4 53 32.000 E -2.00m 0.00m 10000m 10m",
            false,
            "LOC has the generic form only",
        ),
        ("w CNAME a\nw A 192.0.2.1", true, "other sources of records join in: checked where they meet"),
        ("w CNAME a\nw CNAME b", true, "the same"),
    ];
    for (records, accepted, reason) in cases {
        let text = zone(records);
        assert_eq!(read(&text).is_ok(), accepted, "{reason}: {:?}", read(&text));
        assert_eq!(checkzone(&text).is_ok(), !accepted, "{reason}: {:?}", checkzone(&text));
    }
    // Without $TTL, SOA and an earlier TTL BIND gives up; the argument is the TTL here.
    let file = ZoneFile::parse("a A 192.0.2.1", &apex(), DEFAULT_TTL).unwrap();
    assert_eq!(file.records[0].ttl, DEFAULT_TTL);
    // Within one RRset BIND keeps the first TTL, here the lowest wins as it does between objects.
    let version = read(&zone("w 9 A 192.0.2.1\nw 5 A 192.0.2.2")).unwrap();
    let owner = OwnerName::parse("w", &apex()).unwrap();
    assert_eq!(version.content.get(&owner).unwrap().get(Rtype::A).unwrap().ttl(), Ttl::saturating(5));
}

fn label() -> impl Strategy<Value = String> {
    proptest::collection::vec(any::<u8>(), 1..6)
        .prop_map(|octets| octets.iter().map(|octet| format!("\\{octet:03}")).collect())
}

fn owner() -> impl Strategy<Value = OwnerName> {
    prop_oneof![
        "[a-z0-9_-]{1,8}(\\.[a-z]{1,3}){0,2}",
        label(),
        (label(), label()).prop_map(|(first, second)| format!("{first}.{second}")),
    ]
    .prop_map(|text| OwnerName::parse(&text, &apex()).unwrap())
}

fn rdata() -> impl Strategy<Value = (Rtype, Rdata)> {
    let target = || owner().prop_map(|owner| owner.in_zone(&apex()));
    prop_oneof![
        any::<[u8; 4]>().prop_map(|octets| (Rtype::A, Rdata::a(octets.into()))),
        any::<[u8; 16]>().prop_map(|octets| (Rtype::AAAA, Rdata::aaaa(octets.into()))),
        target().prop_map(|name| (Rtype::PTR, Rdata::name(&name))),
        (any::<u16>(), target()).prop_map(|(number, name)| (Rtype::MX, Rdata::mx(number, &name))),
        (any::<[u16; 3]>(), target()).prop_map(|([a, b, c], name)| (Rtype::SRV, Rdata::srv(a, b, c, &name))),
        proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 1..4).prop_map(|strings| {
            let strings: Vec<&[u8]> = strings.iter().map(Vec::as_slice).collect();
            (Rtype::TXT, Rdata::txt(&strings).unwrap())
        }),
        (any::<u8>(), "[a-z0-9]{1,15}", proptest::collection::vec(any::<u8>(), 0..50))
            .prop_map(|(flags, tag, value)| (Rtype::CAA, Rdata::caa(flags, &tag, &value).unwrap())),
        proptest::collection::vec(any::<u8>(), 0..20).prop_map(|octets| {
            let rtype = Rtype::from_int(65280);
            (rtype, Rdata::from_wire(rtype, &octets).unwrap())
        }),
    ]
}

fn version() -> impl Strategy<Value = Version> {
    let record = (owner(), 0u32..=i32::MAX as u32, rdata()).prop_map(|(owner, ttl, (rtype, rdata))| Record {
        owner,
        rtype,
        ttl: Ttl::saturating(ttl),
        rdata: rdata.as_wire().into(),
    });
    (proptest::collection::vec(record, 0..40), any::<u32>()).prop_map(|(records, serial)| {
        let ns = Name::parse("ns.example.org").unwrap();
        let soa = Soa {
            ttl: 60,
            primary: ns.clone(),
            mailbox: apex(),
            refresh: 3600,
            retry: 600,
            expire: 3_024_000,
            negative_ttl: 300,
        };
        let mut content = Content::from_records(apex(), soa, records).unwrap();
        content.set(OwnerName::apex(), RrSets::single(Rtype::NS, Ttl::saturating(60), &Rdata::name(&ns)));
        Version { serial: Serial::new(serial), content }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn what_is_written_is_read_by_both_as_it_was(version in version()) {
        let text = ZoneFile::display(&version).to_string();
        prop_assert_eq!(&read(&text).unwrap(), &version);
        let theirs = checkzone(&text).unwrap();
        prop_assert_eq!(&read(&theirs).unwrap(), &version, "{}\n{}", text, theirs);
    }
}

#[test]
fn catalogs_are_zones_that_named_accepts() {
    let members: Vec<Name> = (0..50).map(|n| Name::parse(&format!("zone{n}.example")).unwrap()).collect();
    let name = Name::parse("example.com").unwrap();
    let content = bindy_zone::Catalog::content(name, &members);
    let version = Version { serial: Serial::new(1), content };
    let theirs = checkzone(&ZoneFile::display(&version).to_string()).unwrap();
    assert_eq!(read(&theirs).unwrap(), version);
}
