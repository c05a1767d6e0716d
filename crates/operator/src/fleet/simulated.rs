//! A simulated API server behind kube's client: what a real one cannot be made to do, which is to fail at any request,
//! before or after it has been carried out. It knows as much of server-side apply as a single applier needs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::{Method, Request, Response, StatusCode};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Resource, namespace and name.
type Id = (String, String, String);

/// When a request fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failing {
    /// It is not carried out.
    Before,
    /// It is, but the answer is lost.
    After,
}

#[derive(Clone, Default)]
pub(crate) struct Api(Arc<Mutex<State>>);

/// How long requests are waited for.
const LIMIT: Duration = Duration::from_secs(10);

/// Where requests wait before they are carried out.
#[derive(Default)]
pub(crate) struct Gate {
    requests: String,
    arrived: watch::Sender<Vec<String>>,
    open: CancellationToken,
}

impl Gate {
    /// Waits until so many requests have come; returns all that have.
    pub(crate) async fn arrived(&self, number: usize) -> Vec<String> {
        let mut arrived = self.arrived.subscribe();
        let all = tokio::time::timeout(LIMIT, arrived.wait_for(|arrived| arrived.len() >= number)).await;
        let all = all.map(|all| all.unwrap().clone());
        all.unwrap_or_else(|_| panic!("{} of {number} requests have come", self.arrived.borrow().len()))
    }

    /// Lets all of them through.
    pub(crate) fn open(&self) {
        self.open.cancel();
    }
}

/// A request as the API server reads it.
struct Asked {
    method: Method,
    resource: String,
    namespace: String,
    name: Option<String>,
    sent: Value,
    dry: bool,
    line: String,
}

impl Asked {
    fn read(method: Method, uri: &str, body: &[u8]) -> Self {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        let (_, rest) = path.split_once("/namespaces/").unwrap();
        let parts: Vec<&str> = rest.split('/').collect();
        let (namespace, resource) = (parts[0].to_owned(), parts[1].to_owned());
        let sent: Value = serde_json::from_slice(body).unwrap_or_default();
        let name = parts.get(2).map(|name| (*name).to_owned());
        let name = name.or_else(|| sent["metadata"]["name"].as_str().map(str::to_owned));
        let dry = query.contains("dryRun=All") || sent["dryRun"].is_array();
        let verb = method.as_str().to_lowercase();
        let verb = match (dry, &*verb) {
            (true, "delete") => "check-delete",
            (true, _) => "check",
            (false, verb) => verb,
        };
        let subresource = parts.get(3).map(|part| format!("/{part}")).unwrap_or_default();
        let line = format!("{verb} {resource}{subresource} {}", name.as_deref().unwrap_or("*"));
        Self { method, resource, namespace, name, sent, dry, line }
    }
}

#[derive(Default)]
struct State {
    objects: BTreeMap<Id, Value>,
    counter: u64,
    log: Vec<String>,
    failing: Option<(usize, Failing)>,
    /// How a line of the log begins whose request is refused, and the code of the answer.
    refused: Option<(String, StatusCode)>,
    gate: Option<Arc<Gate>>,
}

impl Api {
    pub(crate) fn client(&self) -> Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect_bytes().await?;
                let asked = Asked::read(head.method, &head.uri.to_string(), &body);
                let gate = api.0.lock().unwrap().gate.clone();
                if let Some(gate) = gate.filter(|gate| asked.line.starts_with(&gate.requests)) {
                    gate.arrived.send_modify(|arrived| arrived.push(asked.line.clone()));
                    gate.open.cancelled().await;
                }
                Ok::<_, kube::Error>(api.answer(asked))
            }
        });
        Client::new(service, "default")
    }

    /// The requests since the last call.
    pub(crate) fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().log)
    }

    /// Has the `number`-th request from now on fail.
    pub(crate) fn fail(&self, number: usize, failing: Failing) {
        self.0.lock().unwrap().failing = Some((number, failing));
    }

    /// Ends failures; true when none has happened.
    pub(crate) fn heal(&self) -> bool {
        self.0.lock().unwrap().failing.take().is_some()
    }

    /// Has every request refused whose line in the log begins so.
    pub(crate) fn refuse(&self, requests: &str, code: StatusCode) {
        self.0.lock().unwrap().refused = Some((requests.to_owned(), code));
    }

    /// Has every request wait whose line in the log begins so, until others are to wait.
    pub(crate) fn hold(&self, requests: &str) -> Arc<Gate> {
        let gate = Arc::new(Gate { requests: requests.to_owned(), ..Gate::default() });
        self.0.lock().unwrap().gate = Some(gate.clone());
        gate
    }

    /// Has no more requests wait than those that do.
    pub(crate) fn hold_no_more(&self) {
        self.0.lock().unwrap().gate = None;
    }

    pub(crate) fn put(&self, resource: &str, object: Value) {
        let mut state = self.0.lock().unwrap();
        let text = |field: &str| object["metadata"][field].as_str().unwrap().to_owned();
        let id = (resource.to_owned(), text("namespace"), text("name"));
        state.store(id, object);
    }

    pub(crate) fn remove(&self, resource: &str, name: &str) {
        let id = (resource.to_owned(), "default".to_owned(), name.to_owned());
        self.0.lock().unwrap().objects.remove(&id).unwrap();
    }

    pub(crate) fn get(&self, resource: &str, name: &str) -> Option<Value> {
        let id = (resource.to_owned(), "default".to_owned(), name.to_owned());
        self.0.lock().unwrap().objects.get(&id).cloned()
    }

    /// Every object, without what differs from run to run.
    pub(crate) fn contents(&self) -> BTreeMap<Id, Value> {
        let mut objects = self.0.lock().unwrap().objects.clone();
        for object in objects.values_mut() {
            let metadata = object["metadata"].as_object_mut().unwrap();
            metadata.retain(|field, _| !matches!(field.as_str(), "uid" | "resourceVersion"));
        }
        objects
    }

    /// The objects of a resource as a watch lists them.
    pub(crate) fn list(&self, resource: &str) -> Vec<Value> {
        let state = self.0.lock().unwrap();
        let objects = state.objects.iter().filter(|((its, ..), _)| its == resource);
        objects.map(|(_, object)| object.clone()).collect()
    }

    fn answer(&self, asked: Asked) -> Response<Body> {
        let mut state = self.0.lock().unwrap();
        let (code, answer) = match &mut state.failing {
            Some((0, failing)) => {
                let failing = *failing;
                state.failing = None;
                if failing == Failing::After {
                    state.carry_out(asked);
                }
                status(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable")
            }
            failing => {
                if let Some((left, _)) = failing {
                    *left -= 1;
                }
                state.carry_out(asked)
            }
        };
        Response::builder().status(code).body(Body::from(answer.to_string().into_bytes())).unwrap()
    }
}

