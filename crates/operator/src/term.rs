//! The right to write: every function that changes something in the cluster takes a [`Term`], and asks it just before.

use bindy_election::State;
use tokio::sync::watch;

pub use bindy_election::Term;
pub(crate) use bindy_election::TermOver;

use crate::rbac::{Access, Scope, Verb};

/// What the election does with its Lease.
pub(crate) const ACCESS: &[Access] = &[Access {
    group: "coordination.k8s.io",
    resource: "leases",
    verbs: &[Verb::Get, Verb::Watch, Verb::Create, Verb::Update],
    scope: Scope::Own,
}];

/// Whether this replica leads, for what goes on in either case.
#[derive(Clone, Debug)]
pub(crate) struct Leadership(watch::Receiver<Option<Term>>);

impl Leadership {
    pub(crate) fn new() -> (watch::Sender<Option<Term>>, Self) {
        let (sender, receiver) = watch::channel(None);
        (sender, Self(receiver))
    }

    /// The term, while this replica leads.
    pub(crate) fn term(&self) -> Option<Term> {
        self.0.borrow().clone().filter(Term::is_live)
    }
}

/// The term of a replica that leads.
pub(crate) fn term_of(state: &State) -> Option<Term> {
    match state {
        State::Leader(term) => Some(term.clone()),
        State::Standby { .. } | State::Stopped => None,
    }
}
