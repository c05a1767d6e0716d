//! The ledger: for each zone and catalog the (serial, digest) of its last version, written before anyone serves it.

use std::future::Future;

use bindy_model::{LedgerEntry, Swapped, Target};
use bindy_zone::Serial;

/// A write that happens only if the ledger says what is expected.
#[derive(Clone, Debug)]
pub struct Swap {
    /// Zone or catalog.
    pub target: Target,
    /// Serial that the entry has to have; `None`: there is no entry.
    pub expected: Option<Serial>,
    /// The new entry.
    pub next: LedgerEntry,
}

/// A ledger that survives the engine: the status of Kubernetes objects, or an embedded database.
pub trait Ledger: Send + Sync + 'static {
    /// Carries out the swap; when it returns [`Swapped::Done`] the entry is durable.
    fn swap(&self, swap: Swap) -> impl Future<Output = Swapped> + Send;
}
