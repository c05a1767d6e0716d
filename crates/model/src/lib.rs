//! placeholder

pub mod named_conf;
