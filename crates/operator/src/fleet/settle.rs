//! One object of an instance at a time: made as it should be, or removed, if it is the instance's own.

use std::sync::Arc;

use bindy_model::NamespacedName;
use bindy_model::workload::{
    APPLIED_ANNOTATION, Desired, ObjectKind, Ownership, TEMPLATE_ANNOTATION, difference, keep_address,
    keep_volumes, ownership,
};
use serde_json::{Value, json};
use tracing::info;

use super::calls::{self, Created, Failure, Mode};
use super::reconcile::{Pass, annotation};
use super::report::Problem;

/// The state of one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It was as it should be.
    Same,
    /// It is now.
    Changed,
    /// It is not, and cannot be made so now.
    Blocked,
}

/// The pass is over; the reason is among its problems.
pub(super) struct Stop;

/// Whether an object of ours is other than it should be.
pub(super) fn differs(live: &Value, desired: &Desired) -> bool {
    let mut body = desired.body.clone();
    keep_fixed(live, desired.kind, &mut body).is_some() || difference(live, &body).is_some()
}

/// Whether a Deployment or StatefulSet is to make other pods than it does.
pub(super) fn replaces(live: &Value, wanted: &Value) -> bool {
    let [noted, planned] = [live, wanted].map(|object| annotation(object, TEMPLATE_ANNOTATION));
    if noted.is_some() && noted != planned {
        return true;
    }
    let template = wanted.pointer("/spec/template");
    template.is_some_and(|template| difference(live, &json!({ "spec": { "template": template } })).is_some())
}

/// Gives a wanted object what nobody can change of the live one; `Some` when that is not what is asked for.
fn keep_fixed(live: &Value, kind: ObjectKind, wanted: &mut Value) -> Option<Problem> {
    match kind {
        ObjectKind::StatefulSet => keep_volumes(live, wanted).map(Problem::Volumes),
        ObjectKind::Service => keep_address(live, wanted).map(Problem::Address),
        _ => None,
    }
}

