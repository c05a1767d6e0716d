//! Bringing published versions to one server, and the proof that it has them.
//!
//! ```text
//!   wanted ── NOTIFY ── 2 ms ── SOA ──► has the serial ── changed RRsets ──► has the version: nothing is kept of it
//!                ▲  older serial, failure │                                │ other data
//!                └──── 5, 10, 20 … ms ────┘◄───────────────────────────────┘
//! ```
//! From the fourth question for the SOA on every one comes with another NOTIFY, since the first may be lost. Zones that
//! are new to the server get none at first, and are asked for less often: it transfers them by itself when its catalog names
//! them. New versions of zones that the server has go before zones that are new to it, and proofs come last; what is
//! under way is bounded, that of a bulk load most of all, so that an edit never waits behind it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bindy_zone::{Name, Serial};

use crate::sample::{Question, SAMPLE};

/// The pauses before each question; the last one repeats. A server that is busy may take no notice of a NOTIFY, and would lag
/// behind by the next pause: for the first second they stay short.
const PAUSES_MS: [u64; 14] = [2, 5, 10, 20, 50, 100, 200, 200, 200, 200, 200, 500, 1_000, 2_000];

/// The first of these pauses, but for one, of zones that are new to a server: a whole transfer comes before an answer.
const FIRST_PAUSE_OF_NEW: usize = 3;

/// From this question on, counted from the first, each comes with another NOTIFY.
const NOTIFY_AGAIN: usize = 3;

/// Questions of one server that are under way at most; with one of another rank than that of edits.
const UNDER_WAY: usize = 256;
const BULK_UNDER_WAY: usize = 64;

/// What to ask the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The zone.
    pub zone: Name,
    /// The serial that it should have.
    pub serial: Serial,
    /// The question.
    pub ask: Ask,
    /// What it goes before, and behind.
    pub rank: Rank,
}

/// What to ask about a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Nothing: the server is told of the serial by a NOTIFY.
    Notify,
    /// The serial.
    Serial {
        /// Whether a NOTIFY goes before the question.
        notify: bool,
    },
    /// Its records, until one is not as it should be.
    Records(Vec<Question>),
}

/// What the server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It has taken the NOTIFY, or knows nothing of the zone yet.
    Notified,
    /// It serves this serial.
    Serial(Serial),
    /// Each of the records is as it should be.
    Proven,
    /// It gave no usable answer, or wrong data; the text says which, for status.
    Failure(String),
}

/// What the answer means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The server has the wanted serial.
    Served,
    /// The server was seen to have the wanted version.
    Delivered,
    /// The server has a serial after the wanted one, which we never published.
    Ahead(Serial),
    /// Not yet.
    Waiting,
    /// Nobody waits for this answer any more.
    Stale,
}

/// What is asked first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// Another version of a zone that the server has.
    Edit,
    /// A zone that is new to the server.
    New,
    /// A zone that the server has from outside of Bindy: any serial will do.
    Outside,
    /// The records of a version whose serial the server has.
    Proof,
}

const RANKS: [Rank; 4] = [Rank::Edit, Rank::New, Rank::Outside, Rank::Proof];

/// A version that the server was not seen to have yet.
#[derive(Clone, Debug)]
pub struct Pending {
    /// The serial it should have.
    pub wanted: Serial,
    /// Since when it should.
    pub since: Duration,
    /// What was wrong with the last answer.
    pub failure: Option<String>,
    rank: Rank,
    has_serial: bool,
    /// Whether it was told of the version, or need not be.
    told: bool,
    attempt: usize,
    /// When it is asked next; `None` while a probe is under way, or another version is to come.
    due: Option<Duration>,
    /// Whether another version is to come in its place.
    superseded: bool,
}

/// What one server still has to get.
#[derive(Clone, Debug, Default)]
pub struct Delivery {
    pending: BTreeMap<Name, Pending>,
    due: BTreeSet<(Rank, Duration, Name)>,
    under_way: usize,
    /// Zones with a probe under way: nothing more is asked about them before its answer.
    asking: BTreeSet<Name>,
}

impl Rank {
    /// Which of the pauses comes first.
    fn first_attempt(self) -> usize {
        if self == Self::New { FIRST_PAUSE_OF_NEW } else { 0 }
    }
}

