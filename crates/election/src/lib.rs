//! Leader election on a Kubernetes Lease, with terms that end by the clock.
//!
//! ```text
//!   Settings ─check─► Config ─┐
//!                             ▼
//!   API server ◄─LeaseStore─ Election ─watch─► State: Standby │ Leader(Term) │ Stopped
//!                             │ Candidate::step (pure)             │
//!                             └─ Metrics                           └─ term.check()? before every write
//! ```
//! The semantics are those of client-go's leaderelection: nobody looks at the clock of another machine. What is added:
//! a term is over at its deadline whatever hangs, every write to the lease has a precondition, terms are numbered,
//! and neither deleting nor editing the lease makes two leaders. What is decided is in [`candidate`], without any IO, and is
//! checked there against a simulated world.

pub mod candidate;
mod config;
mod election;
mod lease;
mod metrics;
mod moment;
mod record;
mod store;
mod term;

pub use config::{Config, Invalid, Settings, variable};
pub use election::{Election, State};
pub use lease::LeaseStore;
pub use metrics::{Metrics, Snapshot};
pub use moment::Moment;
pub use record::{Holder, Observed, Process, Record, Version};
pub use store::{Problem, Store, Watch, WatchProblem};
pub use term::{Term, TermOver};
