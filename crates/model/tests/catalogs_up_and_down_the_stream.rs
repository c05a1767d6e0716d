//! Who has whose catalog: each tier those of the tiers above and below it, and nobody waits for one that is gone.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    dead_code,
    reason = "a test fails by panicking, and shares the objects of its neighbours"
)]

mod common;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bindy_api::Reason;
use bindy_model::{
    Answer, Ask, Core, FleetProblem, Input, NamespacedName, Now, Object, ObjectEvent, Origin, Output,
    OutsideUpstream, Removal, Role, Selector, ServerId, ServerState, SourceKind, Swapped, Target,
    conditions::zone_conditions,
};
use bindy_zone::{Catalog, Name, Serial};
use common::{elsewhere, instance, key, zone, zone_spec};

/// A core whose ledger and servers do at once what they are told.
struct Rig {
    core: Core,
    now: Now,
    published: BTreeMap<Name, (Serial, BTreeSet<Name>)>,
    granted: BTreeMap<Name, BTreeSet<NamespacedName>>,
    /// Every entry written to the ledger.
    swaps: Vec<(Target, Serial)>,
    /// What no server ever gets.
    withheld: Option<Name>,
}

impl Rig {
    fn new(objects: Vec<Object>) -> Self {
        let mut rig = Self {
            core: Core::new([]),
            now: Now { monotonic: Duration::ZERO, unix: 1_000 },
            published: BTreeMap::new(),
            granted: BTreeMap::new(),
            swaps: Vec::new(),
            withheld: None,
        };
        let instances = objects.iter().filter(|object| matches!(object, Object::Instance(_)));
        let servers = instances.map(|object| ServerState {
            id: ServerId { instance: object.key().key, name: "0".to_owned() },
            incarnation: 1,
            ready: true,
            going: false,
        });
        rig.step(Input::Servers(servers.collect()));
        let mut events: Vec<ObjectEvent> = objects.into_iter().map(ObjectEvent::Applied).collect();
        events.push(ObjectEvent::Listed);
        rig.step(Input::Objects(events));
        rig
    }

    fn step(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            for output in self.core.step(input, self.now) {
                match output {
                    Output::Swap { target, next, .. } => {
                        self.swaps.push((target.clone(), next.serial));
                        inputs.push_back(Input::Swapped(target, Swapped::Done));
                    }
                    Output::Publish(target, name, version) => {
                        let members = match target {
                            Target::Catalog(_) => Catalog::members(&version.content).collect(),
                            _ => BTreeSet::new(),
                        };
                        self.published.insert(name, (version.serial, members));
                    }
                    Output::Grant(_, name, instances) => drop(self.granted.insert(name, instances)),
                    Output::Probe(id, probes) => inputs.extend(probes.into_iter().map(|probe| {
                        let answer = match &probe.ask {
                            _ if self.withheld.as_ref() == Some(&probe.zone) => {
                                Answer::Failure("refused".to_owned())
                            }
                            Ask::Notify => Answer::Notified,
                            Ask::Serial { .. } => Answer::Serial(probe.serial),
                            Ask::Records(_) => Answer::Proven,
                        };
                        Input::Probed(id.clone(), probe, answer)
                    })),
                    Output::Fetch(..) | Output::CatchUp(_) | Output::Retire(_) => {}
                }
            }
        }
    }

    /// Lets ten seconds pass.
    fn wait(&mut self) {
        for _ in 0..1_000 {
            self.now.monotonic += Duration::from_millis(10);
            self.step(Input::Tick);
        }
    }

    fn members(&self, instance: &str) -> Vec<String> {
        let (_, members) = &self.published[&catalog(instance)];
        members.iter().map(Name::to_string).collect()
    }

    fn missing(&self) -> usize {
        self.core.server_reports().map(|report| report.missing).sum()
    }
}

fn catalog(instance: &str) -> Name {
    let key = key(instance);
    Catalog::name(&key.namespace, &key.name).unwrap()
}

fn chain() -> Vec<Object> {
    vec![
        instance("top", Role::Primary, &[]),
        instance("middle", Role::Secondary, &["top"]),
        instance("edge", Role::Secondary, &["middle"]),
        instance("aside", Role::Secondary, &["top"]),
        zone("zone", "example.com", 1),
    ]
}

