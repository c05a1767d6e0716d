//! Which source is asked for a zone: a pure state machine, time is an argument.
//!
//! ```text
//!             connect, silence, bad signature              probe answered
//!   live ───────────────────────────────────────► lost ───────────────────► live ("returned": named is nudged)
//!    ▲  REFUSED, SERVFAIL, old serial: passed over for   │ probe after 250 ms, 500 ms, then each second
//!    └─ that zone only, for a few seconds ◄──────────────┘
//! ```
//!
//! Order for a zone: the source that answered its last SOA query (so SOA and transfer meet the same version), whoever told of a
//! version that named does not have yet, then by kind, then as configured. Sources passed over come last; lost ones not at all.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use bindy_model::{SourceConfig, SourceKind as Kind};
use bindy_zone::{Name, Serial};

/// How long a zone's transfer follows its SOA query to one source.
const STICKY: Duration = Duration::from_secs(5);
/// How long a source that refused a zone or had an old version of it comes last for it.
const PASSED_OVER: Duration = Duration::from_secs(3);
/// How long a NOTIFY counts.
const ANNOUNCED: Duration = Duration::from_secs(60);
/// First and longest pause between probes of a lost source.
const PROBE_FIRST: Duration = Duration::from_millis(250);
const PROBE_LONGEST: Duration = Duration::from_millis(1_000);
/// Zones remembered at once; more than that are forgotten early, which costs an extra question only.
const ZONES: usize = 20_000;

/// Why a source did not give what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// No connection, silence, a bad signature: nothing will come from it.
    Unreachable,
    /// An answer that says no, or an older version than this server has or was told of.
    PassOver,
}

/// What is known of one zone.
#[derive(Clone, Debug, Default)]
struct ZoneState {
    sticky: Option<(String, Instant)>,
    notified: Option<(Option<String>, Serial, Instant)>,
    passed_over: Vec<(String, Instant)>,
}

#[derive(Clone, Debug)]
struct Source {
    name: String,
    rank: u8,
    /// The only zones that it is asked for; empty when it may be asked for any.
    zones: BTreeSet<Name>,
    lost: Option<Lost>,
}

#[derive(Clone, Copy, Debug)]
struct Lost {
    pause: Duration,
    probe_at: Instant,
}

impl Source {
    fn may_have(&self, zone: &Name) -> bool {
        self.zones.is_empty() || self.zones.contains(zone)
    }
}

/// The sources of one server and what is known of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources {
    list: Vec<Source>,
    zones: HashMap<Name, ZoneState>,
    /// When a source has returned for the last time.
    returned: Option<Instant>,
}

impl Sources {
    /// Takes a new list; what is known of sources that stay is kept. A new source counts as live until it fails.
    pub(crate) fn configure(&mut self, sources: &[&SourceConfig]) {
        let has_upstream = sources.iter().any(|source| source.kind == Kind::Upstream);
        let rank = |kind: Kind| match kind {
            Kind::Outside | Kind::Upstream => 0,
            Kind::Operator if !has_upstream => 0,
            Kind::Sibling => 1,
            Kind::Operator => 2,
            Kind::Downstream => 3,
        };
        let known = |name: &String| self.list.iter().find(|source| source.name == *name);
        let mut list: Vec<Source> = sources
            .iter()
            .map(|source| Source {
                name: source.name.clone(),
                rank: rank(source.kind),
                zones: source.zones.clone(),
                lost: known(&source.name).and_then(|source| source.lost),
            })
            .collect();
        list.sort_by_key(|source| source.rank);
        self.list = list;
    }

    /// The sources to ask for `zone`, which named has at serial `own`, best first; empty when none is live.
    pub(crate) fn candidates(&self, zone: &Name, own: Option<Serial>, now: Instant) -> Vec<String> {
        let state = self.zones.get(zone);
        let sticky = state.and_then(|state| state.sticky.as_ref()).filter(|(_, until)| *until > now);
        let notifier = state
            .and_then(|state| state.notified.as_ref())
            .filter(|(_, serial, until)| *until > now && own.is_none_or(|own| serial.is_after(own)))
            .and_then(|(name, ..)| name.as_ref());
        let passed = |name: &String| {
            state.is_some_and(|state| {
                state.passed_over.iter().any(|(other, until)| other == name && *until > now)
            })
        };
        let gives = |source: &&Source| source.lost.is_none() && source.may_have(zone);
        let mut live: Vec<&Source> = self.list.iter().filter(gives).collect();
        live.sort_by_key(|source| {
            let name = &source.name;
            let place = if passed(name) {
                3
            } else if sticky.is_some_and(|(sticky, _)| sticky == name) {
                0
            } else if notifier == Some(name) {
                1
            } else {
                2
            };
            (place, source.rank)
        });
        live.into_iter().map(|source| source.name.clone()).collect()
    }

