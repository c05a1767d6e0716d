//! The Kubernetes objects of an instance: what should be there, and whether it is.
//!
//! ```text
//!   Instance, its links, keys, addresses ─ plan ─► Workload ─ desired ─► Desired (JSON, marked)
//!                                                                            │
//!                                              live object ────── difference ┘──► apply, or nothing
//! ```
//! Everything is named after the instance, in its namespace:
//!
//! ```text
//!   ServiceAccount I   Service I (53)   Service I-transfer (5353)   NetworkPolicy I   PodDisruptionBudget I-pdb
//!   Deployment I (StatefulSet I with volumes) ─► pod: agent, named ─► ConfigMap I-config, Secret I-keys
//!   Secret I-downstream-D for each downstream outside
//! ```
//! A change of configuration or keys changes the ConfigMap and the Secret, never the pod's template: the agent has named
//! read it again. Secrets are in no other object. Nothing here asks an API server.

mod config;
mod containers;
mod desired;
mod difference;
mod disruption;
mod misplaced;
mod names;
mod network;
mod placement;
mod pod;
mod quantity;
mod storage;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use bindy_zone::{Name, NameError};
use k8s_openapi::api::apps::v1::{Deployment, RollingUpdateStatefulSetStrategy, StatefulSet};
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;

use crate::links::Link;
use crate::named_conf::TextError;
use crate::object::{Instance, NamespacedName};

pub use containers::{AGENT_CONFIG, NAMED_CONFIG, bind_image, bind_version};
pub use desired::{
    APPLIED_ANNOTATION, Desired, HANDOUT_ANNOTATION, KEYS_ANNOTATION, ObjectKind, Ownership, Surplus,
    TEMPLATE_ANNOTATION, desired, ownership, surplus,
};
pub use difference::difference;
pub use misplaced::{Misplaced, Place, Placed, misplaced};
pub use names::{
    CONFIG_ANNOTATION, INSTANCE_LABEL, MANAGED_BY, MANAGED_BY_LABEL, ObjectNames, POD_LABEL, pod_labels,
    pod_selector,
};
pub use network::{FixedAddress, keep_address};
pub use placement::{Node, Nodes, REGION, SPREAD_ANNOTATION, Spread, ZONE};
pub use storage::{FixedVolumes, keep_volumes, pods_kind};

/// Port of DNS.
pub const DNS_PORT: u16 = 53;
/// Port of zone transfers, at agents and at the operator.
pub const TRANSFER_PORT: u16 = 5353;
/// Port of the agent's readiness and metrics.
pub const HTTP_PORT: u16 = 8080;

/// What a plan is made of.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// The instance.
    pub instance: &'a Instance,
    /// Its links with the name of the key that each uses.
    pub links: &'a [(Link, Name)],
    /// Its keys.
    pub keys: &'a KeyFile,
    /// What is handed out to downstreams outside of Bindy.
    pub handouts: &'a [Handout],
    /// What is the same for all instances.
    pub cluster: &'a Cluster,
    /// How strictly its pods are spread over zones.
    pub spread: &'a Spread,
}

/// What is the same for all instances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// The namespace of the operator.
    pub operator_namespace: String,
    /// Image of the operator, and so of the agents.
    pub agent_image: String,
    /// Where the hidden primary is; `None` while that is not known.
    pub operator: Option<SocketAddr>,
    /// Addresses of the transfer Services that are known.
    pub transfer: BTreeMap<NamespacedName, IpAddr>,
}

/// The file with the keys of an instance. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyFile {
    /// A line a key.
    pub text: String,
    /// Tells whether a Secret that cannot be read was made of this text; of no use to anybody who lacks the master
    /// secret.
    pub fingerprint: String,
    /// A downstream outside that there is none of, by which servers show which of the keys they sign with.
    pub mark: String,
}

impl std::fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyFile({}, secrets hidden)", self.fingerprint)
    }
}

/// What a downstream outside of Bindy is given. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Handout {
    /// The downstream's name.
    pub downstream: String,
    /// Texts by names of files.
    pub files: BTreeMap<String, String>,
    /// As that of a [`KeyFile`], of all files.
    pub fingerprint: String,
}

impl std::fmt::Debug for Handout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Handout({}, {}, secrets hidden)", self.downstream, self.fingerprint)
    }
}

/// The objects of one instance.
#[derive(Clone, Debug)]
pub struct Workload {
    /// What the pods run as; it may do nothing.
    pub service_account: ServiceAccount,
    /// Where clients ask.
    pub dns_service: Service,
    /// Where siblings and downstreams get zones.
    pub transfer_service: Service,
    /// Who may reach the pods.
    pub network_policy: NetworkPolicy,
    /// named.conf and agent.json; `None` until the hidden primary's address is known.
    pub config_map: Option<ConfigMap>,
    /// The keys.
    pub secret: Secret,
    /// What is handed out, a Secret for each downstream outside of Bindy.
    pub handouts: Vec<Secret>,
    /// The pods.
    pub pods: Pods,
    /// How many of them may be missing by intent; `None` for no limit.
    pub disruption_budget: Option<PodDisruptionBudget>,
}

impl Workload {
    /// The same with a StatefulSet that replaces no pod: new ones, for more servers, are of the template before.
    pub fn held(mut self) -> Self {
        if let Pods::StatefulSet(set) = &mut self.pods
            && let Some(strategy) = set.spec.as_mut().and_then(|spec| spec.update_strategy.as_mut())
        {
            let none = RollingUpdateStatefulSetStrategy { partition: Some(i32::MAX), max_unavailable: None };
            strategy.rolling_update = Some(none);
        }
        self
    }
}

/// What makes the pods.
#[derive(Clone, Debug)]
pub enum Pods {
    /// Pods that keep nothing.
    Deployment(Box<Deployment>),
    /// Pods with a volume each.
    StatefulSet(Box<StatefulSet>),
}

/// Why an instance cannot have objects.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Its name does not fit into that of a catalog.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A text cannot be written into named's configuration.
    #[error(transparent)]
    Text(#[from] TextError),
    /// It has to run in its region and has none.
    #[error(
        "spec.placement.region is required, and the instance has no label region: give it one, or remove the field"
    )]
    NoRegion,
}

/// The objects that there should be.
pub fn plan(inputs: &Inputs<'_>) -> Result<Workload, PlanError> {
    let Inputs { instance, links: _, keys, handouts, cluster, spread: _ } = inputs;
    let names = ObjectNames::new(&instance.metadata.key);
    let own = |name: &str| names::metadata(instance, name);
    Ok(Workload {
        service_account: ServiceAccount {
            metadata: config::with_fingerprints(own(&names.service_account), inputs),
            automount_service_account_token: Some(false),
            ..ServiceAccount::default()
        },
        dns_service: network::dns_service(own(&names.dns_service), instance),
        transfer_service: network::transfer_service(own(&names.transfer_service), instance),
        network_policy: network::policy(own(&names.network_policy), instance, cluster),
        config_map: config::config_map(own(&names.config_map), inputs)?,
        secret: config::secret(own(&names.secret), keys),
        handouts: handouts
            .iter()
            .map(|handout| config::handout(own(&names.handout(&handout.downstream)), handout))
            .collect(),
        pods: pod::pods(own(&names.pods), inputs, &names)?,
        disruption_budget: disruption::budget(own(&names.disruption_budget), instance),
    })
}
