//! The master secret, from which the keys of all instances come: a Secret in the operator's own namespace.
//!
//! ```text
//!   data a (b)                    the secret of each generation, 32 octets
//!   annotation …/rotate           start, finish: what a person asks for
//!   annotation …/rotation         "b introduced", "b switched", "b retired": how far a replacement by b has come
//! ```
//! It is made by the first leader, watched by every replica, and made again when somebody deletes it.

use std::collections::BTreeMap;

use bindy_wire::{Generation, KeyError, MasterKeys, MasterSecret, Phase};
use futures::StreamExt;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, PostParams};
use kube::runtime::watcher::Event;
use kube::{Api, Client, ResourceExt};
use tokio::sync::watch;

use crate::observe;
use crate::rbac::{Access, Scope, Verb};
use crate::term::{Term, TermOver};

/// What is done here and by the rotation: this one Secret is read, made, and changed.
pub(crate) const ACCESS: &[Access] = &[
    Access { group: "", resource: "secrets", verbs: &[Verb::Create], scope: Scope::Own },
    Access {
        group: "",
        resource: "secrets",
        verbs: &[Verb::Get, Verb::List, Verb::Watch, Verb::Patch],
        scope: Scope::Named(NAME),
    },
];

/// Name of the Secret.
pub(crate) const NAME: &str = "bindy-master-key";
/// Annotation by which a person asks for a step.
pub(crate) const REQUEST: &str = "bindy.firestoned.io/rotate";
/// Annotation that tells how far a replacement has come.
pub(crate) const PROGRESS: &str = "bindy.firestoned.io/rotation";

const GENERATIONS: [Generation; 2] = [Generation::A, Generation::B];

/// Why there is no master secret.
#[derive(Debug, thiserror::Error)]
pub enum MasterSecretError {
    /// The API server refused or could not be reached.
    #[error("Secret {NAME}: {0}")]
    Api(#[from] kube::Error),
    /// The Secret has no usable content.
    #[error(
        "Secret {NAME}: {0}: restore it from a backup; with a new one every server that runs would be locked out for a while"
    )]
    Content(&'static str),
    /// A new one cannot be made.
    #[error("a new master secret cannot be made: {0}")]
    Random(#[from] KeyError),
    /// Another replica makes it.
    #[error(transparent)]
    Term(#[from] TermOver),
}

/// What a person asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// That the secret be replaced.
    Start,
    /// That the old one be forgotten: everybody outside of Bindy has the new keys.
    Finish,
}

/// The Secret as it was last seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) keys: MasterKeys,
    pub(crate) request: Option<Request>,
    /// Its `metadata.resourceVersion`; `None` when it does not exist any more.
    pub(crate) version: Option<String>,
    /// Its content cannot be used: the keys are those of before.
    pub(crate) damaged: bool,
}

/// The master secret for whoever needs it. Cloning gives another handle to the same one.
#[derive(Clone)]
pub(crate) struct Master {
    pub(crate) keys: watch::Sender<MasterKeys>,
    pub(crate) stored: watch::Sender<Stored>,
}

impl Master {
    pub(crate) fn new(stored: Stored) -> Self {
        Self { keys: watch::channel(stored.keys.clone()).0, stored: watch::channel(stored).0 }
    }

    /// Takes in what there is now. Content that cannot be used is complained of and changes nothing.
    fn see(&self, secret: &Secret) {
        match read(secret) {
            Ok(now) => {
                self.keys.send_if_modified(|keys| {
                    let changed = *keys != now.keys;
                    keys.clone_from(&now.keys);
                    changed
                });
                self.stored.send_replace(now);
            }
            Err(error) => {
                tracing::error!(%error, "the keys stay as they were");
                self.stored.send_modify(|stored| {
                    stored.version = secret.resource_version();
                    stored.damaged = true;
                });
            }
        }
    }

