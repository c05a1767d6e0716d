//! How the content of one zone or catalog becomes a published version.
//!
//! ```text
//!            want ──► compare with the ledger ──same digest──────────────► Publish (nothing is written)
//!                          │ other digest, nothing served yet
//!                          ▼
//!                     Recovering ──Fetch──► base ─► Publish
//!                          │ (nobody has it: no base)
//!                          ▼
//!   Held ◄──too much── guard ──► Swapping ──Swap──► Publish        (changes gather meanwhile for the next swap)
//! ```
//! A base that another process has published may have changes of which the watches here have not told yet. Before anything follows
//! it, every object is listed anew (CatchUp), so no change is taken back.
//!
//! The ledger is the status of the object: (serial, digest), written by compare-and-swap before anyone serves the
//! version, so a serial names one content, for ever. Serials only rise: the next one comes after the ledger's and
//! after every serial that one of our own servers was seen to serve, and not before unix time. A person may raise it further:
//! what is served already is published again under that serial.
//!
//! While another process writes the ledger ([`Publication::follow`]) nothing is written, fetched or held here: what is wanted is
//! served when it is what the ledger names, and what was served stays until then.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bindy_zone::{Content, Difference, Digest, OwnerName, Serial, Version};

/// The time of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Since some fixed moment; never goes back.
    pub monotonic: Duration,
    /// Seconds since 1970.
    pub unix: u32,
}

/// What the ledger says of a zone or catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LedgerEntry {
    /// Serial of the last version.
    pub serial: Serial,
    /// Digest of its content.
    pub digest: Digest,
    /// Number of its records.
    pub records: usize,
}

impl LedgerEntry {
    /// The entry that names `version`.
    pub fn of(version: &Version) -> Self {
        let content = &version.content;
        Self { serial: version.serial, digest: content.digest(), records: content.record_count() }
    }
}

/// Which removals need a person's word (invariant 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// A zone: many records that are missing after a relist.
    Relist,
    /// A catalog: many members within a minute, by whatever cause.
    Members,
}

/// What has to be done next for a publication. At most one command is under way at a time.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Ask the servers for the version that the ledger names; answer with [`Publication::fetched`].
    Fetch(LedgerEntry),
    /// Write `next` to the ledger if it still says `expected`; answer with [`Publication::swapped`].
    Swap {
        /// Serial that the ledger has to have.
        expected: Option<Serial>,
        /// The version to name.
        next: Version,
    },
    /// Take in every object as it is now; answer with [`Publication::caught_up`].
    CatchUp,
    /// Serve this version, whose entry is in the ledger.
    Publish(Version),
}

/// A removal that waits for a person's word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Names the held content: what the annotation has to say to release it.
    pub version: String,
    /// Records or members that would be removed.
    pub removed: usize,
    /// Records or members that are served.
    pub of: usize,
}

/// What came of a swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swapped {
    /// The ledger names the version.
    Done,
    /// Somebody else wrote; this is what the ledger says.
    Conflict(Option<LedgerEntry>),
    /// The ledger could not be reached. Whether it was written is not known; ask again.
    Failed,
}

/// Who writes the ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Writer {
    /// This process.
    #[default]
    This,
    /// Another one, which is followed.
    Other,
}

/// What is known of the objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum View {
    /// All that the last version was made from, or later states of it.
    Current,
    /// Another process has made the last version, and may have seen what this one has not.
    Behind,
}

#[derive(Clone, Debug)]
enum Phase {
    Settled,
    Recovering,
    CatchingUp,
    /// With the serial that the ledger has to have.
    Swapping(Option<Serial>, Version),
    /// The same, into an object in whose place there is another one since: the answer says nothing of that.
    SwappingFormer,
}

/// One zone or catalog on its way from wanted content to served versions.
#[derive(Clone, Debug)]
pub struct Publication {
    guard: Guard,
    ledger: Option<LedgerEntry>,
    served: Option<Version>,
    wanted: Option<Content>,
    /// What was wanted before, while another process writes: it may name that yet.
    recent: VecDeque<Content>,
    phase: Phase,
    /// What the ledger was last seen to say while this process wrote it.
    overheard: Option<LedgerEntry>,
    recovery_failed: bool,
    writer: Writer,
    view: View,
    relisted: bool,
    paused: bool,
    seen: Option<Serial>,
    floor: Option<Serial>,
    released: Option<String>,
    hold: Option<Hold>,
    /// When how many members left, within the last minute.
    left: VecDeque<(Duration, usize)>,
}

