//! Asks an agent whether its server is ready: one HTTP/1.1 GET on loopback.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long an agent may take to answer.
const LIMIT: Duration = Duration::from_secs(1);
/// More than any answer has.
const ANSWER_LIMIT: u64 = 1 << 20;

/// What an agent says of its server.
#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub(super) struct Answer {
    pub(super) ready: bool,
    /// What is missing, in words.
    pub(super) waiting_for: Vec<String>,
}

/// Asks; the error is told in words.
pub(super) async fn ask(address: SocketAddr) -> Result<Answer, String> {
    let got = tokio::time::timeout(LIMIT, get(address)).await;
    let text = got.map_err(|_| "the agent does not answer".to_owned())?;
    parse(&text.map_err(|error| format!("the agent cannot be asked: {error}"))?)
}

async fn get(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut text = String::new();
    stream.take(ANSWER_LIMIT).read_to_string(&mut text).await?;
    Ok(text)
}

fn parse(response: &str) -> Result<Answer, String> {
    let (_, body) = response.split_once("\r\n\r\n").ok_or("the agent's answer is cut off")?;
    serde_json::from_str(body).map_err(|error| format!("the agent's answer makes no sense: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_read_from_the_body() {
        let body = r#"{"ready":false,"waitingFor":["the catalog zone"],"missing":0}"#;
        let answer = parse(&format!("HTTP/1.1 503 Service Unavailable\r\nA: b\r\n\r\n{body}")).unwrap();
        assert_eq!(answer, Answer { ready: false, waiting_for: vec!["the catalog zone".to_owned()] });
        assert!(parse("HTTP/1.1 200 OK\r\n").unwrap_err().contains("cut off"));
    }
}
