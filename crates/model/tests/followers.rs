//! Replicas that do not lead: they write, fetch and ask nothing, serve what the ledger names as soon as they have the same
//! content, and go on where the leader has come to.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    dead_code,
    reason = "a test fails by panicking, and shares the objects of its neighbours"
)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bindy_api::{ConditionType, condition};
use bindy_model::{
    Answer, Ask, Command, Core, Guard, Input, Kind, LedgerEntry, LedgerKind, NamespacedName, Notices, Now,
    Object, ObjectEvent, ObjectKey, Output, Publication, Removal, Role, ServerId, ServerState, Swapped,
    Target, Told, told,
};
use bindy_zone::{Catalog, Content, Name, Serial, Version};

use common::{a, instance, key, zone};

type Entries = BTreeMap<(NamespacedName, LedgerKind), LedgerEntry>;

/// What all replicas share: the ledger, and what the servers have.
#[derive(Default)]
struct Cluster {
    ledger: Entries,
    servers: BTreeMap<Name, Version>,
    /// What a listing finds.
    objects: Vec<Object>,
}

struct Replica {
    core: Core,
    now: Now,
    serves: BTreeMap<Name, Serial>,
    /// Who may have what.
    granted: BTreeMap<Name, BTreeSet<NamespacedName>>,
    swaps: usize,
    /// Whether the second server answers it.
    heard: bool,
    /// Fetches and probes: what only a leader does.
    questions: usize,
    /// How often it has listed everything anew.
    listings: usize,
    /// Whether anything is answered that it asks for on behalf of zones.
    zones_answered: bool,
    /// Members that catalogs lost by what it published.
    removed: Vec<Name>,
}

impl Replica {
    /// One that follows, with an instance, a zone and these records.
    fn new(cluster: &mut Cluster, records: &[Object]) -> Self {
        let now = Now { monotonic: Duration::from_secs(10), unix: 1_700_000_000 };
        let core = Core::new(cluster.ledger.clone()).telling();
        let mut replica = Self {
            core,
            now,
            serves: BTreeMap::new(),
            granted: BTreeMap::new(),
            swaps: 0,
            heard: true,
            questions: 0,
            listings: 0,
            zones_answered: true,
            removed: Vec::new(),
        };
        replica.step(cluster, Input::Follow);
        let objects = [instance("one", Role::Primary, &[]), zone("zone", "example.com", 1)].into_iter();
        let objects = objects.chain(records.iter().cloned());
        replica.step(cluster, Input::Objects(objects.map(ObjectEvent::Applied).collect()));
        replica.step(cluster, Input::Objects(vec![ObjectEvent::Listed]));
        replica
    }

    fn lead(&mut self, cluster: &mut Cluster) {
        let server = |name: &str| ServerState {
            id: ServerId { instance: key("one"), name: name.to_owned() },
            incarnation: 1,
            ready: true,
            going: false,
        };
        self.step(cluster, Input::Servers(vec![server("a"), server("b")]));
        self.step(cluster, Input::Lead);
        self.pass(cluster, Duration::from_secs(5));
    }

    fn follow(&mut self, cluster: &mut Cluster) {
        self.step(cluster, Input::Follow);
        self.step(cluster, Input::Servers(Vec::new()));
    }

    fn edit(&mut self, cluster: &mut Cluster, objects: &[Object]) {
        let events = objects.iter().cloned().map(ObjectEvent::Applied).collect();
        self.step(cluster, Input::Objects(events));
    }

    /// Sees what the ledger says now.
    fn see(&mut self, cluster: &mut Cluster) {
        for (key, entry) in cluster.ledger.clone() {
            self.step(cluster, Input::Entry(key, Some(entry)));
        }
    }

