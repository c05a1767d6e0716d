//! Bringing published versions to one server, and the proof that it has them.
//!
//! For each zone that the server does not have yet: NOTIFY, then ask for the SOA after 2, 5, 10, 20 … ms until the
//! server answers the wanted serial; from the fourth question on every one comes with another NOTIFY, since the first
//! may be lost. Nothing is kept, and nothing is sent, for zones that the server has.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bindy_zone::{Name, Serial};

/// The pauses before each question; the last one repeats.
const PAUSES_MS: [u64; 10] = [2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000];

/// From this question on, each comes with another NOTIFY.
const NOTIFY_AGAIN: usize = 3;

/// What to send to the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The zone.
    pub zone: Name,
    /// The serial that it should have.
    pub serial: Serial,
    /// Whether a NOTIFY goes before the question.
    pub notify: bool,
    /// How long to wait between the NOTIFY, or the moment it is due, and the question.
    pub pause: Duration,
}

/// What the server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It serves this serial.
    Serial(Serial),
    /// It gave no serial; the text says why, for status.
    Failure(String),
}

/// What the answer means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The server has the wanted version.
    Delivered(Serial),
    /// The server has a serial after the wanted one, which we never published.
    Ahead(Serial),
    /// Not yet.
    Waiting,
    /// Nobody waits for this answer any more.
    Stale,
}

/// A zone that the server does not have yet.
#[derive(Clone, Debug)]
pub struct Pending {
    /// The serial it should have.
    pub wanted: Serial,
    /// Since when it should.
    pub since: Duration,
    /// Why the last question was not answered with a serial.
    pub failure: Option<String>,
    attempt: usize,
    due: Option<Duration>,
}

/// What one server still has to get.
#[derive(Clone, Debug, Default)]
pub struct Delivery {
    pending: BTreeMap<Name, Pending>,
    due: BTreeSet<(Duration, Name)>,
}

impl Delivery {
    /// The server should have `serial` of `zone`.
    pub fn want(&mut self, zone: &Name, serial: Serial, now: Duration) {
        self.forget(zone);
        let pending = Pending { wanted: serial, since: now, failure: None, attempt: 0, due: Some(now) };
        self.pending.insert(zone.clone(), pending);
        self.due.insert((now, zone.clone()));
    }

    /// The server need not have `zone` any more.
    pub fn forget(&mut self, zone: &Name) {
        if let Some(pending) = self.pending.remove(zone)
            && let Some(due) = pending.due
        {
            self.due.remove(&(due, zone.clone()));
        }
    }

    /// The server can be reached again: everything pending is due now.
    pub fn hurry(&mut self, now: Duration) {
        self.due.clear();
        for (zone, pending) in &mut self.pending {
            if pending.due.is_some() {
                pending.due = Some(now);
                pending.attempt = 0;
                self.due.insert((now, zone.clone()));
            }
        }
    }

    /// At most `limit` probes whose time has come; each is under way until [`Delivery::answered`].
    pub fn take_due(&mut self, now: Duration, limit: usize) -> Vec<Probe> {
        let mut probes = Vec::new();
        while probes.len() < limit
            && let Some((due, zone)) = self.due.pop_first()
        {
            if due > now {
                self.due.insert((due, zone));
                break;
            }
            let Some(pending) = self.pending.get_mut(&zone) else { continue };
            pending.due = None;
            let first = pending.attempt == 0;
            probes.push(Probe {
                zone,
                serial: pending.wanted,
                notify: first || pending.attempt >= NOTIFY_AGAIN,
                pause: if first { pause(0) } else { Duration::ZERO },
            });
        }
        probes
    }

