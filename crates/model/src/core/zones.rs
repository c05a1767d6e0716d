//! DNSZones: compiled, published, granted to the instances that carry them, and retired when no catalog names them.

use std::collections::BTreeSet;

use bindy_zone::{Name, Serial, Version};

use super::latch::Latch;
use super::proof::Proof;
use super::{Core, LedgerKind, Output, Purpose, Target};
use crate::object::NamespacedName;
use crate::publication::{Command, Guard, LedgerEntry, Now, Publication, Swapped};
use crate::verdict::ZoneProblem;

/// One DNSZone under one name.
pub(crate) struct ZonePublication {
    pub(crate) publication: Publication,
    /// Its records that are not proven to be served yet.
    pub(crate) latch: Latch,
    /// Instances that have to have it.
    pub(crate) carriers: BTreeSet<NamespacedName>,
    /// What its object is told.
    pub(crate) problems: Vec<ZoneProblem>,
    /// Set when no object wants it any more.
    pub(crate) retired: bool,
    /// What shows that a server has its version.
    pub(crate) proof: Proof,
}

impl ZonePublication {
    /// Whether an object wants it, and any version was ever published, by whichever process.
    pub(super) fn is_published(&self) -> bool {
        !self.retired && self.publication.was_published()
    }
}

/// A zone without an object that a catalog still names.
pub(crate) struct Orphan {
    pub(crate) version: Option<Version>,
    pub(crate) carriers: BTreeSet<NamespacedName>,
}

impl Core {
    /// Compiles a zone that something changed in, or lets it go.
    pub(super) fn settle_zone(&mut self, key: &NamespacedName, now: Now, outputs: &mut Vec<Output>) {
        let apex = self.world.apex(key).cloned();
        let serving = self.world.serving(key);
        let Some(apex) = apex.filter(|_| !serving.is_empty()) else {
            self.let_go(key);
            return;
        };
        if self.current.get(key).is_some_and(|current| *current != apex) {
            self.let_go(key);
        }
        self.current.insert(key, &apex);
        let carriers = self.world.fleet().carriers(&serving);
        let ledger = self.ledger.get(&(key.clone(), LedgerKind::Zone)).copied();
        let before = self.last_serial(&apex, &carriers);
        let generation = self.world.zone(key).map_or(0, |zone| zone.metadata.generation);
        // Of a zone that somebody else leads it is needed when that ends.
        let proven = (!self.world.is_following() && self.ready_before.remove(key)).then_some(generation);
        let renamed = ledger.filter(|entry| self.is_of_another_name(key, &apex, *entry));
        let zone = self.zones.entry((key.clone(), apex.clone())).or_insert_with(|| ZonePublication {
            publication: Publication::new(Guard::Relist, ledger).above(before),
            latch: Latch::of(proven),
            carriers: BTreeSet::new(),
            problems: Vec::new(),
            retired: false,
            proof: Proof::default(),
        });
        let back = std::mem::replace(&mut zone.retired, false);
        if let Some(entry) = renamed {
            zone.publication.renamed(entry);
        }
        if self.world.is_following() {
            zone.publication.follow();
        }
        if back {
            self.retiring.remove(&(apex.clone(), key.clone()));
        }
        let target = Target::Zone(key.clone(), apex.clone());
        if back || zone.carriers != carriers {
            zone.carriers = carriers;
            // Servers have what an earlier run published, and must not lose it while its version is being found.
            if zone.publication.was_published() && (back || renamed.is_none()) {
                self.enroll(&apex, key, now, outputs);
            }
        }
        self.want(key, &apex, &target, now, outputs);
    }

    /// Whether the name of a zone is new to its object, and the entry of the ledger is that of the version which is served
    /// under the name before.
    fn is_of_another_name(&self, key: &NamespacedName, apex: &Name, entry: LedgerEntry) -> bool {
        let is_new = self.zones.get(&(key.clone(), apex.clone())).is_none_or(|zone| zone.retired);
        let own = self.zones.range((key.clone(), Name::root())..).take_while(|((of, _), _)| of == key);
        let mut others = own.filter(|((_, name), _)| name != apex);
        is_new && others.any(|(_, zone)| zone.publication.served().map(LedgerEntry::of) == Some(entry))
    }

