//! The ledger in Kubernetes: serial and digest in the status of the object that they belong to.
//!
//! A swap is one JSON patch (RFC 6902) on the status subresource, which tests `/metadata/uid` and the serial that is
//! expected: it can only follow the version that it was made from, on the very object that it was made for. A test on
//! the resourceVersion would starve while somebody edits the specification.
//!
//! A replica that does not lead writes nothing: its engine follows the entries that the leader writes.

use std::collections::{HashMap, HashSet};
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bindy_api::{Bind9Instance, CatalogVersion, DNSZone, Object};
use bindy_engine::{Ledger, Swap};
use bindy_model::{Kind, LedgerEntry, LedgerKind, NamespacedName, ObjectKey, Swapped, Target};
use bindy_zone::{Digest, Serial};
use kube::api::PatchParams;
use kube::core::Status;
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::task::TaskTracker;

use crate::key::key_of;
use crate::metrics::Metrics;
use crate::patch::json_patch;
use crate::term::{Leadership, Term, TermOver};

/// Pause before a write is tried again that failed for a reason which may pass.
const PAUSE: Duration = Duration::from_millis(100);

/// Writes that are under way at once, of versions that follow one and of first ones: an edit never waits behind a bulk load, and
/// at the API server not behind much of it.
const EDITS: usize = 32;
const FIRST_VERSIONS: usize = 16;

/// The longest of these pauses.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Why a swap was not carried out, or perhaps was.
#[derive(Debug, thiserror::Error)]
enum SwapError {
    #[error(transparent)]
    Term(#[from] TermOver),
    #[error(transparent)]
    Api(#[from] kube::Error),
    /// The API server does not want it, whatever the object is: a policy, a schema.
    #[error(transparent)]
    Refused(Box<Status>),
}

/// What became of one attempt.
enum Patched {
    Done,
    /// The object is not as expected, or the API server does not want it: the code is the same.
    Not(Box<Status>),
}

/// Whose entry.
pub(crate) type EntryKey = (NamespacedName, LedgerKind);

/// What has to be known of an object to write its entry.
#[derive(Clone, Debug)]
struct Known {
    uid: String,
    /// What is there to be tested: the patch cannot test below something that does not exist.
    shape: Shape,
    failures: u32,
    /// A write of this process may have been carried out whose answer never came.
    unanswered: bool,
}

/// How much of the place of an entry exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// No status.
    NoStatus,
    /// A status, without the entry.
    NoEntry,
    /// The entry.
    Entry,
}

/// Status subresources as a ledger.
pub(crate) struct KubeLedger {
    client: Client,
    leadership: Leadership,
    metrics: Metrics,
    known: Mutex<HashMap<EntryKey, Known>>,
    /// Writes under way.
    writes: TaskTracker,
    /// Room for more of them.
    edits: Semaphore,
    first_versions: Semaphore,
}

impl KubeLedger {
    pub(crate) fn new(client: Client, leadership: Leadership, metrics: Metrics) -> Self {
        Self {
            client,
            leadership,
            metrics,
            known: Mutex::default(),
            writes: TaskTracker::new(),
            edits: Semaphore::new(EDITS),
            first_versions: Semaphore::new(FIRST_VERSIONS),
        }
    }

    /// Waits until every write has ended that was begun, once there is no term any more.
    pub(crate) async fn written(&self) {
        self.writes.close();
        self.writes.wait().await;
    }

    /// Takes note of an object as it was seen, and returns whose entry it may have, and the entry that its status has.
    pub(crate) fn note(&self, object: &Object) -> Option<(EntryKey, Option<LedgerEntry>)> {
        let (key, uid, shape, entry) = place(object)?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let before = known.get(&key);
        let (failures, unanswered) =
            before.map(|known| (known.failures, known.unanswered)).unwrap_or_default();
        known.insert(key.clone(), Known { uid, shape, failures, unanswered });
        Some((key, entry))
    }

    /// Forgets an object that does not exist any more.
    pub(crate) fn forget(&self, key: &ObjectKey) {
        let Some(kind) = entry_kind(key.kind) else { return };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.remove(&(key.key.clone(), kind));
    }

    /// Forgets the objects of a kind that a new list lacks.
    pub(crate) fn retain(&self, kind: Kind, listed: &HashSet<NamespacedName>) {
        let Some(kind) = entry_kind(kind) else { return };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|(key, its), _| *its != kind || listed.contains(key));
    }

