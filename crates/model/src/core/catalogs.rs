//! The catalog zone of each instance: which zones its servers have.
//!
//! A catalog lists the zones that its instance carries, and the catalogs of everything downstream and upstream of it as
//! ordinary zones: a chain passes them down, and a tier that has lost its own gets it back from below. It gathers changes
//! before each version: named walks all members at every one of them (about 4 ms for a thousand), so large catalogs change less
//! often, and a named spends no more than a fifth of its time on that.

use std::collections::BTreeSet;
use std::time::Duration;

use bindy_zone::{Catalog, Content, Name, Version};

use super::zones::ZonePublication;
use super::{Core, LedgerKind, Output, Purpose, Target};
use crate::object::NamespacedName;
use crate::publication::{Command, Guard, Now, Publication};

/// Pause between two versions of a catalog, for each of its members.
const PAUSE_PER_MEMBER: Duration = Duration::from_micros(20);

/// The catalog of one instance.
pub(crate) struct CatalogState {
    pub(crate) name: Name,
    pub(crate) publication: Publication,
    content: Content,
    /// Members changed since the content was last wanted.
    pub(super) changed: bool,
    /// No other version before this.
    not_before: Duration,
    /// Whether the catalog of an earlier run was looked at for zones without an object.
    adopted: bool,
}

impl CatalogState {
    pub(super) fn next_due(&self) -> Option<Duration> {
        self.changed.then_some(self.not_before)
    }

    fn insert(&mut self, member: &Name) {
        self.changed |= Catalog::insert(&mut self.content, member);
    }

    fn remove(&mut self, member: &Name) {
        self.changed |= Catalog::remove(&mut self.content, member);
    }

    /// What the next version should contain. While zones are hidden, every member that is served stays.
    fn wanted(&self, hidden: bool) -> Content {
        let mut wanted = self.content.clone();
        if let Some(served) = self.publication.served().filter(|_| hidden) {
            for member in Catalog::members(&served.content) {
                Catalog::insert(&mut wanted, &member);
            }
        }
        wanted
    }

    /// Whether the served version names `member`.
    pub(super) fn names(&self, member: &Name) -> bool {
        self.publication.served().is_some_and(|served| Catalog::contains(&served.content, member))
    }
}

impl Core {
    /// Instances of these namespaces came, went or changed: their catalogs, and who carries which zone, follow.
    pub(super) fn change_fleets(
        &mut self,
        namespaces: &BTreeSet<String>,
        now: Now,
        outputs: &mut Vec<Output>,
    ) {
        let changed = |key: &&NamespacedName| namespaces.contains(&key.namespace);
        let instances = self.world.fleet().iter().map(|instance| &instance.metadata.key);
        let wanted: BTreeSet<NamespacedName> = instances.filter(changed).cloned().collect();
        let gone = self.catalogs.keys().filter(changed).filter(|key| !wanted.contains(*key));
        let gone: Vec<NamespacedName> = gone.cloned().collect();
        for key in gone {
            if let Some(catalog) = self.catalogs.remove(&key) {
                self.expect_at(&BTreeSet::new(), &BTreeSet::new(), (&catalog.name, None), now);
            }
            outputs.push(Output::Retire(Target::Catalog(key)));
        }
        for key in &wanted {
            if !self.catalogs.contains_key(key)
                && let Ok(name) = Catalog::name(&key.namespace, &key.name)
            {
                let ledger = self.ledger.get(&(key.clone(), LedgerKind::Catalog)).copied();
                let before = self.last_serial(&name, std::slice::from_ref(key));
                let mut publication = Publication::new(Guard::Members, ledger).above(before);
                if self.world.is_following() {
                    publication.follow();
                }
                let state = CatalogState {
                    content: Catalog::empty(name.clone()),
                    name,
                    publication,
                    changed: true,
                    not_before: now.monotonic,
                    adopted: false,
                };
                self.catalogs.insert(key.clone(), state);
            }
        }
        for key in wanted {
            self.refill(&key, now, outputs);
            self.mark_instance(&key, now.monotonic);
        }
        self.expect_from_outside(namespaces, now);
        self.servers.values_mut().for_each(|server| server.waiting.doubt_all());
    }

    /// An instance has another number of servers, or other settings: its zones stay as they are, and may be told so.
    pub(super) fn adjust(&mut self, key: &NamespacedName, now: Now) {
        if let Some(catalog) = self.catalogs.get_mut(key) {
            // A person may have released what was held, or ended a pause.
            catalog.changed = true;
        }
        for zone in self.world.zones_selecting(key) {
            self.mark_zone_soon(&zone, now);
        }
        self.mark_instance(key, now.monotonic);
    }

