//! What a standby does: look, wait, take.

use std::time::Duration;

use super::{Answer, Attempt, Call, Candidate, Failure, Holding, Purpose, Request, Role, Seen};
use crate::moment::Moment;
use crate::record::{Holder, Observed, Record};

impl Candidate {
    pub(super) fn answered_standby(&mut self, now: Moment, call: Call, answer: Answer) {
        let next_look = call.sent.after(self.config.retry_period());
        match answer {
            Ok(lease) => {
                self.look_first = false;
                self.observe(now, lease);
                if call.purpose == Purpose::Look {
                    self.look_at = self.look_at.min(next_look.max(now));
                }
                self.take_what_was_written(now);
            }
            Err(Failure::Conflict | Failure::Absent) => {
                self.look_first = true;
                self.look_at = now;
            }
            Err(Failure::Unknown) => {
                self.look_first = true;
                self.look_at = next_look.max(now);
            }
        }
    }

    /// Notes the state of the lease; only another one than before starts the wait anew.
    pub(super) fn observe(&mut self, now: Moment, lease: Option<Observed>) {
        if !self.look_first {
            self.look_at = now.after(self.patience());
        }
        let version = lease.as_ref().map(|lease| &lease.version);
        if let Some(seen) = &self.seen
            && seen.lease.as_ref().map(|lease| &lease.version) == version
        {
            return;
        }
        let record = lease.as_ref().map(|lease| &lease.record);
        // One that is older than what was seen is a copy that somebody has put back.
        let released =
            record.is_some_and(|record| record.holder == Holder::Released && record.term >= self.highest);
        self.highest = self.highest.max(record.map_or(0, |record| record.term));
        self.seen = Some(Seen { lease, since: now, released });
    }

    /// Without news for this long, a standby looks. A leader's renewals are the heartbeat of a watch: if one is missing,
    /// either the leader or the watch is dead.
    fn patience(&self) -> Duration {
        let period = self.config.retry_period();
        if self.watching { period + period / 4 } else { period }
    }

    /// An acquisition has succeeded if it stands in the lease, whether or not its answer came. Each has an
    /// identifier of its own (a number can be edited), so it is known when this one was sent.
    pub(super) fn take_what_was_written(&mut self, now: Moment) {
        let (Some(attempt), Some(lease)) = (self.attempt, self.lease()) else { return };
        let deadline = attempt.sent.after(self.config.renew_deadline());
        if !self.is_own(&lease.record) || lease.record.term != attempt.number {
            return;
        }
        let version = Some(lease.version.clone());
        self.attempt = None;
        if now < deadline {
            let next = attempt.sent.after(self.config.retry_period());
            let number = attempt.number;
            self.role = Role::Leader(Holding {
                number,
                deadline,
                version,
                next,
                look: false,
                conflicts: 0,
                perhaps_released: false,
            });
        }
    }

    pub(super) fn request_standby(&mut self, now: Moment) -> Option<(Purpose, Request)> {
        if !self.look_first
            && let Some(seen) = self.seen.clone()
        {
            match seen.lease.as_ref() {
                None => return Some((Purpose::Make, Request::Create(self.vacant_record()))),
                Some(lease) if self.has_forgotten_terms(&seen, lease) => {
                    let request = Request::Update(self.vacant_record(), lease.version.clone());
                    return Some((Purpose::Make, request));
                }
                Some(lease) if now >= self.free_at(&seen, lease) => {
                    return Some((Purpose::Acquire, self.acquire(now, lease)));
                }
                Some(_) => {}
            }
        }
        (now >= self.look_at).then_some((Purpose::Look, Request::Get))
    }

    pub(super) fn wake_standby(&self) -> Moment {
        match &self.seen {
            Some(seen @ Seen { lease: Some(lease), .. }) if !self.look_first => {
                self.look_at.min(self.free_at(seen, lease))
            }
            _ => self.look_at,
        }
    }

    /// When this state may be taken. It is never less than one's own duration, so that shortening the duration in a
    /// lease by hand shortens no wait.
    fn free_at(&self, seen: &Seen, lease: &Observed) -> Moment {
        match seen.released {
            true => seen.since,
            false => seen.since.after(lease.record.duration.max(self.config.duration())),
        }
    }

    /// A lease that nobody holds and that was made by somebody who knew less: terms would be numbered again.
    fn has_forgotten_terms(&self, seen: &Seen, lease: &Observed) -> bool {
        let held = matches!(lease.record.holder, Holder::Held { .. });
        !held && !seen.released && lease.record.term < self.highest
    }

    fn vacant_record(&self) -> Record {
        Record { holder: Holder::Vacant, term: self.highest, duration: self.config.duration() }
    }

    fn acquire(&mut self, now: Moment, lease: &Observed) -> Request {
        let number = next_number(self.highest.max(self.attempted), lease.record.term);
        self.attempted = number;
        self.process = self.process.next();
        self.attempt = Some(Attempt { number, sent: now });
        Request::Update(self.own_record(number), lease.version.clone())
    }
}

/// The number after both, never one that was used; one that somebody has set to the highest possible does not block elections.
fn next_number(highest: u64, found: u64) -> u64 {
    let fits = |number: &u64| i32::try_from(*number).is_ok();
    let after = |number: u64| number.checked_add(1).filter(fits);
    after(highest.max(found)).or_else(|| after(found)).unwrap_or(1)
}
