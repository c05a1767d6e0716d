//! Reads a [`History`] against the invariants of the design.
//!
//! | [`Rule`] | what it means |
//! |---|---|
//! | `SerialReused` | one serial names two contents, among the published versions or among the answers |
//! | `SerialBackward` | a published serial does not come after the one before it |
//! | `UnknownSerial` | a server gives a serial that was never published |
//! | `WrongRcode` | SERVFAIL, REFUSED and the like from a server that had already answered right, outside of an outage |
//! | `WrongAnswer` | an answer that belongs to no published version: a vanished record, half of a change, an empty zone |
//! | `Backward` | an answer older than one that the same server had given before, unless its disk lost something in an outage |
//! | `Lost` | no answer, outside of an outage |
//!
//! An answer is held against the versions from the newest one that the same server is known to have served when the
//! question was sent: answers may overtake each other only between questions that were under way together.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bindy_zone::{Name, Version};
use domain::base::iana::Rcode;

use crate::expected::Expected;
use crate::history::{History, Observation, Outage, Outcome};
use crate::prober::Question;

/// The published versions of each zone, in the order of publication.
pub type Published = BTreeMap<Name, Vec<Version>>;

/// What has been violated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "explained by the table above")]
pub enum Rule {
    SerialReused,
    SerialBackward,
    UnknownSerial,
    WrongRcode,
    WrongAnswer,
    Backward,
    Lost,
}

/// One violation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which rule.
    pub rule: Rule,
    /// When the question concerned was sent; nothing when no answer is concerned.
    pub at: Option<Duration>,
    /// What happened, with server, question, answer and what was expected.
    pub explanation: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.at.map(|at| format!(" at {at:.3?}")).unwrap_or_default();
        write!(f, "{:?}{at}: {}", self.rule, self.explanation)
    }
}

/// Every violation of a history, in the order of time; at most `limit` of each rule are explained.
pub fn check(history: &History, published: &Published, limit: usize) -> Vec<Violation> {
    let mut found = Found { violations: Vec::new(), counts: HashMap::new(), limit };
    check_published(published, &mut found);
    check_serials(history, published, &mut found);
    let mut groups: BTreeMap<(&str, &Name), Vec<&Observation>> = BTreeMap::new();
    for observation in &history.observations {
        if let Some((zone, _)) = zone_of(published, &observation.question) {
            groups.entry((&observation.server, zone)).or_default().push(observation);
        }
    }
    for ((server, zone), observations) in groups {
        let versions = published.get(zone).map_or(&[][..], Vec::as_slice);
        let outages = history.outages.iter().filter(|outage| &*outage.server == server);
        Server::new(versions, outages).check(&observations, &mut found);
    }
    found.violations.sort_by_key(|violation| violation.at);
    found.violations
}

/// [`check`], as an error that lists the violations.
pub fn verify(history: &History, published: &Published) -> anyhow::Result<()> {
    let violations = check(history, published, 10);
    anyhow::ensure!(!history.observations.is_empty(), "a history without a single answer proves nothing");
    anyhow::ensure!(history.dropped == 0, "{} observations did not fit into the history", history.dropped);
    let lines: Vec<String> = violations.iter().map(ToString::to_string).collect();
    anyhow::ensure!(lines.is_empty(), "{} violations:\n{}", lines.len(), lines.join("\n"));
    Ok(())
}

struct Found {
    violations: Vec<Violation>,
    counts: HashMap<Rule, usize>,
    limit: usize,
}

impl Found {
    fn add(&mut self, rule: Rule, at: Option<Duration>, explanation: String) {
        let count = self.counts.entry(rule).or_default();
        *count += 1;
        if *count <= self.limit {
            self.violations.push(Violation { rule, at, explanation });
        }
    }
}

/// The published zone closest to the name.
fn zone_of<'a>(published: &'a Published, question: &Question) -> Option<(&'a Name, &'a Vec<Version>)> {
    let mut name = Some(question.name.clone());
    while let Some(candidate) = name {
        if let Some(found) = published.get_key_value(&candidate) {
            return Some(found);
        }
        name = candidate.parent();
    }
    None
}

fn check_published(published: &Published, found: &mut Found) {
    for (zone, versions) in published {
        let mut contents = HashMap::new();
        for version in versions {
            let first = contents.entry(version.serial).or_insert(&version.content);
            if **first != version.content {
                let difference = crate::dns::difference(first, &version.content).unwrap_or_default();
                let text = format!("{zone} serial {} was published twice:\n{difference}", version.serial);
                found.add(Rule::SerialReused, None, text);
            }
        }
        for pair in versions.windows(2) {
            if let [before, after] = pair
                && before != after
                && before.serial != after.serial
                && !after.serial.is_after(before.serial)
            {
                let text = format!("{zone} serial {} was published after {}", after.serial, before.serial);
                found.add(Rule::SerialBackward, None, text);
            }
        }
    }
}

