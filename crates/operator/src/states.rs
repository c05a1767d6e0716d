//! How many zones and instances are not as they should be, by what their statuses say: every replica counts the same.

use std::collections::{HashMap, HashSet};

use bindy_api::{ConditionType, Object};
use bindy_model::{Kind, NamespacedName, ObjectKey};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

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

    /// Takes in what the status of a zone or instance says.
    pub(crate) fn note(&mut self, object: &Object) {
        let (kind, metadata, conditions) = match object {
            Object::Bind9Instance(it) => {
                (Kind::Instance, &it.metadata, it.status.as_ref().map(|status| &status.conditions))
            }
            Object::DNSZone(it) => {
                (Kind::Zone, &it.metadata, it.status.as_ref().map(|status| &status.conditions))
            }
            Object::Record(_) => return,
        };
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        let key = NamespacedName::new(text(&metadata.namespace), text(&metadata.name));
        self.put(ObjectKey { kind, key }, states(conditions.map(Vec::as_slice).unwrap_or_default()));
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

    fn put(&mut self, key: ObjectKey, states: Vec<State>) {
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

/// What these conditions say is wrong.
fn states(conditions: &[Condition]) -> Vec<State> {
    let status = |type_| bindy_api::condition(conditions, type_).map(|one| one.status.as_str());
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

    fn zone(name: &str, conditions: &[(&str, &str)]) -> Object {
        let conditions: Vec<_> = conditions
            .iter()
            .map(|(type_, status)| {
                json!({"type": type_, "status": status, "reason": "Served", "message": "",
                    "lastTransitionTime": "2026-01-01T00:00:00Z"})
            })
            .collect();
        let object = json!({
            "apiVersion": "bindy.firestoned.io/v1beta1", "kind": "DNSZone",
            "metadata": {"namespace": "dns", "name": name}, "spec": {"zoneName": "example.com"},
            "status": {"conditions": conditions},
        });
        Object::decode(object).unwrap()
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
            states.note(&zone("z", conditions));
            assert_eq!(counted(&metrics), [refused, unready, held, degraded], "{conditions:?}");
        }
        let key = ObjectKey { kind: Kind::Zone, key: NamespacedName::new("dns", "z") };
        states.forget(&key);
        assert_eq!(counted(&metrics), [0; 4]);
        assert!(states.known.is_empty());
    }

    #[test]
    fn what_a_new_listing_does_not_name_is_counted_no_more() {
        let metrics = Metrics::new();
        let mut states = States::new(metrics.clone());
        for name in ["kept", "gone"] {
            states.note(&zone(name, &[("Ready", "False")]));
        }
        states.retain(Kind::Instance, &HashSet::new());
        assert_eq!(counted(&metrics), [0, 2, 0, 0]);
        states.retain(Kind::Zone, &[NamespacedName::new("dns", "kept")].into());
        assert_eq!(counted(&metrics), [0, 1, 0, 0]);
    }
}
