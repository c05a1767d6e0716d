//! What the operator may do: one table, from which the install manifest takes its roles. A right that is not here is
//! not given, and each says what it is for.

use bindy_api::{GROUP, RECORD_KINDS};
use k8s_openapi::api::rbac::v1::PolicyRule;

/// Where a right holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// In every namespace: instances may be anywhere.
    Cluster,
    /// In the operator's own namespace.
    Own,
}

/// Some rights.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Right {
    pub(crate) scope: Scope,
    pub(crate) group: &'static str,
    pub(crate) resources: &'static [&'static str],
    pub(crate) verbs: &'static [&'static str],
}

/// Everything that the operator may do, besides the custom resources.
pub(crate) const RIGHTS: &[Right] = &[
    // Zone files; and the configuration of servers.
    Right {
        scope: Scope::Cluster,
        group: "",
        resources: &["configmaps", "services", "serviceaccounts"],
        verbs: &["get", "list", "watch", "create", "patch"],
    },
    Right {
        scope: Scope::Cluster,
        group: "apps",
        resources: &["deployments"],
        verbs: &["get", "list", "watch", "create", "patch"],
    },
    Right {
        scope: Scope::Cluster,
        group: "networking.k8s.io",
        resources: &["networkpolicies"],
        verbs: &["get", "list", "watch", "create", "patch"],
    },
    // Which servers there are; an annotation makes the kubelet renew mounted configuration at once.
    Right {
        scope: Scope::Cluster,
        group: "",
        resources: &["pods"],
        verbs: &["get", "list", "watch", "patch"],
    },
    // Keys of instances: made and replaced, never read.
    Right { scope: Scope::Cluster, group: "", resources: &["secrets"], verbs: &["create", "delete"] },
    Right {
        scope: Scope::Cluster,
        group: "events.k8s.io",
        resources: &["events"],
        verbs: &["create", "patch"],
    },
    // The master secret.
    Right { scope: Scope::Own, group: "", resources: &["secrets"], verbs: &["get", "create"] },
];

/// The rules of one scope.
pub(crate) fn rules(scope: Scope) -> Vec<PolicyRule> {
    let own = RIGHTS.iter().filter(|right| right.scope == scope).map(|right| PolicyRule {
        api_groups: Some(vec![right.group.to_owned()]),
        resources: Some(right.resources.iter().map(|one| (*one).to_owned()).collect()),
        verbs: right.verbs.iter().map(|one| (*one).to_owned()).collect(),
        ..PolicyRule::default()
    });
    match scope {
        Scope::Cluster => custom_resources().into_iter().chain(own).collect(),
        Scope::Own => own.collect(),
    }
}

/// The custom resources are read; only their status is written.
fn custom_resources() -> [PolicyRule; 2] {
    let records = RECORD_KINDS.iter().map(|row| row.plural.to_owned());
    let plurals: Vec<String> =
        ["bind9instances", "dnszones"].into_iter().map(str::to_owned).chain(records).collect();
    let rule = |resources: Vec<String>, verbs: &[&str]| PolicyRule {
        api_groups: Some(vec![GROUP.to_owned()]),
        resources: Some(resources),
        verbs: verbs.iter().map(|verb| (*verb).to_owned()).collect(),
        ..PolicyRule::default()
    };
    let statuses = plurals.iter().map(|plural| format!("{plural}/status")).collect();
    [rule(plurals, &["get", "list", "watch"]), rule(statuses, &["patch"])]
}
