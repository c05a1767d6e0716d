//! The Secrets of downstreams outside of Bindy: made, replaced and taken back as `secrets` says, each for itself.
//!
//! One whose name somebody else has is left out, with everything that belongs to it; the others and the pods go on.

use std::collections::BTreeMap;

use bindy_model::workload::{Desired, HANDOUT_ANNOTATION, Handout, ObjectKind, ObjectNames};
use serde_json::json;
use tracing::info;

use super::calls::{self, Created, Mode};
use super::reconcile::Pass;
use super::secrets::{Step, step};
use super::settle::Stop;

impl Pass<'_> {
    /// Those that can be made.
    pub(super) async fn free_handouts(&mut self, wanted: Vec<Handout>) -> Result<Vec<Handout>, Stop> {
        let noted = self.noted_handouts();
        let mut free = Vec::new();
        for handout in wanted {
            let secret = self.handout(&handout.downstream);
            let noted = noted.get(&handout.downstream).map(String::as_str);
            if step(noted, &handout.fingerprint) == Step::CheckName
                && self.create(&secret, Mode::DryRun).await? == Created::Exists
            {
                self.collide(&secret);
            } else {
                free.push(handout);
            }
        }
        Ok(free)
    }

    /// Takes back what was made before and is not wanted so any more.
    pub(super) async fn withdraw_handouts(&mut self, wanted: &[Handout]) -> Result<(), Stop> {
        for (downstream, noted) in self.noted_handouts() {
            let same = wanted.iter().find(|handout| handout.downstream == downstream);
            if same.is_some_and(|handout| step(Some(&noted), &handout.fingerprint) == Step::Keep) {
                continue;
            }
            let secret = self.handout(&downstream);
            let deleted = calls::delete(&self.context.client, &secret, self.term).await;
            self.done(&secret, deleted)?;
            info!(instance = %self.key(), secret = secret.name, "the key of a downstream is taken back");
        }
        Ok(())
    }

    /// The fingerprints of the Secrets that were made, by downstream.
    fn noted_handouts(&self) -> BTreeMap<String, String> {
        let mut noted = BTreeMap::new();
        // What the first place says counts.
        for live in self.notes() {
            let annotations = live.pointer("/metadata/annotations").and_then(|all| all.as_object());
            for (name, value) in annotations.into_iter().flatten() {
                if let (Some(downstream), Some(print)) =
                    (name.strip_prefix(HANDOUT_ANNOTATION), value.as_str())
                {
                    noted.entry(downstream.to_owned()).or_insert_with(|| print.to_owned());
                }
            }
        }
        noted
    }

    /// The Secret of that downstream, by its name only.
    fn handout(&self, downstream: &str) -> Desired {
        let (namespace, name) =
            (self.key().namespace.clone(), ObjectNames::new(self.key()).handout(downstream));
        let metadata = json!({ "name": name, "namespace": namespace });
        let body = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": metadata });
        Desired { kind: ObjectKind::Secret, namespace, name, body }
    }
}
