//! Candidates with clocks of their own, a network that loses, delays and repeats, and what goes wrong.
//!
//! Time is true time in microseconds. Each node reads it through its own clock: another beginning, and up to 5 % faster or
//! slower. The events of a node that is stopped wait until it goes on.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

use bindy_election::candidate::{Answer, Candidate, Event, Failure, Request, Standing};
use bindy_election::{Config, Moment, Observed, Process, Settings, Version};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::api::Api;

/// Clocks differ from true time by up to this many millionths.
const SKEW: i64 = 50_000;
pub const SECOND: u64 = 1_000_000;
/// Set in the order of what comes after everything else of that time.
const AFTER_ALL: u64 = 1 << 62;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Wake {
        generation: u64,
    },
    Timeout {
        call: u64,
    },
    Release,
    Restart,
    /// Nothing more arrives of a node until then.
    Cut {
        until: u64,
    },
    /// A leader reads what it is going to write.
    Work,
    /// It has read version `expected`, and writes.
    Write {
        expected: u64,
    },
    Message(u64),
}

/// What is on its way.
enum Message {
    Request { call: u64, request: Request },
    Answer { call: u64, answer: Answer },
    Watched(Option<Observed>),
    Write { expected: u64, ordinal: u64 },
}

/// When, in which order, at which node and which life of it.
type Scheduled = Reverse<(u64, u64, usize, u64, What)>;

pub struct Node {
    candidate: Option<Candidate>,
    pub standing: Standing,
    /// Which term of all, in the order in which they began.
    ordinal: u64,
    identity: Arc<str>,
    offset: u64,
    skew: i64,
    stopped_until: u64,
    cut_until: u64,
    life: u64,
    generation: u64,
    call: Option<u64>,
    may_watch: bool,
    watches: bool,
    told: Option<Version>,
    pub writes: u64,
}

