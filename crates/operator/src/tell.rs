//! Tells objects what is true of them: status writes, only where a status says something else.
//!
//! ```text
//!   engine ─notices─► write (a few at a time) ─► API
//!                        └─ failed: the engine is asked again later
//! ```
//! What the ledger owns (serial, digest, records, catalog) is never part of these writes.

use std::time::Duration;

use bindy_api::{Bind9Instance, Bind9InstanceStatus, DNSZone, GROUP, RecordStatus, dated};
use bindy_engine::EngineHandle;
use bindy_model::{InstanceNotice, Kind, NamespacedName, Notices, ObjectKey, RecordNotice, ZoneNotice};
use futures::{StreamExt, stream};
use jiff::Timestamp;
use kube::api::{DynamicObject, Patch, PatchParams};
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
    /// It does not exist any more, or is another one: the watch will tell.
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
        let mut writes: Vec<futures::future::BoxFuture<'_, ()>> = Vec::new();
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
        if bindy_model::told::instance_print(&status) == notice.told {
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

    /// The whole status of a record is ours. The patch tests that the object is the one that it was made for.
    async fn write_record(
        &self,
        term: &Term,
        resource: &ApiResource,
        notice: RecordNotice,
    ) -> Result<(), Failure> {
        let RecordNotice { key, created, generation, told_before, mut status } = notice;
        let NamespacedName { namespace, name } = &key.key;
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, resource);
        let old = match told_before {
            true => {
                let object = api.get_opt(name).await.map_err(Failure::Api)?.ok_or(Failure::Gone)?;
                let old = object.data.get("status").cloned().unwrap_or_default();
                serde_json::from_value::<RecordStatus>(old).map(|old| old.conditions).unwrap_or_default()
            }
            false => Vec::new(),
        };
        status.conditions = dated(&old, status.conditions, Timestamp::now());
        let created = Timestamp::from_second(i64::from(created)).map(|at| at.to_string()).unwrap_or_default();
        let patch = json_patch(vec![
            json!({"op": "test", "path": "/metadata/creationTimestamp", "value": created}),
            json!({"op": "test", "path": "/metadata/generation", "value": generation}),
            json!({"op": "add", "path": "/status", "value": status}),
        ]);
        let patch = patch.map_err(Failure::Api)?;
        term.check()?;
        let written = settle(api.patch_status(name, &PatchParams::default(), &patch).await)?;
        self.events.tell(&written.object_ref(resource), &old, &status.conditions).await;
        Ok(())
    }

    async fn write_zone(&self, term: &Term, notice: ZoneNotice) -> Result<(), Failure> {
        let ZoneNotice { key: NamespacedName { namespace, name }, uid, mut status } = notice;
        let api: Api<DNSZone> = Api::namespaced(self.client.clone(), &namespace);
        let object = api.get_opt(&name).await.map_err(Failure::Api)?.ok_or(Failure::Gone)?;
        let old = object.status.map(|status| status.conditions).unwrap_or_default();
        status.conditions = dated(&old, status.conditions, Timestamp::now());
        let fields = merge(&status, &["observedGeneration", "servers", "lagging", "conditions"]);
        let patch = Patch::Merge(json!({"metadata": {"uid": uid}, "status": fields}));
        term.check()?;
        let written = settle(api.patch_status(&name, &PatchParams::default(), &patch).await)?;
        self.events.tell(&written.object_ref(&()), &old, &status.conditions).await;
        Ok(())
    }

    async fn write_instance(
        &self,
        term: &Term,
        notice: &InstanceNotice,
        mut status: Bind9InstanceStatus,
    ) -> Result<(), Failure> {
        let NamespacedName { namespace, name } = &notice.report.key;
        let api: Api<Bind9Instance> = Api::namespaced(self.client.clone(), namespace);
        let object = api.get_opt(name).await.map_err(Failure::Api)?.ok_or(Failure::Gone)?;
        let old = object.status.map(|status| status.conditions).unwrap_or_default();
        status.conditions = dated(&old, status.conditions, Timestamp::now());
        let conditions = status.conditions.clone();
        let mut fields =
            serde_json::to_value(Bind9InstanceStatus { catalog: None, ..status }).unwrap_or_default();
        // A list that is empty now is not written, and would stay as it was.
        if let Value::Object(fields) = &mut fields {
            for list in ["lagging", "addresses"] {
                fields.entry(list).or_insert_with(|| json!([]));
            }
        }
        let patch = Patch::Merge(json!({"metadata": {"uid": notice.report.uid}, "status": fields}));
        term.check()?;
        let written = settle(api.patch_status(name, &PatchParams::default(), &patch).await)?;
        self.events.tell(&written.object_ref(&()), &old, &conditions).await;
        Ok(())
    }
}

/// The named fields of a status as a merge patch: what is empty is removed.
fn merge(status: &impl serde::Serialize, fields: &[&str]) -> Value {
    let status = serde_json::to_value(status).unwrap_or_default();
    fields
        .iter()
        .map(|field| ((*field).to_owned(), status.get(field).cloned().unwrap_or(Value::Null)))
        .collect()
}

fn settle<K>(written: Result<K, kube::Error>) -> Result<K, Failure> {
    match written {
        Ok(written) => Ok(written),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409 | 422) => Err(Failure::Gone),
        Err(error) => Err(Failure::Api(error)),
    }
}

async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