    #[cfg(test)]
    pub(crate) fn known_keys(&self, kind: LedgerKind) -> HashSet<NamespacedName> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.keys().filter(|(_, its)| *its == kind).map(|(key, _)| key.clone()).collect()
    }

    fn known(&self, key: &EntryKey) -> Option<Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    /// One attempt.
    async fn patch(
        &self,
        term: &Term,
        key: &EntryKey,
        known: &Known,
        swap: &Swap,
    ) -> Result<Patched, SwapError> {
        let patch = json_patch(patch(key.1, known, swap.expected, &swap.next))?;
        term.check()?;
        let (NamespacedName { namespace, name }, kind) = key;
        let parameters = PatchParams::default();
        let written = match kind {
            LedgerKind::Zone => {
                let api: Api<DNSZone> = Api::namespaced(self.client.clone(), namespace);
                api.patch_status(name, &parameters, &patch).await.map(|_| ())
            }
            LedgerKind::Catalog => {
                let api: Api<Bind9Instance> = Api::namespaced(self.client.clone(), namespace);
                api.patch_status(name, &parameters, &patch).await.map(|_| ())
            }
        };
        match written {
            Ok(()) => Ok(Patched::Done),
            Err(kube::Error::Api(status)) if matches!(status.code, 409 | 422) => Ok(Patched::Not(status)),
            Err(error) => Err(error.into()),
        }
    }

    /// The object as it is now; `None` when it does not exist.
    async fn look(&self, key: &EntryKey) -> Result<Option<Object>, kube::Error> {
        let (NamespacedName { namespace, name }, kind) = key;
        Ok(match kind {
            LedgerKind::Zone => {
                let api: Api<DNSZone> = Api::namespaced(self.client.clone(), namespace);
                api.get_opt(name).await?.map(|zone| Object::DNSZone(Box::new(zone)))
            }
            LedgerKind::Catalog => {
                let api: Api<Bind9Instance> = Api::namespaced(self.client.clone(), namespace);
                api.get_opt(name).await?.map(|instance| Object::Bind9Instance(Box::new(instance)))
            }
        })
    }

    async fn try_swap(&self, term: &Term, key: &EntryKey, swap: &Swap) -> Result<Swapped, SwapError> {
        let Some(known) = self.known(key) else { return Ok(Swapped::Failed) };
        if let Patched::Done = self.patch(term, key, &known, swap).await? {
            return Ok(Swapped::Done);
        }
        let Some(object) = self.look(key).await? else { return Ok(Swapped::Failed) };
        let found = self.note(&object).and_then(|(_, entry)| entry);
        let now = self.known(key).filter(|now| now.uid == known.uid);
        match now {
            // Only the shape was another one, because somebody wrote another part of the status.
            Some(now) if found.map(|entry| entry.serial) == swap.expected => {
                match self.patch(term, key, &now, swap).await? {
                    Patched::Done => Ok(Swapped::Done),
                    Patched::Not(status) => Err(SwapError::Refused(status)),
                }
            }
            _ => Ok(Swapped::Conflict(found)),
        }
    }

    /// Waits for room among the writes under way; `None` when there is no term, or it ends before.
    async fn room(&self, swap: &Swap) -> Option<SemaphorePermit<'_>> {
        let term = self.leadership.term()?;
        let room = if swap.expected.is_some() { &self.edits } else { &self.first_versions };
        tokio::select! {
            permit = room.acquire() => permit.ok(),
            () = term.ended() => None,
        }
    }

    /// Waits after a failure, longer each time.
    async fn pause(&self, key: &EntryKey) {
        let failures = {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.get_mut(key).map_or(1, |known| {
                known.failures = known.failures.saturating_add(1);
                known.failures
            })
        };
        tokio::time::sleep((PAUSE * 2u32.saturating_pow(failures.min(10) - 1)).min(LONGEST_PAUSE)).await;
    }

    /// Nothing was written. The engine is about to be told that it follows.
    async fn lost(&self) -> Swapped {
        self.metrics.swap("term over");
        tokio::time::sleep(PAUSE).await;
        Swapped::Failed
    }

    /// The status names a version that was not expected. Without an election nobody else writes, unless there is a second
    /// replica: none of the two does harm, since every write has its precondition, but they take turns in vain.
    fn conflicted(&self, term: &Term, key: &EntryKey) {
        let own = self.note_unanswered(key, false);
        match term.deadline() {
            None if !own => {
                self.metrics.other_writers.inc();
                tracing::warn!(
                    object = %key.0,
                    "another operator writes, and there is no leader election: set ENABLE_LEADER_ELECTION=true, or run one replica"
                );
            }
            _ => {
                tracing::info!(object = %key.0, "the status names another version: somebody else wrote it");
            }
        }
    }

    /// Returns what it was before.
    fn note_unanswered(&self, key: &EntryKey, unanswered: bool) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get_mut(key).is_some_and(|known| std::mem::replace(&mut known.unanswered, unanswered))
    }

    fn succeeded(&self, key: &EntryKey) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get_mut(key) {
            known.shape = Shape::Entry;
            known.failures = 0;
            known.unanswered = false;
        }
    }
}

