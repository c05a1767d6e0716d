//! Which configuration each server runs with: agents are told when it is their turn to take what the instance asks for, and asked
//! until they have it.
//!
//! ```text
//!   fleet ──what is wanted──┐
//!                           ├─► Asked (a server) ──TXT, with pauses that grow──► agent
//!   pods ──who is ready─────┘     │  └──► Heard ──► status of the instance
//!                                 └─ its turn: the one before has taken it, and is still ready; nobody refuses it or is missing
//! ```
//! A changed named.conf is mounted in all pods, and of the servers that are ready one after the other takes it: one that does harm
//! stops at the first. (BIND answers nothing while it reads a configuration with many zones, either.) A server that is not ready
//! waits for nobody, since no client asks it. Who has what is wanted is asked nothing more until something else is wanted of
//! it, or it is started anew.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bindy_engine::{EngineHandle, Server, sleep_until};
use bindy_model::{CONFIG_QUESTION, ConfigDigests, ConfigStates, NamespacedName, ServerId, turn_question};
use bindy_wire::{ClientError, Connection, Endpoint};
use bindy_zone::{Name, Rtype};
use futures::{StreamExt, stream};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::fleet::Reports;
use crate::servers::{self, QUESTIONS, TIMEOUTS};

/// The pauses before each question after the first; the last one repeats.
const PAUSES_MS: [u64; 8] = [100, 200, 500, 1_000, 2_000, 2_000, 5_000, 10_000];
/// Questions in a row without an answer after which it is said that there is none.
const SILENCES: usize = 3;
/// From when a server has taken it to the next one's turn, at least: what kills a server at once has shown by then.
/// As long as a new pod has to be ready before the next one is replaced.
const APART: Duration = Duration::from_secs(5);
/// How long a server holds up the others that says nothing any more in its turn, or is not ready while another one has shown that it can
/// be taken: with 100 000 zones BIND answers nothing for many seconds while it takes it. And how long one does that is missing, or
/// not ready since something else was wanted: perhaps that was harmful, and this is.
const HOLDS_UP: Duration = Duration::from_secs(180);

/// What a server says of its configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// This.
    Said(ConfigStates),
    /// It gives no answer, for this reason.
    Nothing(String),
}

/// What every server that was asked says; the others were not asked yet.
pub(crate) type AllHeard = Arc<BTreeMap<ServerId, Heard>>;

/// One server, and how far it has come.
#[derive(Clone, Debug)]
struct Asked {
    server: Server,
    /// What it should run with.
    wanted: ConfigDigests,
    /// Since when this named.conf is wanted of it, and it is ready or not as it is now.
    since: Instant,
    heard: Option<Heard>,
    /// Questions since something else was wanted, or it was its turn.
    attempt: usize,
    /// Questions in a row without an answer.
    silences: usize,
    /// When its turn came, while it was ready; when it took what it should, since it has.
    turn: Option<Instant>,
    /// When it is asked next; `None`: it has what is wanted.
    due: Option<Instant>,
}

impl Asked {
    fn new(server: &Server, wanted: &ConfigDigests, heard: Option<Heard>, now: Instant) -> Self {
        let (server, wanted) = (server.clone(), wanted.clone());
        Self { server, wanted, since: now, heard, attempt: 0, silences: 0, turn: None, due: Some(now) }
    }

    fn has(&self) -> bool {
        self.heard.as_ref().is_some_and(|heard| has(heard, &self.wanted))
    }

    fn refuses(&self) -> bool {
        matches!(&self.heard, Some(Heard::Said(states)) if states.refusal(&self.wanted).is_some())
    }

    fn is_ready(&self) -> bool {
        self.server.state.ready
    }

    /// Whether others have to wait until it has taken what it may, or refuses it. One that is not ready any more may be so because of
    /// that.
    fn holds_up(&self, proven: bool, now: Instant) -> bool {
        let Some(turn) = self.turn.filter(|_| !(self.is_ready() && self.has())) else { return false };
        let shown = if self.is_ready() { self.silences > 0 } else { proven };
        !shown || now < turn + HOLDS_UP
    }

