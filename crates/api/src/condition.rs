//! Conditions: how a verdict about an object becomes part of its status.
//!
//! A [`Verdict`] is what the model concludes; [`merge_conditions`] turns a complete list of them into the object's
//! conditions, keeps `lastTransitionTime` unless a status flips, and says whether anything differs: a status that is
//! already right is not written again. Conditions of types that are not ours are kept as they are.

use std::fmt;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::{Schema, SchemaGenerator, json_schema};

use crate::Reason;

/// Octets of a message that are kept: enough for a precise sentence, too few to fill etcd.
const MAX_MESSAGE: usize = 1024;

/// The conditions that objects of this group carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConditionType {
    /// The input is valid and wins its conflicts: what was asked for is what will be served.
    Accepted,
    /// It is served, with proof: after this generation was published every server that was ready answered it.
    Ready,
    /// A change was withheld because it would remove too much at once; the last good version is served.
    Held,
    /// It is served, but not by all that should: servers are missing, behind or lack their source.
    Degraded,
}

impl ConditionType {
    /// All types, in the order in which they are listed in a status.
    pub const ALL: [Self; 4] = [Self::Accepted, Self::Ready, Self::Held, Self::Degraded];

    /// The type as it is written in a status.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::Ready => "Ready",
            Self::Held => "Held",
            Self::Degraded => "Degraded",
        }
    }

    /// What the status `True` means, for the reference.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Accepted => "The input is valid and wins its conflicts.",
            Self::Ready => {
                "It is served, with proof: after this generation was published every server that was ready then, and \
                 at least one of each instance, answered it. Later failures of servers do not take it back on records; a \
                 zone is not ready while an instance has no ready server with its version, an instance while servers \
                 are missing."
            }
            Self::Held => {
                "A change was withheld because it would remove too much at once. The last good version is served."
            }
            Self::Degraded => {
                "Something is wrong that clients may not notice yet: a server lags, cannot run, refuses its settings, or runs outside of its region."
            }
        }
    }
}

impl fmt::Display for ConditionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The status of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// It cannot be told yet.
    Unknown,
}

impl ConditionStatus {
    /// The status as it is written in a status.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl fmt::Display for ConditionStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A conclusion about one condition of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Which condition.
    pub condition: ConditionType,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// Why, from the closed list.
    pub reason: Reason,
    /// What happened and what to do, in a sentence for the person who wrote the object.
    pub message: String,
}

impl Verdict {
    /// A condition that holds.
    #[must_use]
    pub fn yes(condition: ConditionType, reason: Reason, message: impl Into<String>) -> Self {
        Self { condition, status: ConditionStatus::True, reason, message: message.into() }
    }

    /// A condition that does not hold.
    #[must_use]
    pub fn no(condition: ConditionType, reason: Reason, message: impl Into<String>) -> Self {
        Self { condition, status: ConditionStatus::False, reason, message: message.into() }
    }

    /// A condition that cannot be told yet.
    #[must_use]
    pub fn unknown(condition: ConditionType, reason: Reason, message: impl Into<String>) -> Self {
        Self { condition, status: ConditionStatus::Unknown, reason, message: message.into() }
    }
}

/// The outcome of [`merge_conditions`].
#[derive(Clone, Debug, PartialEq)]
pub struct Merged {
    /// The conditions that the status should have.
    pub conditions: Vec<Condition>,
    /// Whether they differ from the ones it had.
    pub changed: bool,
}

/// The conditions that `verdicts` make of `old`.
///
/// `verdicts` is complete: a condition of ours without a verdict is removed. With two verdicts on one type the first
/// counts. `generation` is the one the verdicts are about, `now` becomes the transition time of a status that flips.
#[must_use]
pub fn merge_conditions(
    old: &[Condition],
    verdicts: &[Verdict],
    generation: Option<i64>,
    now: Timestamp,
) -> Merged {
    let ordered = ConditionType::ALL.into_iter();
    let verdicts = ordered.filter_map(|type_| verdicts.iter().find(|verdict| verdict.condition == type_));
    let conditions = dated(old, verdicts.map(|verdict| condition_of(verdict, generation)).collect(), now);
    let changed = conditions != old;
    Merged { conditions, changed }
}

/// `new`, our conditions as they should be, with the times of `old` where a status has not flipped and `now` where it
/// has, followed by those of `old` that are not ours.
#[must_use]
pub fn dated(old: &[Condition], new: Vec<Condition>, now: Timestamp) -> Vec<Condition> {
    let with_time = |mut condition: Condition| {
        let same = old.iter().find(|old| old.type_ == condition.type_ && old.status == condition.status);
        condition.last_transition_time = same.map_or(Time(now), |old| old.last_transition_time.clone());
        condition
    };
    let ours = |one: &&Condition| ConditionType::ALL.iter().any(|type_| type_.as_str() == one.type_);
    new.into_iter().map(with_time).chain(old.iter().filter(|one| !ours(one)).cloned()).collect()
}