    /// The serial that the last NOTIFY for `zone` announced, or a source that was asked.
    pub(crate) fn announced(&self, zone: &Name, now: Instant) -> Option<Serial> {
        let (_, serial, until) = self.zones.get(zone)?.notified.as_ref()?;
        (*until > now).then_some(*serial)
    }

    /// A verified NOTIFY: `sender` is the source it came from, where that can be told.
    pub(crate) fn notified(&mut self, zone: &Name, serial: Serial, sender: Option<String>, now: Instant) {
        if let Some(source) = self.list.iter_mut().find(|source| Some(&source.name) == sender.as_ref())
            && let Some(lost) = &mut source.lost
        {
            lost.probe_at = now;
        }
        let state = self.zone(zone, now);
        *state = ZoneState { notified: Some((sender, serial, now + ANNOUNCED)), ..ZoneState::default() };
    }

    /// `source` said, when it was asked, that it has this version: what is older is not good enough meanwhile.
    pub(crate) fn found(&mut self, zone: &Name, serial: Serial, source: &str, now: Instant) {
        if self.announced(zone, now).is_none_or(|known| serial.is_after(known)) {
            self.zone(zone, now).notified = Some((Some(source.to_owned()), serial, now + ANNOUNCED));
        }
    }

    /// `source` answered a question about `zone` that was put to it at `asked`; its transfer goes there too, unless another
    /// source has returned meanwhile.
    pub(crate) fn answered(&mut self, source: &str, zone: &Name, asked: Instant, now: Instant) {
        let still_best = self.returned.is_none_or(|returned| returned < asked);
        let state = self.zone(zone, now);
        if still_best {
            state.sticky = Some((source.to_owned(), now + STICKY));
        }
        state.passed_over.retain(|(name, until)| name != source && *until > now);
    }

    /// Whether `source` answered the last question about `zone`, so that its transfer goes there.
    pub(crate) fn answered_last(&self, source: &str, zone: &Name, now: Instant) -> bool {
        let sticky = self.zones.get(zone).and_then(|state| state.sticky.as_ref());
        sticky.is_some_and(|(name, until)| name == source && *until > now)
    }

    /// `source` did not give `zone`. Returns whether it is lost by that.
    pub(crate) fn failed(&mut self, source: &str, zone: &Name, failure: Failure, now: Instant) -> bool {
        let state = self.zone(zone, now);
        if state.sticky.as_ref().is_some_and(|(name, _)| name == source) {
            state.sticky = None;
        }
        match failure {
            Failure::PassOver => {
                state.passed_over.retain(|(name, until)| name != source && *until > now);
                state.passed_over.push((source.to_owned(), now + PASSED_OVER));
                false
            }
            Failure::Unreachable => self.lose(source, now),
        }
    }

    fn lose(&mut self, name: &str, now: Instant) -> bool {
        let Some(source) = self.list.iter_mut().find(|source| source.name == name) else { return false };
        if source.lost.is_some() {
            return false;
        }
        source.lost = Some(Lost { pause: PROBE_FIRST, probe_at: now + PROBE_FIRST });
        true
    }

    /// The sources whose probe is due; the next one of each is scheduled by this.
    pub(crate) fn due_probes(&mut self, now: Instant) -> Vec<String> {
        let mut due = Vec::new();
        for source in &mut self.list {
            if let Some(lost) = &mut source.lost
                && lost.probe_at <= now
            {
                lost.pause = (lost.pause * 2).min(PROBE_LONGEST);
                lost.probe_at = now + lost.pause;
                due.push(source.name.clone());
            }
        }
        due
    }

