//! BIND's control channel: the protocol that `rndc` speaks, over one TCP connection for many commands.
//!
//! A message is a table of nested tables (see [`table`]). Its `_auth` part is an HMAC over everything after that part;
//! `_ctrl` carries a serial, times, and the nonce that named chose for this connection; `_data` is the command, or
//! what came of it. The first command, `null`, only fetches the nonce.

mod table;

use std::net::SocketAddr;
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};
use rustix::net::RecvFlags;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::keys::Key;
use crate::server::unix_time;
use table::{Table, Value};

/// Octets of the longest answer that is accepted; `rndc zonestatus` and `status` need less than a thousandth.
const MAX_ANSWER: u32 = 1 << 20;
/// How long named may take a message for fresh, in seconds.
const EXPIRY: u64 = 60;

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum RndcError {
    /// The channel could not be opened or broke. With a wrong key named closes it.
    #[error("control channel: {0}")]
    Io(#[from] std::io::Error),
    /// No answer in time.
    #[error("no answer on the control channel within {0:?}")]
    Timeout(Duration),
    /// The answer is not signed with our key, or is not the answer to our command.
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
    stream: TcpStream,
    key: Key,
    limit: Duration,
    serial: u32,
    nonce: Option<Vec<u8>>,
}

impl Rndc {
    /// Connects; `limit` bounds the connection and each command.
    pub async fn connect(address: SocketAddr, key: &Key, limit: Duration) -> Result<Self, RndcError> {
        let connect = TcpStream::connect(address);
        let stream = timeout(limit, connect).await.map_err(|_| RndcError::Timeout(limit))??;
        stream.set_nodelay(true)?;
        // named refuses a pair of serial and time that it has seen before, so serials start at random.
        let mut start = [0; 4];
        SystemRandom::new().fill(&mut start).map_err(|_| std::io::Error::other("no randomness"))?;
        let mut rndc =
            Self { stream, key: key.clone(), limit, serial: u32::from_be_bytes(start), nonce: None };
        let answer = rndc.exchange("null").await?;
        let nonce = answer.table("_ctrl").and_then(|control| control.octets("_nonce"));
        rndc.nonce = Some(nonce.ok_or(RndcError::Malformed("it has no nonce"))?.to_vec());
        Ok(rndc)
    }

    /// Runs one command, such as `status` or `reconfig`, and returns what named says to it. After an error other than
    /// [`RndcError::Failed`] the channel is of no use any more.
    pub async fn command(&mut self, command: &str) -> Result<String, RndcError> {
        let answer = self.exchange(command).await?;
        let data = answer.table("_data").ok_or(RndcError::Malformed("it has no data"))?;
        let text = |name| data.octets(name).map(|text| String::from_utf8_lossy(text).into_owned());
        match text("result").map(|code| code.parse()) {
            None | Some(Ok(0)) => Ok(text("text").unwrap_or_default()),
            Some(Ok(code)) => {
                let text = text("err").or_else(|| text("text")).unwrap_or_default();
                Err(RndcError::Failed { code, text })
            }
            Some(Err(_)) => Err(RndcError::Malformed("its result is no number")),
        }
    }

    /// Whether named still holds it, as the kernel knows: the end of a process closes its connections before another one can
    /// answer in its place.
    pub fn is_open(&self) -> bool {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        matches!(rustix::net::recv(&self.stream, &mut [0; 1], flags), Err(rustix::io::Errno::AGAIN))
    }

    async fn exchange(&mut self, command: &str) -> Result<Table, RndcError> {
        self.serial = self.serial.wrapping_add(1);
        let serial = self.serial.to_string();
        let message = self.request(command, &serial);
        let exchange = async {
            self.stream.write_all(&message).await?;
            let length = self.stream.read_u32().await?;
            if length > MAX_ANSWER {
                return Err(RndcError::Malformed("it is too long"));
            }
            let mut answer = Vec::new();
            (&mut self.stream).take(u64::from(length)).read_to_end(&mut answer).await?;
            Ok(answer)
        };
        let answer = timeout(self.limit, exchange).await.map_err(|_| RndcError::Timeout(self.limit))??;
        let answer = table::open(&answer, &self.key)?;
        let control = answer.table("_ctrl").ok_or(RndcError::Malformed("it has no control part"))?;
        let is_ours = control.octets("_ser") == Some(serial.as_bytes());
        let is_fresh = self.nonce.is_none() || control.octets("_nonce") == self.nonce.as_deref();
        if is_ours && is_fresh { Ok(answer) } else { Err(RndcError::Signature) }
    }

    fn request(&self, command: &str, serial: &str) -> Vec<u8> {
        let now = unix_time();
        let mut control = Table::default();
        control.set("_ser", Value::text(serial));
        control.set("_tim", Value::text(&now.to_string()));
        control.set("_exp", Value::text(&(now + EXPIRY).to_string()));
        if let Some(nonce) = &self.nonce {
            control.set("_nonce", Value::Octets(nonce.clone()));
        }
        let mut data = Table::default();
        data.set("type", Value::text(command));
        let mut message = Table::default();
        message.set("_ctrl", Value::Table(control));
        message.set("_data", Value::Table(data));
        table::seal(&message, &self.key)
    }
}
