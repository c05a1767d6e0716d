//! The rest after the faults: everything is where it should be, and a change of leader writes nothing.

use bindy_model::{LedgerEntry, LedgerKind, ObjectKey, World};
use bindy_zone::Version;
use rand::Rng;

use super::{Simulation, ZONES, apex};
use crate::common::key;

impl Simulation {
    /// One leads, and nothing is lost any more.
    pub(super) fn converge(&mut self, leader: usize) {
        for _ in 0..20_000 {
            for n in 0..2 {
                self.operators[n].stalled = 0;
                self.act(n);
            }
            self.arrive();
            self.reply();
            if self.random.random_ratio(1, 4) {
                self.pass(leader);
                self.pass(1 - leader);
            }
            let server = self.random.random_range(0..self.servers.len());
            self.transfer(server);
            self.check();
            if self.random.random_ratio(1, 50) && self.is_converged(leader) {
                return;
            }
        }
        panic!("not converged after all faults ended: {}", self.lacking(leader).unwrap_or_default());
    }

    fn is_converged(&self, leader: usize) -> bool {
        self.lacking(leader).is_none()
    }

    /// What is not as it should be in the end.
    fn lacking(&self, leader: usize) -> Option<String> {
        let mut whole = World::new();
        for (object, _) in self.api.objects.values().cloned() {
            whole.apply(object);
        }
        whole.listed();
        for (n, name) in ZONES.iter().enumerate() {
            let wanted = whole.compile(&key(name)).unwrap().content.digest();
            let entry = self.api.ledger.get(&(key(name), LedgerKind::Zone));
            let right = |version: Option<&Version>| {
                version.is_some_and(|version| {
                    version.content.digest() == wanted && entry == Some(&LedgerEntry::of(version))
                })
            };
            if let Some(at) = self.servers.iter().position(|server| !right(server.zones.get(&apex(n)))) {
                return Some(format!("server {at} has not the version of {name}"));
            }
            if let Some(at) = self.operators.iter().position(|one| !right(one.published.get(&apex(n)))) {
                return Some(format!("operator {at} (leader {leader}) serves not {entry:?} of {name}"));
            }
            let report = self.operators[leader].core.zone_report(&key(name))?;
            if report.in_sync != 3 {
                return Some(format!("{name} is in sync on {}", report.in_sync));
            }
        }
        let told = |key: &ObjectKey| !matches!(key.kind, bindy_model::Kind::Instance);
        let untold = self.api.objects.iter().find(|(key, (_, status))| told(key) && !status.ready);
        if let Some((key, _)) = untold {
            return Some(format!("{key} is not told to be ready"));
        }
        (!self.network.is_empty()).then(|| "a request is under way".to_owned())
    }

    /// With nothing to do, a new leader writes nothing.
    pub(super) fn hand_over_without_a_write(&mut self, next: usize) {
        for n in 0..2 {
            while self.operators[n].is_behind(&self.api) {
                self.see(n);
            }
        }
        let before = self.api.effects;
        self.end_term();
        self.begin_term(next);
        self.converge(next);
        for _ in 0..2_000 {
            self.act(next);
            self.arrive();
            self.reply();
            self.pass(next);
        }
        assert_eq!(self.api.effects, before, "a new leader without anything to do wrote something");
    }
}
