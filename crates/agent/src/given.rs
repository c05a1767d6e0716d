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

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use bindy_model::named_conf::listen_config;
use bindy_model::{ConfigState, NamedConfig};
use bindy_wire::{Rndc, RndcError};
use tracing::{info, warn};

use crate::agent::Agent;
use crate::config::ConfigError;
use crate::watch::{boot_time, control};

/// Gives named what it is to be started with; returns the digest of its configuration, or `None` where it may have started with
/// another one already.
pub(crate) fn prepare(named: &NamedConfig) -> Result<Option<String>, ConfigError> {
    // It cannot have started without its configuration, and the local key that this includes.
    let fresh = !(named.key_file.exists() && named.copy().exists());
    let cannot = |path: PathBuf| move |error| ConfigError::Give(path, error);
    listen(named, false).map_err(cannot(named.listen_file()))?;
    if !fresh {
        return Ok(None);
    }
    let file = &named.config_file;
    let text = std::fs::read(file).map_err(|error| ConfigError::Read { path: file.clone(), error })?;
    give(named, &text).map_err(cannot(named.copy()))?;
    Ok(Some(ConfigState::digest(&text)))
}

/// Has named read this configuration, which has this digest; `None` when it could not be told.
pub(crate) async fn reconfigure(agent: &Agent, text: &[u8], digest: String) -> Option<ConfigState> {
    match change(agent, text).await {
        Ok(()) => {
            agent.metrics.reconfigurations.inc();
            info!("named reads its configuration again");
            Some(ConfigState::Taken(digest))
        }
        Err(GiveError::Named(RndcError::Failed { code, text })) => {
            warn!(code, text, "named refuses its configuration and keeps the previous one");
            Some(ConfigState::Refused { digest, text })
        }
        Err(error) => {
            warn!(%error, "named cannot be told to read its configuration");
            None
        }
    }
}

/// Has named listen to others once it has everything.
pub(crate) async fn open(agent: &Agent) {
    if !agent.readiness().may_open() {
        return;
    }
    match try_open(agent).await {
        Ok(()) => {
            agent.readiness().opened();
            info!("named has everything and listens to others");
        }
        Err(error) => warn!(%error, "named cannot be told to listen to others"),
    }
}

/// Whether the named with this boot time listens to others, as far as an agent before this one has written down.
pub(crate) fn is_opened(agent: &Agent, boot_time: &str) -> bool {
    let named = agent.config().named.clone();
    !named.is_given() || std::fs::read_to_string(named.opened_file()).is_ok_and(|opened| opened == boot_time)
}

/// Why named does not read what it was given.
#[derive(Debug, thiserror::Error)]
enum GiveError {
    #[error("its files: {0}")]
    Files(#[from] io::Error),
    #[error(transparent)]
    Named(#[from] RndcError),
}

/// Unless named takes it, the configuration before is what it is started with.
async fn change(agent: &Agent, text: &[u8]) -> Result<(), GiveError> {
    let named = agent.config().named.clone();
    let mut control = control(agent).await?;
    let before = std::fs::read(named.copy())?;
    give(&named, text)?;
    let open = agent.readiness().is_open();
    let told = read_again(&mut control, &named, open).await;
    if told.is_err() {
        give(&named, &before)?;
    }
    told
}

async fn try_open(agent: &Agent) -> Result<(), GiveError> {
    let named = agent.config().named.clone();
    // By one connection: it is the process that was asked.
    let mut control = control(agent).await?;
    let boot_time = boot_time(&mut control).await?;
    read_again(&mut control, &named, true).await?;
    Ok(replace(&named.opened_file(), boot_time.as_bytes())?)
}

/// Has named read its configuration again, and listen to others, or on loopback only.
async fn read_again(control: &mut Rndc, named: &NamedConfig, open: bool) -> Result<(), GiveError> {
    listen(named, open)?;
    let told = control.command("reconfig").await;
    listen(named, false)?;
    told?;
    Ok(())
}

fn give(named: &NamedConfig, text: &[u8]) -> io::Result<()> {
    if named.is_given() { replace(&named.copy(), text) } else { Ok(()) }
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

/// Nobody finds half of it.
fn replace(file: &Path, text: &[u8]) -> io::Result<()> {
    let new = file.with_extension("new");
    std::fs::write(&new, text)?;
    std::fs::rename(new, file)
}
