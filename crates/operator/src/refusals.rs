//! Patience with an API server that does not want a status: a policy or a schema stays for longer than an outage. Time is an
//! argument.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bindy_model::ObjectKey;

/// The first pause, which doubles each time, and the longest.
const PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(64);

/// How often in a row the statuses of which objects were refused, and when last.
#[derive(Default)]
pub(crate) struct Refusals(Mutex<HashMap<ObjectKey, (u32, Instant)>>);

impl Refusals {
    /// Notes one more; returns for how long to wait.
    pub(crate) fn add(&self, key: &ObjectKey, now: Instant) -> Duration {
        let mut refusals = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (times, last) = refusals.entry(key.clone()).or_insert((0, now));
        let pause = LONGEST_PAUSE.min(PAUSE * 2_u32.saturating_pow(*times));
        (*times, *last) = (times.saturating_add(1).min(10), now);
        pause
    }

    pub(crate) fn forget(&self, key: &ObjectKey) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    /// Forgets objects that nobody has tried to tell for long: they are gone.
    pub(crate) fn prune(&self, now: Instant) {
        let mut refusals = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        refusals.retain(|_, (_, last)| now.saturating_duration_since(*last) < 4 * LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bindy_model::{Kind, NamespacedName};

    #[test]
    fn pauses_after_refusals_grow_and_objects_that_are_gone_are_forgotten() {
        let (refusals, now) = (Refusals::default(), Instant::now());
        let key = |name: &str| ObjectKey { kind: Kind::Zone, key: NamespacedName::new("default", name) };
        let pauses: Vec<u64> = (0..7).map(|_| refusals.add(&key("a"), now).as_secs()).collect();
        assert_eq!(pauses, [2, 4, 8, 16, 32, 64, 64]);
        refusals.forget(&key("a"));
        assert_eq!(refusals.add(&key("a"), now), PAUSE);
        let later = now + 4 * LONGEST_PAUSE;
        refusals.add(&key("b"), later);
        refusals.prune(later);
        assert_eq!(refusals.0.lock().unwrap().len(), 1);
    }
}
