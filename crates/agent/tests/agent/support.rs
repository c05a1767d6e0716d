//! One server under test: named with the rendered configuration, its agent, and sources that are real named as well.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bindy_model::named_conf::{Listen, NamedSettings, Paths, Text, Wishes, instance_config};
use bindy_model::{CONFIG_QUESTION, ConfigStates};
use bindy_testing::dns::{self, Transport};
use bindy_testing::{Key, Named, NamedConfig, Place, Port, Scratch, ZoneSource, http, wait_for};
use bindy_wire::{Connection, Endpoint, MasterSecret};
use bindy_zone::{MemberLabel, Name, Rtype, Serial};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::timeouts;

pub const LIMIT: Duration = Duration::from_secs(20);
/// How long readiness waits for zones that no source has.
pub const PATIENCE: Duration = Duration::from_secs(8);

pub fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

/// The own key of instance `prod/dns`.
pub fn own_key() -> bindy_wire::Key {
    MasterSecret::from_bytes([9; 32]).instance_key("prod", "dns", bindy_wire::Generation::A).unwrap()
}

pub fn catalog() -> Name {
    name("dns.prod.catalog.bindy.")
}

/// A zone with one address.
pub fn zone_text(zone: &str, serial: u32, address: &str) -> String {
    format!(
        "$ORIGIN {zone}.\n$TTL 60\n@ SOA ns.{zone}. host.{zone}. {serial} 3600 600 604800 60\n@ NS ns\nns A 192.0.2.1\nwww A {address}\n"
    )
}

/// A catalog of these zones.
pub fn catalog_text(catalog: &Name, serial: u32, zones: &[&str]) -> String {
    let mut text = format!(
        "$ORIGIN {catalog}\n$TTL 0\n@ SOA invalid. invalid. {serial} 3600 600 604800 60\n@ NS invalid.\nversion TXT \"2\"\n"
    );
    for zone in zones {
        text.push_str(&format!("{}.zones PTR {zone}.\n", MemberLabel::of(&name(zone))));
    }
    text
}

/// A source: a named that is primary of the texts, for our key only. Of a zone with an empty text it knows that it exists, and
/// has not got it.
pub struct Source {
    pub named: Named,
}

impl Source {
    pub async fn start(scratch: &Scratch, label: &str, zones: &[(Name, String)]) -> Self {
        let named = Named::start(scratch, label, &Self::config(zones)).await.unwrap();
        Self { named }
    }

    fn config(zones: &[(Name, String)]) -> NamedConfig {
        let key = own_key();
        let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
        let content = |text: &String| match text.as_str() {
            "" => ZoneSource::Primary(nobody, None),
            text => ZoneSource::Text(text.to_owned()),
        };
        NamedConfig {
            zones: zones.iter().map(|(zone, text)| (zone.clone(), content(text))).collect(),
            transfer_key: Some(Key::new(key.name(), key.secret())),
            options: "ixfr-from-differences yes;".to_owned(),
            ..NamedConfig::default()
        }
    }

    /// Answers questions on, and refuses every transfer.
    pub fn allow_no_transfers(&mut self) {
        let file = self.named.place().directory.join("named.conf");
        let config = std::fs::read_to_string(&file).unwrap();
        let (before, after) = config.split_once("allow-transfer {").unwrap();
        let (_, after) = after.split_once('}').unwrap();
        std::fs::write(&file, format!("{before}allow-transfer {{ none; }}{after}")).unwrap();
        self.named.process().unwrap().signal(Signal::HUP).unwrap();
    }

    /// Serves these texts instead.
    pub async fn change(&mut self, zones: &[(Name, String)]) {
        self.named.configure(&Self::config(zones)).unwrap();
        self.named.process().unwrap().signal(Signal::HUP).unwrap();
    }
}

/// The agent, in a runtime of its own so that it can be killed between two instructions.
pub struct Agent {
    runtime: Option<tokio::runtime::Runtime>,
}

/// What belongs to the server.
pub struct Rig {
    pub agent: Option<Agent>,
    pub named: Named,
    pub relay: Port,
    pub transfer: Port,
    pub http: Port,
    /// The agent's own configuration.
    pub config: PathBuf,
    /// The configuration that named is to have; it reads a copy.
    pub named_config: PathBuf,
    pub json: Value,
    settings: NamedSettings,
}