impl Pending {
    fn rank(&self) -> Rank {
        if self.has_serial { Rank::Proof } else { self.rank }
    }

    /// Questions without the wanted answer.
    fn asked(&self) -> usize {
        self.attempt.saturating_sub(self.rank.first_attempt())
    }
}

impl Delivery {
    /// The server should have `serial` of `zone`. What keeps it from answering is as it was for the version before.
    pub fn want(&mut self, zone: &Name, serial: Serial, rank: Rank, now: Duration) {
        self.supersede(zone);
        let before = self.pending.remove(zone);
        let failing = before.and_then(|before| Some((before.failure?, before.attempt)));
        let first = rank.first_attempt();
        let (failure, attempt) =
            failing.map_or((None, first), |(failure, attempt)| (Some(failure), attempt.max(first)));
        let due = (!self.asking.contains(zone)).then_some(now);
        let pending = Pending {
            wanted: serial,
            since: now,
            failure,
            rank,
            has_serial: false,
            told: rank != Rank::Edit,
            attempt,
            due,
            superseded: false,
        };
        self.pending.insert(zone.clone(), pending);
        self.due.extend(due.map(|due| (rank, due, zone.clone())));
    }

    /// The server should have another version of `zone` soon: it is not asked for this one any more.
    pub fn supersede(&mut self, zone: &Name) {
        let Some(pending) = self.pending.get_mut(zone) else { return };
        pending.superseded = true;
        if let Some(due) = pending.due.take() {
            self.due.remove(&(pending.rank(), due, zone.clone()));
        }
    }

    /// The server need not have `zone` any more, or was seen to have it.
    pub fn forget(&mut self, zone: &Name) {
        self.supersede(zone);
        self.pending.remove(zone);
        self.asking.remove(zone);
    }

    /// The server can be reached again: everything pending is due now.
    pub fn hurry(&mut self, now: Duration) {
        self.due.clear();
        for (zone, pending) in &mut self.pending {
            if pending.due.is_some() {
                pending.due = Some(now);
                pending.attempt = pending.rank.first_attempt();
                pending.told = pending.rank != Rank::Edit;
                self.due.insert((pending.rank(), now, zone.clone()));
            }
        }
    }

    /// The next probe whose time has come, unless too much is under way; under way until [`Delivery::answered`].
    pub fn take_due(&mut self, now: Duration) -> Option<Probe> {
        let mut first = RANKS.into_iter().filter_map(|rank| self.first(rank));
        let (rank, due, zone) = first.find(|(_, due, _)| *due <= now)?.clone();
        drop(first);
        self.due.remove(&(rank, due, zone.clone()));
        let pending = self.pending.get_mut(&zone)?;
        pending.due = None;
        let ask = match rank {
            Rank::Proof => Ask::Records(Vec::new()),
            Rank::Outside => Ask::Serial { notify: false },
            Rank::Edit | Rank::New if !pending.told => Ask::Notify,
            Rank::Edit | Rank::New => Ask::Serial { notify: pending.asked() >= NOTIFY_AGAIN },
        };
        self.under_way += ask.weight();
        self.asking.insert(zone.clone());
        Some(Probe { zone, serial: pending.wanted, ask, rank })
    }

    /// When the next probe is due that is not kept back by those under way.
    pub fn next_due(&self) -> Option<Duration> {
        RANKS.into_iter().filter_map(|rank| Some(self.first(rank)?.1)).min()
    }

    /// The next of a rank, unless too much is under way.
    fn first(&self, rank: Rank) -> Option<&(Rank, Duration, Name)> {
        let weight = if rank == Rank::Proof { SAMPLE } else { 1 };
        let first = (rank, Duration::ZERO, Name::root());
        let found = self.due.range(first..).next().filter(|(of, ..)| *of == rank)?;
        let limit = if rank == Rank::Edit { UNDER_WAY } else { BULK_UNDER_WAY };
        (self.under_way + weight <= limit).then_some(found)
    }

