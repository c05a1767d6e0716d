//! The checker has to be able to fail: one handmade history for each kind of violation, and their correct twins.

#![cfg(test)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bindy_testing::Question;
use bindy_testing::checker::{Published, Rule, check, verify};
use bindy_testing::dns::Transport;
use bindy_testing::history::{History, Observation, Outage, Outcome};
use bindy_zone::{Content, Name, OwnerName, Rdata, RrSets, Rtype, Serial, Soa, Ttl, Version};
use domain::base::iana::Rcode;

fn zone() -> Name {
    Name::parse("example.test").unwrap()
}

fn soa() -> Soa {
    let primary = Name::parse("ns.example.test").unwrap();
    let mailbox = Name::parse("hostmaster.example.test").unwrap();
    Soa { ttl: 3600, primary, mailbox, refresh: 3600, retry: 600, expire: 3_024_000, negative_ttl: 300 }
}

/// A version whose records are A records of 192.0.2.x, or CNAMEs to `ns`.
fn version(serial: u32, records: &[(&str, Option<u8>)]) -> Version {
    let mut content = Content::new(zone(), soa());
    for (owner, address) in records {
        let owner = OwnerName::parse(owner, &zone()).unwrap();
        let (rtype, rdata) = match address {
            Some(last) => (Rtype::A, Rdata::a([192, 0, 2, *last].into())),
            None => (Rtype::CNAME, Rdata::name(&Name::parse("ns.example.test").unwrap())),
        };
        content.set(
            owner,
            RrSets::pack(BTreeMap::from([(rtype, (Ttl::saturating(300), vec![rdata]))])).unwrap(),
        );
    }
    Version { serial: Serial::new(serial), content }
}

/// `www` moves from .1 to .2 to .3; `mail` stays.
fn published() -> Published {
    let versions = [1, 2, 3].map(|n| version(u32::from(n), &[("www", Some(n)), ("mail", Some(9))]));
    Published::from([(zone(), versions.to_vec())])
}

/// Builds histories: each call is a second later, and takes 10 ms.
#[derive(Default)]
struct Story(History);

impl Story {
    fn said(mut self, server: &str, name: &str, rtype: Rtype, outcome: Outcome) -> Self {
        let sent = self.now();
        let name = OwnerName::parse(name, &zone()).unwrap().in_zone(&zone());
        self.0.observations.push(Observation {
            sent,
            ended: sent + Duration::from_millis(10),
            server: server.into(),
            transport: Transport::Udp,
            question: Arc::new(Question { name, rtype }),
            outcome: Arc::new(outcome),
        });
        self
    }

    fn now(&self) -> Duration {
        Duration::from_secs(self.0.observations.len() as u64)
    }

    fn a(self, server: &str, name: &str, last: u8) -> Self {
        let records = [(Rtype::A, 300, vec![192, 0, 2, last])].into();
        self.said(server, name, Rtype::A, Outcome::Answer { rcode: Rcode::NOERROR, records, serial: None })
    }

    fn soa(self, server: &str, serial: u32) -> Self {
        let serial = Serial::new(serial);
        let records = [(Rtype::SOA, 3600, soa().rdata(serial))].into();
        let outcome = Outcome::Answer { rcode: Rcode::NOERROR, records, serial: Some(serial) };
        self.said(server, "@", Rtype::SOA, outcome)
    }

    fn code(self, server: &str, name: &str, rcode: Rcode, serial: Option<u32>) -> Self {
        let serial = serial.map(Serial::new);
        self.said(server, name, Rtype::A, Outcome::Answer { rcode, records: [].into(), serial })
    }

    fn lost(self, server: &str) -> Self {
        self.said(server, "www", Rtype::A, Outcome::Lost)
    }

    fn down(mut self, server: &str) -> Self {
        let from = self.now();
        self.0.outages.push(Outage { server: server.into(), from, until: None, loses: false });
        self
    }

    fn up(mut self) -> Self {
        let now = self.now();
        self.0.outages.last_mut().unwrap().until = Some(now);
        self
    }

    #[track_caller]
    fn breaks(&self, published: &Published, rule: Rule, words: &[&str]) {
        let violations = check(&self.0, published, 10);
        let rules: Vec<Rule> = violations.iter().map(|violation| violation.rule).collect();
        assert_eq!(rules, [rule], "{violations:#?}");
        let text = violations[0].to_string();
        for word in words {
            assert!(text.contains(word), "{word:?} is missing in: {text}");
        }
        verify(&self.0, published).unwrap_err();
    }

    #[track_caller]
    fn holds(&self, published: &Published) {
        verify(&self.0, published).unwrap();
    }
}

