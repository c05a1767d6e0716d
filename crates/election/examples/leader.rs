//! Takes part in an election on the cluster of the kubeconfig, says what it is, and gives the lease back on SIGINT or
//! SIGTERM. Settings come from the environment (see the README).
//!
//! ```text
//! POD_NAME=one LEASE_NAMESPACE=default cargo run -p bindy-election --example leader
//! ```

use std::time::Duration;

use anyhow::Result;
use bindy_election::{Election, LeaseStore, Settings, State, Term, TermOver};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

#[tokio::main]
async fn main() -> Result<()> {
    tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).init();
    let config = Settings::from_env(|name| std::env::var(name).ok())?.check()?;
    let store = LeaseStore::new(kube::Config::infer().await?, &config)?;
    let cancel = CancellationToken::new();
    let election = Election::start(config, store, cancel.clone())?;
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (mut state, writers) = (election.state(), TaskTracker::new());
    loop {
        let now = state.borrow_and_update().clone();
        if let State::Leader(term) = now {
            let cancel = cancel.clone();
            writers.spawn(async move {
                tracing::info!(term = term.number(), "Starting all operators");
                tokio::select! {
                    () = cancel.cancelled() => {}
                    ended = write(&term) => tracing::info!(reason = ?ended, "stopped"),
                }
            });
        }
        tokio::select! {
            changed = state.changed() => changed?,
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    cancel.cancel();
    writers.close();
    election.release(async { writers.wait().await }).await;
    Ok(())
}

/// What only a leader does: every write asks its term first.
async fn write(term: &Term) -> Result<(), TermOver> {
    loop {
        term.check()?;
        tracing::debug!(term = term.number(), "a write");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
