//! Which objects may have to be told something else than their status says, and from when on.
//!
//! What is decided is told at once. What is under way is told after a moment only, since most changes are served
//! everywhere before it has passed: one status write for a change, not two. Whoever writes asks for the next few when
//! it is ready for them; only what is still true then is written, and only if the status does not say it already.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bindy_api::{DNSZoneStatus, RecordStatus};

use super::servers::Server;
use super::{Core, InstanceReport, LedgerKind, ServerReport, ZoneReport};
use crate::conditions::record_conditions;
use crate::object::{Instance, Kind, NamespacedName, ObjectKey};
use crate::publication::Now;
use crate::record_table::RecordId;
use crate::told::{self, Told};
use crate::verdict::Verdict;

/// What is under way is not told before it has taken this long.
const PATIENCE: Duration = Duration::from_secs(1);

/// Zones that lost or got a server are told this much later: a pod that is replaced would tell each of them twice.
pub(super) const SERVER_PATIENCE: Duration = Duration::from_secs(3);

/// Objects by the moment from which on they may be told.
#[derive(Default)]
pub(super) struct Outbox {
    records: BTreeSet<(Duration, RecordId)>,
    zones: Queue,
    instances: Queue,
    /// Objects that are told nothing else.
    unreadable: BTreeSet<(Duration, ObjectKey)>,
}

/// Keys with their earliest moment.
#[derive(Default)]
struct Queue {
    due: BTreeMap<NamespacedName, Duration>,
    order: BTreeSet<(Duration, NamespacedName)>,
}

impl Queue {
    fn put(&mut self, key: &NamespacedName, at: Duration) {
        if self.due.get(key).is_some_and(|due| *due <= at) {
            return;
        }
        if let Some(later) = self.due.insert(key.clone(), at) {
            self.order.remove(&(later, key.clone()));
        }
        self.order.insert((at, key.clone()));
    }

    fn pop(&mut self, now: Duration) -> Option<NamespacedName> {
        let (at, key) = self.order.pop_first()?;
        if at > now {
            self.order.insert((at, key));
            return None;
        }
        self.due.remove(&key);
        Some(key)
    }

    fn next_due(&self) -> Option<Duration> {
        self.order.first().map(|(at, _)| *at)
    }
}

/// What a record has to be told.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordNotice {
    /// The object.
    pub key: ObjectKey,
    /// Its creationTimestamp in seconds since 1970: another object of this name is not to be told.
    pub created: u32,
    /// The generation that this is about.
    pub generation: u32,
    /// Print of what its status says by all that is known, 0 when it says nothing: another one is not to be overwritten.
    pub told: u32,
    /// The status; its times have to be filled in.
    pub status: RecordStatus,
}

/// What a zone has to be told.
#[derive(Clone, Debug, PartialEq)]
pub struct ZoneNotice {
    /// The object.
    pub key: NamespacedName,
    /// Its uid: another object of this name is not to be told.
    pub uid: String,
    /// Print of what its status says by all that is known, 0 when it says nothing: another one is not to be overwritten.
    pub told: u32,
    /// Whether its status has what the ledger owns.
    pub has_entry: bool,
    /// The status without what the ledger owns; its times have to be filled in.
    pub status: DNSZoneStatus,
}

/// What is known of an instance; the operator adds what it knows of the workload.
#[derive(Clone, Debug, PartialEq)]
pub struct InstanceNotice {
    /// As it is wished for.
    pub instance: Instance,
    /// The engine's part.
    pub report: InstanceReport,
    /// Its servers.
    pub servers: Vec<ServerReport>,
    /// Print of what its status says.
    pub told: u32,
}

/// What an object has to be told that cannot be decoded, and of which nothing else is to be said.
#[derive(Clone, Debug, PartialEq)]
pub struct UnreadableNotice {
    /// The object.
    pub key: ObjectKey,
    /// What about it cannot be read.
    pub message: String,
}

/// What has to be written now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Notices {
    /// Records.
    pub records: Vec<RecordNotice>,
    /// Zones.
    pub zones: Vec<ZoneNotice>,
    /// Instances.
    pub instances: Vec<InstanceNotice>,
    /// Objects of all these kinds that cannot be decoded.
    pub unreadable: Vec<UnreadableNotice>,
    /// When there may be more, on the monotonic clock; `None`: after the next step that changes something.
    pub next: Option<Duration>,
}

impl Notices {
    /// Number of objects.
    pub fn len(&self) -> usize {
        self.records.len() + self.zones.len() + self.instances.len() + self.unreadable.len()
    }

    /// Whether nothing has to be written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Core {
    /// Gathers from now on what objects have to be told; somebody has to call [`Core::take_notices`].
    #[must_use]
    pub fn telling(mut self) -> Self {
        self.tells = true;
        self.outbox = Some(Outbox::default());
        self
    }