    /// Whether the server is told to take what is wanted. One that has it is told as well: it may be about to take what was
    /// wanted before.
    fn is_told(&self) -> bool {
        self.turn.is_some() || !self.is_ready() || self.has()
    }

    /// Tells the server what to take, if it may, and asks what it has.
    fn question(&self) -> Question {
        Question {
            id: self.server.state.id.clone(),
            endpoint: self.server.endpoint.clone(),
            turn: self.is_told().then(|| self.wanted.named.clone()),
        }
    }

    fn take(&mut self, answer: Result<ConfigStates, ClientError>, now: Instant) {
        let pause = PAUSES_MS.get(self.attempt).or(PAUSES_MS.last()).copied().unwrap_or_default();
        self.attempt += 1;
        self.silences = if answer.is_ok() { 0 } else { self.silences + 1 };
        let (had, told) = (self.has(), self.is_told());
        match answer {
            Ok(state) => self.heard = Some(Heard::Said(state)),
            // What it refuses it will still refuse.
            Err(error) if self.silences >= SILENCES && !self.refuses() => {
                self.heard = Some(Heard::Nothing(error.to_string()));
            }
            Err(_) => {}
        }
        if self.has() && !had {
            self.turn = self.turn.map(|_| now);
        }
        self.due = (!(told && self.has())).then_some(now + Duration::from_millis(pause));
    }
}

/// What is asked of one server.
struct Question {
    id: ServerId,
    endpoint: Endpoint,
    /// The digest of the named.conf that it may take.
    turn: Option<String>,
}

fn has(heard: &Heard, wanted: &ConfigDigests) -> bool {
    matches!(heard, Heard::Said(states) if states.has(wanted))
}

/// Asks the servers of the instances that are reported on.
pub(crate) struct Configs {
    pub(crate) engine: EngineHandle,
    pub(crate) reports: watch::Receiver<Arc<Reports>>,
    pub(crate) servers: watch::Receiver<servers::Known>,
    pub(crate) heard: watch::Sender<AllHeard>,
}

impl Configs {
    /// Asks until cancelled, and has the instances looked at of which something is heard.
    pub(crate) async fn run(mut self, cancel: CancellationToken) {
        let Ok(question) = Name::parse(CONFIG_QUESTION) else { return };
        let mut asked = BTreeMap::new();
        loop {
            let reports = self.reports.borrow_and_update().clone();
            let servers = self.servers.borrow_and_update().clone();
            let now = Instant::now();
            asked = follow(asked, servers.as_deref().map_or(&[], Vec::as_slice), &reports, now);
            let turn = give_turns(&mut asked, &reports, now);
            let due = asked.values().filter(|one| one.due.is_some_and(|due| due <= now));
            let due: Vec<Question> = due.map(Asked::question).collect();
            self.tell(&asked).await;
            if due.is_empty() {
                let next = asked.values().filter_map(|one| one.due).chain(turn).min();
                tokio::select! {
                    () = cancel.cancelled() => return,
                    changed = self.reports.changed() => if changed.is_err() { return },
                    changed = self.servers.changed() => if changed.is_err() { return },
                    () = sleep_until(next) => {}
                }
                continue;
            }
            let question = &question;
            let answers = stream::iter(due)
                .map(|one| async move { (one.id.clone(), ask(&one, question).await) })
                .buffer_unordered(QUESTIONS)
                .collect::<Vec<_>>();
            let Some(answers) = cancel.run_until_cancelled(answers).await else { return };
            for (id, answer) in answers {
                if let Some(one) = asked.get_mut(&id) {
                    one.take(answer, Instant::now());
                }
            }
        }
    }

    /// Says what was heard, and has the instances looked at for which it is something else than before.
    async fn tell(&self, asked: &BTreeMap<ServerId, Asked>) {
        let heard = asked.iter().filter_map(|(id, one)| Some((id.clone(), one.heard.clone()?)));
        let now: AllHeard = Arc::new(heard.collect());
        let before = self.heard.send_replace(Arc::clone(&now));
        let changed = now.keys().filter(|id| before.get(*id) != now.get(*id));
        let changed: BTreeSet<&NamespacedName> = changed.map(|id| &id.instance).collect();
        for instance in changed {
            self.engine.look_at(instance.clone()).await;
        }
    }
}

