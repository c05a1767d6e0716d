//! The digest of a zone's content: the sum, modulo 2²⁵⁶, of the SHA-256 hashes of its resource records.
//!
//! A sum does not depend on the order of its terms, so it is kept up to date by adding the records that come and
//! subtracting those that go. It tells versions of one zone apart; it is no signature, since whoever can choose
//! many records can make two contents with one sum.

use std::fmt;
use std::str::FromStr;

use crate::name::{Name, OwnerName};
use crate::rrsets::RrSets;
use crate::serial::Serial;
use crate::soa::Soa;

/// Names the algorithm in the text form.
const PREFIX: &str = "sha256sum:";

/// A sum of record hashes, as four limbs of which the first is the least significant.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Digest([u64; 4]);

/// A text that is not a digest of a known algorithm.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a zone digest: expected {PREFIX} and 64 hexadecimal digits")]
pub struct ParseDigestError(String);

impl Digest {
    /// Adds every record of one owner name.
    pub(crate) fn add(&mut self, zone: &Name, owner: &OwnerName, rrsets: &RrSets) {
        self.each(zone, owner, rrsets, Self::plus);
    }

    /// Takes away every record of one owner name.
    pub(crate) fn subtract(&mut self, zone: &Name, owner: &OwnerName, rrsets: &RrSets) {
        self.each(zone, owner, rrsets, |sum, term| sum.plus(term.negated()));
    }

    /// Adds the SOA record with serial 0, so that the serial is no part of the content.
    pub(crate) fn add_soa(&mut self, zone: &Name, soa: &Soa) {
        *self = self.plus(Self::of_soa(zone, soa));
    }

    /// Takes the SOA record away.
    pub(crate) fn subtract_soa(&mut self, zone: &Name, soa: &Soa) {
        *self = self.plus(Self::of_soa(zone, soa).negated());
    }

    /// The first twelve hexadecimal digits: what a person types to name a content.
    pub fn short(&self) -> String {
        let [.., highest] = self.0;
        format!("{highest:016x}").chars().take(12).collect()
    }

    fn of_soa(zone: &Name, soa: &Soa) -> Self {
        let rdata = soa.rdata(Serial::new(0));
        Self::of_record(&zone.to_wire(), 6, soa.ttl, &rdata)
    }

    fn each(&mut self, zone: &Name, owner: &OwnerName, rrsets: &RrSets, fold: fn(Self, Self) -> Self) {
        let mut name = Vec::new();
        owner.append_wire(zone, &mut name);
        for rrset in rrsets.iter() {
            for rdata in rrset.rdatas() {
                *self = fold(*self, Self::of_record(&name, rrset.rtype().to_int(), rrset.ttl().get(), rdata));
            }
        }
    }

    /// The hash of one record of class IN in the canonical form of RFC 4034 section 6.2.
    fn of_record(name: &[u8], rtype: u16, ttl: u32, rdata: &[u8]) -> Self {
        let mut context = ring::digest::Context::new(&ring::digest::SHA256);
        context.update(name);
        context.update(&rtype.to_be_bytes());
        context.update(&1u16.to_be_bytes());
        context.update(&ttl.to_be_bytes());
        context.update(&u16::try_from(rdata.len()).unwrap_or(u16::MAX).to_be_bytes());
        context.update(rdata);
        let hash = context.finish();
        let mut limbs = [0; 4];
        for (limb, octets) in limbs.iter_mut().zip(hash.as_ref().chunks_exact(8)) {
            *limb = octets.iter().fold(0, |value, &octet| value << 8 | u64::from(octet));
        }
        Self(limbs)
    }

    fn plus(self, other: Self) -> Self {
        let mut carry = false;
        let mut sum = self.0;
        for (limb, term) in sum.iter_mut().zip(other.0) {
            let (partial, first) = limb.overflowing_add(term);
            let (total, second) = partial.overflowing_add(u64::from(carry));
            *limb = total;
            carry = first || second;
        }
        Self(sum)
    }

    fn negated(self) -> Self {
        Self(self.0.map(|limb| !limb)).plus(Self([1, 0, 0, 0]))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PREFIX)?;
        self.0.iter().rev().try_for_each(|limb| write!(f, "{limb:016x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseDigestError(text.to_owned());
        let hex = text
            .strip_prefix(PREFIX)
            .filter(|hex| hex.len() == 64 && hex.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .ok_or_else(error)?;
        let mut limbs = [0; 4];
        for (index, limb) in limbs.iter_mut().rev().enumerate() {
            let digits = hex.get(index * 16..index * 16 + 16).ok_or_else(error)?;
            *limb = u64::from_str_radix(digits, 16).map_err(|_| error())?;
        }
        Ok(Self(limbs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sum_is_a_group(a: [u64; 4], b: [u64; 4]) {
            let (a, b) = (Digest(a), Digest(b));
            prop_assert_eq!(a.plus(b), b.plus(a));
            prop_assert_eq!(a.plus(b).plus(b.negated()), a);
            prop_assert_eq!(a.to_string().parse::<Digest>().unwrap(), a);
        }
    }

    #[test]
    fn other_algorithms_are_refused() {
        assert!("md5:00".parse::<Digest>().is_err());
        assert!(format!("{PREFIX}{}", "g".repeat(64)).parse::<Digest>().is_err());
        assert!(format!("{PREFIX}+{}", "0".repeat(63)).parse::<Digest>().is_err());
    }
}
