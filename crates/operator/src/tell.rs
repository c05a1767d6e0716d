//! Tells objects what is true of them: status writes, only where a status says something else.
//!
//! ```text
//!   engine ─notices─► write (a few at a time) ─► API
//!                        └─ failed: the engine is asked again later
//! ```
//! What the ledger owns (serial, digest, records, catalog) is never part of these writes.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bindy_api::{Bind9Instance, Bind9InstanceStatus, Condition, DNSZone, DNSZoneStatus, GROUP, dated};
use bindy_engine::{EngineHandle, sleep_until};
use bindy_model::{
    InstanceNotice, Kind, Notices, ObjectKey, RecordNotice, Told, UnreadableNotice, ZoneNotice, told,
};
use futures::future::BoxFuture;
use futures::{StreamExt, stream};
use jiff::Timestamp;
use kube::api::{DynamicObject, PatchParams};
use kube::core::{ApiResource, Status};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::events::Events;
use crate::instances::Instances;
use crate::metrics::Metrics;
use crate::observe;
use crate::patch::json_patch;
use crate::rbac::{Access, CUSTOM_STATUS, Scope, Verb};
use crate::refusals::Refusals;
use crate::term::{Term, TermOver};

/// What is written here, and by the ledger.
pub(crate) const ACCESS: &[Access] =
    &[Access { group: GROUP, resource: CUSTOM_STATUS, verbs: &[Verb::Patch], scope: Scope::Cluster }];

/// Objects of each kind that are asked for at once, and writes that are under way at once.
const BATCH: usize = 64;
const WRITES: usize = 16;

/// What of a zone's status is told here.
const ZONE_FIELDS: [&str; 4] = ["observedGeneration", "servers", "lagging", "conditions"];

/// What is told of any object that cannot be decoded.
const UNREADABLE_FIELDS: [&str; 2] = ["observedGeneration", "conditions"];

/// Pause before an object is told again that could not be told.
const PAUSE: Duration = Duration::from_secs(2);

/// What a write needs.
pub(crate) struct Teller {
    pub(crate) client: Client,
    pub(crate) engine: EngineHandle,
    pub(crate) instances: Instances,
    pub(crate) term: Term,
    pub(crate) metrics: Metrics,
    pub(crate) events: Events,
    pub(crate) refusals: Refusals,
}

/// Why an object was not told.
#[derive(Debug)]
enum Failure {
    /// It does not exist any more, or is not as it was thought to be: the engine decides anew.
    Gone,
    /// Another replica tells it.
    TermOver,
    /// The API server does not want this status on the object as it is: a policy, a schema.
    Refused(Box<Status>),
    /// The API server failed.
    Api(kube::Error),
}

impl From<TermOver> for Failure {
    fn from(_: TermOver) -> Self {
        Self::TermOver
    }
}

impl Teller {
    /// Runs until cancelled or the engine has stopped; writes that have begun are finished.
    pub(crate) async fn run(self, cancel: CancellationToken) {
        let mut changes = self.engine.changes();
        while !cancel.is_cancelled() {
            changes.mark_unchanged();
            let Some((notices, next)) = self.engine.notices(BATCH).await else { return };
            if !notices.is_empty() {
                self.tell(notices).await;
                continue;
            }
            tokio::select! {
                () = cancel.cancelled() => return,
                changed = changes.changed() => if changed.is_err() { return },
                () = sleep_until(next) => {}
            }
        }
    }

    async fn tell(&self, notices: Notices) {
        let Notices { records, zones, instances, unreadable, next: _ } = notices;
        let mut writes: Vec<BoxFuture<'_, ()>> = Vec::new();
        for zone in zones {
            writes.push(Box::pin(self.tell_zone(zone)));
        }
        for instance in instances {
            writes.push(Box::pin(self.tell_instance(instance)));
        }
        for object in unreadable {
            writes.push(Box::pin(self.tell_unreadable(object)));
        }
        for record in records {
            writes.push(Box::pin(self.tell_record(record)));
        }
        stream::iter(writes).buffer_unordered(WRITES).collect::<()>().await;
        self.refusals.prune(Instant::now());
    }

    async fn tell_record(&self, notice: RecordNotice) {
        let key = notice.key.clone();
        let Some(resource) = observe::resource(key.kind) else { return };
        let written = self.in_term(self.write_record(&self.term, &resource, notice)).await;
        self.finish(key, resource.kind.as_str(), written).await;
    }

