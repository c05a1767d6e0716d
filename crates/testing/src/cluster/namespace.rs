//! A namespace per test: made with a random suffix, deleted after success, dumped and kept after failure.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::FutureExt;
use k8s_openapi::api::core::v1::Namespace as NamespaceObject;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::ApiResource;
use kube::runtime::watcher;
use serde_json::{Value, json};

use super::kinds::resource;
use super::{Cluster, LIMIT, OPERATOR, dump, is_ready, watch};
use crate::Scratch;

/// The owner of the fields that tests set.
const FIELD_MANAGER: &str = "bindy-e2e";
/// On namespaces of tests.
const LABEL: &str = "bindy-e2e";

/// The namespace of one test.
pub struct Namespace {
    cluster: Cluster,
    name: String,
    scratch: Scratch,
}

/// Runs a test in a namespace of its own, of the first cluster.
pub async fn in_namespace(test: &str, body: impl AsyncFnOnce(&Namespace) -> Result<()>) -> Result<()> {
    Cluster::connect().await?.in_namespace(test, body).await
}

impl Cluster {
    /// Runs a test in a namespace of its own.
    pub async fn in_namespace(
        &self,
        test: &str,
        body: impl AsyncFnOnce(&Namespace) -> Result<()>,
    ) -> Result<()> {
        let mut namespace = Namespace::create(self.clone(), test).await?;
        match namespace.run(body).await {
            Ok(Ok(())) => namespace.delete().await,
            Ok(failed) => failed.with_context(|| format!("namespace {} is kept", namespace.name)),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Runs a test in the operator's own namespace, where it tells its objects by [`Namespace::mark`]: those are gone
    /// afterwards, whatever the outcome.
    pub async fn beside_operator(
        &self,
        test: &str,
        body: impl AsyncFnOnce(&Namespace) -> Result<()>,
    ) -> Result<()> {
        let scratch = Scratch::new(test)?;
        let mut namespace = Namespace { cluster: self.clone(), name: OPERATOR.to_owned(), scratch };
        // A run that was killed has left them.
        namespace.remove_marked(test).await?;
        let outcome = namespace.run(body).await;
        let removed = namespace.remove_marked(test).await;
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic)).and(removed)
    }
}

impl Namespace {
    async fn create(cluster: Cluster, test: &str) -> Result<Self> {
        let name = format!("{test}-{:05x}", rand::random::<u32>() & 0xF_FFFF);
        // Whatever Bindy runs there has to be possible under the strictest of the standards.
        let labels = json!({LABEL: "true", "pod-security.kubernetes.io/enforce": "restricted"});
        let object = json!({"metadata": {"name": name, "labels": labels}});
        let api: Api<NamespaceObject> = Api::all(cluster.client());
        api.create(&PostParams::default(), &serde_json::from_value(object)?).await?;
        Ok(Self { scratch: Scratch::new(test)?, name, cluster })
    }

    /// Runs the body. After a failure everything that explains it is written down.
    async fn run(
        &mut self,
        body: impl AsyncFnOnce(&Namespace) -> Result<()>,
    ) -> std::thread::Result<Result<()>> {
        let outcome = AssertUnwindSafe(Box::pin(body(self))).catch_unwind().await;
        if matches!(outcome, Ok(Ok(()))) {
            return outcome;
        }
        self.scratch.keep();
        let dumped = dump::write(self).await;
        let place = format!("objects, logs and history are in {}", self.scratch.path().display());
        outcome.map(|failed| failed.context(place).and(dumped))
    }

    /// The label by which objects of a test are told that is not in a namespace of its own.
    pub fn mark(test: &str) -> (&'static str, &str) {
        (LABEL, test)
    }

