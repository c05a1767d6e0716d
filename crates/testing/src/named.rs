//! A real `named` on loopback, in a directory of the test.
//!
//! Started with a configuration text, or with a typed [`NamedConfig`]. It can be killed, frozen, terminated, wiped and
//! restarted with the same ports and directory.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use bindy_zone::Name;

use crate::{Port, Process, Scratch, dns, wait_for};

/// How long named may take to answer its first query.
const START_LIMIT: Duration = Duration::from_secs(20);
/// How long it may take to stop.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// A TSIG key, hmac-sha256.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its name.
    pub name: Name,
    /// Its secret.
    pub secret: Vec<u8>,
}

impl Key {
    /// A key of this name with this secret.
    pub fn new(name: &Name, secret: &[u8]) -> Self {
        Self { name: name.clone(), secret: secret.to_vec() }
    }

    /// The first key of a text of BIND's `key` statements.
    pub fn of_statement(text: &str) -> Result<Self> {
        let mut words = text.split('"').skip(1).step_by(2);
        let (name, secret) = (words.next().context("no name")?, words.next().context("no secret")?);
        Ok(Self { name: Name::parse(name)?, secret: domain::utils::base64::decode(secret)? })
    }
}

/// Where one named lives; a configuration refers to it.
#[derive(Debug)]
pub struct Place {
    /// Working directory.
    pub directory: PathBuf,
    /// Port of queries and transfers.
    pub dns: Port,
    /// Port of the control channel, for configurations that open one.
    pub control: Port,
}

/// Where the content of a zone comes from.
#[derive(Clone, Debug)]
pub enum ZoneSource {
    /// A zone-file text: named is its primary.
    Text(String),
    /// Transferred from there.
    Primary(SocketAddr, Option<Key>),
    /// A catalog zone, transferred from there, as are its members.
    Catalog(SocketAddr, Option<Key>),
}

/// What most tests configure.
#[derive(Clone, Debug, Default)]
pub struct NamedConfig {
    /// Its zones.
    pub zones: Vec<(Name, ZoneSource)>,
    /// Transfers only with this key; by anybody without.
    pub transfer_key: Option<Key>,
    /// Servers that are notified of changes.
    pub also_notify: Vec<SocketAddr>,
    /// More statements for `options`.
    pub options: String,
}

/// A running (or killed) named.
#[derive(Debug)]
pub struct Named {
    name: String,
    place: Place,
    process: Option<Process>,
}

impl Named {
    /// Starts a named of that name with a typed configuration and waits until it answers.
    pub async fn start(scratch: &Scratch, name: &str, config: &NamedConfig) -> Result<Self> {
        let place = Place::new(scratch, name)?;
        let text = config.render(&place)?;
        Self::start_at(place, name, &text).await
    }

    /// Starts a named with the configuration that `config` writes for its place, and waits until it answers.
    pub async fn with_text(
        scratch: &Scratch,
        name: &str,
        config: impl FnOnce(&Place) -> String,
    ) -> Result<Self> {
        let place = Place::new(scratch, name)?;
        let text = config(&place);
        Self::start_at(place, name, &text).await
    }

    async fn start_at(place: Place, name: &str, config: &str) -> Result<Self> {
        std::fs::write(place.directory.join("named.conf"), config)?;
        let mut named = Self { name: name.to_owned(), place, process: None };
        named.restart().await?;
        Ok(named)
    }

    /// Starts it, again if it has been stopped, with the same configuration, ports and directory.
    pub async fn restart(&mut self) -> Result<()> {
        self.kill().await?;
        let log = self.place.directory.join("named.log");
        let mut command = Command::new("named");
        command
            .args(["-f", "-n", "1", "-c", "named.conf", "-L", "named.log"])
            .current_dir(&self.place.directory);
        let mut process = Process::start(&self.name, &command, &log)?;
        let address = self.address();
        let what = format!("the first answer of {} on {address}", self.name);
        wait_for(&what, START_LIMIT, async || {
            process.check_running()?;
            dns::is_answering(address).await
        })
        .await?;
        self.process = Some(process);
        Ok(())
    }

    /// Replaces the configuration; it takes effect at the next [`Named::restart`].
    pub fn configure(&self, config: &NamedConfig) -> Result<()> {
        let text = config.render(&self.place)?;
        std::fs::write(self.place.directory.join("named.conf"), text).context("cannot write named.conf")
    }

    /// Its name in the test.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it answers.
    pub fn address(&self) -> SocketAddr {
        self.place.dns.address()
    }

