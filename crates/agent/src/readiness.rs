//! When this server may be asked: a pure state machine over what was seen of named and its sources.
//!
//! ```text
//!   starting ── named answers, its catalog is the newest, each member loaded or excused ──► complete ── it listens to others ──► ready
//!      ▲                                                                                 │ ▲
//!      └──────────── named started anew ──────────────────────┬──────────────────────────┤ │ answers again
//!                                                             ├── named does not answer ◄┘─┘
//!                                                             └── named is about to be stopped
//! ```
//!
//! A member is excused when no source that can be reached has it and one keeps refusing it, when its transfer failed
//! twice and no sibling serves it, or when no source had it for a minute. Nothing that happens to zones later takes readiness away.

use std::collections::{BTreeMap, BTreeSet};

use bindy_zone::{Name, Serial};
use serde::Serialize;

/// Missing or excused zones that a report names.
const NAMED: usize = 16;
/// Unanswered questions in a row after which named counts as not answering.
const SILENCES: u32 = 3;

/// What keeps a member that is not loaded from being waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum Excuse {
    /// No source that can be reached has it, and one refuses it.
    Refused,
    /// Its transfer failed twice, and no sibling serves it.
    TransferFailed,
    /// For a minute no source had it: those that cannot be reached may have it, or nobody has.
    NoSource,
}

/// What is known of named.
#[derive(Clone, Debug, Default)]
pub(crate) struct Readiness {
    silent: u32,
    answers: bool,
    /// The version of the catalog that named has.
    catalog: Option<Serial>,
    /// No source has a newer catalog than named, or none says so.
    current: bool,
    /// When this named was started, as it says.
    boot_time: String,
    /// It listens to others than the agent.
    open: bool,
    phase: Phase,
    missing: BTreeSet<Name>,
    excused: BTreeMap<Name, Excuse>,
}

/// Whether a named that an agent sees for the first time listens to others than the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listens {
    /// It waits for the agent to open it.
    NotYet,
    /// An agent before this one has opened it.
    Opened,
    /// Always, whatever it has: nobody gives it its configuration.
    Always,
}

/// How far a named has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// It has not had everything yet.
    #[default]
    Starting,
    /// It had everything once.
    Complete,
    /// And it listens to others.
    Open,
    /// It is about to be stopped.
    Stopping,
}

/// The answer of `/readyz`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    /// Whether clients may ask this server.
    pub(crate) ready: bool,
    /// What is missing, in words; empty when nothing is.
    pub(crate) waiting_for: Vec<String>,
    /// Members that are not loaded.
    pub(crate) missing: usize,
    /// Some of them by name.
    pub(crate) missing_zones: Vec<String>,
    /// Members that are not waited for.
    pub(crate) excused: usize,
    /// Some of them by name, with the reason.
    pub(crate) excused_zones: Vec<(String, Excuse)>,
}

impl Readiness {
    /// named answered, or did not.
    pub(crate) fn named_answered(&mut self, answered: bool) {
        self.silent = if answered { 0 } else { self.silent.saturating_add(1) };
        self.answers = answered || (self.answers && self.silent < SILENCES);
        self.latch();
    }

    /// Whether named answers.
    pub(crate) fn answers(&self) -> bool {
        self.answers
    }

    /// The named with this boot time is about to be stopped, and still answers.
    pub(crate) fn stopping(&mut self, boot_time: &str) {
        if self.boot_time == boot_time {
            self.phase = Phase::Stopping;
        }
    }

    /// When this named was started, as it says.
    pub(crate) fn boot_time(&self) -> &str {
        &self.boot_time
    }

    /// named is another process than before, started at `boot_time`: what it has is unknown. One that an agent has opened had
    /// everything once.
    pub(crate) fn named_started(&mut self, boot_time: String, listens: Listens) {
        let open = listens != Listens::NotYet;
        let phase = if listens == Listens::Opened { Phase::Open } else { Phase::Starting };
        *self = Self { boot_time, open, current: open, phase, ..Self::default() };
    }

    /// The version of the catalog that named has, with its members as they are known here.
    pub(crate) fn catalog(&self) -> Option<Serial> {
        self.catalog
    }

    /// Whether the catalog that named has is known to be the newest.
    pub(crate) fn is_current(&self) -> bool {
        self.current
    }

    /// The named with this boot time has the newest catalog that there is to be had. A named that starts with the data of a
    /// volume may have had it for weeks.
    pub(crate) fn catalog_is_current(&mut self, boot_time: &str) {
        self.current |= self.boot_time == boot_time;
        self.latch();
    }

    /// Whether named listens to others than the agent.
    pub(crate) fn listens(&self) -> bool {
        self.open
    }

