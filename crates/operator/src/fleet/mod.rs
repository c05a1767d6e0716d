//! Instances as Kubernetes objects: what should be there is planned by the model, and set right here where it is not.
//!
//! ```text
//!   fleet changed ──┐                       ┌─ get (only what carries no label of ours)
//!   object changed ─┼─► Queue ─► reconcile ─┼─ server-side apply (only what differs)
//!   10 minutes ─────┘  one look an instance ├─ Secrets: create, delete
//!                      at a time            └─ pods: an annotation, when configuration changed
//!                              │
//!                              └─► WorkloadReport
//! ```
//! A steady fleet is not written to. Objects of our names that were not made for the instance are never touched. Objects
//! belong to their instance and go with it by garbage collection; what is removed here are Secrets with old keys, and
//! objects that the instance's settings do not ask for any more.

mod calls;
mod handouts;
mod kinds;
mod observed;
mod pods;
mod queue;
mod reconcile;
mod report;
mod restraint;
mod secrets;
mod settle;
#[cfg(test)]
pub(crate) mod simulated;
#[cfg(test)]
mod simulation;
mod watch;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use bindy_engine::{View, sleep_until};
use bindy_model::NamespacedName;
use bindy_model::workload::ObjectKind;
use bindy_wire::MasterKeys;
use kube::Client;
use tokio::sync::{mpsc, watch as channel};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::Term;
use observed::Observed;
use queue::Queue;
use reconcile::{Memory, Outcome, reconcile};
use watch::News;

pub use kinds::ACCESS;
pub(crate) use pods::is_over;
pub use pods::{PodStates, Trouble};
pub use report::{PodsReport, Problem, Reports, WorkloadReport};

/// Instances that are looked at at once.
const CONCURRENCY: usize = 4;
/// News that wait to be taken; a watch that is ahead of them waits.
const NEWS: usize = 1024;

/// What the fleet is run with.
#[derive(Clone)]
pub struct Context {
    /// The API server.
    pub client: Client,
    /// Image of the agents: the operator's own.
    pub agent_image: String,
    /// The Service of the hidden primary, in the operator's namespace.
    pub transfer_service: NamespacedName,
    /// What all keys come from.
    pub keys: channel::Receiver<MasterKeys>,
    /// The pods, kept up to date by whoever watches them.
    pub pods: PodStates,
}

/// Keeps the objects of all instances as they should be until cancelled. Nothing is done before there is a view.
pub async fn run(
    context: Context,
    term: Term,
    views: channel::Receiver<Option<Arc<View>>>,
    reports: channel::Sender<Arc<Reports>>,
    cancel: CancellationToken,
) {
    let context = Arc::new(context);
    let observed = Observed::default();
    let (sender, news) = mpsc::channel(NEWS);
    let mut watches = JoinSet::new();
    for kind in ObjectKind::WATCHED {
        let (context, observed, sender, cancel) =
            (Arc::clone(&context), observed.clone(), sender.clone(), cancel.clone());
        watches.spawn(async move { watch::objects(&context, kind, &observed, sender, cancel).await });
    }
    {
        let (context, observed, sender, cancel) =
            (Arc::clone(&context), observed.clone(), sender.clone(), cancel.clone());
        watches.spawn(async move { watch::nodes(&context, &observed, sender, cancel).await });
    }
    {
        let (context, observed, cancel) = (Arc::clone(&context), observed.clone(), cancel.clone());
        watches.spawn(async move { watch::hidden_primary(&context, &observed, sender, cancel).await });
    }
    let runner = Runner {
        context,
        term,
        observed,
        reports,
        queue: Queue::default(),
        memories: HashMap::new(),
        unlisted: watches.len(),
        view: None,
    };
    runner.run(views, news, cancel).await;
    while watches.join_next().await.is_some() {}
}

struct Runner {
    context: Arc<Context>,
    term: Term,
    observed: Observed,
    reports: channel::Sender<Arc<Reports>>,
    queue: Queue,
    /// What is remembered of instances that are not being looked at.
    memories: HashMap<NamespacedName, Memory>,
    /// Watches that have not listed everything yet.
    unlisted: usize,
    view: Option<Arc<View>>,
}

type Look = (NamespacedName, Memory, Outcome);

