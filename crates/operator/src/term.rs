//! The right to write: every function that changes something in the cluster takes a [`Term`].

/// A term during which this process alone may write. Only what grants terms can make one.
#[derive(Clone, Debug)]
pub struct Term(());

impl Term {
    /// The term of a single replica, which never ends.
    #[must_use]
    pub fn permanent() -> Self {
        Self(())
    }
}
