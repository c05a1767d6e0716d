//! Where in the answer to an AXFR or IXFR request a message stream is (RFC 5936 section 2.2, RFC 1995 section 4).
//!
//! ```text
//!             other record: Full ──────────── SOA ──────────────────────► End
//! SOA ─► Second
//!             SOA of the client's serial: Removing ─ SOA ─► Adding ─ SOA (next difference) ─► Removing
//!                                                              └──── SOA (the first one's serial) ──► End
//! ```
//! A single SOA that is not after the client's serial says that there is nothing newer.

use bindy_zone::Serial;

use crate::message::Malformed;

/// What a transfer was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Axfr,
    /// The serial that the client has.
    Ixfr(Serial),
}

/// What a record of a transfer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The SOA of the server's version.
    Current,
    /// A record of a whole zone.
    Whole,
    /// The SOA of the version that a difference starts from.
    From,
    /// A record to remove.
    Remove,
    /// The SOA of the version that a difference leads to.
    To,
    /// A record to add.
    Add,
    /// The closing SOA.
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    First,
    Second,
    Full,
    Removing,
    Adding,
    Done,
}

/// Follows the records of one transfer.
#[derive(Debug)]
pub(super) struct Progress {
    asked: Asked,
    state: State,
    /// Serial of the server's version.
    current: Serial,
    /// Serial that the difference being read leads to.
    reached: Serial,
}

impl Progress {
    pub(super) fn new(asked: Asked) -> Self {
        let zero = Serial::new(0);
        Self { asked, state: State::First, current: zero, reached: zero }
    }

    /// Takes the next record: its serial if it is an SOA, none otherwise.
    pub(super) fn record(&mut self, soa: Option<Serial>) -> Result<Step, Malformed> {
        let (state, step) = match (self.state, soa) {
            (State::First, Some(serial)) => {
                self.current = serial;
                (State::Second, Step::Current)
            }
            (State::First, None) => return Err(Malformed("a transfer does not start with an SOA")),
            (State::Second, Some(serial)) if self.asked == Asked::Ixfr(serial) && serial != self.current => {
                self.reached = serial;
                (State::Removing, Step::From)
            }
            (State::Second | State::Full, Some(serial)) if serial == self.current => (State::Done, Step::End),
            (State::Second | State::Full, Some(_)) => {
                return Err(Malformed("a transfer ends with another SOA than it starts with"));
            }
            (State::Second | State::Full, None) => (State::Full, Step::Whole),
            (State::Removing, Some(serial)) => {
                if !serial.is_after(self.reached) {
                    return Err(Malformed("a difference does not lead to a later version"));
                }
                self.reached = serial;
                (State::Adding, Step::To)
            }
            (State::Removing, None) => (State::Removing, Step::Remove),
            (State::Adding, Some(serial)) if serial != self.reached => {
                return Err(Malformed("a difference does not continue the one before"));
            }
            (State::Adding, Some(serial)) if serial == self.current => (State::Done, Step::End),
            (State::Adding, Some(_)) => (State::Removing, Step::From),
            (State::Adding, None) => (State::Adding, Step::Add),
            (State::Done, _) => return Err(Malformed("a transfer goes on after its end")),
        };
        self.state = state;
        Ok(step)
    }

    /// Whether the answer is complete; to be asked after each whole message.
    pub(super) fn is_complete(&self) -> bool {
        self.state == State::Done || self.says_nothing_newer()
    }

    /// Whether the answer so far is one SOA that is not after what the client has.
    pub(super) fn says_nothing_newer(&self) -> bool {
        match self.asked {
            Asked::Ixfr(serial) => self.state == State::Second && !self.current.is_after(serial),
            Asked::Axfr => false,
        }
    }

    /// Serial of the server's version.
    pub(super) fn current(&self) -> Serial {
        self.current
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(asked: Asked, records: &[Option<u32>]) -> Result<(Vec<Step>, bool), Malformed> {
        let mut progress = Progress::new(asked);
        let steps = records.iter().map(|record| progress.record(record.map(Serial::new)));
        let steps = steps.collect::<Result<Vec<Step>, _>>()?;
        Ok((steps, progress.is_complete()))
    }

    #[test]
    fn a_truncated_transfer_is_never_complete() {
        let axfr = [Some(9), None, None, Some(9)];
        let ixfr = [Some(9), Some(7), None, Some(8), None, Some(8), None, Some(9), None, Some(9)];
        for (asked, records) in [(Asked::Axfr, &axfr[..]), (Asked::Ixfr(Serial::new(7)), &ixfr[..])] {
            assert!(run(asked, records).unwrap().1);
            for cut in 0..records.len() {
                assert!(!run(asked, &records[..cut]).unwrap().1, "{asked:?} {cut}");
            }
        }
    }

    #[test]
    fn differences_and_whole_zones_are_told_apart() {
        let asked = Asked::Ixfr(Serial::new(7));
        let (steps, _) = run(asked, &[Some(9), Some(7), Some(9), None, Some(9)]).unwrap();
        assert_eq!(steps, [Step::Current, Step::From, Step::To, Step::Add, Step::End]);
        let (steps, complete) = run(asked, &[Some(9), None, Some(9)]).unwrap();
        assert_eq!((steps, complete), (vec![Step::Current, Step::Whole, Step::End], true));
        assert!(run(asked, &[Some(9), Some(9)]).unwrap().1, "a zone of an SOA only");
    }

    #[test]
    fn one_soa_means_current_unless_it_is_newer() {
        assert!(run(Asked::Ixfr(Serial::new(9)), &[Some(9)]).unwrap().1);
        assert!(run(Asked::Ixfr(Serial::new(9)), &[Some(8)]).unwrap().1);
        assert!(!run(Asked::Ixfr(Serial::new(8)), &[Some(9)]).unwrap().1);
        assert!(!run(Asked::Axfr, &[Some(9)]).unwrap().1);
    }

    #[test]
    fn disorder_is_refused() {
        assert!(run(Asked::Axfr, &[None]).is_err());
        assert!(run(Asked::Axfr, &[Some(9), None, Some(8)]).is_err());
        assert!(run(Asked::Axfr, &[Some(9), Some(9), None]).is_err());
        let asked = Asked::Ixfr(Serial::new(7));
        assert!(run(asked, &[Some(9), Some(6)]).is_err());
        assert!(run(asked, &[Some(9), Some(7), Some(7)]).is_err());
        assert!(run(asked, &[Some(9), Some(7), Some(8), Some(9)]).is_err());
    }
}
