//! The decision: one candidate's next step, from what it has seen. No clock, no IO, no waiting.
//!
//! ```text
//!                 ┌────────── the term ends: deadline, or somebody else is named ─────────┐
//!                 ▼                                                                       │
//!   ──start──► Standby ──taken by an update of a state of the lease that was──────────► Leader
//!                 │      seen unchanged for the duration, or says "released"              │
//!              withdraw                                                                release
//!                 ▼                                                                       ▼
//!              Stopped ◄──────────── written down, or the deadline has come ────────── Releasing
//! ```
//! Why two terms never live at once, whatever is deleted or edited meanwhile:
//!
//! - A term lives until [`Config::renew_deadline`] after the moment *before* its last successful write was sent. A reply
//!   that comes after that changes nothing.
//! - The only way to begin a term is an update whose precondition is one state (UID and resourceVersion) of the lease,
//!   and that state was seen at least [`Config::duration`] ago. So there was no write in between, and whatever
//!   was written before was sent more than that long ago: its term is over. The one exception says "released", which its
//!   holder writes with the same precondition when it has ended its term.
//! - Making a lease that is absent begins no term: it makes an object that can be watched for the duration. A
//!   leader that lives makes it again in its own name and goes on. This costs the first start one duration.
//! - The name of a pod proves nothing: a record is a process' own only with its 128 random bits.

mod holding;
mod standing_by;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use crate::config::Config;
use crate::moment::Moment;
use crate::record::{Holder, Observed, Process, Record, Version};

/// A leader asks again after this part of the retry period when a request has failed, so that single failures of a
/// busy API server do not end a term.
const PART_AFTER_FAILURE: u32 = 4;

/// So many conflicts in a row are looked into at once; more are taken for an editor that does not stop.
const CONFLICTS_AT_ONCE: u32 = 3;

/// What one candidate knows and does.
#[derive(Clone, Debug)]
pub struct Candidate {
    config: Config,
    /// Of the last acquisition: each has another one.
    process: Process,
    /// The highest term number ever seen.
    highest: u64,
    /// The highest that an acquisition of this process had. A number that is used twice would not tell which write it was.
    attempted: u64,
    seen: Option<Seen>,
    /// When a standby looks again if it hears nothing.
    look_at: Moment,
    /// Nothing is written before the lease has been looked at: a write has failed, or its outcome is not known.
    look_first: bool,
    watching: bool,
    role: Role,
    call: Option<Call>,
    attempt: Option<Attempt>,
    withdrawn: bool,
}

/// The lease as it was last seen.
#[derive(Clone, Debug)]
struct Seen {
    lease: Option<Observed>,
    /// When this state was seen first.
    since: Moment,
    /// Its holder said that it has ended, and nothing later than its term is known.
    released: bool,
}

#[derive(Clone, Debug)]
enum Role {
    Standby,
    Leader(Holding),
    Releasing(Holding),
    Stopped,
}

/// A lease of one's own.
#[derive(Clone, Debug)]
struct Holding {
    number: u64,
    deadline: Moment,
    /// What the next write has to find; `None`: no lease.
    version: Option<Version>,
    /// When the next request is due.
    next: Moment,
    /// It is a look: the state of the lease is not known.
    look: bool,
    conflicts: u32,
    /// It was given back by a write whose outcome is not known: others may lead.
    perhaps_released: bool,
}

/// The request under way.
#[derive(Clone, Copy, Debug)]
struct Call {
    purpose: Purpose,
    sent: Moment,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Look,
    /// A lease without a holder, to be watched.
    Make,
    Acquire,
    Renew,
    Release,
}

/// The last acquisition, which may have been written: since when its term would count.
#[derive(Clone, Copy, Debug)]
struct Attempt {
    number: u64,
    sent: Moment,
}

/// What to ask the API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// The lease as it is now.
    Get,
    /// A lease that must not be there yet.
    Create(Record),
    /// Another content, if the lease is still in this state.
    Update(Record, Version),
}

/// Why a request did not do what it should. Whatever is not named here may have been carried out all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The lease is in another state than was expected, or exists.
    Conflict,
    /// There is no lease to be updated.
    Absent,
    /// It may or may not have been carried out: no answer, or an error.
    Unknown,
}

/// The lease after the request; `None` where a look found none.
pub type Answer = Result<Option<Observed>, Failure>;

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It is time.
    Wake,
    /// The request under way has ended.
    Answered(Answer),
    /// The watch saw the lease, or that it was deleted.
    Watched(Option<Observed>),
    /// The watch stands, or does not: then a standby looks in every retry period.
    Watching(bool),
    /// Do not become leader any more. A leader goes on until [`Event::Release`].
    Withdraw,
    /// Everything that was done under the term has ended: give the lease back.
    Release,
}

/// What is so after a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Somebody else leads, or nobody.
    Standby {
        /// Who is named in the lease.
        holder: Option<Arc<str>>,
    },
    /// This candidate leads.
    Leader {
        /// The term's number.
        number: u64,
        /// The term is over then, if nothing else is said before.
        deadline: Moment,
    },
    /// The term is over, and the lease is being given back.
    Releasing,
    /// It takes no part any more.
    Stopped,
}

