//! placeholder
mod config;
mod readiness;
mod sources;
pub use config::{Config, ConfigError, NamedConfig, SourceConfig};
pub use readiness::{Excuse, Readiness, Report};
pub use sources::{Failure, Kind, Sources};