impl Ledger for KubeLedger {
    async fn swap(&self, swap: Swap) -> Swapped {
        let key = match &swap.target {
            Target::Zone(key, _) => (key.clone(), LedgerKind::Zone),
            Target::Catalog(key) => (key.clone(), LedgerKind::Catalog),
            // It has no object, so nothing of it is ever published anew.
            Target::Orphan(_) => return Swapped::Failed,
        };
        let Some(room) = self.room(&swap).await else { return self.lost().await };
        let writing = self.writes.token();
        let Some(term) = self.leadership.term() else {
            drop((room, writing));
            return self.lost().await;
        };
        let swapped = self.try_swap(&term, &key, &swap).await;
        drop((room, writing));
        match swapped {
            Ok(Swapped::Done) => {
                self.metrics.swap("done");
                self.succeeded(&key);
                Swapped::Done
            }
            Ok(Swapped::Conflict(entry)) => {
                self.metrics.swap("conflict");
                self.conflicted(&term, &key);
                Swapped::Conflict(entry)
            }
            Ok(Swapped::Failed) => {
                // Deleted, or not seen yet: the watch will tell.
                self.metrics.swap("gone");
                self.pause(&key).await;
                Swapped::Failed
            }
            Err(SwapError::Term(_)) => self.lost().await,
            Err(error) => {
                self.metrics.swap("error");
                if let SwapError::Api(_) = error {
                    self.note_unanswered(&key, true);
                }
                tracing::warn!(object = %key.0, serial = %swap.next.serial, %error, "serial not written; tried again");
                self.pause(&key).await;
                Swapped::Failed
            }
        }
    }
}

/// What the entries of such objects are.
fn entry_kind(kind: Kind) -> Option<LedgerKind> {
    match kind {
        Kind::Zone => Some(LedgerKind::Zone),
        Kind::Instance => Some(LedgerKind::Catalog),
        Kind::Record(_) | Kind::ConfigMap => None,
    }
}

/// Identity, shape and entry of an object.
fn place(object: &Object) -> Option<(EntryKey, String, Shape, Option<LedgerEntry>)> {
    let entry = |serial: u32, digest: &str, records: u64| {
        Some(LedgerEntry {
            serial: Serial::new(serial),
            digest: Digest::from_str(digest).ok()?,
            records: usize::try_from(records).unwrap_or(usize::MAX),
        })
    };
    let (key, uid, kind, has_status, has_entry, found) = match object {
        Object::DNSZone(zone) => {
            let status = zone.status.as_ref();
            let serial = status.and_then(|status| status.serial);
            let found = status.and_then(|status| {
                entry(status.serial?, status.digest.as_deref()?, status.records.unwrap_or_default())
            });
            (key_of(&**zone), zone.uid(), LedgerKind::Zone, status.is_some(), serial.is_some(), found)
        }
        Object::Bind9Instance(instance) => {
            let status = instance.status.as_ref();
            let catalog = status.and_then(|status| status.catalog.as_ref());
            let found = catalog.and_then(|catalog| entry(catalog.serial, &catalog.digest, catalog.records));
            let kind = LedgerKind::Catalog;
            (key_of(&**instance), instance.uid(), kind, status.is_some(), catalog.is_some(), found)
        }
        Object::Record(_) => return None,
    };
    let shape = match (has_status, has_entry) {
        (false, _) => Shape::NoStatus,
        (true, false) => Shape::NoEntry,
        (true, true) => Shape::Entry,
    };
    Some(((key, kind), uid.unwrap_or_default(), shape, found))
}

/// The patch that writes `next` where `expected` is.
fn patch(kind: LedgerKind, known: &Known, expected: Option<Serial>, next: &LedgerEntry) -> Vec<Value> {
    let (serial, digest, records) = (next.serial.get(), next.digest.to_string(), next.records as u64);
    let fields = match kind {
        LedgerKind::Zone => json!({"serial": serial, "digest": digest, "records": records}),
        LedgerKind::Catalog => json!({"catalog": CatalogVersion { serial, digest, records }}),
    };
    let expected = expected.map_or(Value::Null, |serial| json!(serial.get()));
    let same = test("/metadata/uid", &json!(known.uid));
    let there = match (known.shape, kind) {
        (Shape::NoStatus, _) => return vec![same, test("/status", &Value::Null), add("/status", &fields)],
        (Shape::NoEntry, LedgerKind::Catalog) => test("/status/catalog", &Value::Null),
        (Shape::Entry, LedgerKind::Catalog) => test("/status/catalog/serial", &expected),
        (_, LedgerKind::Zone) => test("/status/serial", &expected),
    };
    let fields = fields.as_object().into_iter().flatten();
    let fields = fields.map(|(field, value)| add(&format!("/status/{field}"), value));
    [same, there].into_iter().chain(fields).collect()
}