/// Contents that a follower remembers.
const RECENT: usize = 16;

/// A catalog may lose its share of members once in this time.
const MEMBERS_WINDOW: Duration = Duration::from_secs(60);

impl Publication {
    /// A publication of which the ledger says `ledger`, and of which nothing is served yet.
    pub fn new(guard: Guard, ledger: Option<LedgerEntry>) -> Self {
        Self {
            view: if ledger.is_some() { View::Behind } else { View::Current },
            guard,
            ledger,
            served: None,
            wanted: None,
            recent: VecDeque::new(),
            phase: Phase::Settled,
            overheard: None,
            recovery_failed: false,
            writer: Writer::This,
            // What is missing after a restart was not seen to be deleted.
            relisted: true,
            paused: false,
            seen: None,
            floor: None,
            released: None,
            hold: None,
            left: VecDeque::new(),
        }
    }

    /// Lets no serial be used that is not above this one: what the zone name was published with before.
    #[must_use]
    pub fn above(mut self, serial: Option<Serial>) -> Self {
        self.seen = serial;
        self
    }

    /// Somebody else writes the ledger from now on.
    pub fn follow(&mut self) {
        self.writer = Writer::Other;
        if matches!(self.phase, Phase::CatchingUp) {
            self.phase = Phase::Settled;
        }
        // Another one may have written before this one knew that its time was over.
        if let Some(entry) = self.overheard.take().filter(|entry| !self.is_past(entry.serial)) {
            self.ledger = Some(entry);
        }
    }

    /// The ledger was seen to name this version while this process writes it: its own, or that of a write which another
    /// process had sent before its time was over.
    pub fn overheard(&mut self, entry: LedgerEntry, now: Now) -> Vec<Command> {
        self.overheard = Some(entry);
        self.advance(now)
    }

    /// The ledger names this version now, by the word of whoever writes it. What it named before may be told late.
    pub fn named(&mut self, entry: Option<LedgerEntry>, now: Now) -> Vec<Command> {
        if self.writer == Writer::This || entry.is_some_and(|entry| self.is_past(entry.serial)) {
            return Vec::new();
        }
        self.replace_entry(entry);
        self.advance(now)
    }

    /// Whether the ledger is known to have named a later version than this one.
    fn is_past(&self, serial: Serial) -> bool {
        self.ledger.is_some_and(|ledger| ledger.serial.is_after(serial))
    }

    /// Writes from now on; what is wanted has to be told anew. A version of the ledger that is not the one that is served
    /// here is found first, as after a restart.
    pub fn lead(&mut self) {
        self.writer = Writer::This;
        self.recent.clear();
        self.overheard = None;
        self.recovery_failed = false;
        if self.served.as_ref().map(LedgerEntry::of) != self.ledger {
            self.view = View::Behind;
            self.served = None;
            self.relisted = true;
        }
    }

    /// Another object has taken the place of the one whose entry the ledger had. It has `entry`, from whoever writes, or none,
    /// and gets one with the next version, also for the same content.
    pub fn replaced(&mut self, entry: Option<LedgerEntry>) {
        self.overheard = None;
        self.replace_entry(entry);
        if let Phase::Swapping(_, next) = &self.phase {
            let serial = next.serial;
            self.note_used(serial);
            self.phase = Phase::SwappingFormer;
        }
    }

    /// The ledger has this entry instead of the one before, whose serial was used.
    fn replace_entry(&mut self, entry: Option<LedgerEntry>) {
        if let Some(before) = std::mem::replace(&mut self.ledger, entry) {
            self.note_used(before.serial);
        }
    }

    /// No version gets this serial, or one before it, any more.
    fn note_used(&mut self, serial: Serial) {
        if self.seen.is_none_or(|seen| serial.is_after(seen)) {
            self.seen = Some(serial);
        }
    }