    /// Its directory and ports.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Its process, while it runs.
    pub fn process(&mut self) -> Result<&mut Process> {
        self.process.as_mut().with_context(|| format!("{} is not running", self.name))
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.place.directory.join("named.log")).unwrap_or_default()
    }

    /// SIGKILL; nothing when it is not running.
    pub async fn kill(&mut self) -> Result<()> {
        match self.process.take() {
            Some(mut process) => process.kill().await,
            None => Ok(()),
        }
    }

    /// SIGTERM, and the wait until it is gone.
    pub async fn terminate(&mut self) -> Result<()> {
        match self.process.take() {
            Some(mut process) => process.terminate(STOP_LIMIT).await.map(drop),
            None => Ok(()),
        }
    }

    /// SIGSTOP: the kernel goes on accepting for it, and nothing is answered.
    pub async fn freeze(&mut self) -> Result<()> {
        self.process()?.freeze().await
    }

    /// SIGCONT.
    pub fn thaw(&mut self) -> Result<()> {
        self.process()?.thaw()
    }

    /// Removes what a stopped named has stored: everything but configuration, keys, zone texts and log.
    pub fn wipe(&self) -> Result<()> {
        for entry in std::fs::read_dir(&self.place.directory)? {
            let path = entry?.path();
            let kept =
                path.extension().is_some_and(|e| e == "conf" || e == "key" || e == "log" || e == "zone");
            if !kept && path.is_dir() {
                std::fs::remove_dir_all(path)?;
            } else if !kept {
                std::fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

impl Place {
    fn new(scratch: &Scratch, name: &str) -> Result<Self> {
        Ok(Self { directory: scratch.directory(name)?, dns: Port::free()?, control: Port::free()? })
    }

    fn zone_file(&self, zone: &Name) -> PathBuf {
        self.directory.join(format!("{}zone", zone.to_string().replace(['/', '\\'], "_")))
    }
}

impl NamedConfig {
    /// One primary zone from a text.
    pub fn primary(zone: &Name, text: &str) -> Self {
        Self { zones: vec![(zone.clone(), ZoneSource::Text(text.to_owned()))], ..Self::default() }
    }

    fn render(&self, place: &Place) -> Result<String> {
        let (mut text, mut catalogs, mut zones) = (String::new(), String::new(), String::new());
        let mut keys: Vec<&Key> = self.transfer_key.iter().collect();
        for (zone, source) in &self.zones {
            match source {
                ZoneSource::Text(records) => {
                    let file = place.zone_file(zone);
                    std::fs::write(&file, records)?;
                    writeln!(zones, "zone \"{zone}\" {{ type primary; file \"{}\"; }};", file.display())?;
                }
                ZoneSource::Primary(address, key) | ZoneSource::Catalog(address, key) => {
                    keys.extend(key);
                    let from = endpoint(*address, key.as_ref());
                    writeln!(
                        zones,
                        "zone \"{zone}\" {{ type secondary; primaries {{ {from}; }}; file \"{zone}db\"; }};"
                    )?;
                    if matches!(source, ZoneSource::Catalog(..)) {
                        let zone = format!("zone \"{zone}\" default-primaries {{ {from}; }}");
                        writeln!(catalogs, "    {zone} min-update-interval 0;")?;
                    }
                }
            }
        }
        keys.sort_by(|a, b| a.name.cmp(&b.name));
        keys.dedup_by(|a, b| a.name == b.name);
        for key in keys {
            let secret = base64(&key.secret);
            writeln!(text, "key \"{}\" {{ algorithm hmac-sha256; secret \"{secret}\"; }};", key.name)?;
        }
        let transfers =
            self.transfer_key.as_ref().map_or("any".to_owned(), |key| format!("key \"{}\"", key.name));
        let notified: String = self.also_notify.iter().map(|to| endpoint(*to, None) + "; ").collect();
        text.push_str(&self.options_text(place, &transfers, &notified, &catalogs));
        Ok(text + &zones)
    }

    fn options_text(&self, place: &Place, transfers: &str, notified: &str, catalogs: &str) -> String {
        let catalogs = match catalogs {
            "" => String::new(),
            zones => format!("  catalog-zones {{\n{zones}  }};\n"),
        };
        let notify = if notified.is_empty() {
            "notify no;".to_owned()
        } else {
            format!("notify explicit; also-notify {{ {notified}}};")
        };
        format!(
            "options {{\n  directory \"{}\";\n  listen-on port {} {{ 127.0.0.1; }};\n  listen-on-v6 {{ none; }};\n  \
             pid-file none;\n  session-keyfile none;\n  recursion no;\n  dnssec-validation no;\n  minimal-responses yes;\n  \
             allow-transfer {{ {transfers}; }};\n  {notify}\n  notify-delay 0;\n  serial-query-rate 2000;\n  \
             transfers-in 200;\n  transfers-per-ns 200;\n  transfers-out 200;\n  tcp-clients 1000;\n{catalogs}{}\n}};\n\
             controls {{ }};\n",
            place.directory.display(),
            place.dns.number(),
            self.options,
        )
    }
}

fn endpoint(address: SocketAddr, key: Option<&Key>) -> String {
    let key = key.map(|key| format!(" key \"{}\"", key.name)).unwrap_or_default();
    format!("{} port {}{key}", address.ip(), address.port())
}

/// RFC 4648 section 4, with padding.
fn base64(octets: &[u8]) -> String {
    const ALPHABET: [u8; 64] = *b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in octets.chunks(3) {
        let value = (0..3).fold(0usize, |v, i| v << 8 | usize::from(chunk.get(i).copied().unwrap_or(0)));
        for position in 0..4 {
            let index = value >> (18 - 6 * position) & 63;
            let digit = if position <= chunk.len() { ALPHABET.get(index).copied() } else { Some(b'=') };
            text.push(char::from(digit.unwrap_or(b'=')));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_rfc_4648() {
        let vectors = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("foobar", "Zm9vYmFy"),
        ];
        for (octets, text) in vectors {
            assert_eq!(base64(octets.as_bytes()), text);
        }
    }
}