    /// Makes the members of a catalog those that its instance has to have.
    fn refill(&mut self, key: &NamespacedName, now: Now, outputs: &mut Vec<Output>) {
        let holders = self.world.fleet().catalog_holders(key);
        let others = holders.iter().filter(|other| *other != key);
        let catalogs = others.filter_map(|other| self.catalogs.get(other)).map(|other| other.name.clone());
        let zones = self.zones.iter().filter(|(_, zone)| {
            !zone.retired && zone.publication.was_published() && zone.carriers.contains(key)
        });
        let mut wanted: BTreeSet<Name> = zones.map(|((_, apex), _)| apex.clone()).chain(catalogs).collect();
        wanted.extend(self.world.fleet().zones_from_outside(key).into_iter().cloned());
        let Some(catalog) = self.catalogs.get_mut(key) else { return };
        outputs.push(Output::Grant(Target::Catalog(key.clone()), catalog.name.clone(), holders.clone()));
        let present: BTreeSet<Name> = Catalog::members(&catalog.content).collect();
        for member in present.difference(&wanted) {
            // What somebody is about to serve stays, so that its servers have it in between.
            if !self.world.is_wanted_at(member, key) {
                catalog.remove(member);
            }
        }
        for member in wanted.difference(&present) {
            catalog.insert(member);
        }
        // A person may have released what was held, or ended a pause.
        catalog.changed = true;
        let (name, serial) =
            (catalog.name.clone(), catalog.publication.served().map(|version| version.serial));
        self.expect_at(&holders, &BTreeSet::new(), (&name, serial), now);
    }

    /// A zone has a first version, or other carriers: the catalogs follow. It is granted also while only the ledger or another
    /// process knows its version: whoever asks for what a catalog lists must not be refused.
    pub(super) fn enroll(&mut self, apex: &Name, zone: &NamespacedName, now: Now, outputs: &mut Vec<Output>) {
        let Some(carriers) = self.zones.get(&(zone.clone(), apex.clone())).map(|zone| &zone.carriers) else {
            return;
        };
        let target = Target::Zone(zone.clone(), apex.clone());
        outputs.push(Output::Grant(target, apex.clone(), carriers.clone()));
        let others = self.other_carriers(apex, zone);
        for (key, catalog) in &mut self.catalogs {
            if carriers.contains(key) {
                catalog.insert(apex);
            } else if key.namespace == zone.namespace
                && !others.contains(key)
                && !self.world.fleet().zones_from_outside(key).contains(apex)
            {
                catalog.remove(apex);
            }
        }
        self.expect_everywhere(apex, zone, now);
    }

    /// An object does not want a zone any more: the catalogs that it was in follow, and nothing more is expected of their servers,
    /// except where another object is about to serve a zone of this name.
    pub(super) fn unenroll(&mut self, apex: &Name, zone: &NamespacedName) {
        let carriers = self.zones.get(&(zone.clone(), apex.clone())).map(|zone| zone.carriers.clone());
        for key in carriers.unwrap_or_default() {
            if self.world.is_wanted_at(apex, &key) {
                continue;
            }
            if let Some(catalog) = self.catalogs.get_mut(&key) {
                catalog.remove(apex);
            }
            self.expect_no_more(apex, &key);
        }
    }

    /// Wants what the catalogs should contain now, as often as their size allows.
    pub(super) fn settle_catalogs(&mut self, now: Now, outputs: &mut Vec<Output>) {
        let due: Vec<NamespacedName> = self
            .catalogs
            .iter()
            .filter(|(_, catalog)| catalog.changed && catalog.not_before <= now.monotonic)
            .map(|(key, _)| key.clone())
            .collect();
        for key in due {
            let release = self.world.fleet().get(&key).and_then(|instance| instance.metadata.release.clone());
            let paused = self.world.fleet().get(&key).is_some_and(|instance| instance.paused);
            let hidden = self.world.hides_zones(&key.namespace);
            let Some(catalog) = self.catalogs.get_mut(&key) else { continue };
            catalog.changed = false;
            // Zones may exist that cannot be read: first get the catalog that was served.
            if hidden && catalog.publication.needs_base() {
                let commands = catalog.publication.recover();
                self.carry_out(&Target::Catalog(key), commands, now, outputs);
                continue;
            }
            let members = u32::try_from(catalog.content.record_count()).unwrap_or(u32::MAX);
            catalog.not_before = now.monotonic + PAUSE_PER_MEMBER * members;
            catalog.publication.set_word(paused, release);
            let wanted = catalog.wanted(hidden);
            let commands = catalog.publication.want(wanted, false, now);
            self.mark_instance_soon(&key, now);
            self.carry_out(&Target::Catalog(key), commands, now, outputs);
        }
    }

