//! The status of an instance: what the engine knows of its zones and servers, and the fleet of its objects.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bindy_api::{
    Bind9Instance, Bind9InstanceStatus, ConditionStatus, ConditionType, MAX_NAMED, Object, Reason, Role,
    Strictness, Verdict,
};
use bindy_engine::{EngineHandle, View};
use bindy_model::conditions::instance_conditions;
use bindy_model::workload::{bind_version, pod_selector};
use bindy_model::{Instance, InstanceNotice, NamespacedName, ServerId, ServerReport, told};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::configs::{AllHeard, Heard};
use crate::fleet::{Problem, Reports, Trouble, WorkloadReport};
use crate::key::key_of;
use crate::observe;

/// Pods that a message names at most.
const NAMED: usize = 3;

/// Where each instance answers, from the first time on that one of its servers was ready.
#[derive(Clone, Debug, Default)]
pub(crate) struct Addresses(Arc<Mutex<BTreeMap<NamespacedName, OfObject>>>);

/// With the UID of the instance: another one of its name begins anew.
type OfObject = (String, Vec<IpAddr>);

impl Addresses {
    /// Takes in what the status of an instance says, from before a restart or by another leader; returns it if it is
    /// news. A leader knows its own addresses before they come back: to it only those are news of which it knows nothing.
    pub(crate) fn recall(&self, object: &Object, leads: bool) -> Option<(NamespacedName, Vec<IpAddr>)> {
        let Object::Bind9Instance(instance) = object else { return None };
        let status = instance.status.as_ref()?;
        let addresses: Vec<IpAddr> = status.addresses.iter().filter_map(|text| text.parse().ok()).collect();
        let (key, uid) = (key_of(&**instance), instance.uid()?);
        match self.get(&key, &uid) {
            Some(known) if leads || known == addresses => return None,
            None if addresses.is_empty() => return None,
            _ => {}
        }
        self.put(key.clone(), uid, addresses.clone());
        Some((key, addresses))
    }

    /// Forgets an instance that does not exist any more.
    pub(crate) fn forget(&self, key: &NamespacedName) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    /// Forgets the instances that a new list lacks.
    pub(crate) fn retain(&self, listed: &HashSet<NamespacedName>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|key, _| listed.contains(key));
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<(NamespacedName, Vec<IpAddr>)> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().map(|(key, (_, addresses))| (key.clone(), addresses.clone())).collect()
    }

    /// Takes in what an instance's Service says, from the time on that one of its servers is ready; returns where the instance
    /// answers, and whether that is news. What is known stays while there is nothing yet to take its place.
    fn update(&self, key: &NamespacedName, report: &WorkloadReport, ready: bool) -> (Vec<IpAddr>, bool) {
        let known = self.get(key, &report.uid).unwrap_or_default();
        match &report.addresses {
            Some(now) if *now != known && (ready || !known.is_empty()) => {
                self.put(key.clone(), report.uid.clone(), now.clone());
                (now.clone(), true)
            }
            _ => (known, false),
        }
    }

    fn get(&self, key: &NamespacedName, uid: &str) -> Option<Vec<IpAddr>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(key).filter(|(of, _)| of == uid).map(|(_, addresses)| addresses.clone())
    }

    fn put(&self, key: NamespacedName, uid: String, addresses: Vec<IpAddr>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key, (uid, addresses));
    }
}

/// Puts the status of instances together.
pub(crate) struct Instances {
    engine: EngineHandle,
    reports: watch::Receiver<Arc<Reports>>,
    configs: watch::Receiver<AllHeard>,
    addresses: Addresses,
}

impl Instances {
    pub(crate) fn new(
        engine: EngineHandle,
        reports: watch::Receiver<Arc<Reports>>,
        configs: watch::Receiver<AllHeard>,
        addresses: Addresses,
    ) -> Self {
        Self { engine, reports, configs, addresses }
    }

    /// The status without what the ledger owns, its times to be filled in. `None`: too little is known yet.
    pub(crate) async fn status(&self, notice: &InstanceNotice) -> Option<Bind9InstanceStatus> {
        let key = &notice.report.key;
        let report = self.reports.borrow().get(key).filter(|one| one.uid == notice.report.uid).cloned()?;
        // After a restart the catalog is the one that was published before, once that is established; a removal that waits for a
        // person's word is not.
        if notice.report.serial.is_none() && notice.report.hold.is_none() && notice.told != 0 {
            return None;
        }
        let configs = configs(&report, &notice.servers, &self.configs.borrow())?;
        let ready = notice.servers.iter().any(|server| server.ready);
        let (addresses, news) = self.addresses.update(key, &report, ready);
        if news {
            self.engine.addresses(key.clone(), addresses.clone()).await;
        }
        Some(compose(notice, &report, &configs, &addresses))
    }
}

