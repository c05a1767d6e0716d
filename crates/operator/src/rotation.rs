//! Replaces the master secret when a person asks for it, step by step, without anybody being locked out.
//!
//! ```text
//!   rotate=start ─► introduced ─► switched ─► retired ─► done
//!                       │             │           └ every ready server was asked, and knows no old key any more
//!                       │             └ every ready server was asked, and signs with its new key; where there are downstreams
//!                       │               outside of Bindy, a person says finish
//!                       └ every ready server was asked, and knows its new key
//! ```
//! All that is known of it is in the Secret: whoever leads goes on where the last leader was.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bindy_engine::{Server, View, sleep_until};
use bindy_model::{NamespacedName, ServerId};
use bindy_wire::{ClientError, Connection, Endpoint, Key, MasterKeys, MasterSecret, Phase};
use bindy_zone::Catalog;
use futures::{StreamExt, stream};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ObjectReference, Secret};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::events::Events;
use crate::master::{self, Master, MasterSecretError, PROGRESS, REQUEST, Request, Stored};
use crate::servers::{self, QUESTIONS, TIMEOUTS};
use crate::term::Term;

/// Pause before servers are asked again, which grows: what the kubelet has brought them cannot be watched.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Pause after a request that failed.
const FAILED: Duration = Duration::from_secs(5);

/// What the leader needs for it.
pub(crate) struct Rotation {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    pub(crate) master: Master,
    /// The servers that there are.
    pub(crate) servers: watch::Receiver<servers::Known>,
    pub(crate) views: watch::Receiver<Option<Arc<View>>>,
    pub(crate) events: Events,
    pub(crate) term: Term,
}

/// What there is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// Nothing, until something changes.
    Rest,
    /// The Secret is gone, and made again.
    Restore,
    /// A successor is made.
    Begin,
    /// The next step, once every server has shown what it has to.
    Prove(MasterKeys),
}

fn step(stored: &Stored) -> Step {
    if stored.version.is_none() {
        return Step::Restore;
    }
    match stored.keys.next() {
        _ if stored.damaged => Step::Rest,
        Some(next) => Step::Prove(next),
        None if stored.request == Some(Request::Start) => Step::Begin,
        None => Step::Rest,
    }
}

impl Rotation {
    /// Does what there is to do until the term is over. Does not return.
    pub(crate) async fn run(mut self) {
        // Who is followed from outside is not known before.
        if self.views.wait_for(Option::is_some).await.is_err() {
            return;
        }
        let mut stored = self.master.stored.subscribe();
        let (mut said, mut pause) = (None, PAUSE);
        loop {
            let now = stored.borrow_and_update().clone();
            let next = match self.act(&now).await {
                Ok(Waits::Changes) => None,
                Ok(Waits::For(reason, what)) => {
                    // What has been said is not said again.
                    if said.as_ref() != Some(&what) {
                        self.say(reason, &what).await;
                        (said, pause) = (Some(what), PAUSE);
                    }
                    let next = pause;
                    pause = LONGEST_PAUSE.min(pause * 2);
                    Some(next)
                }
                Err(error) => {
                    tracing::warn!(%error, "the replacement of the keys waits; tried again");
                    Some(FAILED)
                }
            };
            tokio::select! {
                changed = stored.changed() => if changed.is_err() { return },
                () = sleep_until(next.map(|pause| Instant::now() + pause)) => {}
            }
        }
    }

    /// Does what there is to do. What is written comes back by the watch.
    async fn act(&self, now: &Stored) -> Result<Waits, MasterSecretError> {
        match step(now) {
            Step::Rest => {}
            Step::Restore => {
                tracing::warn!(secret = master::NAME, "somebody deleted the master secret: it is made again");
                master::create(&self.client, &self.namespace, &now.keys, &self.term).await?;
            }
            Step::Begin => {
                let next = now.keys.clone().replaced_by(MasterSecret::generate()?, Phase::Introduced);
                self.write(now, &next).await?;
            }
            Step::Prove(next) => {
                if let Some(what) = self.unproven(&now.keys).await {
                    return Ok(Waits::For("KeysWaitForServers", what));
                }
                let switched = now.keys.phase() == Some(Phase::Switched);
                if switched
                    && now.request != Some(Request::Finish)
                    && let Some(followed) = self.followed()
                {
                    let what = format!(
                        "servers outside follow {followed}: give them their new files, then: kubectl annotate secret {} -n {} {REQUEST}=finish",
                        master::NAME,
                        self.namespace,
                    );
                    return Ok(Waits::For("KeysWaitForFinish", what));
                }
                self.write(now, &next).await?;
            }
        }
        Ok(Waits::Changes)
    }