#[test]
fn each_tier_has_the_catalogs_above_and_below_it_and_not_those_beside_it() {
    let mut rig = Rig::new(chain());
    rig.wait();
    for (of, others) in [
        ("top", ["middle", "edge", "aside"].as_slice()),
        ("middle", &["top", "edge"]),
        ("edge", &["middle", "top"]),
        ("aside", &["top"]),
    ] {
        let found: BTreeSet<String> = rig.members(of).into_iter().filter(|m| m.ends_with("bindy.")).collect();
        let wanted: BTreeSet<String> = others.iter().map(|other| catalog(other).to_string()).collect();
        assert_eq!(found, wanted, "members of {of}");
        let holders: BTreeSet<NamespacedName> = others.iter().chain(&[of]).map(|name| key(name)).collect();
        assert_eq!(rig.granted[&catalog(of)], holders, "who may have the catalog of {of}");
    }
    assert_eq!(rig.missing(), 0);
    let counts: Vec<usize> = rig.core.instance_reports().map(|report| report.zones).collect();
    assert_eq!(counts, [1; 4], "catalogs are not counted as zones");
}

/// A zone of `example.com` for the instances of that tier.
fn bound(object: &str, created: u32, tier: &str) -> Object {
    let labels = BTreeMap::from([("tier".to_owned(), tier.to_owned())]);
    let mut spec = zone_spec(object, "example.com", created);
    spec.instances_from = Some(vec![Selector { labels, expressions: Vec::new() }]);
    Object::Zone(Box::new(spec))
}

/// The instances of the chain, each of a tier with its own name, and nothing to serve.
fn tiers() -> Vec<Object> {
    let labelled = |object| match object {
        Object::Instance(mut instance) => {
            let name = instance.metadata.key.name.clone();
            instance.metadata.labels.insert("tier".to_owned(), name);
            Some(Object::Instance(instance))
        }
        _ => None,
    };
    chain().into_iter().filter_map(labelled).collect()
}

#[test]
fn a_zone_bound_to_a_lower_tier_alone_is_carried_by_every_tier_above_it() {
    let mut objects = tiers();
    objects.push(bound("zone", 1, "edge"));
    let mut rig = Rig::new(objects);
    rig.wait();
    let has = |of: &str| rig.members(of).contains(&"example.com.".to_owned());
    assert_eq!(["top", "middle", "edge", "aside"].map(has), [true, true, true, false]);
    let report = rig.core.zone_report(&key("zone")).unwrap();
    assert_eq!((report.in_sync, report.unserving, report.refusal), (1, None, None));
}

#[test]
fn a_zone_where_a_tier_above_has_another_one_of_its_name_is_refused_with_the_reason() {
    for (older, younger) in [("top", "edge"), ("edge", "top")] {
        let mut objects = tiers();
        objects.extend([bound("first", 1, older), bound("second", 2, younger)]);
        let mut rig = Rig::new(objects);
        rig.wait();
        let accepted = |zone: &str| {
            let report = rig.core.zone_report(&key(zone)).unwrap();
            let condition = zone_conditions(&report).into_iter().next().unwrap();
            (condition.reason, condition.message)
        };
        assert_eq!(accepted("first").0, Reason::Accepted);
        let (reason, message) = accepted("second");
        assert_eq!(reason, Reason::Conflict, "{older} and {younger}: {message}");
        assert!(message.contains("default/first"), "{message}");
        assert_eq!(rig.core.zone_report(&key("first")).unwrap().in_sync, 1);
        let at_the_edge = rig.members("edge").contains(&"example.com.".to_owned());
        assert_eq!(
            at_the_edge,
            older == "edge",
            "what its own instance does not serve is not in its catalog"
        );
    }
}

#[test]
fn a_tier_whose_upstream_does_not_exist_says_so_and_its_zones_come_from_the_hidden_primary() {
    let mut rig =
        Rig::new(vec![instance("edge", Role::Secondary, &["nowhere"]), zone("zone", "example.com", 1)]);
    rig.wait();
    assert_eq!(rig.core.zone_report(&key("zone")).unwrap().in_sync, 1);
    let problem = rig.core.instance_report(&key("edge")).unwrap().problem;
    assert_eq!(problem, Some(FleetProblem::UpstreamMissing("nowhere".to_owned())));
    let links = rig.core.world().fleet().links(&key("edge"));
    let operator = links.iter().find(|link| link.origin == Origin::Operator).unwrap();
    assert_eq!(operator.kind, SourceKind::Upstream);
}

