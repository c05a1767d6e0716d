//! The operator's master secret, and its replacement by another one while everything goes on.
//!
//! ```text
//!              signs   servers are given   the hidden primary knows
//!   one        a       a                   a
//!   Introduced a       a b                 a b      until every server knows b
//!   Switched   b       a b                 a b      until every server signs with b, and downstreams outside of Bindy have it
//!   Retired    b         b                 a b      until no server knows a
//!   one        b         b                   b
//! ```
//! Whoever signs with a key is understood by everybody who is at the same step, at the one before or at the next: so no
//! step begins before every server has shown that it has taken the last one.

use std::fmt;
use std::str::FromStr;

use crate::keys::{Generation, Key, KeyError, MasterSecret};

/// A step of the replacement of the master secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Keys of the new secret are accepted.
    Introduced,
    /// They are used.
    Switched,
    /// Servers forget those of the old secret.
    Retired,
}

impl Phase {
    /// All of them, in their order.
    pub const ALL: [Self; 3] = [Self::Introduced, Self::Switched, Self::Retired];
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Introduced => "introduced",
            Self::Switched => "switched",
            Self::Retired => "retired",
        })
    }
}

/// The name of a phase is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a phase is introduced, switched or retired")]
pub struct PhaseError;

/// Reads what `Display` writes.
impl FromStr for Phase {
    type Err = PhaseError;

    fn from_str(text: &str) -> Result<Self, PhaseError> {
        Self::ALL.into_iter().find(|phase| phase.to_string() == text).ok_or(PhaseError)
    }
}

/// The master secret, with its successor while there is one: what every instance's keys come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MasterKeys {
    generation: Generation,
    secret: MasterSecret,
    successor: Option<(MasterSecret, Phase)>,
}

impl MasterKeys {
    /// One secret, whose keys are called after this generation.
    pub const fn new(generation: Generation, secret: MasterSecret) -> Self {
        Self { generation, secret, successor: None }
    }

    /// The same while it is being replaced: keys of the successor are called after the other generation.
    #[must_use]
    pub fn replaced_by(self, successor: MasterSecret, phase: Phase) -> Self {
        Self { successor: Some((successor, phase)), ..self }
    }

    /// What comes after the present step; `None` where nothing is being replaced.
    #[must_use]
    pub fn next(&self) -> Option<Self> {
        let (successor, phase) = self.successor.clone()?;
        let later = Phase::ALL.into_iter().find(|later| *later > phase);
        Some(match later {
            Some(later) => self.clone().replaced_by(successor, later),
            None => Self::new(self.generation.other(), successor),
        })
    }

    /// The step of the replacement that is under way.
    pub fn phase(&self) -> Option<Phase> {
        self.successor.as_ref().map(|(_, phase)| *phase)
    }

    /// Every secret with its generation, the one that is being replaced first.
    pub fn secrets(&self) -> impl Iterator<Item = (Generation, &MasterSecret)> {
        let successor = self.successor.as_ref().map(|(secret, _)| (self.generation.other(), secret));
        std::iter::once((self.generation, &self.secret)).chain(successor)
    }

    /// The key that an instance signs with.
    pub fn signing(&self, namespace: &str, instance: &str) -> Result<Key, KeyError> {
        let (generation, secret) = self.signer();
        secret.instance_key(namespace, instance, generation)
    }

    fn signer(&self) -> (Generation, &MasterSecret) {
        match &self.successor {
            Some((successor, Phase::Switched | Phase::Retired)) => (self.generation.other(), successor),
            Some((_, Phase::Introduced)) | None => (self.generation, &self.secret),
        }
    }

    /// The downstream outside of Bindy that there is none of: servers which list it were told to sign with the same keys as
    /// this says. No label of a name that a person gives begins with an underscore.
    pub fn mark(&self) -> String {
        format!("_signs-with-{}", self.signer().0)
    }

    /// The keys that an instance's servers are given, by generation.
    pub fn given(&self, namespace: &str, instance: &str) -> Result<Vec<Key>, KeyError> {
        let retired = usize::from(self.phase() == Some(Phase::Retired));
        let mut given: Vec<_> = self.secrets().skip(retired).collect();
        given.sort_unstable_by_key(|(generation, _)| *generation);
        let key =
            |(generation, secret): (_, &MasterSecret)| secret.instance_key(namespace, instance, generation);
        given.into_iter().map(key).collect()
    }

    /// The keys by which the hidden primary knows an instance.
    pub fn known(&self, namespace: &str, instance: &str) -> Result<Vec<Key>, KeyError> {
        self.secrets()
            .map(|(generation, secret)| secret.instance_key(namespace, instance, generation))
            .collect()
    }

