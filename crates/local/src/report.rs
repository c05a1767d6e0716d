//! From the engine's and the runner's state to `status.json`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use bindy_api::{ConditionStatus as ApiStatus, ConditionType, Reason, Verdict as Condition};
use bindy_engine::Snapshot;
use bindy_model::{InstanceReport, Kind, NamespacedName, ObjectKey, ServerReport, ZoneReport, conditions};

use crate::runner::RunningServer;
use crate::source::{Manifest, Place, SourceEvent};
use crate::status::{
    ConditionStatus, InSync, InstanceStatus, ObjectStatus, Problem, ServerStatus, Severity, Status,
    ZoneStatus,
};

/// Servers that a status names at most.
const NAMED: usize = bindy_api::MAX_NAMED;

/// Where objects are written, and what is wrong with the files they are in.
#[derive(Default)]
pub(crate) struct Files {
    places: BTreeMap<ObjectKey, Place>,
    problems: BTreeMap<PathBuf, Vec<Problem>>,
}

impl Files {
    /// Takes in what the source tells.
    pub(crate) fn note(&mut self, event: &SourceEvent) {
        match event {
            SourceEvent::Applied(Manifest { key, place, .. }) | SourceEvent::Moved { key, place } => {
                self.places.insert(key.clone(), place.clone());
            }
            SourceEvent::Problems { file, problems } if problems.is_empty() => {
                drop(self.problems.remove(file));
            }
            SourceEvent::Problems { file, problems } => {
                drop(self.problems.insert(file.clone(), problems.clone()));
            }
            // The place of an object that is gone says where a held one was.
            SourceEvent::Deleted { .. } | SourceEvent::Unreadable { .. } | SourceEvent::Listed => {}
        }
    }

    /// Where an object is written, or was last.
    pub(crate) fn place(&self, key: &ObjectKey) -> Option<&Place> {
        self.places.get(key)
    }

    /// The files with something in them of which not even the name can be read.
    pub(crate) fn obscure(&self) -> impl Iterator<Item = &PathBuf> {
        let nameless = |problem: &Problem| problem.object.is_none() && problem.severity == Severity::Error;
        self.problems.iter().filter(move |(_, problems)| problems.iter().any(nameless)).map(|(file, _)| file)
    }

    /// Everything that is wrong, in the order of files and lines.
    pub(crate) fn problems(&self, snapshot: &Snapshot) -> Vec<Problem> {
        let of_files = self.problems.values().flatten().cloned();
        let of_zones = snapshot.zones.iter().flat_map(|zone| {
            let key = ObjectKey { kind: Kind::Zone, key: zone.key.clone() };
            conditions::zone_conditions(zone).into_iter().map(move |condition| (key.clone(), condition))
        });
        let of_instances = snapshot.instances.iter().flat_map(|instance| {
            let key = ObjectKey { kind: Kind::Instance, key: instance.key.clone() };
            let conditions = conditions::instance_conditions(instance, &[], 0);
            conditions.into_iter().map(move |condition| (key.clone(), condition))
        });
        let of_records =
            snapshot.remarks.iter().map(|(key, verdict)| (key.clone(), conditions::record_accepted(verdict)));
        let of_objects = of_zones.chain(of_instances).chain(of_records);
        let mut all: Vec<Problem> = of_files
            .chain(of_objects.filter_map(|(key, condition)| self.problem(&key, &condition)))
            .collect();
        all.sort();
        all.dedup();
        all
    }

    fn problem(&self, key: &ObjectKey, condition: &Condition) -> Option<Problem> {
        let severity = match (condition.condition, condition.status, condition.reason) {
            (ConditionType::Accepted, ApiStatus::False, _)
            | (ConditionType::Held, ApiStatus::True, _)
            | (ConditionType::Ready, ApiStatus::False, Reason::NoInstances) => Severity::Error,
            (ConditionType::Accepted, ApiStatus::True, reason) if reason != Reason::Accepted => {
                Severity::Warning
            }
            _ => return None,
        };
        let place = self.places.get(key);
        Some(Problem {
            file: place.map(|place| place.file.to_path_buf()),
            line: place.map(|place| place.line),
            column: None,
            severity,
            object: Some(key.to_string()),
            reason: condition.reason.as_str().to_owned(),
            message: condition.message.clone(),
        })
    }
}