    async fn tell_zone(&self, notice: ZoneNotice) {
        let key = ObjectKey { kind: Kind::Zone, key: notice.key.clone() };
        let written = self.in_term(self.write_zone(&self.term, notice)).await;
        self.finish(key, "DNSZone", written).await;
    }

    async fn tell_instance(&self, notice: InstanceNotice) {
        let Some(status) = self.instances.status(&notice).await else { return };
        if told::instance_print(&status) == notice.told {
            return;
        }
        let key = ObjectKey { kind: Kind::Instance, key: notice.report.key.clone() };
        let written = self.in_term(self.write_instance(&self.term, &notice, status)).await;
        self.finish(key, "Bind9Instance", written).await;
    }

    async fn tell_unreadable(&self, notice: UnreadableNotice) {
        let key = notice.key.clone();
        let Some(resource) = observe::resource(key.kind) else { return };
        let written = self.in_term(self.write_unreadable(&self.term, &resource, notice)).await;
        self.finish(key, resource.kind.as_str(), written).await;
    }

    /// Gives a write up when the term is over: its answer would hold up the next term.
    async fn in_term(&self, write: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
        tokio::select! {
            written = write => written,
            () = self.term.ended() => Err(Failure::TermOver),
        }
    }

    async fn finish(&self, key: ObjectKey, kind: &str, written: Result<(), Failure>) {
        let kind = bindy_api::Kind::from_name(kind).map_or("", bindy_api::Kind::name);
        match written {
            Ok(()) => {
                self.metrics.status(kind, "done");
                self.refusals.forget(&key);
            }
            // Whether it was written is not known: should this replica lead again, it is looked at again.
            Err(Failure::TermOver) => self.engine.tell_again(key, PAUSE).await,
            Err(Failure::Gone) => self.metrics.status(kind, "gone"),
            Err(Failure::Refused(status)) => {
                self.metrics.status(kind, "error");
                let pause = self.refusals.add(&key, Instant::now());
                tracing::warn!(object = %key, error = %status, seconds = pause.as_secs(), "status refused; tried again after a pause");
                self.engine.tell_again(key, pause).await;
            }
            Err(Failure::Api(error)) => {
                self.metrics.status(kind, "error");
                tracing::warn!(object = %key, %error, "status not written; tried again");
                self.engine.tell_again(key, PAUSE).await;
            }
        }
    }