    /// What a probe or a routine question to `source` gave. Returns whether it has returned by that.
    pub(crate) fn probed(&mut self, source: &str, alive: bool, now: Instant) -> bool {
        if !alive {
            self.lose(source, now);
            return false;
        }
        let found = self.list.iter_mut().find(|candidate| candidate.name == source);
        let returned = found.is_some_and(|source| source.lost.take().is_some());
        if returned {
            self.returned = Some(now);
            // Whoever answered meanwhile may know less, and what it did not have before it was lost it may have now.
            for state in self.zones.values_mut() {
                state.sticky = None;
                state.passed_over.retain(|(name, _)| name != source);
            }
        }
        returned
    }

    /// Every source and whether it is live, in order of preference.
    pub(crate) fn states(&self) -> impl Iterator<Item = (&str, bool)> {
        self.list.iter().map(|source| (source.name.as_str(), source.lost.is_none()))
    }

    fn zone(&mut self, zone: &Name, now: Instant) -> &mut ZoneState {
        if self.zones.len() >= ZONES && !self.zones.contains_key(zone) {
            self.zones.retain(|_, state| state.notified.as_ref().is_some_and(|(.., until)| *until > now));
            if self.zones.len() >= ZONES {
                self.zones.clear();
            }
        }
        self.zones.entry(zone.clone()).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone() -> Name {
        Name::parse("example.com").unwrap()
    }

    fn sources(list: &[(&str, Kind)]) -> Sources {
        let mut sources = Sources::default();
        configure(&mut sources, list);
        sources
    }

    fn configure(sources: &mut Sources, list: &[(&str, Kind)]) {
        let config = |(name, kind): &(&str, Kind)| SourceConfig {
            name: (*name).to_owned(),
            kind: *kind,
            address: "192.0.2.1:53".parse().unwrap(),
            key: Name::root(),
            zones: if *kind == Kind::Outside { BTreeSet::from([zone()]) } else { BTreeSet::new() },
        };
        let configs: Vec<SourceConfig> = list.iter().map(config).collect();
        sources.configure(&configs.iter().collect::<Vec<_>>());
    }

    fn secondary() -> Sources {
        sources(&[
            ("down", Kind::Downstream),
            ("operator", Kind::Operator),
            ("sibling", Kind::Sibling),
            ("up-1", Kind::Upstream),
            ("up-2", Kind::Upstream),
        ])
    }

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_source_that_returns_is_asked_before_the_one_that_answered_meanwhile() {
        let (mut sources, now) = (secondary(), Instant::now());
        for upstream in ["up-1", "up-2"] {
            assert!(sources.failed(upstream, &zone(), Failure::Unreachable, now));
        }
        sources.answered("sibling", &zone(), now, now);
        assert_eq!(sources.candidates(&zone(), None, now)[0], "sibling");
        sources.failed("up-2", &zone(), Failure::PassOver, now);
        assert!(sources.probed("up-2", true, now + MS));
        assert_eq!(sources.candidates(&zone(), None, now + MS)[0], "up-2");
        // An answer that was under way then changes nothing.
        sources.answered("sibling", &zone(), now, now + 2 * MS);
        assert_eq!(sources.candidates(&zone(), None, now + 2 * MS)[0], "up-2");
        sources.answered("sibling", &zone(), now + 2 * MS, now + 3 * MS);
        assert_eq!(sources.candidates(&zone(), None, now + 3 * MS)[0], "sibling");
    }

    #[test]
    fn upstreams_come_first_and_downstreams_last() {
        let now = Instant::now();
        assert_eq!(
            secondary().candidates(&zone(), None, now),
            ["up-1", "up-2", "sibling", "operator", "down"]
        );
        let primary = sources(&[("sibling", Kind::Sibling), ("operator", Kind::Operator)]);
        assert_eq!(primary.candidates(&zone(), None, now), ["operator", "sibling"]);
    }

    #[test]
    fn a_server_outside_is_asked_for_its_own_zones_only() {
        let now = Instant::now();
        let list = [("operator", Kind::Upstream), ("hq", Kind::Outside), ("sibling", Kind::Sibling)];
        let sources = sources(&list);
        assert_eq!(sources.candidates(&zone(), None, now), ["operator", "hq", "sibling"]);
        let other = Name::parse("example.org").unwrap();
        assert_eq!(sources.candidates(&other, None, now), ["operator", "sibling"]);
    }

    #[test]
    fn a_transfer_follows_the_soa_query_for_a_while() {
        let now = Instant::now();
        let mut sources = secondary();
        sources.answered("sibling", &zone(), now, now);
        assert_eq!(sources.candidates(&zone(), None, now + 4_000 * MS)[0], "sibling");
        assert_eq!(sources.candidates(&zone(), None, now + STICKY)[0], "up-1");
        let other = Name::parse("example.org").unwrap();
        assert_eq!(sources.candidates(&other, None, now)[0], "up-1");
    }

    #[test]
    fn the_sender_of_the_last_notify_is_preferred_and_ends_stickiness() {
        let now = Instant::now();
        let mut sources = secondary();
        sources.answered("up-2", &zone(), now, now);
        sources.notified(&zone(), Serial::new(7), Some("operator".to_owned()), now);
        assert_eq!(sources.candidates(&zone(), Some(Serial::new(6)), now)[0], "operator");
        assert_eq!(sources.candidates(&zone(), Some(Serial::new(7)), now)[0], "up-1", "it has it");
        assert_eq!(sources.announced(&zone(), now), Some(Serial::new(7)));
        assert_eq!(sources.announced(&zone(), now + ANNOUNCED), None);
    }

    #[test]
    fn a_refusal_moves_a_source_behind_for_that_zone_only() {
        let now = Instant::now();
        let mut sources = secondary();
        sources.answered("up-1", &zone(), now, now);
        assert!(!sources.failed("up-1", &zone(), Failure::PassOver, now));
        assert_eq!(sources.candidates(&zone(), None, now), ["up-2", "sibling", "operator", "down", "up-1"]);
        assert_eq!(sources.candidates(&Name::root(), None, now)[0], "up-1");
        assert_eq!(sources.candidates(&zone(), None, now + PASSED_OVER)[0], "up-1");
    }

    #[test]
    fn a_lost_source_is_left_out_probed_within_two_seconds_and_returns() {
        let mut now = Instant::now();
        let mut sources = secondary();
        assert!(sources.failed("up-1", &zone(), Failure::Unreachable, now));
        assert!(!sources.failed("up-1", &zone(), Failure::Unreachable, now));
        assert_eq!(sources.candidates(&zone(), None, now)[0], "up-2");
        assert!(sources.due_probes(now).is_empty());
        for _ in 0..20 {
            let asked = now;
            while sources.due_probes(now).is_empty() {
                now += MS;
            }
            assert!(now - asked <= PROBE_LONGEST + MS);
            assert!(!sources.probed("up-1", false, now));
        }
        assert!(sources.probed("up-1", true, now));
        assert!(!sources.probed("up-1", true, now));
        assert_eq!(sources.candidates(&zone(), None, now)[0], "up-1");
    }

    #[test]
    fn there_is_nobody_to_ask_when_all_are_lost() {
        let now = Instant::now();
        let mut sources = sources(&[("operator", Kind::Operator)]);
        sources.failed("operator", &zone(), Failure::Unreachable, now);
        assert!(sources.candidates(&zone(), None, now).is_empty());
    }

    #[test]
    fn a_notify_from_a_lost_source_has_it_probed_at_once() {
        let now = Instant::now();
        let mut sources = secondary();
        sources.failed("operator", &zone(), Failure::Unreachable, now);
        sources.notified(&zone(), Serial::new(1), Some("operator".to_owned()), now);
        assert_eq!(sources.due_probes(now), ["operator"]);
    }

    #[test]
    fn a_new_configuration_keeps_what_is_known_of_sources_that_stay() {
        let now = Instant::now();
        let mut sources = secondary();
        sources.failed("up-1", &zone(), Failure::Unreachable, now);
        configure(&mut sources, &[("up-1", Kind::Upstream), ("up-3", Kind::Upstream)]);
        assert_eq!(sources.candidates(&zone(), None, now), ["up-3"]);
    }

    #[test]
    fn memory_of_zones_is_bounded() {
        let now = Instant::now();
        let mut sources = secondary();
        for number in 0..ZONES + 10 {
            sources.answered("up-1", &Name::parse(&format!("z{number}.example")).unwrap(), now, now);
        }
        assert!(sources.zones.len() <= ZONES);
    }
}
