//! Time as elections count it: this machine's monotonic clock, which nobody sets and which goes on while the process is
//! stopped (SIGSTOP) and, on Linux, while the machine sleeps.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A point on this machine's monotonic clock. Those of two machines have nothing to do with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(Duration);

impl Moment {
    /// The time that the clock began at.
    pub const START: Self = Self(Duration::ZERO);

    /// Now: `CLOCK_BOOTTIME`, since `CLOCK_MONOTONIC` does not count the time that a machine sleeps.
    #[must_use]
    pub fn now() -> Self {
        #[cfg(target_os = "linux")]
        let time = clock_gettime(ClockId::Boottime);
        #[cfg(not(target_os = "linux"))]
        let time = clock_gettime(ClockId::Monotonic);
        Self(Duration::try_from(time).unwrap_or_default())
    }

    /// That much later.
    #[must_use]
    pub fn after(self, pause: Duration) -> Self {
        Self(self.0.saturating_add(pause))
    }

    /// The time from `earlier` until this; zero if that is not earlier.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// Nanoseconds since the clock began.
    #[must_use]
    pub(crate) fn nanoseconds(self) -> u64 {
        u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX)
    }

    /// From nanoseconds since the clock began.
    #[must_use]
    pub(crate) fn from_nanoseconds(nanoseconds: u64) -> Self {
        Self(Duration::from_nanos(nanoseconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_goes_forward_and_differences_are_never_negative() {
        let first = Moment::now();
        let second = Moment::now();
        assert!(second >= first && first > Moment::START);
        assert_eq!(first.since(second.after(Duration::from_secs(1))), Duration::ZERO);
        assert_eq!(first.after(Duration::from_secs(2)).since(first), Duration::from_secs(2));
    }
}