/// The servers that have to be asked now, with what was heard of them before. One that was started anew, or has become ready,
/// has not said that it has what is wanted; whose turn it was is what it was.
fn follow(
    mut before: BTreeMap<ServerId, Asked>,
    servers: &[Server],
    reports: &Reports,
    now: Instant,
) -> BTreeMap<ServerId, Asked> {
    let there = servers.iter().filter(|server| !server.state.going);
    let asked = there.filter_map(|server| {
        let id = &server.state.id;
        let wanted = reports.get(&id.instance)?.config.as_ref()?;
        let known = before.remove(id);
        let same = known.as_ref().filter(|one| one.wanted.named == wanted.named);
        let turn = same.and_then(|one| {
            // One that was not ready has been told to take it, and may do so any moment.
            let has_come_up = server.state.ready && !one.is_ready();
            one.turn.or(has_come_up.then_some(now))
        });
        let since = same.filter(|one| one.is_ready() == server.state.ready).map_or(now, |one| one.since);
        let known = known.filter(|one| one.server.state.incarnation == server.state.incarnation);
        let asked = match known {
            Some(known) if known.wanted == *wanted && known.is_ready() == server.state.ready => {
                Asked { server: server.clone(), ..known }
            }
            // Who was heard to have it may have something else by now; one that was silent has just got ready.
            known => {
                let heard = known.and_then(|known| known.heard);
                let heard = heard.filter(|heard| matches!(heard, Heard::Said(_)) && !has(heard, wanted));
                Asked { turn, since, ..Asked::new(server, wanted, heard, now) }
            }
        };
        Some((id.clone(), asked))
    });
    asked.collect()
}

/// Says whose turn it is from now on, at most one more server of each instance; returns when to look again.
fn give_turns(asked: &mut BTreeMap<ServerId, Asked>, reports: &Reports, now: Instant) -> Option<Instant> {
    let mut of: BTreeMap<&NamespacedName, Vec<&mut Asked>> = BTreeMap::new();
    for (id, one) in asked {
        of.entry(&id.instance).or_default().push(one);
    }
    let in_force = of.into_iter().filter_map(|(instance, servers)| Some((reports.get(instance)?, servers)));
    let in_force = in_force.filter(|(report, _)| !report.paused);
    in_force.filter_map(|(report, servers)| give_turn(servers, report.complete, now)).min()
}

fn give_turn(mut servers: Vec<&mut Asked>, complete: bool, now: Instant) -> Option<Instant> {
    let proven = servers.iter().any(|one| one.is_ready() && one.has());
    // Of whom nothing was heard yet may refuse it.
    if servers.iter().any(|one| one.heard.is_none() || one.refuses() || one.holds_up(proven, now)) {
        return None;
    }
    let taken = servers.iter().filter_map(|one| one.turn).max().map(|last| last + APART);
    let changed = servers.iter().map(|one| one.since).max().filter(|_| !complete);
    let free = taken.max(changed.map(|last| last + HOLDS_UP));
    let can_be_asked = |one: &Asked| one.silences == 0;
    let mut next = servers.iter_mut().filter(|one| one.is_ready() && one.turn.is_none() && !one.has());
    let next = next.find(|one| can_be_asked(one))?;
    if let Some(free) = free.filter(|free| now < *free) {
        return Some(free);
    }
    (next.turn, next.attempt, next.due) = (Some(now), 0, Some(now));
    None
}

