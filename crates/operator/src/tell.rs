//! Tells objects what is true of them: status writes, only where a status says something else.
//!
//! ```text
//!   engine ─notices─► write (a few at a time) ─► API
//!                        └─ failed: the engine is asked again later
//! ```
//! What the ledger owns (serial, digest, records, catalog) is never part of these writes.

use std::collections::BTreeSet;
use std::time::Duration;

use bindy_api::{Bind9Instance, Bind9InstanceStatus, Condition, ConditionType, DNSZone, GROUP, dated};
use bindy_engine::{EngineHandle, sleep_until};
use bindy_model::{InstanceNotice, Kind, Notices, ObjectKey, RecordNotice, Told, ZoneNotice, told};
use futures::future::BoxFuture;
use futures::{StreamExt, stream};
use jiff::Timestamp;
use kube::api::{DynamicObject, PatchParams};
use kube::core::ApiResource;
use kube::{Api, Client, Resource};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::events::Events;
use crate::instances::Instances;
use crate::metrics::Metrics;
use crate::observe;
use crate::patch::json_patch;
use crate::rbac::{Access, CUSTOM_STATUS, Scope, Verb};
use crate::term::{Term, TermOver};

/// What is written here, and by the ledger.
pub(crate) const ACCESS: &[Access] =
    &[Access { group: GROUP, resource: CUSTOM_STATUS, verbs: &[Verb::Patch], scope: Scope::Cluster }];

/// Objects of each kind that are asked for at once, and writes that are under way at once.
const BATCH: usize = 64;
const WRITES: usize = 16;

/// What of a zone's status is told here.
const ZONE_FIELDS: [&str; 4] = ["observedGeneration", "servers", "lagging", "conditions"];

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
}

/// Why an object was not told.
#[derive(Debug)]
enum Failure {
    /// It does not exist any more, or is not as it was thought to be: the engine decides anew.
    Gone,
    /// Another replica tells it.
    TermOver,
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
        let Notices { records, zones, instances, next: _ } = notices;
        let mut writes: Vec<BoxFuture<'_, ()>> = Vec::new();
        for zone in zones {
            writes.push(Box::pin(self.tell_zone(zone)));
        }
        for instance in instances {
            writes.push(Box::pin(self.tell_instance(instance)));
        }
        for record in records {
            writes.push(Box::pin(self.tell_record(record)));
        }
        stream::iter(writes).buffer_unordered(WRITES).collect::<()>().await;
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
            Ok(()) => self.metrics.status(kind, "done"),
            // Whether it was written is not known: should this replica lead again, it is looked at again.
            Err(Failure::TermOver) => self.engine.tell_again(key, PAUSE).await,
            Err(Failure::Gone) => self.metrics.status(kind, "gone"),
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
        let ZoneNotice { key, uid, told, mut status } = notice;
        let key = ObjectKey { kind: Kind::Zone, key };
        let resource = ApiResource::erase::<DNSZone>(&());
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), &key.key.namespace, &resource);
        let before = self.expected(&api, &key, told).await?;
        let old = conditions(&before);
        status.conditions = dated(&old, status.conditions, Timestamp::now());
        let patch = replace(&uid, &before, &json!(status), ZONE_FIELDS);
        let written = self.patch(term, &api, &key, patch).await?;
        self.events.tell(&written.object_ref(&resource), &old, &status.conditions).await;
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

    /// The status of an object, if it is what was thought; else the engine is told what it is.
    async fn expected(&self, api: &Api<DynamicObject>, key: &ObjectKey, told: u32) -> Result<Value, Failure> {
        let object = api.get_opt(&key.key.name).await.map_err(Failure::Api)?.ok_or(Failure::Gone)?;
        if told_by(key.kind, &object).print != told {
            self.found(key, &object).await;
            return Err(Failure::Gone);
        }
        Ok(status_of(&object))
    }

    /// Sends a patch that tests what it was decided on. Where that is not so any more, the engine is told what is.
    async fn patch(
        &self,
        term: &Term,
        api: &Api<DynamicObject>,
        key: &ObjectKey,
        patch: Vec<Value>,
    ) -> Result<DynamicObject, Failure> {
        let patch = json_patch(patch).map_err(Failure::Api)?;
        let name = &key.key.name;
        term.check()?;
        match api.patch_status(name, &PatchParams::default(), &patch).await {
            Ok(written) => Ok(written),
            Err(kube::Error::Api(status)) if status.code == 404 => Err(Failure::Gone),
            Err(kube::Error::Api(status)) if matches!(status.code, 409 | 422) => {
                let object = api.get_opt(name).await.map_err(Failure::Api)?.ok_or(Failure::Gone)?;
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

/// What the status of an object says.
fn told_by(kind: Kind, object: &DynamicObject) -> Told {
    let status = status_of(object);
    let ready = bindy_api::is_true(&conditions(&status), ConditionType::Ready, object.metadata.generation);
    let print = match kind {
        _ if status.is_null() => None,
        Kind::Record(_) => serde_json::from_value(status).map(|status| told::record_print(&status)).ok(),
        Kind::Zone => serde_json::from_value(status).map(|status| told::zone_print(&status)).ok(),
        Kind::Instance => serde_json::from_value(status).map(|status| told::instance_print(&status)).ok(),
        Kind::ConfigMap => None,
    };
    Told { print: print.unwrap_or_default(), ready }
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
}