#[test]
fn a_primary_that_has_upstreams_is_told_so() {
    let rig = Rig::new(vec![instance("top", Role::Primary, &[]), instance("edge", Role::Primary, &["top"])]);
    let problem = rig.core.instance_report(&key("edge")).unwrap().problem;
    assert_eq!(problem, Some(FleetProblem::PrimaryWithUpstreams));
    assert_eq!(rig.core.instance_report(&key("top")).unwrap().problem, None);
}

#[test]
fn a_deleted_instance_leaves_every_catalog_and_nobody_waits_for_its_own() {
    let mut rig = Rig::new(chain());
    rig.withheld = Some(catalog("edge"));
    rig.wait();
    assert!(rig.missing() > 0);
    let edge = instance("edge", Role::Secondary, &["middle"]);
    let left: Vec<ServerState> = ["top", "middle", "aside"]
        .map(|name| ServerState {
            id: ServerId { instance: key(name), name: "0".to_owned() },
            incarnation: 1,
            ready: true,
            going: false,
        })
        .into();
    rig.step(Input::Objects(vec![ObjectEvent::Removed(edge.key(), Removal::Deleted)]));
    rig.step(Input::Servers(left));
    rig.wait();
    for instance in ["top", "middle"] {
        assert!(!rig.members(instance).contains(&catalog("edge").to_string()), "{instance}");
    }
    assert_eq!(rig.missing(), 0, "somebody waits for a catalog that is gone");
}

#[test]
fn zones_of_one_name_on_different_instances_do_not_disturb_each_other() {
    let here = [instance("top", Role::Primary, &[]), zone("zone", "example.com", 1)];
    let mut rig = Rig::new(here.iter().cloned().chain(here.iter().cloned().map(elsewhere)).collect());
    rig.wait();
    for namespace in ["default", "elsewhere"] {
        let report = rig.core.zone_report(&NamespacedName::new(namespace, "zone")).unwrap();
        assert_eq!(report.in_sync, 1, "{namespace}: lagging are {:?}", report.lagging);
        assert_eq!(report.unserving, None, "{namespace}");
    }
}

/// An object of the same name that was made after the first was deleted.
fn again(object: &Object) -> Object {
    let mut object = object.clone();
    match &mut object {
        Object::Instance(instance) => instance.metadata.uid.push_str("-again"),
        Object::Zone(zone) => zone.metadata.uid.push_str("-again"),
        Object::Record(_) | Object::ConfigMap(_) => {}
    }
    object
}

#[test]
fn an_object_made_again_gets_an_entry_of_its_own_also_for_the_same_content() {
    let here = [instance("top", Role::Primary, &[]), zone("zone", "example.com", 1)];
    for seen in ["deleted and made", "made", "deleted, a while ago"] {
        let mut rig = Rig::new(here.to_vec());
        rig.wait();
        for object in &here {
            let before = rig.swaps.len();
            let serials =
                |rig: &Rig| -> Vec<Serial> { rig.published.values().map(|(serial, _)| *serial).collect() };
            let last = serials(&rig);
            let (removed, made) =
                (ObjectEvent::Removed(object.key(), Removal::Deleted), ObjectEvent::Applied(again(object)));
            match seen {
                "made" => rig.step(Input::Objects(vec![made])),
                "deleted and made" => rig.step(Input::Objects(vec![removed, made])),
                _ => {
                    rig.step(Input::Objects(vec![removed]));
                    rig.wait();
                    rig.step(Input::Objects(vec![made]));
                }
            }
            rig.wait();
            let own = |target: &Target| match target {
                Target::Zone(key, _) | Target::Catalog(key) => *key == object.key().key,
                Target::Orphan(_) => false,
            };
            let written = rig.swaps[before..].iter().any(|(target, _)| own(target));
            assert!(written, "{seen}: nothing is written for the new {}", object.key());
            let risen = serials(&rig).iter().zip(&last).all(|(now, before)| !before.is_after(*now));
            assert!(risen, "{seen}: {:?} after {last:?}", serials(&rig));
            assert_eq!(rig.missing(), 0, "{seen}");
        }
    }
}

