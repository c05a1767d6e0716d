//! What objects are told, and when: refusals at once, success with proof, and nothing that they have been told already.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    unreachable_pub,
    dead_code,
    reason = "a test fails by panicking, and shares the objects of its neighbours"
)]

mod common;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bindy_api::{ConditionType, Reason, RecordStatus, Verdict, condition};
use bindy_model::conditions::instance_conditions;
use bindy_model::{
    Answer, Ask, Core, FleetProblem, Input, InstanceNotice, Kind, LedgerEntry, LedgerKind, NameServer,
    Notices, Now, Object, ObjectEvent, ObjectKey, Output, OutsideUpstream, Removal, Role, Selector, ServerId,
    ServerState, Swapped, Target, Told, told,
};
use bindy_zone::Serial;

use common::{a, elsewhere, instance, key, zone};

type Entries = BTreeMap<(bindy_model::NamespacedName, LedgerKind), LedgerEntry>;

/// A core with a ledger that always works and servers that do what their flag says.
struct Rig {
    core: Core,
    now: Now,
    ledger: Entries,
    /// Servers, and whether they take new versions.
    servers: BTreeMap<ServerId, bool>,
    served: BTreeMap<bindy_zone::Name, Serial>,
    /// How long it takes to learn that a server does not answer; one question after the other is asked of it.
    silence: Duration,
    /// What will be learnt so, and when.
    late: VecDeque<(Duration, Input)>,
}

fn server(name: &str) -> ServerId {
    ServerId { instance: key("one"), name: name.to_owned() }
}

fn object_key(object: &Object) -> ObjectKey {
    object.key()
}

impl Rig {
    fn new(ledger: Entries) -> Self {
        let now = Now { monotonic: Duration::from_secs(10), unix: 1_700_000_000 };
        let core = Core::new(ledger.clone()).telling();
        Self {
            core,
            now,
            ledger,
            servers: BTreeMap::new(),
            served: BTreeMap::new(),
            silence: Duration::ZERO,
            late: VecDeque::new(),
        }
    }

    /// With one instance of two servers and one zone, and what else there is.
    fn with(objects: Vec<Object>) -> Self {
        let mut rig = Self::new(Entries::new());
        let events =
            [instance("one", Role::Primary, &[]), zone("zone", "example.com", 1)].into_iter().chain(objects);
        rig.start(events.map(ObjectEvent::Applied).collect());
        rig
    }

    fn start(&mut self, events: Vec<ObjectEvent>) {
        self.step(Input::Objects(events));
        self.servers = [(server("a"), true), (server("b"), true)].into();
        self.tell_servers();
        self.step(Input::Objects(vec![ObjectEvent::Listed]));
    }

    fn tell_servers(&mut self) {
        let states = self.servers.keys().map(|id| ServerState {
            id: id.clone(),
            incarnation: 1,
            ready: true,
            going: false,
        });
        self.step(Input::Servers(states.collect()));
    }

