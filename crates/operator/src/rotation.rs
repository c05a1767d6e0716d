//! Replaces the master secret when a person asks for it, step by step, without anybody being locked out.
//!
//! ```text
//!   rotate=start ─► introduced ─► switched ─► retired ─► done
//!                       │             │           └ every ready server was asked, and knows no old key any more
//!                       │             └ downstreams outside of Bindy: a person says finish
//!                       └ every ready server was asked, and knows its new key
//! ```
//! All that is known of it is in the Secret: whoever leads goes on where the last leader was.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bindy_engine::{Server, View};
use bindy_model::NamespacedName;
use bindy_wire::{
    ClientError, Connection, Endpoint, Generation, Key, MasterKeys, MasterSecret, Phase, Timeouts,
};
use bindy_zone::Catalog;
use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::{ObjectReference, Secret};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use crate::events::Events;
use crate::master::{self, Master, MasterSecretError, PROGRESS, REQUEST, Request, Stored};
use crate::servers;
use crate::term::Term;

/// Pause before servers are asked again: what the kubelet has brought them cannot be watched.
const PAUSE: Duration = Duration::from_secs(1);
/// Pause after a request that failed.
const FAILED: Duration = Duration::from_secs(5);
/// Servers that are asked at once.
const QUESTIONS: usize = 32;
/// How long a server may take.
const TIMEOUTS: Timeouts = Timeouts {
    connect: Duration::from_millis(500),
    answer: Duration::from_secs(1),
    between: Duration::from_secs(1),
};

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
    /// The next step, once downstreams outside have their new keys.
    HandOver(MasterKeys),
}

fn step(stored: &Stored) -> Step {
    if stored.version.is_none() {
        return Step::Restore;
    }
    match (stored.keys.phase(), stored.keys.next()) {
        (Some(Phase::Switched), Some(next)) => Step::HandOver(next),
        (Some(_), Some(next)) => Step::Prove(next),
        _ if stored.request == Some(Request::Start) => Step::Begin,
        _ => Step::Rest,
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
        // What has been said is not said again.
        let mut waits_for = None;
        loop {
            let now = stored.borrow_and_update().clone();
            let pause = match self.act(&now).await {
                Ok(Waits::Done) => None,
                Ok(Waits::For(what)) => {
                    if waits_for.as_ref() != Some(&what) {
                        tracing::info!(
                            secret = master::NAME,
                            progress = master::progress(&now.keys),
                            "keys are being replaced: {what}"
                        );
                        waits_for = Some(what);
                    }
                    Some(PAUSE)
                }
                Err(error) => {
                    tracing::warn!(%error, "the replacement of the keys waits; tried again");
                    Some(FAILED)
                }
            };
            tokio::select! {
                changed = stored.changed() => if changed.is_err() { return },
                () = sleep(pause) => {}
            }
        }
    }

    async fn act(&mut self, now: &Stored) -> Result<Waits, MasterSecretError> {
        match step(now) {
            Step::Rest => Ok(Waits::Done),
            Step::Restore => {
                tracing::warn!(secret = master::NAME, "somebody deleted the master secret: it is made again");
                let made = master::create(&self.client, &self.namespace, &now.keys, &self.term).await?;
                self.master.see(&made);
                Ok(Waits::Done)
            }
            Step::Begin => {
                let next = now.keys.clone().replaced_by(MasterSecret::generate()?, Phase::Introduced);
                self.write(now, &next).await
            }
            Step::Prove(next) => match self.unproven(&now.keys).await {
                None => self.write(now, &next).await,
                Some(what) => Ok(Waits::For(what)),
            },
            Step::HandOver(next) => match self.outside() {
                Some(followed) if now.request != Some(Request::Finish) => Ok(Waits::For(format!(
                    "servers outside follow {followed}: give them their new files, then: kubectl annotate secret {} -n {} {REQUEST}=finish",
                    master::NAME,
                    self.namespace,
                ))),
                _ => self.write(now, &next).await,
            },
        }
    }

    /// Writes the next step over the Secret as it was seen.
    async fn write(&self, now: &Stored, next: &MasterKeys) -> Result<Waits, MasterSecretError> {
        let secret = |(generation, secret): (Generation, &MasterSecret)| {
            let octets = k8s_openapi::ByteString(secret.as_bytes().to_vec());
            (generation.to_string(), serde_json::to_value(octets).unwrap_or_default())
        };
        // What is absent from a merge patch stays: entries that have to go are null (RFC 7396).
        let gone = now.keys.secrets().map(|(generation, _)| (generation.to_string(), Value::Null));
        let data: Map<String, Value> = gone.chain(next.secrets().map(secret)).collect();
        let mut annotations = json!({ PROGRESS: master::progress(next) });
        if next.phase() != Some(Phase::Switched) {
            annotations[REQUEST] = Value::Null;
        }
        let patch = json!({
            "metadata": { "resourceVersion": now.version, "annotations": annotations },
            "data": data,
        });
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        self.term.check()?;
        let written = api.patch(master::NAME, &PatchParams::default(), &Patch::Merge(patch)).await?;
        self.master.see(&written);
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
        tracing::info!(secret = master::NAME, term = self.term.number(), "{note}");
        let object = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Secret".to_owned()),
            name: Some(master::NAME.to_owned()),
            namespace: Some(self.namespace.clone()),
            ..ObjectReference::default()
        };
        self.events.keys_replaced(&object, reason, note).await;
        Ok(Waits::Done)
    }

    /// The servers that have yet to show what the next step needs, in words; `None` when all have.
    async fn unproven(&self, keys: &MasterKeys) -> Option<String> {
        let known = self.servers.borrow().clone();
        let Some(known) = known else { return Some("waits until the servers are listed".to_owned()) };
        let shown = |server: Server| async move {
            let id = &server.state.id;
            let (key, knows) = keys.awaited(&id.instance.namespace, &id.instance.name).ok()??;
            (knows_key(&id.instance, server.endpoint.address, key).await != Some(knows))
                .then(|| id.to_string())
        };
        let ready: Vec<Server> = known.iter().filter(|server| server.state.ready).cloned().collect();
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
    fn outside(&self) -> Option<NamespacedName> {
        let view = self.views.borrow().clone()?;
        let mut followed = view.fleet.iter().filter(|instance| !instance.downstreams.is_empty());
        followed.next().map(|instance| instance.metadata.key.clone())
    }
}

