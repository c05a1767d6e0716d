//! Events: what a person would want to know has happened to an object, once for each time that it happens.

use bindy_api::{Condition, ConditionType, Reason};
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
const NEWS: [(ConditionType, &str, EventType); 5] = [
    (ConditionType::Accepted, "False", EventType::Warning),
    (ConditionType::Held, "True", EventType::Warning),
    (ConditionType::Held, "False", EventType::Normal),
    (ConditionType::Degraded, "True", EventType::Warning),
    (ConditionType::Ready, "False", EventType::Warning),
];

/// Why something is not ready that will be, without anybody's doing, or when its zone, which is told, is released.
const PASSING: [Reason; 5] =
    [Reason::Publishing, Reason::Propagating, Reason::ServersStarting, Reason::WorkloadPending, Reason::Held];

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
        // That nothing is held is news only after something was; that something is not ready only when it is no passing state
        // of something new, and no other condition says so.
        let quiet = match *type_ {
            ConditionType::Ready => before.is_none() || passes(now) || is_told_beside(now, new),
            _ => *severity == EventType::Normal && before.is_none(),
        };
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

fn passes(condition: &Condition) -> bool {
    condition.reason.parse::<Reason>().is_ok_and(|reason| PASSING.contains(&reason))
}

fn is_told_beside(condition: &Condition, conditions: &[Condition]) -> bool {
    conditions.iter().any(|other| other.type_ != condition.type_ && other.reason == condition.reason)
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
    fn what_is_not_ready_any_more_is_news_unless_it_passes_or_another_condition_says_so() {
        let accepted = Verdict::yes(ConditionType::Accepted, Reason::Accepted, "yes");
        let told = |others: &[Verdict], reason| {
            let unready = Verdict::no(ConditionType::Ready, reason, "no");
            conditions(&[others, &[unready]].concat())
        };
        let unready = |reason| told(std::slice::from_ref(&accepted), reason);
        let ready =
            conditions(&[accepted.clone(), Verdict::yes(ConditionType::Ready, Reason::Served, "yes")]);
        let reasons = |old: &[Condition], new: &[Condition]| {
            news(old, new).into_iter().map(|event| event.reason).collect::<Vec<_>>()
        };
        assert_eq!(reasons(&ready, &unready(Reason::NoInstances)), ["NoInstances"]);
        assert_eq!(
            reasons(&unready(Reason::ServersStarting), &unready(Reason::WorkloadRefused)),
            ["WorkloadRefused"]
        );
        assert_eq!(reasons(&[], &unready(Reason::NoInstances)), [""; 0], "it is new");
        assert_eq!(reasons(&unready(Reason::NoInstances), &unready(Reason::NoInstances)), [""; 0]);
        assert_eq!(reasons(&unready(Reason::NoInstances), &ready), [""; 0]);
        for reason in PASSING {
            assert_eq!(reasons(&ready, &unready(reason)), [""; 0], "{reason}");
        }
        let refused = [Verdict::no(ConditionType::Accepted, Reason::OutOfZone, "no")];
        assert_eq!(reasons(&ready, &told(&refused, Reason::OutOfZone)), ["OutOfZone"], "once");
        let failing = [accepted, Verdict::yes(ConditionType::Degraded, Reason::ServersFailing, "a pod")];
        assert_eq!(reasons(&ready, &told(&failing, Reason::ServersFailing)), ["ServersFailing"], "once");
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