/// The whole status.
pub(crate) fn status(
    snapshot: &Snapshot,
    running: &[RunningServer],
    problems: Vec<Problem>,
    hidden_primary: SocketAddr,
) -> Status {
    Status {
        pid: std::process::id(),
        listed: snapshot.listed,
        hidden_primary: Some(hidden_primary),
        instances: snapshot.instances.iter().map(|report| instance(report, snapshot)).collect(),
        servers: running.iter().map(|one| server(one, &snapshot.servers)).collect(),
        zones: snapshot.zones.iter().map(zone).collect(),
        record_objects: snapshot.records,
        records_with_problems: records(snapshot),
        problems,
    }
}

fn instance(report: &InstanceReport, snapshot: &Snapshot) -> InstanceStatus {
    let spec = snapshot.fleet.get(&report.key);
    let replicas = spec.map_or(0, |spec| spec.replicas);
    let servers: Vec<ServerReport> =
        snapshot.servers.iter().filter(|server| server.id.instance == report.key).cloned().collect();
    let ready = servers.iter().filter(|server| server.ready).count();
    let wanted = usize::try_from(replicas).unwrap_or(usize::MAX);
    let upstreams = snapshot.fleet.upstreams(&report.key);
    InstanceStatus {
        key: report.key.to_string(),
        role: spec.map(|spec| format!("{:?}", spec.role).to_lowercase()).unwrap_or_default(),
        upstreams: upstreams.iter().map(NamespacedName::to_string).collect(),
        ready: u32::try_from(ready).unwrap_or(u32::MAX),
        replicas,
        zones: report.zones,
        conditions: conditions::instance_conditions(report, &servers, wanted).iter().map(condition).collect(),
    }
}

fn server(server: &RunningServer, reports: &[ServerReport]) -> ServerStatus {
    let (instance, name) = (&server.key.instance, server.key.index.to_string());
    let report = reports.iter().find(|report| report.id.instance == *instance && report.id.name == name);
    ServerStatus {
        missing: report.map(|report| report.missing),
        instance: server.key.instance.to_string(),
        index: server.key.index,
        dns: server.dns,
        transfer: server.transfer,
        http: server.http,
        named_pid: server.named_pid,
        agent_pid: server.agent_pid,
        ready: server.ready,
        message: server.message.clone(),
        directory: server.directory.clone(),
    }
}

fn zone(report: &ZoneReport) -> ZoneStatus {
    ZoneStatus {
        key: report.key.to_string(),
        zone_name: report.zone_name.clone(),
        serial: report.published.map(|published| published.serial.get()),
        digest: report.published.map(|published| published.digest.to_string()),
        records: report.published.map_or(0, |published| published.records),
        servers: InSync { desired: report.desired, in_sync: report.in_sync },
        lagging: report.lagging.iter().take(NAMED).map(|(server, _)| server.to_string()).collect(),
        conditions: conditions::zone_conditions(report).iter().map(condition).collect(),
    }
}

fn records(snapshot: &Snapshot) -> Vec<ObjectStatus> {
    let remarks = snapshot.remarks.iter().map(|(key, verdict)| ObjectStatus {
        kind: key.kind.to_string(),
        key: key.key.to_string(),
        conditions: vec![condition(&conditions::record_accepted(verdict))],
    });
    remarks.collect()
}

fn condition(verdict: &Condition) -> ConditionStatus {
    ConditionStatus {
        kind: verdict.condition.as_str().to_owned(),
        status: verdict.status.as_str().to_owned(),
        reason: verdict.reason.as_str().to_owned(),
        message: verdict.message.clone(),
    }
}
