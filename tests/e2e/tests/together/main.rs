//! Promises on a real cluster, one file each. These tests share the cluster and its operator: each has a namespace of
//! its own and disturbs nobody, so they run side by side.
//!
//! `cargo xtask test --only NAME` brings the cluster and the operator up for them.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking; these are outside of cfg(test)"
)]

mod the_harness_itself;
