//! SOA serial numbers and their circular order (RFC 1982).

use std::cmp::Ordering;
use std::fmt;

/// An SOA serial; ordered by RFC 1982, so there is no total order and no `Ord`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Serial(u32);

impl Serial {
    /// The serial with this value.
    pub const fn new(value: u32) -> Self {
        Self(value)
    }

    /// Its value.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The serial after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }

    /// Whether this serial comes after `other`. At a distance of exactly 2³¹ neither does.
    pub fn is_after(self, other: Self) -> bool {
        self.partial_cmp(&other) == Some(Ordering::Greater)
    }

    /// The first serial that comes after each of `floors` and not before `unix_seconds`, where that is possible
    /// (RFC 1982 has no answer for floors that lie further apart than 2³¹ − 1; then the earlier floors win).
    ///
    /// ```
    /// # use bindy_zone::Serial;
    /// assert_eq!(Serial::after([Serial::new(7)], 100), Serial::new(100));
    /// assert_eq!(Serial::after([Serial::new(100)], 100), Serial::new(101));
    /// ```
    pub fn after(floors: impl IntoIterator<Item = Serial>, unix_seconds: u32) -> Self {
        let mut floors = floors.into_iter();
        let Some(first) = floors.next() else { return Self(unix_seconds) };
        let highest = floors.fold(first, |high, floor| if floor.is_after(high) { floor } else { high });
        let now = Self(unix_seconds);
        if now.is_after(highest) { now } else { highest.next() }
    }
}

/// RFC 1982 section 3.2.
impl PartialOrd for Serial {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match self.0.wrapping_sub(other.0) {
            0 => Some(Ordering::Equal),
            0x8000_0000 => None,
            distance if distance < 0x8000_0000 => Some(Ordering::Greater),
            _ => Some(Ordering::Less),
        }
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn order_wraps_around() {
        assert!(Serial::new(0).is_after(Serial::new(u32::MAX)));
        assert!(Serial::new(5).is_after(Serial::new(0xFFFF_FFF0)));
        assert!(!Serial::new(u32::MAX).is_after(Serial::new(0)));
        assert_eq!(Serial::new(0).partial_cmp(&Serial::new(0x8000_0000)), None);
        assert_eq!(Serial::new(u32::MAX).next(), Serial::new(0));
    }

    proptest! {
        #[test]
        fn next_serial_is_after_every_floor_and_not_before_now(
            base: u32, offsets in proptest::collection::vec(0u32..0x3FFF_FFFF, 1..5), ahead in 0u32..0x3FFF_FFFF
        ) {
            let floors: Vec<Serial> = offsets.iter().map(|o| Serial::new(base.wrapping_add(*o))).collect();
            let now = base.wrapping_add(ahead);
            let next = Serial::after(floors.clone(), now);
            for floor in floors {
                prop_assert!(next.is_after(floor));
            }
            prop_assert!(next == Serial::new(now) || next.is_after(Serial::new(now)));
        }
    }
}