    fn step(&mut self, cluster: &mut Cluster, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            for output in self.core.step(input, self.now) {
                match output {
                    Output::Swap { target: Target::Zone(..), .. } | Output::Fetch(Target::Zone(..), ..)
                        if !self.zones_answered => {}
                    Output::Swap { target, expected: _, next } => {
                        self.swaps += 1;
                        let key = match &target {
                            Target::Zone(key, _) => (key.clone(), LedgerKind::Zone),
                            Target::Catalog(key) => (key.clone(), LedgerKind::Catalog),
                            Target::Orphan(name) => panic!("{name} has no object"),
                        };
                        cluster.ledger.insert(key, next);
                        inputs.push(Input::Swapped(target, Swapped::Done));
                    }
                    Output::Publish(target, name, version) => {
                        if let (Target::Catalog(_), Some(before)) = (&target, cluster.servers.get(&name)) {
                            let stays = |member: &Name| Catalog::contains(&version.content, member);
                            self.removed.extend(Catalog::members(&before.content).filter(|one| !stays(one)));
                        }
                        self.serves.insert(name.clone(), version.serial);
                        cluster.servers.insert(name, version);
                    }
                    Output::CatchUp(number) => {
                        self.listings += 1;
                        // The last one is taken first.
                        inputs.push(Input::CaughtUp(number));
                        let applied = cluster.objects.iter().cloned().map(ObjectEvent::Applied);
                        inputs.push(Input::Objects(applied.collect()));
                        let entries = cluster.ledger.clone().into_iter();
                        inputs.extend(entries.map(|(key, entry)| Input::Entry(key, Some(entry))));
                    }
                    Output::Fetch(target, name, ..) => {
                        self.questions += 1;
                        inputs.push(Input::Fetched(target, cluster.servers.get(&name).cloned()));
                    }
                    Output::Probe(id, probes) => {
                        self.questions += probes.len();
                        inputs.extend(probes.into_iter().map(|probe| {
                            let answer = match &probe.ask {
                                _ if !self.heard && id.name == "b" => Answer::Failure("no answer".to_owned()),
                                Ask::Notify => Answer::Notified,
                                Ask::Serial { .. } => Answer::Serial(cluster.servers[&probe.zone].serial),
                                Ask::Records(_) => Answer::Proven,
                            };
                            Input::Probed(id.clone(), probe, answer)
                        }));
                    }
                    Output::Grant(_, name, instances) => drop(self.granted.insert(name, instances)),
                    Output::Retire(_) => {}
                }
            }
        }
    }

    fn pass(&mut self, cluster: &mut Cluster, time: Duration) {
        let end = self.now.monotonic + time;
        while let Some(due) = self.core.next_tick().filter(|due| *due <= end) {
            self.now.monotonic = due.max(self.now.monotonic) + Duration::from_millis(1);
            self.step(cluster, Input::Tick);
        }
        self.now.monotonic = end;
    }

    fn notices(&mut self) -> Notices {
        self.core.take_notices(1_000, self.now)
    }

    /// Sees that these were told.
    fn hear(&mut self, cluster: &mut Cluster, notices: &Notices) {
        let records = notices.records.iter().map(|one| {
            ObjectEvent::Told(one.key.clone(), Told { print: told::record_print(&one.status), ready: true })
        });
        let zones = notices.zones.iter().map(|one| {
            let key = ObjectKey { kind: Kind::Zone, key: one.key.clone() };
            ObjectEvent::Told(key, Told { print: told::zone_print(&one.status), ready: true })
        });
        let told = records.chain(zones).collect();
        self.step(cluster, Input::Objects(told));
    }
}

fn serial(cluster: &Cluster) -> Serial {
    cluster.ledger[&(key("zone"), LedgerKind::Zone)].serial
}

fn apex() -> Name {
    Name::parse("example.com").unwrap()
}

