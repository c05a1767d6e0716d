//! What BIND's own reader makes of the configuration.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};

use bindy_model::named_conf::{
    AclElement, DownstreamSettings, Listen, LogLevel, NamedSettings, Paths, RateLimit, Statement, Text,
    Wishes, downstream_config, downstream_options, instance_config, key_statement,
};
use bindy_zone::Name;

fn text(path: &Path) -> Text {
    Text::new(path.to_str().unwrap()).unwrap()
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn elements(texts: &[&str]) -> Vec<AclElement> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn settings(directory: &Path) -> NamedSettings {
    NamedSettings {
        paths: Paths {
            directory: text(directory),
            pid_file: text(&directory.join("named.pid")),
            key_file: text(&directory.join("agent.key")),
        },
        listen: Listen::On(vec![address("127.0.0.1:5301")]),
        control: address("127.0.0.1:5302"),
        relay: address("127.0.0.1:5303"),
        catalog: Name::parse("dns.prod.catalog.bindy.").unwrap(),
        local_key: Name::parse("bindy-agent").unwrap(),
        wishes: Wishes::default(),
        lmdb_mapsize_mib: None,
        server_id: None,
    }
}

fn checkconf(directory: &Path, config: &str) -> Output {
    let file = directory.join("named.conf");
    std::fs::write(&file, config).unwrap();
    Command::new("named-checkconf").arg("-p").arg(&file).output().unwrap()
}

fn accepted(settings: &NamedSettings, directory: &Path) -> String {
    let key = key_statement(&settings.local_key, &Text::new("c2VjcmV0").unwrap());
    std::fs::write(directory.join("agent.key"), key).unwrap();
    let output = checkconf(directory, &instance_config(settings));
    let told =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{told}");
    assert!(output.stderr.is_empty(), "{told}");
    told
}

#[test]
fn named_accepts_the_smallest_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let printed = accepted(&settings(directory.path()), directory.path());
    assert!(printed.contains("allow-transfer"), "{printed}");
}

#[test]
fn named_accepts_every_setting() {
    let directory = tempfile::tempdir().unwrap();
    let settings = NamedSettings {
        listen: Listen::On(vec![address("0.0.0.0:53"), address("[::]:53"), address("127.0.0.1:5353")]),
        wishes: Wishes {
            allow_query: elements(&[
                "localhost",
                "localnets",
                "!192.0.2.1",
                "192.0.2.0/24",
                "2001:db8::/32",
                "none",
            ]),
            allow_transfer: elements(&[
                "!198.51.100.7",
                "198.51.100.0/24",
                "!localnets",
                "localhost",
                "!any",
            ]),
            rate_limit: Some(RateLimit { responses_per_second: 10, window: 15, slip: 2 }),
            log: LogLevel::Debug,
        },
        lmdb_mapsize_mib: Some(1024),
        server_id: Some(Text::new("default/dns/0").unwrap()),
        ..settings(directory.path())
    };
    let printed = accepted(&settings, directory.path());
    for wanted in [
        "responses-per-second 10",
        "exempt-clients",
        "2001:db8::/32",
        "lmdb-mapsize 1073741824",
        "server-id \"default/dns/0\"",
        "!192.0.2.1/32",
        "198.51.100.0/24",
        "severity debug 3",
    ] {
        assert!(printed.contains(wanted), "{wanted} is not in\n{printed}");
    }
}

#[test]
fn the_configuration_is_this_text() {
    insta::assert_snapshot!(instance_config(&settings(Path::new("/var/lib/bindy"))));
}

