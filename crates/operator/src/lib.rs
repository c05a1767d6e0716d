//! Bindy on Kubernetes: watches the custom resources, drives the engine, runs the servers as pods, and says on each
//! object what is served where.

pub mod fleet;
pub mod rbac;
mod term;

pub use term::Term;
