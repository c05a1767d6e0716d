//! What this program may do: tables that the ClusterRole and the Role are generated from, and that calls name.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use k8s_openapi::api::rbac::v1::PolicyRule;

use crate::observe;

/// Stands for every custom resource.
pub const CUSTOM: &str = "*";
/// Stands for the status of every custom resource.
pub const CUSTOM_STATUS: &str = "*/status";

/// A verb of Kubernetes' API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// One object.
    Get,
    /// All objects.
    List,
    /// Changes.
    Watch,
    /// A new object.
    Create,
    /// A whole object.
    Update,
    /// Part of an object, server-side apply included.
    Patch,
    /// Removal.
    Delete,
}

/// Where an access is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// In every namespace.
    Cluster,
    /// In the operator's own namespace.
    Own,
    /// The object of this name in the operator's own namespace. A list or watch has to select it by `metadata.name`.
    Named(&'static str),
}

/// One row: what is done with one resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Resource in the plural, with its subresource if any.
    pub resource: &'static str,
    /// What is done with it.
    pub verbs: &'static [Verb],
    /// Where.
    pub scope: Scope,
}

impl Access {
    /// Whether this row allows the verb.
    pub fn allows(&self, verb: Verb) -> bool {
        self.verbs.contains(&verb)
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
        })
    }
}

/// The rules of one kind of role, of the cluster or of the operator's own namespace, that allow what is in `tables`, and
/// nothing else.
pub fn rules(cluster: bool, tables: &[&[Access]]) -> Vec<PolicyRule> {
    let mut verbs: BTreeMap<(Place, String), BTreeSet<Verb>> = BTreeMap::new();
    for access in
        tables.iter().copied().flatten().filter(|access| cluster == (access.scope == Scope::Cluster))
    {
        let name = match access.scope {
            Scope::Named(name) => Some(name),
            Scope::Cluster | Scope::Own => None,
        };
        for resource in resources(access.resource) {
            verbs.entry(((access.group, name), resource)).or_default().extend(access.verbs);
        }
    }
    let mut alike: BTreeMap<(Place, BTreeSet<Verb>), Vec<String>> = BTreeMap::new();
    for ((place, resource), verbs) in verbs {
        alike.entry((place, verbs)).or_default().push(resource);
    }
    let rule = |(((group, name), verbs), resources): ((Place, BTreeSet<Verb>), Vec<String>)| PolicyRule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(resources),
        resource_names: name.map(|name| vec![name.to_owned()]),
        verbs: verbs.iter().map(Verb::to_string).collect(),
        ..PolicyRule::default()
    };
    alike.into_iter().map(rule).collect()
}

/// Group, and name where only the object of that name is meant.
type Place = (&'static str, Option<&'static str>);

/// A wildcard would give rights on kinds that a later version brings.
fn resources(name: &str) -> Vec<String> {
    let plurals = observe::kinds().into_iter().filter_map(observe::resource).map(|resource| resource.plural);
    match name {
        CUSTOM => plurals.collect(),
        CUSTOM_STATUS => plurals.map(|plural| format!("{plural}/status")).collect(),
        other => vec![other.to_owned()],
    }
}
