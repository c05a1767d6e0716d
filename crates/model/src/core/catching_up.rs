//! Who waits until all objects have been listed anew, one listing after the other.

use super::Target;

/// Zones and catalogs that go on only when everything is known that was written before they asked.
#[derive(Debug, Default)]
pub(super) struct CatchingUp {
    /// Number of the last listing that began.
    begun: u64,
    under_way: bool,
    /// With the listing that each waits for: the first that begins after it asked.
    waiting: Vec<(u64, Target)>,
}

impl CatchingUp {
    pub(super) fn ask(&mut self, target: Target) {
        self.waiting.push((self.begun + 1, target));
    }

    /// The number of a listing that has to begin now.
    pub(super) fn begin(&mut self) -> Option<u64> {
        if self.under_way || self.waiting.is_empty() {
            return None;
        }
        self.begun += 1;
        self.under_way = true;
        Some(self.begun)
    }

    /// A listing has ended. Returns who waited for it.
    pub(super) fn end(&mut self, number: u64) -> Vec<Target> {
        self.under_way &= number != self.begun;
        self.waiting.extract_if(.., |(wanted, _)| *wanted <= number).map(|(_, target)| target).collect()
    }

    /// Nobody waits any more.
    pub(super) fn forget(&mut self) {
        self.waiting.clear();
    }
}
