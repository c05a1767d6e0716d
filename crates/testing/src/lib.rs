//! What the tests of the project are made of: real `named` processes, a proxy that injects faults, a prober that
//! writes down every answer, and a checker that compares such a history with what was published.
//!
//! ```text
//!   Scratch (directory of the test, kept when it fails)
//!     ├─ Named           processes on reserved loopback ports, killed with the test
//!     ├─ Proxy           between any two of them: delay, freeze, cut, drop, silence, corrupt
//!     ├─ Prober          asks all servers all the time ──► History ─┐
//!     └─ published versions ────────────────────────────────────────┴─► checker::check ─► Violations
//! ```
//! [`cluster`] has the same on a real Kubernetes: namespaces for directories, pods for processes.
//!
//! Nothing here uses the project's own DNS code on the wire: what checks a server shares no bug with it. Functions
//! return `anyhow` errors; tests unwrap them, so that a failure shows the line.

pub mod checker;
pub mod cluster;
pub mod dns;
mod expected;
pub mod figures;
pub mod history;
pub mod http;
pub mod manifest;
pub mod metrics;
mod named;
mod ports;
mod prober;
mod process;
mod proxy;
mod scratch;
mod seed;
mod wait;

pub use history::History;
pub use named::{Key, Named, NamedConfig, Place, ZoneSource};
pub use ports::Port;
pub use prober::{ProbeTarget, Prober, ProberConfig, Question};
pub use process::Process;
pub use proxy::{Counts, Fault, Proxy};
pub use scratch::Scratch;
pub use seed::{given_seed, seed};
pub use wait::wait_for;
