//! Versions that a server is not told of yet: an upstream of it should have them first.
//!
//! There may be a hundred thousand of them, and an edit must not wait while all are looked at in every step. A zone is
//! looked at when it begins to wait, when what keeps it back may have changed, and when it has waited for too long.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bindy_zone::{Name, Serial};

/// A version waits this long for an upstream of the server before the server is told anyway: it may have another
/// source.
const PATIENCE: Duration = Duration::from_secs(2);

/// What one server waits for.
#[derive(Default)]
pub(super) struct Waiting {
    /// With the moment since which each waits.
    zones: BTreeMap<Name, (Serial, Duration)>,
    /// The same in the order of time.
    order: BTreeSet<(Duration, Name)>,
    /// Those of them that may go on.
    doubtful: BTreeSet<Name>,
}

impl Waiting {
    /// This version of a zone waits from now on, in place of another one.
    pub(super) fn insert(&mut self, zone: &Name, serial: Serial, now: Duration) {
        self.remove(zone);
        self.zones.insert(zone.clone(), (serial, now));
        self.order.insert((now, zone.clone()));
        self.doubt(zone);
    }

    /// The zone does not wait any more. Returns the serial that did.
    pub(super) fn remove(&mut self, zone: &Name) -> Option<Serial> {
        let (serial, since) = self.zones.remove(zone)?;
        self.order.remove(&(since, zone.clone()));
        self.doubtful.remove(zone);
        Some(serial)
    }

    pub(super) fn contains(&self, zone: &Name) -> bool {
        self.zones.contains_key(zone)
    }

    pub(super) fn len(&self) -> usize {
        self.zones.len()
    }

    /// Whatever keeps this zone back may have changed.
    pub(super) fn doubt(&mut self, zone: &Name) {
        if let Some((zone, _)) = self.zones.get_key_value(zone) {
            self.doubtful.insert(zone.clone());
        }
    }

    /// Whatever keeps any zone back may have changed.
    pub(super) fn doubt_all(&mut self) {
        self.doubtful.extend(self.zones.keys().cloned());
    }

    /// The zones to be looked at now; they are not again before something changes.
    pub(super) fn take_doubtful(&mut self, now: Duration) -> BTreeSet<Name> {
        let mut doubtful = std::mem::take(&mut self.doubtful);
        let over = self.order.iter().take_while(|(since, _)| is_over(*since, now));
        doubtful.extend(over.map(|(_, zone)| zone.clone()));
        doubtful
    }

    /// Whether a zone has waited for too long.
    pub(super) fn is_over(&self, zone: &Name, now: Duration) -> bool {
        self.zones.get(zone).is_some_and(|(_, since)| is_over(*since, now))
    }

    /// When the first of them has waited for too long.
    pub(super) fn next_due(&self) -> Option<Duration> {
        self.order.first().map(|(since, _)| *since + PATIENCE)
    }
}

fn is_over(since: Duration, now: Duration) -> bool {
    now.saturating_sub(since) >= PATIENCE
}