#[test]
fn a_follower_serves_what_the_ledger_names_and_asks_nobody() {
    let mut cluster = Cluster::default();
    let www = [a("www", "www", 1)];
    let (mut leader, mut follower) = (Replica::new(&mut cluster, &www), Replica::new(&mut cluster, &www));
    assert!(cluster.ledger.is_empty(), "somebody wrote before anybody led");
    leader.lead(&mut cluster);
    follower.see(&mut cluster);
    follower.pass(&mut cluster, Duration::from_secs(1));
    assert_eq!(follower.serves, leader.serves);
    // The entry comes before the object that made it, and after another one.
    let (first, second) = ([a("www", "www", 2)], [a("www", "www", 3)]);
    leader.edit(&mut cluster, &first);
    follower.see(&mut cluster);
    assert_ne!(follower.serves[&apex()], serial(&cluster), "it serves other data under this serial");
    follower.edit(&mut cluster, &first);
    assert_eq!(follower.serves[&apex()], serial(&cluster));
    follower.edit(&mut cluster, &second);
    assert_eq!(follower.serves[&apex()], serial(&cluster), "what was served stays");
    leader.edit(&mut cluster, &second);
    follower.see(&mut cluster);
    follower.pass(&mut cluster, Duration::from_secs(60));
    assert_eq!(follower.serves[&apex()], serial(&cluster));
    assert_eq!((follower.swaps, follower.questions), (0, 0));
    let notices = follower.notices();
    assert!(notices.is_empty(), "{notices:?}");
}

/// Its zone is paused, held, or made of something that cannot be read here; its catalog is the one that it serves.
#[test]
fn a_follower_that_starts_without_a_version_of_a_zone_does_not_refuse_it_to_whom_it_is_listed_for() {
    let mut cluster = Cluster::default();
    Replica::new(&mut cluster, &[a("www", "www", 1)]).lead(&mut cluster);
    let follower = Replica::new(&mut cluster, &[a("www", "www", 2)]);
    let catalog = Catalog::name("default", "one").unwrap();
    let one = BTreeSet::from([key("one")]);
    assert_eq!(follower.serves.keys().collect::<Vec<_>>(), [&catalog]);
    assert_eq!(follower.granted, [(catalog, one.clone()), (apex(), one)].into());
}

#[test]
fn a_new_leader_with_nothing_to_do_writes_nothing() {
    let mut cluster = Cluster::default();
    let www = [a("www", "www", 1)];
    let (mut leader, mut follower) = (Replica::new(&mut cluster, &www), Replica::new(&mut cluster, &www));
    leader.lead(&mut cluster);
    let told = leader.notices();
    assert_eq!((told.records.len(), told.zones.len()), (1, 1));
    follower.see(&mut cluster);
    follower.hear(&mut cluster, &told);
    leader.follow(&mut cluster);
    follower.lead(&mut cluster);
    let notices = follower.notices();
    assert_eq!((follower.swaps, notices.records, notices.zones), (0, vec![], vec![]));
}

#[test]
fn what_one_leader_has_proven_the_next_one_does_not_deny() {
    let mut cluster = Cluster::default();
    let www = [a("www", "www", 1)];
    let (mut leader, mut follower) = (Replica::new(&mut cluster, &www), Replica::new(&mut cluster, &www));
    leader.lead(&mut cluster);
    let told = leader.notices();
    follower.see(&mut cluster);
    follower.hear(&mut cluster, &told);
    leader.follow(&mut cluster);
    follower.heard = false;
    follower.lead(&mut cluster);
    let notices = follower.notices();
    assert_eq!((notices.records.len(), notices.zones.len()), (0, 1), "{notices:?}");
    let ready = condition(&notices.zones[0].status.conditions, ConditionType::Ready).unwrap();
    assert_eq!(ready.status, "True", "{}", ready.message);
}

#[test]
fn a_new_leader_finishes_what_the_old_one_left() {
    let mut cluster = Cluster::default();
    let www = [a("www", "www", 1)];
    let (mut leader, mut follower) = (Replica::new(&mut cluster, &www), Replica::new(&mut cluster, &www));
    leader.lead(&mut cluster);
    let told = leader.notices();
    follower.see(&mut cluster);
    follower.hear(&mut cluster, &told);
    leader.follow(&mut cluster);
    // Made while nobody led; the one that stepped down sees it too.
    let before = serial(&cluster);
    for replica in [&mut leader, &mut follower] {
        replica.edit(&mut cluster, &[a("ftp", "ftp", 2)]);
    }
    assert_eq!(serial(&cluster), before, "somebody wrote without a term");
    follower.lead(&mut cluster);
    assert!(serial(&cluster).is_after(before));
    assert_eq!(follower.swaps, 1);
    let records: Vec<String> =
        follower.notices().records.iter().map(|notice| notice.key.key.name.clone()).collect();
    assert_eq!(records, ["ftp"]);
    leader.see(&mut cluster);
    assert_eq!(leader.serves[&apex()], serial(&cluster));
}