#[test]
fn who_may_transfer_gets_zones_and_not_the_catalog() {
    let wishes = Wishes { allow_transfer: elements(&["!192.0.2.7", "192.0.2.0/24"]), ..Wishes::default() };
    let plain = settings(Path::new("/var/lib/bindy"));
    let text = instance_config(&NamedSettings { wishes, ..plain.clone() });
    let lists = |text: &str| -> Vec<String> {
        let lists = text.split("allow-transfer {").skip(1);
        lists
            .map(|rest| rest.split_once('}').unwrap().0.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect()
    };
    let agent = "key \"bindy-agent.\";";
    assert_eq!(lists(&text), [&format!("{agent} ! 192.0.2.7/32; 192.0.2.0/24;"), agent]);
    assert_eq!(lists(&instance_config(&plain)), [agent, agent]);
}

#[test]
fn the_log_is_of_the_level_that_is_asked_for() {
    for (log, severity) in [
        (LogLevel::Warning, "severity warning;"),
        (LogLevel::Info, "severity info;"),
        (LogLevel::Debug, "severity debug 3;"),
    ] {
        let wishes = Wishes { log, ..Wishes::default() };
        let text = instance_config(&NamedSettings { wishes, ..settings(Path::new("/var/lib/bindy")) });
        assert!(text.contains(severity), "{text}");
    }
}

#[test]
fn hostile_strings_stay_one_string_or_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let hostile = [
        "a; recursion yes",
        "a}; options { recursion yes; };",
        "a\n$INCLUDE /etc/passwd",
        "a\"; recursion yes; //",
        "a\\",
        "a\\\"b",
        "$INCLUDE /etc/passwd",
        "// a",
        "/* a",
        "# a",
        "a\u{0}b",
        "a\u{7f}b",
        "a\rb",
        "ü",
    ];
    for string in hostile {
        let Ok(quoted) = Text::new(string) else {
            assert!(string.contains(['"', '\\', '\n', '\r', '\0', '\u{7f}']), "{string:?} was refused");
            continue;
        };
        let options = Statement::new("options").block([Statement::new("bindkeys-file").text(&quoted)]);
        let output = checkconf(directory.path(), &options.to_string());
        let printed = String::from_utf8_lossy(&output.stdout);
        assert_eq!(printed, format!("options {{\n\tbindkeys-file \"{string}\";\n}};\n"), "{string:?}");
    }
}

#[test]
fn hostile_names_stay_names() {
    let directory = tempfile::tempdir().unwrap();
    for name in [
        "a\\;b.example",
        "a\\\"\\;\\}b.example",
        "a\\010b.example",
        "a\\\\.example",
        "\\$INCLUDE.example",
        "x\\{y",
    ] {
        let name = Name::parse(name).unwrap();
        let zone = Statement::new("zone").name(&name).block([
            Statement::new("type").word("secondary"),
            Statement::new("primaries").block([Statement::default().address([127, 0, 0, 1].into())]),
        ]);
        let output = checkconf(directory.path(), &zone.to_string());
        let printed = String::from_utf8_lossy(&output.stdout);
        let first = printed.lines().next().unwrap_or_default();
        let read = first.strip_prefix("zone \"").and_then(|rest| rest.strip_suffix("\" {")).unwrap_or(first);
        assert_eq!(Name::parse(read).as_ref(), Ok(&name), "{printed}");
        assert_eq!(printed.matches(';').count(), 4, "{printed}");
    }
}

/// The configuration of a BIND outside that includes both files, and says at which addresses the instance is.
fn outside(namespace: &str, instance: &str, directory: &Path) -> String {
    let catalog = Name::parse(&format!("{instance}.{namespace}.catalog.bindy")).unwrap();
    let key = Name::parse(&format!("vm._downstream.a.{instance}.{namespace}.key.bindy")).unwrap();
    let settings = DownstreamSettings { namespace, instance, catalog: &catalog, key: &key };
    let config = downstream_config(&settings, &Text::new("c2VjcmV0").unwrap()).unwrap();
    let options = downstream_options(&settings).unwrap();
    let (top, within) = (directory.join("top.conf"), directory.join("options.conf"));
    std::fs::write(&top, config).unwrap();
    std::fs::write(&within, options).unwrap();
    format!(
        "include \"{}\";\nprimaries \"bindy-{namespace}-{instance}\" {{ 192.0.2.1 port 5353 key \"{key}\"; 2001:db8::1; }};\n\
         options {{ directory \"{}\"; include \"{}\"; }};\n",
        top.display(),
        directory.display(),
        within.display(),
    )
}

#[test]
fn named_accepts_what_a_downstream_outside_has_to_include() {
    let directory = tempfile::tempdir().unwrap();
    let output = checkconf(directory.path(), &outside("prod", "dns", directory.path()));
    let told =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{told}");
    for wanted in ["catalog-zones", "_downstream", "allow-query", "max-refresh-time 10"] {
        assert!(told.contains(wanted), "{wanted} is not in\n{told}");
    }
}
