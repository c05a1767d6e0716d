//! Watches: what the API server says of objects, as events of the model.
//!
//! ```text
//!   API ─list, watch─► DynamicObject ─decode─► ObjectEvent ─► engine
//!                          │ (metadata.managedFields and the object itself are dropped here)
//!                          └─ uid, status ─► Ledger
//! ```
//! One watch a kind. A watch asks the server to end it after [`WATCH_SECONDS`], and a connection on which nothing
//! arrives for longer than that is given up: one that is open on our side only is noticed within half a minute. A
//! watch goes on where it was; only when the server has forgotten that place (410 Gone) everything is listed again,
//! and what is missing then was not seen to be deleted (invariant 5). The same is done on demand: a leader that goes on from
//! what another one has published has to know all that was written before.

use std::fmt::{Debug, Display};
use std::time::Duration;

use crate::key::key_of;
use crate::metrics::State;
use crate::rbac::{Access, CUSTOM, Scope, Verb};
use crate::states::states;
use bindy_api::{API_VERSION, GROUP, RECORD_KINDS, VERSION, ZONE_FILE_LABEL};
use bindy_model::{Kind, ObjectEvent, ObjectKey, Removal, Told};
use futures::StreamExt;
use futures::stream::BoxStream;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::DynamicObject;
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// What is read here: the custom resources, and zone files.
pub(crate) const ACCESS: &[Access] = &[
    Access { group: GROUP, resource: CUSTOM, verbs: READ, scope: Scope::Cluster },
    Access { group: "", resource: "configmaps", verbs: READ, scope: Scope::Cluster },
];

const READ: &[Verb] = &[Verb::Get, Verb::List, Verb::Watch];

/// How long one watch request lasts.
const WATCH_SECONDS: u32 = 25;

/// Pause before what a watch should have brought is read again.
const PAUSE: Duration = Duration::from_secs(1);

/// Without any octet for this long a connection is dead: a healthy watch is ended by the server before.
pub(crate) const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// Objects of one page of a list.
const PAGE: u32 = 500;

/// What happened to the objects of one kind.
#[derive(Debug)]
pub(crate) enum Observed {
    /// For the engine, in this order.
    Objects(Vec<ObjectEvent>),
    /// A zone or instance, for what the ledger needs of it: its identity and what its status says.
    Entry(Box<bindy_api::Object>),
    /// What is wrong with a zone or instance by its status, whether or not the rest of it can be read.
    States(ObjectKey, Vec<State>),
    /// It has been listed, for the last time that this number asked for it, or the first time (0).
    Listed(Kind, u64),
}

/// Every kind that has to be listed before anything is compiled.
pub(crate) fn kinds() -> Vec<Kind> {
    let records = RECORD_KINDS.iter().map(|row| Kind::Record(row.kind));
    [Kind::Instance, Kind::Zone, Kind::ConfigMap].into_iter().chain(records).collect()
}

/// The resource of a custom kind.
pub(crate) fn resource(kind: Kind) -> Option<ApiResource> {
    let (name, plural) = match kind {
        Kind::Instance => ("Bind9Instance", "bind9instances"),
        Kind::Zone => ("DNSZone", "dnszones"),
        Kind::Record(record) => (record.row().name, record.row().plural),
        Kind::ConfigMap => return None,
    };
    Some(ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(GROUP, VERSION, name), plural))
}

/// Watches one kind until cancelled or nobody listens any more. Each new number of `listings` asks for another listing.
pub(crate) async fn run(
    client: Client,
    kind: Kind,
    events: mpsc::Sender<Observed>,
    listings: watch::Receiver<u64>,
    cancel: CancellationToken,
) {
    let watch = async {
        match resource(kind) {
            Some(resource) => {
                let api: Api<DynamicObject> = Api::all_with(client, &resource);
                follow(api, config(), kind, |object| convert(kind, object), events, listings).await;
            }
            None => {
                let labelled = config().labels(&format!("{ZONE_FILE_LABEL}=true"));
                let api: Api<ConfigMap> = Api::all(client);
                follow(api, labelled, kind, |map| convert_config_map(&map), events, listings).await;
            }
        }
    };
    tokio::select! {
        () = cancel.cancelled() => {}
        () = watch => {}
    }
}

/// The settings that all watches share.
pub(crate) fn config() -> watcher::Config {
    watcher::Config::default().timeout(WATCH_SECONDS).page_size(PAGE)
}

/// Why a watch brings nothing for the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interruption {
    /// The right to read is missing.
    Forbidden,
    /// Anything else, which passes by itself.
    Passing,
}

/// What a watch brings, for ever: after each failure, which the log names, it begins again.
pub(crate) fn watched<K>(
    api: Api<K>,
    config: watcher::Config,
    what: impl Display + Send + 'static,
) -> BoxStream<'static, Result<Event<K>, Interruption>>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let events = watcher(api, config).backoff(pauses());
    events.map(move |event| event.map_err(|error| complain(&what, &error))).boxed()
}

