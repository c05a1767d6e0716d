//! What the agent gives named to read: its configuration, and where it listens.
//!
//! A named that starts has its members only some time later, and would answer REFUSED for them until then; one that was killed is
//! started anew before anybody sends clients elsewhere. So on the disk it says that named listens on loopback, where
//! the agent asks it, and only as soon as it has everything the agent has it listen to others:
//!
//! ```text
//!   at rest      named.conf that it has taken, listen.conf: loopback ──► what a named starts with
//!   for a moment named.conf that it shall take, listen.conf: loopback until it has everything, any from then on ──► rndc reconfig
//! ```
//! For that moment named.conf.before keeps the one that it has taken: an agent that finds it was killed meanwhile, and puts it back.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bindy_model::named_conf::listen_config;
use bindy_model::{ConfigState, NamedConfig};
use bindy_wire::{Rndc, RndcError};
use tracing::{info, warn};

use crate::agent::Agent;
use crate::config::{self, ConfigError};
use crate::local_key::replace;
use crate::watch::{boot_time, control};

/// How long named may take to read its configuration; with 100 000 zones it takes many seconds.
const READS: Duration = Duration::from_secs(180);
/// When named is told again to read a configuration that it has refused, or that it could not be given.
const REFUSED: Duration = Duration::from_secs(60);
/// The same for one that has ended it, which costs answers.
const BROKEN_OFF: Duration = Duration::from_secs(600);
/// When named is told again to listen to others.
const CLOSED: Duration = Duration::from_secs(5);

/// What named was given, and what became of it.
#[derive(Debug, Default)]
pub(crate) struct Given {
    /// Digest of the configuration that a named that does not run yet will start with.
    starts: Option<String>,
    /// Digest of the one that it was told to read last; `None` while it is not known which one it has read.
    read: Option<String>,
    /// When it is told again to read that one, which it has refused.
    again: Option<Instant>,
    /// When it could not be told to listen to others.
    closed: Option<Instant>,
}

impl Given {
    /// Gives named what it is to be started with, unless it may have been started already.
    pub(crate) fn new(named: &NamedConfig) -> Result<Self, ConfigError> {
        // It cannot have started without its configuration, and the local key that this includes.
        let fresh = !(named.key_file.exists() && named.copy().exists());
        let cannot = |path: PathBuf| move |error| ConfigError::Give(path, error);
        put_back(named).map_err(cannot(named.copy()))?;
        listen(named, false).map_err(cannot(named.listen_file()))?;
        if !fresh {
            return Ok(Self::default());
        }
        let file = &named.config_file;
        let text = config::read(file)?;
        give(named, &text).map_err(cannot(named.copy()))?;
        Ok(Self { starts: Some(ConfigState::digest(&text)), ..Self::default() })
    }

    /// Gives named what has changed, and has it listen to others once it has everything.
    pub(crate) async fn follow(&mut self, agent: &Agent) {
        let (config, answers) = (agent.config(), agent.readiness().answers());
        let named = &config.named;
        // A configuration that cannot be read is none that named could have instead.
        let wanted = std::fs::read(&named.config_file).ok();
        if !answers {
            wanted.iter().for_each(|text| self.renew(named, text));
            return;
        }
        if let Some(digest) = self.starts.take() {
            agent.set_named_config(ConfigState::Taken(digest.clone()));
            self.read = Some(digest);
        }
        let now = wanted.filter(|text| agent.may_give(&ConfigState::digest(text)));
        if let Some(text) = now.or_else(|| std::fs::read(named.copy()).ok()) {
            self.change(agent, &text).await;
        }
        self.open(agent).await;
    }

    /// A named that never listened to others may not be able to start with what it was given: what is wanted now takes its place.
    fn renew(&mut self, named: &NamedConfig, text: &[u8]) {
        let has_run = !named.is_given() || named.opened_file().exists();
        if has_run || std::fs::read(named.copy()).is_ok_and(|given| given == text) {
            return;
        }
        match give(named, text) {
            // It may have read either.
            Ok(()) => (self.starts, self.read) = (None, None),
            Err(error) => warn!(%error, "named cannot be given its configuration"),
        }
    }

    /// Has named read its configuration if it is another one.
    async fn change(&mut self, agent: &Agent, text: &[u8]) {
        let digest = ConfigState::digest(text);
        let again = self.again.is_some_and(|at| at <= Instant::now());
        if self.read.as_ref() == Some(&digest) && !again {
            return;
        }
        self.again = None;
        let Err(error) = try_change(agent, text).await else {
            agent.metrics.reconfigurations.inc();
            info!("named reads its configuration again");
            agent.set_named_config(ConfigState::Taken(digest.clone()));
            self.read = Some(digest);
            return;
        };
        warn!(%error, "named does not take its configuration and keeps the previous one");
        // Without such words it may have read it all the same.
        self.read = error.refusal().map(|(text, pause)| {
            agent.set_named_config(ConfigState::Refused { digest: digest.clone(), text });
            self.again = Some(Instant::now() + pause);
            digest
        });
    }