impl Pass<'_> {
    /// Makes an object as it should be, if it is not.
    pub(super) async fn settle(&mut self, desired: &Desired) -> Result<State, Stop> {
        let key = NamespacedName::new(&*desired.namespace, &*desired.name);
        let known = self.observed.get(desired.kind, &key);
        let id = (desired.kind, key);
        let live = match known {
            Some(live) if !self.memory.doubted.contains(&id) => Some(live),
            // Whatever lacks our label was not seen.
            known => match calls::get(&self.context.client, desired.kind, &id.1).await {
                Ok(live) => {
                    self.memory.doubted.remove(&id);
                    self.take(desired.kind, known.as_deref(), live.as_ref());
                    live.map(Arc::new)
                }
                Err(failure) => return self.fail(desired.kind, &desired.name, failure),
            },
        };
        let Some(live) = live else { return self.make(desired).await };
        match ownership(&live, &self.instance.metadata) {
            // Whoever writes a budget of his own knows what he wants; two would make evictions impossible.
            Ownership::Foreign if desired.kind == ObjectKind::PodDisruptionBudget => Ok(State::Same),
            Ownership::Foreign => {
                self.collide(desired);
                Ok(State::Blocked)
            }
            Ownership::Leaving => {
                // Its end may have been told before it was known: it is asked for the next time.
                self.memory.doubted.insert(id);
                let (kind, name) = (desired.kind, desired.name.clone());
                self.wait(Problem::Leaving { kind, name });
                Ok(State::Blocked)
            }
            Ownership::Ours => self.settle_ours(desired, &live).await,
        }
    }

    /// Takes in the answer to whether there is an object. One of somebody else is not kept: no watch tells what becomes of it.
    fn take(&self, kind: ObjectKind, known: Option<&Value>, live: Option<&Value>) {
        let of_instance = |live: &&Value| ownership(live, &self.instance.metadata) != Ownership::Foreign;
        if let Some(live) = live.filter(of_instance) {
            self.observed.answered(kind, live.clone());
        } else if let Some(known) = known {
            self.observed.answered_gone(kind, known);
        }
    }

    async fn settle_ours(&mut self, desired: &Desired, live: &Value) -> Result<State, Stop> {
        let mut desired = desired.clone();
        self.problems.extend(keep_fixed(live, desired.kind, &mut desired.body));
        match difference(live, &desired.body) {
            None => Ok(State::Same),
            Some(field) => self.correct(&desired, live, &field).await,
        }
    }

    /// Makes an object that is missing; with restraint when somebody removes it again and again, as the garbage collector does
    /// with those of an instance that is gone before its watch says so.
    async fn make(&mut self, desired: &Desired) -> Result<State, Stop> {
        let id = (desired.kind, NamespacedName::new(&*desired.namespace, &*desired.name));
        if self.memory.made.contains(&id) {
            let object = format!("{}/{} of {}", desired.kind, desired.name, self.instance.metadata.uid);
            if let Err(at) = self.memory.restraint.may(&object, "to exist", self.now) {
                self.next = self.next.min(at);
                let (kind, name) = (desired.kind, desired.name.clone());
                self.problems.push(Problem::Removed { kind, name });
                return Ok(State::Blocked);
            }
        }
        // What cannot be made now is nobody's removal.
        self.memory.made.remove(&id);
        let state = self.apply(desired, None, "it is missing").await?;
        if state == State::Changed {
            self.memory.made.insert(id);
        }
        Ok(state)
    }

    /// Applies an object that differs; with restraint when what is wanted is what was wanted before.
    async fn correct(&mut self, desired: &Desired, live: &Value, field: &str) -> Result<State, Stop> {
        let wanted = annotation(&desired.body, APPLIED_ANNOTATION).unwrap_or_default();
        if annotation(live, APPLIED_ANNOTATION) == Some(wanted) {
            let object = format!("{}/{}", desired.kind, desired.name);
            if let Err(at) = self.memory.restraint.may(&object, wanted, self.now) {
                self.next = self.next.min(at);
                let (kind, name) = (desired.kind, desired.name.clone());
                self.problems.push(Problem::Contested { kind, name, field: field.to_owned() });
                return Ok(State::Blocked);
            }
        }
        let uid = live.pointer("/metadata/uid").and_then(Value::as_str);
        self.apply(desired, uid, field).await
    }

    async fn apply(&mut self, desired: &Desired, uid: Option<&str>, why: &str) -> Result<State, Stop> {
        match calls::apply(&self.context.client, desired, uid, self.term).await {
            Ok(live) => {
                info!(instance = %self.key(), object = ?desired, why, "applied");
                self.observed.answered(desired.kind, live);
                Ok(State::Changed)
            }
            Err(failure) => {
                // It stays as it was last seen; whether that is so still is asked first.
                let key = NamespacedName::new(&*desired.namespace, &*desired.name);
                self.memory.doubted.insert((desired.kind, key));
                self.fail(desired.kind, &desired.name, failure)
            }
        }
    }

    /// Removes an object that should not be there any more, if it is ours: the very one that was seen, as it was seen.
    pub(super) async fn remove(&mut self, kind: ObjectKind, name: &str) -> Result<(), Stop> {
        let Some(live) = self.ours(kind, name) else { return Ok(()) };
        match calls::remove(&self.context.client, kind, &live, self.term).await {
            Ok(()) => {
                info!(instance = %self.key(), object = %format_args!("{kind} {name}"), "removed");
                self.observed.answered_gone(kind, &live);
                self.memory.made.remove(&(kind, NamespacedName::new(&*self.key().namespace, name)));
                Ok(())
            }
            // It has changed meanwhile: looked at again.
            Err(Failure::Conflict(_)) => {
                self.again = true;
                Ok(())
            }
            Err(failure) => self.fail(kind, name, failure).map(drop),
        }
    }

    pub(super) async fn create(&mut self, secret: &Desired, mode: Mode) -> Result<Created, Stop> {
        let created = calls::create(&self.context.client, secret, mode, self.term).await;
        self.done(secret, created)
    }

    pub(super) fn done<T>(&mut self, object: &Desired, result: Result<T, Failure>) -> Result<T, Stop> {
        match result {
            Ok(value) => Ok(value),
            Err(failure) => self.fail(object.kind, &object.name, failure).and(Err(Stop)),
        }
    }

    /// Notes a failure; one that would hit the next request as well ends the pass.
    fn fail(&mut self, kind: ObjectKind, name: &str, failure: Failure) -> Result<State, Stop> {
        let name = name.to_owned();
        match failure {
            Failure::Unavailable(message) => self.stop(Problem::Unavailable(message)),
            Failure::Term(over) => self.stop(Problem::Unavailable(over.to_string())),
            Failure::Missing => self.stop(Problem::Unavailable(format!("{kind} {name} vanished"))),
            Failure::Conflict(message) | Failure::Refused(message) => {
                self.wait(Problem::Refused { kind, name, message });
                Ok(State::Blocked)
            }
        }
    }

    pub(super) fn collide(&mut self, object: &Desired) {
        let (kind, name) = (object.kind, object.name.clone());
        self.wait(Problem::Collision { kind, name });
    }

    fn wait(&mut self, problem: Problem) {
        self.problems.push(problem);
        self.again = true;
    }

    pub(super) fn stop<T>(&mut self, problem: Problem) -> Result<T, Stop> {
        self.problems.push(problem);
        Err(Stop)
    }
}