impl Runner {
    async fn run(
        mut self,
        mut views: channel::Receiver<Option<Arc<View>>>,
        mut news: mpsc::Receiver<News>,
        cancel: CancellationToken,
    ) {
        let mut looks: JoinSet<Look> = JoinSet::new();
        let (pods, mut keys) = (self.context.pods.clone(), self.context.keys.clone());
        let first = views.borrow_and_update().clone();
        self.take_view(first);
        loop {
            self.start(&mut looks);
            let due = self.queue.next_due().filter(|_| self.unlisted == 0 && looks.len() < CONCURRENCY);
            tokio::select! {
                () = cancel.cancelled() => break,
                Ok(()) = views.changed() => {
                    let view = views.borrow_and_update().clone();
                    self.take_view(view);
                }
                Ok(()) = keys.changed() => self.take_news(News::Everything),
                Some(told) = news.recv() => self.take_news(told),
                changed = pods.changed() => {
                    let now = Instant::now();
                    changed.into_iter().for_each(|key| self.queue.add(key, now));
                }
                Some(look) = looks.join_next() => self.finish(look),
                () = sleep_until(due.map(Into::into)) => {}
            }
        }
        // Writes under way are waited for; each has its limit.
        news.close();
        while looks.join_next().await.is_some() {}
    }

    fn take_view(&mut self, view: Option<Arc<View>>) {
        let Some(view) = view else { return };
        let now = Instant::now();
        let keys = view.fleet.iter().map(|instance| instance.metadata.key.clone());
        keys.for_each(|key| self.queue.add(key, now));
        self.memories.retain(|key, _| view.fleet.get(key).is_some());
        self.reports.send_if_modified(|reports| {
            let gone = reports.keys().any(|key| view.fleet.get(key).is_none());
            if gone {
                Arc::make_mut(reports).retain(|key, _| view.fleet.get(key).is_some());
            }
            gone
        });
        self.view = Some(view);
    }

    fn take_news(&mut self, news: News) {
        let now = Instant::now();
        match news {
            News::Listed => self.unlisted = self.unlisted.saturating_sub(1),
            News::Instance(key) => self.wake(&key, now),
            News::Everything => {
                let view = self.view.clone();
                for instance in view.iter().flat_map(|view| view.fleet.iter()) {
                    self.queue.add(instance.metadata.key.clone(), now);
                }
            }
        }
    }

    /// Has an instance looked at, and those that have its address in their configuration.
    fn wake(&mut self, key: &NamespacedName, now: Instant) {
        let Some(view) = &self.view else { return };
        for key in view.fleet.neighbours(key) {
            self.queue.add(key, now);
        }
    }

    fn start(&mut self, looks: &mut JoinSet<Look>) {
        let Some(view) = self.view.clone().filter(|_| self.unlisted == 0) else { return };
        while looks.len() < CONCURRENCY
            && let Some(key) = self.queue.take(Instant::now())
        {
            let Some(instance) = view.fleet.get(&key).cloned() else {
                self.queue.done(&key, None);
                continue;
            };
            let mut memory = self.memories.remove(&key).unwrap_or_default();
            let (context, term) = (Arc::clone(&self.context), self.term.clone());
            let (observed, view) = (self.observed.clone(), Arc::clone(&view));
            looks.spawn(async move {
                let outcome = reconcile(&context, &term, &view, &observed, &instance, &mut memory).await;
                (key, memory, outcome)
            });
        }
    }

    fn finish(&mut self, look: Result<Look, tokio::task::JoinError>) {
        // A panic was printed already; the instance stays as it is until the process is started again.
        let Ok((key, mut memory, Outcome { report, next, moved })) = look else { return };
        let exists = self.view.as_ref().is_some_and(|view| view.fleet.get(&key).is_some());
        match next {
            Some(next) => self.queue.done(&key, Some(next).filter(|_| exists)),
            None => self.queue.failed(&key, Instant::now()),
        }
        if !exists {
            return;
        }
        let is_out_of_reach = report.problems.iter().any(|one| matches!(one, Problem::Unavailable(_)));
        let was_before = std::mem::replace(&mut memory.out_of_reach, is_out_of_reach);
        self.memories.insert(key.clone(), memory);
        // The watch brings an object that is known already, and nothing of it is news then.
        if moved {
            self.wake(&key, Instant::now());
        }
        // Of one call that failed nobody has to be told: the next look is soon.
        if is_out_of_reach && !was_before {
            return;
        }
        self.reports.send_if_modified(|reports| {
            let known = reports.get(&key);
            if known == Some(&report) {
                return false;
            }
            for problem in report
                .problems
                .iter()
                .filter(|problem| known.is_none_or(|known| !known.problems.contains(problem)))
            {
                warn!(instance = %key, %problem, "not as it should be");
            }
            Arc::make_mut(reports).insert(key.clone(), report);
            true
        });
    }
}