async fn ask(question: &Question, config: &Name) -> Result<ConfigStates, ClientError> {
    let mut connection = Connection::open(&question.endpoint, TIMEOUTS).await?;
    let turn = question.turn.as_deref().and_then(|digest| turn_question(digest).ok());
    // An agent of the version before knows the second question only; it takes what it finds.
    for question in turn.iter().chain([config]) {
        let answer = connection.query(question, Rtype::TXT).await?;
        let texts = answer.records.iter().filter(|record| record.rtype == Rtype::TXT);
        if let Some(states) = ConfigStates::from_rdata(texts.map(|record| &*record.rdata)) {
            return Ok(states);
        }
    }
    Err(ClientError::Malformed("it does not say which configuration it runs with"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::WorkloadReport;
    use bindy_model::{ConfigState, ServerState};

    fn reports(config: &str) -> Reports {
        let report = WorkloadReport {
            uid: "u".to_owned(),
            generation: 1,
            problems: Vec::new(),
            waits: false,
            paused: false,
            complete: true,
            config: Some(digests(config)),
            addresses: None,
            pods: None,
            former: None,
            troubles: Vec::new(),
            misplaced: Vec::new(),
        };
        [(NamespacedName::new("default", "dns"), report)].into()
    }

    fn server(incarnation: u64, ready: bool) -> Server {
        named("dns-1", incarnation, ready)
    }

    fn named(name: &str, incarnation: u64, ready: bool) -> Server {
        let id = ServerId { instance: NamespacedName::new("default", "dns"), name: name.to_owned() };
        Server {
            state: ServerState { id, incarnation, ready, going: false },
            endpoint: Endpoint { address: "192.0.2.1:5353".parse().unwrap(), key: None },
        }
    }

    fn digests(of: &str) -> ConfigDigests {
        ConfigDigests { named: of.to_owned(), agent: of.to_owned() }
    }

    fn taken(digest: &str) -> ConfigStates {
        let state = ConfigState::Taken(digest.to_owned());
        ConfigStates { named: state.clone(), agent: Some(state) }
    }

    #[test]
    fn a_server_is_asked_until_it_has_what_is_wanted_and_again_when_that_changes_or_it_starts_anew() {
        let now = Instant::now();
        let after = |before: &BTreeMap<ServerId, Asked>, server: Server, wanted: &str| {
            follow(before.clone(), &[server], &reports(wanted), now)
        };
        let one = |asked: &BTreeMap<ServerId, Asked>| asked.values().next().unwrap().clone();
        let mut asked = after(&BTreeMap::new(), server(1, true), "first");
        assert_eq!(one(&asked).due, Some(now));
        let mut at = now;
        for pause in [100, 200, 500, 1_000, 2_000, 2_000] {
            asked.values_mut().for_each(|one| one.take(Ok(taken("none")), at));
            let due = one(&asked).due.unwrap();
            assert_eq!(due - at, Duration::from_millis(pause));
            at = due;
        }
        asked.values_mut().for_each(|one| one.take(Ok(taken("first")), at));
        assert!(one(&asked).due.is_some(), "it may be about to take what it was told before");
        asked.values_mut().for_each(|one| one.take(Ok(taken("first")), at));
        assert_eq!(one(&asked).due, None, "it was told");
        assert_eq!(one(&after(&asked, server(1, true), "first")).due, None, "asked for what it has");
        let changed = one(&after(&asked, server(1, true), "second"));
        assert_eq!((changed.due, changed.heard), (Some(now), Some(Heard::Said(taken("first")))));
        let again = one(&after(&after(&asked, server(1, true), "second"), server(1, true), "first"));
        assert_eq!((again.due, again.heard), (Some(now), None), "it may have taken the second one meanwhile");
        let anew = one(&after(&asked, server(2, true), "first"));
        assert_eq!((anew.due, anew.heard), (Some(now), None));
        let unready = one(&after(&asked, server(1, false), "first"));
        assert_eq!((unready.due, unready.heard), (Some(now), None));
        let mut going = server(1, false);
        going.state.going = true;
        assert!(after(&asked, going, "first").is_empty(), "it is about to be gone");
    }

    fn refused(digest: &str) -> ConfigStates {
        let state = ConfigState::Refused { digest: digest.to_owned(), text: "why".to_owned() };
        ConfigStates { named: state, agent: None }
    }

    /// Three servers, of which each says what it has.
    struct Fleet {
        servers: Vec<(Server, ConfigStates)>,
        asked: BTreeMap<ServerId, Asked>,
        paused: bool,
        now: Instant,
    }

    impl Fleet {
        fn new() -> Self {
            let servers = ["a", "b", "c"].map(|name| (named(name, 1, true), taken("old")));
            Self { servers: servers.into(), asked: BTreeMap::new(), paused: false, now: Instant::now() }
        }

        fn reports(&self, wanted: &str) -> Reports {
            let mut reports = reports(wanted);
            for report in reports.values_mut() {
                report.complete = self.servers.iter().filter(|(server, _)| server.state.ready).count() == 3;
                report.paused = self.paused;
            }
            reports
        }

        fn follow(&mut self, reports: &Reports) {
            let servers: Vec<Server> = self.servers.iter().map(|(server, _)| server.clone()).collect();
            self.asked = follow(std::mem::take(&mut self.asked), &servers, reports, self.now);
        }

        /// Those that are told to take `wanted`; all are asked twice, `APART`, the second time with a turn in force.
        fn told(&mut self, wanted: &str) -> String {
            let mut told = String::new();
            for _ in 0..2 {
                self.now += APART;
                let reports = self.reports(wanted);
                self.follow(&reports);
                give_turns(&mut self.asked, &reports, self.now);
                told.clear();
                for (server, says) in &self.servers {
                    let Some(asked) = self.asked.get_mut(&server.state.id) else { continue };
                    let has = asked.has();
                    told.extend(asked.question().turn.filter(|_| !has).map(|_| server.state.id.name.clone()));
                    asked.take(Ok(says.clone()), self.now);
                }
            }
            told
        }

        fn says(&mut self, index: usize, says: ConfigStates) {
            self.servers[index].1 = says;
        }
    }

    #[test]
    fn of_the_servers_that_are_ready_one_after_the_other_is_told_what_to_take() {
        let mut fleet = Fleet::new();
        assert_eq!(fleet.told("new"), "a");
        assert_eq!(fleet.told("new"), "a", "it has not taken it yet");
        fleet.says(0, taken("new"));
        assert_eq!(fleet.told("new"), "b");
        fleet.says(1, taken("new"));
        assert_eq!(fleet.told("newer"), "a", "something else is wanted meanwhile");
        for index in 0..3 {
            fleet.says(index, taken("newer"));
        }
        assert_eq!(fleet.told("newer"), "");
    }

    #[test]
    fn the_next_turn_comes_no_sooner_than_five_seconds_after_the_last_one_was_taken() {
        let mut fleet = Fleet::new();
        assert_eq!(fleet.told("new"), "a");
        fleet.now += 9 * APART;
        fleet.asked.values_mut().next().unwrap().take(Ok(taken("new")), fleet.now);
        assert_eq!(give_turns(&mut fleet.asked, &reports("new"), fleet.now), Some(fleet.now + APART));
        assert_eq!(fleet.asked.values().filter(|one| one.turn.is_some()).count(), 1);
    }

    #[test]
    fn a_server_that_was_told_before_it_got_ready_may_still_be_at_it() {
        let mut fleet = Fleet::new();
        fleet.servers[2].0 = named("c", 1, false);
        fleet.says(0, taken("new"));
        fleet.says(1, taken("new"));
        assert_eq!(fleet.told("new"), "c");
        fleet.servers[2].0 = named("c", 1, true);
        fleet.says(1, taken("old"));
        fleet.servers[1].0 = named("b", 2, true);
        assert_eq!(fleet.told("new"), "c", "nobody else meanwhile");
    }

    #[test]
    fn what_one_refuses_the_others_are_not_told_to_take_and_its_correction_is() {
        let mut fleet = Fleet::new();
        assert_eq!(fleet.told("bad"), "a");
        fleet.says(0, refused("bad"));
        assert_eq!(fleet.told("bad"), "a");
        assert_eq!(fleet.told("bad"), "a");
        assert_eq!(fleet.told("good"), "a");
        fleet.says(0, taken("good"));
        assert_eq!(fleet.told("good"), "b");
    }

    #[test]
    fn a_leader_that_hears_of_a_refusal_gives_nobody_a_turn() {
        let mut fleet = Fleet::new();
        fleet.says(1, refused("bad"));
        assert_eq!(fleet.told("bad"), "");
        assert_eq!(fleet.told("bad"), "");
        assert_eq!(fleet.told("good"), "a");
    }

    #[test]
    fn what_a_server_does_not_survive_the_others_are_not_told_to_take_before_it_is_back_or_gone() {
        let mut fleet = Fleet::new();
        assert_eq!(fleet.told("bad"), "a");
        fleet.says(0, taken("bad"));
        for incarnation in [1, 2] {
            fleet.servers[0].0 = named("a", incarnation, false);
            assert_eq!(fleet.told("bad"), "", "it has it, and is not ready");
        }
        fleet.servers[0].0 = named("a", 2, true);
        assert_eq!(fleet.told("bad"), "b");
        fleet.servers[1].0 = named("b", 1, false);
        assert_eq!(fleet.told("bad"), "b", "it may still be at it");
        fleet.now += HOLDS_UP;
        assert_eq!(fleet.told("bad"), "bc", "one that is ready has it");

        let mut fleet = Fleet::new();
        assert_eq!(fleet.told("bad"), "a");
        fleet.servers[0].0 = named("a", 1, false);
        assert_eq!(fleet.told("bad"), "a");
        fleet.servers.remove(0);
        assert_eq!(fleet.told("bad"), "", "it is missing");
        fleet.servers.insert(0, (named("d", 1, false), taken("bad")));
        assert_eq!(fleet.told("bad"), "", "what takes its place has it, and is not ready");
        fleet.now += HOLDS_UP;
        assert_eq!(fleet.told("bad"), "b");
    }

    #[test]
    fn while_a_server_is_down_no_further_change_reaches_the_others_for_three_minutes() {
        let mut fleet = Fleet::new();
        assert_eq!(fleet.told("bad"), "a");
        fleet.says(0, taken("bad"));
        fleet.servers[0].0 = named("a", 1, false);
        for wanted in ["worse", "bad", "old", "worse"] {
            assert!(!fleet.told(wanted).contains(['b', 'c']), "{wanted}");
        }
        fleet.now += HOLDS_UP;
        assert_eq!(fleet.told("worse"), "ab");

        let mut fleet = Fleet::new();
        assert_eq!(fleet.told("bad"), "a");
        fleet.servers[0].0 = named("a", 1, false);
        assert_eq!(fleet.told("good"), "a");
        fleet.says(0, taken("good"));
        fleet.servers[0].0 = named("a", 1, true);
        assert_eq!(fleet.told("good"), "b", "it has cured it");
    }

    #[test]
    fn nobody_gets_a_turn_while_the_instance_is_paused() {
        let mut fleet = Fleet::new();
        assert_eq!(fleet.told("new"), "a");
        fleet.says(0, taken("new"));
        fleet.paused = true;
        assert_eq!(fleet.told("new"), "");
        fleet.paused = false;
        assert_eq!(fleet.told("new"), "b");
    }

    #[test]
    fn a_server_that_is_still_at_what_is_wanted_no_more_is_told_what_is() {
        let mut fleet = Fleet::new();
        assert_eq!(fleet.told("new"), "a");
        fleet.follow(&reports("old"));
        let first = fleet.asked.values_mut().next().unwrap();
        first.take(Ok(taken("old")), fleet.now);
        assert!(first.due.is_some(), "it has not taken the new one yet");
        assert_eq!(first.question().turn.as_deref(), Some("old"));
        first.take(Ok(taken("old")), fleet.now);
        assert_eq!(first.due, None);
    }

    #[test]
    fn servers_that_are_not_ready_wait_for_nobody_and_one_that_cannot_be_asked_holds_nobody_up() {
        let mut fleet = Fleet::new();
        fleet.servers[1].0 = named("b", 1, false);
        assert_eq!(fleet.told("new"), "b");
        fleet.now += HOLDS_UP;
        assert_eq!(fleet.told("new"), "ab");
        let mut fleet = Fleet::new();
        fleet.follow(&reports("new"));
        for (one, answers) in fleet.asked.values_mut().zip([false, true, true]) {
            one.take(if answers { Ok(taken("old")) } else { Err(ClientError::Closed) }, fleet.now);
        }
        give_turns(&mut fleet.asked, &reports("new"), fleet.now);
        let turns = |fleet: &Fleet| fleet.asked.values().map(|one| one.turn.is_some()).collect::<Vec<_>>();
        assert_eq!(turns(&fleet), [false; 3], "it may refuse it");
        for _ in 1..SILENCES {
            fleet.asked.values_mut().next().unwrap().take(Err(ClientError::Closed), fleet.now);
        }
        give_turns(&mut fleet.asked, &reports("new"), fleet.now);
        assert_eq!(turns(&fleet), [false, true, false]);
    }

    #[test]
    fn a_server_that_falls_silent_in_its_turn_is_told_of_and_holds_up_the_others_for_three_minutes() {
        let mut fleet = Fleet::new();
        assert_eq!(fleet.told("new"), "a");
        let first = |fleet: &mut Fleet| {
            let first = fleet.asked.values_mut().next().unwrap();
            first.take(Err(ClientError::Closed), fleet.now);
            first.heard.clone()
        };
        let heard = [(); SILENCES].map(|()| matches!(first(&mut fleet), Some(Heard::Nothing(_))));
        assert_eq!(heard, [false, false, true]);
        assert_eq!(give_turns(&mut fleet.asked, &reports("new"), fleet.now), None);
        assert_eq!(fleet.asked.values().filter(|one| one.turn.is_some()).count(), 1);
        fleet.now += HOLDS_UP;
        give_turns(&mut fleet.asked, &reports("new"), fleet.now);
        assert_eq!(fleet.asked.values().filter(|one| one.turn.is_some()).count(), 2);
    }

    #[test]
    fn whose_turn_it_was_stays_when_only_the_configuration_of_agents_changes() {
        let mut fleet = Fleet::new();
        assert_eq!(fleet.told("bad"), "a");
        fleet.says(0, taken("bad"));
        fleet.servers[0].0 = named("a", 1, false);
        assert_eq!(fleet.told("bad"), "");
        let mut reports = reports("bad");
        for report in reports.values_mut() {
            report.config = Some(ConfigDigests { named: "bad".to_owned(), agent: "another".to_owned() });
        }
        for _ in 0..2 {
            fleet.now += APART;
            fleet.follow(&reports);
            give_turns(&mut fleet.asked, &reports, fleet.now);
            fleet.asked.values_mut().for_each(|one| one.take(Ok(taken("bad")), fleet.now));
        }
        let turns: Vec<bool> = fleet.asked.values().map(|one| one.turn.is_some()).collect();
        assert_eq!(turns, [true, false, false]);
    }

    #[test]
    fn nobody_gets_a_turn_before_one_that_was_started_anew_has_said_whether_it_refuses() {
        let mut fleet = Fleet::new();
        fleet.says(0, refused("bad"));
        assert_eq!(fleet.told("bad"), "");
        fleet.servers[0].0 = named("a", 2, true);
        fleet.now += APART;
        fleet.follow(&reports("bad"));
        give_turns(&mut fleet.asked, &reports("bad"), fleet.now);
        assert!(fleet.asked.values().all(|one| one.turn.is_none()), "{:?}", fleet.asked);
    }

    #[test]
    fn one_question_without_an_answer_says_nothing_and_three_do() {
        let now = Instant::now();
        let mut asked = Asked::new(&server(1, true), &digests("first"), None, now);
        let heard = [(); SILENCES].map(|()| {
            asked.take(Err(ClientError::Closed), now);
            asked.heard.is_some()
        });
        assert_eq!(heard, [false, false, true]);
        asked.take(Ok(taken("first")), now);
        assert_eq!(asked.heard, Some(Heard::Said(taken("first"))));
    }
}
