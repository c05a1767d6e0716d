//! Asks an agent whether its server is ready, as a kubelet would.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long the agent may take.
const LIMIT: Duration = Duration::from_secs(1);

/// The most that is read of an answer.
const ANSWER: u64 = 64 << 10;

/// Whether the server is ready, and otherwise why not.
pub(crate) async fn ask(agent: SocketAddr) -> Result<(), String> {
    match tokio::time::timeout(LIMIT, get(agent)).await {
        Ok(Ok(answer)) => read(&answer),
        Ok(Err(error)) => Err(format!("its agent does not answer: {error}")),
        Err(_) => Err("its agent is silent".to_owned()),
    }
}

async fn get(agent: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(agent).await?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
    let mut answer = Vec::new();
    stream.take(ANSWER).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn read(answer: &str) -> Result<(), String> {
    if answer.starts_with("HTTP/1.1 200 ") {
        return Ok(());
    }
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let report: Value = serde_json::from_str(body).unwrap_or_default();
    let list = |field: &str| -> Vec<String> {
        let items = report.get(field).and_then(Value::as_array).into_iter().flatten();
        items.filter_map(|item| item.as_str().map(str::to_owned)).collect()
    };
    let waiting: Vec<String> = list("waitingFor").into_iter().chain(list("missingZones")).collect();
    Err(if waiting.is_empty() { "not ready".to_owned() } else { format!("waits for {}", waiting.join(", ")) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_says_what_is_missing() {
        let answer = "HTTP/1.1 503 Service Unavailable\r\n\r\n{\"waitingFor\":[\"catalog\"],\"missingZones\":[\"a.\"]}";
        assert_eq!(read(answer), Err("waits for catalog, a.".to_owned()));
        assert_eq!(read("HTTP/1.1 200 OK\r\n\r\n{}"), Ok(()));
        assert_eq!(read("nonsense"), Err("not ready".to_owned()));
    }
}
