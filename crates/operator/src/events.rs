//! Events: what a person would want to know has happened to an object, once for each time that it happens.

use bindy_api::{Condition, ConditionType};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};

use crate::rbac::{Access, Scope, Verb};

/// What is written here.
pub(crate) const ACCESS: &[Access] = &[Access {
    group: "events.k8s.io",
    resource: "events",
    verbs: &[Verb::Create, Verb::Patch],
    scope: Scope::Cluster,
}];

/// The conditions that are news when they get this status.
const NEWS: [(ConditionType, &str, EventType); 4] = [
    (ConditionType::Accepted, "False", EventType::Warning),
    (ConditionType::Held, "True", EventType::Warning),
    (ConditionType::Held, "False", EventType::Normal),
    (ConditionType::Degraded, "True", EventType::Warning),
];

/// Writes Events; equal ones of a few minutes become one with a count.
#[derive(Clone)]
pub(crate) struct Events(Recorder);

impl Events {
    pub(crate) fn new(client: Client, instance: Option<String>) -> Self {
        Self(Recorder::new(
            client,
            Reporter { controller: "bindy.firestoned.io/operator".to_owned(), instance },
        ))
    }

    /// Tells of a step of the replacement of the keys.
    pub(crate) async fn keys_replaced(&self, secret: &ObjectReference, reason: &str, note: &str) {
        let event = Event {
            type_: EventType::Normal,
            reason: reason.to_owned(),
            note: Some(note.to_owned()),
            action: "Rotate".to_owned(),
            secondary: None,
        };
        self.publish(&event, secret).await;
    }

    /// Tells what became of the conditions of an object.
    pub(crate) async fn tell(&self, object: &ObjectReference, old: &[Condition], new: &[Condition]) {
        for event in news(old, new) {
            self.publish(&event, object).await;
        }
    }

    async fn publish(&self, event: &Event, object: &ObjectReference) {
        // An Event is a courtesy: the object says the same.
        if let Err(error) = self.0.publish(event, object).await {
            tracing::debug!(%error, "Event not written");
        }
    }
}

fn news(old: &[Condition], new: &[Condition]) -> Vec<Event> {
    let changed = NEWS.iter().filter_map(|(type_, status, severity)| {
        let before = bindy_api::condition(old, *type_);
        let now = bindy_api::condition(new, *type_).filter(|now| now.status == *status)?;
        let same = before.is_some_and(|before| before.status == now.status && before.reason == now.reason);
        // That nothing is held is news only after something was.
        let quiet = *severity == EventType::Normal && before.is_none();
        (!same && !quiet).then(|| Event {
            type_: *severity,
            reason: if *severity == EventType::Normal { format!("Not{type_}") } else { now.reason.clone() },
            note: Some(now.message.clone()),
            action: "Reconcile".to_owned(),
            secondary: None,
        })
    });
    changed.collect()
}

#[cfg(test)]
mod tests {
    use bindy_api::{Reason, Verdict};

    use super::*;

    fn conditions(verdicts: &[Verdict]) -> Vec<Condition> {
        bindy_model::told::timeless(verdicts, Some(1))
    }

    #[test]
    fn a_refusal_is_news_once_and_a_success_is_none() {
        let bad = conditions(&[Verdict::no(ConditionType::Accepted, Reason::OutOfZone, "no")]);
        let good = conditions(&[Verdict::yes(ConditionType::Accepted, Reason::Accepted, "yes")]);
        assert_eq!(
            news(&[], &bad).iter().map(|event| event.reason.as_str()).collect::<Vec<_>>(),
            ["OutOfZone"]
        );
        assert!(news(&bad, &bad).is_empty() && news(&[], &good).is_empty() && news(&bad, &good).is_empty());
    }

    #[test]
    fn a_hold_is_news_when_it_begins_and_when_it_ends() {
        let held = conditions(&[Verdict::yes(ConditionType::Held, Reason::Held, "30 of 40 records")]);
        let free = conditions(&[Verdict::no(ConditionType::Held, Reason::AllInSync, "nothing")]);
        assert!(news(&[], &free).is_empty());
        assert_eq!(news(&free, &held)[0].type_, EventType::Warning);
        assert_eq!(news(&held, &free)[0].reason, "NotHeld");
    }
}
