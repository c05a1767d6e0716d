//! An API server of one Lease over HTTP: what a real one cannot be made to do at a chosen moment.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::sync::broadcast;

/// How requests are treated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mood {
    #[default]
    Well,
    /// Nothing is ever answered. Writes are carried out.
    Silent,
    /// 429 with Retry-After.
    Busy,
}

#[derive(Default)]
pub struct Inner {
    pub lease: Option<Value>,
    version: u64,
    pub mood: Mood,
    pub no_watch: bool,
    /// Method and, for a watch, that it is one.
    pub log: Vec<&'static str>,
}

#[derive(Clone)]
pub struct Stub {
    inner: Arc<Mutex<Inner>>,
    events: broadcast::Sender<Value>,
}

impl Stub {
    /// Serves on loopback until the test ends.
    pub async fn start() -> (Self, kube::Config) {
        let stub = Self { inner: Arc::default(), events: broadcast::channel(64).0 };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = Router::new().fallback(answer).with_state(stub.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        (stub, kube::Config::new(format!("http://{address}").parse().unwrap()))
    }

    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn holder(&self) -> Option<String> {
        Some(self.lock().lease.as_ref()?["spec"]["holderIdentity"].as_str()?.to_owned())
    }

    /// Somebody writes the lease, or deletes it.
    pub fn put(&self, lease: Option<Value>) {
        let mut inner = self.lock();
        inner.store(lease, &self.events);
    }
}

impl Inner {
    fn store(&mut self, lease: Option<Value>, events: &broadcast::Sender<Value>) -> Value {
        self.version += 1;
        let (kind, object) = match lease {
            Some(mut lease) => {
                let uid = self
                    .lease
                    .as_ref()
                    .map_or(json!(format!("uid-{}", self.version)), |old| old["metadata"]["uid"].clone());
                lease["metadata"]["uid"] = uid;
                lease["metadata"]["resourceVersion"] = json!(self.version.to_string());
                self.lease = Some(lease.clone());
                ("MODIFIED", lease)
            }
            None => ("DELETED", self.lease.take().unwrap()),
        };
        // Nobody may be watching.
        let _nobody = events.send(json!({"type": kind, "object": object}));
        object
    }
}

fn status(code: StatusCode, reason: &str) -> Response {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": reason,
        "code": code.as_u16(), "message": reason,
    });
    (code, [("retry-after", "1")], status.to_string()).into_response()
}

async fn answer(State(stub): State<Stub>, method: Method, uri: Uri, body: Bytes) -> Response {
    let watch = uri.query().is_some_and(|query| query.contains("watch="));
    let mood = {
        let mut inner = stub.lock();
        inner.log.push(match method {
            Method::GET if watch => "watch",
            Method::GET => "get",
            Method::POST => "create",
            _ => "update",
        });
        if watch && inner.no_watch {
            return status(StatusCode::FORBIDDEN, "Forbidden");
        }
        inner.mood
    };
    if mood == Mood::Busy {
        return status(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests");
    }
    let answer = if watch { watch_of(&stub) } else { carry_out(&stub, &method, &body) };
    if mood == Mood::Silent {
        std::future::pending::<()>().await;
    }
    answer
}

fn carry_out(stub: &Stub, method: &Method, body: &[u8]) -> Response {
    let mut inner = stub.lock();
    let sent: Value = serde_json::from_slice(body).unwrap_or_default();
    let live = inner.lease.clone();
    let version = |lease: &Value| lease["metadata"]["resourceVersion"].clone();
    match (method, live) {
        (&Method::GET, Some(live)) => live.to_string().into_response(),
        (&Method::POST, Some(_)) => status(StatusCode::CONFLICT, "AlreadyExists"),
        (&Method::PUT, Some(live)) if version(&live) != version(&sent) => {
            status(StatusCode::CONFLICT, "Conflict")
        }
        (&Method::POST, None) | (&Method::PUT, Some(_)) => {
            inner.store(Some(sent), &stub.events).to_string().into_response()
        }
        _ => status(StatusCode::NOT_FOUND, "NotFound"),
    }
}

fn watch_of(stub: &Stub) -> Response {
    let inner = stub.lock();
    let first = inner.lease.as_ref().map(|lease| json!({"type": "ADDED", "object": lease}));
    let events = stub.events.subscribe();
    let stream = futures::stream::unfold((first, events), async |(first, mut events)| {
        let event = match first {
            Some(first) => first,
            None => events.recv().await.ok()?,
        };
        Some((Ok::<_, std::io::Error>(format!("{event}\n")), (None, events)))
    });
    Body::from_stream(stream).into_response()
}
