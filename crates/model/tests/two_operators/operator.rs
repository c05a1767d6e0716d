//! One operator: its engine, how far its watch has come, what it has still to do.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bindy_api::RecordKind;
use bindy_model::{
    Core, Input, Kind, LedgerKind, Notices, Now, Object, ObjectEvent, ObjectKey, Output, Target, Told, told,
};
use bindy_zone::{Name, Version};

use crate::api::{Api, Event, Of, Slot};

pub struct Operator {
    pub core: Core,
    pub now: Now,
    /// Events of the API's log that it has seen.
    position: usize,
    /// Another one after each crash.
    pub incarnation: u64,
    /// The term that it began to lead in.
    pub term: Option<u64>,
    /// Steps for which it does nothing.
    pub stalled: usize,
    pub published: BTreeMap<Name, Version>,
    /// What is to be carried out.
    pub work: VecDeque<Output>,
    /// What it served since the last look of whoever checks.
    pub new: Vec<(Target, Name, Version)>,
}

impl Operator {
    /// One that has just started, and lists everything.
    pub fn start(api: &Api, incarnation: u64, unix: u32) -> Self {
        let mut operator = Self {
            core: Core::new(api.ledger.clone()).telling(),
            now: Now { monotonic: Duration::ZERO, unix },
            position: api.log.len(),
            incarnation,
            term: None,
            stalled: 0,
            published: BTreeMap::new(),
            work: VecDeque::new(),
            new: Vec::new(),
        };
        operator.step(Input::Follow);
        operator.step(Input::Objects(events(api)));
        operator.step(Input::Objects(vec![ObjectEvent::Listed]));
        operator
    }

    pub fn step(&mut self, input: Input) {
        for output in self.core.step(input, self.now) {
            match output {
                Output::Publish(target, name, version) => {
                    let before = self.published.insert(name.clone(), version.clone());
                    let back = before.is_some_and(|before| before.serial.is_after(version.serial));
                    assert!(!back, "{name} went back to {}", version.serial);
                    self.new.push((target, name, version));
                }
                Output::Grant(..) | Output::Retire(_) => {}
                output => self.work.push_back(output),
            }
        }
    }

    /// Whether there is something that its watch has not told it.
    pub fn is_behind(&self, api: &Api) -> bool {
        self.position < api.log.len()
    }

    /// Its watch tells the next event.
    pub fn see(&mut self, api: &Api) {
        let Some(event) = api.log.get(self.position).cloned() else { return };
        self.position += 1;
        match event {
            Event::Object(event) => self.step(Input::Objects(vec![event])),
            Event::Entry(slot, entry) => self.step(Input::Entry(slot, Some(entry))),
        }
    }

    /// It lists everything, and watches from there on.
    pub fn list(&mut self, api: &Api, number: u64) {
        self.position = api.log.len();
        let kinds = [Kind::Instance, Kind::Zone, Kind::Record(RecordKind::A)];
        let (begun, ended) = (kinds.map(ObjectEvent::Relisting), kinds.map(ObjectEvent::Relisted));
        let listed = begun.into_iter().chain(events(api)).chain(ended).collect();
        for (slot, entry) in &api.ledger {
            self.step(Input::Entry(slot.clone(), Some(*entry)));
        }
        self.step(Input::Objects(listed));
        self.step(Input::CaughtUp(number));
    }

    pub fn pass(&mut self, time: Duration) {
        self.now.monotonic += time;
        self.step(Input::Tick);
    }

    pub fn notices(&mut self) -> Notices {
        self.core.take_notices(8, self.now)
    }
}

/// Every object as it is.
fn events(api: &Api) -> Vec<ObjectEvent> {
    let of = |(key, (object, told)): (&ObjectKey, &(Object, Told))| {
        [ObjectEvent::Applied(object.clone()), ObjectEvent::Told(key.clone(), *told)]
    };
    api.objects.iter().flat_map(of).collect()
}

/// Whose entry a target has.
pub fn slot(target: &Target) -> Slot {
    match target {
        Target::Zone(key, _) => (key.clone(), LedgerKind::Zone),
        Target::Catalog(key) => (key.clone(), LedgerKind::Catalog),
        Target::Orphan(name) => panic!("{name} has no object"),
    }
}

/// What the statuses of a batch of notices say, with what was thought that they said before.
pub fn statuses(notices: &Notices) -> Vec<(ObjectKey, Of, u32, Told)> {
    let ready = bindy_api::ConditionType::Ready;
    let records = notices.records.iter().map(|one| {
        let generation = Some(i64::from(one.generation));
        let ready = bindy_api::is_true(&one.status.conditions, ready, generation);
        let told = Told { print: told::record_print(&one.status), ready };
        (one.key.clone(), Of { created: one.created, generation: one.generation }, one.told, told)
    });
    let zones = notices.zones.iter().map(|one| {
        let key = ObjectKey { kind: Kind::Zone, key: one.key.clone() };
        let generation = one.status.observed_generation;
        let ready = bindy_api::is_true(&one.status.conditions, ready, generation);
        let told = Told { print: told::zone_print(&one.status), ready };
        let of = Of { created: 1, generation: u32::try_from(generation.unwrap()).unwrap() };
        (key, of, one.told, told)
    });
    records.chain(zones).collect()
}
