//! What a leader does: renew, find out what became of its lease, give it back.

use std::time::Duration;

use super::{Answer, CONFLICTS_AT_ONCE, Call, Candidate, Failure, Holding, Purpose, Request, Role, Seen};
use crate::moment::Moment;
use crate::record::{Holder, Observed, Record};

/// The duration that a released lease has, as client-go writes it.
const RELEASED_DURATION: Duration = Duration::from_secs(1);

/// What became of a lease that this process holds.
enum Fate {
    /// It names this process, nobody, or is absent.
    Kept,
    /// Somebody else is named.
    Taken,
}

impl Candidate {
    pub(super) fn request_holding(
        &self,
        now: Moment,
        holding: &Holding,
        purpose: Purpose,
    ) -> Option<(Purpose, Request)> {
        if now < holding.next || now >= holding.deadline {
            return None;
        }
        if holding.look {
            return Some((Purpose::Look, Request::Get));
        }
        let record = match purpose {
            Purpose::Release => {
                Record { holder: Holder::Released, term: holding.number, duration: RELEASED_DURATION }
            }
            _ => self.own_record(holding.number),
        };
        let request = match &holding.version {
            Some(version) => Request::Update(record, version.clone()),
            None => Request::Create(record),
        };
        Some((purpose, request))
    }

    pub(super) fn answered_leader(&mut self, now: Moment, call: Call, answer: Answer) {
        match answer {
            Ok(lease) if matches!(call.purpose, Purpose::Look | Purpose::Make) => {
                match self.fate(lease.as_ref()) {
                    Fate::Taken => {
                        self.stand_by(now);
                        self.look_first = false;
                        self.observe(now, lease);
                    }
                    Fate::Kept => self.go_on(now, lease),
                }
            }
            Ok(lease) => {
                let next = call.sent.after(self.config.retry_period()).max(now);
                let deadline = call.sent.after(self.config.renew_deadline());
                if let Role::Leader(holding) = &mut self.role {
                    holding.deadline = holding.deadline.max(deadline);
                    holding.version = lease.as_ref().map(|lease| lease.version.clone());
                    (holding.next, holding.look, holding.conflicts) = (next, false, 0);
                    self.highest = self.highest.max(holding.number);
                }
                self.seen = Some(Seen { lease, since: now, released: false });
            }
            Err(failure) => self.failed(now, call, failure),
        }
    }

    pub(super) fn answered_releasing(&mut self, now: Moment, call: Call, answer: Answer) {
        match answer {
            Ok(_) if call.purpose == Purpose::Release => self.role = Role::Stopped,
            Ok(Some(lease)) if self.is_own(&lease.record) => self.go_on(now, Some(lease)),
            // Nothing is left to give back.
            Ok(_) | Err(Failure::Absent) => self.role = Role::Stopped,
            Err(failure) => {
                self.failed(now, call, failure);
                self.settle(call, failure);
            }
        }
        self.expire(now);
    }

    /// A release may be sent again for the same state only. Where that is gone the release may have been carried out, and
    /// a record that still shows this process would be a copy that somebody put back.
    fn settle(&mut self, call: Call, failure: Failure) {
        let Role::Releasing(holding) = &mut self.role else { return };
        if failure == Failure::Unknown {
            holding.perhaps_released |= call.purpose == Purpose::Release;
        } else if holding.perhaps_released {
            self.role = Role::Stopped;
        }
    }

    /// Ends the term; the lease is given back as soon as no request is under way.
    pub(super) fn release(&mut self, now: Moment) {
        if let Role::Leader(holding) = &self.role {
            self.role = Role::Releasing(Holding { next: now, ..holding.clone() });
        }
    }

    /// Begins no term any more. An acquisition that may have been written is given back.
    pub(super) fn withdraw(&mut self, now: Moment) {
        self.withdrawn = true;
        if !matches!(self.role, Role::Standby) {
            return;
        }
        self.role = match self.attempt.take() {
            Some(attempt) => Role::Releasing(Holding {
                number: attempt.number,
                deadline: attempt.sent.after(self.config.renew_deadline()),
                version: None,
                next: now,
                look: true,
                conflicts: 0,
                perhaps_released: false,
            }),
            None => Role::Stopped,
        };
        self.expire(now);
    }

    fn fate(&self, lease: Option<&Observed>) -> Fate {
        match lease.map(|lease| &lease.record) {
            Some(record) if matches!(record.holder, Holder::Held { .. }) && !self.is_own(record) => {
                Fate::Taken
            }
            _ => Fate::Kept,
        }
    }

    /// The lease was looked at; the next write is for this state of it.
    fn go_on(&mut self, now: Moment, lease: Option<Observed>) {
        if let Role::Leader(holding) | Role::Releasing(holding) = &mut self.role {
            holding.version = lease.map(|lease| lease.version);
            (holding.next, holding.look) = (now, false);
        }
    }

    fn failed(&mut self, now: Moment, call: Call, failure: Failure) {
        let later = call.sent.after(self.pause_after_failure()).max(now);
        let (Role::Leader(holding) | Role::Releasing(holding)) = &mut self.role else { return };
        match failure {
            Failure::Conflict => {
                holding.conflicts += 1;
                holding.look = true;
                holding.next = if holding.conflicts > CONFLICTS_AT_ONCE { later } else { now };
            }
            Failure::Absent if holding.version.is_some() => {
                (holding.version, holding.next) = (None, now);
            }
            Failure::Absent | Failure::Unknown => holding.next = later,
        }
    }
}
