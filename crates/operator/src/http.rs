//! `/livez`, `/readyz` and `/metrics`, for the kubelet and Prometheus.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
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
        .route("/metrics", get(async |State(app): State<App>| app.metrics.text()))
        .with_state(App { synced, metrics });
    let served = axum::serve(listener, app).with_graceful_shutdown(cancel.cancelled_owned()).await;
    if let Err(error) = served {
        tracing::error!(%error, "health and metrics are not served any more");
    }
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