/// Waits until the watch has brought every instance as it is now: a leader must not give workloads the form of an earlier
/// generation.
pub(crate) async fn catch_up(client: &Client, views: watch::Receiver<Option<Arc<View>>>) {
    let api: Api<Bind9Instance> = Api::all(client.clone());
    let read = async || {
        let list = api.list_metadata(&ListParams::default()).await?;
        Ok(list.items.iter().filter_map(Generation::of).collect::<Vec<_>>())
    };
    let brought = async |there: Vec<Generation>| {
        let has_all = |view: &View| there.iter().all(|one| one.is_brought(view));
        drop(views.clone().wait_for(|view| view.as_deref().is_some_and(has_all)).await);
    };
    observe::caught_up("Bind9Instances", read, brought).await;
}

/// Which state of which instance.
struct Generation {
    key: NamespacedName,
    uid: String,
    number: i64,
}

impl Generation {
    fn of(object: &impl ResourceExt) -> Option<Self> {
        let number = object.meta().generation?;
        Some(Self { key: key_of(object), uid: object.uid()?, number })
    }

    /// Whether the view has it, or a later one, or one that cannot be read.
    fn is_brought(&self, view: &View) -> bool {
        let unreadable = view.unknown.contains(&self.key) || view.outdated.contains(&self.key);
        unreadable
            || view.fleet.get(&self.key).is_some_and(|instance| {
                let metadata = &instance.metadata;
                metadata.uid == self.uid && i64::from(metadata.generation) >= self.number
            })
    }
}

/// Has the instances looked at whose objects are reported to be other than before, until cancelled.
pub(crate) async fn follow(
    engine: EngineHandle,
    mut reports: watch::Receiver<Arc<Reports>>,
    cancel: CancellationToken,
) {
    let mut known: Arc<Reports> = Arc::default();
    loop {
        let now = reports.borrow_and_update().clone();
        for (key, report) in now.iter() {
            if known.get(key) != Some(report) {
                engine.look_at(key.clone()).await;
            }
        }
        known = now;
        tokio::select! {
            () = cancel.cancelled() => return,
            changed = reports.changed() => if changed.is_err() { return },
        }
    }
}

/// Which servers are not known to run with the configuration that they are given.
#[derive(Debug, Default)]
struct Lacking {
    /// How many of those that are ready.
    servers: usize,
    /// Those of them of which it is known why.
    because: Vec<String>,
    /// Those, ready or not, whose BIND or agent refuses it, with its words.
    refused: Vec<String>,
}

/// `None`: a server was not asked yet.
fn configs(
    report: &WorkloadReport,
    servers: &[ServerReport],
    heard: &BTreeMap<ServerId, Heard>,
) -> Option<Lacking> {
    let mut lacking = Lacking::default();
    let Some(wanted) = &report.config else { return Some(lacking) };
    for server in servers {
        let (name, heard) = (&server.id.name, heard.get(&server.id));
        if let Some(Heard::Said(states)) = heard {
            lacking.refused.extend(states.refusal(wanted).map(|refusal| format!("{name}: {refusal}")));
        }
        if !server.ready {
            continue;
        }
        match heard? {
            Heard::Said(states) if states.has(wanted) => continue,
            Heard::Said(_) => {}
            Heard::Nothing(error) => lacking.because.push(format!("{name} cannot be asked: {error}")),
        }
        lacking.servers += 1;
    }
    Some(lacking)
}

