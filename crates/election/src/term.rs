//! The right to write, for as long as it lasts.
//!
//! A term ends by the clock: whoever asks compares the deadline with the time, and no task has to have run for the
//! answer to be right. A term that was seen to be over stays over.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

use crate::moment::Moment;

/// Deadline of a term that is over.
const OVER: u64 = 0;
/// Deadline of a term without election.
const NEVER: u64 = u64::MAX;

/// A term during which this process alone leads. Cheap to clone; every clone tells the same.
///
/// Functions that write take `&Term` and call [`check`](Self::check) just before each request is sent.
#[derive(Clone)]
pub struct Term(Arc<Inner>);

struct Inner {
    number: u64,
    /// Nanoseconds of [`Moment`].
    deadline: AtomicU64,
    ended: Notify,
}

/// The term is over: nothing may be written under it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("term {number} is over: another replica may lead")]
pub struct TermOver {
    /// Which term.
    pub number: u64,
}

impl Term {
    /// The term of a program that runs without election. It never ends, and its number is 0.
    #[must_use]
    pub fn unlimited() -> Self {
        Self::with(0, NEVER)
    }

    pub(crate) fn until(number: u64, deadline: Moment) -> Self {
        Self::with(number, deadline.nanoseconds())
    }

    fn with(number: u64, deadline: u64) -> Self {
        Self(Arc::new(Inner { number, deadline: AtomicU64::new(deadline), ended: Notify::new() }))
    }

    /// The number of the term: `spec.leaseTransitions` of the lease. Later terms of a lease have higher ones.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.0.number
    }

    /// Whether it lives now.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.is_live_at(Moment::now())
    }

    /// The gate before a write.
    pub fn check(&self) -> Result<(), TermOver> {
        if self.is_live() { Ok(()) } else { Err(TermOver { number: self.number() }) }
    }

    /// When it ends unless it is renewed; `None` without election. In the past when it is over.
    #[must_use]
    pub fn deadline(&self) -> Option<Moment> {
        match self.0.deadline.load(Ordering::Acquire) {
            NEVER => None,
            deadline => Some(Moment::from_nanoseconds(deadline)),
        }
    }

    /// Returns when it is over.
    pub async fn ended(&self) {
        loop {
            // Registered before the look, so that an end in between is not missed.
            let ended = self.0.ended.notified();
            if !self.is_live() {
                return;
            }
            match self.deadline() {
                Some(deadline) => {
                    let rest = tokio::time::sleep(deadline.since(Moment::now()));
                    tokio::select! {
                        () = ended => {}
                        () = rest => {}
                    }
                }
                None => ended.await,
            }
        }
    }

    fn is_live_at(&self, now: Moment) -> bool {
        let now = now.nanoseconds();
        let over = |deadline| (deadline != NEVER && now >= deadline).then_some(OVER);
        // What was seen to be over is marked, so that a renewal which comes now finds it so.
        match self.0.deadline.fetch_update(Ordering::AcqRel, Ordering::Acquire, over) {
            Ok(_) => {
                self.0.ended.notify_waiters();
                false
            }
            Err(_) => true,
        }
    }

    /// Moves the deadline; false when the term is over already.
    pub(crate) fn extend(&self, deadline: Moment) -> bool {
        let later = |old| (old != OVER).then_some(deadline.nanoseconds().max(old));
        self.0.deadline.fetch_update(Ordering::AcqRel, Ordering::Acquire, later).is_ok()
    }

    pub(crate) fn end(&self) {
        self.0.deadline.store(OVER, Ordering::Release);
        self.0.ended.notify_waiters();
    }
}

impl fmt::Debug for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Term").field("number", &self.number()).field("live", &self.is_live()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_term_ends_at_its_deadline_although_nothing_runs() {
        let term = Term::until(7, Moment::now().after(Duration::from_millis(50)));
        assert_eq!((term.check(), term.number()), (Ok(()), 7));
        term.ended().await;
        assert_eq!(term.check(), Err(TermOver { number: 7 }));
        let blocked = Term::until(8, Moment::now().after(Duration::from_millis(20)));
        while Moment::now() < blocked.deadline().unwrap() {
            std::hint::spin_loop();
        }
        assert!(!blocked.is_live());
    }

    #[test]
    fn a_term_that_was_seen_over_stays_over() {
        let deadline = Moment::START.after(Duration::from_secs(10));
        let term = Term::until(1, deadline);
        assert!(term.is_live_at(Moment::START));
        assert!(term.extend(deadline.after(Duration::from_secs(1))));
        assert!(term.is_live_at(deadline));
        assert!(!term.is_live_at(deadline.after(Duration::from_secs(1))));
        assert!(!term.extend(deadline.after(Duration::from_secs(100))));
        assert!(!term.is_live_at(Moment::START));
    }

    #[tokio::test]
    async fn the_end_of_a_term_wakes_all_that_wait_for_it() {
        let term = Term::until(1, Moment::now().after(Duration::from_secs(3600)));
        let waiting = (term.clone(), term.clone());
        let both = tokio::spawn(async move { tokio::join!(waiting.0.ended(), waiting.1.ended()) });
        tokio::task::yield_now().await;
        term.end();
        both.await.unwrap();
    }

    #[test]
    fn without_election_a_term_never_ends() {
        let term = Term::unlimited();
        assert_eq!((term.check(), term.deadline(), term.number()), (Ok(()), None, 0));
    }
}