    fn step(&mut self, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            for output in self.core.step(input, self.now) {
                self.carry_out(output, &mut inputs);
            }
        }
    }

    fn carry_out(&mut self, output: Output, inputs: &mut Vec<Input>) {
        match output {
            Output::Swap { target, expected: _, next } => {
                match &target {
                    Target::Zone(key, _) => self.ledger.insert((key.clone(), LedgerKind::Zone), next),
                    Target::Catalog(key) => self.ledger.insert((key.clone(), LedgerKind::Catalog), next),
                    Target::Orphan(_) => None,
                };
                inputs.push(Input::Swapped(target, Swapped::Done));
            }
            // The servers are all of the namespace `default`.
            Output::Publish(Target::Zone(key, _) | Target::Catalog(key), name, version) => {
                if key.namespace == "default" {
                    self.served.insert(name, version.serial);
                }
            }
            Output::CatchUp(number) => inputs.push(Input::CaughtUp(number)),
            Output::Fetch(target, ..) => inputs.push(Input::Fetched(target, None)),
            Output::Probe(id, probes) => {
                for probe in probes {
                    let answer = match (&probe.ask, self.servers.get(&id)) {
                        (_, Some(false) | None) => Answer::Failure("no answer".to_owned()),
                        (Ask::Notify, _) => Answer::Notified,
                        (Ask::Serial { .. }, _) => Answer::Serial(self.served[&probe.zone]),
                        (Ask::Records(_), _) => Answer::Proven,
                    };
                    let fails = matches!(answer, Answer::Failure(_));
                    let input = Input::Probed(id.clone(), probe, answer);
                    if fails && !self.silence.is_zero() {
                        let before = self.late.back().map_or(self.now.monotonic, |(at, _)| *at);
                        self.late.push_back((before.max(self.now.monotonic) + self.silence, input));
                    } else {
                        inputs.push(input);
                    }
                }
            }
            Output::Publish(..) | Output::Grant(..) | Output::Retire(_) => {}
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now.monotonic + time;
        let late = |rig: &Self| rig.late.front().map(|(at, _)| *at);
        while let Some(due) =
            self.core.next_tick().into_iter().chain(late(self)).min().filter(|due| *due <= end)
        {
            self.now.monotonic = due.max(self.now.monotonic) + Duration::from_millis(1);
            let answer =
                late(self).filter(|at| *at <= self.now.monotonic).and_then(|_| self.late.pop_front());
            self.step(answer.map_or(Input::Tick, |(_, answer)| answer));
        }
        self.now.monotonic = end.max(self.now.monotonic);
    }

    fn notices(&mut self) -> Notices {
        self.core.take_notices(100, self.now)
    }

    /// The only record that is told something now.
    fn told(&mut self) -> Option<RecordStatus> {
        let mut records = self.notices().records;
        assert!(records.len() <= 1, "{records:?}");
        records.pop().map(|notice| notice.status)
    }
}

fn says(status: &RecordStatus, type_: ConditionType) -> (String, String) {
    let condition = condition(&status.conditions, type_).unwrap();
    (condition.status.clone(), condition.reason.clone())
}

fn pair(status: &str, reason: &str) -> (String, String) {
    (status.to_owned(), reason.to_owned())
}

#[test]
fn a_record_is_told_once_that_it_is_served_and_only_with_proof_of_every_ready_server() {
    let mut rig = Rig::with(vec![a("www", "www", 1)]);
    let status = rig.told().unwrap();
    assert_eq!(says(&status, ConditionType::Ready), pair("True", "Served"));
    assert_eq!(status.zone.as_deref(), Some("example.com"));
    rig.pass(Duration::from_secs(60));
    assert_eq!(rig.told(), None);
}

#[test]
fn a_record_that_one_server_lacks_is_not_ready_and_waits_a_moment_before_it_is_told_so() {
    let mut rig = Rig::with(vec![]);
    rig.servers.insert(server("b"), false);
    rig.step(Input::Objects(vec![ObjectEvent::Applied(a("www", "www", 1))]));
    assert_eq!(rig.told(), None);
    rig.pass(Duration::from_secs(2));
    assert_eq!(says(&rig.told().unwrap(), ConditionType::Ready), pair("False", "Propagating"));
    rig.servers.insert(server("b"), true);
    rig.pass(Duration::from_secs(5));
    assert_eq!(says(&rig.told().unwrap(), ConditionType::Ready), pair("True", "Served"));
}

#[test]
fn a_server_that_does_not_answer_is_admitted_although_edits_never_pause() {
    let mut rig = Rig::with(vec![a("www", "www", 1)]);
    rig.pass(Duration::from_secs(5));
    rig.notices();
    rig.servers.insert(server("b"), false);
    rig.silence = Duration::from_millis(500);
    let (mut told, mut waiting) = (Vec::new(), 0);
    for edit in 2..40 {
        rig.step(Input::Objects(vec![ObjectEvent::Applied(a("www", "www", edit))]));
        rig.pass(Duration::from_millis(250));
        told.extend(rig.notices().zones);
        waiting = waiting.max(rig.late.len());
    }
    let status = &told.last().expect("the zone is told nothing").status;
    let degraded = condition(&status.conditions, ConditionType::Degraded).unwrap();
    assert_eq!((&*degraded.status, &*degraded.reason), ("True", "ServerLagging"));
    assert!(degraded.message.contains("no answer"), "{}", degraded.message);
    assert_eq!(status.lagging, ["default/one/b"]);
    assert!(waiting <= 2, "{waiting} questions waited for a server that does not answer");
}