    /// The object was published under another name, and `entry` is of that: the next version comes after it, and has no base.
    pub fn renamed(&mut self, entry: LedgerEntry) {
        self.ledger = Some(entry);
        self.served = None;
        self.overheard = None;
        self.recovery_failed = true;
        self.view = View::Current;
        self.relisted = false;
    }

    /// The version that is served.
    pub fn served(&self) -> Option<&Version> {
        self.served.as_ref()
    }

    /// What the ledger says.
    pub fn ledger(&self) -> Option<LedgerEntry> {
        self.ledger
    }

    /// The removal that waits for a person's word.
    pub fn hold(&self) -> Option<&Hold> {
        self.hold.as_ref()
    }

    /// Whether any version was ever published, in this run or before it.
    pub fn was_published(&self) -> bool {
        self.served.is_some() || self.ledger.is_some() || self.overheard.is_some()
    }

    /// Whether nothing is served, and nothing was wanted yet.
    pub fn is_new(&self) -> bool {
        self.served.is_none() && self.wanted.is_none()
    }

    /// Whether what is wanted is what is served.
    pub fn is_settled(&self) -> bool {
        let digest = |content: &Content| content.digest();
        matches!(self.phase, Phase::Settled)
            && !self.is_below_floor()
            && self.wanted.as_ref().map(digest)
                == self.served.as_ref().map(|version| version.content.digest())
    }

    /// Wants `content` from now on. `relisted`: records may be missing that nobody was seen to delete.
    pub fn want(&mut self, content: Content, relisted: bool, now: Now) -> Vec<Command> {
        if let Some(before) = self.wanted.replace(content)
            && self.writer == Writer::Other
        {
            self.recent.push_back(before);
            self.recent.drain(..self.recent.len().saturating_sub(RECENT));
        }
        self.relisted |= relisted;
        self.advance(now)
    }

    /// Sets the lowest serial that may be used, before the next [`Publication::want`].
    pub fn set_floor(&mut self, floor: Option<u32>) {
        self.floor = floor.map(Serial::new);
    }

    /// Sets a person's word, before the next [`Publication::want`]: while paused the served version stays, and the
    /// held version named by `released` may be published.
    pub fn set_word(&mut self, paused: bool, released: Option<String>) {
        self.paused = paused;
        self.released = released;
    }

    /// Whether the ledger names a version of which the content is not known yet, and may still be found.
    pub fn needs_base(&self) -> bool {
        self.served.is_none() && self.ledger.is_some() && !self.recovery_failed
    }

    /// Fetches the version that the ledger names without wanting anything yet.
    pub fn recover(&mut self) -> Vec<Command> {
        match (&self.phase, self.ledger) {
            (Phase::Settled, Some(entry)) if self.served.is_none() && self.writer == Writer::This => {
                self.phase = Phase::Recovering;
                vec![Command::Fetch(entry)]
            }
            _ => Vec::new(),
        }
    }

    /// Nobody had the version that the ledger names; somebody who has come may.
    pub fn ask_again(&mut self) {
        self.recovery_failed = false;
    }

    /// Takes the answer to a [`Command::Fetch`]: the version, or `None` when no server has it.
    pub fn fetched(&mut self, version: Option<Version>, now: Now) -> Vec<Command> {
        if !matches!(self.phase, Phase::Recovering) {
            return Vec::new();
        }
        self.phase = Phase::Settled;
        match version.filter(|version| self.ledger == Some(LedgerEntry::of(version))) {
            Some(version) => {
                self.view = View::Behind;
                self.served = Some(version.clone());
                let mut commands = vec![Command::Publish(version)];
                commands.extend(self.advance(now));
                commands
            }
            None => {
                self.recovery_failed = true;
                self.advance(now)
            }
        }
    }

