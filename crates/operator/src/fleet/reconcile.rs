//! One look at one instance: read → check → plan → act → report.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use bindy_engine::InstanceKeys;
use bindy_model::workload::{
    AGENT_CONFIG, Cluster, Desired, Handout, Inputs, KEYS_ANNOTATION, KeyFile, NAMED_CONFIG, ObjectKind,
    ObjectNames, Ownership, PlanError, SPREAD_ANNOTATION, Spread, Surplus, Workload, desired, misplaced,
    ownership, plan, pods_kind, surplus,
};
use bindy_model::{ConfigDigests, ConfigState, Instance, Link, NamespacedName};
use bindy_zone::Name;
use jiff::Timestamp;
use serde_json::Value;
use tracing::{info, warn};

use super::calls::{self, Created, Failure, Mode};
use super::observed::{Observed, client_addresses};
use super::pods::Trouble;
use super::report::{PodsReport, Problem, WAITS, WorkloadReport, is_held, is_steady, replica_failure, short};
use super::restraint::Restraint;
use super::secrets::{Step, step};
use super::settle::{State, Stop, differs, replaces};
use super::{Context, View};
use crate::Term;

/// How often an instance is looked at when nothing happens.
const RESYNC: Duration = Duration::from_secs(600);
/// The same while pods are missing: one of the things that cannot be seen may be missing too.
const RESYNC_UNREADY: Duration = Duration::from_secs(30);

/// A wait for servers that are not there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hold {
    pub(super) until: Instant,
    /// It did not begin in the middle of a roll-out, which may be what keeps them away.
    steady: bool,
}

/// What is remembered of an instance between two looks.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// What the Secrets were last seen to be there for, and when.
    secrets: Option<(Vec<String>, Instant)>,
    /// All pods have to be told of a change; they have to be listed first.
    untold: bool,
    /// That settings which replace servers wait for those that are not there.
    pub(super) hold: Option<Hold>,
    /// The API server could not be used at the last look.
    pub(super) out_of_reach: bool,
    /// It was said that pods may not be told.
    complained: bool,
    /// Objects that were made and not removed since.
    pub(super) made: HashSet<(ObjectKind, NamespacedName)>,
    /// Objects that could not be applied: what is known of them may not be so any more.
    pub(super) doubted: HashSet<(ObjectKind, NamespacedName)>,
    pub(super) restraint: Restraint,
}

/// What a look gave.
pub(super) struct Outcome {
    pub(super) report: WorkloadReport,
    /// When to look again; `None`: after a pause that grows with every failure.
    pub(super) next: Option<Instant>,
    /// Its transfer Service has another address than before, which its neighbours have to be told.
    pub(super) moved: bool,
}

pub(super) struct Pass<'a> {
    pub(super) context: &'a Context,
    pub(super) term: &'a Term,
    view: &'a View,
    pub(super) observed: &'a Observed,
    pub(super) instance: &'a Instance,
    pub(super) memory: &'a mut Memory,
    pub(super) problems: Vec<Problem>,
    pub(super) now: Instant,
    pub(super) next: Instant,
    pub(super) again: bool,
    /// The instance is paused and asks for other objects than there are.
    waits: bool,
}

/// What an instance's objects are made of, besides the cluster.
struct Parts {
    links: Vec<(Link, Name)>,
    keys: KeyFile,
    /// What can be handed out to downstreams outside.
    handouts: Vec<Handout>,
}

impl Parts {
    /// Of every Secret.
    fn fingerprints(&self) -> Vec<String> {
        let handouts = self.handouts.iter().map(|handout| &handout.fingerprint);
        std::iter::once(&self.keys.fingerprint).chain(handouts).cloned().collect()
    }
}

/// The objects that there should be, and those that there should not.
struct Planned {
    workload: Box<Workload>,
    objects: Vec<Desired>,
    surplus: Vec<Surplus>,
}

