//! Failures of what everybody shares: the operator, the API server, a node. Each test has a whole cluster for itself, one after
//! the other where there is one; cargo runs no other test binary meanwhile.

mod api_server;
mod cold_start;
mod control_plane_gone;
mod drains;
mod keys_replaced;
mod killed_between_writes;
mod late_watches;
mod leaders;
mod leases;
mod missing_definitions;
mod no_election;
mod nodes;
mod operator_gone;
mod operator_restarted;
mod operator_upgraded;
mod page_operator;
mod regions_lost;
mod tainted_node;
