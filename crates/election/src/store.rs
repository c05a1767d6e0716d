//! What an election needs of the place where its lease is kept.

use std::future::Future;
use std::time::Duration;

use crate::candidate::Failure;
use crate::record::{Observed, Record, Version};

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The lease exists, or is in another state than was expected.
    #[error("somebody else has written the lease")]
    Conflict,
    /// There is no lease to be updated.
    #[error("there is no such lease")]
    Absent,
    /// The right is missing.
    #[error("{0}")]
    Forbidden(String),
    /// The answer did not come in time. The request may have been carried out, or still be.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// Anything else. It may have been carried out.
    #[error("{0}")]
    Other(String),
}

impl From<&Problem> for Failure {
    fn from(problem: &Problem) -> Self {
        match problem {
            Problem::Conflict => Self::Conflict,
            Problem::Absent => Self::Absent,
            Problem::Forbidden(_) | Problem::Timeout(_) | Problem::Other(_) => Self::Unknown,
        }
    }
}

/// Why there is no watch, or no longer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WatchProblem {
    /// The right is missing.
    #[error("{0}")]
    Forbidden(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// One lease, kept somewhere. Every request ends within [`Config::call_timeout`](crate::Config::call_timeout), and is sent
/// once: a request that is repeated in secret may be carried out after its answer.
pub trait Store: Send + Sync + 'static {
    /// Changes of the lease.
    type Watch: Watch;

    /// The lease as it is now, not as a cache has it.
    fn get(&self) -> impl Future<Output = Result<Option<Observed>, Problem>> + Send;
    /// Makes the lease; [`Problem::Conflict`] where there is one.
    fn create(&self, record: &Record) -> impl Future<Output = Result<Observed, Problem>> + Send;
    /// Changes the lease if it still is in that state, else [`Problem::Conflict`] or [`Problem::Absent`].
    fn update(
        &self,
        record: &Record,
        version: &Version,
    ) -> impl Future<Output = Result<Observed, Problem>> + Send;
    /// Begins to watch; the first event is the lease as it is, if there is one.
    fn watch(&self) -> impl Future<Output = Result<Self::Watch, WatchProblem>> + Send;
}

/// A watch that stands.
pub trait Watch: Send {
    /// The lease, or that it was deleted; `None` when the watch has ended as watches do.
    fn next(&mut self) -> impl Future<Output = Option<Result<Option<Observed>, WatchProblem>>> + Send;
}