    /// When the next probe is due.
    pub fn next_due(&self) -> Option<Duration> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Takes the answer to a probe for `serial`.
    pub fn answered(&mut self, zone: &Name, serial: Serial, answer: Answer, now: Duration) -> Progress {
        let Some(pending) = self.pending.get_mut(zone).filter(|p| p.wanted == serial && p.due.is_none())
        else {
            return Progress::Stale;
        };
        let progress = match answer {
            Answer::Serial(found) if found == serial => Progress::Delivered(found),
            Answer::Serial(found) if found.is_after(serial) => Progress::Ahead(found),
            Answer::Serial(_) => {
                pending.failure = None;
                Progress::Waiting
            }
            Answer::Failure(text) => {
                pending.failure = Some(text);
                Progress::Waiting
            }
        };
        if matches!(progress, Progress::Delivered(_) | Progress::Ahead(_)) {
            self.pending.remove(zone);
        } else {
            pending.attempt += 1;
            let due = now + pause(pending.attempt);
            pending.due = Some(due);
            self.due.insert((due, zone.clone()));
        }
        progress
    }

    /// The zones that the server does not have yet.
    pub fn pending(&self) -> impl Iterator<Item = (&Name, &Pending)> {
        self.pending.iter()
    }

    /// Whether the server has, as far as asked, everything it should.
    pub fn is_complete(&self) -> bool {
        self.pending.is_empty()
    }

    /// Whether the server should have a version of `zone` and has not answered for it yet.
    pub fn is_unheard(&self, zone: &Name) -> bool {
        self.pending.get(zone).is_some_and(|pending| pending.attempt == 0)
    }

    /// Whether the server has the wanted version of `zone`.
    pub fn has(&self, zone: &Name) -> bool {
        !self.pending.contains_key(zone)
    }
}

fn pause(attempt: usize) -> Duration {
    Duration::from_millis(PAUSES_MS.get(attempt).or(PAUSES_MS.last()).copied().unwrap_or(2_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone() -> Name {
        Name::parse("example.com").unwrap()
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_lost_notify_is_sent_again_and_questions_back_off() {
        let (mut delivery, serial) = (Delivery::default(), Serial::new(7));
        delivery.want(&zone(), serial, ms(0));
        let (mut now, mut notifies, mut questions) = (ms(0), 0, 0);
        while now < ms(10_000) {
            for probe in delivery.take_due(now, 10) {
                notifies += usize::from(probe.notify);
                questions += 1;
                let answer = Answer::Serial(Serial::new(6));
                assert_eq!(delivery.answered(&zone(), serial, answer, now), Progress::Waiting);
            }
            now = delivery.next_due().unwrap();
        }
        assert!((8..16).contains(&questions), "{questions}");
        assert_eq!(notifies, questions - NOTIFY_AGAIN + 1);
    }

    #[test]
    fn a_newer_version_replaces_an_older_one_and_stale_answers_count_for_nothing() {
        let mut delivery = Delivery::default();
        delivery.want(&zone(), Serial::new(7), ms(0));
        assert_eq!(delivery.take_due(ms(0), 10).len(), 1);
        delivery.want(&zone(), Serial::new(8), ms(1));
        assert_eq!(
            delivery.answered(&zone(), Serial::new(7), Answer::Serial(Serial::new(7)), ms(2)),
            Progress::Stale
        );
        assert!(!delivery.is_complete());
        assert_eq!(delivery.take_due(ms(2), 10).len(), 1);
        let progress = delivery.answered(&zone(), Serial::new(8), Answer::Serial(Serial::new(8)), ms(3));
        assert_eq!(progress, Progress::Delivered(Serial::new(8)));
        assert!(delivery.is_complete() && delivery.next_due().is_none());
    }

    #[test]
    fn a_server_ahead_is_told_apart() {
        let mut delivery = Delivery::default();
        delivery.want(&zone(), Serial::new(7), ms(0));
        delivery.take_due(ms(0), 1);
        let answer = Answer::Serial(Serial::new(9));
        assert_eq!(
            delivery.answered(&zone(), Serial::new(7), answer, ms(1)),
            Progress::Ahead(Serial::new(9))
        );
    }
}