/// Whether the servers of the instance `top` of a namespace have the zone.
fn serves(rig: &Rig, namespace: &str, zone: &str) -> bool {
    rig.published[&Catalog::name(namespace, "top").unwrap()].1.contains(&Name::parse(zone).unwrap())
}

/// Objects that hide zones as long as nothing is known of them: an instance may have some from outside.
fn hiding() -> [Object; 2] {
    [instance("bad", Role::Primary, &[]), zone("bad", "example.org", 1)]
}

#[test]
fn an_unreadable_object_keeps_deleted_zones_in_its_own_namespace_only() {
    let here = [instance("top", Role::Primary, &[]), zone("zone", "example.com", 1)];
    for hiding in hiding() {
        let mut rig = Rig::new(here.iter().cloned().chain(here.iter().cloned().map(elsewhere)).collect());
        rig.wait();
        let removed = |object: &Object| ObjectEvent::Removed(object.key(), Removal::Deleted);
        rig.step(Input::Objects(vec![
            ObjectEvent::Unreadable(hiding.key(), "why".to_owned()),
            removed(&here[1]),
            removed(&elsewhere(here[1].clone())),
        ]));
        rig.wait();
        let served = ["default", "elsewhere"].map(|namespace| serves(&rig, namespace, "example.com"));
        assert_eq!(served, [true, false], "{}", hiding.key());
    }
}

#[test]
fn deleted_zones_leave_the_servers_once_no_object_is_unreadable_any_more() {
    for hiding in hiding() {
        for end in
            [ObjectEvent::Removed(hiding.key(), Removal::Deleted), ObjectEvent::Applied(hiding.clone())]
        {
            let mut rig = Rig::new(vec![instance("top", Role::Primary, &[]), zone("zone", "example.com", 1)]);
            rig.wait();
            rig.step(Input::Objects(vec![
                ObjectEvent::Unreadable(hiding.key(), "why".to_owned()),
                ObjectEvent::Removed(zone("zone", "example.com", 1).key(), Removal::Deleted),
            ]));
            rig.wait();
            assert!(serves(&rig, "default", "example.com"));
            rig.step(Input::Objects(vec![end.clone()]));
            rig.wait();
            assert!(!serves(&rig, "default", "example.com"), "{end:?}");
        }
    }
}

#[test]
fn a_zone_that_came_back_outlives_a_new_version_of_one_of_its_name_elsewhere() {
    let here = [instance("top", Role::Primary, &[]), zone("zone", "example.com", 1)];
    let mut rig = Rig::new(here.iter().cloned().chain(here.iter().cloned().map(elsewhere)).collect());
    rig.wait();
    // The catalog has a new version, so that none without the zone follows before it is back.
    rig.step(Input::Objects(vec![ObjectEvent::Applied(zone("other", "example.org", 1))]));
    rig.step(Input::Objects(vec![ObjectEvent::Removed(here[1].key(), Removal::Deleted)]));
    rig.step(Input::Objects(vec![ObjectEvent::Applied(again(&here[1]))]));
    let mut there = zone_spec("zone", "example.com", 1);
    there.ttl = Some(60);
    rig.step(Input::Objects(vec![ObjectEvent::Applied(elsewhere(Object::Zone(Box::new(there))))]));
    rig.wait();
    assert!(rig.core.zone_report(&key("zone")).unwrap().published.is_some());
}

fn from_outside(instance: &mut Object, zone: &Name) {
    let Object::Instance(instance) = instance else { panic!("no instance") };
    instance.outside = vec![OutsideUpstream {
        name: "hq".to_owned(),
        address: "192.0.2.53:53".parse().unwrap(),
        key: Name::parse("hq-transfer").unwrap(),
        secret: "hq-key".to_owned(),
        zones: [zone.clone()].into(),
    }];
}