#[test]
fn of_a_server_that_starts_the_zones_that_it_has_not_got_yet_are_told_nothing() {
    let mut rig = Rig::with(vec![a("www", "www", 1)]);
    rig.pass(Duration::from_secs(5));
    rig.notices();
    rig.servers.insert(server("c"), false);
    rig.silence = Duration::from_secs(3_600);
    let state =
        |name: &str| ServerState { id: server(name), incarnation: 1, ready: name != "c", going: false };
    rig.step(Input::Servers(["a", "b", "c"].map(state).into()));
    rig.pass(Duration::from_secs(60));
    let zones = rig.notices().zones;
    assert!(zones.is_empty(), "{zones:?}");
}

#[test]
fn a_server_that_does_not_answer_is_missed_until_it_is_told_to_end() {
    let mut rig = Rig::with(vec![a("www", "www", 1)]);
    rig.pass(Duration::from_secs(5));
    rig.notices();
    rig.servers.insert(server("b"), false);
    rig.step(Input::Objects(vec![ObjectEvent::Applied(a("www", "www", 2))]));
    let state =
        |name: &str, going: bool| ServerState { id: server(name), incarnation: 1, ready: name == "a", going };
    for (going, status, failing) in [(false, "True", 1), (true, "False", 0)] {
        rig.step(Input::Servers(vec![state("a", false), state("b", going)]));
        rig.pass(Duration::from_secs(60));
        let notices = rig.notices();
        let zone = &notices.zones.last().expect("the zone is told nothing").status;
        assert_eq!(condition(&zone.conditions, ConditionType::Degraded).unwrap().status, status);
        assert_eq!(zone.lagging.len(), failing, "{:?}", zone.lagging);
        let instance = notices.instances.last().expect("the instance is told nothing");
        let failures: Vec<_> = instance.servers.iter().filter_map(|one| one.failure.as_ref()).collect();
        assert_eq!(failures.len(), failing, "{failures:?}");
    }
}

#[test]
fn a_refused_record_is_told_at_once() {
    let mut rig = Rig::with(vec![]);
    rig.step(Input::Objects(vec![ObjectEvent::Applied(a("www", "www.example.org.", 1))]));
    let status = rig.told().unwrap();
    assert_eq!(says(&status, ConditionType::Accepted), pair("False", "OutOfZone"));
    assert_eq!(says(&status, ConditionType::Ready), pair("False", "OutOfZone"));
}

#[test]
fn a_restart_with_everything_unchanged_tells_nobody_anything() {
    let mut rig = Rig::with(vec![a("www", "www", 1), a("ftp", "ftp", 2)]);
    rig.pass(Duration::from_secs(5));
    let first = rig.notices();
    assert_eq!((first.records.len(), first.zones.len()), (2, 1));
    let mut again = Rig::new(rig.ledger.clone());
    again.served = rig.served.clone();
    let objects = [instance("one", Role::Primary, &[]), zone("zone", "example.com", 1)];
    let objects = objects.into_iter().chain([a("www", "www", 1), a("ftp", "ftp", 2)]);
    let mut events: Vec<ObjectEvent> = objects.map(ObjectEvent::Applied).collect();
    for notice in &first.records {
        let told = Told { print: told::record_print(&notice.status), ready: true };
        events.push(ObjectEvent::Told(notice.key.clone(), told));
    }
    let zone = &first.zones[0];
    let told = Told { print: told::zone_print(&zone.status), ready: true };
    events.push(ObjectEvent::Told(ObjectKey { kind: Kind::Zone, key: zone.key.clone() }, told));
    again.start(events);
    again.pass(Duration::from_secs(600));
    let second = again.notices();
    assert_eq!((second.records, second.zones), (vec![], vec![]));
    assert_eq!(again.ledger, rig.ledger);
}

#[test]
fn a_status_that_somebody_else_changed_is_put_right() {
    let www = a("www", "www", 1);
    let mut rig = Rig::with(vec![www.clone()]);
    let status = rig.told().unwrap();
    rig.step(Input::Objects(vec![ObjectEvent::Told(object_key(&www), Told { print: 7, ready: false })]));
    rig.pass(Duration::from_secs(2));
    assert_eq!(rig.told(), Some(status));
}

