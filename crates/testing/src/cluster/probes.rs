//! A prober that asks every server of a namespace from the moment it has an address until its pod is gone.
//!
//! Two judges read its history: the checker (no wrong, empty or older answer at any time; no failure after the first
//! right answer), and readiness (a server that Kubernetes calls ready answers everything). A pod that is told to go may
//! fall silent; any other silence is announced by the test.

use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bindy_zone::Name;
use domain::base::iana::Rcode;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::Api;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use tokio::task::JoinHandle;

use super::server::SERVERS;
use super::{LIMIT, Namespace, Server};
use crate::checker::{self, Published};
use crate::history::{Observation, Outcome};
use crate::{History, ProbeTarget, Prober, ProberConfig, Question};

/// Questions a second to each server.
const RATE: u32 = 20;

/// The prober, and what is known about the pods.
pub struct Probes {
    prober: Arc<Prober>,
    pods: Arc<Mutex<HashMap<String, Seen>>>,
    follower: JoinHandle<Result<()>>,
}

/// What the watch has told about a pod.
#[derive(Clone, Debug, Default)]
struct Seen {
    address: Option<IpAddr>,
    going: bool,
    /// From when to when it was ready.
    ready: Vec<(Duration, Option<Duration>)>,
}

impl Namespace {
    /// Starts asking all servers, those of now and those to come.
    pub async fn probe(&self, questions: &[(&str, bindy_zone::Rtype)]) -> Result<Probes> {
        let question = |(name, rtype): &(&str, bindy_zone::Rtype)| {
            anyhow::Ok(Question { name: Name::parse(name)?, rtype: *rtype })
        };
        let questions = questions.iter().map(question).collect::<Result<_>>()?;
        let mut config = ProberConfig::new(Vec::new(), questions);
        (config.rate, config.limit) = (RATE, Duration::from_secs(2));
        config.file = Some(self.directory().join("history.jsonl"));
        let (prober, pods) = (Arc::new(Prober::start(config).await?), Arc::default());
        let api: Api<Pod> = Api::namespaced(self.cluster().client(), self.name());
        let follower = Follower { prober: Arc::clone(&prober), pods: Arc::clone(&pods) };
        let probes = Probes { prober, pods, follower: tokio::spawn(follower.run(api)) };
        Ok(probes)
    }
}

impl Probes {
    /// The test stops this server now.
    pub fn outage_begins(&self, server: &Server) {
        self.prober.outage_begins(&server.name);
    }

    /// The same of a server whose disk does not have all that it served: until it runs again it may give older versions.
    pub fn outage_begins_with_loss(&self, server: &Server) {
        self.prober.outage_begins_with_loss(&server.name);
    }

    /// It runs again.
    pub fn outage_ends(&self, server: &Server) {
        self.prober.outage_ends(&server.name);
    }

    /// Waits until each of these servers has given that many more answers.
    pub async fn more_answers(&self, servers: &[Server], count: usize) -> Result<()> {
        let names: Vec<&str> = servers.iter().map(|server| server.name.as_str()).collect();
        self.prober.more_answers(&names, count, LIMIT).await
    }

    /// Stops asking. Every answer has to be one of a published version, in their order, and every server that was ready
    /// has to have answered.
    pub async fn right(self, published: &Published) -> Result<History> {
        self.follower.abort();
        if let Ok(ended) = self.follower.await {
            ended?;
        }
        let prober = Arc::into_inner(self.prober).context("the prober is still in use")?;
        let history = prober.stop().await?;
        checker::verify(&history, published)?;
        let pods = lock(&self.pods);
        let mut silent: Vec<String> =
            history.observations.iter().filter_map(|one| unready(one, &pods, &history)).collect();
        let count = silent.len();
        silent.truncate(10);
        ensure!(silent.is_empty(), "{count} answers of ready servers are none:\n{}", silent.join("\n"));
        Ok(history)
    }
}

fn lock(pods: &Mutex<HashMap<String, Seen>>) -> MutexGuard<'_, HashMap<String, Seen>> {
    pods.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A question that failed although its server was called ready from before it until after it.
fn unready(one: &Observation, pods: &HashMap<String, Seen>, history: &History) -> Option<String> {
    let failed = match &*one.outcome {
        Outcome::Lost => true,
        Outcome::Answer { rcode, .. } => *rcode != Rcode::NOERROR && *rcode != Rcode::NXDOMAIN,
    };
    let was_ready = |(from, until): &(Duration, Option<Duration>)| {
        *from <= one.sent && until.is_none_or(|until| one.ended < until)
    };
    let ready = failed && pods.get(&*one.server)?.ready.iter().any(was_ready);
    let mut outages = history.outages.iter().filter(|outage| outage.server == one.server);
    let excused = outages.any(|out| out.from <= one.ended && out.until.is_none_or(|until| one.sent <= until));
    let Question { name, rtype } = &*one.question;
    (ready && !excused).then(|| format!("{:?} {}: {name} {rtype}: {}", one.sent, one.server, one.outcome))
}

/// Keeps the prober's servers those of the namespace.
struct Follower {
    prober: Arc<Prober>,
    pods: Arc<Mutex<HashMap<String, Seen>>>,
}

impl Follower {
    async fn run(self, api: Api<Pod>) -> Result<()> {
        let mut events = pin!(watcher(api, watcher::Config::default().labels(SERVERS)).default_backoff());
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::InitApply(pod) | Event::Apply(pod)) => {
                    if let Some(server) = Server::of(&pod) {
                        self.see(&server).await?;
                    }
                }
                Ok(Event::Delete(pod)) => self.gone(&pod.name_any()),
                Ok(Event::Init | Event::InitDone) | Err(_) => {}
            }
        }
        Ok(())
    }

    async fn see(&self, server: &Server) -> Result<()> {
        let known = lock(&self.pods).get(&server.name).and_then(|seen| seen.address);
        // A pod whose node was away has another address afterwards.
        if known != Some(server.address) {
            let target = ProbeTarget { name: server.name.clone(), address: server.dns() };
            self.prober.add(&target).await?;
        }
        let mut pods = lock(&self.pods);
        let seen = pods.entry(server.name.clone()).or_default();
        seen.address = Some(server.address);
        if server.going && !seen.going {
            self.prober.outage_begins(&server.name);
        }
        // A StatefulSet gives the next pod the same name.
        seen.going = server.going;
        seen.set_ready(server.ready && !server.going, self.prober.elapsed());
        Ok(())
    }

    fn gone(&self, name: &str) {
        let mut pods = lock(&self.pods);
        if let Some(seen) = pods.get_mut(name) {
            if !seen.going {
                self.prober.outage_begins(name);
            }
            seen.going = true;
            seen.set_ready(false, self.prober.elapsed());
        }
        self.prober.remove(name);
    }
}

impl Seen {
    fn set_ready(&mut self, ready: bool, now: Duration) {
        match (self.ready.last_mut(), ready) {
            (Some((_, until @ None)), false) => *until = Some(now),
            (None | Some((_, Some(_))), true) => self.ready.push((now, None)),
            _ => {}
        }
    }
}