    /// At most `limit` objects of each kind whose status says something else than it should.
    pub fn take_notices(&mut self, limit: usize, now: Now) -> Notices {
        let mut notices = Notices::default();
        let now = now.monotonic;
        while notices.zones.len() < limit
            && let Some(key) = self.outbox.as_mut().and_then(|outbox| outbox.zones.pop(now))
        {
            notices.zones.extend(self.zone_notice(&key, now));
        }
        while notices.instances.len() < limit
            && let Some(key) = self.outbox.as_mut().and_then(|outbox| outbox.instances.pop(now))
        {
            notices.instances.extend(self.instance_notice(&key));
        }
        while notices.unreadable.len() < limit
            && let Some(key) = self.outbox.as_mut().and_then(|outbox| pop(&mut outbox.unreadable, now))
        {
            notices.unreadable.extend(self.unreadable_notice(key));
        }
        while notices.records.len() < limit
            && let Some(id) = self.outbox.as_mut().and_then(|outbox| pop(&mut outbox.records, now))
        {
            notices.records.extend(self.record_notice(id));
        }
        notices.next = self.outbox.as_ref().and_then(Outbox::next_due);
        notices
    }

    /// A status could not be written, or was written with something else: it is looked at again after `pause`.
    pub fn tell_again(&mut self, key: &ObjectKey, pause: Duration, now: Now) {
        self.world.note_told(key, Told::default());
        self.mark_object(key, now.monotonic + pause);
    }

    /// The status of an object was found to say this, and not what was thought, so somebody else wrote it: another leader,
    /// whose proof counts. What it should say is decided anew.
    pub fn found_told(&mut self, key: &ObjectKey, generation: u32, told: Told, now: Now) {
        if let Kind::Record(_) = key.kind
            && let Some(id) = self.world.record(key)
            && let Some((_, of, verdict)) = self.world.verdict(id)
            && let Some(stored) = self.world.stored_mut(id)
        {
            let refused = matches!(verdict, Verdict::Refused(_));
            stored.proven |= told.ready && of == generation && !refused;
        }
        self.world.note_told(key, told);
        self.mark_object(key, now.monotonic + PATIENCE);
    }

    /// The status of an object is this now: it may be another than the one it should be.
    pub(super) fn take_told(&mut self, key: &ObjectKey, told: Told, now: Now) {
        if key.kind == Kind::Zone && told.ready && (!self.world.is_listed() || self.world.is_following()) {
            self.ready_before.insert(key.key.clone());
        } else if key.kind == Kind::Zone && self.world.is_following() {
            self.ready_before.remove(&key.key);
        }
        if !self.world.note_told(key, told) {
            return;
        }
        self.doubt(key, told);
        let pause = if key.kind == Kind::Instance { Duration::ZERO } else { PATIENCE };
        self.mark_object(key, now.monotonic + pause);
    }

    /// A status says what was not proven here: an old word of this process, or a late one of the leader before, whose proof
    /// counts. It has to be looked at before it is denied.
    fn doubt(&mut self, key: &ObjectKey, told: Told) {
        if told.ready
            && !self.world.is_following()
            && let Some(id) = self.world.record(key)
            && let Some(stored) = self.world.stored_mut(id).filter(|stored| !stored.proven)
        {
            stored.told = 0;
        }
    }

    /// An object may have to be told something else.
    pub(super) fn mark_object(&mut self, key: &ObjectKey, at: Duration) {
        if self.is_told_as_unreadable(key) {
            if let Some(outbox) = &mut self.outbox {
                outbox.unreadable.insert((at, key.clone()));
            }
            return;
        }
        match key.kind {
            Kind::Record(_) => {
                if let Some(id) = self.world.record(key) {
                    self.mark_record(id, at);
                }
            }
            Kind::Zone => self.mark_zone(&key.key, at),
            Kind::Instance => self.mark_instance(&key.key, at),
            Kind::ConfigMap => {}
        }
    }

    /// Whether an object is told that it cannot be decoded and nothing else: every record that cannot be, and of zones and
    /// instances those of which nothing is known from before.
    fn is_told_as_unreadable(&self, key: &ObjectKey) -> bool {
        self.world.why_unreadable(key).is_some()
            && match key.kind {
                Kind::Record(_) => true,
                Kind::Zone => self.world.zone(&key.key).is_none(),
                Kind::Instance => self.world.fleet().get(&key.key).is_none(),
                Kind::ConfigMap => false,
            }
    }

    pub(super) fn mark_record(&mut self, id: RecordId, at: Duration) {
        if let Some(outbox) = &mut self.outbox {
            outbox.records.insert((at, id));
        }
    }