#[test]
fn a_zone_from_outside_is_in_the_catalogs_of_its_instance_and_below_and_keeps_objects_off_its_name() {
    let mut objects = chain();
    let hq = Name::parse("hq.example").unwrap();
    from_outside(&mut objects[1], &hq);
    objects.push(zone("hq", "hq.example", 2));
    let mut rig = Rig::new(objects);
    rig.wait();
    for (of, has) in [("top", false), ("middle", true), ("edge", true), ("aside", false)] {
        assert_eq!(rig.members(of).contains(&hq.to_string()), has, "{of}");
    }
    assert_eq!(rig.missing(), 0);
    let refusal = rig.core.zone_report(&key("hq")).unwrap().refusal.unwrap().to_string();
    assert!(refusal.contains("default/middle") && refusal.contains("outside"), "{refusal}");
    everywhere_of_the_object(&mut rig, &hq);
}

/// Nothing comes from outside any more, and the object's zone is served by all.
fn everywhere_of_the_object(rig: &mut Rig, zone: &Name) {
    rig.step(Input::Objects(vec![ObjectEvent::Applied(instance("middle", Role::Secondary, &["top"]))]));
    rig.wait();
    for of in ["top", "middle", "edge", "aside"] {
        assert!(rig.members(of).contains(&zone.to_string()), "{of} has it from the object");
    }
    let report = rig.core.zone_report(&key("hq")).unwrap();
    assert_eq!((report.refusal, report.in_sync), (None, 4));
    assert_eq!(rig.missing(), 0);
}

#[test]
fn a_name_that_was_listed_by_mistake_goes_back_to_its_object() {
    let hq = Name::parse("hq.example").unwrap();
    let mut objects = chain();
    objects.push(zone("hq", "hq.example", 2));
    let mut rig = Rig::new(objects.clone());
    rig.wait();
    // Taken back at once, and after a while.
    for pause in [false, true] {
        let mut listed = objects[1].clone();
        from_outside(&mut listed, &hq);
        rig.step(Input::Objects(vec![ObjectEvent::Applied(listed)]));
        if pause {
            rig.wait();
            assert!(rig.core.zone_report(&key("hq")).unwrap().refusal.is_some());
        }
        everywhere_of_the_object(&mut rig, &hq);
    }
}

#[test]
fn many_names_that_were_listed_by_mistake_and_held_need_no_release() {
    let name = |number: usize| Name::parse(&format!("zone-{number}.example")).unwrap();
    let mut objects = chain();
    objects.extend((0..15).map(|number| zone(&format!("z{number}"), &name(number).to_string(), 2)));
    let mut listed = objects[1].clone();
    let mut rig = Rig::new(objects);
    rig.wait();
    from_outside(&mut listed, &name(0));
    let Object::Instance(middle) = &mut listed else { panic!("no instance") };
    middle.outside[0].zones = (0..15).map(name).collect();
    rig.step(Input::Objects(vec![ObjectEvent::Applied(listed)]));
    rig.wait();
    let hold = |rig: &Rig| rig.core.instance_report(&key("top")).unwrap().hold;
    assert!(hold(&rig).is_some(), "top is about to lose all of them");
    rig.step(Input::Objects(vec![ObjectEvent::Applied(instance("middle", Role::Secondary, &["top"]))]));
    rig.wait();
    assert!(hold(&rig).is_none(), "nothing is to be removed any more");
    assert!((0..15).all(|number| rig.members("top").contains(&name(number).to_string())));
    assert_eq!(rig.missing(), 0);
}

#[test]
fn a_zone_of_that_name_is_refused_wherever_it_could_reach_servers_that_have_it_from_outside() {
    let hq = Name::parse("hq.example").unwrap();
    let mut objects = tiers();
    let names: Vec<String> = objects.iter().map(|object| object.key().key.name).collect();
    let lowest = names.iter().position(|name| name == "edge").unwrap();
    from_outside(&mut objects[lowest], &hq);
    let Object::Zone(mut at_top) = bound("hq", 2, "top") else { panic!("no zone") };
    at_top.zone_name = "hq.example".to_owned();
    objects.push(Object::Zone(at_top));
    let mut rig = Rig::new(objects);
    rig.wait();
    let refusal = rig.core.zone_report(&key("hq")).unwrap().refusal.unwrap().to_string();
    assert!(refusal.contains("default/edge"), "{refusal}");
}