    /// Takes the answer to a probe.
    pub fn answered(&mut self, probe: &Probe, answer: Answer, now: Duration) -> Progress {
        self.under_way = self.under_way.saturating_sub(probe.ask.weight());
        if !self.asking.remove(&probe.zone) {
            return Progress::Stale;
        }
        let Some(pending) = self.pending.get_mut(&probe.zone) else { return Progress::Stale };
        if pending.superseded || pending.wanted != probe.serial {
            self.answered_for_another(&probe.zone, answer, now);
            return Progress::Stale;
        }
        let mut due = None;
        let progress = match answer {
            Answer::Serial(_) if pending.rank == Rank::Outside => Progress::Delivered,
            Answer::Serial(found) if found == probe.serial => {
                pending.has_serial = true;
                due = Some(now);
                Progress::Served
            }
            Answer::Serial(found) if found.is_after(probe.serial) => Progress::Ahead(found),
            Answer::Proven => Progress::Delivered,
            Answer::Notified => {
                pending.told = true;
                pending.attempt = 0;
                due = Some(now + pause(0));
                Progress::Waiting
            }
            Answer::Serial(_) => {
                pending.failure = None;
                Progress::Waiting
            }
            Answer::Failure(text) => {
                pending.failure = Some(text);
                Progress::Waiting
            }
        };
        match progress {
            Progress::Delivered | Progress::Ahead(_) => drop(self.pending.remove(&probe.zone)),
            _ => {
                if due.is_none() {
                    pending.has_serial = false;
                    pending.attempt += 1;
                }
                let due = due.unwrap_or_else(|| now + pause(pending.attempt));
                pending.due = Some(due);
                self.due.insert((pending.rank(), due, probe.zone.clone()));
            }
        }
        progress
    }

    /// Takes the answer to a probe for a version that is not the wanted one any more: a server that fails for it does so
    /// for the wanted one.
    fn answered_for_another(&mut self, zone: &Name, answer: Answer, now: Duration) {
        let Some(pending) = self.pending.get_mut(zone) else { return };
        let mut due = now;
        if let Answer::Failure(text) = answer {
            pending.failure = Some(text);
            pending.attempt += 1;
            due += pause(pending.attempt);
        }
        if !pending.superseded {
            pending.due = Some(due);
            self.due.insert((pending.rank(), due, zone.clone()));
        }
    }

    /// The zones that the server was not seen to have yet.
    pub fn pending(&self) -> impl Iterator<Item = (&Name, &Pending)> {
        self.pending.iter()
    }

    /// Whether the server has, as far as asked, everything it should.
    pub fn is_complete(&self) -> bool {
        self.pending.is_empty()
    }

    /// What was wrong with the last answer for `zone`.
    pub fn failure(&self, zone: &Name) -> Option<&str> {
        self.pending.get(zone)?.failure.as_deref()
    }

    /// Whether the server should have a version of `zone` and has not answered for it yet.
    pub fn is_unheard(&self, zone: &Name) -> bool {
        self.pending.get(zone).is_some_and(|pending| pending.asked() == 0 && pending.failure.is_none())
    }

    /// Whether the server has the wanted version of `zone`.
    pub fn has(&self, zone: &Name) -> bool {
        !self.pending.contains_key(zone)
    }

    /// Whether the server has the wanted serial of `zone`, proven or not.
    pub fn has_serial(&self, zone: &Name) -> bool {
        self.pending.get(zone).is_none_or(|pending| pending.has_serial)
    }
}

impl Ask {
    /// How many questions it is at most.
    fn weight(&self) -> usize {
        match self {
            Self::Notify | Self::Serial { .. } => 1,
            Self::Records(_) => SAMPLE,
        }
    }
}

