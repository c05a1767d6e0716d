//! Every request to the API server: each names the row of the access table that allows it, and has a time limit.

use std::future::Future;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bindy_model::NamespacedName;
use bindy_model::workload::{CONFIG_ANNOTATION, Desired, MANAGED_BY, ObjectKind, pod_selector};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use super::kinds::{PODS, access, api, pods};
use crate::rbac::{Access, Verb};
use crate::term::{Term, TermOver};

/// How long a request may take.
const LIMIT: Duration = Duration::from_secs(10);

/// Why a request did not do what it should.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    /// There is no such object.
    #[error("there is no such object")]
    Missing,
    /// There is such an object already, or another one than was expected.
    #[error("{0}")]
    Conflict(String),
    /// The API server understood, and will not do it.
    #[error("{0}")]
    Refused(String),
    /// Perhaps next time.
    #[error("{0}")]
    Unavailable(String),
    /// Another replica does it.
    #[error(transparent)]
    Term(#[from] TermOver),
}

/// Whether a Secret was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Created {
    /// By this request.
    New,
    /// There is one of that name.
    Exists,
}

/// Whether a request is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// It is.
    Real,
    /// It is checked only.
    DryRun,
}

async fn call<T>(
    access: &Access,
    verb: Verb,
    request: impl Future<Output = kube::Result<T>>,
) -> Result<T, Failure> {
    debug_assert!(access.allows(verb), "{verb} {} is not in the table", access.resource);
    match tokio::time::timeout(LIMIT, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(kube::Error::Api(status))) => Err(match status.code {
            404 if status.reason == "NotFound" => Failure::Missing,
            409 => Failure::Conflict(status.message),
            400 | 403 | 404 | 405 | 413 | 415 | 422 => Failure::Refused(status.message),
            _ => Failure::Unavailable(status.message),
        }),
        Ok(Err(error)) => Err(Failure::Unavailable(error.to_string())),
        Err(_) => Err(Failure::Unavailable(format!("no answer within {} s", LIMIT.as_secs()))),
    }
}

fn json_of(object: &DynamicObject) -> Value {
    let mut object = object.clone();
    object.metadata.managed_fields = None;
    // It was JSON a moment ago.
    serde_json::to_value(&object).unwrap_or_default()
}

/// The object as it is.
pub(super) async fn get(
    client: &Client,
    kind: ObjectKind,
    key: &NamespacedName,
) -> Result<Option<Value>, Failure> {
    let api = api(client, kind, &key.namespace);
    let found = call(access(kind), Verb::Get, api.get_opt(&key.name)).await?;
    Ok(found.map(|object| json_of(&object)))
}

/// Makes the object so; with a UID only that very object, without one only where nobody else has set the fields.
pub(super) async fn apply(
    client: &Client,
    desired: &Desired,
    uid: Option<&str>,
    term: &Term,
) -> Result<Value, Failure> {
    let mut body = desired.body.clone();
    let mut params = PatchParams::apply(MANAGED_BY);
    if let Some(uid) = uid {
        if let Some(Value::Object(metadata)) = body.get_mut("metadata") {
            metadata.insert("uid".to_owned(), json!(uid));
        }
        params = params.force();
    }
    let api = api(client, desired.kind, &desired.namespace);
    let patch = Patch::Apply(&body);
    term.check()?;
    let request = api.patch(&desired.name, &params, &patch);
    Ok(json_of(&call(access(desired.kind), Verb::Patch, request).await?))
}

/// Makes a Secret, unless there is one of that name.
pub(super) async fn create(
    client: &Client,
    secret: &Desired,
    mode: Mode,
    term: &Term,
) -> Result<Created, Failure> {
    let object: DynamicObject =
        serde_json::from_value(secret.body.clone()).map_err(|error| Failure::Refused(error.to_string()))?;
    let params = PostParams { dry_run: mode == Mode::DryRun, field_manager: Some(MANAGED_BY.to_owned()) };
    let api = api(client, secret.kind, &secret.namespace);
    term.check()?;
    match call(access(secret.kind), Verb::Create, api.create(&params, &object)).await {
        Ok(_) => Ok(Created::New),
        Err(Failure::Conflict(_)) => Ok(Created::Exists),
        Err(failure) => Err(failure),
    }
}