/// How it went on.
enum Waits {
    /// There is nothing to wait for but changes.
    Done,
    /// For this.
    For(String),
}

async fn sleep(pause: Option<Duration>) {
    match pause {
        Some(pause) => tokio::time::sleep(pause).await,
        None => std::future::pending().await,
    }
}

/// Whether a server of that instance knows the key; `None` when it does not say.
async fn knows_key(instance: &NamespacedName, address: SocketAddr, key: Key) -> Option<bool> {
    let catalog = Catalog::name(&instance.namespace, &instance.name).ok()?;
    let endpoint = Endpoint { address, key: Some(key) };
    let answer = match Connection::open(&endpoint, TIMEOUTS).await {
        Ok(mut connection) => connection.soa(&catalog).await,
        Err(error) => Err(error),
    };
    match answer {
        Ok(_) => Some(true),
        Err(ClientError::UnknownKey) => Some(false),
        // Signed, whatever it says.
        Err(error) if error.leaves_connection_usable() => Some(true),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(keys: MasterKeys) -> Stored {
        Stored { keys, request: None, version: Some("1".to_owned()) }
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
            assert_eq!(step(Phase::Switched), Step::HandOver(phase(Phase::Retired)));
            assert_eq!(step(Phase::Retired), Step::Prove(MasterKeys::new(Generation::B, new.clone())));
        }
    }

    #[test]
    fn a_deleted_secret_is_made_again_before_anything_else() {
        let keys = MasterKeys::new(Generation::A, MasterSecret::from_bytes([1; 32]));
        let gone = Stored { keys, request: Some(Request::Start), version: None };
        assert_eq!(step(&gone), Step::Restore);
    }
}