/// Pauses between attempts: short enough that everything has converged soon after an API server is back.
fn pauses() -> watcher::ExponentialBackoff {
    backon::ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(500))
        .with_max_delay(Duration::from_secs(4))
        .without_max_times()
        .with_jitter()
        .into()
}

async fn follow<K>(
    api: Api<K>,
    config: watcher::Config,
    kind: Kind,
    convert: impl Fn(K) -> Vec<Observed>,
    sender: mpsc::Sender<Observed>,
    mut listings: watch::Receiver<u64>,
) where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let begin = || watched(api.clone(), config.clone(), kind);
    let (mut stream, mut begun, mut listed, mut relists) = (begin(), false, false, false);
    let mut number = *listings.borrow_and_update();
    loop {
        let event = tokio::select! {
            Ok(()) = listings.changed() => {
                number = *listings.borrow_and_update();
                stream = begin();
                continue;
            }
            Some(event) = stream.next() => event,
            else => return,
        };
        let observed = match event {
            // Also after a first list that did not come to its end: what it told of may be gone.
            Ok(Event::Init) if std::mem::replace(&mut begun, true) => {
                relists = true;
                vec![Observed::Objects(vec![ObjectEvent::Relisting(kind)])]
            }
            Ok(Event::Init) | Err(_) => Vec::new(),
            Ok(Event::InitApply(object) | Event::Apply(object)) => convert(object),
            Ok(Event::InitDone) => {
                if !std::mem::replace(&mut listed, true) {
                    tracing::info!(%kind, "listed");
                }
                let relisted = std::mem::take(&mut relists);
                let relisted = relisted.then(|| Observed::Objects(vec![ObjectEvent::Relisted(kind)]));
                relisted.into_iter().chain([Observed::Listed(kind, number)]).collect()
            }
            Ok(Event::Delete(object)) => {
                let key = key_of(&object);
                vec![Observed::Objects(vec![ObjectEvent::Removed(ObjectKey { kind, key }, Removal::Deleted)])]
            }
        };
        for one in observed {
            if sender.send(one).await.is_err() {
                return;
            }
        }
    }
}