fn status(code: StatusCode, reason: &str) -> (StatusCode, Value) {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code.as_u16(),
        "message": reason,
    });
    (code, status)
}

/// Carries out a JSON patch of tests and additions; false where a test fails, or is of something below what does not exist.
fn patched(live: &mut Value, patch: &Value) -> bool {
    patch.as_array().unwrap().iter().all(|operation| {
        let path = operation["path"].as_str().unwrap();
        let (parent, field) = path.rsplit_once('/').unwrap();
        if operation["op"] == "test" {
            let parent = live.pointer(parent).and_then(Value::as_object);
            return parent
                .is_some_and(|parent| *parent.get(field).unwrap_or(&Value::Null) == operation["value"]);
        }
        live.pointer_mut(parent).unwrap()[field] = operation["value"].clone();
        operation["op"] == "add"
    })
}

impl State {
    fn store(&mut self, id: Id, mut object: Value) -> Value {
        self.counter += 1;
        let before = self.objects.get(&id);
        let uid = before.map_or(json!(format!("uid-{}", self.counter)), |it| it["metadata"]["uid"].clone());
        object["metadata"]["uid"] = uid;
        object["metadata"]["resourceVersion"] = json!(self.counter.to_string());
        if id.0 == "services" {
            // The same address every time, so that runs can be compared.
            let number = id.2.bytes().fold(1_u8, |sum, octet| sum.wrapping_mul(31).wrapping_add(octet));
            object["spec"]["clusterIPs"] = json!([format!("10.0.0.{number}")]);
        }
        self.objects.insert(id, object.clone());
        object
    }

    fn carry_out(&mut self, asked: Asked) -> (StatusCode, Value) {
        let Asked { method, resource, namespace, name, sent, dry, line } = asked;
        let refused = self.refused.as_ref().filter(|(requests, _)| line.starts_with(requests));
        let refused = refused.map(|(_, code)| status(*code, "a policy forbids it"));
        self.log.push(line);
        if let Some(refused) = refused {
            return refused;
        }
        let Some(name) = name else { return (StatusCode::OK, self.pods()) };
        let id = (resource, namespace, name);
        let live = self.objects.get(&id).cloned();
        match (method.as_str(), live) {
            ("GET", Some(live)) => (StatusCode::OK, live),
            ("POST", Some(_)) => status(StatusCode::CONFLICT, "AlreadyExists"),
            ("POST", None) if dry => (StatusCode::CREATED, sent),
            ("POST", None) => (StatusCode::CREATED, self.store(id, sent)),
            ("DELETE", Some(live)) => {
                let expected = sent["preconditions"].as_object().into_iter().flatten();
                for (field, value) in expected {
                    if live["metadata"][field] != *value {
                        return status(StatusCode::CONFLICT, "Conflict");
                    }
                }
                if !dry {
                    self.objects.remove(&id);
                }
                let details = json!({ "name": id.2, "kind": id.0, "uid": live["metadata"]["uid"] });
                let deleted =
                    json!({ "kind": "Status", "apiVersion": "v1", "status": "Success", "details": details });
                (StatusCode::OK, deleted)
            }
            ("PATCH", Some(mut pod)) if id.0 == "pods" => {
                pod["metadata"]["annotations"] = sent["metadata"]["annotations"].clone();
                (StatusCode::OK, self.store(id, pod))
            }
            ("PATCH", Some(mut live)) if sent.is_array() => match patched(&mut live, &sent) {
                true => (StatusCode::OK, self.store(id, live)),
                false => status(StatusCode::UNPROCESSABLE_ENTITY, "Invalid"),
            },
            ("PATCH", live) if id.0 != "pods" => {
                let uid = &sent["metadata"]["uid"];
                if !uid.is_null() && live.is_none_or(|live| live["metadata"]["uid"] != *uid) {
                    return status(StatusCode::CONFLICT, "Conflict");
                }
                (StatusCode::OK, self.store(id, sent))
            }
            _ => status(StatusCode::NOT_FOUND, "NotFound"),
        }
    }

    fn pods(&self) -> Value {
        let pods = self.objects.iter().filter(|((resource, ..), _)| resource == "pods");
        let items: Vec<Value> = pods.map(|(_, pod)| json!({ "metadata": pod["metadata"] })).collect();
        json!({ "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": {}, "items": items })
    }
}