    /// Deletes what is marked, and waits until that and its servers are gone.
    async fn remove_marked(&self, test: &str) -> Result<()> {
        let selector = format!("{LABEL}={test}");
        let instances = self.api("Bind9Instance").list(&ListParams::default().labels(&selector)).await?;
        let words = ["delete", "bind9instances,dnszones,arecords", "-l", &selector, "--timeout=90s"];
        self.kubectl(&words).await?;
        for instance in instances {
            self.until_servers(&instance.name_any(), "the servers to be gone", |servers| {
                ensure!(servers.is_empty(), "there still are {servers:?}");
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    async fn delete(&self) -> Result<()> {
        let api: Api<NamespaceObject> = Api::all(self.cluster.client());
        api.delete(&self.name, &DeleteParams::default()).await?;
        Ok(())
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The cluster that it is in.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Runs kubectl in it and returns what it prints.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.cluster.kubectl(&[&["-n", self.name()], arguments].concat()).await
    }

    /// A directory for files of the test, kept when it fails.
    pub fn directory(&self) -> &Path {
        self.scratch.path()
    }

    /// The objects of a kind.
    pub fn api(&self, kind: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.cluster.client(), &self.name, &resource(kind))
    }

    /// Applies every document of a YAML text on the server, and returns what the API made of them.
    pub async fn apply(&self, text: &str) -> Result<Vec<DynamicObject>> {
        let documents: Vec<Value> = serde_saphyr::from_multiple(text).context("the manifest")?;
        let mut applied = Vec::new();
        for document in documents.iter().filter(|document| !document.is_null()) {
            applied.push(self.apply_object(document).await?);
        }
        Ok(applied)
    }

    /// Applies one object.
    pub async fn apply_object(&self, object: &Value) -> Result<DynamicObject> {
        let text = |pointer: &str| {
            let found = object.pointer(pointer).and_then(Value::as_str);
            found.with_context(|| format!("an object without {pointer}"))
        };
        let (kind, name) = (text("/kind")?, text("/metadata/name")?);
        let known: ApiResource = resource(kind);
        ensure!(known.api_version == text("/apiVersion")?, "{kind} is of {}", known.api_version);
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let applied = self.api(kind).patch(name, &parameters, &Patch::Apply(object)).await;
        applied.with_context(|| format!("applying {kind} {name}"))
    }

    /// Changes an object by a merge patch.
    pub async fn patch(&self, kind: &str, name: &str, change: Value) -> Result<DynamicObject> {
        let patched = self.api(kind).patch(name, &PatchParams::default(), &Patch::Merge(change)).await;
        patched.with_context(|| format!("changing {kind} {name}"))
    }

    /// Deletes an object.
    pub async fn remove(&self, kind: &str, name: &str) -> Result<()> {
        let deleted = self.api(kind).delete(name, &DeleteParams::background()).await;
        deleted.with_context(|| format!("deleting {kind} {name}")).map(drop)
    }

    /// An object as it is now.
    pub async fn get(&self, kind: &str, name: &str) -> Result<DynamicObject> {
        self.api(kind).get(name).await.with_context(|| format!("{kind} {name}"))
    }

    /// All objects of a kind as they are now.
    pub async fn list(&self, kind: &str) -> Result<Vec<DynamicObject>> {
        Ok(self.api(kind).list(&ListParams::default()).await.with_context(|| kind.to_owned())?.items)
    }

    /// Waits until an object is as `check` wants it.
    pub async fn until<T>(
        &self,
        (kind, name): (&str, &str),
        what: &str,
        mut check: impl FnMut(&DynamicObject) -> Result<T>,
    ) -> Result<T> {
        self.until_any((kind, name), (what, LIMIT), |found| {
            check(found.with_context(|| format!("there is no {kind} {name}"))?)
        })
        .await
    }

    /// Waits until an object is as `check` wants it, which may be that it is not there.
    pub async fn until_any<T>(
        &self,
        (kind, name): (&str, &str),
        (what, limit): (&str, Duration),
        mut check: impl FnMut(Option<&DynamicObject>) -> Result<T>,
    ) -> Result<T> {
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        watch::until(self.api(kind), config, (what, limit), |objects| check(objects.get(name))).await
    }

    /// Waits until the objects of a kind are, by name, as `check` wants them.
    pub async fn until_all<T>(
        &self,
        kind: &str,
        (what, limit): (&str, Duration),
        check: impl FnMut(&BTreeMap<String, DynamicObject>) -> Result<T>,
    ) -> Result<T> {
        watch::until(self.api(kind), watcher::Config::default(), (what, limit), check).await
    }

    /// Waits until an object is gone.
    pub async fn until_gone(&self, kind: &str, name: &str) -> Result<()> {
        self.until_any((kind, name), (&format!("{kind} {name} to be gone"), LIMIT), |found| {
            ensure!(found.is_none(), "it is still there");
            Ok(())
        })
        .await
    }

    /// Waits until `Ready` is true of an object's present generation.
    pub async fn ready(&self, kind: &str, name: &str) -> Result<DynamicObject> {
        let what = format!("{kind} {name} to be ready");
        self.until((kind, name), &what, |object| is_ready(object).map(|()| object.clone())).await
    }

    /// Applies a text and waits until everything of Bindy's in it is ready.
    pub async fn serve(&self, text: &str) -> Result<()> {
        for object in self.apply(text).await? {
            let types = object.types.as_ref().context("an object without kind")?;
            if types.api_version.starts_with("bindy.") {
                self.ready(&types.kind, &object.name_any()).await?;
            }
        }
        Ok(())
    }
}