/// Waits until a watch has brought what there is now. That is read again after a pause: meanwhile it may have become something
/// else.
pub(crate) async fn caught_up<T, R, B>(what: &str, read: impl Fn() -> R, brought: impl Fn(T) -> B)
where
    R: Future<Output = kube::Result<T>>,
    B: Future,
{
    loop {
        match read().await {
            Ok(now) => {
                if tokio::time::timeout(PAUSE, brought(now)).await.is_ok() {
                    return;
                }
            }
            Err(error) => {
                tracing::warn!(what, %error, "cannot be read; tried again");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// One line for a watch that failed: it is tried again with growing pauses, so it is no line a second.
fn complain(what: &impl Display, error: &watcher::Error) -> Interruption {
    let code = match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status)) => status.code,
        _ => 0,
    };
    let hint = match code {
        404 => "install the custom resource definitions: kubectl apply --server-side -f deploy/crds.yaml",
        401 | 403 => "give the service account the rights of deploy/install.yaml",
        410 => "the server has forgotten where the watch was: everything is listed again",
        _ => "tried again",
    };
    tracing::warn!(%what, %error, hint, "watch interrupted");
    if code == 403 { Interruption::Forbidden } else { Interruption::Passing }
}

/// What an object means; one that cannot be read is told apart from one that does not exist.
fn convert(kind: Kind, object: DynamicObject) -> Vec<Observed> {
    let key = key_of(&object);
    let key = ObjectKey { kind, key };
    let DynamicObject { types: _, mut metadata, data } = object;
    metadata.managed_fields = None;
    let states = matches!(kind, Kind::Zone | Kind::Instance)
        .then(|| Observed::States(key.clone(), states(data.get("status"))));
    let decoded = value(kind, metadata, data).and_then(|value| {
        let object = bindy_api::Object::decode(value).map_err(|error| error.to_string())?;
        Ok((bindy_model::decode(&object)?, object))
    });
    let told: Vec<Observed> = match decoded {
        Ok((applied, object)) => {
            let told = Told::by(&object);
            let events = vec![ObjectEvent::Applied(applied), ObjectEvent::Told(key, told)];
            let entry =
                (!matches!(object, bindy_api::Object::Record(_))).then(|| Observed::Entry(Box::new(object)));
            // The ledger knows the object before the engine can ask it for a swap.
            entry.into_iter().chain([Observed::Objects(events)]).collect()
        }
        Err(message) => vec![Observed::Objects(vec![ObjectEvent::Unreadable(key, message)])],
    };
    states.into_iter().chain(told).collect()
}

/// The object as one JSON value; lists leave out apiVersion and kind of their items.
fn value(
    kind: Kind,
    metadata: kube::core::ObjectMeta,
    mut data: serde_json::Value,
) -> Result<serde_json::Value, String> {
    let object = data.as_object_mut().ok_or("the object is no JSON object")?;
    object.insert("apiVersion".to_owned(), API_VERSION.into());
    object.insert("kind".to_owned(), kind.to_string().into());
    let metadata = serde_json::to_value(metadata).map_err(|error| error.to_string())?;
    object.insert("metadata".to_owned(), metadata);
    Ok(data)
}

fn convert_config_map(map: &ConfigMap) -> Vec<Observed> {
    let key = key_of(map);
    let event = match bindy_model::decode_config_map(map) {
        Ok(object) => ObjectEvent::Applied(object),
        Err(message) => ObjectEvent::Unreadable(ObjectKey { kind: Kind::ConfigMap, key }, message),
    };
    vec![Observed::Objects(vec![event])]
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::{Request, Response};
    use kube::client::Body;
    use serde_json::json;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn what_is_wrong_with_an_object_is_known_also_when_it_cannot_be_read() {
        let status = json!({ "conditions": [{ "type": "Accepted", "status": "False", "reason": "Conflict",
            "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z" }] });
        for (zone_name, readable) in [(json!("example.com"), true), (json!(7), false)] {
            let mut zone = DynamicObject::new("z", &resource(Kind::Zone).unwrap()).within("dns");
            zone.data = json!({ "spec": { "zoneName": zone_name }, "status": status });
            let observed = convert(Kind::Zone, zone);
            let refused =
                |one: &Observed| matches!(one, Observed::States(_, states) if *states == [State::Refused]);
            assert_eq!(observed.iter().filter(|one| refused(one)).count(), 1, "{observed:?}");
            let entry = |one: &Observed| matches!(one, Observed::Entry(_));
            assert_eq!(observed.iter().any(entry), readable, "{observed:?}");
        }
    }

    #[tokio::test]
    async fn what_a_first_list_told_of_before_it_was_interrupted_is_forgotten_if_it_is_gone() {
        let requests = Arc::new(AtomicU32::new(0));
        let service = tower::service_fn(move |request: Request<Body>| {
            let is_watch = request.uri().query().is_some_and(|query| query.contains("watch="));
            let number = if is_watch { 0 } else { 1 + requests.fetch_add(1, Ordering::Relaxed) };
            let list = |names: &[&str], next: &str| {
                let item =
                    |name: &&str| json!({ "metadata": { "namespace": "dns", "name": name, "uid": name } });
                let items: Vec<_> = names.iter().map(item).collect();
                json!({ "metadata": { "resourceVersion": "9", "continue": next }, "items": items })
            };
            let (code, answer) = match number {
                1 => (200, list(&["gone", "stays"], "2")),
                2 => (
                    500,
                    json!({ "status": "Failure", "message": "", "reason": "InternalError", "code": 500 }),
                ),
                _ => (200, list(&["stays"], "")),
            };
            async move {
                if is_watch {
                    std::future::pending::<()>().await;
                }
                let answer =
                    Response::builder().status(code).body(Body::from(answer.to_string().into_bytes()));
                Ok::<_, kube::Error>(answer.unwrap())
            }
        });
        let (sender, mut observed) = mpsc::channel(1);
        let (_listings, wanted) = watch::channel(0);
        let client = Client::new(service, "default");
        tokio::spawn(run(client, Kind::ConfigMap, sender, wanted, CancellationToken::new()));
        let mut told = Vec::new();
        loop {
            match observed.recv().await.unwrap() {
                Observed::Objects(events) => told.extend(events.into_iter().map(|event| match event {
                    ObjectEvent::Applied(object) => object.key().key.name,
                    ObjectEvent::Told(key, _) | ObjectEvent::Unreadable(key, _) => key.key.name,
                    ObjectEvent::Relisting(_) => "again:".to_owned(),
                    ObjectEvent::Relisted(_) => "all".to_owned(),
                    other => format!("{other:?}"),
                })),
                Observed::Listed(..) => break,
                Observed::Entry(_) | Observed::States(..) => {}
            }
        }
        assert_eq!(told, ["gone", "stays", "again:", "stays", "all"]);
    }

    #[tokio::test]
    async fn what_there_is_is_read_again_until_the_watch_has_brought_it() {
        let seen = watch::channel(2).0;
        let reads = AtomicU32::new(0);
        // The watch has brought what came after the first one.
        let read = async || Ok(1 + reads.fetch_add(1, Ordering::Relaxed));
        let brought = async |number: u32| drop(seen.subscribe().wait_for(|seen| *seen == number).await);
        caught_up("numbers", read, brought).await;
        assert_eq!(reads.into_inner(), 2);
    }
}
