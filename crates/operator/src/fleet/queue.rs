//! Which instance is looked at when: each at most once at a time, and again if something happened meanwhile. Time is an
//! argument.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bindy_model::NamespacedName;

/// First and longest pause after a failure.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LONGEST: Duration = Duration::from_secs(60);

/// What is to be done next.
#[derive(Debug, Default)]
pub(super) struct Queue {
    due: BTreeMap<NamespacedName, Instant>,
    running: BTreeSet<NamespacedName>,
    failures: BTreeMap<NamespacedName, u32>,
}

impl Queue {
    /// Has `key` looked at, not later than `at`.
    pub(super) fn add(&mut self, key: NamespacedName, at: Instant) {
        let due = self.due.entry(key).or_insert(at);
        *due = at.min(*due);
    }

    /// An instance that is due; it counts as running until [`Queue::done`] or [`Queue::failed`].
    pub(super) fn take(&mut self, now: Instant) -> Option<NamespacedName> {
        let due = self.due.iter().filter(|(key, at)| **at <= now && !self.running.contains(*key));
        let (_, key) = due.map(|(key, at)| (*at, key.clone())).min()?;
        self.due.remove(&key);
        self.running.insert(key.clone());
        Some(key)
    }

    /// When [`Queue::take`] will have something, as far as is known now.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due.iter().filter(|(key, _)| !self.running.contains(*key)).map(|(_, at)| *at).min()
    }

    /// `key` is not running any more; it wants to be looked at again at `next`.
    pub(super) fn done(&mut self, key: &NamespacedName, next: Option<Instant>) {
        self.running.remove(key);
        self.failures.remove(key);
        if let Some(at) = next {
            self.add(key.clone(), at);
        }
    }

    /// `key` is not running any more, and has to be tried again.
    pub(super) fn failed(&mut self, key: &NamespacedName, now: Instant) {
        self.running.remove(key);
        let failures = self.failures.entry(key.clone()).or_default();
        let pause = RETRY_LONGEST.min(RETRY_FIRST * 2_u32.saturating_pow(*failures));
        *failures = failures.saturating_add(1).min(10);
        self.add(key.clone(), now + pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> NamespacedName {
        NamespacedName::new("default", name)
    }

    #[test]
    fn an_instance_runs_once_at_a_time_and_again_when_something_happened_meanwhile() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.add(key("a"), now);
        queue.add(key("a"), now);
        assert_eq!(queue.take(now), Some(key("a")));
        assert_eq!(queue.take(now), None);
        queue.add(key("a"), now);
        assert_eq!((queue.take(now), queue.next_due()), (None, None));
        queue.done(&key("a"), None);
        assert_eq!(queue.take(now), Some(key("a")));
        queue.done(&key("a"), None);
        assert_eq!((queue.take(now), queue.next_due()), (None, None));
    }

    #[test]
    fn the_earlier_wish_counts_and_the_longest_due_comes_first() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        let second = Duration::from_secs(1);
        queue.add(key("a"), now + 9 * second);
        queue.add(key("a"), now + 2 * second);
        queue.add(key("a"), now + 5 * second);
        queue.add(key("b"), now + second);
        assert_eq!(queue.next_due(), Some(now + second));
        assert_eq!(queue.take(now), None);
        assert_eq!(queue.take(now + 3 * second), Some(key("b")));
        assert_eq!(queue.take(now + 3 * second), Some(key("a")));
    }

    #[test]
    fn failures_are_tried_again_with_growing_pauses_until_one_succeeds() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        let pause = |queue: &mut Queue| {
            let at = queue.next_due().unwrap();
            queue.take(at).unwrap();
            queue.failed(&key("a"), now);
            queue.next_due().unwrap() - now
        };
        queue.add(key("a"), now);
        let pauses: Vec<u64> = (0..8).map(|_| pause(&mut queue).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        queue.take(queue.next_due().unwrap()).unwrap();
        queue.done(&key("a"), Some(now));
        assert_eq!(pause(&mut queue).as_secs(), 1);
    }
}