    pub(super) fn mark_zone(&mut self, key: &NamespacedName, at: Duration) {
        if let Some(outbox) = &mut self.outbox {
            outbox.zones.put(key, at);
        }
    }

    /// The instance may be told something else; other parts of the operator mark it for what they know.
    pub fn mark_instance(&mut self, key: &NamespacedName, at: Duration) {
        if let Some(outbox) = &mut self.outbox {
            outbox.instances.put(key, at);
        }
    }

    /// Marks a record for what its verdict is now: a refusal is told at once, the rest once it is proven or has
    /// waited for that.
    pub(super) fn mark_verdict(&mut self, id: RecordId, now: Now) {
        if self.outbox.is_none() {
            return;
        }
        let Some((_, _, verdict)) = self.world.verdict(id) else { return };
        let refused = matches!(verdict, Verdict::Refused(_));
        let Some(stored) = self.world.stored_mut(id) else { return };
        if refused {
            stored.proven = false;
        }
        let at_once = refused || stored.proven;
        self.mark_record(id, if at_once { now.monotonic } else { now.monotonic + PATIENCE });
    }

    /// A zone may be told something else once what is under way has had its time.
    pub(super) fn mark_zone_soon(&mut self, key: &NamespacedName, now: Now) {
        let decided = self.world.zone_refusal(key).is_some();
        self.mark_zone(key, if decided { now.monotonic } else { now.monotonic + PATIENCE });
    }

    /// An instance may be told something else once what is under way has had its time.
    pub(super) fn mark_instance_soon(&mut self, key: &NamespacedName, now: Now) {
        self.mark_instance(key, now.monotonic + PATIENCE);
    }

    fn zone_notice(&mut self, key: &NamespacedName, now: Duration) -> Option<ZoneNotice> {
        let object = ObjectKey { kind: Kind::Zone, key: key.clone() };
        if let Some(apex) = self.current.get(key)
            && self.is_undetermined(key, apex)
        {
            self.mark_zone(key, now + PATIENCE);
            return None;
        }
        let report = self.zone_report(key)?;
        let status = told::zone_status(&report);
        let print = told::zone_print(&status);
        let told = self.world.told(&object);
        if told == print {
            return None;
        }
        self.world.note_told(&object, Told { print, ready: false });
        let uid = self.world.zone(key)?.metadata.uid.clone();
        let has_entry = self.ledger.contains_key(&(key.clone(), LedgerKind::Zone));
        Some(ZoneNotice { key: key.clone(), uid, told, has_entry, status })
    }

    fn instance_notice(&self, key: &NamespacedName) -> Option<InstanceNotice> {
        let instance = self.world.fleet().get(key)?.clone();
        let report = self.instance_report(key)?;
        let servers = self.servers_of(key).map(Server::report).collect();
        let told = self.world.told(&ObjectKey { kind: Kind::Instance, key: key.clone() });
        Some(InstanceNotice { instance, report, servers, told })
    }

    fn unreadable_notice(&self, key: ObjectKey) -> Option<UnreadableNotice> {
        if !self.is_told_as_unreadable(&key) {
            return None;
        }
        let message = self.world.why_unreadable(&key)?.to_owned();
        Some(UnreadableNotice { key, message })
    }

    fn record_notice(&mut self, id: RecordId) -> Option<RecordNotice> {
        let (key, generation, verdict) = self.world.verdict(id)?;
        if self.is_told_as_unreadable(&key) {
            return None;
        }
        let zones = self.world.zones_of(id);
        let reports: Vec<ZoneReport> = zones.iter().filter_map(|zone| self.zone_report(zone)).collect();
        let apex = reports.first().and_then(|report| self.world.apex(&report.key));
        let apex = apex.map(|apex| apex.to_string().trim_end_matches('.').to_owned());
        let stored = self.world.stored(id)?;
        let conditions = record_conditions(&verdict, stored.proven, &reports);
        let status = told::record_status(apex, &conditions, generation);
        let print = told::record_print(&status);
        let (told, created) = (stored.told, stored.created);
        if told == print {
            return None;
        }
        self.world.stored_mut(id)?.told = print;
        Some(RecordNotice { key, created, generation, told, status })
    }
}

impl Outbox {
    fn next_due(&self) -> Option<Duration> {
        let records = self.records.first().map(|(at, _)| *at);
        let unreadable = self.unreadable.first().map(|(at, _)| *at);
        let dues = [records, unreadable, self.zones.next_due(), self.instances.next_due()];
        dues.into_iter().flatten().min()
    }
}

/// Takes out what is due, if anything is.
fn pop<T: Ord>(queue: &mut BTreeSet<(Duration, T)>, now: Duration) -> Option<T> {
    queue.first().filter(|(at, _)| *at <= now)?;
    queue.pop_first().map(|(_, key)| key)
}
