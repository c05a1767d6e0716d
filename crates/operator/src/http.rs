//! `/livez`, `/readyz` and `/metrics`, for the kubelet and Prometheus.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderName, StatusCode, header};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// Whether everything has been listed and compiled once, and this replica is to stay.
#[derive(Clone, Default)]
pub(crate) struct Synced(Arc<AtomicBool>);

impl Synced {
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub(crate) fn unset(&self) {
        self.0.store(false, Ordering::Release);
    }
}

#[derive(Clone)]
struct App {
    synced: Synced,
    metrics: Metrics,
}

/// Serves until cancelled.
pub(crate) async fn serve(
    listener: TcpListener,
    synced: Synced,
    metrics: Metrics,
    cancel: CancellationToken,
) {
    let app = Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics_text))
        .with_state(App { synced, metrics });
    let served = axum::serve(listener, app).with_graceful_shutdown(cancel.clone().cancelled_owned());
    if let Some(Err(error)) = bindy_wire::until_ended(served, &cancel).await {
        tracing::error!(%error, "health and metrics are not served any more");
    }
}

async fn metrics_text(State(app): State<App>) -> ([(HeaderName, &'static str); 1], String) {
    let openmetrics = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, openmetrics)], app.metrics.text())
}

async fn ready(State(app): State<App>) -> (StatusCode, &'static str) {
    match app.synced.0.load(Ordering::Acquire) {
        true => (StatusCode::OK, "ok\n"),
        false => (
            StatusCode::SERVICE_UNAVAILABLE,
            "objects are being listed and zones compiled, or this replica ends\n",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::task::JoinHandle;

    async fn serving(cancel: &CancellationToken) -> (SocketAddr, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (address, tokio::spawn(serve(listener, Synced::default(), Metrics::new(), cancel.clone())))
    }

    #[tokio::test]
    async fn metrics_say_that_they_are_openmetrics() {
        let (address, _) = serving(&CancellationToken::new()).await;
        let mut client = TcpStream::connect(address).await.unwrap();
        let request = b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        client.write_all(request).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        let header = "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n";
        assert!(answer.contains(header) && answer.ends_with("# EOF\n"), "{answer}");
    }

    #[tokio::test]
    async fn a_request_that_is_half_sent_does_not_hold_up_the_end() {
        let cancel = CancellationToken::new();
        let (address, serving) = serving(&cancel).await;
        let mut whole = TcpStream::connect(address).await.unwrap();
        whole.write_all(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        whole.readable().await.unwrap();
        // It is accepted after the one before, and that one was answered.
        let mut half = TcpStream::connect(address).await.unwrap();
        half.write_all(b"GET /livez HT").await.unwrap();
        let mut another = TcpStream::connect(address).await.unwrap();
        another.write_all(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        another.readable().await.unwrap();
        cancel.cancel();
        tokio::time::timeout(Duration::from_secs(5), serving).await.unwrap().unwrap();
    }
}
