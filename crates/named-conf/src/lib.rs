//! Configuration of `named` as typed statements, and their one serializer.
//!
//! ```text
//!   Text, domain name, AclElement, number, keyword ──► Statement tree ── Display (the only serializer) ──► text
//! ```
//!
//! A string from outside gets into the tree only as a [`Text`], a domain name or an [`AclElement`], each of which was
//! checked when it was made; keywords are part of the program (`&'static str`). [`round_trip`] holds the serializer
//! against an independent reader of BIND's lexical rules; it is what the fuzz target calls.

mod acl;
mod statement;
mod tokens;

pub use acl::{AclElement, AclError};
pub use statement::{Statement, Text, TextError, Value};
pub use tokens::{RoundTripError, round_trip};
