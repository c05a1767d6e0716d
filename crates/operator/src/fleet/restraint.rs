//! Restraint towards others who want an object to be different, or not to be: the first change is undone at once, those that
//! follow ever later. Two controllers must not fight as fast as they can. Time is an argument.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// First and longest pause between two restorations of one object.
const FIRST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(600);

/// When which object was restored.
#[derive(Debug, Default)]
pub(super) struct Restraint(HashMap<String, Restored>);

#[derive(Debug)]
struct Restored {
    wanted: String,
    last: Instant,
    times: u32,
}

impl Restored {
    fn pause(&self) -> Duration {
        LONGEST.min(FIRST * 2_u32.saturating_pow(self.times))
    }
}

impl Restraint {
    /// Whether `object` may be made `wanted` now; `Err` says from when on.
    pub(super) fn may(&mut self, object: &str, wanted: &str, now: Instant) -> Result<(), Instant> {
        let first = || Restored { wanted: wanted.to_owned(), last: now, times: 0 };
        let Some(before) = self.0.get_mut(object).filter(|before| before.wanted == wanted) else {
            self.0.insert(object.to_owned(), first());
            return Ok(());
        };
        let next = before.last + before.pause();
        if now < next {
            return Err(next);
        }
        // Peace for as long again means that it was no fight.
        let again = now < next + before.pause();
        *before =
            Restored { times: if again { before.times.saturating_add(1).min(10) } else { 0 }, ..first() };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_undone_at_once_and_a_fight_slows_down() {
        let mut restraint = Restraint::default();
        let start = Instant::now();
        let mut now = start;
        let mut times = Vec::new();
        for _ in 0..6 {
            if let Err(next) = restraint.may("o", "1", now) {
                now = next;
                restraint.may("o", "1", now).unwrap();
            }
            times.push((now - start).as_secs());
        }
        assert_eq!(times, [0, 5, 15, 35, 75, 155]);
    }

    #[test]
    fn a_new_wish_and_a_later_mishap_are_not_held_up() {
        let mut restraint = Restraint::default();
        let now = Instant::now();
        restraint.may("o", "1", now).unwrap();
        restraint.may("o", "2", now).unwrap();
        assert!(restraint.may("o", "2", now).is_err());
        restraint.may("o", "2", now + Duration::from_secs(60)).unwrap();
        restraint.may("p", "2", now).unwrap();
    }
}