/// Answers that carry a serial: it was published, and everybody says the same under it.
fn check_serials(history: &History, published: &Published, found: &mut Found) {
    let mut said: HashMap<(&Question, u32), &Observation> = HashMap::new();
    for observation in &history.observations {
        let Outcome::Answer { serial: Some(serial), .. } = &*observation.outcome else { continue };
        let Some((zone, versions)) = zone_of(published, &observation.question) else { continue };
        if !versions.iter().any(|version| version.serial == *serial) {
            let text = format!("{}: serial {serial} of {zone} was never published", describe(observation));
            found.add(Rule::UnknownSerial, Some(observation.sent), text);
        }
        let first = said.entry((&observation.question, serial.get())).or_insert(observation);
        if first.outcome != observation.outcome {
            let text = format!("{}, but {}", describe(observation), describe(first));
            found.add(Rule::SerialReused, Some(observation.sent), text);
        }
    }
}

fn describe(observation: &Observation) -> String {
    let Question { name, rtype } = &*observation.question;
    format!("{} answered {name} {rtype} with {}", observation.server, observation.outcome)
}

/// What one server said about one zone.
struct Server<'a> {
    versions: &'a [Version],
    /// Times without service: the start of each, the earliest end, and the first right answer after that.
    outages: Vec<(Duration, Option<Duration>, Option<Duration>)>,
    /// Those of them, from start to end, in which it may give older versions than before.
    losses: Vec<(Duration, Duration)>,
    answers: HashMap<Arc<Question>, Arc<[Option<Expected>]>>,
}

impl<'a> Server<'a> {
    fn new(versions: &'a [Version], outages: impl Iterator<Item = &'a Outage>) -> Self {
        // Before its first right answer every server is as if it had been stopped.
        let start = (Duration::ZERO, Some(Duration::ZERO), None);
        let (mut times, mut losses) = (vec![start], Vec::new());
        for outage in outages {
            times.push((outage.from, outage.until, None));
            losses.extend(outage.until.filter(|_| outage.loses).map(|until| (outage.from, until)));
        }
        Self { versions, outages: times, losses, answers: HashMap::new() }
    }

    fn check(mut self, observations: &[&Observation], found: &mut Found) {
        // `known` holds, by the time at which it became known, the newest version that was served.
        let mut known: Vec<(Duration, usize)> = Vec::new();
        let mut ordered = observations.to_vec();
        ordered.sort_by_key(|observation| observation.ended);
        for observation in ordered {
            let position = known.partition_point(|(since, _)| *since <= observation.sent);
            let floor =
                position.checked_sub(1).and_then(|last| known.get(last)).map_or(0, |(_, version)| *version);
            let loses = self
                .losses
                .iter()
                .any(|(from, until)| *from <= observation.ended && observation.sent < *until);
            let floor = if loses { 0 } else { floor };
            let Some(version) = self.judge(observation, floor, found) else { continue };
            self.end_outages(observation);
            if known.last().is_none_or(|(_, newest)| version > *newest) {
                known.push((observation.ended, version));
            }
        }
    }

    /// The oldest version from `floor` on that gives this answer, if there is one.
    fn judge(&mut self, observation: &Observation, floor: usize, found: &mut Found) -> Option<usize> {
        let at = Some(observation.sent);
        let lost = *observation.outcome == Outcome::Lost;
        if lost || is_failure(&observation.outcome) {
            if !self.excuses(observation) {
                found.add(if lost { Rule::Lost } else { Rule::WrongRcode }, at, describe(observation));
            }
            return None;
        }
        let answers = self.expected(&observation.question);
        let matches = |index: &usize| {
            answers.get(*index).and_then(Option::as_ref).is_some_and(|a| a.matches(&observation.outcome))
        };
        if let Some(version) = (floor..answers.len()).find(matches) {
            return Some(version);
        }
        let expected = some_of(answers.iter().skip(floor).flatten().map(Expected::explain).collect());
        let serial =
            |index: usize| self.versions.get(index).map_or_else(String::new, |v| v.serial.to_string());
        let said = describe(observation);
        if let Some(older) = (0..floor).rev().find(matches) {
            let (was, had) = (serial(older), serial(floor));
            let text = format!("{said}: that is version {was}, it had served {had}; {expected}");
            found.add(Rule::Backward, at, text);
        } else {
            found.add(Rule::WrongAnswer, at, format!("{said}; {expected}"));
        }
        None
    }

    fn expected(&mut self, question: &Arc<Question>) -> Arc<[Option<Expected>]> {
        let versions = self.versions;
        let answers = self.answers.entry(Arc::clone(question)).or_insert_with(|| {
            versions.iter().map(|version| Expected::of(version, &question.name, question.rtype)).collect()
        });
        Arc::clone(answers)
    }

    fn end_outages(&mut self, right: &Observation) {
        for (_, until, ended) in &mut self.outages {
            if ended.is_none() && until.is_some_and(|until| right.sent >= until) {
                *ended = Some(right.ended);
            }
        }
    }

    /// Whether the question was under way within an outage.
    fn excuses(&self, observation: &Observation) -> bool {
        self.outages.iter().any(|(from, _, ended)| {
            *from <= observation.ended && ended.is_none_or(|ended| observation.sent < ended)
        })
    }
}

fn is_failure(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Answer { rcode, .. } if *rcode != Rcode::NOERROR && *rcode != Rcode::NXDOMAIN)
}

fn some_of(mut answers: Vec<String>) -> String {
    answers.dedup();
    let more = answers.len().saturating_sub(3);
    answers.truncate(3);
    let suffix = if more > 0 { format!(" or {more} others") } else { String::new() };
    format!("expected {}{suffix}", answers.join(" or "))
}