/// It knows of a zone's version nothing but its name, or not even that, since its watches are behind.
#[test]
fn a_new_leader_leaves_zones_in_catalogs_that_it_knows_little_of() {
    for kinds in [&[LedgerKind::Zone, LedgerKind::Catalog][..], &[LedgerKind::Catalog]] {
        let mut cluster = Cluster::default();
        let mut leader = Replica::new(&mut cluster, &[a("www", "www", 1)]);
        leader.lead(&mut cluster);
        let seen = cluster.ledger.clone();
        let mut follower = Replica::new(&mut Cluster::default(), &[a("www", "www", 2)]);
        for (key, entry) in seen.into_iter().filter(|((_, kind), _)| kinds.contains(kind)) {
            follower.step(&mut cluster, Input::Entry(key, Some(entry)));
        }
        leader.follow(&mut cluster);
        follower.zones_answered = false;
        follower.lead(&mut cluster);
        assert_eq!(follower.removed, [], "seen were entries of {kinds:?}");
        assert_eq!(follower.serves.len(), 1, "it has not looked at its catalog");
    }
}

#[test]
fn a_leader_goes_on_from_what_another_one_wrote_late() {
    let mut cluster = Cluster::default();
    let www = [a("www", "www", 1)];
    let mut leader = Replica::new(&mut cluster, &www);
    leader.lead(&mut cluster);
    let before = serial(&cluster);
    // Nobody has this version: whoever wrote it has ended.
    let other = cluster.ledger[&(key("one"), LedgerKind::Catalog)];
    let entry = LedgerEntry { serial: before.next(), ..other };
    let place = (key("zone"), LedgerKind::Zone);
    cluster.ledger.insert(place.clone(), entry);
    leader.step(&mut cluster, Input::Entry(place, Some(entry)));
    assert!(serial(&cluster).is_after(entry.serial), "the ledger names what nobody serves");
    assert_eq!(leader.serves[&apex()], serial(&cluster));
}

/// A publication whose first version was being written when somebody else began to lead.
fn overtaken() -> (Publication, Version, Now) {
    let mut cluster = Cluster::default();
    let mut leader = Replica::new(&mut cluster, &[a("www", "www", 1)]);
    leader.lead(&mut cluster);
    let content = cluster.servers[&apex()].content.clone();
    let mut publication = Publication::new(Guard::Relist, None);
    let commands = publication.want(content, false, leader.now);
    let [Command::Swap { next, .. }] = &commands[..] else { panic!("{commands:?}") };
    publication.follow();
    (publication, next.clone(), leader.now)
}

#[test]
fn an_answer_that_comes_after_the_version_of_another_one_is_not_served() {
    let (mut publication, next, now) = overtaken();
    let later = LedgerEntry { serial: next.serial.next(), ..LedgerEntry::of(&next) };
    publication.named(Some(later), now);
    let commands = publication.swapped(Swapped::Done, now);
    let [Command::Publish(served)] = &commands[..] else { panic!("{commands:?}") };
    assert_eq!((served.serial, publication.ledger()), (later.serial, Some(later)));
}

