//! How many zones and instances are not as they should be, by what their statuses say: every replica counts the same.

use std::collections::{HashMap, HashSet};

use bindy_api::ConditionType;
use bindy_model::{Kind, NamespacedName, ObjectKey};
use serde_json::Value;

use crate::metrics::{Metrics, State};

/// Objects that are in any [`State`]; of the others nothing is kept.
pub(crate) struct States {
    metrics: Metrics,
    known: HashMap<ObjectKey, Vec<State>>,
}

impl States {
    pub(crate) fn new(metrics: Metrics) -> Self {
        Self { metrics, known: HashMap::new() }
    }

    /// Forgets an object that does not exist any more.
    pub(crate) fn forget(&mut self, key: &ObjectKey) {
        self.put(key.clone(), Vec::new());
    }

    /// Forgets the objects of a kind that a new list lacks.
    pub(crate) fn retain(&mut self, kind: Kind, listed: &HashSet<NamespacedName>) {
        let gone = |key: &&ObjectKey| key.kind == kind && !listed.contains(&key.key);
        for key in self.known.keys().filter(gone).cloned().collect::<Vec<_>>() {
            self.forget(&key);
        }
    }

    /// Takes in what is wrong with a zone or instance.
    pub(crate) fn put(&mut self, key: ObjectKey, states: Vec<State>) {
        let kind = key.kind;
        for state in &states {
            self.metrics.objects(kind, *state).inc();
        }
        let before = match states.is_empty() {
            true => self.known.remove(&key),
            false => self.known.insert(key, states),
        };
        for state in before.into_iter().flatten() {
            self.metrics.objects(kind, state).dec();
        }
    }
}

/// What a status says is wrong. It is read as it is in the object, the rest of which need not be readable.
pub(crate) fn states(status: Option<&Value>) -> Vec<State> {
    let conditions = status.and_then(|status| status.get("conditions")?.as_array());
    let status = |type_: ConditionType| {
        let of_type = |one: &&Value| one.get("type").and_then(Value::as_str) == Some(type_.as_str());
        conditions?.iter().find(of_type)?.get("status")?.as_str()
    };
    let mut states = Vec::new();
    if status(ConditionType::Accepted) == Some("False") {
        states.push(State::Refused);
    }
    if status(ConditionType::Held) == Some("True") {
        states.push(State::Held);
    }
    // What is refused or held is not ready by that; Unknown is what a pause makes of it.
    if states.is_empty() && !matches!(status(ConditionType::Ready), Some("True" | "Unknown")) {
        states.push(State::Unready);
    }
    if status(ConditionType::Degraded) == Some("True") {
        states.push(State::Degraded);
    }
    states
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn zone(name: &str) -> ObjectKey {
        ObjectKey { kind: Kind::Zone, key: NamespacedName::new("dns", name) }
    }

    fn told(conditions: &[(&str, &str)]) -> Vec<State> {
        let condition = |(type_, status): &(&str, &str)| json!({"type": type_, "status": status});
        let conditions: Vec<Value> = conditions.iter().map(condition).collect();
        states(Some(&json!({ "conditions": conditions })))
    }

    fn counted(metrics: &Metrics) -> [i64; 4] {
        State::ALL.map(|state| metrics.objects(Kind::Zone, state).get())
    }

    const GOOD: &[(&str, &str)] =
        &[("Accepted", "True"), ("Ready", "True"), ("Held", "False"), ("Degraded", "False")];

    #[test]
    fn a_zone_is_counted_by_its_conditions_as_long_as_it_is_there() {
        let metrics = Metrics::new();
        let mut states = States::new(metrics.clone());
        for (conditions, [refused, unready, held, degraded]) in [
            (GOOD, [0, 0, 0, 0]),
            (&[("Accepted", "False"), ("Ready", "False")][..], [1, 0, 0, 0]),
            (&[("Accepted", "True"), ("Ready", "False")], [0, 1, 0, 0]),
            (&[("Accepted", "True"), ("Ready", "Unknown")], [0, 0, 0, 0]),
            (&[("Accepted", "True"), ("Ready", "False"), ("Held", "True")], [0, 0, 1, 0]),
            (&[("Accepted", "True"), ("Ready", "True"), ("Degraded", "True")], [0, 0, 0, 1]),
            (&[("Accepted", "True"), ("Ready", "False"), ("Degraded", "True")], [0, 1, 0, 1]),
            (&[], [0, 1, 0, 0]),
        ] {
            states.put(zone("z"), told(conditions));
            assert_eq!(counted(&metrics), [refused, unready, held, degraded], "{conditions:?}");
        }
        states.put(zone("z"), super::states(None));
        assert_eq!(counted(&metrics), [0, 1, 0, 0], "it has no status yet");
        states.forget(&zone("z"));
        assert_eq!(counted(&metrics), [0; 4]);
        assert!(states.known.is_empty());
    }

    #[test]
    fn what_a_new_listing_does_not_name_is_counted_no_more() {
        let metrics = Metrics::new();
        let mut states = States::new(metrics.clone());
        for name in ["kept", "gone"] {
            states.put(zone(name), told(&[("Ready", "False")]));
        }
        states.retain(Kind::Instance, &HashSet::new());
        assert_eq!(counted(&metrics), [0, 2, 0, 0]);
        states.retain(Kind::Zone, &[NamespacedName::new("dns", "kept")].into());
        assert_eq!(counted(&metrics), [0, 1, 0, 0]);
    }
}
