//! Every version that `bindy up` has published, over all its starts: what histories are checked against.

use anyhow::{Context, Result, ensure};
use bindy_testing::checker::{self, Published};
use bindy_testing::{History, dns};
use bindy_zone::{Content, Name, Ttl, Version, ZoneFile};

use super::Up;

impl Up {
    /// The versions of every zone in the order of their publication. The engine logs each before anybody can have it,
    /// so none is missing, wherever it was killed.
    pub fn versions(&self) -> Result<Published> {
        let mut published = Published::new();
        for start in 1..=self.starts {
            let log = std::fs::read(self.scratch.path().join(format!("up-{start}.log")))?;
            let text = String::from_utf8_lossy(&log);
            // A line that a kill has cut short was not published.
            let (complete, _) = text.rsplit_once('\n').unwrap_or_default();
            for line in complete.lines().filter(|line| line.contains("bindy_engine::versions: version")) {
                let version = read(line).with_context(|| line.to_owned())?;
                let versions = published.entry(version.content.apex().clone()).or_default();
                if versions.last() != Some(&version) {
                    versions.push(version);
                }
            }
        }
        ensure!(!published.is_empty(), "no versions in the log");
        Ok(published)
    }

    /// A history that leaves nothing to be desired: no wrong, empty, older or missing answer outside of outages.
    pub fn verify(&self, history: &History) -> Result<()> {
        checker::verify(history, &self.versions()?)
    }

    /// The last version in the log is what a server has.
    pub async fn versions_are_complete(&mut self) -> Result<()> {
        let (status, published) = (self.settled().await?, self.versions()?);
        for zone in &status.zones {
            let versions = published.get(&Name::parse(&zone.zone_name)?).context("an unknown zone")?;
            let last = versions.last().context("no version")?;
            ensure!(Some(last.serial.get()) == zone.serial, "{} ends with {}", zone.key, last.serial);
            let server = status.servers.first().context("no server")?;
            let served = self.transfer(server, last.content.apex()).await?;
            let difference = dns::difference(&last.content, &served.content);
            ensure!(difference.is_none(), "{}: {}", zone.key, difference.unwrap_or_default());
        }
        Ok(())
    }
}

/// `… zone=example.com. text="…"`, the text as Rust writes a string.
fn read(line: &str) -> Result<Version> {
    let (_, rest) = line.split_once(" zone=").context("no zone")?;
    let (zone, text) = rest.split_once(" text=\"").context("no text")?;
    let text = text.strip_suffix('"').context("no end of the text")?;
    let file = ZoneFile::parse(&unescaped(text)?, &Name::parse(zone)?, Ttl::saturating(0))?;
    let soa = file.soa.context("no SOA")?;
    let content = Content::from_records(Name::parse(zone)?, soa, file.records)?;
    Ok(Version { serial: file.serial.context("no serial")?, content })
}

/// Zone files are ASCII, so nothing but these is escaped.
fn unescaped(text: &str) -> Result<String> {
    let (mut plain, mut characters) = (String::new(), text.chars());
    while let Some(character) = characters.next() {
        plain.push(match character {
            '\\' => match characters.next() {
                Some('n') => '\n',
                Some(escaped @ ('\\' | '"' | '\'')) => escaped,
                other => anyhow::bail!("an escape that is not known: {other:?}"),
            },
            plain => plain,
        });
    }
    Ok(plain)
}