    /// The whole status of a record is ours. The patch tests that the object is the one that it was made for, and that its
    /// status is what this was decided on: nothing that another leader has written is overwritten by a late word of this one.
    async fn write_record(
        &self,
        term: &Term,
        resource: &ApiResource,
        notice: RecordNotice,
    ) -> Result<(), Failure> {
        let RecordNotice { key, created, generation, told, mut status } = notice;
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &key.key.namespace, resource);
        // A record that was never told anything costs one request.
        let before = match told {
            0 => Value::Null,
            _ => self.expected(&api, &key, told).await?,
        };
        let old = conditions(&before);
        status.conditions = dated(&old, status.conditions, Timestamp::now());
        let created = Timestamp::from_second(i64::from(created)).map(|at| at.to_string()).unwrap_or_default();
        let patch = vec![
            json!({"op": "test", "path": "/metadata/creationTimestamp", "value": created}),
            json!({"op": "test", "path": "/metadata/generation", "value": generation}),
            json!({"op": "test", "path": "/status", "value": before}),
            json!({"op": "add", "path": "/status", "value": status}),
        ];
        let written = self.patch(term, &api, &key, patch).await?;
        self.events.tell(&written.object_ref(resource), &old, &status.conditions).await;
        Ok(())
    }

    async fn write_zone(&self, term: &Term, notice: ZoneNotice) -> Result<(), Failure> {
        let ZoneNotice { key, uid, told, has_entry, status } = notice;
        let key = ObjectKey { kind: Kind::Zone, key };
        let resource = ApiResource::erase::<DNSZone>(&());
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), &key.key.namespace, &resource);
        let zone = (&api, &key, uid.as_str());
        // A zone that was never told anything costs one request, unless its status is not as the ledger and the schema's defaults
        // have made it.
        if told == 0 && has_entry {
            match self.replace_zone(term, zone, &json!({"conditions": []}), status.clone()).await {
                Err(Failure::Refused(_) | Failure::Gone) => {}
                written => return written,
            }
        }
        let before = self.expected(&api, &key, told).await?;
        self.replace_zone(term, zone, &before, status).await
    }

    async fn replace_zone(
        &self,
        term: &Term,
        (api, key, uid): (&Api<DynamicObject>, &ObjectKey, &str),
        before: &Value,
        mut status: DNSZoneStatus,
    ) -> Result<(), Failure> {
        let old = conditions(before);
        status.conditions = dated(&old, status.conditions, Timestamp::now());
        let patch = replace(uid, before, &json!(status), ZONE_FIELDS);
        let written = self.patch(term, api, key, patch).await?;
        self.events
            .tell(&written.object_ref(&ApiResource::erase::<DNSZone>(&())), &old, &status.conditions)
            .await;
        Ok(())
    }

    async fn write_instance(
        &self,
        term: &Term,
        notice: &InstanceNotice,
        mut status: Bind9InstanceStatus,
    ) -> Result<(), Failure> {
        let key = ObjectKey { kind: Kind::Instance, key: notice.report.key.clone() };
        let resource = ApiResource::erase::<Bind9Instance>(&());
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), &key.key.namespace, &resource);
        let object = api.get_opt(&key.key.name).await.map_err(Failure::Api)?.ok_or(Failure::Gone)?;
        let before = status_of(&object);
        let old = conditions(&before);
        status.conditions = dated(&old, status.conditions, Timestamp::now());
        let conditions = status.conditions.clone();
        let status = json!(Bind9InstanceStatus { catalog: None, ..status });
        let ours = [&before, &status].into_iter().filter_map(Value::as_object).flatten();
        let ours: BTreeSet<&str> =
            ours.map(|(field, _)| field.as_str()).filter(|it| *it != "catalog").collect();
        let patch = replace(&notice.report.uid, &before, &status, ours);
        let written = self.patch(term, &api, &key, patch).await?;
        self.events.tell(&written.object_ref(&resource), &old, &conditions).await;
        Ok(())
    }

    /// Of an object that cannot be decoded nothing is known but what is asked for here.
    async fn write_unreadable(
        &self,
        term: &Term,
        resource: &ApiResource,
        notice: UnreadableNotice,
    ) -> Result<(), Failure> {
        let UnreadableNotice { key, message } = notice;
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &key.key.namespace, resource);
        let object = api.get_opt(&key.key.name).await.map_err(Failure::Api)?.ok_or(Failure::Gone)?;
        let (before, generation) = (status_of(&object), object.metadata.generation);
        let old = conditions(&before);
        let new = told::unreadable(&old, &message, generation, Timestamp::now());
        let after = json!({"observedGeneration": generation, "conditions": new});
        if UNREADABLE_FIELDS.iter().all(|field| before.get(field) == after.get(field)) {
            return Ok(());
        }
        let patch = replace(&object.uid().unwrap_or_default(), &before, &after, UNREADABLE_FIELDS);
        let written = self.patch(term, &api, &key, patch).await?;
        tracing::warn!(object = %key, %message, "the object cannot be read; what it said before stays in force");
        self.events.tell(&written.object_ref(resource), &old, &new).await;
        Ok(())
    }

    /// The status of an object, if it is what was thought; else the engine is told what it is.
    async fn expected(&self, api: &Api<DynamicObject>, key: &ObjectKey, told: u32) -> Result<Value, Failure> {
        let object = api.get_opt(&key.key.name).await.map_err(Failure::Api)?.ok_or(Failure::Gone)?;
        if told_by(key.kind, &object).print != told {
            self.found(key, &object).await;
            return Err(Failure::Gone);
        }
        Ok(status_of(&object))
    }

    /// Sends a patch that tests what it was decided on. Where that is not so any more, the engine is told what is; where it
    /// still is, something else stands against the patch.
    async fn patch(
        &self,
        term: &Term,
        api: &Api<DynamicObject>,
        key: &ObjectKey,
        patch: Vec<Value>,
    ) -> Result<DynamicObject, Failure> {
        let sent = json_patch(patch.clone()).map_err(Failure::Api)?;
        let name = &key.key.name;
        term.check()?;
        match api.patch_status(name, &PatchParams::default(), &sent).await {
            Ok(written) => Ok(written),
            Err(kube::Error::Api(status)) if status.code == 404 => Err(Failure::Gone),
            Err(kube::Error::Api(status)) if matches!(status.code, 409 | 422) => {
                let object = api.get_opt(name).await.map_err(Failure::Api)?.ok_or(Failure::Gone)?;
                if holds(&patch, &object) {
                    return Err(Failure::Refused(status));
                }
                self.found(key, &object).await;
                Err(Failure::Gone)
            }
            Err(error) => Err(Failure::Api(error)),
        }
    }

    async fn found(&self, key: &ObjectKey, object: &DynamicObject) {
        tracing::debug!(object = %key, "the status says something else than was thought");
        let generation = u32::try_from(object.metadata.generation.unwrap_or_default()).unwrap_or_default();
        self.engine.found_told(key.clone(), generation, told_by(key.kind, object)).await;
    }
}