/// The first version of a zone was heard of after this one began to lead, and no server has the catalog to go on from.
#[test]
fn a_catalog_that_nobody_has_gets_the_zones_that_a_new_leader_hears_of() {
    let mut cluster = Cluster::default();
    let mut leader = Replica::new(&mut cluster, &[a("www", "www", 1)]);
    leader.lead(&mut cluster);
    let catalog = Catalog::name("default", "one").unwrap();
    let mut follower = Replica::new(&mut Cluster::default(), &[a("www", "www", 2)]);
    let entry = (key("one"), LedgerKind::Catalog);
    let known = cluster.ledger[&entry];
    follower.step(&mut cluster, Input::Entry(entry, Some(known)));
    leader.follow(&mut cluster);
    cluster.servers.remove(&catalog);
    follower.zones_answered = false;
    follower.lead(&mut cluster);
    let members: Vec<Name> = Catalog::members(&cluster.servers[&catalog].content).collect();
    assert_eq!((members, follower.listings), (vec![apex()], 1));
}

/// A listing tells of an entry before it tells of its zone.
#[test]
fn a_catalog_keeps_a_zone_that_a_new_leader_has_never_heard_of() {
    let mut cluster = Cluster::default();
    let mut leader = Replica::new(&mut cluster, &[]);
    leader.lead(&mut cluster);
    let mut follower = Replica::new(&mut Cluster::default(), &[]);
    let other = zone("other", "example.net", 2);
    leader.edit(&mut cluster, std::slice::from_ref(&other));
    leader.pass(&mut cluster, Duration::from_secs(5));
    let entry = (key("one"), LedgerKind::Catalog);
    let known = cluster.ledger[&entry];
    assert_eq!(
        known.records,
        cluster.servers[&Catalog::name("default", "one").unwrap()].content.record_count()
    );
    follower.step(&mut cluster, Input::Entry(entry, Some(known)));
    leader.follow(&mut cluster);
    cluster.objects.push(other);
    follower.zones_answered = false;
    follower.lead(&mut cluster);
    assert_eq!(follower.removed, []);
    assert_eq!(follower.listings, 1);
}

/// Under constant edits the ledger names what was wanted a moment ago.
#[test]
fn a_follower_that_is_ahead_of_the_ledger_serves_what_it_names() {
    let mut cluster = Cluster::default();
    let mut leader = Replica::new(&mut cluster, &[]);
    leader.lead(&mut cluster);
    let mut follower = Replica::new(&mut cluster, &[]);
    leader.edit(&mut cluster, &[a("www", "www", 1)]);
    for last in 1..=3 {
        follower.edit(&mut cluster, &[a("www", "www", last)]);
    }
    follower.see(&mut cluster);
    assert_eq!(follower.serves[&apex()], serial(&cluster));
    leader.edit(&mut cluster, &[a("www", "www", 2)]);
    follower.see(&mut cluster);
    assert_eq!(follower.serves[&apex()], serial(&cluster));
    leader.follow(&mut cluster);
    let swaps = follower.swaps;
    follower.lead(&mut cluster);
    assert_eq!((follower.listings, follower.swaps), (0, swaps + 1), "it knows all that was published");
    assert!(follower.removed.is_empty());
}

#[test]
fn a_write_that_failed_is_not_repeated_after_the_version_of_another_one() {
    let (mut publication, next, now) = overtaken();
    let empty = Content::new(next.content.apex().clone(), next.content.soa().clone());
    let later = LedgerEntry::of(&Version { serial: next.serial.next(), content: empty });
    publication.named(Some(later), now);
    publication.lead();
    let commands = publication.swapped(Swapped::Failed, now);
    assert_eq!(commands, [Command::Fetch(later)]);
}

/// It may have been made from edits that this one has not seen.
#[test]
fn nothing_follows_a_version_that_was_fetched_before_everything_is_listed() {
    let mut cluster = Cluster::default();
    let mut leader = Replica::new(&mut cluster, &[a("www", "www", 1)]);
    leader.lead(&mut cluster);
    let base = cluster.servers[&apex()].clone();
    let mut other = Replica::new(&mut Cluster::default(), &[]);
    let mut empty = Cluster::default();
    other.lead(&mut empty);
    let wanted = empty.servers[&apex()].content.clone();

    let entry = LedgerEntry::of(&base);
    let mut publication = Publication::new(Guard::Relist, Some(entry));
    assert_eq!(publication.want(wanted.clone(), false, leader.now), [Command::Fetch(entry)]);
    // The answer comes when somebody else leads.
    publication.follow();
    assert_eq!(publication.fetched(Some(base.clone()), leader.now), [Command::Publish(base)]);
    publication.lead();
    assert_eq!(publication.want(wanted.clone(), false, leader.now), [Command::CatchUp]);
    let commands = publication.caught_up(leader.now);
    let [Command::Swap { expected, next }] = &commands[..] else { panic!("{commands:?}") };
    assert_eq!((*expected, next.content.digest()), (Some(entry.serial), wanted.digest()));
}

