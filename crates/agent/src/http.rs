//! Readiness, liveness and metrics over HTTP.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::agent::Agent;
use crate::watch::{Look, Named};

/// How long a look at named may hold up an answer.
const LOOK: Duration = Duration::from_millis(300);

/// Answers until `cancel`.
pub(crate) async fn serve(
    agent: Arc<Agent>,
    named: Arc<Named>,
    listener: TcpListener,
    cancel: CancellationToken,
) {
    let router = Router::new()
        .route("/readyz", get(readyz))
        .route("/livez", get(async || "ok\n"))
        .route("/metrics", get(metrics))
        .with_state((agent, named));
    let served = axum::serve(listener, router).with_graceful_shutdown(cancel.clone().cancelled_owned());
    if let Some(Err(error)) = bindy_wire::until_ended(served, &cancel).await {
        error!(%error, "readiness, liveness and metrics are not served any more");
    }
}

/// Looks at named first: one that has just been replaced must not be called ready for what the one before had.
async fn readyz(State((agent, named)): State<(Arc<Agent>, Arc<Named>)>) -> Response {
    // Whoever gives up in the middle of a question loses a connection.
    let looking = tokio::spawn({
        let (agent, named) = (Arc::clone(&agent), Arc::clone(&named));
        async move { named.look(&agent).await }
    });
    let seen = tokio::time::timeout(LOOK, looking).await;
    let mut report = agent.report();
    // A named that is only slow is judged by the answers that it owes in a row.
    let unknown = match seen {
        Ok(look) => !matches!(look, Ok(Look::Known(_))),
        Err(_) => named.may_be_another(),
    };
    if report.readiness.ready && unknown {
        report.readiness.ready = false;
        report.readiness.waiting_for.push("named to answer".to_owned());
    }
    let status = if report.readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let json = [(header::CONTENT_TYPE, "application/json")];
    match serde_json::to_string(&report) {
        Ok(body) => (status, json, body).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn metrics(State((agent, _)): State<(Arc<Agent>, Arc<Named>)>) -> Response {
    let report = agent.report().readiness;
    agent.metrics.ready.set(i64::from(report.ready));
    agent.metrics.missing.set(i64::try_from(report.missing).unwrap_or(i64::MAX));
    let text = [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")];
    match agent.metrics.encode() {
        Ok(body) => (text, body).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