    /// Waits until the watch has brought what there is now: a leader must not make keys of a secret that was replaced.
    pub(crate) async fn catch_up(&self, client: &Client, namespace: &str) {
        let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
        let read = async || Ok(api.get_metadata_opt(NAME).await?.and_then(|now| now.resource_version()));
        let brought = async |now: Option<String>| {
            // The sender is here.
            drop(self.stored.subscribe().wait_for(|stored| stored.version == now).await);
        };
        observe::caught_up(NAME, read, brought).await;
    }

    fn lost(&self) {
        self.stored.send_modify(|stored| stored.version = None);
    }

    /// Keeps up with the Secret. Does not return.
    pub(crate) async fn follow(&self, client: Client, namespace: &str) {
        let config = observe::config().fields(&format!("metadata.name={NAME}"));
        let api = Api::<Secret>::namespaced(client, namespace);
        let mut events = observe::watched(api, config, format!("Secret {NAME}"));
        let mut found = false;
        while let Some(event) = events.next().await {
            match event {
                Err(_) => {}
                Ok(Event::Init) => found = false,
                Ok(Event::InitApply(secret)) => {
                    found = true;
                    self.see(&secret);
                }
                Ok(Event::Apply(secret)) => self.see(&secret),
                Ok(Event::InitDone) if found => {}
                Ok(Event::InitDone | Event::Delete(_)) => self.lost(),
            }
        }
    }
}

/// Reads the master secret, or makes it where there is none and there is a term; `None` where there is neither.
pub(crate) async fn load(
    client: &Client,
    namespace: &str,
    term: Option<&Term>,
) -> Result<Option<Stored>, MasterSecretError> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    if let Some(secret) = api.get_opt(NAME).await? {
        return read(&secret).map(Some);
    }
    let Some(term) = term.filter(|term| term.is_live()) else { return Ok(None) };
    let keys = MasterKeys::new(Generation::A, MasterSecret::generate()?);
    tracing::info!(secret = NAME, namespace, term = term.number(), "a new master secret is made");
    match create(client, namespace, &keys, term).await {
        Ok(secret) => read(&secret).map(Some),
        // Another replica was faster.
        Err(MasterSecretError::Api(kube::Error::Api(status))) if status.code == 409 => {
            read(&api.get(NAME).await?).map(Some)
        }
        Err(error) => Err(error),
    }
}

/// Makes the Secret, which must not exist.
pub(crate) async fn create(
    client: &Client,
    namespace: &str,
    keys: &MasterKeys,
    term: &Term,
) -> Result<Secret, MasterSecretError> {
    let annotations = progress(keys).map(|text| BTreeMap::from([(PROGRESS.to_owned(), text)]));
    let secret = Secret {
        metadata: ObjectMeta { name: Some(NAME.to_owned()), annotations, ..ObjectMeta::default() },
        data: Some(entries(keys)),
        ..Secret::default()
    };
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    term.check()?;
    Ok(api.create(&PostParams::default(), &secret).await?)
}

/// The secrets as the entries of the Secret.
pub(crate) fn entries(keys: &MasterKeys) -> BTreeMap<String, ByteString> {
    let entry = |(generation, secret): (Generation, &MasterSecret)| {
        (generation.to_string(), ByteString(secret.as_bytes().to_vec()))
    };
    keys.secrets().map(entry).collect()
}

/// How far a replacement has come, as the annotation says it.
pub(crate) fn progress(keys: &MasterKeys) -> Option<String> {
    let (new, _) = keys.secrets().nth(1)?;
    Some(format!("{new} {}", keys.phase()?))
}