/// The status of an object; null when it has none.
fn status_of(object: &DynamicObject) -> Value {
    object.data.get("status").cloned().unwrap_or_default()
}

/// Its conditions; none of a status that cannot be read.
fn conditions(status: &Value) -> Vec<Condition> {
    let conditions = status.get("conditions").cloned().map(serde_json::from_value);
    conditions.and_then(Result::ok).unwrap_or_default()
}

/// What the status of an object says; nothing if it cannot be read. The rest of the object need not be readable.
fn told_by(kind: Kind, object: &DynamicObject) -> Told {
    let (status, generation) = (status_of(object), object.metadata.generation);
    let told = match kind {
        Kind::Record(_) => serde_json::from_value(status).map(|status| Told::by_record(&status, generation)),
        Kind::Zone => serde_json::from_value(status).map(|status| Told::by_zone(&status, generation)),
        Kind::Instance => serde_json::from_value(status).map(|status| Told::by_instance(&status, generation)),
        Kind::ConfigMap => return Told::default(),
    };
    told.unwrap_or_default()
}

/// Whether the object is what the patch tests for.
fn holds(patch: &[Value], object: &DynamicObject) -> bool {
    // It was JSON a moment ago.
    let object = serde_json::to_value(object).unwrap_or_default();
    let tests = patch.iter().filter(|operation| operation.get("op").is_some_and(|op| op == "test"));
    tests.into_iter().all(|test| {
        let path = test.get("path").and_then(Value::as_str).unwrap_or_default();
        test.get("value") == Some(object.pointer(path).unwrap_or(&Value::Null))
    })
}