fn compose(
    notice: &InstanceNotice,
    report: &WorkloadReport,
    configs: &Lacking,
    addresses: &[IpAddr],
) -> Bind9InstanceStatus {
    let InstanceNotice { instance, report: state, servers, told: _ } = notice;
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let ready = count(servers.iter().filter(|server| server.ready).count());
    let lagging = servers.iter().filter(|server| server.failure.is_some());
    let generation = Some(i64::from(state.generation));
    let texts: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
    Bind9InstanceStatus {
        observed_generation: generation,
        role: Some(match instance.role {
            bindy_model::Role::Primary => Role::Primary,
            bindy_model::Role::Secondary => Role::Secondary,
        }),
        replicas: report.pods.iter().chain(&report.former).map(|pods| pods.replicas).sum(),
        ready_replicas: ready,
        ready: Some(format!("{ready}/{}", instance.replicas)),
        selector: Some(pod_selector(&state.key.name)),
        zones: state.serial.map(|_| count(state.zones)),
        address: texts.first().cloned(),
        addresses: texts,
        version: Some(bind_version(&instance.pods)),
        catalog: None,
        lagging: lagging.map(|server| server.id.name.clone()).take(MAX_NAMED).collect(),
        conditions: told::timeless(&conditions(notice, report, configs), generation),
    }
}

fn conditions(notice: &InstanceNotice, report: &WorkloadReport, configs: &Lacking) -> Vec<Verdict> {
    let InstanceNotice { instance, report: state, servers, told: _ } = notice;
    let mut verdicts = instance_conditions(state, servers, instance.replicas as usize);
    let refusing: Vec<&Problem> = report
        .problems
        .iter()
        .filter(|problem| matches!(problem.reason(), Reason::NameTaken | Reason::InvalidData))
        .collect();
    for verdict in &mut verdicts {
        match (verdict.condition, verdict.status) {
            (ConditionType::Accepted, ConditionStatus::True) => {
                if let Some(problem) = refusing.first() {
                    let message = joined(refusing.iter());
                    *verdict = Verdict::no(ConditionType::Accepted, problem.reason(), message);
                }
            }
            (ConditionType::Ready, _) => {
                if let Some(problem) = refusing.first().copied().or(report.problems.first()) {
                    let message = joined(report.problems.iter());
                    *verdict = Verdict::no(ConditionType::Ready, problem.reason(), message);
                } else {
                    if report.waits {
                        let message =
                            format!("{}; settings wait until spec.paused is false", verdict.message);
                        *verdict = Verdict::unknown(ConditionType::Ready, Reason::Paused, message);
                    }
                    unready(notice, report, configs, verdict);
                }
            }
            (ConditionType::Degraded, lags) => match degraded(notice, report, configs) {
                // A pod that cannot run is why its server lags.
                Some((reason, message))
                    if lags == ConditionStatus::False || reason == Reason::ServersFailing =>
                {
                    *verdict = Verdict::yes(ConditionType::Degraded, reason, message);
                }
                _ => {}
            },
            _ => {}
        }
    }
    verdicts
}

fn joined(texts: impl Iterator<Item = impl ToString>) -> String {
    texts.map(|text| text.to_string()).collect::<Vec<_>>().join("; ")
}

/// Says of servers that are not ready, or not all as this generation asks for, what keeps them.
fn unready(notice: &InstanceNotice, report: &WorkloadReport, configs: &Lacking, verdict: &mut Verdict) {
    if verdict.status == ConditionStatus::True {
        let (reason, message) = if !is_rolled_out(notice, report) {
            (Reason::ServersStarting, "servers are being made as this generation asks for".to_owned())
        } else if !configs.refused.is_empty() {
            (Reason::ConfigRefused, refused(configs))
        } else if configs.servers > 0 {
            let message = "the present settings are not in force on every server yet";
            let because = configs.because.iter().take(NAMED).map(String::as_str);
            (Reason::ServersStarting, joined(std::iter::once(message).chain(because)))
        } else {
            return;
        };
        *verdict = Verdict::no(ConditionType::Ready, reason, message);
    }
    if let Some(troubles) = troubles(notice, report) {
        let message = format!("{}; {troubles}", verdict.message);
        *verdict = Verdict::no(ConditionType::Ready, Reason::ServersFailing, message);
    } else if let Some(missing) = missing(&notice.instance, report) {
        verdict.message = format!("{}; {missing}", verdict.message);
    }
}

/// A StatefulSet makes all its pods at once, and only its Events say why it cannot.
fn missing(instance: &Instance, report: &WorkloadReport) -> Option<String> {
    let few = report.pods.as_ref().is_some_and(|pods| pods.replicas < instance.replicas);
    let name = &instance.metadata.key.name;
    let said =
        || format!("not all pods exist: if that lasts, `kubectl describe statefulset {name}` says why");
    (few && instance.pods.storage.is_some()).then(said)
}