    /// Tells the publication of a catalog the members that the catalog has by now, without the pause.
    pub(super) fn want_catalog_now(&mut self, key: &NamespacedName, now: Now) -> Vec<Command> {
        let hidden = self.world.hides_zones(&key.namespace);
        match self.catalogs.get_mut(key) {
            // What is hidden is known only when the catalog that was served is.
            Some(catalog) if !(hidden && catalog.publication.needs_base()) => {
                catalog.publication.want(catalog.wanted(hidden), false, now)
            }
            _ => Vec::new(),
        }
    }

    pub(super) fn take_fetched_catalog(
        &mut self,
        key: &NamespacedName,
        version: Option<Version>,
        now: Now,
    ) -> Option<Vec<Command>> {
        let catalog = self.catalogs.get_mut(key)?;
        // What is wanted may depend on what was served: a zone that another process has put there before this one knew of
        // its first version stays.
        catalog.changed = true;
        let carried = |((_, apex), zone): (&(NamespacedName, Name), &ZonePublication)| {
            (!zone.retired && zone.carriers.contains(key)).then(|| apex.clone())
        };
        let before = version.iter().flat_map(|version| Catalog::members(&version.content));
        let before: BTreeSet<Name> = before.collect();
        for apex in self.zones.iter().filter_map(carried).filter(|apex| before.contains(apex)) {
            catalog.insert(&apex);
        }
        let mut commands = self.want_catalog_now(key, now);
        commands.extend(self.catalogs.get_mut(key)?.publication.fetched(version, now));
        Some(commands)
    }

    /// Takes in that a catalog version is served: zones that it names without an object stay, others may go.
    pub(super) fn catalog_published(&mut self, key: &NamespacedName, now: Now, outputs: &mut Vec<Output>) {
        self.mark_instance_soon(key, now);
        self.adopt_orphans(key, outputs);
        self.retire_unnamed(Some(key), outputs);
        let Some(name) = self.catalogs.get(key).map(|catalog| catalog.name.clone()) else { return };
        for upstream in self.world.fleet().carriers(std::slice::from_ref(key)) {
            if upstream != *key
                && let Some(catalog) = self.catalogs.get_mut(&upstream)
                && !catalog.names(&name)
            {
                catalog.insert(&name);
                catalog.not_before = catalog.not_before.min(now.monotonic + Duration::from_millis(1));
            }
        }
    }

    /// Zones that the catalog of an earlier run names and no object of this run wants are served on as they were.
    fn adopt_orphans(&mut self, key: &NamespacedName, outputs: &mut Vec<Output>) {
        let Some(catalog) = self.catalogs.get_mut(key).filter(|catalog| !catalog.adopted) else { return };
        catalog.adopted = true;
        let Some(served) = catalog.publication.served() else { return };
        let members: Vec<Name> = Catalog::members(&served.content).collect();
        let known: BTreeSet<&Name> =
            self.current.names().chain(self.catalogs.values().map(|c| &c.name)).collect();
        let outside = self.world.fleet().zones_from_outside(key);
        let is_known = |member: &Name| known.contains(member) || outside.contains(member);
        let lost: Vec<Name> = members.into_iter().filter(|member| !is_known(member)).collect();
        for apex in lost {
            let orphan = self.orphans.entry(apex.clone()).or_insert_with(|| {
                let target = Target::Orphan(apex.clone());
                outputs.push(Output::Fetch(target, apex.clone(), None, Purpose::Content));
                super::zones::Orphan { version: None, carriers: BTreeSet::new() }
            });
            orphan.carriers.insert(key.clone());
        }
    }

    /// A served catalog that names this zone, other than as one from outside of Bindy.
    pub(super) fn naming(&self, apex: &Name) -> Option<&NamespacedName> {
        let of_objects = |key| !self.world.fleet().zones_from_outside(key).contains(apex);
        let mut catalogs = self.catalogs.iter();
        catalogs.find(|(key, catalog)| catalog.names(apex) && of_objects(key)).map(|(key, _)| key)
    }

    /// The name under which a target is served.
    pub(super) fn name_of(&self, target: &Target) -> Option<Name> {
        match target {
            Target::Zone(_, apex) | Target::Orphan(apex) => Some(apex.clone()),
            Target::Catalog(key) => self.catalogs.get(key).map(|catalog| catalog.name.clone()),
        }
    }
}