/// Removes a Secret, if there is one: the one that was there while the term lived, not one that the next leader has made.
/// Which one that is cannot be read; a deletion that is checked only says it.
pub(super) async fn delete(client: &Client, secret: &Desired, term: &Term) -> Result<(), Failure> {
    let api = api(client, secret.kind, &secret.namespace);
    let checked = DeleteParams::default().dry_run();
    let Some(uid) = deletion(&api, secret.kind, &secret.name, &checked, term).await? else { return Ok(()) };
    let that_one = Preconditions { uid: Some(uid), resource_version: None };
    let params = DeleteParams::default().preconditions(that_one);
    deletion(&api, secret.kind, &secret.name, &params, term).await.map(drop)
}

/// Removes that very object, unless it has changed since; what it made goes too, in the background.
pub(super) async fn remove(
    client: &Client,
    kind: ObjectKind,
    live: &Value,
    term: &Term,
) -> Result<(), Failure> {
    let text = |field: &str| live.pointer(field).and_then(Value::as_str).map(str::to_owned);
    let (Some(namespace), Some(name)) = (text("/metadata/namespace"), text("/metadata/name")) else {
        return Err(Failure::Missing);
    };
    let seen =
        Preconditions { uid: text("/metadata/uid"), resource_version: text("/metadata/resourceVersion") };
    let params = DeleteParams::background().preconditions(seen);
    deletion(&api(client, kind, &namespace), kind, &name, &params, term).await.map(drop)
}

/// Has an object deleted; returns its UID. `None`: there is none of that name.
async fn deletion(
    api: &Api<DynamicObject>,
    kind: ObjectKind,
    name: &str,
    params: &DeleteParams,
    term: &Term,
) -> Result<Option<String>, Failure> {
    term.check()?;
    match call(access(kind), Verb::Delete, api.delete(name, params)).await {
        Ok(deleted) => {
            let uid = deleted.either(|it| it.metadata.uid, |status| status.details.map(|it| it.uid));
            // An empty one fits none.
            Ok(Some(uid.unwrap_or_default()))
        }
        Err(Failure::Missing) => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// Has the kubelets look at the mounted configuration of an instance's pods now, not within the next minutes. Returns how many.
pub(super) async fn touch_pods(
    client: &Client,
    instance: &NamespacedName,
    term: &Term,
) -> Result<usize, Failure> {
    let pods = pods_of(client, instance).await?;
    for pod in &pods {
        touch(client, &instance.namespace, pod, term).await?;
    }
    Ok(pods.len())
}

/// The names of an instance's pods.
async fn pods_of(client: &Client, instance: &NamespacedName) -> Result<Vec<String>, Failure> {
    let api = pods(client, &instance.namespace);
    let params = ListParams::default().labels(&pod_selector(&instance.name));
    let found = call(&PODS, Verb::List, api.list_metadata(&params)).await?;
    let replica_set = format!("{}-", instance.name);
    let makes = |owner: &OwnerReference| match owner.kind.as_str() {
        "ReplicaSet" => owner.name.starts_with(&replica_set),
        "StatefulSet" => owner.name == instance.name,
        _ => false,
    };
    let ours = found.items.iter().filter(|pod| pod.owner_references().iter().any(makes));
    Ok(ours.map(ResourceExt::name_any).collect())
}

async fn touch(client: &Client, namespace: &str, pod: &str, term: &Term) -> Result<(), Failure> {
    // Any value will do that it did not have before.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis().to_string();
    let patch = Patch::Merge(json!({ "metadata": { "annotations": { CONFIG_ANNOTATION: now } } }));
    let params = PatchParams::default();
    term.check()?;
    let api = pods(client, namespace);
    let request = api.patch_metadata(pod, &params, &patch);
    match call(&PODS, Verb::Patch, request).await {
        Ok(_) | Err(Failure::Missing) => Ok(()),
        Err(failure) => Err(failure),
    }
}