/// The words with which BIND or an agent refuses the settings.
fn refused(configs: &Lacking) -> String {
    let named = joined(configs.refused.iter().take(NAMED));
    format!("the settings of this generation are refused, and those before stay in force: {named}")
}

/// What is wrong with the pods, their settings, or where they run, while all servers that answer have everything.
fn degraded(notice: &InstanceNotice, report: &WorkloadReport, configs: &Lacking) -> Option<(Reason, String)> {
    if let Some(troubles) = troubles(notice, report) {
        return Some((Reason::ServersFailing, troubles));
    }
    if !configs.refused.is_empty() {
        return Some((Reason::ConfigRefused, refused(configs)));
    }
    // Those of before stay where they are until it is their turn.
    let is_in_force = is_rolled_out(notice, report) && !report.waits && report.problems.is_empty();
    if report.misplaced.is_empty() || !is_in_force {
        return None;
    }
    let named = joined(report.misplaced.iter().take(NAMED));
    let message = format!(
        "servers are not where they were asked to be: {named}. Kubernetes moves no pod that runs; one that is deleted is made where \
         there is room now, and its volume, if it has one"
    );
    Some((Reason::ServersMisplaced, message))
}

/// The pods that do not run, with the reason; no more of them than a message has room for. The scheduler does not say which
/// wish no node meets.
fn troubles(notice: &InstanceNotice, report: &WorkloadReport) -> Option<String> {
    let named = report.troubles.iter().take(NAMED).map(|(pod, trouble)| format!("{pod}: {trouble}"));
    let unplaced = report.troubles.iter().any(|(_, trouble)| matches!(trouble, Trouble::Unschedulable(_)));
    let instance = &notice.instance;
    let required = instance.pods.placement.region == Some(Strictness::Required);
    let region = instance.region().filter(|_| required && unplaced);
    let region = region.map(|region| format!("nodes of region {region} are required"));
    (!report.troubles.is_empty()).then(|| joined(named.chain(region)))
}