/// Looks at an instance and sets right what is not.
pub(super) async fn reconcile(
    context: &Context,
    term: &Term,
    view: &View,
    observed: &Observed,
    instance: &Instance,
    memory: &mut Memory,
) -> Outcome {
    let now = Instant::now();
    let address = || observed.transfer_addresses(&view.fleet, [&instance.metadata.key]);
    let before = address();
    let mut pass = Pass {
        context,
        term,
        view,
        observed,
        instance,
        memory,
        problems: Vec::new(),
        now,
        next: now + RESYNC,
        again: false,
        waits: false,
    };
    if instance.paused {
        pass.waits = pass.differs();
    } else if pass.act().await.is_err() {
        // A stop has left its reason behind.
        pass.again = true;
    }
    let moved = address() != before;
    pass.outcome(moved)
}

impl Pass<'_> {
    pub(super) fn key(&self) -> &NamespacedName {
        &self.instance.metadata.key
    }

    /// Whether the instance asks for other objects than there are. Secrets cannot be read.
    fn differs(&mut self) -> bool {
        let planned = self.parts().and_then(|parts| self.plan(&parts));
        let Ok(Planned { objects, surplus, .. }) = planned else { return true };
        surplus.iter().any(|one| self.ours(one.kind, &one.name).is_some())
            || objects.iter().filter(|object| object.kind != ObjectKind::Secret).any(|object| {
                match self.ours(object.kind, &object.name) {
                    Some(live) => differs(&live, object),
                    // Somebody may have one of his own.
                    None => object.kind != ObjectKind::PodDisruptionBudget,
                }
            })
    }

    async fn act(&mut self) -> Result<(), Stop> {
        let mut parts = self.parts()?;
        parts.handouts = self.free_handouts(parts.handouts).await?;
        // Services first: their addresses are part of the configuration.
        for object in self.plan(&parts)?.objects {
            if matches!(
                object.kind,
                ObjectKind::Service | ObjectKind::NetworkPolicy | ObjectKind::PodDisruptionBudget
            ) {
                self.settle(&object).await?;
            }
        }
        let Planned { workload, objects, surplus } = self.plan(&parts)?;
        for one in surplus.iter().filter(|one| one.after.is_none()) {
            self.remove(one.kind, &one.name).await?;
        }
        let of = |kind| objects.iter().find(|object| object.kind == kind);
        let secrets: Vec<&Desired> =
            objects.iter().filter(|object| object.kind == ObjectKind::Secret).collect();
        let (Some(account), Some(pods)) = (of(ObjectKind::ServiceAccount), of(pods_kind(self.instance)))
        else {
            return Ok(());
        };
        let settled = match of(ObjectKind::ConfigMap) {
            None => {
                self.problems.push(Problem::NoHiddenPrimary(self.context.transfer_service.clone()));
                self.is_configured()
            }
            Some(_) if self.must_wait() => true,
            Some(config) => self.configure(config, account, &secrets, &parts).await?,
        };
        if settled {
            // New pods start with what is there now.
            self.memory.untold &= ObjectKind::PODS.iter().any(|kind| self.pods(*kind).is_some());
            let held = self.has_to_wait(pods).then(|| desired(&workload.held()));
            let held = held.iter().flatten().find(|object| object.kind == pods.kind);
            self.settle(held.unwrap_or(pods)).await?;
            self.tell_pods().await?;
            self.hand_over(&surplus).await?;
        }
        Ok(())
    }

    /// Removes what made the pods before, as soon as what makes them now has all of them available.
    async fn hand_over(&mut self, surplus: &[Surplus]) -> Result<(), Stop> {
        for one in surplus {
            let doubted = |after: &ObjectKind| self.memory.doubted.iter().any(|(kind, _)| kind == after);
            let report = one.after.filter(|after| !doubted(after)).and_then(|after| self.pods(after));
            if report.is_some_and(|report| report.is_complete(self.instance.replicas)) {
                self.remove(one.kind, &one.name).await?;
            }
        }
        Ok(())
    }

    /// Whether these settings may replace no server of a StatefulSet now, since others are not available; see [`short`]. What is to
    /// correct pods that cannot run waits for none of them.
    fn has_to_wait(&mut self, pods: &Desired) -> bool {
        let live = self.ours(pods.kind, &pods.name).filter(|_| pods.kind == ObjectKind::StatefulSet);
        let live = live.filter(|live| is_held(live) || replaces(live, &pods.body));
        let Some((live, problem)) = live.and_then(|live| Some((live.clone(), short(&live)?))) else {
            self.memory.hold = None;
            return false;
        };
        let (troubles, _) = self.context.pods.troubles(self.key(), Timestamp::now());
        let is_lost = |(_, trouble): &(String, Trouble)| {
            matches!(trouble, Trouble::Lingers { .. } | Trouble::NodeSilent { .. })
        };
        let is_lost = !troubles.is_empty() && troubles.iter().all(is_lost);
        // Of a hold from before a restart it is not known how it began.
        let begun = Hold { until: self.now + WAITS, steady: is_held(&live) || is_steady(&live) };
        let hold = self.memory.hold.get_or_insert(begun);
        if is_lost {
            // What takes its place needs its time when the node is back or given up.
            hold.until = begun.until;
        }
        let hold = *hold;
        let waits = is_lost || (self.now < hold.until && (hold.steady || troubles.is_empty()));
        if waits {
            self.problems.push(problem);
        }
        waits
    }

    /// What the Deployment or StatefulSet of the instance says of itself.
    fn pods(&self, kind: ObjectKind) -> Option<PodsReport> {
        Some(PodsReport::of(&*self.ours(kind, &ObjectNames::new(self.key()).pods)?))
    }

    fn parts(&mut self) -> Result<Parts, Stop> {
        let master = self.context.keys.borrow().clone();
        let keys = match InstanceKeys::new(self.key(), &self.view.fleet, &master) {
            Ok(keys) => keys,
            Err(error) => return self.stop(Problem::Keys(error)),
        };
        let handouts = match keys.handouts(self.instance, &master) {
            Ok(handouts) => handouts,
            Err(error) => return self.stop(Problem::Handouts(error)),
        };
        Ok(Parts { keys: keys.file(&master), links: keys.links, handouts })
    }

    fn plan(&mut self, parts: &Parts) -> Result<Planned, Stop> {
        let fleet = &self.view.fleet;
        let neighbours = fleet.neighbours(self.key());
        let cluster = Cluster {
            operator_namespace: self.context.transfer_service.namespace.clone(),
            agent_image: self.context.agent_image.clone(),
            operator: self.observed.hidden_primary(),
            transfer: self.observed.transfer_addresses(fleet, &neighbours).into_iter().collect(),
        };
        let planned = |spread: &Spread| {
            plan(&Inputs {
                instance: self.instance,
                links: &parts.links,
                keys: &parts.keys,
                handouts: &parts.handouts,
                cluster: &cluster,
                spread,
            })
        };
        match self.spread(planned) {
            Ok(workload) => Ok(Planned {
                objects: desired(&workload),
                surplus: surplus(&workload, &ObjectNames::new(self.key())),
                workload: Box::new(workload),
            }),
            Err(error) => self.stop(Problem::Plan(error)),
        }
    }

    /// What is planned with pods spread over zones as strictly as was decided before, or as the nodes are now, if other wishes replace
    /// servers anyway: `kubectl scale` alone does not.
    fn spread(
        &self,
        planned: impl Fn(&Spread) -> Result<Workload, PlanError>,
    ) -> Result<Workload, PlanError> {
        let wanted = pods_kind(self.instance);
        let kinds = [wanted].into_iter().chain(ObjectKind::PODS);
        let live = kinds.filter_map(|kind| self.ours(kind, &ObjectNames::new(self.key()).pods)).next();
        let noted = live.as_deref().and_then(|live| annotation(live, SPREAD_ANNOTATION));
        let decided = Spread::decide(self.instance, noted, self.observed.nodes().as_deref());
        let kept = Spread::keep(self.instance, noted).filter(|kept| kept.strictness != decided.strictness);
        if let (Some(kept), Some(live)) = (kept, &live) {
            let workload = planned(&kept)?;
            let pods = desired(&workload).into_iter().find(|object| object.kind == wanted);
            if pods.is_some_and(|pods| !replaces(live, &pods.body)) {
                return Ok(workload);
            }
        }
        planned(&decided)
    }

    /// Whether the configuration that is there has to stay: a neighbour that cannot be read would be missing in a new
    /// one.
    fn must_wait(&mut self) -> bool {
        let namespace = &self.key().namespace;
        let unknown = self.view.unknown.iter().find(|unknown| unknown.namespace == *namespace).cloned();
        match unknown {
            Some(unknown) if self.is_configured() => {
                self.problems.push(Problem::UnknownNeighbour(unknown));
                true
            }
            _ => false,
        }
    }

    fn is_configured(&self) -> bool {
        let names = ObjectNames::new(self.key());
        self.ours(ObjectKind::ConfigMap, &names.config_map).is_some()
    }

    /// ConfigMap, ServiceAccount and Secrets, the first of which is the pods': what they cannot start without. Returns
    /// whether they are there.
    async fn configure(
        &mut self,
        config: &Desired,
        account: &Desired,
        secrets: &[&Desired],
        parts: &Parts,
    ) -> Result<bool, Stop> {
        let Some((secret, handouts)) = secrets.split_first() else { return Ok(false) };
        // Its Secret goes with it, and must not be taken for somebody else's.
        if self.ownership(config) == Some(Ownership::Leaving) {
            return Ok(self.settle(config).await? != State::Blocked);
        }
        let step = step(self.noted().as_deref(), &parts.keys.fingerprint);
        match step {
            Step::CheckName => {
                if self.create(secret, Mode::DryRun).await? == Created::Exists {
                    self.collide(secret);
                    return Ok(false);
                }
            }
            Step::Replace => {
                let deleted = calls::delete(&self.context.client, secret, self.term).await;
                self.done(secret, deleted)?;
                info!(instance = %self.key(), secret = secret.name, "the keys are replaced");
            }
            Step::Keep => {}
        }
        self.withdraw_handouts(&parts.handouts).await?;
        let config = self.settle(config).await?;
        if config == State::Blocked || self.settle(account).await? == State::Blocked {
            return Ok(false);
        }
        let prints = parts.fingerprints();
        let seen = self.memory.secrets.as_ref();
        let seen = seen.is_some_and(|(seen, at)| *seen == prints && self.now < *at + self.interval());
        let mut created = Created::Exists;
        if step != Step::Keep || !seen {
            created = self.create(secret, Mode::Real).await?;
            for handout in handouts {
                self.create(handout, Mode::Real).await?;
            }
            self.memory.secrets = Some((prints, self.now));
        }
        self.memory.untold |= config == State::Changed || created == Created::New;
        Ok(true)
    }

    /// The fingerprint of the keys that the Secret was made with.
    fn noted(&self) -> Option<String> {
        self.notes().iter().find_map(|live| annotation(live, KEYS_ANNOTATION).map(str::to_owned))
    }

    /// The objects that say what Secrets were made with, the one that counts first.
    pub(super) fn notes(&self) -> Vec<std::sync::Arc<Value>> {
        let names = ObjectNames::new(self.key());
        let places =
            [(ObjectKind::ConfigMap, names.config_map), (ObjectKind::ServiceAccount, names.service_account)];
        places.into_iter().filter_map(|(kind, name)| self.ours(kind, &name)).collect()
    }

    pub(super) fn ownership(&self, desired: &Desired) -> Option<Ownership> {
        let key = NamespacedName::new(&*desired.namespace, &*desired.name);
        let live = self.observed.get(desired.kind, &key)?;
        Some(ownership(&live, &self.instance.metadata))
    }

    pub(super) fn ours(&self, kind: ObjectKind, name: &str) -> Option<std::sync::Arc<Value>> {
        let live = self.observed.get(kind, &NamespacedName::new(&*self.key().namespace, name))?;
        (ownership(&live, &self.instance.metadata) == Ownership::Ours).then_some(live)
    }

    /// Tells the kubelets of the pods of a changed configuration, as often as it takes; where that is not allowed, they find it
    /// by themselves.
    async fn tell_pods(&mut self) -> Result<(), Stop> {
        if !self.memory.untold {
            return Ok(());
        }
        match calls::touch_pods(&self.context.client, self.key(), self.term).await {
            Ok(pods) => info!(instance = %self.key(), pods, "kubelets told of a new configuration"),
            Err(Failure::Refused(message)) => self.complain(&message),
            Err(failure) => return self.stop(Problem::Unavailable(failure.to_string())),
        }
        self.memory.untold = false;
        Ok(())
    }

    fn complain(&mut self, message: &str) {
        if !std::mem::replace(&mut self.memory.complained, true) {
            warn!(
                instance = %self.key(), message,
                "pods may not be told of a new configuration: they have it within a minute or two"
            );
        }
    }

    fn interval(&self) -> Duration {
        let pods = self.pods(pods_kind(self.instance));
        let ready = pods.is_some_and(|pods| pods.ready >= self.instance.replicas);
        if ready { RESYNC } else { RESYNC_UNREADY }
    }

    fn outcome(mut self, moved: bool) -> Outcome {
        let names = ObjectNames::new(self.key());
        let service = self.ours(ObjectKind::Service, &names.dns_service);
        let config = self.ours(ObjectKind::ConfigMap, &names.config_map);
        let wanted = pods_kind(self.instance);
        let live = self.ours(wanted, &names.pods);
        self.problems.extend(live.as_deref().and_then(replica_failure));
        let former = ObjectKind::PODS.into_iter().find(|kind| *kind != wanted);
        let clock = Timestamp::now();
        let (troubles, next_trouble) = self.context.pods.troubles(self.key(), clock);
        let next_trouble = next_trouble.map(|then| self.now + then.duration_since(clock).unsigned_abs());
        let next = self.next.min(self.now + self.interval()).min(next_trouble.unwrap_or(self.next));
        let former = former.and_then(|kind| self.pods(kind));
        let pods = live.as_deref().map(PodsReport::of);
        let complete = pods.as_ref().is_some_and(|pods| pods.is_complete(self.instance.replicas));
        let nodes = self.observed.nodes();
        let misplaced = nodes
            .as_deref()
            .map(|nodes| misplaced(self.instance, nodes, &self.context.pods.placed(self.key())));
        Outcome {
            next: (!self.again).then_some(next),
            moved,
            report: WorkloadReport {
                uid: self.instance.metadata.uid.clone(),
                generation: self.instance.metadata.generation,
                problems: self.problems,
                waits: self.waits,
                paused: self.instance.paused,
                complete: complete && former.is_none(),
                config: config.as_deref().and_then(config_digests),
                addresses: service.as_deref().and_then(client_addresses),
                pods,
                former,
                troubles,
                misplaced: misplaced.unwrap_or_default(),
            },
        }
    }
}

pub(super) fn annotation<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    object.pointer("/metadata/annotations")?.get(name)?.as_str()
}

/// The digests of the files in a ConfigMap.
fn config_digests(config: &Value) -> Option<ConfigDigests> {
    let digest = |file| Some(ConfigState::digest(config.get("data")?.get(file)?.as_str()?.as_bytes()));
    Some(ConfigDigests { named: digest(NAMED_CONFIG)?, agent: digest(AGENT_CONFIG)? })
}