    /// Takes the answer to a [`Command::Swap`].
    pub fn swapped(&mut self, result: Swapped, now: Now) -> Vec<Command> {
        let (expected, next) = match std::mem::replace(&mut self.phase, Phase::Settled) {
            Phase::Swapping(expected, next) => (expected, next),
            Phase::SwappingFormer => return self.advance(now),
            _ => return Vec::new(),
        };
        match result {
            // Carried out, and overtaken by another process before the answer came.
            Swapped::Done if self.is_past(next.serial) => self.advance(now),
            Swapped::Done => self.publish(next, now),
            // Our own write, whose answer was lost.
            Swapped::Conflict(Some(entry))
                if entry == LedgerEntry::of(&next) && !self.is_past(entry.serial) =>
            {
                self.publish(next, now)
            }
            Swapped::Conflict(entry) if self.writer == Writer::Other => {
                let mut commands = self.named(entry, now);
                commands.extend(self.advance(now));
                commands
            }
            Swapped::Failed if self.writer == Writer::Other => self.advance(now),
            Swapped::Conflict(entry) => {
                self.give_way(entry);
                self.advance(now)
            }
            // Another process has led and written meanwhile: this follows a version that is the last one no more.
            Swapped::Failed if self.ledger.map(|entry| entry.serial) != expected => self.advance(now),
            Swapped::Failed => self.swap(expected, next),
        }
    }

    /// Ends a swap of which it is not known whether it was carried out.
    pub(crate) fn give_up(&mut self) {
        if matches!(self.phase, Phase::Swapping(..) | Phase::SwappingFormer) {
            self.phase = Phase::Settled;
        }
    }

    /// Notes a serial that one of our own servers serves.
    pub fn observed(&mut self, serial: Serial, now: Now) -> Vec<Command> {
        self.note_used(serial);
        self.advance(now)
    }

    /// The version that the ledger names is another's: it is the base of what comes next.
    fn give_way(&mut self, entry: Option<LedgerEntry>) {
        self.replace_entry(entry);
        self.served = None;
        self.recovery_failed = false;
        if entry.is_some() {
            self.view = View::Behind;
        }
    }

    /// Takes the answer to a [`Command::CatchUp`]; what is wanted has been told.
    pub fn caught_up(&mut self, now: Now) -> Vec<Command> {
        if !matches!(self.phase, Phase::CatchingUp) {
            return Vec::new();
        }
        self.phase = Phase::Settled;
        self.view = View::Current;
        self.advance(now)
    }

    fn publish(&mut self, version: Version, now: Now) -> Vec<Command> {
        self.note_left(&version, now);
        self.ledger = Some(LedgerEntry::of(&version));
        self.served = Some(version.clone());
        self.recovery_failed = false;
        let mut commands = vec![Command::Publish(version)];
        commands.extend(self.advance(now));
        commands
    }

    /// Whether a server of ours is ahead of what is published, so that it would ignore it.
    fn is_overtaken(&self) -> bool {
        match (self.seen, self.ledger) {
            (Some(seen), Some(ledger)) => seen.is_after(ledger.serial),
            _ => false,
        }
    }

    /// Whether the published serial is lower than a person wants it, and can be raised to that.
    fn is_below_floor(&self) -> bool {
        self.floor.zip(self.ledger).is_some_and(|(floor, ledger)| {
            floor.is_after(ledger.serial) && self.seen.is_none_or(|seen| floor.is_after(seen))
        })
    }

    fn advance(&mut self, now: Now) -> Vec<Command> {
        if !matches!(self.phase, Phase::Settled) {
            return Vec::new();
        }
        let Some(wanted) = self.wanted.clone() else { return Vec::new() };
        if self.writer == Writer::Other {
            return self.follow_ledger(wanted);
        }
        if let Some(entry) = self.overheard.take()
            && self.ledger.is_none_or(|own| entry.serial.is_after(own.serial))
        {
            self.give_way(Some(entry));
        }
        let serial_stays = !self.is_overtaken() && (self.paused || !self.is_below_floor());
        if let (None, Some(entry)) = (&self.served, self.ledger) {
            if entry.digest == wanted.digest() && serial_stays {
                self.view = View::Current;
                self.relisted = false;
                self.hold = None;
                let version = Version { serial: entry.serial, content: wanted };
                self.served = Some(version.clone());
                return vec![Command::Publish(version)];
            }
            if !self.recovery_failed {
                self.phase = Phase::Recovering;
                return vec![Command::Fetch(entry)];
            }
        }
        let unchanged = self.served.as_ref().is_some_and(|served| served.content.digest() == wanted.digest());
        if unchanged && serial_stays && self.ledger.is_some() {
            self.view = View::Current;
            self.relisted = false;
            self.hold = None;
            return Vec::new();
        }
        if self.paused && self.served.is_some() {
            return Vec::new();
        }
        if self.view == View::Behind {
            self.phase = Phase::CatchingUp;
            return vec![Command::CatchUp];
        }
        self.hold = self.too_much(&wanted, now);
        if self.hold.is_some() {
            return Vec::new();
        }
        self.relisted = false;
        let next = Version { serial: self.next_serial(now), content: wanted };
        self.swap(self.ledger.map(|entry| entry.serial), next)
    }