#[test]
fn changes_that_arrive_in_order_are_no_violation() {
    let story = Story::default().soa("s1", 1).a("s1", "www", 1).a("s1", "www", 2).a("s1", "mail", 9);
    let story = story.a("s2", "www", 1).a("s2", "www", 3).soa("s1", 3).a("s1", "www", 3).soa("s2", 3);
    let story = story.code("s1", "nowhere", Rcode::NXDOMAIN, Some(3));
    story.code("s1", "nowhere.www", Rcode::NXDOMAIN, Some(3)).holds(&published());
}

#[test]
fn vanished_record_is_found() {
    let story = Story::default().a("s1", "mail", 9).code("s1", "mail", Rcode::NXDOMAIN, None);
    story.breaks(&published(), Rule::WrongAnswer, &["s1", "mail.example.test.", "NXDOMAIN"]);
    let story = Story::default().a("s1", "mail", 9).code("s1", "mail", Rcode::NOERROR, None);
    story.breaks(&published(), Rule::WrongAnswer, &["mail.example.test. A", "NOERROR []"]);
}

#[test]
fn empty_zone_is_found_even_before_the_first_right_answer() {
    let story = Story::default().code("s1", "mail", Rcode::NXDOMAIN, None).a("s1", "mail", 9);
    story.breaks(&published(), Rule::WrongAnswer, &["NXDOMAIN"]);
}

#[test]
fn foreign_answer_and_foreign_ttl_are_found() {
    Story::default().a("s1", "www", 77).breaks(&published(), Rule::WrongAnswer, &["192.0.2.1", "s1"]);
    let records = [(Rtype::A, 301, vec![192, 0, 2, 1])].into();
    let outcome = Outcome::Answer { rcode: Rcode::NOERROR, records, serial: None };
    let story = Story::default().said("s1", "www", Rtype::A, outcome);
    story.breaks(&published(), Rule::WrongAnswer, &["301 A"]);
}

#[test]
fn failure_after_the_first_right_answer_is_found_and_before_it_is_not() {
    for rcode in [Rcode::SERVFAIL, Rcode::REFUSED] {
        Story::default().code("s1", "www", rcode, None).a("s1", "www", 1).holds(&published());
        let story = Story::default().a("s1", "www", 1).code("s1", "www", rcode, None);
        story.breaks(&published(), Rule::WrongRcode, &["www.example.test. A"]);
        // What one server had said is nothing that excuses another.
        let story = Story::default().a("s1", "www", 1).a("s2", "www", 1).code("s2", "www", rcode, None);
        story.breaks(&published(), Rule::WrongRcode, &["s2"]);
    }
}

#[test]
fn outage_excuses_failures_until_the_first_right_answer_only() {
    let failing = |story: Story| story.code("s1", "www", Rcode::SERVFAIL, None).lost("s1");
    let story = failing(failing(Story::default().a("s1", "www", 1).down("s1")).up());
    story.holds(&published());
    let story = Story::default().a("s1", "www", 1).down("s1").up().a("s1", "www", 1);
    story.code("s1", "www", Rcode::SERVFAIL, None).breaks(&published(), Rule::WrongRcode, &["SERVFAIL"]);
    let story = Story::default().a("s1", "www", 1).a("s2", "www", 1).down("s1").lost("s1");
    story.lost("s2").breaks(&published(), Rule::Lost, &["s2"]);
}

#[test]
fn outage_excuses_no_wrong_and_no_older_answer() {
    let story = Story::default().a("s1", "www", 1).down("s1").up();
    story.code("s1", "www", Rcode::NXDOMAIN, None).breaks(&published(), Rule::WrongAnswer, &["NXDOMAIN"]);
    let story = Story::default().a("s1", "www", 2).down("s1").up();
    story.a("s1", "www", 1).breaks(&published(), Rule::Backward, &["version 1", "served 2"]);
}

#[test]
fn a_server_that_loses_something_may_give_older_answers_until_its_outage_ends() {
    let loses = || {
        let mut story = Story::default().a("s1", "www", 2).down("s1");
        story.0.outages.last_mut().unwrap().loses = true;
        story.a("s1", "www", 1)
    };
    loses().a("s1", "www", 2).up().a("s1", "www", 2).holds(&published());
    loses().up().a("s1", "www", 1).breaks(&published(), Rule::Backward, &["version 1", "served 2"]);
    let wrong = loses().code("s1", "www", Rcode::NXDOMAIN, None).up();
    wrong.breaks(&published(), Rule::WrongAnswer, &["NXDOMAIN"]);
}

#[test]
fn lost_question_is_found() {
    Story::default().a("s1", "www", 1).lost("s1").breaks(&published(), Rule::Lost, &["no answer"]);
}

