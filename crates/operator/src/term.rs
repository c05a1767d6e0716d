//! The right to write. Every function that changes something in the cluster takes a [`Term`].

/// Proof that this process may write.
#[derive(Debug)]
pub struct Term(());

impl Term {
    /// A term that never ends: of a process that is the only one.
    pub const fn permanent() -> Self {
        Self(())
    }
}