pub struct World {
    pub random: StdRng,
    pub now: u64,
    config: Settings,
    pub api: Api,
    pub nodes: Vec<Node>,
    queue: BinaryHeap<Scheduled>,
    messages: std::collections::HashMap<u64, Message>,
    counter: u64,
    api_down_until: u64,
    terms: u64,
    number: u64,
    pub faults: bool,
    pub steps: u64,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let (duration, deadline, retry) =
            [(15, 10.0, 2.0), (3, 2.0, 1.0), (6, 5.0, 1.0)][random.random_range(0..3)];
        let config = Settings {
            identity: "x".to_owned(),
            duration: Duration::from_secs(duration),
            renew_deadline: Duration::from_secs_f64(deadline),
            retry_period: Duration::from_secs_f64(retry),
            ..Settings::default()
        };
        let count = random.random_range(2..=5);
        let mut world = Self {
            random,
            now: 0,
            config,
            api: Api::default(),
            nodes: Vec::new(),
            queue: BinaryHeap::new(),
            messages: Default::default(),
            counter: 0,
            api_down_until: 0,
            terms: 0,
            number: 0,
            faults: false,
            steps: 0,
        };
        for at in 0..count {
            // Now and then two nodes bear one name, as after a pod was deleted by force.
            let name = if world.random.random_ratio(1, 8) { 0 } else { at };
            let node = Node {
                candidate: None,
                standing: Standing::Stopped,
                ordinal: 0,
                identity: format!("pod-{name}").into(),
                offset: world.random.random_range(0..1_000 * SECOND),
                skew: world.random.random_range(-SKEW..=SKEW),
                stopped_until: 0,
                cut_until: 0,
                life: 0,
                generation: 0,
                call: None,
                may_watch: world.random.random_ratio(3, 4),
                watches: false,
                told: None,
                writes: 0,
            };
            world.nodes.push(node);
            world.restart(at);
        }
        world
    }

    pub fn duration(&self) -> u64 {
        micros(self.config.duration)
    }

    pub fn retry(&self) -> u64 {
        micros(self.config.retry_period)
    }

    /// Who leads now, by its own clock.
    pub fn leaders(&self) -> Vec<(usize, u64)> {
        let live = |(at, node): (usize, &Node)| match node.standing {
            Standing::Leader { number, deadline } if node.clock(self.now) < deadline => Some((at, number)),
            _ => None,
        };
        self.nodes.iter().enumerate().filter_map(live).collect()
    }

    /// Lets everything happen until then.
    pub fn run_until(&mut self, end: u64) {
        while let Some(Reverse((at, ..))) = self.queue.peek()
            && *at <= end
        {
            let Some(Reverse((at, order, node, life, what))) = self.queue.pop() else { return };
            self.now = at.max(self.now);
            if let What::Message(id) = what
                && matches!(self.messages.get(&id), Some(Message::Request { .. } | Message::Write { .. }))
            {
                self.arrive(node, life, id);
                continue;
            }
            if self.nodes[node].life != life {
                continue;
            }
            if let What::Cut { until } = what {
                self.nodes[node].cut_until = if self.faults { until } else { 0 };
                continue;
            }
            let until = self.nodes[node].stopped_until;
            if until > self.now {
                // What has arrived meanwhile is read before a limit is found to have passed.
                let last = if matches!(what, What::Timeout { .. }) { AFTER_ALL } else { 0 };
                self.queue.push(Reverse((until, order | last, node, life, what)));
                continue;
            }
            self.happen(node, what);
        }
        self.now = end;
    }

    /// When the last fault ends: the last message has arrived, and every process runs.
    pub fn last_fault(&self) -> u64 {
        let is_fault = |what: &What| matches!(what, What::Message(_) | What::Restart | What::Release);
        let queue = self.queue.iter().filter(|Reverse((.., what))| is_fault(what));
        let nodes = self.nodes.iter().map(|node| node.stopped_until);
        queue.map(|Reverse((at, ..))| *at).chain(nodes).max().unwrap_or(self.now).max(self.now)
    }

    fn schedule(&mut self, at: u64, node: usize, what: What) {
        self.counter += 1;
        self.queue.push(Reverse((at, self.counter, node, self.nodes[node].life, what)));
    }

    fn send(&mut self, node: usize, delay: u64, message: Message) {
        self.counter += 1;
        let id = self.counter;
        self.messages.insert(id, message);
        self.schedule(self.now + delay, node, What::Message(id));
    }

    fn delay(&mut self) -> u64 {
        match self.faults && self.random.random_ratio(1, 30) {
            true => self.random.random_range(0..30 * SECOND),
            false => self.random.random_range(300..30_000),
        }
    }

    fn is_lost(&mut self) -> bool {
        self.faults && self.random.random_ratio(1, 12)
    }

    fn happen(&mut self, at: usize, what: What) {
        match what {
            What::Wake { generation } if generation == self.nodes[at].generation => {
                self.step(at, Event::Wake);
            }
            What::Wake { .. } => {}
            What::Timeout { call } => self.answer(at, call, Err(Failure::Unknown)),
            What::Release => self.step(at, Event::Release),
            What::Restart => self.restart(at),
            What::Cut { .. } => {}
            What::Work => self.work(at),
            What::Write { expected } => self.write(at, expected),
            What::Message(id) => match self.messages.remove(&id) {
                Some(Message::Answer { call, answer }) => self.answer(at, call, answer),
                Some(Message::Watched(lease)) => {
                    self.nodes[at].told = lease.as_ref().map(|lease| lease.version.clone());
                    self.step(at, Event::Watched(lease));
                }
                _ => {}
            },
        }
    }

    fn answer(&mut self, at: usize, call: u64, answer: Answer) {
        if self.nodes[at].call != Some(call) {
            return;
        }
        self.nodes[at].call = None;
        // A watch that has not told what a look finds is begun anew.
        if let Ok(found) = &answer
            && self.nodes[at].may_watch
            && !self.nodes[at].watches
            && self.nodes[at].told.as_ref() != found.as_ref().map(|lease| &lease.version)
        {
            self.nodes[at].watches = true;
            self.step(at, Event::Watching(true));
            let (lease, delay) = (self.api.lease.clone(), self.delay());
            self.send(at, delay, Message::Watched(lease));
        }
        self.step(at, Event::Answered(answer));
    }

    fn step(&mut self, at: usize, event: Event) {
        self.steps += 1;
        let local = self.nodes[at].clock(self.now);
        let Some(candidate) = &mut self.nodes[at].candidate else { return };
        let step = candidate.step(local, event);
        self.check(at, &step.standing);
        let node = &mut self.nodes[at];
        node.standing = step.standing;
        node.generation += 1;
        let generation = node.generation;
        if let Some(wake) = step.wake {
            let wake = self.nodes[at].true_time(wake).max(self.now) + 1;
            self.schedule(wake, at, What::Wake { generation });
        }
        if let Some(request) = step.request {
            self.counter += 1;
            let (call, delay) = (self.counter, self.delay());
            self.nodes[at].call = Some(call);
            let limit = micros(self.config.renew_deadline / 4).min(self.retry());
            self.schedule(self.now + limit, at, What::Timeout { call });
            if !self.is_lost() {
                self.send(at, delay, Message::Request { call, request });
            }
            if self.faults && self.random.random_ratio(1, 40) {
                self.stop_within_a_call(at);
            }
        }
        if self.nodes[at].standing == Standing::Stopped {
            let pause = self.random.random_range(0..5 * SECOND);
            self.kill(at, pause);
        }
    }

    /// The worst moment: the request is on its way, and the reply waits for a process that is not heard for a while after.
    fn stop_within_a_call(&mut self, at: usize) {
        let until = self.now + self.random.random_range(0..15 * SECOND);
        self.nodes[at].stopped_until = until.max(self.nodes[at].stopped_until);
        // The request itself still arrives.
        self.schedule(self.now + SECOND / 10, at, What::Cut { until: until + 10 * SECOND });
    }

    /// Never two live terms; a term that is over stays over; numbers rise.
    fn check(&mut self, at: usize, standing: &Standing) {
        let Standing::Leader { number, .. } = standing else { return };
        let others: Vec<_> = self.leaders().into_iter().filter(|(other, _)| *other != at).collect();
        assert!(others.is_empty(), "{at} leads in term {number} while {others:?} do, at {} µs", self.now);
        let node = &self.nodes[at];
        match node.standing {
            Standing::Leader { number: before, deadline } if before == *number => {
                assert!(node.clock(self.now) < deadline, "term {number} of {at} was over and lives again");
            }
            _ => {
                assert!(
                    *number > self.number || self.api.numbers_lost,
                    "term {number} after {}",
                    self.number
                );
                self.number = *number;
                // Unless it was edited again before the reply came.
                self.api.numbers_lost &=
                    self.api.lease.as_ref().is_none_or(|lease| lease.record.term != *number);
                self.terms += 1;
                self.nodes[at].ordinal = self.terms;
                self.schedule(self.now, at, What::Work);
            }
        }
    }

    /// Something arrives at the API server.
    fn arrive(&mut self, at: usize, life: u64, id: u64) {
        let Some(message) = self.messages.remove(&id) else { return };
        let unreachable = self.now < self.api_down_until || self.now < self.nodes[at].cut_until;
        match message {
            Message::Write { .. } | Message::Request { .. } if unreachable => {}
            Message::Write { expected, ordinal } => self.api.write(expected, ordinal),
            Message::Request { call, request } => {
                let is_get = request == Request::Get;
                let before = self.api.lease.clone();
                let mut answer = match self.faults && self.random.random_ratio(1, 20) {
                    true => Err(Failure::Unknown),
                    false => self.api.carry_out(request),
                };
                if self.faults && is_get && !self.api.history.is_empty() && self.random.random_ratio(1, 15) {
                    let old = self.random.random_range(0..self.api.history.len());
                    answer = Ok(Some(self.api.history[old].clone()));
                }
                self.nodes[at].writes += u64::from(!is_get);
                self.tell(&before);
                let delay = self.delay();
                if self.nodes[at].life == life && !self.is_lost() {
                    self.send(at, delay, Message::Answer { call, answer });
                }
            }
            Message::Answer { .. } | Message::Watched(_) => {}
        }
    }

    /// Tells those who watch of a change.
    fn tell(&mut self, before: &Option<Observed>) {
        if *before == self.api.lease {
            return;
        }
        for at in 0..self.nodes.len() {
            let copies = if self.faults && self.random.random_ratio(1, 20) { 2 } else { 1 };
            for _ in 0..copies {
                let reachable = self.nodes[at].watches && self.now >= self.nodes[at].cut_until;
                if reachable && !self.is_lost() {
                    let (delay, lease) = (self.delay(), self.api.lease.clone());
                    self.send(at, delay, Message::Watched(lease));
                }
            }
        }
    }

    /// A leader reads, and writes a while later what it read then.
    fn work(&mut self, at: usize) {
        if self.is_live(at) {
            let expected = self.api.version;
            let (read, again) = (self.delay(), self.random.random_range(SECOND..3 * SECOND));
            self.schedule(self.now + read, at, What::Write { expected });
            self.schedule(self.now + again, at, What::Work);
        }
    }

    fn write(&mut self, at: usize, expected: u64) {
        if self.is_live(at) {
            let (delay, ordinal) = (self.delay(), self.nodes[at].ordinal);
            self.send(at, delay, Message::Write { expected, ordinal });
        }
    }

    /// What `Term::check` says.
    fn is_live(&self, at: usize) -> bool {
        self.leaders().iter().any(|(leader, _)| *leader == at)
    }

    fn restart(&mut self, at: usize) {
        self.counter += 1;
        let process = Process::from_number(u128::from(self.counter) << 64);
        let settings = Settings { identity: self.nodes[at].identity.to_string(), ..self.config.clone() };
        let config: Config = settings.check().unwrap();
        let node = &mut self.nodes[at];
        node.candidate = Some(Candidate::new(config, process));
        node.watches = node.may_watch;
        (node.told, node.call) = (None, None);
        let watches = node.watches;
        self.step(at, Event::Watching(watches));
    }

    /// The process is gone, and another one comes later.
    fn kill(&mut self, at: usize, pause: u64) {
        let node = &mut self.nodes[at];
        (node.candidate, node.standing) = (None, Standing::Stopped);
        node.life += 1;
        self.schedule(self.now + pause, at, What::Restart);
    }

    /// One thing goes wrong.
    pub fn fault(&mut self) {
        let at = self.random.random_range(0..self.nodes.len());
        // Leaders first: nothing is lost with a standby.
        let at = match self.leaders().first() {
            Some((leader, _)) if self.random.random_ratio(2, 3) => *leader,
            _ => at,
        };
        let long = self.now + self.random.random_range(0..40 * SECOND);
        match self.random.random_range(0..10) {
            0 | 1 => self.nodes[at].stopped_until = long.max(self.nodes[at].stopped_until),
            2 => self.nodes[at].cut_until = long,
            3 => self.api_down_until = self.now + self.random.random_range(0..20 * SECOND),
            4 => {
                let pause = self.random.random_range(0..10 * SECOND);
                self.kill(at, pause);
            }
            5 => {
                self.step(at, Event::Withdraw);
                let pause = self.random.random_range(0..3 * SECOND);
                self.schedule(self.now + pause, at, What::Release);
            }
            6 => self.nodes[at].watches = false,
            _ => {
                let before = self.api.lease.clone();
                let mut random = self.random.clone();
                self.api.edit(&mut random);
                self.random = random;
                self.tell(&before);
            }
        }
    }

    /// Nothing more goes wrong; who is stopped goes on when it was going to.
    pub fn heal(&mut self) {
        self.faults = false;
        self.api_down_until = self.now;
        for node in &mut self.nodes {
            node.cut_until = self.now;
        }
    }
}

impl Node {
    fn clock(&self, now: u64) -> Moment {
        let skew = i64::try_from(now).unwrap() * self.skew / 1_000_000;
        let local = (self.offset + now).checked_add_signed(skew).unwrap();
        Moment::START.after(Duration::from_micros(local))
    }

    /// When the clock shows that, rounded up.
    fn true_time(&self, local: Moment) -> u64 {
        let local = micros(local.since(Moment::START)).saturating_sub(self.offset);
        let rate = u64::try_from(1_000_000 + self.skew).unwrap();
        local * 1_000_000 / rate + 1
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap()
}
