//! What this program may do: tables that the ClusterRole and the Role are generated from, and that calls name.

use std::fmt;

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
            Self::Patch => "patch",
            Self::Delete => "delete",
        })
    }
}
