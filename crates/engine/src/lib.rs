//! Carries out what the model decides, on real servers: the same for Kubernetes and for local processes.
//!
//! ```text
//!   objects, servers ──► Engine ──step──► Core (pure)
//!                          │ ▲
//!            Swap ─► Ledger│ │results
//!         Publish ─► Store ◄─┼── hidden primary (bindy-wire server) ◄── agents
//!    Fetch, Probe ─► servers ┘
//! ```
//! Three things differ between the two worlds and come in from outside: where objects come from, the ledger, and who
//! runs the servers. Nothing is decided here.

mod clock;
mod driver;
mod fetch;
mod keys;
mod ledger;
mod probe;
mod store;

pub use clock::{Clock, sleep_until};
pub use driver::{Engine, EngineHandle, Server, Snapshot, View};
pub use keys::{HandoutError, InstanceKeys, keys, signing_key};
pub use ledger::{Ledger, Swap};
pub use store::Store;