    fn swap(&mut self, expected: Option<Serial>, next: Version) -> Vec<Command> {
        self.phase = Phase::Swapping(expected, next.clone());
        vec![Command::Swap { expected, next }]
    }

    /// Serves what the ledger names when that is `wanted`, or was before further edits.
    fn follow_ledger(&mut self, wanted: Content) -> Vec<Command> {
        let Some(entry) = self.ledger else { return Vec::new() };
        let named = |content: &Content| content.digest() == entry.digest;
        let content = if named(&wanted) {
            self.recent.clear();
            wanted
        } else {
            let Some(at) = self.recent.iter().rposition(named) else { return Vec::new() };
            let Some(content) = self.recent.drain(..=at).next_back() else { return Vec::new() };
            content
        };
        self.view = View::Current;
        let served = self.served.as_ref().map(LedgerEntry::of);
        if served == Some(entry) {
            return Vec::new();
        }
        self.relisted = false;
        self.hold = None;
        let version = Version { serial: entry.serial, content };
        self.served = Some(version.clone());
        vec![Command::Publish(version)]
    }

    fn next_serial(&self, now: Now) -> Serial {
        let before: Vec<Serial> =
            self.ledger.map(|entry| entry.serial).into_iter().chain(self.seen).collect();
        let next = Serial::after(before.clone(), now.unix);
        match self.floor {
            // Of a first serial none comes before it on the circle: the higher number counts.
            Some(floor) if before.is_empty() => Serial::new(floor.get().max(now.unix)),
            Some(floor) if floor.is_after(next) => Serial::after(before, floor.get()),
            _ => next,
        }
    }

    /// The hold on `wanted`, unless its removals are few or released.
    fn too_much(&mut self, wanted: &Content, now: Now) -> Option<Hold> {
        let (removed, of) = match (self.guard, &self.served, self.ledger) {
            (Guard::Relist, _, _) if !self.relisted => return None,
            (Guard::Relist, Some(served), _) => (lost(served, wanted), served.content.record_count()),
            (Guard::Relist, None, Some(entry)) => {
                (entry.records.saturating_sub(wanted.record_count()), entry.records)
            }
            (Guard::Members, Some(served), _) => {
                self.left.retain(|(at, _)| now.monotonic.saturating_sub(*at) < MEMBERS_WINDOW);
                let recent: usize = self.left.iter().map(|(_, left)| left).sum();
                (recent + lost(served, wanted), recent + served.content.record_count())
            }
            (Guard::Members, None, Some(entry)) => {
                (entry.records.saturating_sub(wanted.record_count()), entry.records)
            }
            (_, None, None) => return None,
        };
        let version = wanted.digest().short();
        let allowed = (of / 5).max(10);
        (removed > allowed && self.released.as_ref() != Some(&version)).then_some(Hold {
            version,
            removed,
            of,
        })
    }

    fn note_left(&mut self, next: &Version, now: Now) {
        if self.guard == Guard::Members
            && let Some(served) = &self.served
        {
            let left = lost(served, &next.content);
            if left > 0 {
                self.left.push_back((now.monotonic, left));
            }
        }
    }
}

/// By how many records `wanted` has fewer than `served`, name by name: what is another one under its old name was edited.
fn lost(served: &Version, wanted: &Content) -> usize {
    let next = Version { serial: served.serial.next(), content: wanted.clone() };
    let difference = Difference::between(served, &next);
    let mut removed: BTreeMap<&OwnerName, usize> = BTreeMap::new();
    for record in &difference.removed {
        *removed.entry(&record.owner).or_default() += 1;
    }
    for record in &difference.added {
        if let Some(removed) = removed.get_mut(&record.owner) {
            *removed = removed.saturating_sub(1);
        }
    }
    removed.values().sum()
}