impl Agent {
    pub fn start(config: &std::path::Path) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let config = config.to_owned();
        runtime.spawn(async move {
            bindy_agent::run(&config, PATIENCE, CancellationToken::new()).await.expect("the agent runs");
        });
        Self { runtime: Some(runtime) }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Rig {
    /// Starts agent and named; `sources` are name, kind and address.
    pub async fn start(scratch: &Scratch, sources: &[(&str, &str, SocketAddr)]) -> Self {
        Self::start_listening(scratch, sources, |place| Listen::On(vec![place.dns.address()])).await
    }

    /// The same with a named that listens where the agent says, as in a pod.
    pub async fn start_as_in_a_pod(scratch: &Scratch, sources: &[(&str, &str, SocketAddr)]) -> Self {
        let listen = |place: &Place| Listen::Included(text(&place.directory.join("listen.conf")));
        Self::start_listening(scratch, sources, listen).await
    }

    async fn start_listening(
        scratch: &Scratch,
        sources: &[(&str, &str, SocketAddr)],
        listen: impl FnOnce(&Place) -> Listen,
    ) -> Self {
        let [relay, transfer, http] = [(); 3].map(|()| Port::free().unwrap());
        let named_config = scratch.path().join("named.conf");
        let keys = scratch.write("keys/a", &own_key().to_file()).unwrap();
        let mut config = PathBuf::new();
        let mut json = Value::Null;
        let (mut agent, mut written) = (None, None);
        let named = Named::with_text(scratch, "named", |place| {
            let key_file = place.directory.join("agent.key");
            let settings = NamedSettings {
                paths: Paths {
                    directory: text(&place.directory),
                    pid_file: text(&place.directory.join("named.pid")),
                    key_file: text(&key_file),
                },
                listen: listen(place),
                control: place.control.address(),
                relay: relay.address(),
                catalog: catalog(),
                local_key: name(bindy_model::named_conf::LOCAL_KEY),
                wishes: Wishes::default(),
                lmdb_mapsize_mib: None,
                server_id: None,
            };
            let named_text = instance_config(&settings);
            std::fs::write(&named_config, &named_text).unwrap();
            json = json!({
                "instance": "prod/dns", "catalog": catalog().to_string(),
                "relay": relay.address(), "transfer": transfer.address(), "http": http.address(),
                "named": {
                    "dns": place.dns.address(), "control": place.control.address(),
                    "keyFile": key_file, "configFile": named_config,
                },
                "keys": [keys], "sources": sources_json(sources),
            });
            config = scratch.write("agent.json", &json.to_string()).unwrap();
            agent = Some(Agent::start(&config));
            let started = Instant::now();
            while !key_file.exists() {
                assert!(started.elapsed() < LIMIT, "the agent has made no key within {LIMIT:?}");
                std::thread::sleep(Duration::from_millis(2));
            }
            written = Some(settings);
            named_text
        })
        .await
        .unwrap();
        let settings = written.unwrap();
        Self { agent, named, relay, transfer, http, config, named_config, json, settings }
    }

    /// The copy of its configuration that named reads.
    pub fn named_copy(&self) -> PathBuf {
        PathBuf::from(self.json["named"]["keyFile"].as_str().unwrap()).with_file_name("named.conf")
    }

    /// Gives named another configuration.
    pub fn configure_named(&mut self, change: impl FnOnce(&mut NamedSettings)) {
        change(&mut self.settings);
        std::fs::write(&self.named_config, instance_config(&self.settings)).unwrap();
    }

    /// Gives the agent other sources.
    pub fn set_sources(&mut self, sources: &[(&str, &str, SocketAddr)]) {
        self.json["sources"] = sources_json(sources);
        self.write_config();
    }

    /// Gives the agent one more key file.
    pub fn add_key(&mut self, file: &std::path::Path) {
        let keys = self.json["keys"].as_array_mut().unwrap();
        keys.push(json!(file));
        self.write_config();
    }

    pub fn write_config(&self) {
        std::fs::write(&self.config, self.json.to_string()).unwrap();
    }

    pub fn kill_agent(&mut self) {
        self.agent = None;
    }

    /// Starts it again, once the sockets of the one that was killed are closed: that goes on in the background.
    pub async fn start_agent(&mut self) {
        let addresses = [self.relay.address(), self.transfer.address(), self.http.address()];
        wait_for("the ports of the agent", LIMIT, async || {
            for address in addresses {
                drop((std::net::TcpListener::bind(address)?, std::net::UdpSocket::bind(address)?));
            }
            anyhow::Ok(())
        })
        .await
        .unwrap();
        self.agent = Some(Agent::start(&self.config));
    }

    /// Status and body of `/readyz`.
    pub async fn readyz(&self) -> Result<(u16, Value)> {
        let answer = http::get(self.http.address(), "/readyz").await?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no head")?;
        let status = head.split(' ').nth(1).context("no status")?.parse()?;
        Ok((status, serde_json::from_str(body)?))
    }

    /// What the agent says of the configuration of this server.
    pub async fn configs(&self) -> Result<ConfigStates> {
        let mut connection = Connection::open(&self.transfer_port(Some(own_key())), timeouts()).await?;
        let answer = connection.query(&name(CONFIG_QUESTION), Rtype::TXT).await?;
        let records = answer.records.iter().map(|record| &*record.rdata);
        ConfigStates::from_rdata(records).with_context(|| format!("{}", answer.rcode))
    }

    /// Waits until that holds of what the agent says of the configuration of this server.
    pub async fn until_configs(&self, what: &str, holds: impl Fn(&ConfigStates) -> bool) {
        wait_for(what, LIMIT, async || {
            let configs = self.configs().await?;
            ensure!(holds(&configs), "{configs:?}");
            Ok(())
        })
        .await
        .unwrap_or_else(|error| panic!("{error}\n{}", self.named.log()));
    }

    /// The text of `/metrics`.
    pub async fn metrics(&self) -> Result<String> {
        http::get(self.http.address(), "/metrics").await
    }

    /// The value of a metric, all labels added up.
    pub async fn metric(&self, name: &str) -> Result<Option<f64>> {
        Ok(http::metric(&self.metrics().await?, name))
    }

    pub async fn until_ready(&self) {
        self.until_report("readiness", LIMIT, |status, _| status == 200).await;
    }

    /// Waits until that holds of status and body of `/readyz`.
    pub async fn until_report(&self, what: &str, limit: Duration, holds: impl Fn(u16, &Value) -> bool) {
        wait_for(what, limit, async || {
            let (status, report) = self.readyz().await?;
            ensure!(holds(status, &report), "{status} {report}");
            Ok(())
        })
        .await
        .unwrap_or_else(|error| panic!("{error}\n{}", self.named.log()));
    }

    /// Waits until named serves that serial.
    pub async fn until_serial(&self, zone: &str, serial: u32, limit: Duration) {
        let zone = name(zone);
        wait_for(&format!("{zone} {serial}"), limit, async || {
            let found = dns::serial(self.named.address(), Transport::Udp, &zone).await?;
            ensure!(found == Serial::new(serial), "{found}");
            Ok(())
        })
        .await
        .unwrap_or_else(|error| panic!("{error}\n{}", self.named.log()));
    }

    /// The transfer port, asked with a key.
    pub fn transfer_port(&self, key: Option<bindy_wire::Key>) -> Endpoint {
        Endpoint { address: self.transfer.address(), key }
    }
}

fn text(path: &std::path::Path) -> Text {
    Text::new(path.to_str().unwrap()).unwrap()
}

fn sources_json(sources: &[(&str, &str, SocketAddr)]) -> Value {
    let source = |(label, kind, address): &(&str, &str, SocketAddr)| json!({"name": label, "kind": kind, "address": address, "key": own_key().name().to_string()});
    sources.iter().map(source).collect()
}

/// The address of `www` in a zone on named.
pub async fn www(server: SocketAddr, zone: &str) -> Result<Vec<u8>> {
    let answer = dns::ask(server, Transport::Udp, &name(&format!("www.{zone}")), Rtype::A).await?;
    Ok(answer.records.first().context("no record")?.rdata.clone())
}
