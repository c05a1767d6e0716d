//! The whole configuration of one authoritative server.
//!
//! The server is a secondary of everything: its catalog zone and, by it, each member come from the agent's relay on
//! loopback. The agent transfers from it, with the key that it makes at its start, and whom the user lets. Most options
//! are here because the default hurts; the reasons stand beside them.

use std::net::{IpAddr, SocketAddr};

use bindy_zone::Name;

use super::{AclElement, LogLevel, Statement, Text, Value, Wishes};

/// What differs between servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedSettings {
    /// Its files.
    pub paths: Paths,
    /// Where it answers DNS.
    pub listen: Listen,
    /// Where it takes rndc commands; a loopback address.
    pub control: SocketAddr,
    /// Where the agent's relay is; a loopback address.
    pub relay: SocketAddr,
    /// Name of the catalog zone.
    pub catalog: Name,
    /// Name of the local key, that the included file defines.
    pub local_key: Name,
    /// What the user wants.
    pub wishes: Wishes,
    /// Size of the database of catalog members, where this BIND is built with LMDB; without it there is no such option.
    pub lmdb_mapsize_mib: Option<u32>,
    /// By which name it answers who it is (`id.server`, and NSID of RFC 5001); without one by that of its host.
    pub server_id: Option<Text>,
}

/// Where a server answers DNS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// On these addresses and ports; an unspecified address is every one of that family.
    On(Vec<SocketAddr>),
    /// As this file says at the moment; its text is that of [`listen_config`].
    Included(Text),
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

/// The text of a server's `named.conf`.
pub fn instance_config(settings: &NamedSettings) -> String {
    let statements = [
        Statement::new("include").text(&settings.paths.key_file),
        options(settings),
        logging(settings.wishes.log),
        controls(settings),
        catalog(settings),
    ];
    statements.iter().map(Statement::to_string).collect()
}

/// The text of the file that says where a server listens.
pub fn listen_config(addresses: &[SocketAddr]) -> String {
    listening(addresses).iter().map(Statement::to_string).collect()
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
    body.extend(match &settings.listen {
        Listen::On(addresses) => listening(addresses),
        Listen::Included(file) => vec![Statement::new("include").text(file)],
    });
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

/// The agent, with its key, and others.
fn agent_and(settings: &NamedSettings, others: &[AclElement]) -> Vec<Statement> {
    let agent = AclElement::Key(settings.local_key.clone());
    [agent].iter().chain(others).map(|element| Statement(vec![Value::Acl(element.clone())])).collect()
}

/// Who may do what. The agent may ask and transfer with its key, whatever else is said.
fn access(settings: &NamedSettings) -> Vec<Statement> {
    let wishes = &settings.wishes;
    let everybody = [AclElement::Any];
    let askers = if wishes.allow_query.is_empty() { &everybody[..] } else { &wishes.allow_query };
    let mut statements = vec![
        Statement::new("allow-query").block(agent_and(settings, askers)),
        // 9.18 lets everybody transfer.
        Statement::new("allow-transfer").block(agent_and(settings, &wishes.allow_transfer)),
        Statement::new("allow-notify").block([host(settings.relay.ip())]),
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
        // In tenths of a second: who connects and says nothing keeps one of those places for five seconds, not for thirty.
        Statement::new("tcp-initial-timeout").number(50u32),
        // What waits while another process has the processor; the kernel gives at most net.core.rmem_max. Its usual 208 KiB hold some
        // 270 questions, which at 5 000 a second are 55 ms.
        Statement::new("udp-receive-buffer").number(1u32 << 20),
        // Who waits for a place, as the agent may after a restart, comes in in the order of arrival; beyond this it is luck.
        Statement::new("tcp-listen-queue").number(1024u32),
    ];
    if let Some(limit) = wishes.rate_limit {
        statements.push(Statement::new("rate-limit").block([
            Statement::new("responses-per-second").number(limit.responses_per_second.max(1)),
            Statement::new("window").number(limit.window.clamp(1, 3600)),
            Statement::new("slip").number(limit.slip.min(10)),
            // The agent asks by UDP too.
            Statement::new("exempt-clients").block([host(settings.relay.ip())]),
        ]));
    }
    statements
}

/// This address alone, in a list of who may do what.
fn host(address: IpAddr) -> Statement {
    let prefix = if address.is_ipv4() { 32 } else { 128 };
    Statement(vec![Value::Acl(AclElement::Network(address, prefix))])
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
    let control = Statement::new("inet")
        .address(settings.control.ip())
        .word("port")
        .number(settings.control.port())
        .word("allow")
        .block([host(settings.control.ip())])
        .word("keys")
        .block([Statement::default().name(&settings.local_key)]);
    Statement::new("controls").block([control])
}

fn catalog(settings: &NamedSettings) -> Statement {
    Statement::new("zone").name(&settings.catalog).block([
        Statement::new("type").word("secondary"),
        Statement::new("primaries").block([relay(settings)]),
        Statement::new("file").with(Value::Literal("catalog.db")),
        // It is no zone of the user's.
        Statement::new("allow-transfer").block(agent_and(settings, &[])),
    ])
}