fn condition_of(verdict: &Verdict, generation: Option<i64>) -> Condition {
    Condition {
        last_transition_time: Time(Timestamp::UNIX_EPOCH),
        message: shortened(&verdict.message),
        observed_generation: generation,
        reason: verdict.reason.as_str().to_owned(),
        status: verdict.status.as_str().to_owned(),
        type_: verdict.condition.as_str().to_owned(),
    }
}

fn shortened(message: &str) -> String {
    if message.len() <= MAX_MESSAGE {
        return message.to_owned();
    }
    let mut end = MAX_MESSAGE - '…'.len_utf8();
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    message.get(..end).map_or_else(String::new, |start| format!("{start}…"))
}

/// The condition of this type, when the status has it.
#[must_use]
pub fn condition(conditions: &[Condition], type_: ConditionType) -> Option<&Condition> {
    conditions.iter().find(|one| one.type_ == type_.as_str())
}

/// Whether the condition is present, `True`, and about this generation or a later one.
#[must_use]
pub fn is_true(conditions: &[Condition], type_: ConditionType, generation: Option<i64>) -> bool {
    condition(conditions, type_)
        .is_some_and(|one| one.status == "True" && one.observed_generation >= generation)
}

/// Schema of a list of conditions, as Kubernetes' own kinds have it.
pub(crate) fn condition_list(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 16,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["type", "status", "reason", "message", "lastTransitionTime"],
            "properties": {
                "type": { "type": "string", "maxLength": 316, "description": "What the condition is about." },
                "status": { "type": "string", "enum": ["True", "False", "Unknown"], "description": "Whether it holds." },
                "reason": { "type": "string", "minLength": 1, "maxLength": 1024,
                    "description": "Why, one word from the list in docs/reference.md." },
                "message": { "type": "string", "maxLength": 32768,
                    "description": "What happened and what to do about it." },
                "observedGeneration": { "type": "integer", "format": "int64", "minimum": 0,
                    "description": "The metadata.generation that the condition is about." },
                "lastTransitionTime": { "type": "string", "format": "date-time",
                    "description": "When the status last changed." },
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn accepted() -> Verdict {
        Verdict::yes(ConditionType::Accepted, Reason::Accepted, "fine")
    }

    #[test]
    fn the_same_verdict_again_changes_nothing() {
        let first = merge_conditions(&[], &[accepted()], Some(1), at(10));
        assert!(first.changed);
        let second = merge_conditions(&first.conditions, &[accepted()], Some(1), at(99));
        assert!(!second.changed);
        assert_eq!(second.conditions, first.conditions);
    }

    #[test]
    fn the_transition_time_moves_only_when_the_status_flips() {
        let old = merge_conditions(&[], &[accepted()], Some(1), at(10)).conditions;
        let reworded = Verdict::yes(ConditionType::Accepted, Reason::TtlMismatch, "the lowest TTL is served");
        let told = merge_conditions(&old, &[reworded], Some(2), at(20));
        assert!(told.changed);
        assert_eq!(told.conditions[0].last_transition_time, Time(at(10)));
        let refused = Verdict::no(ConditionType::Accepted, Reason::Conflict, "lost");
        let flipped = merge_conditions(&told.conditions, &[refused], Some(2), at(30));
        assert_eq!(flipped.conditions[0].last_transition_time, Time(at(30)));
    }

    #[test]
    fn a_condition_without_verdict_goes_and_a_foreign_one_stays() {
        let held = Verdict::yes(ConditionType::Held, Reason::Held, "held at 7");
        let mut old = merge_conditions(&[], &[accepted(), held], Some(1), at(10)).conditions;
        old.push(Condition { type_: "Audited".to_owned(), ..old[0].clone() });
        let merged = merge_conditions(&old, &[accepted()], Some(1), at(20));
        let types: Vec<_> = merged.conditions.iter().map(|one| one.type_.as_str()).collect();
        assert_eq!(types, ["Accepted", "Audited"]);
    }

    #[test]
    fn a_condition_about_an_older_generation_does_not_count() {
        let old = merge_conditions(&[], &[accepted()], Some(1), at(10)).conditions;
        assert!(is_true(&old, ConditionType::Accepted, Some(1)));
        assert!(!is_true(&old, ConditionType::Accepted, Some(2)));
        assert!(!is_true(&old, ConditionType::Ready, Some(1)));
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let verdict = Verdict::no(ConditionType::Accepted, Reason::InvalidData, "ü".repeat(4000));
        let message = merge_conditions(&[], &[verdict], None, at(1)).conditions.remove(0).message;
        assert!(message.len() <= MAX_MESSAGE && message.ends_with('…'));
    }
}