fn pause(attempt: usize) -> Duration {
    Duration::from_millis(PAUSES_MS.get(attempt).or(PAUSES_MS.last()).copied().unwrap_or(2_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone() -> Name {
        Name::parse("example.com").unwrap()
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn take_all(delivery: &mut Delivery, now: Duration) -> Vec<Probe> {
        std::iter::from_fn(|| delivery.take_due(now)).collect()
    }

    fn want(delivery: &mut Delivery, serial: u32, now: Duration) {
        delivery.want(&zone(), Serial::new(serial), Rank::Edit, now);
    }

    /// Takes the NOTIFY that comes first and lets the server have it; returns when it may be asked.
    fn tell(delivery: &mut Delivery, now: Duration) -> Duration {
        let told = delivery.take_due(now).unwrap();
        assert_eq!((&told.zone, &told.ask), (&zone(), &Ask::Notify));
        assert_eq!(delivery.answered(&told, Answer::Notified, now), Progress::Waiting);
        now + ms(2)
    }

    fn serial(serial: u32) -> Answer {
        Answer::Serial(Serial::new(serial))
    }

    #[test]
    fn a_lost_notify_is_sent_again_and_questions_back_off() {
        let mut delivery = Delivery::default();
        want(&mut delivery, 7, ms(0));
        let (mut now, mut notifies, mut questions) = (tell(&mut delivery, ms(0)), 0, 0);
        while now < ms(10_000) {
            for probe in take_all(&mut delivery, now) {
                notifies += usize::from(matches!(probe.ask, Ask::Serial { notify: true }));
                questions += 1;
                assert_eq!(delivery.answered(&probe, serial(6), now), Progress::Waiting);
            }
            now = delivery.next_due().unwrap();
        }
        assert!((12..20).contains(&questions), "{questions}");
        assert_eq!(notifies, questions - NOTIFY_AGAIN);
    }

    #[test]
    fn a_server_that_takes_no_notice_is_told_many_times_in_the_first_second() {
        let mut delivery = Delivery::default();
        want(&mut delivery, 7, ms(0));
        let (mut now, mut notifies) = (tell(&mut delivery, ms(0)), 0);
        while now < ms(1_000) {
            for probe in take_all(&mut delivery, now) {
                notifies += usize::from(matches!(probe.ask, Ask::Serial { notify: true }));
                assert_eq!(delivery.answered(&probe, serial(6), now), Progress::Waiting);
            }
            now = delivery.next_due().unwrap();
        }
        assert!(notifies >= 6, "{notifies}");
    }

    #[test]
    fn a_zone_that_is_new_to_a_server_is_asked_for_less_often_than_an_edit() {
        let mut delivery = Delivery::default();
        delivery.want(&zone(), Serial::new(7), Rank::New, ms(0));
        assert!(delivery.is_unheard(&zone()));
        let mut asked = Vec::new();
        while asked.len() < 4 {
            let now = delivery.next_due().unwrap();
            let probe = delivery.take_due(now).unwrap();
            asked.push((now.as_millis(), matches!(probe.ask, Ask::Serial { notify: true })));
            delivery.answered(&probe, Answer::Failure("it has no such zone".to_owned()), now);
        }
        assert_eq!(asked, [(0, false), (50, false), (150, false), (350, true)]);
    }

    #[test]
    fn a_newer_version_replaces_an_older_one_and_stale_answers_count_for_nothing() {
        let mut delivery = Delivery::default();
        want(&mut delivery, 7, ms(0));
        let old = delivery.take_due(ms(0)).unwrap();
        want(&mut delivery, 8, ms(1));
        assert_eq!(delivery.take_due(ms(1)), None, "two probes of one zone are under way");
        assert_eq!(delivery.answered(&old, serial(7), ms(2)), Progress::Stale);
        assert!(!delivery.is_complete());
        let asked = tell(&mut delivery, ms(2));
        let new = delivery.take_due(asked).unwrap();
        assert_eq!(delivery.answered(&new, serial(8), ms(3)), Progress::Served);
        let proof = delivery.take_due(ms(3)).unwrap();
        assert_eq!(delivery.answered(&proof, Answer::Proven, ms(3)), Progress::Delivered);
        assert!(delivery.is_complete() && delivery.next_due().is_none());
    }

    #[test]
    fn a_server_that_fails_stays_heard_although_each_version_is_replaced_before_its_answer() {
        let mut delivery = Delivery::default();
        let edit = |delivery: &mut Delivery, number: u32, now: Duration| {
            delivery.supersede(&zone());
            want(delivery, number, now);
        };
        edit(&mut delivery, 0, ms(0));
        let mut probe = delivery.take_due(ms(0)).unwrap();
        for number in 1..10 {
            let now = ms(500 * u64::from(number));
            edit(&mut delivery, number, now);
            assert_eq!(delivery.take_due(now), None, "two probes of one zone are under way");
            let failure = Answer::Failure("no answer".to_owned());
            assert_eq!(delivery.answered(&probe, failure, now), Progress::Stale);
            assert!(delivery.next_due().unwrap() > now, "asked again at once");
            edit(&mut delivery, number + 100, now);
            assert_eq!(delivery.failure(&zone()), Some("no answer"));
            assert!(!delivery.is_unheard(&zone()), "edit {number} makes it unheard again");
            probe = delivery.take_due(now).unwrap();
        }
        // It can be reached again, and is asked as often as any other.
        assert_eq!(delivery.answered(&probe, Answer::Notified, ms(5_000)), Progress::Waiting);
        let asked = delivery.next_due().unwrap();
        assert_eq!(asked, ms(5_002));
        let probe = delivery.take_due(asked).unwrap();
        assert_eq!(delivery.answered(&probe, serial(99), asked), Progress::Waiting);
        assert_eq!((delivery.failure(&zone()), delivery.next_due()), (None, Some(asked + pause(1))));
    }

    #[test]
    fn what_was_wrong_with_a_zone_is_forgotten_with_it() {
        let mut delivery = Delivery::default();
        want(&mut delivery, 7, ms(0));
        let probe = delivery.take_due(ms(0)).unwrap();
        delivery.answered(&probe, Answer::Failure("no answer".to_owned()), ms(1));
        delivery.forget(&zone());
        want(&mut delivery, 8, ms(2));
        assert!(delivery.is_unheard(&zone()) && delivery.failure(&zone()).is_none());
    }

    #[test]
    fn a_server_ahead_is_told_apart() {
        let mut delivery = Delivery::default();
        want(&mut delivery, 7, ms(0));
        let asked = tell(&mut delivery, ms(0));
        let probe = delivery.take_due(asked).unwrap();
        assert_eq!(delivery.answered(&probe, serial(9), ms(1)), Progress::Ahead(Serial::new(9)));
    }

    #[test]
    fn a_server_with_the_serial_and_other_data_does_not_have_the_version() {
        let mut delivery = Delivery::default();
        want(&mut delivery, 7, ms(0));
        tell(&mut delivery, ms(0));
        for _ in 0..5 {
            let now = delivery.next_due().unwrap();
            let probe = delivery.take_due(now).unwrap();
            assert_eq!(delivery.answered(&probe, serial(7), now), Progress::Served);
            assert!(delivery.has_serial(&zone()) && !delivery.has(&zone()));
            let proof = delivery.take_due(now).unwrap();
            assert!(matches!(proof.ask, Ask::Records(_)), "{proof:?}");
            let lie = Answer::Failure("other data".to_owned());
            assert_eq!(delivery.answered(&proof, lie, now), Progress::Waiting);
            assert!(!delivery.has_serial(&zone()));
            assert!(delivery.next_due().unwrap() > now, "asked again at once");
        }
        let (_, pending) = delivery.pending().next().unwrap();
        assert_eq!(pending.failure.as_deref(), Some("other data"));
    }

    #[test]
    fn an_edit_goes_before_a_bulk_load_and_what_is_under_way_is_bounded() {
        let mut delivery = Delivery::default();
        for n in 0..1_000 {
            let zone = Name::parse(&format!("zone-{n}.example")).unwrap();
            delivery.want(&zone, Serial::new(1), Rank::New, ms(0));
        }
        let under_way = take_all(&mut delivery, ms(0));
        assert_eq!(under_way.len(), BULK_UNDER_WAY);
        let asked: Vec<&Ask> = under_way.iter().map(|probe| &probe.ask).collect();
        assert_eq!(asked, [&Ask::Serial { notify: false }; BULK_UNDER_WAY], "new zones come by the catalog");
        assert_eq!(delivery.next_due(), None, "a full queue is not asked for more");
        want(&mut delivery, 7, ms(1));
        tell(&mut delivery, ms(1));
        assert_eq!(delivery.answered(&under_way[0], serial(1), ms(1)), Progress::Served);
        let under_way_with_edit = delivery.take_due(ms(3)).unwrap();
        assert_eq!(under_way_with_edit.zone, zone());
        assert_eq!(delivery.take_due(ms(3)), None);
        delivery.answered(&under_way_with_edit, serial(6), ms(3));
        for probe in &under_way[1..=SAMPLE] {
            delivery.answered(probe, serial(1), ms(2));
        }
        let next: Vec<bool> =
            take_all(&mut delivery, ms(2)).iter().map(|probe| matches!(probe.ask, Ask::Records(_))).collect();
        assert_eq!(next, [false; 1 + SAMPLE], "zones come before proofs");
    }
}
