//! The master secret, from which the key of every instance is derived: a Secret in the operator's own namespace.

use std::collections::BTreeMap;

use bindy_wire::{KeyError, MasterSecret};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};

use crate::rbac::{Access, Scope, Verb};
use crate::term::Term;

/// What is done here: this one Secret is read, and made once.
pub(crate) const ACCESS: &[Access] =
    &[Access { group: "", resource: "secrets", verbs: &[Verb::Get, Verb::Create], scope: Scope::Own }];

/// Name of the Secret.
pub(crate) const NAME: &str = "bindy-master-key";

/// The key within it.
const KEY: &str = "secret";

/// Why there is no master secret.
#[derive(Debug, thiserror::Error)]
pub enum MasterSecretError {
    /// The API server refused or could not be reached.
    #[error("Secret {NAME}: {0}")]
    Api(#[from] kube::Error),
    /// The Secret has no usable content.
    #[error(
        "Secret {NAME} has no key {KEY:?} of 32 octets: restore it from a backup; with a new one every server that runs would be locked out"
    )]
    Content,
    /// A new one cannot be made.
    #[error("a new master secret cannot be made: {0}")]
    Random(#[from] KeyError),
}

/// Reads the master secret, or makes it where there is none and there is a term; `None` where there is neither.
pub(crate) async fn load(
    client: &Client,
    namespace: &str,
    term: Option<&Term>,
) -> Result<Option<MasterSecret>, MasterSecretError> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    if let Some(secret) = api.get_opt(NAME).await? {
        return read(&secret).map(Some);
    }
    let Some(term) = term.filter(|term| term.is_live()) else { return Ok(None) };
    let made = MasterSecret::generate()?;
    let data = BTreeMap::from([(KEY.to_owned(), ByteString(made.as_bytes().to_vec()))]);
    let metadata = ObjectMeta { name: Some(NAME.to_owned()), ..ObjectMeta::default() };
    let secret = Secret { metadata, data: Some(data), ..Secret::default() };
    tracing::info!(secret = NAME, namespace, term = term.number(), "a new master secret is made");
    match api.create(&PostParams::default(), &secret).await {
        Ok(_) => Ok(Some(made)),
        // Another replica was faster.
        Err(kube::Error::Api(status)) if status.code == 409 => read(&api.get(NAME).await?).map(Some),
        Err(error) => Err(error.into()),
    }
}

fn read(secret: &Secret) -> Result<MasterSecret, MasterSecretError> {
    let octets = secret
        .data
        .as_ref()
        .and_then(|data| data.get(KEY))
        .and_then(|octets| octets.0.as_slice().try_into().ok());
    octets.map(MasterSecret::from_bytes).ok_or(MasterSecretError::Content)
}
