//! Promises on a real cluster, one file each. These tests share the cluster and its operator: each has a namespace of
//! its own and disturbs nobody, so they run side by side.
//!
//! `cargo xtask test --only NAME` brings the cluster and the operator up for them.

mod all_record_types;
mod bad_input;
mod conflicts;
mod containers_die;
mod deletion_leaves_nothing;
mod foreign_objects;
mod kubectl_tells_the_truth;
mod large_zone;
mod owned_objects;
mod page_pods;
mod pods_come_and_go;
mod regions;
mod storage;
mod the_harness_itself;
mod topologies;
mod two_tiers;
mod upgrades;
mod zones_come_and_go;
mod zones_from_outside;
