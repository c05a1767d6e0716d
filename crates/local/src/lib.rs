//! Embedded mode: the engine on a directory of manifests and local `named` processes.
//!
//! ```text
//!   DIR/*.yaml ─ source ─► engine ◄─ ledger (serials, identities: one redb file)
//!                            │
//!                            ├─► runner ─► servers/<namespace>.<instance>.<index>/ {named, agent}
//!                            └─► status.json, screen
//! ```
//!
//! Only the source of objects, the ledger and the runner of servers are different from a cluster; everything between
//! them is the engine's.

mod check;
mod handouts;
pub mod ledger;
mod objects;
mod plan;
mod report;
pub mod runner;
mod screen;
pub mod source;
pub mod status;
mod up;
mod vanished;

pub use check::{CheckError, check};
pub use up::{UpError, UpOptions, up};
