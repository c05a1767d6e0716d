//! What an instance asks for, in the terms of named's configuration.

use bindy_api::{InstanceConfig, LogLevel};

use super::{AclElement, AclError, RateLimit};

/// The name of the key between an agent and its named.
pub const LOCAL_KEY: &str = "bindy-agent";

/// Settings that users choose; the default is what they get who choose nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Who may ask; empty means everybody.
    pub allow_query: Vec<AclElement>,
    /// Who may transfer zones without a key; empty means nobody.
    pub allow_transfer: Vec<AclElement>,
    /// Limits on equal answers to one network over UDP.
    pub rate_limit: Option<RateLimit>,
    /// What is logged, to standard error.
    pub log: LogLevel,
}

/// An element of a list of addresses that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("spec.config.{field}: {error}")]
pub struct AccessError {
    /// The list.
    pub field: &'static str,
    /// What is wrong.
    pub error: AclError,
}

impl Wishes {
    /// Those of an instance.
    pub fn new(config: &InstanceConfig) -> Result<Self, AccessError> {
        let InstanceConfig { allow_query, allow_transfer, rate_limit, logging } = config;
        let rate_limit = rate_limit.as_ref().map(|limit| RateLimit {
            responses_per_second: limit.responses_per_second,
            window: limit.window.unwrap_or(15),
            slip: limit.slip.unwrap_or(2),
        });
        Ok(Self {
            allow_query: elements("allowQuery", allow_query.as_deref())?,
            allow_transfer: elements("allowTransfer", allow_transfer.as_deref())?,
            rate_limit,
            log: logging.as_ref().and_then(|logging| logging.level).unwrap_or_default(),
        })
    }
}

fn elements(field: &'static str, texts: Option<&[String]>) -> Result<Vec<AclElement>, AccessError> {
    let elements = texts.unwrap_or_default().iter().map(|text| text.parse());
    elements.collect::<Result<_, AclError>>().map_err(|error| AccessError { field, error })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn wishes(config: serde_json::Value) -> Result<Wishes, AccessError> {
        Wishes::new(&serde_json::from_value(config).unwrap())
    }

    #[test]
    fn who_chooses_nothing_gets_the_default() {
        for nothing in [json!({}), json!({ "logging": {} })] {
            assert_eq!(wishes(nothing), Ok(Wishes::default()));
        }
    }

    #[test]
    fn a_wrong_element_is_told_with_its_list() {
        let error = wishes(json!({ "allowTransfer": ["any", "10.0.0.1/8"] })).unwrap_err().to_string();
        assert!(error.starts_with("spec.config.allowTransfer: \"10.0.0.1/8\" has bits"), "{error}");
        let error = wishes(json!({ "allowQuery": ["all"] })).unwrap_err().to_string();
        assert!(error.starts_with("spec.config.allowQuery: \"all\" is not"), "{error}");
    }

    #[test]
    fn the_level_of_the_log_is_as_written() {
        for (text, level) in
            [("warning", LogLevel::Warning), ("info", LogLevel::Info), ("debug", LogLevel::Debug)]
        {
            assert_eq!(wishes(json!({ "logging": { "level": text } })).unwrap().log, level);
        }
    }
}
