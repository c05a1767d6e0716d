//! DNS on the wire, for the hidden primary, the agents and the tests: no Kubernetes, no policy.
//!
//! ```text
//!            keys ── tsig ──┐
//!   History ─► answer ─► server ◄── TCP, UDP ──► client ─► Version
//!                           │                      │
//!                        Service (who may what)    └ NOTIFY, SOA, exchange (relay)
//!   rndc ──► control channel of named
//! ```
//! Reading and writing messages does no IO and takes time as an argument.

mod answer;
mod client;
mod key_file;
mod keys;
mod message;
mod request;
mod rndc;
mod rotation;
mod server;
mod tsig;

pub use client::{
    Answer, AnswerRecord, ClientError, Connection, Endpoint, Forwarded, News, Question, RecordsAt, SerialOf,
    Timeouts, Transfer, ask_by_udp,
};
pub use domain::base::iana::Rcode;
pub use key_file::read_keys;
pub use keys::{Generation, Key, KeyError, KeyRing, MasterSecret, OUTSIDE_LABEL, instance_key_name};
pub use request::{ParsedRequest, parse_request};
pub use rndc::{Rndc, RndcError};
pub use rotation::{MasterKeys, Phase, PhaseError};
pub use server::{
    Opcode, Relayed, Reply, Request, Server, ServerCounters, ServerLimits, ServerOptions, Service,
    Signatures, Transport, listen, until_ended,
};
