//! The whole configuration of one authoritative server.
//!
//! The server is a secondary of everything: its catalog zone and, by it, each member come from the agent's relay on
//! loopback. Nobody transfers from it but the agent, with the key that the agent makes at its start. Most options are
//! here because the default hurts; the reasons stand beside them.

use std::net::{IpAddr, SocketAddr};

use bindy_zone::Name;

use super::{AclElement, Statement, Text, Value};

/// What differs between servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedSettings {
    /// Its files.
    pub paths: Paths,
    /// Addresses and ports it answers DNS on; an unspecified address is every one of that family.
    pub listen: Vec<SocketAddr>,
    /// Where it takes rndc commands; a loopback address.
    pub control: SocketAddr,
    /// Where the agent's relay is; a loopback address.
    pub relay: SocketAddr,
    /// Name of the catalog zone.
    pub catalog: Name,
    /// Name of the local key, that the included file defines.
    pub local_key: Name,
    /// Who may ask; empty means everybody.
    pub allow_query: Vec<AclElement>,
    /// Limits on equal answers to one network over UDP.
    pub rate_limit: Option<RateLimit>,
    /// Size of the database of catalog members, where this BIND is built with LMDB; without it there is no such option.
    pub lmdb_mapsize_mib: Option<u32>,
    /// By which name it answers who it is (`id.server`, and NSID of RFC 5001); without one by that of its host.
    pub server_id: Option<Text>,
    /// What it logs, to standard error.
    pub log: LogLevel,
}

/// Files of one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// Working directory, and where zones are kept; belongs to the user named runs as.
    pub directory: Text,
    /// Process id.
    pub pid_file: Text,
    /// The file with the local key.
    pub key_file: Text,
}

/// Response rate limiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Equal answers a second to one network; at least 1.
    pub responses_per_second: u32,
    /// Seconds over which answers are counted; 1 to 3600.
    pub window: u32,
    /// Every how many limited answers are sent truncated instead of not at all; 0 is never.
    pub slip: u32,
}

/// From which severity on named logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogLevel {
    /// Only what is wrong.
    Warning,
    /// Transfers and zones as well.
    #[default]
    Info,
    /// Everything.
    Debug,
}

/// The text of a server's `named.conf`.
pub fn instance_config(settings: &NamedSettings) -> String {
    let statements = [
        Statement::new("include").text(&settings.paths.key_file),
        options(settings),
        logging(settings.log),
        controls(settings),
        catalog(settings),
    ];
    statements.iter().map(Statement::to_string).collect()
}

/// The text of the file with a key; `secret` is its octets in base64.
pub fn key_statement(name: &Name, secret: &Text) -> String {
    let body = [Statement::new("algorithm").word("hmac-sha256"), Statement::new("secret").text(secret)];
    Statement::new("key").name(name).block(body).to_string()
}

fn options(settings: &NamedSettings) -> Statement {
    let mut body = vec![
        Statement::new("directory").text(&settings.paths.directory),
        Statement::new("pid-file").text(&settings.paths.pid_file),
        Statement::new("session-keyfile").word("none"),
    ];
    body.extend(listening(&settings.listen));
    body.extend(access(settings));
    body.extend(transfers());
    body.extend(zones(settings));
    Statement::new("options").block(body)
}

fn listening(listen: &[SocketAddr]) -> Vec<Statement> {
    let mut statements: Vec<Statement> = Vec::new();
    for (keyword, v4) in [("listen-on", true), ("listen-on-v6", false)] {
        let addresses = listen.iter().filter(|address| address.is_ipv4() == v4);
        let before = statements.len();
        statements.extend(addresses.map(|address| {
            let element = match address.ip() {
                ip if ip.is_unspecified() => Statement::new("any"),
                ip => Statement::default().address(ip),
            };
            Statement::new(keyword).word("port").number(address.port()).block([element])
        }));
        if statements.len() == before {
            statements.push(Statement::new(keyword).block([Statement::new("none")]));
        }
    }
    statements
}