/// What a Secret says.
pub(crate) fn read(secret: &Secret) -> Result<Stored, MasterSecretError> {
    let entry = |generation: Generation| {
        let Some(octets) = secret.data.as_ref().and_then(|data| data.get(&generation.to_string())) else {
            return Ok::<_, MasterSecretError>(None);
        };
        let octets = <[u8; 32]>::try_from(octets.0.as_slice());
        let octets =
            octets.map_err(|_| MasterSecretError::Content("its entries a and b have 32 octets each"))?;
        Ok(Some((generation, MasterSecret::from_bytes(octets))))
    };
    let [a, b] = GENERATIONS.map(entry);
    let progress = secret.annotations().get(PROGRESS);
    let keys = match (a?, b?, progress) {
        (Some((generation, secret)), None, None) | (None, Some((generation, secret)), None) => {
            MasterKeys::new(generation, secret)
        }
        (Some(a), Some(b), Some(progress)) => {
            let (new, phase) = progress.split_once(' ').unwrap_or_default();
            let (old, successor) = match new {
                "a" => (b, a.1),
                "b" => (a, b.1),
                _ => return Err(MasterSecretError::Content(UNCLEAR)),
            };
            let phase: Phase = phase.parse().map_err(|_| MasterSecretError::Content(UNCLEAR))?;
            MasterKeys::new(old.0, old.1).replaced_by(successor, phase)
        }
        (None, None, _) => {
            return Err(MasterSecretError::Content("it has neither an entry a nor an entry b"));
        }
        _ => return Err(MasterSecretError::Content(UNCLEAR)),
    };
    let request = match secret.annotations().get(REQUEST).map(String::as_str) {
        None => None,
        Some("start") => Some(Request::Start),
        Some("finish") => Some(Request::Finish),
        Some(other) => {
            tracing::warn!(secret = NAME, value = other, "annotation {REQUEST} is start or finish");
            None
        }
    };
    Ok(Stored { keys, request, version: secret.resource_version(), damaged: false })
}

/// Of two entries, one has to be known to be the newer one.
const UNCLEAR: &str = "with both entries a and b its annotation bindy.firestoned.io/rotation has to be as the operator wrote it, with one it has to be absent";

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(entries: &[(&str, usize)], progress: Option<&str>) -> Secret {
        let entry = |(name, octets): &(&str, usize)| ((*name).to_owned(), ByteString(vec![7; *octets]));
        let annotations = progress.map(|text| BTreeMap::from([(PROGRESS.to_owned(), text.to_owned())]));
        Secret {
            metadata: ObjectMeta { annotations, ..ObjectMeta::default() },
            data: Some(entries.iter().map(entry).collect()),
            ..Secret::default()
        }
    }

    #[test]
    fn every_step_is_read_as_it_was_written() {
        let [old, new] = [1, 2].map(|octet| MasterSecret::from_bytes([octet; 32]));
        for generation in GENERATIONS {
            let one = MasterKeys::new(generation, old.clone());
            let mut steps = vec![one.clone(), one.replaced_by(new.clone(), Phase::Introduced)];
            steps.extend(std::iter::successors(steps[1].next(), MasterKeys::next));
            assert_eq!(steps.len(), 5);
            for keys in steps {
                let annotations = progress(&keys).map(|text| BTreeMap::from([(PROGRESS.to_owned(), text)]));
                let secret = Secret {
                    metadata: ObjectMeta { annotations, ..ObjectMeta::default() },
                    data: Some(entries(&keys)),
                    ..Secret::default()
                };
                assert_eq!(read(&secret).unwrap().keys, keys);
            }
        }
    }

    #[test]
    fn content_that_could_mean_two_things_or_nothing_is_refused() {
        let both = [("a", 32), ("b", 32)];
        for (entries, progress) in [
            (&[][..], None),
            (&[("secret", 32)], None),
            (&[("a", 31)], None),
            (&[("a", 32), ("b", 33)], Some("b introduced")),
            (&both, None),
            (&both, Some("introduced")),
            (&both, Some("c introduced")),
            (&both, Some("b finished")),
            (&[("a", 32)], Some("b introduced")),
        ] {
            let refused = read(&secret(entries, progress));
            assert!(
                matches!(refused, Err(MasterSecretError::Content(_))),
                "{entries:?} {progress:?}: {refused:?}"
            );
        }
    }
}