    fn want(
        &mut self,
        key: &NamespacedName,
        apex: &Name,
        target: &Target,
        now: Now,
        outputs: &mut Vec<Output>,
    ) {
        let incomplete = self.world.is_incomplete(key);
        let Some(zone) = self.zones.get_mut(&(key.clone(), apex.clone())) else { return };
        // Something that may have been part of the zone cannot be read: first get what was served.
        if incomplete && zone.publication.needs_base() {
            let commands = zone.publication.recover();
            self.carry_out(target, commands, now, outputs);
            return;
        }
        if !incomplete {
            self.world.set_residue(key, None);
        }
        // An object that is made again has not seen the files of which servers still have the records.
        let orphan = || self.orphans.get(apex).and_then(|orphan| orphan.version.as_ref());
        let served = zone.publication.served().or_else(orphan);
        let served = served.filter(|_| self.world.is_new_without_file(key)).map(|it| it.content.clone());
        let is_made_again = served.is_some();
        if is_made_again {
            self.world.set_residue(key, served);
        }
        let Some(compiled) = self.world.compile(key) else { return };
        let (paused, release) =
            self.world.zone(key).map_or((false, None), |zone| (zone.paused, zone.metadata.release.clone()));
        self.gather(key, apex, &compiled.touched, now);
        let Some(zone) = self.zones.get_mut(&(key.clone(), apex.clone())) else { return };
        zone.problems = compiled.problems;
        // Without one of its files a zone would deny names that it has, and nobody has anything better yet. What was published last
        // was good enough then.
        let was_last =
            || zone.publication.ledger().map(|last| last.digest) == Some(compiled.content.digest());
        if zone.publication.is_new() && self.world.lacks_file(key) && !is_made_again && !was_last() {
            self.withheld.insert(key.clone());
            return;
        }
        self.withheld.remove(key);
        zone.publication.set_floor(compiled.serial_floor);
        zone.publication.set_word(paused, release);
        let commands = zone.publication.want(compiled.content, compiled.relisted, now);
        self.carry_out(target, commands, now, outputs);
    }

    /// Other servers are there, which may have versions of zones that nobody had before.
    pub(super) fn ask_again_for_withheld(&mut self) {
        for key in std::mem::take(&mut self.withheld) {
            if let Some(apex) = self.current.get(&key)
                && let Some(zone) = self.zones.get_mut(&(key.clone(), apex.clone()))
            {
                zone.publication.ask_again();
                self.world.look_again(&key);
            }
        }
    }

    /// Whether the end of this write is nobody's any more: no object wants the zone under this name, and it was not written, or the
    /// object in which it was is gone.
    pub(super) fn is_written_for_nobody(&self, target: &Target, result: Swapped) -> bool {
        let Target::Zone(key, _) = target else { return false };
        self.is_retired(target) && (result != Swapped::Done || self.world.zone(key).is_none())
    }

    /// Whether it is a zone that no object wants any more under this name.
    fn is_retired(&self, target: &Target) -> bool {
        let Target::Zone(key, apex) = target else { return false };
        self.zones.get(&(key.clone(), apex.clone())).is_some_and(|zone| zone.retired)
    }

    /// No object wants this zone under the name that it had.
    fn let_go(&mut self, key: &NamespacedName) {
        let Some(apex) = self.current.remove(key) else { return };
        if let Some(zone) = self.zones.get_mut(&(key.clone(), apex.clone())) {
            zone.retired = true;
            self.retiring.insert((apex.clone(), key.clone()), None);
        }
        self.unenroll(&apex, key);
    }

    pub(super) fn take_fetched_zone(
        &mut self,
        key: &NamespacedName,
        apex: &Name,
        version: Option<Version>,
        now: Now,
    ) -> Option<Vec<Command>> {
        if self.world.is_incomplete(key) {
            match &version {
                Some(version) => self.world.set_residue(key, Some(version.content.clone())),
                None => self.world.look_again(key),
            }
        }
        let zone = self.zones.get_mut(&(key.clone(), apex.clone()))?;
        Some(zone.publication.fetched(version, now))
    }

    pub(super) fn take_orphan(&mut self, apex: &Name, version: Option<Version>, outputs: &mut Vec<Output>) {
        let (Some(orphan), Some(version)) = (self.orphans.get_mut(apex), version) else { return };
        orphan.version = Some(version.clone());
        let target = Target::Orphan(apex.clone());
        outputs.push(Output::Publish(target.clone(), apex.clone(), version));
        outputs.push(Output::Grant(target, apex.clone(), orphan.carriers.clone()));
    }

    /// Turns the commands of a publication into outputs, and draws the consequences of what it published.
    pub(super) fn carry_out(
        &mut self,
        target: &Target,
        commands: Vec<Command>,
        now: Now,
        outputs: &mut Vec<Output>,
    ) {
        let Some(apex) = self.name_of(target) else { return };
        let mut published = None;
        for command in commands {
            match command {
                Command::Fetch(entry) => {
                    let purpose = self.purpose(target);
                    outputs.push(Output::Fetch(target.clone(), apex.clone(), Some(entry), purpose));
                }
                Command::CatchUp => self.catching_up.ask(target.clone()),
                Command::Swap { expected, next } => {
                    if let Target::Zone(key, apex) = target
                        && let Some(zone) = self.zones.get_mut(&(key.clone(), apex.clone()))
                    {
                        zone.latch.begin_swap();
                    }
                    let next = LedgerEntry::of(&next);
                    outputs.push(Output::Swap { target: target.clone(), expected, next });
                }
                Command::Publish(version) => {
                    let serial = version.serial;
                    published = Some(serial);
                    self.note_ledger(target, LedgerEntry::of(&version));
                    self.note_serial(target, &apex, serial);
                    outputs.push(Output::Publish(target.clone(), apex.clone(), version));
                    match target {
                        Target::Zone(key, apex) => {
                            self.note_changes(key, apex);
                            // It was let go while its version was being written: nobody needs it any more.
                            if self.is_retired(target) {
                                continue;
                            }
                            self.zone_published(key, apex, now, outputs);
                        }
                        Target::Catalog(key) => self.catalog_published(key, now, outputs),
                        Target::Orphan(_) => {}
                    }
                    self.announce(target, &apex, serial, now);
                }
            }
        }
        self.advance_latch(target, published, now);
    }

