//! Waiting for objects by watching them.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use futures::StreamExt;
use kube::api::{Api, DynamicObject};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Waits until `check` gives a value for the objects that there are, by name. Its error says why not yet; the last one
/// is part of what this returns when the limit has passed.
pub(super) async fn until<K, T>(
    api: Api<K>,
    config: watcher::Config,
    (what, limit): (&str, Duration),
    mut check: impl FnMut(&BTreeMap<String, K>) -> Result<T>,
) -> Result<T>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let mut reason = anyhow!("the API has not answered");
    let wait = async {
        let mut events = pin!(watcher(api, config).default_backoff());
        let (mut objects, mut listing) = (BTreeMap::new(), false);
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => listing = take(&mut objects, event),
                Err(error) => reason = error.into(),
            }
            if listing {
                continue;
            }
            match check(&objects) {
                Ok(value) => return Ok(value),
                Err(not_yet) => reason = not_yet,
            }
        }
        bail!("the watch ended")
    };
    match tokio::time::timeout(limit, wait).await {
        Ok(result) => result,
        Err(_) => Err(reason.context(format!("waited {limit:?} for {what}"))),
    }
}

/// Whether the objects are being listed, so that they are not yet all there.
fn take<K: Resource>(objects: &mut BTreeMap<String, K>, event: Event<K>) -> bool {
    match event {
        Event::Init => {
            objects.clear();
            return true;
        }
        Event::InitApply(object) => {
            objects.insert(object.name_any(), object);
            return true;
        }
        Event::InitDone => {}
        Event::Apply(object) => drop(objects.insert(object.name_any(), object)),
        Event::Delete(object) => drop(objects.remove(&object.name_any())),
    }
    false
}

/// A condition of an object of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Why, as one word.
    pub reason: String,
    /// Why, as a sentence.
    pub message: String,
    /// The generation that it is about.
    pub generation: i64,
}

/// The condition of that type.
pub fn condition(object: &DynamicObject, kind: &str) -> Result<Condition> {
    let conditions = object.data.pointer("/status/conditions").and_then(Value::as_array);
    let mut all = conditions.into_iter().flatten();
    let found = all.find(|one| one.get("type").and_then(Value::as_str) == Some(kind));
    let found = found.with_context(|| format!("{} has no condition {kind}", object.name_any()))?;
    let text = |field: &str| found.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let generation = found.get("observedGeneration").and_then(Value::as_i64).unwrap_or_default();
    Ok(Condition { status: text("status"), reason: text("reason"), message: text("message"), generation })
}

/// Whether `Ready` is true of the present generation.
pub fn is_ready(object: &DynamicObject) -> Result<()> {
    let ready = condition(object, "Ready")?;
    let name = object.name_any();
    ensure!(ready.status == "True", "{name}: Ready={} {}: {}", ready.status, ready.reason, ready.message);
    let wanted = object.metadata.generation.unwrap_or_default();
    ensure!(ready.generation == wanted, "{name}: Ready is about {}, not {wanted}", ready.generation);
    Ok(())
}
