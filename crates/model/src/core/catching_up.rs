//! Who waits until all objects have been listed anew, one listing after the other.

use std::collections::BTreeMap;

use super::Target;

/// Zones and catalogs that go on only when everything is known that was written before they asked.
#[derive(Debug, Default)]
pub(super) struct CatchingUp {
    /// Number of the last listing that began.
    begun: u64,
    under_way: bool,
    /// With the listing that each waits for: the first that begins after it asked.
    waiting: BTreeMap<Target, u64>,
}

impl CatchingUp {
    pub(super) fn ask(&mut self, target: Target) {
        self.waiting.insert(target, self.begun + 1);
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
        let done: Vec<Target> = self
            .waiting
            .iter()
            .filter(|(_, wanted)| **wanted <= number)
            .map(|(one, _)| one.clone())
            .collect();
        self.waiting.retain(|_, wanted| *wanted > number);
        done
    }

    /// Nobody waits any more.
    pub(super) fn forget(&mut self) {
        self.waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(name: &str) -> Target {
        Target::Orphan(bindy_zone::Name::parse(name).unwrap())
    }

    #[test]
    fn each_waits_for_a_listing_that_began_after_it_asked() {
        let mut catching_up = CatchingUp::default();
        catching_up.ask(zone("a"));
        assert_eq!(catching_up.begin(), Some(1));
        catching_up.ask(zone("b"));
        assert_eq!(catching_up.begin(), None, "one after the other");
        assert_eq!(catching_up.end(1), [zone("a")]);
        assert_eq!(catching_up.begin(), Some(2));
        // This one is asked for in another term.
        catching_up.forget();
        catching_up.ask(zone("a"));
        assert_eq!(catching_up.end(2), []);
        assert_eq!(catching_up.begin(), Some(3));
        assert_eq!((catching_up.end(3), catching_up.begin()), (vec![zone("a")], None));
    }
}