    async fn open(&mut self, agent: &Agent) {
        if self.closed.is_some_and(|at| at.elapsed() < CLOSED) {
            return;
        }
        let Some(process) = agent.readiness().may_open().map(str::to_owned) else { return };
        self.closed = match try_open(agent, &process).await {
            Ok(()) => {
                agent.readiness().opened(&process);
                info!("named has everything and listens to others");
                None
            }
            Err(error) => {
                warn!(%error, "named cannot be told to listen to others");
                Some(Instant::now())
            }
        };
    }
}

/// Whether the named with this boot time listens to others, as far as an agent before this one has written down.
pub(crate) fn is_opened(named: &NamedConfig, boot_time: &str) -> bool {
    std::fs::read_to_string(named.opened_file()).is_ok_and(|opened| opened == boot_time)
}

/// Why named does not read what it was given.
#[derive(Debug, thiserror::Error)]
enum GiveError {
    #[error("its files: {0}")]
    Files(#[from] io::Error),
    #[error(transparent)]
    Named(#[from] RndcError),
    #[error("it did not come to the end of its configuration: {0}")]
    BrokenOff(RndcError),
    #[error("it is another process already")]
    Another,
}

impl GiveError {
    /// Why named has refused what it was given, or not lived to take it, or could not be given it; and how long to leave it at that.
    fn refusal(&self) -> Option<(String, Duration)> {
        match self {
            Self::Named(RndcError::Failed { text, .. }) => Some((text.clone(), REFUSED)),
            Self::Files(_) => Some((self.to_string(), REFUSED)),
            Self::BrokenOff(_) => Some((self.to_string(), BROKEN_OFF)),
            Self::Named(_) | Self::Another => None,
        }
    }
}

/// Unless named takes it, the configuration before is what it is started with.
async fn try_change(agent: &Agent, text: &[u8]) -> Result<(), GiveError> {
    let config = agent.config();
    let named = &config.named;
    let mut control = control(agent, READS).await?;
    let process = boot_time(&mut control).await?;
    // What could not be put back before.
    put_back(named)?;
    keep(named)?;
    give(named, text)?;
    let open = agent.readiness().is_open(&process);
    match read_again(&mut control, named, open).await {
        Ok(()) => forget(named)?,
        Err(error) => {
            put_back(named)?;
            return Err(error);
        }
    }
    Ok(())
}

/// `process`: the boot time of the one that has everything.
async fn try_open(agent: &Agent, process: &str) -> Result<(), GiveError> {
    let config = agent.config();
    let named = &config.named;
    // By one connection: it is the process that is asked.
    let mut control = control(agent, READS).await?;
    if boot_time(&mut control).await? != process {
        return Err(GiveError::Another);
    }
    read_again(&mut control, named, true).await?;
    Ok(replace(&named.opened_file(), process.as_bytes())?)
}

/// Has named read its configuration again, and listen to others, or on loopback only.
async fn read_again(control: &mut Rndc, named: &NamedConfig, open: bool) -> Result<(), GiveError> {
    listen(named, open)?;
    let told = control.command("reconfig").await;
    listen(named, false)?;
    match told {
        Ok(_) => Ok(()),
        Err(error @ RndcError::Io(_)) => Err(GiveError::BrokenOff(error)),
        Err(error) => Err(error.into()),
    }
}

fn give(named: &NamedConfig, text: &[u8]) -> io::Result<()> {
    if named.is_given() { replace(&named.copy(), text) } else { Ok(()) }
}

/// Keeps the configuration that named has taken, until it has taken or refused another one.
fn keep(named: &NamedConfig) -> io::Result<()> {
    if named.is_given() { replace(&before(named), &std::fs::read(named.copy())?) } else { Ok(()) }
}

fn put_back(named: &NamedConfig) -> io::Result<()> {
    if_there(std::fs::rename(before(named), named.copy()))
}

fn forget(named: &NamedConfig) -> io::Result<()> {
    if_there(std::fs::remove_file(before(named)))
}

fn before(named: &NamedConfig) -> PathBuf {
    named.copy().with_added_extension("before")
}

fn if_there(done: io::Result<()>) -> io::Result<()> {
    done.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

fn listen(named: &NamedConfig, open: bool) -> io::Result<()> {
    if !named.is_given() {
        return Ok(());
    }
    let on: [IpAddr; 2] = match open {
        true => [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
        false => [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
    };
    let on = on.map(|address| SocketAddr::new(address, named.dns.port()));
    replace(&named.listen_file(), listen_config(&on).as_bytes())
}
