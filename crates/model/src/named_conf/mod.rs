//! What the configuration of `named` says, in the typed statements of [`bindy_named_conf`].
//!
//! ```text
//!   NamedSettings ─ instance_config ─┐
//!   local key ────── key_statement ──┴─► Statement tree ─► text
//! ```

mod downstream;
mod instance;
mod wishes;

pub use bindy_api::LogLevel;
pub use bindy_named_conf::{AclElement, AclError, Statement, Text, TextError, Value};
pub use downstream::{DownstreamSettings, downstream_config, downstream_options};
pub use instance::{Listen, NamedSettings, Paths, RateLimit, instance_config, key_statement, listen_config};
pub use wishes::{AccessError, LOCAL_KEY, Wishes};
