//! Stands between the operator and the API server, and treats single requests badly.
//!
//! ```text
//!   operator ── TLS ──► ApiProxy ── TLS ──► API server
//!                          └─ rule: for each request what becomes of it
//! ```
//! It shows the API server's own certificate and passes tokens on, so that the API server sees the operator. Each connection
//! of the operator has one of its own there; a request is one line of HTTP/1.1 for a rule, whatever its body.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, IpAddr, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig, crypto};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::Cluster;

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The API server answers it.
    Pass,
    /// It is passed on after this time.
    Late(Duration),
    /// It is answered with this status, and the API server never hears of it.
    Refused(u16),
    /// Nobody hears of it, and nobody answers.
    Lost,
    /// The API server carries it out; the answer never comes.
    ReplyLost,
    /// The answer's head comes, and nothing after it: a watch that is half open.
    Silent,
}

/// A request, as rules see it.
#[derive(Clone, Debug)]
pub struct Line {
    /// Its number among all that came.
    pub number: u64,
    /// Who sent it: a pod has an address of its own.
    pub from: std::net::IpAddr,
    /// GET, PATCH and so on.
    pub method: String,
    /// Path and query. Example: `/apis/bindy.firestoned.io/v1beta1/dnszones?watch=true`.
    pub path: String,
}

impl Line {
    fn of(request: &Request<Incoming>, from: std::net::IpAddr, shared: &Shared) -> Self {
        Self {
            number: shared.requests.fetch_add(1, Ordering::Relaxed),
            from,
            method: request.method().to_string(),
            path: request.uri().path_and_query().map(ToString::to_string).unwrap_or_default(),
        }
    }

    /// Whether it is about leases.
    pub fn is_of_lease(&self) -> bool {
        self.path.starts_with("/apis/coordination.k8s.io/")
    }

    /// Whether it changes something.
    pub fn is_write(&self) -> bool {
        !matches!(self.method.as_str(), "GET" | "HEAD" | "OPTIONS")
    }

    /// Whether it is a watch.
    pub fn is_watch(&self) -> bool {
        self.path.contains("watch=true") || self.path.contains("watch=1")
    }
}

type Rule = Arc<dyn Fn(&Line) -> Fate + Send + Sync>;
type Body = BoxBody<Bytes, hyper::Error>;

/// A proxy that runs until it is dropped.
pub struct ApiProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: AbortHandle,
}

struct Shared {
    rule: Mutex<Rule>,
    requests: AtomicU64,
    ill_treated: AtomicU64,
    unanswered: AtomicU64,
}

struct Upstream {
    address: SocketAddr,
    connector: TlsConnector,
}

impl ApiProxy {
    /// Starts one that passes everything on, beside the API server's address.
    pub async fn start(cluster: &Cluster) -> Result<Self> {
        let api = cluster.description().api.trim_start_matches("https://");
        let api: SocketAddr = api.parse().context("the API server's address")?;
        let pki = cluster.description().kubeconfig.with_file_name("pki");
        let provider = Arc::new(crypto::ring::default_provider());
        let certificates: Vec<CertificateDer<'_>> =
            CertificateDer::pem_file_iter(pki.join("apiserver.crt"))?.collect::<Result<_, _>>()?;
        let key = PrivateKeyDer::from_pem_file(pki.join("apiserver.key"))?;
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(certificates, key)?;
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(pki.join("ca.crt"))?)?;
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let upstream = Arc::new(Upstream { address: api, connector: TlsConnector::from(Arc::new(client)) });
        let listener = TcpListener::bind((api.ip(), 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            rule: Mutex::new(Arc::new(|_| Fate::Pass)),
            requests: AtomicU64::new(0),
            ill_treated: AtomicU64::new(0),
            unanswered: AtomicU64::new(0),
        });
        let acceptor = TlsAcceptor::from(Arc::new(server));
        let task = tokio::spawn(accept(listener, acceptor, upstream, Arc::clone(&shared))).abort_handle();
        Ok(Self { address, shared, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on requests have the fate that `rule` gives them.
    pub fn treat(&self, rule: impl Fn(&Line) -> Fate + Send + Sync + 'static) {
        *self.shared.rule.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(rule);
    }

    /// How many requests did not simply pass.
    pub fn ill_treated(&self) -> u64 {
        self.shared.ill_treated.load(Ordering::Relaxed)
    }

    /// How many requests were carried out whose answers never come.
    pub fn unanswered(&self) -> u64 {
        self.shared.unanswered.load(Ordering::Relaxed)
    }
}

impl Drop for ApiProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Connections end with the task, since the set does.
async fn accept(listener: TcpListener, acceptor: TlsAcceptor, upstream: Arc<Upstream>, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let (acceptor, upstream, shared) = (acceptor.clone(), Arc::clone(&upstream), Arc::clone(&shared));
        connections.spawn(async move {
            // A connection that fails is the operator's to open again.
            drop(serve(stream, &acceptor, &upstream, shared).await);
        });
    }
}

async fn serve(
    stream: TcpStream,
    acceptor: &TlsAcceptor,
    upstream: &Upstream,
    shared: Arc<Shared>,
) -> Result<()> {
    let from = stream.peer_addr()?.ip();
    let stream = acceptor.accept(stream).await?;
    let there = TcpStream::connect(upstream.address).await?;
    let name = ServerName::IpAddress(IpAddr::from(upstream.address.ip()));
    let there = upstream.connector.connect(name, there).await?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(there)).await?;
    let sender = Arc::new(tokio::sync::Mutex::new(sender));
    let service = service_fn(move |request| {
        let line = Line::of(&request, from, &shared);
        forward(Arc::clone(&sender), Arc::clone(&shared), line, request)
    });
    let server = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        ended = server => ended?,
        ended = connection => ended?,
    }
    Ok(())
}

async fn forward(
    sender: Arc<tokio::sync::Mutex<SendRequest<Incoming>>>,
    shared: Arc<Shared>,
    line: Line,
    request: Request<Incoming>,
) -> Result<Response<Body>> {
    let rule = Arc::clone(&shared.rule.lock().unwrap_or_else(PoisonError::into_inner));
    let fate = rule(&line);
    if fate != Fate::Pass {
        shared.ill_treated.fetch_add(1, Ordering::Relaxed);
    }
    match fate {
        Fate::Refused(status) => return refusal(status),
        Fate::Lost => return std::future::pending().await,
        Fate::Late(time) => tokio::time::sleep(time).await,
        Fate::Pass | Fate::ReplyLost | Fate::Silent => {}
    }
    let mut sender = sender.lock().await;
    sender.ready().await?;
    let answer = sender.send_request(request).await?;
    match fate {
        Fate::ReplyLost => {
            drop(answer.into_body().collect().await?);
            shared.unanswered.fetch_add(1, Ordering::Relaxed);
            std::future::pending().await
        }
        // A body of which nothing comes, not even its end.
        Fate::Silent => Ok(answer.map(|_| StreamBody::new(futures::stream::pending()).boxed())),
        _ => Ok(answer.map(BodyExt::boxed)),
    }
}

/// What the API server says when it refuses.
fn refusal(code: u16) -> Result<Response<Body>> {
    let reason = match code {
        404 => "NotFound",
        429 => "TooManyRequests",
        _ => "InternalError",
    };
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code,
        "reason": reason, "message": "refused by a test"});
    let body = Full::new(Bytes::from(status.to_string())).map_err(|never| match never {});
    let answer = Response::builder().status(StatusCode::from_u16(code)?);
    Ok(answer.header("content-type", "application/json").body(body.boxed())?)
}
