//! The status of an instance: what the engine knows of its zones and servers, and the fleet of its objects.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bindy_api::{Bind9InstanceStatus, ConditionType, MAX_NAMED, Object, Reason, Role, Verdict};
use bindy_engine::EngineHandle;
use bindy_model::conditions::instance_conditions;
use bindy_model::workload::{INSTANCE_LABEL, bind_version};
use bindy_model::{InstanceNotice, NamespacedName, ServerReport, told};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::fleet::{Problem, Reports, WorkloadReport};
use crate::key::key_of;

/// Where each instance answers, from the first time on that one of its servers was ready.
#[derive(Clone, Debug, Default)]
pub(crate) struct Addresses(Arc<Mutex<BTreeMap<NamespacedName, Vec<IpAddr>>>>);

impl Addresses {
    /// Takes in what the status of an instance says from before a restart.
    pub(crate) fn recall(&self, object: &Object) {
        if let Object::Bind9Instance(instance) = object
            && let Some(status) = &instance.status
        {
            let addresses: Vec<IpAddr> =
                status.addresses.iter().filter_map(|text| text.parse().ok()).collect();
            if !addresses.is_empty() {
                self.put(key_of(&**instance), addresses);
            }
        }
    }

    /// All of them.
    pub(crate) fn all(&self) -> BTreeMap<NamespacedName, Vec<IpAddr>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn get(&self, key: &NamespacedName) -> Vec<IpAddr> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned().unwrap_or_default()
    }

    fn put(&self, key: NamespacedName, addresses: Vec<IpAddr>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key, addresses);
    }
}

/// Puts the status of instances together.
pub(crate) struct Instances {
    engine: EngineHandle,
    reports: watch::Receiver<Arc<Reports>>,
    addresses: Addresses,
}

impl Instances {
    pub(crate) fn new(
        engine: EngineHandle,
        reports: watch::Receiver<Arc<Reports>>,
        addresses: Addresses,
    ) -> Self {
        Self { engine, reports, addresses }
    }

    /// The status without what the ledger owns, its times to be filled in. `None`: too little is known yet.
    pub(crate) async fn status(&self, notice: &InstanceNotice) -> Option<Bind9InstanceStatus> {
        let key = &notice.report.key;
        let report = self.reports.borrow().get(key).filter(|one| one.uid == notice.report.uid).cloned()?;
        // After a restart the catalog is the one that was published before, once that is established.
        if notice.report.serial.is_none() && notice.told != 0 {
            return None;
        }
        let addresses = self.addresses(key, &report, &notice.servers).await;
        Some(compose(notice, &report, &addresses))
    }

    /// Where the instance answers: nowhere before one of its servers was ready, and on through a blip afterwards.
    async fn addresses(
        &self,
        key: &NamespacedName,
        report: &WorkloadReport,
        servers: &[ServerReport],
    ) -> Vec<IpAddr> {
        let known = self.addresses.get(key);
        let entered = !known.is_empty() || servers.iter().any(|server| server.ready);
        if !entered || report.addresses.is_empty() || report.addresses == known {
            return known;
        }
        self.addresses.put(key.clone(), report.addresses.clone());
        self.engine.addresses(key.clone(), report.addresses.clone()).await;
        report.addresses.clone()
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

fn compose(notice: &InstanceNotice, report: &WorkloadReport, addresses: &[IpAddr]) -> Bind9InstanceStatus {
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
        selector: Some(format!("{INSTANCE_LABEL}={}", state.key.name)),
        zones: state.serial.map(|_| count(state.zones)),
        address: texts.first().cloned(),
        addresses: texts,
        version: Some(bind_version(&instance.pods)),
        catalog: None,
        lagging: lagging.map(|server| server.id.name.clone()).take(MAX_NAMED).collect(),
        conditions: told::timeless(&conditions(notice, report), generation),
    }
}

fn conditions(notice: &InstanceNotice, report: &WorkloadReport) -> Vec<Verdict> {
    let InstanceNotice { instance, report: state, servers, told: _ } = notice;
    let mut verdicts = instance_conditions(state, servers, instance.replicas as usize);
    let told =
        |problems: &[&Problem]| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    let (refusing, pending): (Vec<&Problem>, Vec<&Problem>) = report
        .problems
        .iter()
        .partition(|problem| matches!(problem.reason(), Reason::NameTaken | Reason::InvalidData));
    for verdict in &mut verdicts {
        match verdict.condition {
            ConditionType::Accepted if verdict.status == bindy_api::ConditionStatus::True => {
                if let Some(problem) = refusing.first() {
                    *verdict = Verdict::no(ConditionType::Accepted, problem.reason(), told(&refusing));
                }
            }
            ConditionType::Ready => {
                if let Some(problem) = refusing.first().or(pending.first()) {
                    *verdict = Verdict::no(
                        ConditionType::Ready,
                        problem.reason(),
                        told(&report.problems.iter().collect::<Vec<_>>()),
                    );
                } else if !is_rolled_out(notice, report) {
                    let message = "servers are being made as this generation asks for";
                    *verdict = Verdict::no(ConditionType::Ready, Reason::ServersStarting, message);
                }
            }
            _ => {}
        }
    }
    verdicts
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
