//! Follows the objects of instances, the Service of the hidden primary, and where nodes are.

use std::collections::HashSet;

use bindy_model::NamespacedName;
use bindy_model::workload::{self, MANAGED_BY, MANAGED_BY_LABEL, Nodes, ObjectKind};
use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;
use kube::api::{Api, DynamicObject};
use kube::runtime::watcher::Event;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Context;
use super::kinds::resource;
use super::observed::{Observed, instances_of, key_of};
use crate::observe::{self, Interruption};

/// What a watch tells.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    /// Everything of a watch has been listed, for the first time.
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
    let take = |event: Result<Event<Value>, _>| {
        let Ok(event) = event else { return Vec::new() };
        let (concerned, done) = take(kind, observed, event, &mut listed);
        concerned.into_iter().map(News::Instance).chain(done.then_some(News::Listed)).collect()
    };
    let events = observe::watched(api, config, kind);
    follow(events.map(|event| event.map(json)), take, news, cancel).await;
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
        if observed.heard(kind, object) { concerned } else { HashSet::new() }
    };
    match event {
        Event::Apply(object) => (put(object), false),
        Event::Delete(object) => {
            observed.heard_gone(kind, &object);
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
        Ok(Event::Apply(object) | Event::InitApply(object)) if observed.set_hidden_primary(&object) => {
            vec![News::Everything]
        }
        Ok(Event::InitDone) => vec![News::Listed],
        _ => Vec::new(),
    };
    let events = observe::watched(api, config, format!("Service {service}"));
    follow(events.map(|event| event.map(json)), take, news, cancel).await;
}

/// Follows what nodes may have servers, until cancelled. Nobody waits for it where the right to read it is missing: then no node
/// is known.
pub(super) async fn nodes(
    context: &Context,
    observed: &Observed,
    news: mpsc::Sender<News>,
    cancel: CancellationToken,
) {
    let api: Api<Node> = Api::all(context.client.clone());
    let mut seen = Seen { observed, listed: Nodes::new() };
    let events = observe::watched(api, observe::config(), "Node");
    follow(events, |event| seen.take(event), news, cancel).await;
}

/// Takes nodes in.
struct Seen<'a> {
    observed: &'a Observed,
    listed: Nodes,
}

impl Seen<'_> {
    fn take(&mut self, event: Result<Event<Node>, Interruption>) -> Vec<News> {
        let before = self.observed.nodes();
        let known = || before.as_deref().cloned().unwrap_or_default();
        let (mut now, mut complete) = (None, false);
        match event {
            Err(why) => complete = why == Interruption::Forbidden,
            Ok(Event::Init) => self.listed.clear(),
            Ok(Event::InitApply(node)) => drop(self.listed.insert(node.name_any(), of_interest(node))),
            Ok(Event::InitDone) => {
                (now, complete) = (Some(std::mem::take(&mut self.listed)), true);
            }
            Ok(Event::Apply(node)) => {
                let (name, node) = (node.name_any(), of_interest(node));
                // Every kubelet says every few minutes that it is there.
                if before.as_deref().and_then(|nodes| nodes.get(&name)) != Some(&node) {
                    now.insert(known()).insert(name, node);
                }
            }
            Ok(Event::Delete(node)) => drop(now.insert(known()).remove(&node.name_any())),
        }
        let mut news = Vec::new();
        if let Some(nodes) = now.filter(|now| before.as_deref() != Some(now)) {
            self.observed.set_nodes(nodes);
            news.push(News::Everything);
        }
        // Nothing is done to instances before they are listed, or cannot be.
        news.extend(complete.then_some(News::Listed));
        news
    }
}

fn of_interest(node: Node) -> workload::Node {
    let taints = node.spec.and_then(|spec| spec.taints).unwrap_or_default();
    workload::Node { labels: node.metadata.labels.unwrap_or_default(), taints }
}

/// Hands on what `take` makes of the events, and of interruptions. A watch is listed once only: whoever waits for all of them
/// counts.
async fn follow<T>(
    mut events: impl Stream<Item = Result<Event<T>, Interruption>> + Unpin + Send,
    mut take: impl FnMut(Result<Event<T>, Interruption>) -> Vec<News> + Send,
    news: mpsc::Sender<News>,
    cancel: CancellationToken,
) {
    let mut listed = false;
    loop {
        let event = tokio::select! {
            () = cancel.cancelled() => return,
            event = events.next() => event,
        };
        let Some(event) = event else { return };
        for told in take(event) {
            if told == News::Listed && std::mem::replace(&mut listed, true) {
                continue;
            }
            // The receiver is gone at shutdown only.
            let _ = news.send(told).await;
        }
    }
}

/// The event with its object as JSON, in which it is compared, without what nobody compares.
fn json(event: Event<DynamicObject>) -> Event<Value> {
    let value = |mut object: DynamicObject| {
        object.metadata.managed_fields = None;
        // It was JSON a moment ago.
        serde_json::to_value(&object).unwrap_or_default()
    };
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

    #[test]
    fn nodes_are_news_when_they_are_elsewhere_and_only_those_that_may_not_be_read_are_not_waited_for() {
        let node = |name: &str, zone: &str| -> Node {
            let taints = json!([{ "key": "dedicated", "effect": "NoSchedule" }]);
            let metadata = json!({ "name": name, "labels": { workload::ZONE: zone } });
            serde_json::from_value(json!({ "metadata": metadata, "spec": { "taints": taints } })).unwrap()
        };
        let observed = Observed::default();
        let mut seen = Seen { observed: &observed, listed: Nodes::new() };
        assert_eq!(seen.take(Err(Interruption::Passing)), [], "the API server is busy");
        assert_eq!(seen.take(Err(Interruption::Forbidden)), [News::Listed]);
        assert!(observed.nodes().is_none());
        assert_eq!(seen.take(Ok(Event::Init)), []);
        assert_eq!(seen.take(Ok(Event::InitApply(node("a", "1")))), []);
        assert_eq!(seen.take(Ok(Event::InitDone)), [News::Everything, News::Listed]);
        assert_eq!(seen.take(Ok(Event::Apply(node("a", "1")))), [], "a heartbeat");
        assert_eq!(seen.take(Ok(Event::Apply(node("b", "2")))), [News::Everything]);
        assert_eq!(seen.take(Ok(Event::Delete(node("b", "2")))), [News::Everything]);
        let known = observed.nodes().unwrap();
        assert_eq!((known["a"].zone(), known["a"].taints.len()), (Some("1"), 1));
        assert_eq!(seen.take(Ok(Event::Apply(Node { spec: None, ..node("a", "1") }))), [News::Everything]);
    }

    #[tokio::test]
    async fn a_watch_that_lists_again_does_not_count_for_one_that_has_not_listed_yet() {
        let (sender, mut news) = mpsc::channel(9);
        let object = || DynamicObject::new("a", &resource(ObjectKind::ConfigMap));
        let twice = [Event::Init, Event::InitDone, Event::Init, Event::InitDone, Event::Apply(object())];
        let take = |event: Result<Event<DynamicObject>, Interruption>| match event {
            Ok(Event::InitDone) => vec![News::Listed],
            Ok(Event::Apply(_)) => vec![News::Everything],
            _ => Vec::new(),
        };
        let events = futures::stream::iter(twice.map(Ok));
        follow(events, take, sender, CancellationToken::new()).await;
        assert_eq!(news.recv().await, Some(News::Listed));
        assert_eq!(news.recv().await, Some(News::Everything));
        assert_eq!(news.recv().await, None);
    }
}
