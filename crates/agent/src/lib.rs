//! The sidecar of one `named`: its only primary, its watchman, and its mouth towards other servers.
//!
//! ```text
//!                       ┌──────────────── agent ────────────────┐
//!   operator ◄──TSIG────┤ sources ◄── relay ◄────── loopback ───┼── named (SOA, IXFR, AXFR)
//!   upstreams, siblings │                                       │
//!   operator ──NOTIFY──►│ transfer port ──── NOTIFY, queries ───┼─► named (local key)
//!   downstreams ──TSIG─►│                                       │
//!   kubelet ────────────► /readyz /livez /metrics    rndc ──────┼─► named
//!                       └───────────────────────────────────────┘
//! ```
//! named never sees an upstream: one that drops packets would be cached as unreachable for ten minutes, one that stays
//! silent would hold a zone for half a minute, and both lose changes. No request without a good signature is answered
//! but on loopback, and nothing here ever forces a transfer, so no serial goes backwards.

mod agent;
mod answer;
mod config;
mod farewell;
mod given;
mod http;
mod keys;
mod local;
mod local_key;
mod members;
mod metrics;
mod poll;
mod pool;
mod readiness;
mod relay;
mod sources;
mod survey;
mod transfer;
mod watch;

use std::net::{Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bindy_wire::{KeyRing, Server, ServerLimits, ServerOptions, Service, Signatures, listen};
use bindy_zone::NameError;
use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::info;

use crate::agent::Agent;
use crate::members::Members;
use crate::relay::Relay;
use crate::transfer::TransferPort;

pub use config::ConfigError;
pub use survey::PATIENCE;

/// Why an agent cannot run.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Its configuration is of no use.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A name of the program's own is none.
    #[error(transparent)]
    Name(#[from] NameError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address} ({purpose}): {error}")]
    Bind {
        /// What for.
        purpose: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why.
        error: std::io::Error,
    },
    /// The local key cannot be kept.
    #[error("the local key cannot be kept in {path}: {error}")]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
}

/// Runs the agent of one server until `cancel`; every task has ended when it returns. `patience`: how long readiness waits
/// for zones that no source has, [`PATIENCE`] but for tests. Boxed, so that the whole agent is compiled in this crate, once, and
/// not by each that runs it.
pub fn run(
    config_path: &Path,
    patience: Duration,
    cancel: CancellationToken,
) -> BoxFuture<'_, Result<(), AgentError>> {
    Box::pin(run_until(config_path, patience, cancel))
}

async fn run_until(
    config_path: &Path,
    patience: Duration,
    cancel: CancellationToken,
) -> Result<(), AgentError> {
    let (config, seen, given) = watch::load(config_path)?;
    let key = local_key::load_or_create(&config.named.key_file)?;
    let (relay_at, transfer_at, http_at) =
        (config.relay, everywhere(config.transfer), everywhere(config.http));
    let agent = Arc::new(Agent::new(config, key));
    let tasks = TaskTracker::new();
    let relay = Relay::new(Arc::clone(&agent), tasks.clone())?;
    let options = ServerOptions { address: relay_at, signatures: Signatures::None, limits: relay_limits() };
    let relay = bind("relay", options, agent.keys.clone(), relay).await?;
    let members = Arc::new(Members::default());
    let port = TransferPort::new(Arc::clone(&agent), Arc::clone(&members), tasks.clone())?;
    let limits = ServerLimits::default();
    let options = ServerOptions { address: transfer_at, signatures: Signatures::Required, limits };
    let port = bind("transfer", options, agent.keys.clone(), port).await?;
    let bind_error = |error| AgentError::Bind { purpose: "http", address: http_at, error };
    let listener = listen(http_at).map_err(bind_error)?;
    info!(instance = agent.config().instance, relay = %relay_at, transfer = %transfer_at, http = %http_at, "agent runs");

    let spawn = |task: BoxFuture<'static, ()>| drop(tasks.spawn(task));
    spawn(Box::pin(relay.serve(cancel.clone())));
    spawn(Box::pin(port.serve(cancel.clone())));
    let named = Arc::new(watch::Named::new(Arc::clone(&members)));
    spawn(Box::pin(http::serve(Arc::clone(&agent), Arc::clone(&named), listener, cancel.clone())));
    let path = config_path.to_owned();
    spawn(Box::pin(watch::files(Arc::clone(&agent), path, seen, given, cancel.clone())));
    spawn(Box::pin(local::keep(Arc::clone(&agent), cancel.clone())));
    spawn(Box::pin(watch::named(Arc::clone(&agent), named, cancel.clone())));
    spawn(Box::pin(members::load(Arc::clone(&agent), patience, cancel.clone())));
    spawn(Box::pin(poll::probes(Arc::clone(&agent), cancel.clone())));
    spawn(Box::pin(poll::catalog(Arc::clone(&agent), patience, cancel.clone())));
    spawn(Box::pin(poll::slices(Arc::clone(&agent), members, cancel.clone())));
    cancel.cancelled().await;
    tasks.close();
    tasks.wait().await;
    Ok(())
}

/// named asks for as many zones at once as its `serial-query-rate` allows, and a lost question costs it seconds. The farewell is
/// answered late.
fn relay_limits() -> ServerLimits {
    ServerLimits {
        datagrams: 20_000,
        per_client: 2_000,
        reply: Duration::from_secs(60),
        ..ServerLimits::default()
    }
}

/// Where an agent listens that is told this address: one that names no address stands for every address of both families.
fn everywhere(address: SocketAddr) -> SocketAddr {
    let any = Ipv6Addr::UNSPECIFIED;
    if address.ip().is_unspecified() { SocketAddr::from((any, address.port())) } else { address }
}

async fn bind<S: Service>(
    purpose: &'static str,
    options: ServerOptions,
    keys: impl KeyRing,
    service: S,
) -> Result<Server<S>, AgentError> {
    let address = options.address;
    Server::bind(options, keys, service).await.map_err(|error| AgentError::Bind { purpose, address, error })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_names_none_stands_for_both_families() {
        for (told, at) in [
            ("0.0.0.0:5353", "[::]:5353"),
            ("[::]:5353", "[::]:5353"),
            ("127.0.0.1:5353", "127.0.0.1:5353"),
            ("[::1]:5353", "[::1]:5353"),
        ] {
            assert_eq!(everywhere(told.parse().unwrap()), at.parse().unwrap());
        }
    }
}