    /// Writes the next step over the Secret as it was seen.
    async fn write(&self, now: &Stored, next: &MasterKeys) -> Result<(), MasterSecretError> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        self.term.check()?;
        api.patch(master::NAME, &PatchParams::default(), &Patch::Merge(patch(now, next))).await?;
        let (reason, note) = match next.phase() {
            Some(Phase::Introduced) => {
                ("KeysIntroduced", "servers are given new keys beside those that they have")
            }
            Some(Phase::Switched) => {
                ("KeysSwitched", "every server knows its new key: they are used from now on")
            }
            Some(Phase::Retired) => ("KeysRetired", "servers are told to forget the old keys"),
            None => ("KeysReplaced", "no server knows an old key any more"),
        };
        self.say(reason, note).await;
        Ok(())
    }

    /// Tells whoever looks at the log or at the Events of the Secret.
    async fn say(&self, reason: &str, note: &str) {
        tracing::info!(
            secret = master::NAME,
            term = self.term.number(),
            reason,
            "the keys are being replaced: {note}"
        );
        let secret = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Secret".to_owned()),
            name: Some(master::NAME.to_owned()),
            namespace: Some(self.namespace.clone()),
            ..ObjectReference::default()
        };
        self.events.keys_replaced(&secret, reason, note).await;
    }

    /// The servers that have yet to show what the next step needs, in words; `None` when all have.
    async fn unproven(&self, keys: &MasterKeys) -> Option<String> {
        let (known, view) = (self.servers.borrow().clone(), self.views.borrow().clone());
        let (Some(known), Some(view)) = (known, view) else {
            return Some("waits until everything is listed".to_owned());
        };
        // Nobody gives new keys to pods whose instance was deleted without them.
        let exists =
            |id: &ServerId| view.fleet.get(&id.instance).is_some() || view.unknown.contains(&id.instance);
        let ready = known.iter().filter(|server| server.state.ready && exists(&server.state.id)).cloned();
        let ready: Vec<Server> = ready.collect();
        let shown = |server: Server| async move {
            let id = &server.state.id;
            let (key, knows) = keys.awaited(&id.instance.namespace, &id.instance.name).ok()??;
            (knows_key(&id.instance, server.endpoint.address, key).await != Some(knows))
                .then(|| id.to_string())
        };
        let missing: Vec<String> = stream::iter(ready)
            .map(shown)
            .buffer_unordered(QUESTIONS)
            .filter_map(std::future::ready)
            .collect()
            .await;
        let first = missing.iter().min()?;
        let others = match missing.len() {
            1 => String::new(),
            count => format!(" and {} others", count - 1),
        };
        Some(format!("waits for {first}{others}"))
    }

    /// An instance that servers outside of Bindy follow, if there is one.
    fn followed(&self) -> Option<NamespacedName> {
        let view = self.views.borrow().clone()?;
        let mut followed = view.fleet.iter().filter(|instance| !instance.downstreams.is_empty());
        followed.next().map(|instance| instance.metadata.key.clone())
    }
}

/// What writes the next step over the Secret as it was seen, as a merge patch (RFC 7396): what is absent from it stays, so
/// entries that have to go are null. A request is obeyed once.
fn patch(now: &Stored, next: &MasterKeys) -> Value {
    let mut data: BTreeMap<String, Option<ByteString>> =
        master::entries(&now.keys).into_keys().map(|gone| (gone, None)).collect();
    data.extend(master::entries(next).into_iter().map(|(name, secret)| (name, Some(secret))));
    let annotations = json!({ PROGRESS: master::progress(next), REQUEST: null });
    json!({ "metadata": { "resourceVersion": now.version, "annotations": annotations }, "data": data })
}

/// What the next step waits for.
enum Waits {
    /// That something changes.
    Changes,
    /// This, with the reason that Events give.
    For(&'static str, String),
}

/// Whether a server of that instance knows the key; `None` when it does not say.
async fn knows_key(instance: &NamespacedName, address: SocketAddr, key: Key) -> Option<bool> {
    let catalog = Catalog::name(&instance.namespace, &instance.name).ok()?;
    let mut connection = Connection::open(&Endpoint { address, key: Some(key) }, TIMEOUTS).await.ok()?;
    match connection.soa(&catalog).await {
        Ok(_) => Some(true),
        Err(ClientError::UnknownKey) => Some(false),
        // A connection is kept after answers that are signed, whatever they say.
        Err(_) => connection.is_usable().then_some(true),
    }
}

#[cfg(test)]
mod tests {
    use bindy_wire::Generation;

