//! Gets a version back from the servers that have it.

use std::time::Duration;

use bindy_model::LedgerEntry;
use bindy_wire::{ClientError, Connection, Endpoint, Transfer};
use bindy_zone::{Name, Version};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::probe::TIMEOUTS;

/// How long servers that do not answer are asked again: they may have been started together with the engine.
const PATIENCE: Duration = Duration::from_secs(5);

/// Pause between two rounds.
const PAUSE: Duration = Duration::from_millis(100);

enum Found {
    Version(Box<Version>),
    /// The server answered, and it is not the version that is looked for.
    Other,
    /// The server may answer later.
    Unknown,
}

/// The version that `wanted` names, or without it the latest that any server has; `None` when every server answered
/// something else, or none answered for some seconds.
pub(crate) async fn fetch(
    servers: Vec<Endpoint>,
    zone: Name,
    wanted: Option<LedgerEntry>,
) -> Option<Version> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut asked = JoinSet::new();
        for server in servers.clone() {
            asked.spawn(ask(server, zone.clone(), wanted));
        }
        let (mut best, mut unknown): (Option<Version>, bool) = (None, false);
        while let Some(found) = asked.join_next().await {
            match found {
                Ok(Found::Version(version)) if wanted.is_some() => return Some(*version),
                Ok(Found::Version(version)) => {
                    if best.as_ref().is_none_or(|best| version.serial.is_after(best.serial)) {
                        best = Some(*version);
                    }
                }
                Ok(Found::Other) => {}
                Ok(Found::Unknown) | Err(_) => unknown = true,
            }
        }
        if best.is_some() || !unknown || Instant::now() > deadline {
            return best;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn ask(server: Endpoint, zone: Name, wanted: Option<LedgerEntry>) -> Found {
    match transfer(&server, &zone, wanted).await {
        Ok(Some(version)) if wanted.is_none_or(|wanted| wanted == LedgerEntry::of(&version)) => {
            Found::Version(Box::new(version))
        }
        Ok(_) => Found::Other,
        Err(error) => {
            tracing::debug!(%zone, server = %server.address, %error, "cannot fetch");
            Found::Unknown
        }
    }
}

async fn transfer(
    server: &Endpoint,
    zone: &Name,
    wanted: Option<LedgerEntry>,
) -> Result<Option<Version>, ClientError> {
    let mut connection = Connection::open(server, TIMEOUTS).await?;
    if let Some(wanted) = wanted
        && connection.soa(zone).await? != wanted.serial
    {
        return Ok(None);
    }
    match connection.transfer(zone, None).await? {
        Transfer::Full(version) | Transfer::Incremental(version) => Ok(Some(version)),
        Transfer::Current => Ok(None),
    }
}