    /// Whether the process with this boot time listens to others.
    pub(crate) fn is_open(&self, boot_time: &str) -> bool {
        self.open && self.boot_time == boot_time
    }

    /// The boot time of a named of which nothing is missing but that it listens to others.
    pub(crate) fn may_open(&self) -> Option<&str> {
        (self.phase == Phase::Complete && !self.open).then_some(&self.boot_time)
    }

    /// The named with this boot time listens to others from now on.
    pub(crate) fn opened(&mut self, boot_time: &str) {
        self.open |= self.boot_time == boot_time;
        self.latch();
    }

    /// The serial and the members of the catalog that named has now; `loaded` says which of the new ones it answers for.
    pub(crate) fn catalog_has(
        &mut self,
        serial: Serial,
        members: &BTreeSet<Name>,
        loaded: impl Fn(&Name) -> bool,
    ) {
        self.catalog = Some(serial);
        self.missing = members.iter().filter(|zone| !loaded(zone)).cloned().collect();
        let missing = &self.missing;
        self.excused.retain(|zone, _| missing.contains(zone));
        self.latch();
    }

    /// Members that are not loaded yet, excused ones included: they still may come.
    pub(crate) fn missing(&self) -> impl Iterator<Item = &Name> {
        self.missing.iter()
    }

    /// named answers for `zone`.
    pub(crate) fn loaded(&mut self, zone: &Name) {
        self.missing.remove(zone);
        self.excused.remove(zone);
        self.latch();
    }

    /// What the sources say of a missing zone; `None` takes an excuse back.
    pub(crate) fn excuse(&mut self, zone: &Name, excuse: Option<Excuse>) {
        match excuse {
            Some(excuse) if self.missing.contains(zone) => drop(self.excused.insert(zone.clone(), excuse)),
            _ => drop(self.excused.remove(zone)),
        }
        self.latch();
    }

    fn latch(&mut self) {
        let has_everything =
            self.catalog.is_some() && self.current && self.missing.len() == self.excused.len();
        let complete = self.answers && has_everything;
        if complete && self.phase == Phase::Starting {
            self.phase = Phase::Complete;
        }
        if self.open && self.phase == Phase::Complete {
            self.phase = Phase::Open;
        }
    }

    /// Whether clients may ask this server.
    fn is_ready(&self) -> bool {
        self.phase == Phase::Open && self.answers
    }

