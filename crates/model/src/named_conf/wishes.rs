//! What an instance asks for, in the terms of named's configuration.

use super::{AclElement, AclError, RateLimit};
use crate::object::Instance;

/// The name of the key between an agent and its named.
pub const LOCAL_KEY: &str = "bindy-agent";

/// An element of `allowQuery` that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("spec.config.allowQuery: {0}")]
pub struct AccessError(#[from] AclError);

/// Who may ask the servers of this instance; empty means everybody.
pub fn access(instance: &Instance) -> Result<Vec<AclElement>, AccessError> {
    let elements = instance.allow_query.iter().flatten().map(|text| text.parse());
    Ok(elements.collect::<Result<_, AclError>>()?)
}

/// Its limits on equal answers.
pub fn rate_limit(instance: &Instance) -> Option<RateLimit> {
    instance.rate_limit.as_ref().map(|limit| RateLimit {
        responses_per_second: limit.responses_per_second,
        window: limit.window.unwrap_or(15),
        slip: limit.slip.unwrap_or(2),
    })
}