    /// What the version that the ledger names is needed for.
    fn purpose(&self, target: &Target) -> Purpose {
        let (hidden, paused) = match target {
            Target::Zone(key, _) => {
                (self.world.is_incomplete(key), self.world.zone(key).is_some_and(|zone| zone.paused))
            }
            Target::Catalog(key) => {
                let instance = self.world.fleet().get(key);
                (self.world.hides_zones(&key.namespace), instance.is_some_and(|instance| instance.paused))
            }
            Target::Orphan(_) => (true, false),
        };
        if hidden || paused { Purpose::Content } else { Purpose::Comparison }
    }

    /// The highest serial that any of these instances was given a zone of this name with. Other instances may have
    /// another zone of the name.
    pub(super) fn last_serial<'a>(
        &self,
        apex: &Name,
        instances: impl IntoIterator<Item = &'a NamespacedName>,
    ) -> Option<Serial> {
        let given = self.serials.get(apex)?;
        let serials = instances.into_iter().filter_map(|instance| given.get(instance).copied());
        serials.reduce(|highest, serial| if serial.is_after(highest) { serial } else { highest })
    }

    fn note_serial(&mut self, target: &Target, apex: &Name, serial: Serial) {
        let instances: Vec<NamespacedName> = match target {
            Target::Zone(key, apex) => {
                let zone = self.zones.get(&(key.clone(), apex.clone()));
                zone.map(|zone| zone.carriers.iter().cloned().collect()).unwrap_or_default()
            }
            Target::Catalog(key) => vec![key.clone()],
            Target::Orphan(_) => Vec::new(),
        };
        let given = self.serials.entry(apex.clone()).or_default();
        given.extend(instances.into_iter().map(|instance| (instance, serial)));
    }

    /// A zone has a version: its carriers get it, and whatever had its name before does not any more.
    fn zone_published(&mut self, key: &NamespacedName, apex: &Name, now: Now, outputs: &mut Vec<Output>) {
        self.enroll(apex, key, now, outputs);
        if self.orphans.remove(apex).is_some() {
            outputs.push(Output::Retire(Target::Orphan(apex.clone())));
        }
        let of_this_name = self.retiring.range((apex.clone(), NamespacedName::new("", ""))..);
        let of_this_name =
            of_this_name.take_while(|((name, _), _)| name == apex).map(|((_, other), _)| other);
        for other in of_this_name.filter(|other| *other != key).cloned().collect::<Vec<_>>() {
            self.forget_retired(other, apex.clone(), outputs);
        }
    }

    fn forget_retired(&mut self, key: NamespacedName, apex: Name, outputs: &mut Vec<Output>) {
        self.retiring.remove(&(apex.clone(), key.clone()));
        self.zones.remove(&(key.clone(), apex.clone()));
        outputs.push(Output::Retire(Target::Zone(key, apex)));
    }

    fn note_ledger(&mut self, target: &Target, entry: LedgerEntry) {
        match target {
            Target::Zone(key, _) => self.ledger.insert((key.clone(), LedgerKind::Zone), entry),
            Target::Catalog(key) => self.ledger.insert((key.clone(), LedgerKind::Catalog), entry),
            Target::Orphan(_) => None,
        };
    }

    /// Retires versions that no served catalog names any more, after another version of one catalog (`None`: of all).
    pub(super) fn retire_unnamed(&mut self, catalog: Option<&NamespacedName>, outputs: &mut Vec<Output>) {
        // Those that another catalog was seen to name, it still does.
        let may_go =
            |by: &Option<NamespacedName>| catalog.is_none() || by.is_none() || by.as_ref() == catalog;
        let doubtful = self.retiring.iter().filter(|(_, by)| may_go(by)).map(|(id, _)| id.clone());
        for (apex, key) in doubtful.collect::<Vec<_>>() {
            match self.naming(&apex).cloned() {
                None => self.forget_retired(key, apex, outputs),
                by => drop(self.retiring.insert((apex, key), by)),
            }
        }
        let unnamed: Vec<Name> =
            self.orphans.keys().filter(|apex| self.naming(apex).is_none()).cloned().collect();
        for apex in unnamed {
            self.orphans.remove(&apex);
            outputs.push(Output::Retire(Target::Orphan(apex)));
        }
    }
}