/// Who may do what. The agent asks with its key, whatever `allow_query` says.
fn access(settings: &NamedSettings) -> Vec<Statement> {
    let acl = |element: AclElement| Statement(vec![Value::Acl(element)]);
    let agent = || acl(AclElement::Key(settings.local_key.clone()));
    let everybody = [AclElement::Any];
    let askers = if settings.allow_query.is_empty() { &everybody[..] } else { &settings.allow_query };
    let loopback = || acl(AclElement::Network(settings.relay.ip(), host_prefix(settings.relay.ip())));
    let mut statements = vec![
        Statement::new("allow-query").block([agent()].into_iter().chain(askers.iter().cloned().map(acl))),
        // 9.18 lets everybody transfer.
        Statement::new("allow-transfer").block([agent()]),
        Statement::new("allow-notify").block([loopback()]),
        Statement::new("allow-update").block([Statement::new("none")]),
        Statement::new("recursion").yes_no(false),
        Statement::new("dnssec-validation").yes_no(false),
        Statement::new("empty-zones-enable").yes_no(false),
        Statement::new("version").word("none"),
        Statement::new("hostname").word("none"),
        match &settings.server_id {
            Some(id) => Statement::new("server-id").text(id),
            None => Statement::new("server-id").word("hostname"),
        },
        Statement::new("minimal-responses").yes_no(true),
        Statement::new("max-udp-size").number(1232u32),
        Statement::new("tcp-clients").number(2000u32),
    ];
    if let Some(limit) = settings.rate_limit {
        statements.push(Statement::new("rate-limit").block([
            Statement::new("responses-per-second").number(limit.responses_per_second.max(1)),
            Statement::new("window").number(limit.window.clamp(1, 3600)),
            Statement::new("slip").number(limit.slip.min(10)),
        ]));
    }
    statements
}

fn host_prefix(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// How versions come in. There is one upstream, the agent, and it answers at once; limits made for strangers only delay.
fn transfers() -> Vec<Statement> {
    vec![
        // SOA checks after NOTIFY and new catalog members wait in it: 1 000 members took 50 s with the default of 20.
        Statement::new("serial-query-rate").number(10_000u32),
        Statement::new("transfers-in").number(400u32),
        Statement::new("transfers-per-ns").number(400u32),
        Statement::new("transfers-out").number(400u32),
        // Agents pass changes on, and check that they arrived; named would tell the NS names of each zone.
        Statement::new("notify").yes_no(false),
        Statement::new("min-refresh-time").number(1u32),
        Statement::new("max-refresh-time").number(3600u32),
        Statement::new("min-retry-time").number(1u32),
        Statement::new("max-retry-time").number(30u32),
        Statement::new("request-ixfr").yes_no(true),
        Statement::new("ixfr-from-differences").yes_no(false),
    ]
}

/// How zones are kept.
fn zones(settings: &NamedSettings) -> Vec<Statement> {
    let mut statements = vec![
        Statement::new("masterfile-format").word("raw"),
        // What may be in a zone is checked where the zone is made; a limit here fails whole transfers.
        Statement::new("max-records-per-type").number(0u32),
        Statement::new("max-types-per-name").number(0u32),
        Statement::new("check-names").word("secondary").word("ignore"),
    ];
    if let Some(mebibytes) = settings.lmdb_mapsize_mib {
        statements.push(Statement::new("lmdb-mapsize").with(Value::Mebibytes(mebibytes)));
    }
    let catalog = Statement::new("zone")
        .name(&settings.catalog)
        .word("default-primaries")
        .block([relay(settings)])
        .word("zone-directory")
        .text(&settings.paths.directory)
        .word("in-memory")
        .yes_no(false)
        .word("min-update-interval")
        .number(0u32);
    statements.push(Statement::new("catalog-zones").block([catalog]));
    statements
}

fn relay(settings: &NamedSettings) -> Statement {
    Statement::default().address(settings.relay.ip()).word("port").number(settings.relay.port())
}

fn logging(level: LogLevel) -> Statement {
    let severity = match level {
        LogLevel::Warning => Statement::new("severity").word("warning"),
        LogLevel::Info => Statement::new("severity").word("info"),
        LogLevel::Debug => Statement::new("severity").word("debug").number(3u32),
    };
    let channel = Statement::new("channel").word("console").block([
        Statement::new("stderr"),
        severity,
        Statement::new("print-time").word("iso8601-utc"),
        Statement::new("print-category").yes_no(true),
        Statement::new("print-severity").yes_no(true),
    ]);
    let category = Statement::new("category").word("default").block([Statement::new("console")]);
    Statement::new("logging").block([channel, category])
}

fn controls(settings: &NamedSettings) -> Statement {
    let loopback = Value::Acl(AclElement::Network(settings.control.ip(), host_prefix(settings.control.ip())));
    let control = Statement::new("inet")
        .address(settings.control.ip())
        .word("port")
        .number(settings.control.port())
        .word("allow")
        .block([Statement(vec![loopback])])
        .word("keys")
        .block([Statement::default().name(&settings.local_key)]);
    Statement::new("controls").block([control])
}

fn catalog(settings: &NamedSettings) -> Statement {
    Statement::new("zone").name(&settings.catalog).block([
        Statement::new("type").word("secondary"),
        Statement::new("primaries").block([relay(settings)]),
        Statement::new("file").with(Value::Literal("catalog.db")),
    ])
}
