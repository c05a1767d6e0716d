//! Files that change: the agent's own, its keys, and named's configuration.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use bindy_model::named_conf::{LogLevel, Text};
use bindy_model::{CONFIG_QUESTION, ConfigState, turn_question};
use bindy_testing::dns::{self, Transport};
use bindy_testing::{Scratch, wait_for};
use bindy_wire::{ClientError, Connection, Generation, Key, MasterSecret, Rcode};
use bindy_zone::{Name, Rtype, Serial};

use crate::support::{LIMIT, Rig, Source, catalog, catalog_text, name, own_key, www, zone_text};
use crate::{ZONE, content, timeouts, until_source_has};

async fn until_called(rig: &Rig, server: &str) {
    wait_for("the new configuration", Duration::from_secs(5), async || {
        let found = dns::server_name(rig.named.address(), Transport::Udp).await?;
        ensure!(found == server, "named is called {found}");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_changed_configuration_is_read_by_named() {
    let scratch = Scratch::new("agent-reconfig").unwrap();
    let source = Source::start(&scratch, "operator", &content(1, "192.0.2.10")).await;
    let mut rig = Rig::start(&scratch, &[("operator", "operator", source.named.address())]).await;
    rig.until_ready().await;
    rig.configure_named(|settings| settings.server_id = Some(Text::new("changed").unwrap()));
    until_called(&rig, "changed").await;
    assert_eq!(rig.readyz().await.unwrap().0, 200);
}

/// What is said of a file that is in force.
fn taken(file: &Path) -> ConfigState {
    ConfigState::Taken(ConfigState::digest(&std::fs::read(file).unwrap()))
}

/// Whether this is said of a file that is refused, with these words.
fn is_refusal(state: &ConfigState, file: &Path, words: &str) -> bool {
    let wanted = ConfigState::digest(&std::fs::read(file).unwrap());
    matches!(state, ConfigState::Refused { digest, text } if *digest == wanted && text.contains(words))
}

async fn until_named_has(rig: &Rig, state: ConfigState) {
    rig.until_configs("named to have taken its configuration", |configs| configs.named == state).await;
}

async fn until_agent_has(rig: &Rig, state: ConfigState) {
    rig.until_configs("the agent to have taken its configuration", |configs| {
        configs.agent.as_ref() == Some(&state)
    })
    .await;
}

#[tokio::test]
async fn a_refused_configuration_is_told_with_its_reason_and_named_keeps_the_one_before_also_when_it_is_started_anew()
 {
    let scratch = Scratch::new("agent-config-state").unwrap();
    let source = Source::start(&scratch, "operator", &content(1, "192.0.2.10")).await;
    let mut rig = Rig::start(&scratch, &[("operator", "operator", source.named.address())]).await;
    rig.until_ready().await;
    let file = rig.named_config.clone();
    until_named_has(&rig, taken(&file)).await;
    rig.configure_named(|settings| settings.server_id = Some(Text::new("changed").unwrap()));
    until_named_has(&rig, taken(&file)).await;
    assert_eq!(dns::server_name(rig.named.address(), Transport::Udp).await.unwrap(), "changed");

    let good = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{good}\nno-such-statement yes;\n")).unwrap();
    rig.until_configs("the refusal", |configs| is_refusal(&configs.named, &file, "failure")).await;
    assert_eq!(rig.metric("bindy_agent_config_refused").await.unwrap(), Some(1.0));
    assert_eq!(www(rig.named.address(), ZONE).await.unwrap(), [192, 0, 2, 10]);
    rig.named.restart().await.unwrap();
    let called = dns::server_name(rig.named.address(), Transport::Udp).await.unwrap();
    assert_eq!(called, "changed", "named is started with the one that it has taken");
    std::fs::write(&file, good).unwrap();
    until_named_has(&rig, taken(&file)).await;
    assert_eq!(rig.metric("bindy_agent_config_refused").await.unwrap(), Some(0.0));

    let downstream = own_key().derive("far", "edge").unwrap();
    let mut connection = Connection::open(&rig.transfer_port(Some(downstream)), timeouts()).await.unwrap();
    let answer = connection.query(&name(CONFIG_QUESTION), Rtype::TXT).await.unwrap();
    assert_eq!((answer.rcode, answer.records.len()), (Rcode::REFUSED, 0), "it is told to somebody else");
}

#[tokio::test]
async fn a_configuration_of_its_own_that_an_agent_refuses_is_told_with_its_reason_and_the_one_before_stays() {
    let scratch = Scratch::new("agent-own-config").unwrap();
    let mut source = Source::start(&scratch, "operator", &content(1, "192.0.2.10")).await;
    let mut rig = Rig::start(&scratch, &[("operator", "operator", source.named.address())]).await;
    rig.until_ready().await;
    let file = rig.config.clone();
    until_agent_has(&rig, taken(&file)).await;
    // One of a later version.
    rig.json["later"] = true.into();
    rig.write_config();
    until_agent_has(&rig, taken(&file)).await;
    let good = rig.json.clone();
    rig.json["instance"] = "prod/other".into();
    rig.write_config();
    rig.until_configs("the refusal", |configs| {
        configs.agent.as_ref().is_some_and(|state| is_refusal(state, &file, "with a restart of the agent"))
    })
    .await;
    assert_eq!(rig.metric("bindy_agent_config_refused").await.unwrap(), Some(1.0));
    source.change(&content(2, "192.0.2.20")).await;
    rig.until_serial(ZONE, 2, LIMIT).await;
    let next = MasterSecret::from_bytes([8; 32]).instance_key("prod", "dns", Generation::B).unwrap();
    scratch.write("keys/a", &[&own_key(), &next].map(Key::to_file).concat()).unwrap();
    wait_for("the new key to be known", LIMIT, async || {
        let mut connection = Connection::open(&rig.transfer_port(Some(next.clone())), timeouts()).await?;
        ensure!(connection.soa(&name(ZONE)).await? == Serial::new(2));
        Ok(())
    })
    .await
    .unwrap();
    rig.json = good;
    rig.write_config();
    until_agent_has(&rig, taken(&file)).await;
    assert_eq!(rig.metric("bindy_agent_config_refused").await.unwrap(), Some(0.0));
}

/// named takes its time to refuse what is as long as this, and the agent does not live to see it.
#[tokio::test]
async fn a_configuration_that_named_refused_while_its_agent_was_killed_is_not_what_named_is_started_with() {
    let scratch = Scratch::new("agent-killed-midway").unwrap();
    let source = Source::start(&scratch, "operator", &content(1, "192.0.2.10")).await;
    let mut rig = Rig::start(&scratch, &[("operator", "operator", source.named.address())]).await;
    rig.until_ready().await;
    let (file, copy) = (rig.named_config.clone(), rig.named_copy());
    until_named_has(&rig, taken(&file)).await;
    let good = std::fs::read_to_string(&copy).unwrap();
    let refused =
        format!("{good}\nacl long {{ {} }};\nno-such-statement yes;\n", "192.0.2.1; ".repeat(1_000_000));
    std::fs::write(&file, &refused).unwrap();
    wait_for("the agent to give it to named", LIMIT, async || {
        ensure!(std::fs::metadata(&copy)?.len() == refused.len() as u64);
        Ok(())
    })
    .await
    .unwrap();
    rig.kill_agent();
    assert_eq!(std::fs::read_to_string(&copy).unwrap().len(), refused.len(), "named has refused it already");
    rig.start_agent().await;
    rig.until_configs("the refusal", |configs| is_refusal(&configs.named, &file, "failure")).await;
    assert!(std::fs::read_to_string(&copy).unwrap() == good, "the copy is not what named has taken");
    rig.named.restart().await.unwrap();
    rig.until_ready().await;
    assert_eq!(www(rig.named.address(), ZONE).await.unwrap(), [192, 0, 2, 10]);
}

/// As in a pod of an instance whose servers take a configuration one after the other.
async fn rig_in_turn(scratch: &Scratch, source: &Source) -> Rig {
    let mut rig = Rig::start_as_in_a_pod(scratch, &[("operator", "operator", source.named.address())]).await;
    rig.until_ready().await;
    let file = rig.named_config.clone();
    until_named_has(&rig, taken(&file)).await;
    rig.json["inTurn"] = true.into();
    rig.write_config();
    until_agent_has(&rig, taken(&rig.config)).await;
    rig
}

/// Waits until the agent has looked at all its files: it looks at its own first, and takes one after the other.
async fn until_looked(rig: &mut Rig) {
    for later in ["first", "second"] {
        rig.json["later"] = later.into();
        rig.write_config();
        until_agent_has(rig, taken(&rig.config)).await;
    }
}

/// It is the server's turn to take what the file says.
async fn give_turn(rig: &Rig) {
    let digest = ConfigState::digest(&std::fs::read(&rig.named_config).unwrap());
    let mut connection = Connection::open(&rig.transfer_port(Some(own_key())), timeouts()).await.unwrap();
    let answer = connection.query(&turn_question(&digest).unwrap(), Rtype::TXT).await.unwrap();
    assert_eq!(answer.rcode, Rcode::NOERROR);
}

#[tokio::test]
async fn a_server_that_clients_ask_takes_a_configuration_when_it_is_its_turn() {
    let scratch = Scratch::new("agent-turn").unwrap();
    let source = Source::start(&scratch, "operator", &content(1, "192.0.2.10")).await;
    let mut rig = rig_in_turn(&scratch, &source).await;
    let file = rig.named_config.clone();
    let before = taken(&file);
    rig.configure_named(|settings| settings.server_id = Some(Text::new("changed").unwrap()));
    until_looked(&mut rig).await;
    assert_eq!(rig.configs().await.unwrap().named, before, "nobody has told it to");
    rig.kill_agent();
    rig.start_agent().await;
    until_named_has(&rig, before.clone()).await;
    let other = own_key().derive("far", "edge").unwrap();
    let mut connection = Connection::open(&rig.transfer_port(Some(other)), timeouts()).await.unwrap();
    let question = turn_question(&ConfigState::digest(&std::fs::read(&file).unwrap())).unwrap();
    assert_eq!(connection.query(&question, Rtype::TXT).await.unwrap().rcode, Rcode::REFUSED);
    until_looked(&mut rig).await;
    assert_eq!(rig.configs().await.unwrap().named, before, "somebody else has told it to");
    give_turn(&rig).await;
    until_named_has(&rig, taken(&file)).await;
    assert_eq!(dns::server_name(rig.named.address(), Transport::Udp).await.unwrap(), "changed");

    let good = taken(&file);
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{text}\nno-such-statement yes;\n")).unwrap();
    give_turn(&rig).await;
    rig.until_configs("the refusal", |configs| is_refusal(&configs.named, &file, "failure")).await;
    rig.configure_named(|settings| settings.server_id = Some(Text::new("corrected").unwrap()));
    until_named_has(&rig, good).await;
    give_turn(&rig).await;
    until_named_has(&rig, taken(&file)).await;
    assert_eq!(dns::server_name(rig.named.address(), Transport::Udp).await.unwrap(), "corrected");
}

#[tokio::test]
async fn a_server_that_no_client_asks_takes_a_configuration_at_once() {
    let scratch = Scratch::new("agent-no-turn").unwrap();
    let mut source = Source::start(&scratch, "operator", &content(1, "192.0.2.10")).await;
    let mut rig = rig_in_turn(&scratch, &source).await;
    source.named.freeze().await.unwrap();
    rig.named.kill().await.unwrap();
    rig.named.wipe().unwrap();
    rig.named.restart().await.unwrap();
    rig.until_report("the agent to notice it", LIMIT, |status, report| {
        status == 503 && report["waitingFor"][0] == "the catalog zone"
    })
    .await;
    rig.configure_named(|settings| settings.server_id = Some(Text::new("changed").unwrap()));
    until_called(&rig, "changed").await;
    source.named.thaw().unwrap();
    rig.until_ready().await;
}

/// It has so much to read that it can be killed before it has come to the end.
#[tokio::test]
async fn a_configuration_that_ends_named_is_told_as_refused_and_named_is_started_with_the_one_before() {
    let scratch = Scratch::new("agent-config-kills").unwrap();
    let source = Source::start(&scratch, "operator", &content(1, "192.0.2.10")).await;
    let mut rig = rig_in_turn(&scratch, &source).await;
    let (file, copy) = (rig.named_config.clone(), rig.named_copy());
    let good = std::fs::read_to_string(&copy).unwrap();
    let deadly = format!("{good}\nacl long {{ {} }};\n", "192.0.2.1; ".repeat(1_000_000));
    std::fs::write(&file, &deadly).unwrap();
    give_turn(&rig).await;
    wait_for("the agent to give it to named", LIMIT, async || {
        ensure!(std::fs::metadata(&copy)?.len() == deadly.len() as u64);
        Ok(())
    })
    .await
    .unwrap();
    rig.named.kill().await.unwrap();
    rig.until_configs("the refusal", |configs| is_refusal(&configs.named, &file, "did not come to the end"))
        .await;
    assert!(std::fs::read_to_string(&copy).unwrap() == good, "the copy is not what named has taken");
    rig.named.restart().await.unwrap();
    rig.until_ready().await;
    assert_eq!(www(from_outside(&rig), ZONE).await.unwrap(), [192, 0, 2, 10]);
}

const LATE: &str = "late.example";

/// The second version of the catalog, with one more zone.
fn with_a_late_zone(late: String) -> [(Name, String); 3] {
    let catalog_text = catalog_text(&catalog(), 2, &[ZONE, LATE]);
    [(catalog(), catalog_text), (name(ZONE), zone_text(ZONE, 1, "192.0.2.10")), (name(LATE), late)]
}

/// named as clients reach it: by an address of this machine that is not loopback. Nothing leaves the machine.
fn from_outside(rig: &Rig) -> SocketAddr {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect("192.0.2.1:9").expect("a route, for an address of this machine");
    SocketAddr::new(socket.local_addr().unwrap().ip(), rig.named.address().port())
}

#[tokio::test]
async fn a_named_that_starts_answers_nobody_before_it_has_everything() {
    let scratch = Scratch::new("agent-opens").unwrap();
    let mut source = Source::start(&scratch, "operator", &content(1, "192.0.2.10")).await;
    let mut rig = Rig::start_as_in_a_pod(&scratch, &[("operator", "operator", source.named.address())]).await;
    rig.until_ready().await;
    let clients = from_outside(&rig);
    assert_eq!(www(clients, ZONE).await.unwrap(), [192, 0, 2, 10]);
    // It is started anew with nothing, and there is nobody to fill it.
    source.named.freeze().await.unwrap();
    rig.named.kill().await.unwrap();
    rig.named.wipe().unwrap();
    rig.named.restart().await.unwrap();
    let asked = dns::ask(rig.named.address(), Transport::Udp, &name(ZONE), Rtype::SOA).await.unwrap();
    assert_eq!(asked.rcode, Rcode::REFUSED, "what clients must not be told");
    rig.until_report("the agent to notice it", LIMIT, |status, report| {
        status == 503 && report["waitingFor"][0] == "the catalog zone"
    })
    .await;
    let asked = dns::ask(clients, Transport::Udp, &name(ZONE), Rtype::SOA).await;
    assert!(asked.is_err(), "{asked:?}");
    source.named.thaw().unwrap();
    rig.until_ready().await;
    assert_eq!(www(clients, ZONE).await.unwrap(), [192, 0, 2, 10]);

    // An agent that is started anew finds it open, and leaves it so.
    rig.kill_agent();
    rig.start_agent().await;
    rig.until_ready().await;
    assert_eq!(www(clients, ZONE).await.unwrap(), [192, 0, 2, 10]);
}

#[tokio::test]
async fn a_server_that_had_everything_once_is_ready_as_soon_as_its_agent_is_back_whatever_is_missing_now() {
    let scratch = Scratch::new("agent-back").unwrap();
    let mut source = Source::start(&scratch, "operator", &content(1, "192.0.2.10")).await;
    let mut rig = Rig::start_as_in_a_pod(&scratch, &[("operator", "operator", source.named.address())]).await;
    rig.until_ready().await;
    source.change(&with_a_late_zone(String::new())).await;
    rig.until_report("the zone to be missing", LIMIT, |_, report| report["missing"] == 1).await;
    source.named.freeze().await.unwrap();
    rig.kill_agent();
    rig.start_agent().await;
    rig.until_report("readiness without an excuse", LIMIT, |status, report| {
        status == 200 && report["missing"] == 1 && report["excused"] == 0
    })
    .await;
    source.named.thaw().unwrap();
}

#[tokio::test]
async fn a_key_that_gets_another_name_is_used_by_that_name_although_its_secret_stays() {
    let scratch = Scratch::new("agent-key-renamed").unwrap();
    let source = Source::start(&scratch, "operator", &content(1, "192.0.2.10")).await;
    let sources = [("operator", "operator", source.named.address())];
    let mut rig = Rig::start(&scratch, &sources).await;
    rig.until_ready().await;
    let other = Key::new(name("other.key."), own_key().secret());
    rig.add_key(&scratch.write("keys/other", &other.to_file()).unwrap());
    rig.json["sources"][0]["key"] = "other.key.".into();
    rig.write_config();
    rig.until_report("the loss of the source", LIMIT, |_, report| {
        report["sources"]["operator"]["live"] == false
    })
    .await;
    rig.set_sources(&sources);
    rig.until_report("the return of the source", LIMIT, |_, report| {
        report["sources"]["operator"]["live"] == true
    })
    .await;
}

#[tokio::test]
async fn a_named_that_starts_with_an_old_catalog_answers_nobody_before_it_has_the_zones_of_the_newest() {
    let scratch = Scratch::new("agent-old-catalog").unwrap();
    let mut source = Source::start(&scratch, "operator", &content(1, "192.0.2.10")).await;
    let mut rig = Rig::start_as_in_a_pod(&scratch, &[("operator", "operator", source.named.address())]).await;
    rig.until_ready().await;
    let configuration = new_pod(&mut rig).await;
    // The operator knows the zone and has not got it yet.
    source.change(&with_a_late_zone(String::new())).await;
    until_source_has(&source, &catalog(), 2).await;
    // Until it says so, named has what is on the volume only.
    source.named.freeze().await.unwrap();
    rig.start_agent().await;
    until_given(&rig, &configuration).await;
    rig.named.restart().await.unwrap();
    rig.until_report("a source to be waited for", LIMIT, |status, report| {
        status == 503 && report["missing"] == 0 && report["waitingFor"][0] == "a source of the newest catalog"
    })
    .await;
    source.named.thaw().unwrap();
    rig.until_report("the zone to be missing", LIMIT, |status, report| {
        status == 503 && report["missing"] == 1 && report["missingZones"][0] == "late.example."
    })
    .await;
    let clients = from_outside(&rig);
    let asked = dns::ask(clients, Transport::Udp, &name(ZONE), Rtype::SOA).await;
    assert!(asked.is_err(), "{asked:?}");
    source.change(&with_a_late_zone(zone_text(LATE, 1, "192.0.2.20"))).await;
    rig.until_ready().await;
    assert_eq!(www(clients, LATE).await.unwrap(), [192, 0, 2, 20]);
}

/// Ends agent and named, and leaves what is on the volume only. Returns the configuration that named is to have.
async fn new_pod(rig: &mut Rig) -> String {
    rig.kill_agent();
    rig.named.kill().await.unwrap();
    let place = &rig.named.place().directory;
    for file in ["agent.key", "named.conf", "listen.conf", "opened"] {
        std::fs::remove_file(place.join(file)).unwrap();
    }
    std::fs::read_to_string(&rig.named_config).unwrap()
}

async fn until_given(rig: &Rig, wanted: &str) {
    let place = &rig.named.place().directory;
    wait_for("what named is given", LIMIT, async || {
        let (text, _key) =
            (std::fs::read_to_string(place.join("named.conf"))?, std::fs::read(place.join("agent.key"))?);
        ensure!(text == wanted, "{text}");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_named_that_cannot_start_with_its_configuration_gets_the_corrected_one() {
    let scratch = Scratch::new("agent-cannot-start").unwrap();
    let source = Source::start(&scratch, "operator", &content(1, "192.0.2.10")).await;
    let mut rig = Rig::start_as_in_a_pod(&scratch, &[("operator", "operator", source.named.address())]).await;
    rig.until_ready().await;
    let good = new_pod(&mut rig).await;
    let bad = format!("{good}\nno-such-statement yes;\n");
    std::fs::write(&rig.named_config, &bad).unwrap();
    rig.start_agent().await;
    until_given(&rig, &bad).await;
    rig.named.restart().await.expect_err("BIND refuses it");
    std::fs::write(&rig.named_config, &good).unwrap();
    until_given(&rig, &good).await;
    rig.named.restart().await.unwrap();
    rig.until_ready().await;
    assert_eq!(www(from_outside(&rig), ZONE).await.unwrap(), [192, 0, 2, 10]);
}

#[tokio::test]
async fn a_configuration_that_changed_while_the_agent_was_away_is_read_by_named() {
    let scratch = Scratch::new("agent-reconfig-away").unwrap();
    let source = Source::start(&scratch, "operator", &content(1, "192.0.2.10")).await;
    let mut rig = Rig::start(&scratch, &[("operator", "operator", source.named.address())]).await;
    rig.until_ready().await;
    rig.kill_agent();
    rig.configure_named(|settings| settings.server_id = Some(Text::new("changed").unwrap()));
    rig.start_agent().await;
    until_called(&rig, "changed").await;
    rig.until_ready().await;
    assert_eq!(rig.metric("bindy_agent_reconfigurations_total").await.unwrap(), Some(1.0), "once");
}

/// A file of keys that is read when somebody lets it be read: whoever reads it waits until then.
struct Gate {
    file: PathBuf,
    text: String,
    /// Done before the reads to come, the first one first.
    before: mpsc::Receiver<Box<dyn FnOnce() + Send>>,
}

impl Gate {
    fn make(path: &Path) -> std::io::Result<()> {
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        Ok(rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0)?)
    }

    /// Answers every read, until the directory is gone.
    fn serve(self) -> std::io::Result<()> {
        loop {
            // Opened as soon as there is a reader; the next one finds another file.
            let mut file = std::fs::File::options().write(true).open(&self.file)?;
            let next = self.file.with_extension("next");
            Self::make(&next)?;
            std::fs::rename(next, &self.file)?;
            if let Ok(act) = self.before.try_recv() {
                act();
            }
            file.write_all(self.text.as_bytes())?;
        }
    }
}

/// A key is replaced at the `nth` time that the agent reads its keys from a certain moment on: its start, or a change of its
/// configuration. It has to know the new one then, without any further change.
async fn a_key_replaced_at_read(nth: usize, restart: bool) {
    let scratch = Scratch::new(&format!("agent-gate-{nth}-{restart}")).unwrap();
    let mut rig = Rig::start(&scratch, &[]).await;
    let (changing, gate) = (scratch.path().join("keys/changing"), scratch.path().join("keys/gate"));
    let key = |secret| Key::new(name("dns.prod.a.top.prod.key.bindy."), &[secret; 32]);
    std::fs::write(&changing, key(3).to_file()).unwrap();
    Gate::make(&gate).unwrap();
    let (acts, before) = mpsc::channel::<Box<dyn FnOnce() + Send>>();
    let served = Gate { file: gate.clone(), text: own_key().to_file(), before };
    std::thread::spawn(move || served.serve());
    rig.kill_agent();
    rig.add_key(&changing);
    rig.add_key(&gate);
    let new = key(4);
    let replace = move || {
        let replaced = changing.with_extension("new");
        std::fs::write(&replaced, new.to_file()).unwrap();
        std::fs::rename(replaced, &changing).unwrap();
    };
    let later = |act: Box<dyn FnOnce() + Send>| {
        for _ in 1..nth {
            acts.send(Box::new(|| ())).unwrap();
        }
        acts.send(act).unwrap();
    };
    if restart {
        later(Box::new(replace));
        rig.start_agent().await;
    } else {
        rig.start_agent().await;
        until_known(&rig, key(3)).await;
        let config = scratch.path().join("agent.json");
        acts.send(Box::new(move || {
            let text = std::fs::read_to_string(&config).unwrap();
            std::fs::write(&config, text + "\n").unwrap();
        }))
        .unwrap();
        later(Box::new(replace));
    }
    until_known(&rig, key(4)).await;
}

async fn until_known(rig: &Rig, key: Key) {
    let endpoint = rig.transfer_port(Some(key));
    wait_for("the key to be known", LIMIT, async || {
        let mut connection = Connection::open(&endpoint, timeouts()).await?;
        // Refused with a good signature: there is no such zone.
        let refused = connection.soa(&name(ZONE)).await;
        ensure!(matches!(refused, Err(ClientError::Refused)), "{refused:?}");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_key_that_changes_while_the_agent_starts_is_not_missed() {
    for nth in 1..=3 {
        a_key_replaced_at_read(nth, true).await;
    }
}

#[tokio::test]
async fn a_key_that_changes_while_the_agent_reads_its_configuration_is_not_missed() {
    for nth in 1..=3 {
        a_key_replaced_at_read(nth, false).await;
    }
}

#[tokio::test]
async fn a_source_that_is_not_configured_any_more_is_forgotten() {
    let scratch = Scratch::new("agent-source-gone").unwrap();
    let nobody = bindy_testing::Port::free().unwrap();
    let sources = [("kept", "upstream", nobody.address()), ("gone", "upstream", nobody.address())];
    let mut rig = Rig::start(&scratch, &sources).await;
    let told = async |rig: &Rig, wanted: &[&str]| {
        wait_for("the sources in the metrics", LIMIT, async || {
            let text = rig.metrics().await?;
            let lines = text.lines().filter(|line| line.starts_with("bindy_agent_source_live{"));
            let lines: Vec<&str> = lines.collect();
            let told = |source: &&str| {
                lines.contains(&format!("bindy_agent_source_live{{source=\"{source}\"}} 0").as_str())
            };
            ensure!(lines.len() == wanted.len() && wanted.iter().all(told), "{lines:?}");
            Ok(())
        })
        .await
        .unwrap();
    };
    told(&rig, &["kept", "gone"]).await;
    rig.set_sources(&sources[..1]);
    told(&rig, &["kept"]).await;
}

async fn transfer(rig: &Rig, zone: &Name) -> Result<Serial> {
    Ok(dns::transfer(rig.named.address(), zone, None).await?.serial)
}

async fn refuses(rig: &Rig, zone: &Name) -> Result<()> {
    match transfer(rig, zone).await {
        Ok(serial) => bail!("{zone} is given at {serial}"),
        Err(error) => {
            ensure!(error.to_string().contains("REFUSED"), "{error}");
            Ok(())
        }
    }
}

#[tokio::test]
async fn a_running_named_gives_zones_to_whom_its_configuration_lets_and_its_catalog_to_nobody() {
    let scratch = Scratch::new("agent-allow-transfer").unwrap();
    let source = Source::start(&scratch, "operator", &content(1, "192.0.2.10")).await;
    let mut rig = Rig::start(&scratch, &[("operator", "operator", source.named.address())]).await;
    rig.until_ready().await;
    for zone in [name(ZONE), catalog()] {
        refuses(&rig, &zone).await.unwrap();
    }
    let loopback = || vec!["127.0.0.0/8".parse().unwrap()];
    rig.configure_named(|settings| {
        settings.wishes.allow_transfer = loopback();
        settings.wishes.allow_query = vec!["198.51.100.0/24".parse().unwrap()];
    });
    wait_for("the zone to be given", LIMIT, async || transfer(&rig, &name(ZONE)).await).await.unwrap();
    refuses(&rig, &catalog()).await.unwrap();
    rig.configure_named(|settings| settings.wishes.allow_transfer.clear());
    wait_for("the zone to be refused", LIMIT, async || refuses(&rig, &name(ZONE)).await).await.unwrap();
    let process = rig.named.process().unwrap();
    process.check_running().unwrap();
    assert_eq!(rig.readyz().await.unwrap().0, 200);
}

#[tokio::test]
async fn a_running_named_logs_as_its_configuration_says() {
    let scratch = Scratch::new("agent-log-level").unwrap();
    let source = Source::start(&scratch, "operator", &content(1, "192.0.2.10")).await;
    let mut rig = Rig::start(&scratch, &[("operator", "operator", source.named.address())]).await;
    rig.until_ready().await;
    let lines = |log: &str| log.lines().filter(|line| line.contains(" debug ")).count();
    assert_eq!(lines(&rig.named.log()), 0);
    rig.configure_named(|settings| settings.wishes.log = LogLevel::Debug);
    wait_for("lines of that level", LIMIT, async || {
        www(rig.named.address(), ZONE).await?;
        ensure!(lines(&rig.named.log()) > 0, "none");
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(rig.readyz().await.unwrap().0, 200);
}
