//! Runs a candidate: the only place with a clock, a store and tasks.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::candidate::{Answer, Candidate, Event, Failure, Request, Standing};
use crate::config::Config;
use crate::metrics::Metrics;
use crate::moment::Moment;
use crate::record::{Observed, Process, Version};
use crate::store::{Problem, Store, Watch, WatchProblem};
use crate::term::Term;

/// Events of a watch that may wait; more than one are there only when the machine is busy.
const QUEUE: usize = 16;
/// When the right to watch is asked for again, which somebody may have granted.
const WATCH_AGAIN: Duration = Duration::from_secs(60);
/// One line of log for failures that go on this long.
const COMPLAIN_AGAIN: Duration = Duration::from_secs(30);

/// Whether this replica leads.
#[derive(Clone, Debug)]
pub enum State {
    /// Somebody else leads, or nobody yet.
    Standby {
        /// Who is named in the lease.
        holder: Option<Arc<str>>,
    },
    /// This replica leads, as long as the term lives.
    Leader(Term),
    /// It takes no part any more.
    Stopped,
}

/// An election under way. Dropped, it ends its term at once and leaves the lease to run out; see [`Self::release`].
pub struct Election {
    state: watch::Receiver<State>,
    metrics: Metrics,
    cancel: CancellationToken,
    release: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Election {
    /// Takes part, in a task of its own. When `cancel` is cancelled it becomes leader no more; if it leads, it goes on to
    /// renew until [`release`](Self::release), since what was begun under the term is still being ended. An error: the
    /// system has no random bits.
    pub fn start<S: Store>(config: Config, store: S, cancel: CancellationToken) -> io::Result<Self> {
        let metrics = Metrics::default();
        let (release, released) = oneshot::channel();
        let (sender, state) = watch::channel(State::Standby { holder: None });
        let runner = Runner {
            candidate: Candidate::new(config.clone(), Process::random()?),
            store: Arc::new(store),
            state: sender,
            term: None,
            metrics: metrics.clone(),
            watching: None,
            complaint: None,
            config,
        };
        let task = tokio::spawn(runner.run(cancel.clone(), released));
        Ok(Self { state, metrics, cancel, release: Some(release), task })
    }

    /// The state, now and whenever it changes.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<State> {
        self.state.clone()
    }

    /// What is counted.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Gives the lease back, if this replica has it, so that another one takes it at once. First waits for `ended`:
    /// that everything has ended which writes under the term. Returns when the API server has answered, and at the
    /// latest when the term would have ended by itself.
    pub async fn release(mut self, ended: impl Future<Output = ()>) {
        self.cancel.cancel();
        ended.await;
        if let Some(release) = self.release.take() {
            // The task may have ended before: there was nothing to give back.
            let _ended = release.send(());
        }
        if let Err(error) = (&mut self.task).await {
            tracing::error!(%error, "the election ended by a fault");
        }
    }
}

impl Drop for Election {
    fn drop(&mut self) {
        self.task.abort();
    }
}

type Call = Pin<Box<dyn Future<Output = Replied> + Send>>;

struct Replied {
    request: Request,
    result: Result<Option<Observed>, Problem>,
    took: Duration,
}

/// Something of the watch.
enum Watched {
    Lease(Option<Observed>),
    Stands,
    Fails(WatchProblem),
}

/// A watch under way, in a task that ends with this.
struct Watching {
    events: mpsc::Receiver<Watched>,
    /// What it said last.
    last: Option<Version>,
    /// Since when it stands.
    stands: Option<Moment>,
    task: JoinHandle<()>,
}