/// The patch that makes our fields of a status those of `after`, where they are those of `before`.
fn replace<'a>(
    uid: &str,
    before: &Value,
    after: &Value,
    ours: impl IntoIterator<Item = &'a str>,
) -> Vec<Value> {
    let mut patch = vec![json!({"op": "test", "path": "/metadata/uid", "value": uid})];
    if before.is_null() {
        patch.push(json!({"op": "test", "path": "/status", "value": null}));
        patch.push(json!({"op": "add", "path": "/status", "value": after}));
        return patch;
    }
    for field in ours {
        let path = format!("/status/{field}");
        let (old, new) = (before.get(field), after.get(field));
        patch.push(json!({"op": "test", "path": path, "value": old}));
        match (old, new) {
            (Some(_), None) => patch.push(json!({"op": "remove", "path": path})),
            (_, Some(new)) if old != Some(new) => {
                patch.push(json!({"op": "add", "path": path, "value": new}));
            }
            _ => {}
        }
    }
    patch
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::simulated;
    use crate::instances::Addresses;
    use crate::ledger::KubeLedger;
    use crate::term::Leadership;
    use axum::http::StatusCode;
    use bindy_api::RecordStatus;
    use bindy_engine::{Engine, Store};
    use bindy_model::NamespacedName;
    use std::sync::Arc;
    use tokio::sync::watch;

    #[test]
    fn every_field_of_ours_is_tested_before_it_is_replaced() {
        let before = json!({"serial": 7, "servers": {"ready": 1}, "lagging": ["a"], "conditions": []});
        let after = json!({"servers": {"ready": 2}, "conditions": []});
        let test = |path: &str, value: Value| json!({"op": "test", "path": path, "value": value});
        assert_eq!(
            replace("u", &before, &after, ZONE_FIELDS),
            [
                test("/metadata/uid", json!("u")),
                test("/status/observedGeneration", Value::Null),
                test("/status/servers", json!({"ready": 1})),
                json!({"op": "add", "path": "/status/servers", "value": {"ready": 2}}),
                test("/status/lagging", json!(["a"])),
                json!({"op": "remove", "path": "/status/lagging"}),
                test("/status/conditions", json!([])),
            ]
        );
        assert_eq!(
            replace("u", &Value::Null, &after, ZONE_FIELDS),
            [
                test("/metadata/uid", json!("u")),
                test("/status", Value::Null),
                json!({"op": "add", "path": "/status", "value": after}),
            ]
        );
    }

    fn record(status: &Value) -> Value {
        let metadata = json!({"name": "www", "namespace": "default", "generation": 2,
            "creationTimestamp": "2026-01-02T03:04:05Z"});
        let spec = json!({"zoneRef": "example", "name": "www", "ipv4Addresses": ["192.0.2.1"]});
        json!({"apiVersion": bindy_api::API_VERSION, "kind": "ARecord", "metadata": metadata, "spec": spec,
            "status": status})
    }

    /// Lets somebody tell statuses to this API server.
    async fn telling<T>(api: &simulated::Api, work: impl AsyncFnOnce(&Teller) -> T) -> T {
        let client = api.client();
        let leadership = Leadership::new().1;
        let ledger = Arc::new(KubeLedger::new(client.clone(), leadership, Metrics::new()));
        let (engine, handle) = Engine::new(ledger, [], Store::default());
        let cancel = CancellationToken::new();
        let running = tokio::spawn(engine.telling().run(cancel.clone()));
        let (reports, configs) = (watch::channel(Arc::default()).1, watch::channel(Arc::default()).1);
        let teller = Teller {
            client: client.clone(),
            engine: handle.clone(),
            instances: Instances::new(handle, reports, configs, Addresses::default()),
            term: Term::unlimited(),
            metrics: Metrics::new(),
            events: Events::new(client, None),
            refusals: Refusals::default(),
        };
        let result = work(&teller).await;
        cancel.cancel();
        running.await.unwrap();
        result
    }

    /// The record `www` told that it is served, against an API server that refuses every status.
    async fn refused(found: &Value) -> Result<(), Failure> {
        let api = simulated::Api::default();
        api.put("arecords", record(found));
        api.refuse("patch arecords/status", StatusCode::UNPROCESSABLE_ENTITY);
        let row = bindy_api::RECORD_KINDS.iter().find(|row| row.name == "ARecord").unwrap();
        let key = ObjectKey { kind: Kind::Record(row.kind), key: NamespacedName::new("default", "www") };
        let created: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let notice = RecordNotice {
            key: key.clone(),
            created: u32::try_from(created.as_second()).unwrap(),
            generation: 2,
            told: 0,
            status: RecordStatus::default(),
        };
        let resource = observe::resource(key.kind).unwrap();
        telling(&api, async |teller| teller.write_record(&teller.term, &resource, notice).await).await
    }

    #[tokio::test]
    async fn a_zone_that_was_never_told_anything_costs_one_request_unless_its_status_was_taken_away() {
        for (before, requests) in [
            (json!({"serial": 7, "digest": "", "records": 2, "conditions": []}), 1),
            (json!({"serial": 7, "digest": "", "records": 2}), 4),
            (Value::Null, 4),
        ] {
            let api = simulated::Api::default();
            let metadata = json!({"name": "example", "namespace": "default", "uid": "u"});
            let zone = json!({"apiVersion": bindy_api::API_VERSION, "kind": "DNSZone", "metadata": metadata,
                "spec": {"zoneName": "example.org"}, "status": before});
            api.put("dnszones", zone);
            let uid = api.get("dnszones", "example").unwrap()["metadata"]["uid"].as_str().unwrap().to_owned();
            let status = DNSZoneStatus { observed_generation: Some(1), ..DNSZoneStatus::default() };
            let key = NamespacedName::new("default", "example");
            let notice = ZoneNotice { key, uid, told: 0, has_entry: true, status };
            telling(&api, async |teller| teller.write_zone(&teller.term, notice).await).await.unwrap();
            assert_eq!(api.take_log().len(), requests, "{before}");
            assert_eq!(api.get("dnszones", "example").unwrap()["status"]["observedGeneration"], 1);
        }
    }

    #[tokio::test]
    async fn a_status_that_is_refused_although_nothing_has_changed_is_a_failure_with_the_reason() {
        match refused(&Value::Null).await {
            Err(Failure::Refused(status)) => assert_eq!(status.message, "a policy forbids it"),
            other => panic!("{other:?}"),
        }
        let other = refused(&json!({"zone": "default/other"})).await;
        assert!(matches!(other, Err(Failure::Gone)), "somebody else has written it: {other:?}");
    }
}
