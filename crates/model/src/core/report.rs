//! What is served where, as status, screens and metrics tell it.

use bindy_zone::{Name, Serial};

use super::catalogs::CatalogState;
use super::servers::Server;
use super::{Core, ServerId};
use crate::delivery::Pending;
use crate::fleet::FleetProblem;
use crate::object::NamespacedName;
use crate::publication::{Hold, LedgerEntry};
use crate::verdict::ZoneProblem;

/// The state of one DNSZone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneReport {
    /// The object.
    pub key: NamespacedName,
    /// metadata.generation of the specification in force.
    pub generation: u32,
    /// Its zone name as it was written.
    pub zone_name: String,
    /// The published version.
    pub published: Option<LedgerEntry>,
    /// Why it is not served at all.
    pub refusal: Option<ZoneProblem>,
    /// What else is wrong with it.
    pub problems: Vec<ZoneProblem>,
    /// A removal that waits for a person's word.
    pub hold: Option<Hold>,
    /// Whether changes wait until it is no longer paused.
    pub paused: bool,
    /// Whether a wanted change is not published yet.
    pub pending: bool,
    /// Whether this generation was seen to be served by every server that was ready, at least one of each instance.
    pub proven: bool,
    /// An instance of which no ready server has the published version.
    pub unserving: Option<NamespacedName>,
    /// Servers that should have it: the replicas of every instance that serves it.
    pub desired: usize,
    /// Servers that were seen to have the published version.
    pub in_sync: usize,
    /// Those that were not, and what they answered instead.
    pub lagging: Vec<(ServerId, Option<String>)>,
}

/// The state of one Bind9Instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceReport {
    /// The object.
    pub key: NamespacedName,
    /// Its uid.
    pub uid: String,
    /// metadata.generation of the specification in force.
    pub generation: u32,
    /// Its catalog's name.
    pub catalog: Option<Name>,
    /// Serial of the published catalog.
    pub serial: Option<Serial>,
    /// Number of zones that its catalog names, other catalogs not counted.
    pub zones: usize,
    /// A removal of zones that waits for a person's word.
    pub hold: Option<Hold>,
    /// Whether zones that come or go wait until it is no longer paused.
    pub waits: bool,
    /// What is wrong with it.
    pub problem: Option<FleetProblem>,
}

/// The state of one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerReport {
    /// Which server.
    pub id: ServerId,
    /// Whether it takes part in its Service.
    pub ready: bool,
    /// Zones that it does not have in their published version yet.
    pub missing: usize,
    /// What was wrong with one of its last answers, if any was, after the name of the zone; nothing once it is going.
    pub failure: Option<String>,
}

impl Server {
    /// What is known of it.
    pub(super) fn report(&self) -> ServerReport {
        let failure =
            |(zone, pending): (&Name, &Pending)| Some(format!("{zone} {}", pending.failure.as_ref()?));
        ServerReport {
            id: self.state.id.clone(),
            ready: self.state.ready,
            missing: self.missing(),
            failure: self.delivery.pending().find_map(failure).filter(|_| !self.state.going),
        }
    }
}

impl Core {
    /// The state of a DNSZone.
    pub fn zone_report(&self, key: &NamespacedName) -> Option<ZoneReport> {
        let spec = self.world.zone(key)?;
        let apex = self.current.get(key);
        let zone = apex.and_then(|apex| self.zones.get(&(key.clone(), apex.clone())));
        let serving = self.world.serving(key);
        let wished = serving.iter().filter_map(|instance| self.world.fleet().get(instance));
        let desired = wished.map(|instance| instance.replicas as usize).sum();
        let (mut having, mut lagging) = (0, Vec::new());
        for server in serving.iter().flat_map(|instance| self.servers_of(instance)) {
            having += 1;
            if let Some(apex) = apex
                && !server.has(apex)
            {
                having -= 1;
                let failure = server.delivery.failure(apex);
                // One that starts gets no clients and lags behind nobody: of each zone there would be two things to tell.
                if !server.state.going && (server.state.ready || failure.is_some()) {
                    lagging.push((server.state.id.clone(), failure.map(str::to_owned)));
                }
            }
        }
        let published = zone.and_then(|zone| zone.publication.served()).map(LedgerEntry::of);
        Some(ZoneReport {
            key: key.clone(),
            generation: spec.metadata.generation,
            zone_name: spec.zone_name.clone(),
            proven: zone.is_some_and(|zone| zone.latch.is_proven(spec.metadata.generation)),
            unserving: apex.and_then(|apex| self.unserving(key, apex)),
            published,
            refusal: self.world.zone_refusal(key),
            problems: zone.map(|zone| zone.problems.clone()).unwrap_or_default(),
            hold: zone.and_then(|zone| zone.publication.hold().cloned()),
            paused: spec.paused,
            pending: zone.is_some_and(|zone| !zone.publication.is_settled()),
            desired,
            in_sync: if published.is_some() { desired.min(having) } else { 0 },
            lagging,
        })
    }

    /// The state of every Bind9Instance.
    pub fn instance_reports(&self) -> impl Iterator<Item = InstanceReport> {
        self.world.fleet().iter().filter_map(|instance| self.instance_report(&instance.metadata.key))
    }

    /// The state of one Bind9Instance.
    pub fn instance_report(&self, key: &NamespacedName) -> Option<InstanceReport> {
        let instance = self.world.fleet().get(key)?;
        let catalog = self.catalogs.get(key);
        let served = catalog.and_then(|catalog| catalog.publication.served());
        let members = served.map_or(0, |served| bindy_zone::Catalog::member_count(&served.content));
        let names = |other: &&CatalogState| catalog.is_some_and(|catalog| catalog.names(&other.name));
        Some(InstanceReport {
            key: key.clone(),
            uid: instance.metadata.uid.clone(),
            generation: instance.metadata.generation,
            catalog: catalog.map(|catalog| catalog.name.clone()),
            serial: served.map(|served| served.serial),
            zones: members - self.catalogs.values().filter(names).count(),
            hold: catalog.and_then(|catalog| catalog.publication.hold().cloned()),
            waits: instance.paused && catalog.is_some_and(|catalog| !catalog.publication.is_settled()),
            problem: self.world.instance_problem(key),
        })
    }

    /// The state of every server.
    pub fn server_reports(&self) -> impl Iterator<Item = ServerReport> {
        self.servers.values().map(Server::report)
    }
}
