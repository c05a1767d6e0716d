//! What becomes of a Secret that cannot be read.
//!
//! The fingerprint of the keys that it was made with is noted beside it, on objects that can be read, before it is made:
//!
//! ```text
//!   nothing noted ─► is the name free? ─► note, create        (taken: somebody else's, never touched)
//!   the same noted ─────────────────────────► create          (there already: fine)
//!   another noted ─► delete ─► note, create
//! ```
//! A stop between any two of these steps is made good by the next pass.

/// The steps that come before the note.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// None was ever made: whoever has the name is somebody else.
    CheckName,
    /// The one that there should be has these keys.
    Keep,
    /// The one that there is has other keys.
    Replace,
}

/// What to do for `wanted` when `noted` is what the objects say.
pub(super) fn step(noted: Option<&str>, wanted: &str) -> Step {
    match noted {
        None => Step::CheckName,
        Some(noted) if noted == wanted => Step::Keep,
        Some(_) => Step::Replace,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_secret_that_was_made_here_is_ever_deleted() {
        assert_eq!(step(None, "k"), Step::CheckName);
        assert_eq!(step(Some("k"), "k"), Step::Keep);
        assert_eq!(step(Some("old"), "k"), Step::Replace);
    }
}