/// Whether every pod is of the present template, as far as what makes them knows.
fn is_rolled_out(notice: &InstanceNotice, report: &WorkloadReport) -> bool {
    report.generation == notice.report.generation
        && report.former.is_none()
        && report.pods.as_ref().is_some_and(|pods| {
            pods.observed_generation >= pods.generation
                && pods.updated >= notice.instance.replicas
                && pods.replicas == pods.updated
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::PodsReport;
    use bindy_model::workload::Misplaced;
    use bindy_model::{
        ConfigDigests, ConfigState, ConfigStates, InstanceReport, Object, ServerId, ServerReport, World,
    };
    use serde_json::json;

    fn notice(replicas: u32, ready: &[&str]) -> InstanceNotice {
        let metadata =
            json!({ "name": "dns", "namespace": "default", "uid": "u", "labels": { "region": "eu" } });
        let instance = json!({ "apiVersion": bindy_api::API_VERSION, "kind": "Bind9Instance", "metadata": metadata,
            "spec": { "replicas": replicas } });
        let object = bindy_api::Object::decode(instance).unwrap();
        let Ok(Object::Instance(instance)) = bindy_model::decode(&object) else { unreachable!() };
        let key = instance.metadata.key.clone();
        let server = |name: &&str| ServerReport {
            id: ServerId { instance: key.clone(), name: (*name).to_owned() },
            ready: true,
            missing: 0,
            failure: None,
        };
        InstanceNotice {
            report: InstanceReport {
                key: key.clone(),
                uid: "u".to_owned(),
                generation: 0,
                catalog: None,
                serial: None,
                zones: 0,
                hold: None,
                waits: false,
                problem: None,
            },
            servers: ready.iter().map(server).collect(),
            instance: *instance,
            told: 0,
        }
    }

    #[test]
    fn a_view_has_an_instance_of_its_uid_and_generation_or_knows_that_it_cannot_be_read() {
        let mut world = World::new();
        let mut instance = notice(1, &[]).instance;
        instance.metadata.generation = 3;
        let key = instance.metadata.key.clone();
        world.apply(Object::Instance(Box::new(instance)));
        let mut view = View { fleet: world.fleet().clone(), ..View::default() };
        let state = |uid: &str, number| Generation { key: key.clone(), uid: uid.to_owned(), number };
        assert!(state("u", 3).is_brought(&view) && state("u", 2).is_brought(&view));
        assert!(!state("u", 4).is_brought(&view), "changed since");
        assert!(!state("other", 1).is_brought(&view), "made again since");
        view.outdated.insert(key.clone());
        assert!(state("u", 4).is_brought(&view));
        let nothing = View::default();
        assert!(!state("u", 1).is_brought(&nothing));
        assert!(state("u", 1).is_brought(&View { unknown: [key.clone()].into(), ..nothing }));
    }

    #[test]
    fn addresses_are_those_of_one_object_and_a_leader_keeps_its_own() {
        let instance = |uid: &str, addresses: &[&str]| {
            let metadata = json!({ "name": "dns", "namespace": "default", "uid": uid });
            let value = json!({ "apiVersion": bindy_api::API_VERSION, "kind": "Bind9Instance",
                "metadata": metadata, "spec": { "replicas": 1 }, "status": { "addresses": addresses } });
            bindy_api::Object::decode(value).unwrap()
        };
        let (first, second): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let known = Addresses::default();
        let told = |recalled: Option<(NamespacedName, Vec<IpAddr>)>| recalled.map(|(_, addresses)| addresses);
        assert_eq!(told(known.recall(&instance("u", &[]), false)), None, "it has none yet");
        assert_eq!(told(known.recall(&instance("u", &["192.0.2.1"]), true)), Some(vec![first]));
        assert_eq!(told(known.recall(&instance("u", &["192.0.2.2"]), true)), None, "its own come back");
        assert_eq!(told(known.recall(&instance("u", &["192.0.2.2"]), false)), Some(vec![second]));
        assert_eq!(
            told(known.recall(&instance("v", &["192.0.2.2"]), true)),
            Some(vec![second]),
            "made again"
        );
        assert_eq!(told(known.recall(&instance("v", &[]), true)), None, "its own come back");
        assert_eq!(told(known.recall(&instance("v", &[]), false)), Some(Vec::new()), "it has names only now");
        assert_eq!(told(known.recall(&instance("v", &["192.0.2.2"]), true)), None, "from before that");
    }

    #[test]
    fn addresses_come_with_the_first_ready_server_stay_until_there_are_others_and_go_for_names() {
        let (known, key) = (Addresses::default(), NamespacedName::new("default", "dns"));
        let service = |addresses: Option<&[&str]>| WorkloadReport {
            addresses: addresses.map(|all| all.iter().map(|one| one.parse().unwrap()).collect()),
            ..report(1, 1)
        };
        let told = |addresses, ready| {
            let (addresses, news) = known.update(&key, &service(addresses), ready);
            (addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "), news)
        };
        let said = |addresses: &str, news| (addresses.to_owned(), news);
        assert_eq!(told(Some(&["10.0.0.1"]), false), said("", false), "no server was ready yet");
        assert_eq!(told(Some(&["10.0.0.1"]), true), said("10.0.0.1", true));
        assert_eq!(told(Some(&["10.0.0.1"]), false), said("10.0.0.1", false));
        assert_eq!(told(None, true), said("10.0.0.1", false), "the load balancer is still being made");
        assert_eq!(told(Some(&["192.0.2.1"]), false), said("192.0.2.1", true));
        assert_eq!(told(Some(&[]), true), said("", true), "it gives a name instead");
        assert_eq!(told(Some(&[]), true), said("", false));
    }

    fn report(updated: u32, replicas: u32) -> WorkloadReport {
        let pods =
            PodsReport { replicas, updated, ready: updated, available: updated, ..PodsReport::default() };
        WorkloadReport {
            uid: "u".to_owned(),
            generation: 0,
            problems: Vec::new(),
            waits: false,
            paused: false,
            complete: updated == replicas,
            config: None,
            addresses: None,
            pods: Some(pods),
            former: None,
            troubles: Vec::new(),
            misplaced: Vec::new(),
        }
    }

    fn told(notice: &InstanceNotice, report: &WorkloadReport, condition: ConditionType) -> (Reason, String) {
        let verdict = conditions(notice, report, &Lacking::default())
            .into_iter()
            .find(|one| one.condition == condition)
            .unwrap();
        (verdict.reason, verdict.message)
    }

    #[test]
    fn a_rollout_that_is_stuck_names_the_pod_and_its_reason_while_the_others_serve() {
        let image = Trouble::Image { container: "named".to_owned(), image: "bind:nope".to_owned() };
        let mut report = report(1, 4);
        report.troubles.push(("dns-7".to_owned(), image));
        let mut notice = notice(3, &["dns-1", "dns-2", "dns-3"]);
        let (reason, message) = told(&notice, &report, ConditionType::Ready);
        assert_eq!(reason, Reason::ServersFailing);
        assert!(
            message.ends_with("dns-7: named waits for its image bind:nope, which cannot be pulled"),
            "{message}"
        );
        assert_eq!(told(&notice, &report, ConditionType::Degraded).0, Reason::ServersFailing);
        // Its server lags as well, for this very reason.
        for server in &mut notice.servers {
            server.failure = Some("the server failed".to_owned());
        }
        assert_eq!(told(&notice, &report, ConditionType::Degraded).0, Reason::ServersFailing);
    }

    #[test]
    fn a_stateful_set_that_cannot_make_its_pods_is_pointed_at() {
        let mut notice = notice(3, &["dns-0"]);
        let message = |notice: &InstanceNotice| told(notice, &report(1, 1), ConditionType::Ready).1;
        assert_eq!(message(&notice), "1 of 3 servers are ready", "a Deployment says why itself");
        notice.instance.pods.storage = Some(bindy_api::Storage::default());
        let pointed = "not all pods exist: if that lasts, `kubectl describe statefulset dns` says why";
        assert_eq!(message(&notice), format!("1 of 3 servers are ready; {pointed}"));
        assert!(
            !told(&notice, &report(1, 3), ConditionType::Ready).1.contains("describe"),
            "they only start"
        );
    }

    #[test]
    fn servers_that_are_not_where_they_should_be_are_named_once_a_roll_out_is_over_and_ready_all_the_same() {
        let mut report = report(2, 2);
        let (pod, node) = ("dns-2".to_owned(), "node7".to_owned());
        let (region, wanted) = (Some("us".to_owned()), "eu".to_owned());
        report.misplaced.push(Misplaced::Region { pod, node, region, wanted });
        let notice = notice(2, &["dns-1", "dns-2"]);
        assert_eq!(told(&notice, &report, ConditionType::Ready).0, Reason::ServersReady);
        let (reason, message) = told(&notice, &report, ConditionType::Degraded);
        assert_eq!(reason, Reason::ServersMisplaced);
        assert!(message.contains("dns-2 is on node node7 (region: us), not in region eu"), "{message}");
        let waiting = WorkloadReport { waits: true, ..report.clone() };
        let refused = Problem::Unavailable("busy".to_owned());
        let refused = WorkloadReport { problems: vec![refused], ..report.clone() };
        report.pods.as_mut().unwrap().updated = 1;
        for other in [waiting, refused, report] {
            assert_ne!(told(&notice, &other, ConditionType::Degraded).0, Reason::ServersMisplaced);
        }
    }

    #[test]
    fn an_instance_is_not_ready_before_its_former_servers_are_gone() {
        let mut report = report(2, 2);
        report.former = Some(PodsReport { replicas: 2, ..PodsReport::default() });
        let notice = notice(2, &["dns-0", "dns-1", "dns-x", "dns-y"]);
        assert_eq!(told(&notice, &report, ConditionType::Ready).0, Reason::ServersStarting);
        assert_eq!(compose(&notice, &report, &Lacking::default(), &[]).replicas, 4);
    }

    #[test]
    fn an_instance_is_ready_when_every_server_runs_with_its_settings_and_says_who_refuses_them_and_why() {
        let notice = notice(2, &["dns-1", "dns-2"]);
        let wanted = ConfigDigests { named: "new".to_owned(), agent: "new".to_owned() };
        let report = WorkloadReport { config: Some(wanted), ..report(2, 2) };
        let (one, two) = (notice.servers[0].id.clone(), notice.servers[1].id.clone());
        let state = |digest: &str| ConfigState::Taken(digest.to_owned());
        let said = |named, agent| Heard::Said(ConfigStates { named, agent: Some(agent) });
        let taken = |digest: &str| said(state(digest), state(digest));
        let refused = |digest: &str| {
            let (digest, text) = (digest.to_owned(), "unknown option".to_owned());
            ConfigState::Refused { digest, text }
        };
        let told = |second: Heard| {
            let heard = [(one.clone(), taken("new")), (two.clone(), second)].into();
            let lacking = configs(&report, &notice.servers, &heard).unwrap();
            let verdicts = conditions(&notice, &report, &lacking);
            let of = |condition| verdicts.iter().find(|one| one.condition == condition).unwrap().clone();
            (of(ConditionType::Ready), of(ConditionType::Degraded))
        };
        let unasked = [(one.clone(), taken("new"))].into();
        assert!(configs(&report, &notice.servers, &unasked).is_none(), "told of what was not asked");
        assert_eq!(told(taken("new")).0.reason, Reason::ServersReady);
        for older in [taken("old"), said(refused("old"), state("new")), said(state("new"), state("old"))] {
            let (ready, degraded) = told(older);
            assert_eq!((ready.status, ready.reason), (ConditionStatus::False, Reason::ServersStarting));
            assert_eq!(degraded.status, ConditionStatus::False);
        }
        let (ready, _) = told(Heard::Nothing("no answer".to_owned()));
        assert_eq!((ready.status, ready.reason), (ConditionStatus::False, Reason::ServersStarting));
        assert!(ready.message.ends_with("dns-2 cannot be asked: no answer"), "{}", ready.message);
        for (refusal, words) in [
            (said(refused("new"), state("new")), "dns-2: BIND: unknown option"),
            (said(state("new"), refused("new")), "dns-2: agent: unknown option"),
        ] {
            let (ready, degraded) = told(refusal);
            assert_eq!((ready.status, ready.reason), (ConditionStatus::False, Reason::ConfigRefused));
            assert_eq!((degraded.status, degraded.reason), (ConditionStatus::True, Reason::ConfigRefused));
            assert!(degraded.message.ends_with(words), "{}", degraded.message);
        }
    }

    #[test]
    fn a_server_that_refuses_its_settings_is_told_of_although_it_is_not_ready() {
        let mut notice = notice(2, &["dns-1", "dns-2"]);
        notice.servers[1].ready = false;
        let wanted = ConfigDigests { named: "new".to_owned(), agent: "new".to_owned() };
        let report = WorkloadReport { config: Some(wanted), ..report(2, 1) };
        let said = |named| Heard::Said(ConfigStates { named, agent: None });
        let refused = ConfigState::Refused { digest: "new".to_owned(), text: "it has ended".to_owned() };
        let heard = [ConfigState::Taken("new".to_owned()), refused].map(said);
        let heard = notice.servers.iter().map(|server| server.id.clone()).zip(heard).collect();
        let lacking = configs(&report, &notice.servers, &heard).unwrap();
        let verdicts = conditions(&notice, &report, &lacking);
        let degraded = verdicts.iter().find(|one| one.condition == ConditionType::Degraded).unwrap();
        assert_eq!((degraded.status, degraded.reason), (ConditionStatus::True, Reason::ConfigRefused));
        assert!(degraded.message.ends_with("dns-2: BIND: it has ended"), "{}", degraded.message);
    }

    #[test]
    fn a_paused_instance_that_asks_for_something_else_is_neither_ready_nor_unready() {
        let mut notice = notice(2, &["dns-1", "dns-2"]);
        notice.instance.paused = true;
        assert_eq!(told(&notice, &report(2, 2), ConditionType::Ready).0, Reason::ServersReady);
        let waiting = WorkloadReport { waits: true, ..report(2, 2) };
        let (reason, message) = told(&notice, &waiting, ConditionType::Ready);
        assert_eq!(reason, Reason::Paused);
        assert_eq!(message, "2 of 2 servers are ready; settings wait until spec.paused is false");
        notice.report.waits = true;
        let ready = conditions(&notice, &report(2, 2), &Lacking::default())
            .into_iter()
            .find(|one| one.reason == Reason::Paused);
        let ready = ready.map(|one| (one.condition, one.status));
        assert_eq!(ready, Some((ConditionType::Ready, ConditionStatus::Unknown)));
    }

    #[test]
    fn no_server_is_what_was_asked_for_and_said_with_its_consequence() {
        let (reason, message) = told(&notice(0, &[]), &report(0, 0), ConditionType::Ready);
        assert_eq!(reason, Reason::ServersReady);
        assert!(message.contains("none of its zones is answered here"), "{message}");
    }

    #[test]
    fn the_selector_of_the_scale_subresource_is_that_of_the_pods() {
        let status = compose(&notice(2, &[]), &report(2, 2), &Lacking::default(), &[]);
        assert_eq!(status.selector.as_deref(), Some("app.kubernetes.io/managed-by=bindy,instance=dns"));
    }
}
