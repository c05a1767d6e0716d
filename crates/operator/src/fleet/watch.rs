//! Follows the objects of instances, and the Service of the hidden primary.

use std::collections::HashSet;
use std::pin::pin;

use bindy_model::NamespacedName;
use bindy_model::workload::{MANAGED_BY, MANAGED_BY_LABEL, ObjectKind};
use futures::TryStreamExt;
use kube::api::{Api, DynamicObject};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::Context;
use super::kinds::resource;
use super::observed::{Observed, instances_of, key_of};
use crate::observe;

/// What a watch tells.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    /// Everything has been listed once.
    Listed,
    /// Something about this instance changed.
    Instance(NamespacedName),
    /// Something that concerns every instance changed.
    Everything,
}

/// Follows one kind until cancelled.
pub(super) async fn objects(
    context: &Context,
    kind: ObjectKind,
    observed: &Observed,
    news: mpsc::Sender<News>,
    cancel: CancellationToken,
) {
    let api: Api<DynamicObject> = Api::all_with(context.client.clone(), &resource(kind));
    let config = observe::config().labels(&format!("{MANAGED_BY_LABEL}={MANAGED_BY}"));
    let mut listed = HashSet::new();
    let take = |event| {
        let (concerned, done) = take(kind, observed, event, &mut listed);
        concerned.into_iter().map(News::Instance).chain(done.then_some(News::Listed)).collect()
    };
    follow(api, config, &format!("{kind}s"), take, news, cancel).await;
}

/// Takes one event; returns the instances that it concerns, and whether a list is complete by it.
fn take(
    kind: ObjectKind,
    observed: &Observed,
    event: Event<Value>,
    listed: &mut HashSet<NamespacedName>,
) -> (HashSet<NamespacedName>, bool) {
    let put = |object: Value| {
        let concerned = instances_of(&object);
        if observed.put(kind, object) { concerned } else { HashSet::new() }
    };
    match event {
        Event::Apply(object) => (put(object), false),
        Event::Delete(object) => {
            observed.remove(kind, &object);
            (instances_of(&object), false)
        }
        Event::Init => {
            listed.clear();
            (HashSet::new(), false)
        }
        Event::InitApply(object) => {
            listed.extend(key_of(&object));
            (put(object), false)
        }
        Event::InitDone => {
            let gone = observed.retain(kind, &std::mem::take(listed));
            (gone.iter().flat_map(|object| instances_of(object)).collect(), true)
        }
    }
}

/// Follows the Service of the hidden primary until cancelled.
pub(super) async fn hidden_primary(
    context: &Context,
    observed: &Observed,
    news: mpsc::Sender<News>,
    cancel: CancellationToken,
) {
    let service = &context.transfer_service;
    let api: Api<DynamicObject> =
        Api::namespaced_with(context.client.clone(), &service.namespace, &resource(ObjectKind::Service));
    let config = observe::config().fields(&format!("metadata.name={}", service.name));
    let take = |event| match event {
        Event::Apply(object) | Event::InitApply(object) if observed.set_hidden_primary(&object) => {
            vec![News::Everything]
        }
        Event::InitDone => vec![News::Listed],
        _ => Vec::new(),
    };
    follow(api, config, &format!("Service {service}"), take, news, cancel).await;
}

async fn follow(
    api: Api<DynamicObject>,
    config: watcher::Config,
    what: &str,
    mut take: impl FnMut(Event<Value>) -> Vec<News> + Send,
    news: mpsc::Sender<News>,
    cancel: CancellationToken,
) {
    let stripped = |object: &mut DynamicObject| object.metadata.managed_fields = None;
    let events = watch(api, config).modify(stripped).backoff(observe::pauses());
    let mut events = pin!(events);
    loop {
        let event = tokio::select! {
            () = cancel.cancelled() => return,
            event = events.try_next() => event,
        };
        match event {
            Ok(Some(event)) => {
                for told in take(json(event)) {
                    // The receiver is gone at shutdown only.
                    let _ = news.send(told).await;
                }
            }
            Ok(None) => return,
            Err(error) => warn!(what, %error, "cannot be watched; tried again"),
        }
    }
}

/// The event with its object as JSON, in which it is compared.
fn json(event: Event<DynamicObject>) -> Event<Value> {
    // It was JSON a moment ago.
    let value = |object: DynamicObject| serde_json::to_value(&object).unwrap_or_default();
    match event {
        Event::Apply(object) => Event::Apply(value(object)),
        Event::Delete(object) => Event::Delete(value(object)),
        Event::Init => Event::Init,
        Event::InitApply(object) => Event::InitApply(value(object)),
        Event::InitDone => Event::InitDone,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn map(name: &str, version: &str) -> Value {
        let labels = json!({ "app.kubernetes.io/instance": "dns" });
        json!({ "metadata": {
            "namespace": "default", "name": name, "uid": name, "resourceVersion": version, "labels": labels } })
    }

    #[test]
    fn changes_deletions_and_what_a_new_list_lacks_concern_their_instance() {
        let (observed, mut listed) = (Observed::default(), HashSet::new());
        let mut told = |event| {
            let (concerned, done) = take(ObjectKind::ConfigMap, &observed, event, &mut listed);
            (concerned.len(), done)
        };
        assert_eq!(told(Event::Init), (0, false));
        assert_eq!(told(Event::InitApply(map("a", "1"))), (1, false));
        assert_eq!(told(Event::InitApply(map("b", "1"))), (1, false));
        assert_eq!(told(Event::InitDone), (0, true));
        assert_eq!(told(Event::Apply(map("a", "1"))), (0, false), "known already");
        assert_eq!(told(Event::Apply(map("a", "2"))), (1, false));
        assert_eq!(told(Event::Delete(map("a", "3"))), (1, false));
        assert_eq!(told(Event::Init), (0, false));
        assert_eq!(told(Event::InitDone), (1, true), "b was deleted while nobody watched");
    }
}