/// Edits are no removals, however many there are, and whatever of them the last leader has still published.
#[test]
fn a_new_leader_publishes_edits_of_every_record_that_were_made_while_nobody_led() {
    let mut cluster = Cluster::default();
    let hosts = |last: fn(u8) -> u8| -> Vec<Object> {
        (1..=100).map(|n| a(&format!("host-{n}"), &format!("host-{n}"), last(n))).collect()
    };
    let before = hosts(|n| n);
    let (mut leader, mut follower) =
        (Replica::new(&mut cluster, &before), Replica::new(&mut cluster, &before));
    leader.lead(&mut cluster);
    follower.see(&mut cluster);
    // The last thing that the leader publishes is a version which the follower never had.
    leader.edit(&mut cluster, &[a("host-1", "host-1", 250)]);
    let published = serial(&cluster);
    follower.see(&mut cluster);
    leader.follow(&mut cluster);
    follower.edit(&mut cluster, &hosts(|n| n + 100));
    follower.lead(&mut cluster);
    assert!(
        serial(&cluster).is_after(published),
        "{:?}",
        follower.core.zone_report(&key("zone")).unwrap().hold
    );
    assert_eq!(follower.swaps, 1);
}

#[test]
fn a_hold_survives_the_leader() {
    let mut cluster = Cluster::default();
    let many: Vec<Object> = (1..=100).map(|n| a(&format!("host-{n}"), &format!("host-{n}"), n)).collect();
    let (mut leader, mut follower) = (Replica::new(&mut cluster, &many), Replica::new(&mut cluster, &many));
    leader.lead(&mut cluster);
    follower.see(&mut cluster);
    let before = serial(&cluster);
    // A list without half of them: nobody was seen to delete those.
    let kind = many[0].key().kind;
    for replica in [&mut leader, &mut follower] {
        let listed = many[..50].iter().cloned().map(ObjectEvent::Applied);
        let events = [ObjectEvent::Relisting(kind)].into_iter().chain(listed);
        replica.step(&mut cluster, Input::Objects(events.chain([ObjectEvent::Relisted(kind)]).collect()));
    }
    leader.follow(&mut cluster);
    follower.lead(&mut cluster);
    assert_eq!((serial(&cluster), follower.swaps), (before, 0), "the removal was published");
    // One that a person deletes is another matter, and the rest stays held.
    follower.step(&mut cluster, Input::Objects(vec![ObjectEvent::Removed(many[0].key(), Removal::Deleted)]));
    assert_eq!(follower.core.zone_report(&key("zone")).unwrap().hold.unwrap().removed, 51);
}

/// A list brings another object of that name, whose deletion no watch has told, and its entry comes before it.
#[test]
fn a_follower_keeps_the_entry_of_an_object_that_was_made_anew() {
    let mut cluster = Cluster::default();
    let (mut leader, mut follower) = (Replica::new(&mut cluster, &[]), Replica::new(&mut cluster, &[]));
    leader.lead(&mut cluster);
    follower.see(&mut cluster);
    let Object::Zone(mut again) = zone("zone", "example.com", 2) else { panic!("no zone") };
    (again.metadata.uid, again.ttl) = ("another".to_owned(), Some(60));
    let again = [Object::Zone(again)];
    leader.edit(&mut cluster, &again);
    assert!(serial(&cluster).is_after(follower.serves[&apex()]));
    follower.see(&mut cluster);
    follower.edit(&mut cluster, &again);
    assert_eq!(follower.serves[&apex()], serial(&cluster));
}