#[test]
fn older_answer_and_older_serial_are_found() {
    let story = Story::default().a("s1", "www", 2).a("s1", "www", 1);
    story.breaks(&published(), Rule::Backward, &["version 1", "had served 2"]);
    let story = Story::default().soa("s1", 3).soa("s1", 2);
    story.breaks(&published(), Rule::Backward, &["version 2", "had served 3"]);
    // A serial proves the version of every later answer of the zone.
    let story = Story::default().soa("s1", 3).a("s1", "www", 2);
    story.breaks(&published(), Rule::Backward, &["www.example.test. A"]);
    Story::default().soa("s1", 3).a("s2", "www", 2).holds(&published());
}

#[test]
fn answers_under_way_together_may_overtake_each_other() {
    let mut story = Story::default().a("s1", "www", 2).a("s1", "www", 1);
    story.0.observations[1].sent = Duration::from_millis(5);
    story.holds(&published());
}

#[test]
fn serial_that_was_never_published_is_found() {
    let story = Story::default().code("s1", "nowhere", Rcode::NXDOMAIN, Some(4));
    story.breaks(&published(), Rule::UnknownSerial, &["serial 4", "example.test."]);
}

#[test]
fn one_serial_with_two_contents_is_found_in_answers() {
    // `old` exists in version 1 only; the second server gives a negative answer under the serial of version 1.
    let with = version(1, &[("old", Some(1))]);
    let published = Published::from([(zone(), vec![with, version(2, &[])])]);
    let records = [(Rtype::A, 300, vec![192, 0, 2, 1])].into();
    let positive = Outcome::Answer { rcode: Rcode::NOERROR, records, serial: Some(Serial::new(1)) };
    let story = Story::default().said("s1", "old", Rtype::A, positive);
    let story = story.code("s2", "old", Rcode::NXDOMAIN, Some(1));
    story.breaks(&published, Rule::SerialReused, &["s2", "s1", "serial 1"]);
}

#[test]
fn reused_and_falling_serials_are_found_among_published_versions() {
    let story = Story::default().code("s1", "nowhere", Rcode::NXDOMAIN, None);
    let reused =
        Published::from([(zone(), vec![version(1, &[("www", Some(1))]), version(1, &[("www", Some(2))])])]);
    story.breaks(&reused, Rule::SerialReused, &["published twice", "- www 300 A", "+ www 300 A"]);
    let falling = Published::from([(zone(), vec![version(5, &[]), version(4, &[("www", Some(1))])])]);
    story.breaks(&falling, Rule::SerialBackward, &["4 was published after 5"]);
    let wrapped = Published::from([(zone(), vec![version(u32::MAX, &[]), version(0, &[("www", Some(1))])])]);
    story.holds(&wrapped);
}

#[test]
fn type_change_is_atomic() {
    let published =
        Published::from([(zone(), vec![version(1, &[("www", Some(1))]), version(2, &[("www", None)])])]);
    let target = Name::parse("ns.example.test").unwrap().to_wire();
    let alias = |records| Outcome::Answer { rcode: Rcode::NXDOMAIN, records, serial: None };
    let cname = alias([(Rtype::CNAME, 300, target.clone())].into());
    let story = Story::default().a("s1", "www", 1).said("s1", "www", Rtype::A, cname);
    story.holds(&published);
    let both = alias([(Rtype::CNAME, 300, target), (Rtype::A, 300, vec![192, 0, 2, 1])].into());
    Story::default().said("s1", "www", Rtype::A, both).breaks(&published, Rule::WrongAnswer, &["CNAME"]);
}

#[test]
fn wildcards_empty_nonterminals_and_delegations_are_expected() {
    let mut zone_with = version(1, &[("*.wild", Some(1)), ("a.b", Some(2))]);
    let cut = OwnerName::parse("sub", &zone()).unwrap();
    let server = Rdata::name(&Name::parse("ns.elsewhere.test").unwrap());
    let rrsets = BTreeMap::from([(Rtype::NS, (Ttl::saturating(60), vec![server]))]);
    zone_with.content.set(cut, RrSets::pack(rrsets).unwrap());
    let published = Published::from([(zone(), vec![zone_with])]);
    let story = Story::default().a("s1", "any.wild", 1).code("s1", "b", Rcode::NOERROR, Some(1));
    let story = story.code("s1", "wild", Rcode::NOERROR, None).code("s1", "x.sub", Rcode::NOERROR, None);
    story.code("s1", "c.b", Rcode::NXDOMAIN, None).holds(&published);
    let story = Story::default().code("s1", "any.wild", Rcode::NXDOMAIN, None);
    story.breaks(&published, Rule::WrongAnswer, &["any.wild"]);
}

#[test]
fn history_without_answers_or_with_missing_ones_proves_nothing() {
    verify(&History::default(), &published()).unwrap_err();
    let mut story = Story::default().a("s1", "www", 1);
    story.0.dropped = 1;
    verify(&story.0, &published()).unwrap_err();
}