#[test]
fn an_object_made_anew_is_not_told_what_was_proven_of_the_one_before() {
    let www = a("www", "www", 1);
    let mut rig = Rig::with(vec![www.clone()]);
    let before = rig.told().unwrap();
    rig.servers.insert(server("b"), false);
    let told = Told { print: told::record_print(&before), ready: true };
    rig.step(Input::Objects(vec![
        ObjectEvent::Removed(object_key(&www), Removal::Deleted),
        ObjectEvent::Applied(a("www", "www", 2)),
        ObjectEvent::Told(object_key(&www), told),
    ]));
    rig.pass(Duration::from_secs(2));
    assert_eq!(says(&rig.told().unwrap(), ConditionType::Ready), pair("False", "Propagating"));
}

#[test]
fn what_a_list_does_not_have_any_more_is_gone_and_what_it_has_stays() {
    let (www, ftp) = (a("www", "www", 1), a("ftp", "ftp", 2));
    let mut rig = Rig::with(vec![www.clone(), ftp.clone()]);
    rig.step(Input::Objects(vec![
        ObjectEvent::Relisting(object_key(&www).kind),
        ObjectEvent::Applied(ftp.clone()),
        ObjectEvent::Relisted(object_key(&www).kind),
    ]));
    assert!(rig.core.world().record(&object_key(&www)).is_none());
    assert!(rig.core.world().record(&object_key(&ftp)).is_some());
    assert!(rig.core.world().zone(&key("zone")).is_some());
}

/// Objects of all kinds that nothing is known of.
fn never_readable() -> [ObjectKey; 3] {
    [instance("bad", Role::Primary, &[]).key(), zone("bad", "example.org", 1).key(), a("bad", "bad", 1).key()]
}

impl Rig {
    fn told_as_unreadable(&mut self) -> Vec<(ObjectKey, String)> {
        self.notices().unreadable.into_iter().map(|notice| (notice.key, notice.message)).collect()
    }
}

#[test]
fn an_object_that_could_never_be_read_is_told_why() {
    let mut rig = Rig::with(vec![]);
    rig.notices();
    for key in never_readable() {
        rig.step(Input::Objects(vec![ObjectEvent::Unreadable(key.clone(), "why".to_owned())]));
        assert_eq!(rig.told_as_unreadable(), [(key.clone(), "why".to_owned())]);
        assert_eq!(rig.told_as_unreadable(), []);
        rig.core.tell_again(&key, Duration::from_secs(1), rig.now);
        assert_eq!(rig.told_as_unreadable(), [], "not before the pause is over");
        rig.pass(Duration::from_secs(1));
        assert_eq!(rig.told_as_unreadable().len(), 1);
        rig.core.tell_again(&key, Duration::from_secs(1), rig.now);
        rig.step(Input::Objects(vec![ObjectEvent::Removed(key, Removal::Deleted)]));
        rig.pass(Duration::from_secs(1));
        assert_eq!(rig.told_as_unreadable(), [], "gone by now");
    }
}

#[test]
fn a_new_leader_tells_what_could_never_be_read() {
    let mut rig = Rig::with(vec![]);
    rig.step(Input::Follow);
    let events = never_readable().map(|key| ObjectEvent::Unreadable(key, "why".to_owned()));
    rig.step(Input::Objects(events.into()));
    assert_eq!(rig.told_as_unreadable(), []);
    rig.step(Input::Lead);
    let told: Vec<ObjectKey> = rig.told_as_unreadable().into_iter().map(|(key, _)| key).collect();
    assert_eq!(told, never_readable());
}

#[test]
fn an_instance_that_cannot_be_read_any_more_is_told_so() {
    let mut rig = Rig::with(vec![]);
    rig.pass(Duration::from_secs(5));
    rig.notices();
    let key = instance("one", Role::Primary, &[]).key();
    rig.step(Input::Objects(vec![ObjectEvent::Unreadable(key, "why".to_owned())]));
    let told = rig.notices().instances;
    let problem = told.first().and_then(|notice| notice.report.problem.clone());
    assert_eq!(problem, Some(FleetProblem::Unreadable("why".to_owned())));
}