/// The outcome of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// To be sent now. Its outcome is the next [`Event::Answered`]; there is never more than one under way.
    pub request: Option<Request>,
    /// What is so now.
    pub standing: Standing,
    /// When to step again if nothing happens.
    pub wake: Option<Moment>,
}

impl Candidate {
    /// A candidate that has seen nothing yet.
    #[must_use]
    pub fn new(config: Config, process: Process) -> Self {
        Self {
            config,
            process,
            highest: 0,
            attempted: 0,
            seen: None,
            look_at: Moment::START,
            look_first: false,
            watching: false,
            role: Role::Standby,
            call: None,
            attempt: None,
            withdrawn: false,
        }
    }

    /// Takes an event in. `now` is the clock's reading after the event came and before the request is sent.
    pub fn step(&mut self, now: Moment, event: Event) -> Step {
        self.expire(now);
        match event {
            Event::Wake => {}
            Event::Answered(answer) => self.answered(now, answer),
            Event::Watched(lease) => {
                if matches!(self.role, Role::Standby) {
                    self.observe(now, lease);
                    self.take_what_was_written(now);
                }
            }
            Event::Watching(watching) => self.watching = watching,
            Event::Withdraw => self.withdraw(now),
            Event::Release => {
                self.withdraw(now);
                self.release(now);
            }
        }
        let request = self.request(now);
        Step { request, standing: self.standing(), wake: self.wake() }
    }

    /// The highest term number seen in the lease, one's own included.
    #[must_use]
    pub fn latest_term(&self) -> u64 {
        self.highest
    }

    /// When the lease was last seen to change: the leader lives, or somebody has written it.
    #[must_use]
    pub fn last_change(&self) -> Option<Moment> {
        self.seen.as_ref().map(|seen| seen.since)
    }

    /// The term was found to be over by others: its clock is read more often than this is called.
    pub fn lose(&mut self, now: Moment) {
        if matches!(self.role, Role::Leader(_)) {
            self.stand_by(now);
        }
    }

    /// Ends what has outlived its deadline.
    fn expire(&mut self, now: Moment) {
        match &self.role {
            Role::Leader(holding) if now >= holding.deadline => self.stand_by(now),
            Role::Releasing(holding) if now >= holding.deadline && self.call.is_none() => {
                self.role = Role::Stopped;
            }
            _ => {}
        }
    }

    fn stand_by(&mut self, now: Moment) {
        self.role = if self.withdrawn { Role::Stopped } else { Role::Standby };
        // Its own last write may not be the last one.
        self.look_first = true;
        self.look_at = now;
        self.attempt = None;
    }

    fn answered(&mut self, now: Moment, answer: Answer) {
        let Some(call) = self.call.take() else { return };
        match &self.role {
            Role::Standby => self.answered_standby(now, call, answer),
            Role::Leader(_) => self.answered_leader(now, call, answer),
            Role::Releasing(_) => self.answered_releasing(now, call, answer),
            Role::Stopped => {}
        }
    }

    fn request(&mut self, now: Moment) -> Option<Request> {
        if self.call.is_some() {
            return None;
        }
        let (purpose, request) = match &self.role {
            Role::Standby => self.request_standby(now)?,
            Role::Leader(holding) => self.request_holding(now, holding, Purpose::Renew)?,
            Role::Releasing(holding) => self.request_holding(now, holding, Purpose::Release)?,
            Role::Stopped => return None,
        };
        self.call = Some(Call { purpose, sent: now });
        Some(request)
    }

    fn standing(&self) -> Standing {
        match &self.role {
            Role::Standby => Standing::Standby { holder: self.holder() },
            Role::Leader(holding) => Standing::Leader { number: holding.number, deadline: holding.deadline },
            Role::Releasing(_) => Standing::Releasing,
            Role::Stopped => Standing::Stopped,
        }
    }

    fn holder(&self) -> Option<Arc<str>> {
        match &self.lease()?.record.holder {
            Holder::Held { identity, .. } => Some(Arc::clone(identity)),
            Holder::Released | Holder::Vacant => None,
        }
    }

    fn lease(&self) -> Option<&Observed> {
        self.seen.as_ref()?.lease.as_ref()
    }

    fn wake(&self) -> Option<Moment> {
        match (&self.role, &self.call) {
            (Role::Leader(holding), Some(_)) => Some(holding.deadline),
            (Role::Leader(holding) | Role::Releasing(holding), None) => {
                Some(holding.next.min(holding.deadline))
            }
            (Role::Standby, None) => Some(self.wake_standby()),
            (Role::Standby | Role::Releasing(_), Some(_)) | (Role::Stopped, _) => None,
        }
    }

    /// Whether this very process wrote it.
    fn is_own(&self, record: &Record) -> bool {
        match &record.holder {
            Holder::Held { identity, process } => {
                identity == self.config.identity() && *process == Some(self.process)
            }
            Holder::Released | Holder::Vacant => false,
        }
    }

    fn own_record(&self, number: u64) -> Record {
        let holder =
            Holder::Held { identity: Arc::clone(self.config.identity()), process: Some(self.process) };
        Record { holder, term: number, duration: self.config.duration() }
    }

    fn pause_after_failure(&self) -> Duration {
        self.config.retry_period() / PART_AFTER_FAILURE
    }
}