impl Watching {
    fn is_stale(&self, found: Option<&Version>, patience: Duration) -> bool {
        let stands = self.stands.is_some_and(|since| Moment::now().since(since) > patience);
        stands && self.last.as_ref() != found
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Runner<S> {
    candidate: Candidate,
    config: Config,
    store: Arc<S>,
    state: watch::Sender<State>,
    term: Option<Term>,
    metrics: Metrics,
    watching: Option<Watching>,
    complaint: Option<Moment>,
}

impl<S: Store> Runner<S> {
    async fn run(mut self, cancel: CancellationToken, mut release: oneshot::Receiver<()>) {
        tracing::info!(
            identity = %self.config.identity(),
            namespace = self.config.namespace(),
            "Attempting to acquire lease {}",
            self.config.name()
        );
        let (mut call, mut event): (Option<Call>, _) = (None, Event::Wake);
        let (mut withdrawn, mut released) = (false, false);
        loop {
            let step = self.candidate.step(Moment::now(), event);
            self.metrics.seen(self.candidate.latest_term(), self.candidate.last_change());
            let wake = if self.adopt(&step.standing) { step.wake } else { Some(Moment::START) };
            if step.standing == Standing::Stopped {
                return;
            }
            self.watch_while_standing_by(&step.standing);
            if let Some(request) = step.request {
                call = Some(Box::pin(send(Arc::clone(&self.store), request)));
            }
            event = tokio::select! {
                replied = until_replied(&mut call) => {
                    call = None;
                    Event::Answered(self.replied(replied))
                }
                Some(watched) = next(&mut self.watching) => self.watched(watched),
                () = cancel.cancelled(), if !withdrawn => {
                    withdrawn = true;
                    Event::Withdraw
                }
                // A dropped sender cannot release; the task is then aborted.
                Ok(()) = &mut release, if !released => {
                    released = true;
                    Event::Release
                }
                () = sleep_until(wake) => Event::Wake,
            };
        }
    }

    /// Lets term and state follow what the candidate decided. False if the term is over already, by the clock that others
    /// have read meanwhile.
    fn adopt(&mut self, standing: &Standing) -> bool {
        if let Standing::Leader { number, deadline } = standing {
            return match &self.term {
                Some(term) if term.extend(*deadline) => true,
                Some(_) => {
                    self.candidate.lose(Moment::now());
                    false
                }
                None => {
                    self.begin(Term::until(*number, *deadline));
                    true
                }
            };
        }
        self.end(standing);
        let state = match standing {
            Standing::Standby { holder } => State::Standby { holder: holder.clone() },
            Standing::Leader { .. } | Standing::Releasing | Standing::Stopped => State::Stopped,
        };
        self.state.send_if_modified(|known| {
            let modified = !is_same(known, &state);
            if modified {
                *known = state;
            }
            modified
        });
        true
    }

    fn begin(&mut self, term: Term) {
        tracing::info!(term = term.number(), "Lease acquired, this instance is now the leader");
        self.metrics.holds(Some(term.clone()));
        self.state.send_replace(State::Leader(term.clone()));
        self.term = Some(term);
    }

    fn end(&mut self, standing: &Standing) {
        let Some(term) = self.term.take() else { return };
        term.end();
        self.metrics.holds(None);
        match standing {
            Standing::Releasing => tracing::info!(term = term.number(), "Giving the lease back"),
            _ => tracing::warn!(term = term.number(), "Leadership lost! Stopping all operators..."),
        }
    }

    fn replied(&mut self, replied: Replied) -> Answer {
        let Replied { request, result, took } = replied;
        let renewal = self.term.is_some() && request != Request::Get;
        match &result {
            Ok(lease) => {
                self.complaint = None;
                if request == Request::Get {
                    let found = lease.as_ref().map(|lease| &lease.version);
                    // A watch that has not told this is dead, or so late that a new one is better.
                    let patience = self.config.retry_period() * 2;
                    drop(self.watching.take_if(|watching| watching.is_stale(found, patience)));
                }
                if renewal {
                    self.metrics.renewal(Some(took));
                }
            }
            Err(problem) => {
                if renewal {
                    self.metrics.renewal(None);
                }
                self.complain(problem);
            }
        }
        result.map_err(|problem| Failure::from(&problem))
    }

    /// One line when requests begin to fail, and one now and then while they do.
    fn complain(&mut self, problem: &Problem) {
        let now = Moment::now();
        let quiet = self.complaint.is_some_and(|last| now.since(last) < COMPLAIN_AGAIN);
        if quiet || matches!(problem, Problem::Conflict | Problem::Absent) {
            return;
        }
        self.complaint = Some(now);
        let (lease, namespace) = (self.config.name(), self.config.namespace());
        let hint = match problem {
            Problem::Forbidden(_) => {
                "the service account needs get, create and update on leases of this namespace"
            }
            _ => "tried again",
        };
        tracing::warn!(lease, namespace, error = %problem, hint, "the lease cannot be read or written");
    }

    fn watched(&mut self, watched: Watched) -> Event {
        match watched {
            Watched::Lease(lease) => {
                let version = lease.as_ref().map(|lease| lease.version.clone());
                if let Some(watching) = &mut self.watching {
                    watching.last = version;
                }
                Event::Watched(lease)
            }
            Watched::Stands => {
                if let Some(watching) = &mut self.watching {
                    watching.stands = Some(Moment::now());
                }
                Event::Watching(true)
            }
            Watched::Fails(problem) => {
                if let Some(watching) = &mut self.watching {
                    watching.stands = None;
                }
                let every = self.config.retry_period();
                match problem {
                    WatchProblem::Forbidden(_) => {
                        tracing::info!(?every, "no right to watch the lease: it is looked at instead");
                    }
                    WatchProblem::Other(error) => {
                        tracing::debug!(%error, ?every, "no watch of the lease: it is looked at instead");
                    }
                }
                Event::Watching(false)
            }
        }
    }

    /// A leader's renewals tell it all that it has to know.
    fn watch_while_standing_by(&mut self, standing: &Standing) {
        if !matches!(standing, Standing::Standby { .. }) {
            self.watching = None;
        } else if self.watching.is_none() {
            let (sender, events) = mpsc::channel(QUEUE);
            let task = tokio::spawn(follow(Arc::clone(&self.store), self.config.retry_period(), sender));
            self.watching = Some(Watching { events, last: None, stands: None, task });
        }
    }
}

impl<S> Drop for Runner<S> {
    fn drop(&mut self) {
        if let Some(term) = self.term.take() {
            term.end();
        }
        self.metrics.holds(None);
        self.state.send_replace(State::Stopped);
    }
}

/// Watches until nobody listens any more.
async fn follow<S: Store>(store: Arc<S>, period: Duration, sender: mpsc::Sender<Watched>) {
    loop {
        let begun = Moment::now();
        let failed = match store.watch().await {
            Ok(watch) => {
                if sender.send(Watched::Stands).await.is_err() {
                    return;
                }
                hand_on(watch, &sender).await
            }
            Err(problem) => Err(problem),
        };
        let pause = match &failed {
            Err(WatchProblem::Forbidden(_)) => WATCH_AGAIN,
            Err(WatchProblem::Other(_)) => period,
            // The server ended it after its time; one that ends at once is not asked for all the time.
            Ok(()) => period.saturating_sub(Moment::now().since(begun)),
        };
        if let Err(problem) = failed
            && sender.send(Watched::Fails(problem)).await.is_err()
        {
            return;
        }
        tokio::time::sleep(pause).await;
    }
}

async fn hand_on(mut watch: impl Watch, sender: &mpsc::Sender<Watched>) -> Result<(), WatchProblem> {
    while let Some(event) = watch.next().await {
        // When nobody listens, the task is about to be aborted.
        let _closed = sender.send(Watched::Lease(event?)).await;
    }
    Ok(())
}

async fn send<S: Store>(store: Arc<S>, request: Request) -> Replied {
    let sent = Moment::now();
    let result = match &request {
        Request::Get => store.get().await,
        Request::Create(record) => store.create(record).await.map(Some),
        Request::Update(record, version) => store.update(record, version).await.map(Some),
    };
    Replied { request, result, took: Moment::now().since(sent) }
}

async fn until_replied(call: &mut Option<Call>) -> Replied {
    match call {
        Some(call) => call.await,
        None => std::future::pending().await,
    }
}

async fn next(watching: &mut Option<Watching>) -> Option<Watched> {
    match watching {
        Some(watching) => watching.events.recv().await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(wake: Option<Moment>) {
    match wake {
        Some(wake) => tokio::time::sleep(wake.since(Moment::now())).await,
        None => std::future::pending().await,
    }
}

fn is_same(one: &State, other: &State) -> bool {
    match (one, other) {
        (State::Standby { holder: one }, State::Standby { holder: other }) => one == other,
        (State::Stopped, State::Stopped) => true,
        _ => false,
    }
}