    use super::*;

    fn stored(keys: MasterKeys) -> Stored {
        Stored { keys, request: None, version: Some("1".to_owned()), damaged: false }
    }

    #[test]
    fn a_replacement_begins_when_asked_for_and_goes_on_from_what_the_secret_says() {
        let [old, new] = [1, 2].map(|octet| MasterSecret::from_bytes([octet; 32]));
        let one = MasterKeys::new(Generation::A, old);
        let asked = |keys: &MasterKeys, request| Stored { request, ..stored(keys.clone()) };
        assert_eq!(step(&asked(&one, None)), Step::Rest);
        assert_eq!(step(&asked(&one, Some(Request::Finish))), Step::Rest, "there is nothing to finish");
        assert_eq!(step(&asked(&one, Some(Request::Start))), Step::Begin);
        let phase = |phase| one.clone().replaced_by(new.clone(), phase);
        for request in [None, Some(Request::Start), Some(Request::Finish)] {
            let step = |now| step(&asked(&phase(now), request));
            assert_eq!(step(Phase::Introduced), Step::Prove(phase(Phase::Switched)));
            assert_eq!(step(Phase::Switched), Step::Prove(phase(Phase::Retired)));
            assert_eq!(step(Phase::Retired), Step::Prove(MasterKeys::new(Generation::B, new.clone())));
        }
    }

    #[test]
    fn a_deleted_secret_is_made_again_before_anything_else() {
        let keys = MasterKeys::new(Generation::A, MasterSecret::from_bytes([1; 32]));
        let asked = Stored { request: Some(Request::Start), ..stored(keys) };
        assert_eq!(step(&Stored { version: None, damaged: true, ..asked.clone() }), Step::Restore);
        assert_eq!(
            step(&Stored { damaged: true, ..asked }),
            Step::Rest,
            "nothing is written over what is not understood"
        );
    }

    /// A Secret after a merge patch.
    fn merged(secret: &Secret, patch: &Value) -> Secret {
        fn merge(into: &mut Value, patch: &Value) {
            let Value::Object(fields) = patch else { return into.clone_from(patch) };
            for (name, value) in fields {
                match (value, into.as_object_mut()) {
                    (Value::Null, Some(into)) => drop(into.remove(name)),
                    (_, Some(into)) => merge(into.entry(name).or_insert_with(|| json!({})), value),
                    (_, None) => {}
                }
            }
        }
        let mut value = serde_json::to_value(secret).unwrap();
        merge(&mut value, patch);
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn every_step_is_written_over_the_one_before_and_ends_the_request() {
        let asked = json!({ "metadata": {
            "name": master::NAME, "resourceVersion": "7", "labels": { "mine": "1" }, "annotations": { "mine": "1", REQUEST: "start" } } });
        let mut secret: Secret = serde_json::from_value(asked).unwrap();
        let [old, new] = [1, 2].map(|octet| MasterSecret::from_bytes([octet; 32]));
        secret.data = Some([("b".to_owned(), ByteString(old.as_bytes().to_vec()))].into());
        let mut now = master::read(&secret).unwrap();
        assert_eq!(now.keys, MasterKeys::new(Generation::B, old));
        let mut next = Some(now.keys.clone().replaced_by(new.clone(), Phase::Introduced));
        while let Some(keys) = next {
            let patch = patch(&now, &keys);
            assert_eq!(patch["metadata"]["resourceVersion"], "7", "what was not seen is not written over");
            secret = merged(&secret, &patch);
            now = master::read(&secret).unwrap();
            assert_eq!((&now.keys, now.request), (&keys, None));
            next = now.keys.next();
        }
        assert_eq!(now.keys, MasterKeys::new(Generation::A, new));
        let kept = json!({ "mine": "1" });
        assert_eq!(json!(secret.metadata.annotations), kept, "nothing of ours is left");
        assert_eq!(json!(secret.metadata.labels), kept);
        assert_eq!(secret.data.unwrap().len(), 1);
    }
}