#[test]
fn a_record_that_cannot_be_read_any_more_is_told_that_and_nothing_of_before() {
    let www = a("www", "www", 1);
    let mut rig = Rig::with(vec![www.clone()]);
    rig.pass(Duration::from_secs(5));
    rig.told().unwrap();
    rig.step(Input::Objects(vec![ObjectEvent::Unreadable(www.key(), "why".to_owned())]));
    // Another record becomes one RRset with it.
    rig.step(Input::Objects(vec![ObjectEvent::Applied(common::record(
        bindy_api::RecordKind::A,
        "other",
        "www",
        2,
        serde_json::json!({ "ttl": 60, "ipv4Addresses": ["192.0.2.2"] }),
    ))]));
    rig.pass(Duration::from_secs(5));
    let notices = rig.notices();
    let told: Vec<&str> = notices.records.iter().map(|notice| &*notice.key.key.name).collect();
    assert_eq!(told, ["other"]);
    assert_eq!(notices.unreadable.len(), 1);
}

#[test]
fn a_status_of_an_unreadable_object_keeps_what_else_it_says() {
    let held = told::timeless(&[Verdict::yes(ConditionType::Held, Reason::Held, "held")], Some(1));
    let told = told::unreadable(&held, "why", Some(2), jiff::Timestamp::UNIX_EPOCH);
    let told: Vec<(&str, &str, &str, Option<i64>)> = told
        .iter()
        .map(|one| (one.type_.as_str(), one.status.as_str(), one.reason.as_str(), one.observed_generation))
        .collect();
    let unreadable = |type_| (type_, "False", "Unreadable", Some(2));
    assert_eq!(told, [unreadable("Accepted"), unreadable("Ready"), ("Held", "True", "Held", Some(1))]);
}

#[test]
fn another_number_of_servers_is_told_to_the_instance_and_its_zones() {
    let mut rig = Rig::with(vec![]);
    rig.pass(Duration::from_secs(5));
    rig.notices();
    let swaps = rig.ledger.clone();
    let Object::Instance(mut one) = instance("one", Role::Primary, &[]) else { panic!("no instance") };
    one.replicas = 3;
    rig.step(Input::Objects(vec![ObjectEvent::Applied(Object::Instance(one))]));
    rig.pass(Duration::from_secs(5));
    let notices = rig.notices();
    assert_eq!(notices.instances[0].instance.replicas, 3);
    let servers = notices.zones[0].status.servers.clone().unwrap();
    assert_eq!((servers.in_sync, servers.desired), (2, 3));
    assert_eq!(rig.ledger, swaps);
}

/// The record `www` of the zone `zone`, which every zone that selects by labels wants too.
fn shared(owner: &str, last: u8) -> Object {
    let Object::Record(mut www) = a("www", owner, last) else { panic!("not a record") };
    www.metadata.labels.insert("shared".to_owned(), "yes".to_owned());
    Object::Record(www)
}

/// Another zone, which selects what is shared, or nothing.
fn second(zone_name: &str, selects: bool, paused: bool) -> Object {
    let mut second = common::zone_spec("zulu", zone_name, 1);
    let labels = [("shared".to_owned(), "yes".to_owned())].into();
    second.records_from.extend(selects.then_some(Selector { labels, expressions: Vec::new() }));
    second.paused = paused;
    Object::Zone(Box::new(second))
}

#[test]
fn a_record_that_one_of_two_zones_refuses_is_told_which_and_why() {
    let mut rig = Rig::with(vec![second("example.org", true, false), shared("www.example.com.", 1)]);
    rig.pass(Duration::from_secs(5));
    let status = rig.told().unwrap();
    assert_eq!(says(&status, ConditionType::Accepted), pair("False", "OutOfZone"));
    assert_eq!(says(&status, ConditionType::Ready), pair("False", "OutOfZone"));
    let message = &condition(&status.conditions, ConditionType::Accepted).unwrap().message;
    assert!(message.starts_with("in DNSZone default/zulu: "), "{message}");
    // It is not wanted there any more: nothing else about it has changed.
    rig.step(Input::Objects(vec![ObjectEvent::Applied(second("example.org", false, false))]));
    rig.pass(Duration::from_secs(5));
    let status = rig.told().unwrap();
    assert_eq!(says(&status, ConditionType::Accepted), pair("True", "Accepted"));
    assert_eq!(says(&status, ConditionType::Ready), pair("True", "Served"));
}

