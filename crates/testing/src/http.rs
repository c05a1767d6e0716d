//! The little HTTP that tests need: agents and the operator answer health and metrics by it.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const LIMIT: Duration = Duration::from_secs(2);
/// The largest answer that is read.
const LARGEST: u64 = 4 << 20;

/// The answer to a GET, from its status line on.
pub async fn get(server: SocketAddr, path: &str) -> Result<String> {
    let answer = exchange(server, &format!("GET {path} HTTP/1.1"), &[], &[]).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// The answer to any request, from its status line on. `line`: `PUT /path HTTP/1.1`; `headers`: `Accept: */*`.
pub async fn exchange(server: SocketAddr, line: &str, headers: &[&str], body: &[u8]) -> Result<Vec<u8>> {
    let ask = async {
        let mut stream = TcpStream::connect(server).await?;
        let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
        let length = body.len();
        let head = format!(
            "{line}\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
        );
        stream.write_all(&[head.as_bytes(), body].concat()).await?;
        let mut answer = Vec::new();
        stream.take(LARGEST).read_to_end(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let answer = tokio::time::timeout(LIMIT, ask).await;
    answer.with_context(|| format!("no answer from {server}"))?.with_context(|| server.to_string())
}

/// The sum of all samples of a metric in the text of `/metrics`; nothing when there are none.
pub fn metric(text: &str, name: &str) -> Option<f64> {
    let values = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let of_it = rest.starts_with('{') || rest.starts_with(' ');
        of_it.then(|| rest.rsplit(' ').next()?.parse::<f64>().ok()).flatten()
    });
    values.fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_one_metric_are_added() {
        let text = "# HELP a_total x\na_total{b=\"c d\"} 2\na_total{b=\"e\"} 3\na_totals 9\nb 1\n";
        assert_eq!(metric(text, "a_total"), Some(5.0));
        assert_eq!(metric(text, "b"), Some(1.0));
        assert_eq!(metric(text, "c"), None);
    }
}
