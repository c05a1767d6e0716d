//! A catalog zone as this crate makes it, loaded by a real named: exactly its members become zones.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panicking, and so do their functions"
)]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bindy_zone::{Catalog, Name, Serial, Version, ZoneFile};

/// A port that is free for both transports.
fn free_port() -> u16 {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = tcp.local_addr().unwrap().port();
        if UdpSocket::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

struct Named(Child);

impl Drop for Named {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn named_adds_exactly_the_members() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().display();
    let name = Catalog::name("dns-system", "primary").unwrap();
    let zone = |number: u32| Name::parse(&format!("zone-{number}.example")).unwrap();
    let mut content = Catalog::content(name.clone(), &(0..40).map(zone).collect::<Vec<_>>());
    Catalog::insert(&mut content, &Name::parse("a\\.b.\\200.example").unwrap());
    for removed in 0..10 {
        assert!(Catalog::remove(&mut content, &zone(removed)));
    }
    let members: BTreeSet<Name> = Catalog::members(&content).collect();
    assert_eq!(members.len(), 31);
    let version = Version { serial: Serial::new(1), content };
    std::fs::write(directory.path().join("catalog.zone"), ZoneFile::display(&version).to_string()).unwrap();
    let (port, nobody) = (free_port(), free_port());
    let configuration = format!(
        "options {{ directory \"{folder}\"; pid-file none; listen-on port {port} {{ 127.0.0.1; }};\n\
         listen-on-v6 {{ none; }}; recursion no; notify no; session-keyfile none; dnssec-validation no;\n\
         catalog-zones {{ zone \"{name}\" default-primaries {{ 127.0.0.1 port {nobody}; }} in-memory yes \
         min-update-interval 0; }}; }};\n\
         controls {{ }};\n\
         zone \"{name}\" {{ type primary; file \"catalog.zone\"; }};\n"
    );
    let file = directory.path().join("named.conf");
    std::fs::write(&file, configuration).unwrap();
    let mut child = Command::new("named")
        .arg("-g")
        .arg("-c")
        .arg(&file)
        .stderr(Stdio::piped())
        .spawn()
        .expect("named is needed: apt-get install bind9");
    let log = BufReader::new(child.stderr.take().unwrap());
    let named = Named(child);
    let (lines, received) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        for line in log.lines().map_while(Result::ok) {
            if lines.send(line).is_err() {
                break;
            }
        }
    });
    let (mut added, mut seen) = (BTreeSet::new(), Vec::new());
    let deadline = Instant::now() + Duration::from_secs(20);
    while added.len() < members.len() {
        let wait = deadline.saturating_duration_since(Instant::now());
        let line = received
            .recv_timeout(wait)
            .unwrap_or_else(|error| panic!("{error}: {} members so far\n{}", added.len(), seen.join("\n")));
        if let Some((_, rest)) = line.split_once("catz: adding zone '") {
            let (member, outcome) = rest.split_once("' from catalog").unwrap();
            assert!(outcome.ends_with("success"), "{line}");
            added.insert(Name::parse(member).unwrap());
        }
        seen.push(line);
    }
    assert_eq!(added, members);
    assert!(!seen.iter().any(|line| line.contains("catz: invalid")), "{}", seen.join("\n"));
    drop(named);
    reader.join().unwrap();
}