#[test]
fn a_record_of_two_zones_is_ready_when_both_serve_it() {
    let mut rig = Rig::with(vec![second("example.org", true, false)]);
    rig.pass(Duration::from_secs(5));
    rig.notices();
    let events =
        vec![ObjectEvent::Applied(second("example.org", true, true)), ObjectEvent::Applied(shared("www", 1))];
    rig.step(Input::Objects(events));
    rig.pass(Duration::from_secs(5));
    let status = rig.told().unwrap();
    assert_eq!(says(&status, ConditionType::Accepted), pair("True", "Accepted"));
    assert_eq!(says(&status, ConditionType::Ready), pair("Unknown", "Paused"));
    let message = &condition(&status.conditions, ConditionType::Ready).unwrap().message;
    assert!(message.contains("DNSZone default/zulu"), "{message}");
    rig.step(Input::Objects(vec![ObjectEvent::Applied(second("example.org", true, false))]));
    rig.pass(Duration::from_secs(5));
    assert_eq!(says(&rig.told().unwrap(), ConditionType::Ready), pair("True", "Served"));
}

#[test]
fn a_record_that_waits_in_a_paused_zone_is_neither_ready_nor_unready() {
    let mut rig = Rig::with(vec![a("www", "www", 1)]);
    rig.pass(Duration::from_secs(5));
    rig.notices();
    let mut paused = common::zone_spec("zone", "example.com", 1);
    paused.paused = true;
    rig.step(Input::Objects(vec![
        ObjectEvent::Applied(Object::Zone(Box::new(paused))),
        ObjectEvent::Applied(a("www", "www", 2)),
    ]));
    rig.pass(Duration::from_secs(5));
    assert_eq!(says(&rig.told().unwrap(), ConditionType::Ready), pair("Unknown", "Paused"));
}

#[test]
fn a_paused_instance_says_that_zones_wait() {
    let mut rig = Rig::with(vec![]);
    rig.pass(Duration::from_secs(5));
    let ready = |rig: &mut Rig| {
        let InstanceNotice { report, servers, .. } = rig.notices().instances.pop().unwrap();
        let conditions = instance_conditions(&report, &servers, 2);
        let ready = conditions.into_iter().find(|one| one.condition == ConditionType::Ready).unwrap();
        (ready.status.to_string(), ready.reason.to_string())
    };
    assert_eq!(ready(&mut rig), pair("True", "ServersReady"));
    let Object::Instance(mut one) = instance("one", Role::Primary, &[]) else { panic!("no instance") };
    one.paused = true;
    rig.step(Input::Objects(vec![ObjectEvent::Applied(Object::Instance(one))]));
    rig.pass(Duration::from_secs(5));
    assert_eq!(ready(&mut rig), pair("True", "ServersReady"), "nothing waits");
    rig.step(Input::Objects(vec![ObjectEvent::Applied(zone("new", "example.org", 1))]));
    rig.pass(Duration::from_secs(5));
    assert_eq!(ready(&mut rig), pair("Unknown", "Paused"));
}

/// Accepted of the zone `zone`, and its message.
fn accepted(rig: &mut Rig) -> ((String, String), String) {
    rig.pass(Duration::from_secs(5));
    let status = rig.notices().zones.pop().unwrap().status;
    let accepted = condition(&status.conditions, ConditionType::Accepted).unwrap();
    (pair(&accepted.status, &accepted.reason), accepted.message.clone())
}

#[test]
fn a_zone_is_told_of_a_name_server_within_it_that_has_no_address() {
    let mut rig = Rig::with(vec![]);
    assert_eq!(accepted(&mut rig).0, pair("True", "Accepted"), "its name server is elsewhere");
    let with = |hostnames: &[&str]| {
        let mut spec = common::zone_spec("zone", "example.com", 1);
        let server = |name: &&str| NameServer { hostname: (*name).to_owned(), addresses: Vec::new() };
        spec.name_servers = hostnames.iter().map(server).collect();
        Input::Objects(vec![ObjectEvent::Applied(Object::Zone(Box::new(spec)))])
    };
    rig.step(with(&["ns1.example.com.", "ns.example.net."]));
    let (told, message) = accepted(&mut rig);
    assert_eq!(told, pair("True", "TargetWithoutAddress"));
    assert!(message.starts_with("name server ns1.example.com. is within the zone"), "{message}");
    // What is wrong goes before what is told.
    rig.step(with(&["ns1.example.com.", "not a name"]));
    let (told, message) = accepted(&mut rig);
    assert_eq!(told, pair("False", "InvalidData"));
    assert!(message.contains("ns1.example.com. is within the zone"), "{message}");
    rig.step(with(&["ns1.example.com."]));
    accepted(&mut rig);
    rig.step(Input::Objects(vec![ObjectEvent::Applied(a("ns1", "ns1", 53))]));
    assert_eq!(accepted(&mut rig).0, pair("True", "Accepted"));
    // Instances have no addresses yet.
    rig.step(with(&[]));
    rig.pass(Duration::from_secs(5));
    assert_eq!(rig.notices().zones, []);
}

