//! Readiness, liveness and metrics over HTTP.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::agent::Agent;

/// Answers until `cancel`.
pub(crate) async fn serve(agent: Arc<Agent>, listener: TcpListener, cancel: CancellationToken) {
    let router = Router::new()
        .route("/readyz", get(readyz))
        .route("/livez", get(async || "ok\n"))
        .route("/metrics", get(metrics))
        .with_state(agent);
    let served = axum::serve(listener, router).with_graceful_shutdown(cancel.clone().cancelled_owned());
    tokio::select! {
        result = served => if let Err(error) = result { warn!(%error, "http") },
        // A client that keeps its connection open does not hold up the end.
        () = async { cancel.cancelled().await; tokio::time::sleep(std::time::Duration::from_millis(200)).await } => {}
    }
}

async fn readyz(State(agent): State<Arc<Agent>>) -> Response {
    let report = agent.report();
    let status = if report.readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let json = [(header::CONTENT_TYPE, "application/json")];
    match serde_json::to_string(&report) {
        Ok(body) => (status, json, body).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn metrics(State(agent): State<Arc<Agent>>) -> Response {
    let report = agent.report().readiness;
    agent.metrics.ready.set(i64::from(report.ready));
    agent.metrics.missing.set(i64::try_from(report.missing).unwrap_or(i64::MAX));
    let text = [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")];
    match agent.metrics.encode() {
        Ok(body) => (text, body).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
