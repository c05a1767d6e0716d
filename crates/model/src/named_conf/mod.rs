//! Configuration of `named` as typed statements.
//!
//! ```text
//!   NamedSettings ─ instance_config ─┐
//!   local key ────── key_statement ──┴─► Statement tree ─ Display (the only serializer) ─► text
//! ```
//!
//! A string from outside gets into the tree only as a [`Text`], a domain name or an [`AclElement`], each of which was
//! checked when it was made; keywords are part of the program (`&'static str`). [`round_trip`] holds the serializer
//! against an independent reader of BIND's lexical rules; it is what the fuzz target calls.

mod acl;
mod downstream;
mod instance;
mod statement;
mod tokens;
mod wishes;

pub use acl::{AclElement, AclError};
pub use bindy_api::LogLevel;
pub use downstream::{DownstreamSettings, downstream_config, downstream_options};
pub use instance::{Listen, NamedSettings, Paths, RateLimit, instance_config, key_statement, listen_config};
pub use statement::{Statement, Text, TextError, Value};
pub use tokens::{RoundTripError, round_trip};
pub use wishes::{AccessError, LOCAL_KEY, Wishes};