#[test]
fn a_zone_without_an_instance_is_valid_and_not_ready() {
    let mut rig = Rig::new(Entries::new());
    rig.start(vec![
        ObjectEvent::Applied(zone("zone", "example.com", 1)),
        ObjectEvent::Applied(a("www", "www", 1)),
    ]);
    rig.pass(Duration::from_secs(5));
    let notices = rig.notices();
    let conditions = &notices.zones[0].status.conditions;
    let of = |type_| condition(conditions, type_).map(|one| pair(&one.status, &one.reason)).unwrap();
    assert_eq!(of(ConditionType::Accepted), pair("True", "Accepted"));
    assert_eq!(of(ConditionType::Ready), pair("False", "NoInstances"));
    let record = &notices.records[0].status;
    assert_eq!(says(record, ConditionType::Accepted), pair("True", "Accepted"));
    assert_eq!(says(record, ConditionType::Ready), pair("False", "NoInstances"));
}

/// The zone's name belongs to a server outside for a while.
#[test]
fn the_records_of_a_zone_that_has_its_name_again_are_ready_again() {
    let mut rig = Rig::with(vec![a("www", "www", 1)]);
    rig.pass(Duration::from_secs(5));
    rig.notices();
    let Object::Instance(mut one) = instance("one", Role::Primary, &[]) else { panic!("no instance") };
    one.outside.push(OutsideUpstream {
        name: "outside".to_owned(),
        address: "192.0.2.53:53".parse().unwrap(),
        key: bindy_zone::Name::parse("key").unwrap(),
        secret: "secret".to_owned(),
        zones: [bindy_zone::Name::parse("example.com").unwrap()].into(),
    });
    rig.step(Input::Objects(vec![ObjectEvent::Applied(Object::Instance(one))]));
    assert_eq!(says(&rig.told().unwrap(), ConditionType::Ready), pair("False", "ZoneNotAccepted"));
    rig.step(Input::Objects(vec![ObjectEvent::Applied(instance("one", Role::Primary, &[]))]));
    rig.pass(Duration::from_secs(5));
    assert_eq!(says(&rig.told().unwrap(), ConditionType::Ready), pair("True", "Served"));
}

#[test]
fn a_restart_changes_no_serial_although_another_namespace_has_a_zone_of_the_same_name() {
    let here = [instance("one", Role::Primary, &[]), zone("zone", "example.com", 1), a("www", "www", 2)];
    let there: Vec<Object> = here.iter().take(2).cloned().map(elsewhere).collect();
    let mut rig = Rig::with(vec![a("www", "www", 1)]);
    rig.now.unix += 1_000;
    rig.step(Input::Objects(there.iter().cloned().map(ObjectEvent::Applied).collect()));
    // What is compiled first after the restart has the higher serial.
    rig.now.unix += 1_000;
    rig.step(Input::Objects(vec![ObjectEvent::Applied(a("www", "www", 2))]));
    rig.pass(Duration::from_secs(5));
    let serials: Vec<u32> = rig.ledger.values().map(|entry| entry.serial.get()).collect();
    assert!(rig.ledger.len() == 4 && serials.iter().any(|serial| *serial != serials[0]), "{serials:?}");
    let mut again = Rig::new(rig.ledger.clone());
    again.now.unix += 2_000;
    again.served = rig.served.clone();
    again.start(here.into_iter().chain(there).map(ObjectEvent::Applied).collect());
    again.pass(Duration::from_secs(60));
    assert_eq!(again.ledger, rig.ledger);
}