    /// What each server of an instance has to show before the next step: whether it knows this key.
    pub fn awaited(&self, namespace: &str, instance: &str) -> Result<Option<(Key, bool)>, KeyError> {
        let Some((new, phase)) = &self.successor else { return Ok(None) };
        let new = new.instance_key(namespace, instance, self.generation.other())?;
        Ok(Some(match phase {
            Phase::Introduced => (new, true),
            Phase::Switched => (new.derive_outside(&self.mark())?, true),
            Phase::Retired => (self.secret.instance_key(namespace, instance, self.generation)?, false),
        }))
    }

    /// Tells texts with keys that are given apart, for whoever has the newest secret, and nothing about them to anybody else.
    pub fn fingerprint(&self, text: &[u8]) -> String {
        self.successor.as_ref().map_or(&self.secret, |(secret, _)| secret).fingerprint(text)
    }

    /// The same for texts with keys that sign.
    pub fn signing_fingerprint(&self, text: &[u8]) -> String {
        self.signer().1.fingerprint(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The generations of these keys.
    fn letters(keys: &[Key]) -> String {
        keys.iter().filter_map(|key| key.name().to_string().chars().next()).collect()
    }

    /// Each step with the one after it, from both generations.
    fn steps() -> Vec<(MasterKeys, MasterKeys)> {
        let mut steps = Vec::new();
        for generation in [Generation::A, Generation::B] {
            let [old, new] = [3, 4].map(|octet| MasterSecret::from_bytes([octet; 32]));
            let one = MasterKeys::new(generation, old);
            assert_eq!(one.next(), None);
            let mut now = one.clone().replaced_by(new.clone(), Phase::Introduced);
            steps.push((one, now.clone()));
            while let Some(next) = now.next() {
                steps.push((now, next.clone()));
                now = next;
            }
            assert_eq!(now, MasterKeys::new(generation.other(), new));
        }
        assert_eq!(steps.len(), 8);
        steps
    }

    #[test]
    fn whoever_is_a_step_ahead_or_behind_is_understood() {
        for (now, next) in steps() {
            for (signer, other) in [(&now, &next), (&next, &now), (&now, &now), (&next, &next)] {
                let key = signer.signing("dns", "primary").unwrap();
                assert!(other.known("dns", "primary").unwrap().contains(&key), "{signer:?} {other:?}");
                assert!(other.given("dns", "primary").unwrap().contains(&key), "{signer:?} {other:?}");
            }
        }
    }

    #[test]
    fn each_phase_signs_gives_knows_and_awaits_what_the_table_says() {
        let expected = [
            (None, "a", "a", "a", None),
            (Some(Phase::Introduced), "a", "ab", "ab", Some(("b.primary.dns.key.bindy.", true))),
            (
                Some(Phase::Switched),
                "b",
                "ab",
                "ab",
                Some(("_signs-with-b._downstream.b.primary.dns.key.bindy.", true)),
            ),
            (Some(Phase::Retired), "b", "b", "ab", Some(("a.primary.dns.key.bindy.", false))),
        ];
        for ((now, next), (phase, signs, given, known, awaited)) in steps().into_iter().zip(expected) {
            assert_eq!(now.phase(), phase);
            let signing = now.signing("dns", "primary").unwrap();
            assert_eq!(letters(std::slice::from_ref(&signing)), signs);
            assert_eq!(letters(&now.given("dns", "primary").unwrap()), given);
            assert_eq!(letters(&now.known("dns", "primary").unwrap()), known);
            let shown = now.awaited("dns", "primary").unwrap();
            assert_eq!(
                shown.map(|(key, knows)| (key.name().to_string(), knows)),
                awaited.map(|(name, knows)| (name.to_owned(), knows))
            );
            // A Secret is replaced only where the keys in it change.
            if now.given("dns", "primary") == next.given("dns", "primary") {
                assert_eq!(now.fingerprint(b"k"), next.fingerprint(b"k"));
            }
            let same = signing == next.signing("dns", "primary").unwrap();
            assert_eq!(now.signing_fingerprint(b"k") == next.signing_fingerprint(b"k"), same);
            assert_eq!(now.mark() == next.mark(), same);
        }
    }

    #[test]
    fn phases_are_read_as_they_are_written() {
        for phase in Phase::ALL {
            assert_eq!(phase.to_string().parse(), Ok(phase));
        }
        assert_eq!("finished".parse::<Phase>(), Err(PhaseError));
    }
}