    /// The state in words.
    pub(crate) fn report(&self) -> Report {
        let mut waiting_for = Vec::new();
        if self.phase == Phase::Stopping {
            waiting_for.push("named to stop".to_owned());
        } else if !self.answers {
            waiting_for.push("named to answer".to_owned());
        } else if self.phase == Phase::Starting {
            if self.catalog.is_none() {
                waiting_for.push("the catalog zone".to_owned());
            } else if !self.current {
                waiting_for.push("a source of the newest catalog".to_owned());
            }
            let pending = self.missing.len() - self.excused.len();
            if pending > 0 {
                waiting_for.push(format!("{pending} zones of the catalog"));
            }
        } else if self.phase == Phase::Complete {
            waiting_for.push("named to listen to others".to_owned());
        }
        let waited = self.missing.iter().filter(|zone| !self.excused.contains_key(*zone));
        Report {
            ready: self.is_ready(),
            waiting_for,
            missing: self.missing.len(),
            missing_zones: waited.take(NAMED).map(Name::to_string).collect(),
            excused: self.excused.len(),
            excused_zones: self
                .excused
                .iter()
                .take(NAMED)
                .map(|(zone, why)| (zone.to_string(), *why))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERIAL: Serial = Serial::new(1);

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    /// Of a named that answers everybody.
    fn open() -> Readiness {
        let mut readiness = Readiness::default();
        readiness.named_started(String::new(), Listens::Always);
        readiness
    }

    fn members() -> BTreeSet<Name> {
        [name("a.example"), name("b.example")].into()
    }

    #[test]
    fn an_answering_named_without_catalog_is_not_ready() {
        let mut readiness = open();
        assert_eq!(readiness.report().waiting_for, ["named to answer"]);
        readiness.named_answered(true);
        assert!(!readiness.is_ready());
        assert_eq!(readiness.report().waiting_for, ["the catalog zone"]);
    }

    #[test]
    fn every_member_has_to_be_loaded_or_excused() {
        let mut readiness = open();
        readiness.named_answered(true);
        readiness.catalog_has(SERIAL, &members(), |_| false);
        readiness.loaded(&name("a.example"));
        assert_eq!(readiness.report().missing_zones, ["b.example."]);
        readiness.excuse(&name("b.example"), Some(Excuse::Refused));
        assert!(readiness.is_ready());
        assert_eq!(readiness.report().excused_zones, [("b.example.".to_owned(), Excuse::Refused)]);
    }

    #[test]
    fn a_named_that_answers_nobody_else_may_open_once_it_has_everything_and_is_ready_then() {
        let mut readiness = Readiness::default();
        readiness.named_started("now".to_owned(), Listens::NotYet);
        readiness.named_answered(true);
        readiness.catalog_is_current("now");
        readiness.catalog_has(SERIAL, &members(), |_| false);
        assert_eq!(readiness.may_open(), None);
        readiness.catalog_has(SERIAL, &members(), |_| true);
        // It had everything once; what it gets later does not matter.
        readiness.catalog_has(SERIAL, &[name("c.example")].into(), |_| false);
        assert_eq!(readiness.may_open(), Some("now"));
        assert!(!readiness.is_ready() && !readiness.is_open("now"));
        assert_eq!(readiness.report().waiting_for, ["named to listen to others"]);
        readiness.opened("before");
        assert!(!readiness.is_ready(), "that was another process");
        readiness.opened("now");
        assert_eq!(readiness.may_open(), None);
        assert!(readiness.is_ready() && readiness.is_open("now") && !readiness.is_open("before"));
    }

    #[test]
    fn a_named_that_starts_with_an_old_catalog_may_open_once_it_has_the_members_of_the_newest() {
        let mut readiness = Readiness::default();
        readiness.named_started("now".to_owned(), Listens::NotYet);
        readiness.named_answered(true);
        readiness.catalog_has(SERIAL, &[name("a.example")].into(), |_| true);
        readiness.catalog_is_current("before");
        assert_eq!(readiness.may_open(), None);
        assert_eq!(readiness.report().waiting_for, ["a source of the newest catalog"]);
        readiness.catalog_has(SERIAL, &members(), |zone| *zone == name("a.example"));
        readiness.catalog_is_current("now");
        assert_eq!(readiness.may_open(), None);
        assert_eq!(readiness.report().missing_zones, ["b.example."]);
        readiness.loaded(&name("b.example"));
        assert_eq!(readiness.may_open(), Some("now"));
    }

    #[test]
    fn an_excuse_is_taken_back_when_a_source_has_the_zone() {
        let mut readiness = open();
        readiness.catalog_has(SERIAL, &members(), |zone| *zone == name("a.example"));
        readiness.excuse(&name("b.example"), Some(Excuse::Refused));
        readiness.excuse(&name("b.example"), None);
        readiness.named_answered(true);
        assert!(!readiness.is_ready());
    }

    #[test]
    fn growth_does_not_take_readiness_away() {
        let mut readiness = open();
        readiness.named_answered(true);
        readiness.catalog_has(SERIAL, &BTreeSet::new(), |_| true);
        assert!(readiness.is_ready());
        readiness.catalog_has(SERIAL, &members(), |_| false);
        assert!(readiness.is_ready());
        assert_eq!(readiness.report().missing, 2);
    }

    #[test]
    fn silence_of_named_does_and_its_answer_brings_it_back() {
        let mut readiness = open();
        readiness.named_answered(true);
        readiness.catalog_has(SERIAL, &BTreeSet::new(), |_| true);
        readiness.named_answered(false);
        readiness.named_answered(false);
        assert!(readiness.is_ready());
        readiness.named_answered(false);
        assert!(!readiness.is_ready());
        readiness.named_answered(true);
        assert!(readiness.is_ready());
    }

    #[test]
    fn a_named_that_is_about_to_stop_is_not_ready_until_another_one_runs() {
        let mut readiness = open();
        let start = |readiness: &mut Readiness| {
            readiness.named_started(String::new(), Listens::Always);
            readiness.named_answered(true);
            readiness.catalog_has(SERIAL, &BTreeSet::new(), |_| true);
        };
        start(&mut readiness);
        readiness.stopping("another");
        assert!(readiness.is_ready(), "that one has ended already");
        readiness.stopping("");
        readiness.named_answered(true);
        assert!(!readiness.is_ready());
        assert_eq!(readiness.report().waiting_for, ["named to stop"]);
        start(&mut readiness);
        assert!(readiness.is_ready());
    }

    #[test]
    fn a_new_named_has_to_load_everything_again() {
        let mut readiness = open();
        readiness.named_answered(true);
        readiness.catalog_has(SERIAL, &BTreeSet::new(), |_| true);
        readiness.named_started(String::new(), Listens::Always);
        readiness.named_answered(true);
        assert!(!readiness.is_ready());
    }
}