fn test(path: &str, value: &Value) -> Value {
    json!({"op": "test", "path": path, "value": value})
}

fn add(path: &str, value: &Value) -> Value {
    json!({"op": "add", "path": path, "value": value})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::simulated;
    use axum::http::StatusCode;
    use std::sync::Arc;
    use tokio::task::JoinSet;

    /// A ledger that may write.
    fn ledger(api: &simulated::Api) -> KubeLedger {
        let (term, leadership) = Leadership::new();
        term.send_replace(Some(Term::unlimited()));
        KubeLedger::new(api.client(), leadership, Metrics::new())
    }

    /// The ledger hears of a zone.
    fn hear(ledger: &KubeLedger, api: &simulated::Api, name: &str) {
        ledger.note(&Object::decode(api.get("dnszones", name).unwrap()).unwrap()).unwrap();
    }

    /// There is such a zone, and the ledger hears of it.
    fn put(ledger: &KubeLedger, api: &simulated::Api, name: &str, status: &Value) {
        let metadata = json!({"name": name, "namespace": "default"});
        let zone = json!({"apiVersion": bindy_api::API_VERSION, "kind": "DNSZone", "metadata": metadata,
            "spec": {"zoneName": "example.org"}, "status": status});
        api.put("dnszones", zone);
        hear(ledger, api, name);
    }

    fn key(name: &str) -> EntryKey {
        (NamespacedName::new("default", name), LedgerKind::Zone)
    }

    fn swap(name: &str, expected: Option<u32>) -> Swap {
        let serial = Serial::new(expected.unwrap_or_default() + 1);
        let next = LedgerEntry { serial, digest: Digest::default(), records: 2 };
        let target = Target::Zone(key(name).0, bindy_zone::Name::parse("example.org").unwrap());
        Swap { target, expected: expected.map(Serial::new), next }
    }

    #[tokio::test]
    async fn a_write_that_the_api_server_does_not_want_is_a_failure_with_its_words_and_pauses_that_grow() {
        let api = simulated::Api::default();
        let ledger = ledger(&api);
        put(&ledger, &api, "example", &Value::Null);
        api.refuse("patch dnszones/status", StatusCode::UNPROCESSABLE_ENTITY);
        let swap = swap("example", None);
        let refused = ledger.try_swap(&Term::unlimited(), &key("example"), &swap).await.unwrap_err();
        assert!(refused.to_string().starts_with("a policy forbids it"), "{refused}");
        let once = ["patch dnszones/status example", "get dnszones example", "patch dnszones/status example"];
        assert_eq!(api.take_log(), once);
        for failures in 1..=3 {
            assert_eq!(ledger.swap(swap.clone()).await, Swapped::Failed);
            hear(&ledger, &api, "example");
            assert_eq!(ledger.known(&key("example")).unwrap().failures, failures);
        }
    }

    #[tokio::test]
    async fn an_edit_goes_before_first_versions_and_what_is_under_way_is_bounded() {
        let api = simulated::Api::default();
        let ledger = Arc::new(ledger(&api));
        put(&ledger, &api, "example", &json!({"serial": 7}));
        let gate = api.hold("patch dnszones/status");
        let mut writes = JoinSet::new();
        let mut write = |swap: Swap| {
            let ledger = ledger.clone();
            writes.spawn(async move { ledger.swap(swap).await });
        };
        for number in 0..200 {
            let name = format!("new-{number}");
            put(&ledger, &api, &name, &Value::Null);
            write(swap(&name, None));
        }
        gate.arrived(FIRST_VERSIONS).await;
        write(swap("example", Some(7)));
        let arrived = gate.arrived(FIRST_VERSIONS + 1).await;
        assert_eq!(arrived.len(), FIRST_VERSIONS + 1);
        assert_eq!(arrived.last().unwrap(), "patch dnszones/status example");
        gate.open();
        let results = writes.join_all().await;
        assert_eq!(results, [Swapped::Done; 201]);
    }
}
