//! Any text: read without a panic, and what is accepted reads back from what the writer makes of it.
#![no_main]

use bindy_zone::{Content, Name, Serial, Soa, Ttl, Version, ZoneFile};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let apex = Name::parse("example.com").unwrap();
    let Ok(file) = ZoneFile::parse(text, &apex, Ttl::saturating(300)) else { return };
    let soa = file.soa.unwrap_or(Soa {
        ttl: 0,
        primary: apex.clone(),
        mailbox: apex.clone(),
        refresh: 1,
        retry: 1,
        expire: 1,
        negative_ttl: 1,
    });
    let Ok(content) = Content::from_records(apex.clone(), soa, file.records) else { return };
    let version = Version { serial: file.serial.unwrap_or(Serial::new(0)), content };
    let written = ZoneFile::display(&version).to_string();
    let again = ZoneFile::parse(&written, &apex, Ttl::saturating(1)).expect(&written);
    let content = Content::from_records(apex, again.soa.unwrap(), again.records).unwrap();
    assert_eq!(content, version.content, "{written}");
    assert_eq!(content.digest(), version.content.digest());
});
