//! Bindy on Kubernetes: watches the custom resources, drives the engine, runs the servers as pods, and says on each
//! object what is served where.
//!
//! ```text
//!   API ──watch──► observe ──events──► engine ──swap──► ledger ──JSON patch──► API (status: serial, digest)
//!                  servers ──pods────►   │  └─notices─► tell ───patch───────► API (status: the rest)
//!                                        └─fleet──► fleet ──apply──────────► API (workloads)
//!                                        hidden primary ◄──AXFR, IXFR, TSIG── agents
//!   API ──watch──► master ──keys──► servers, fleet, hidden primary;  rotation ──patch──► API (the master secret)
//! ```

mod configs;
mod events;
pub mod fleet;
mod http;
pub mod install;
mod instances;
mod key;
mod ledger;
mod master;
mod metrics;
mod observe;
mod patch;
pub mod rbac;
mod refusals;
mod replica;
mod rotation;
mod run;
mod servers;
mod states;
mod tell;
mod term;

pub use bindy_election::{Invalid, Settings};
pub use master::MasterSecretError;
pub use run::{Options, RunError, run};
pub use term::Term;
