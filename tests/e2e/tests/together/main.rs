//! Promises on a real cluster, one file each. These tests share the cluster and its operator: each has a namespace of
//! its own and disturbs nobody, so they run side by side.
//!
//! `cargo xtask test --only NAME` brings the cluster and the operator up for them.

mod a_bind_outside;
mod a_bind_upstream;
mod all_record_types;
mod autoscaler;
mod backup;
mod bad_input;
mod candidates;
mod conflicts;
mod containers_die;
mod deletion_leaves_nothing;
mod disk_trouble;
mod disruption_budget;
mod dual_stack;
mod foreign_objects;
mod frozen_agent;
mod harmful_settings;
mod kubectl_tells_the_truth;
mod large_zone;
mod local_traffic;
mod lost_notifies;
mod owned_objects;
mod page_commands;
mod page_pods;
mod placement;
mod pods_come_and_go;
mod primaries_gone;
mod regions;
mod service_fields;
mod silent_upstream;
mod storage;
mod the_harness_itself;
mod topologies;
mod two_tiers;
mod upgrades;
mod volumes;
mod wrong_clock;
mod zones_come_and_go;
mod zones_from_outside;
