//! What objects are told in their status, and the print by which it is known that they have been.
//!
//! A status is written when its print differs from that of the status that the object has, so a steady system writes
//! nothing and what somebody else changed is put right. What the ledger owns (serials, digests), times, and
//! conditions of types that are not ours are not part of the print.

use bindy_api::{
    Bind9InstanceStatus, Condition, ConditionType, DNSZoneStatus, MAX_NAMED, Object, Reason, RecordStatus,
    ServerCount, Verdict as ConditionVerdict, dated, merge_conditions,
};
use jiff::Timestamp;
use serde::Serialize;

use crate::conditions::zone_conditions;
use crate::core::ZoneReport;

/// What the status of an object says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Of everything in it that is ours to tell; 0 when there is nothing.
    pub print: u32,
    /// Ready is true and about the present generation.
    pub ready: bool,
}

impl Told {
    /// What the status of `object` says.
    pub fn by(object: &Object) -> Self {
        let generation = object.meta().generation;
        match object {
            Object::Record(record) => record.status().map(|status| Self::by_record(status, generation)),
            Object::DNSZone(zone) => zone.status.as_ref().map(|status| Self::by_zone(status, generation)),
            Object::Bind9Instance(instance) => {
                instance.status.as_ref().map(|status| Self::by_instance(status, generation))
            }
        }
        .unwrap_or_default()
    }

    /// What this status of a record of this generation says.
    pub fn by_record(status: &RecordStatus, generation: Option<i64>) -> Self {
        Self { print: record_print(status), ready: is_ready(&status.conditions, generation) }
    }

    /// What this status of a zone of this generation says.
    pub fn by_zone(status: &DNSZoneStatus, generation: Option<i64>) -> Self {
        Self { print: zone_print(status), ready: is_ready(&status.conditions, generation) }
    }

    /// What this status of an instance of this generation says.
    pub fn by_instance(status: &Bind9InstanceStatus, generation: Option<i64>) -> Self {
        Self { print: instance_print(status), ready: is_ready(&status.conditions, generation) }
    }
}

fn is_ready(conditions: &[Condition], generation: Option<i64>) -> bool {
    bindy_api::is_true(conditions, ConditionType::Ready, generation)
}

/// The status of a record.
pub(crate) fn record_status(
    zone: Option<String>,
    verdicts: &[ConditionVerdict],
    generation: u32,
) -> RecordStatus {
    let generation = Some(i64::from(generation));
    RecordStatus { observed_generation: generation, zone, conditions: timeless(verdicts, generation) }
}

/// The status of a zone, without what the ledger owns.
pub(crate) fn zone_status(report: &ZoneReport) -> DNSZoneStatus {
    let generation = Some(i64::from(report.generation));
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    DNSZoneStatus {
        observed_generation: generation,
        servers: Some(ServerCount::new(count(report.in_sync), count(report.desired))),
        lagging: report.lagging.iter().map(|(server, _)| server.to_string()).take(MAX_NAMED).collect(),
        conditions: timeless(&zone_conditions(report), generation),
        ..DNSZoneStatus::default()
    }
}

/// Conditions whose times have to be filled in when they are written.
pub fn timeless(verdicts: &[ConditionVerdict], generation: Option<i64>) -> Vec<Condition> {
    merge_conditions(&[], verdicts, generation, Timestamp::UNIX_EPOCH).conditions
}

/// The conditions of an object that cannot be decoded: as it is now it is neither accepted nor ready. The others of `old`
/// stay.
pub fn unreadable(
    old: &[Condition],
    message: &str,
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let told = [ConditionType::Accepted, ConditionType::Ready];
    let verdicts = told.map(|type_| ConditionVerdict::no(type_, Reason::Unreadable, message));
    let others = ConditionType::ALL.iter().filter(|type_| !told.contains(type_));
    let others = others.filter_map(|type_| bindy_api::condition(old, *type_)).cloned();
    dated(old, timeless(&verdicts, generation).into_iter().chain(others).collect(), now)
}

/// The print of a record's status.
pub fn record_print(status: &RecordStatus) -> u32 {
    print(&RecordStatus { conditions: ours(&status.conditions), ..status.clone() })
}

/// The print of a zone's status.
pub fn zone_print(status: &DNSZoneStatus) -> u32 {
    let status = DNSZoneStatus {
        serial: None,
        digest: None,
        records: None,
        conditions: ours(&status.conditions),
        ..status.clone()
    };
    // What the ledger alone has written tells nothing yet.
    if status == DNSZoneStatus::default() { 0 } else { print(&status) }
}

/// The print of an instance's status.
pub fn instance_print(status: &Bind9InstanceStatus) -> u32 {
    let status =
        Bind9InstanceStatus { catalog: None, conditions: ours(&status.conditions), ..status.clone() };
    if status == Bind9InstanceStatus::default() { 0 } else { print(&status) }
}

fn ours(conditions: &[Condition]) -> Vec<Condition> {
    let ours =
        ConditionType::ALL.iter().filter_map(|type_| bindy_api::condition(conditions, *type_)).cloned();
    let epoch = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::UNIX_EPOCH);
    ours.map(|condition| Condition { last_transition_time: epoch.clone(), ..condition }).collect()
}

/// FNV-1a over the JSON: the same in every run, and never 0.
fn print(status: &impl Serialize) -> u32 {
    let text = serde_json::to_vec(status).unwrap_or_default();
    let hash =
        text.iter().fold(0x811c_9dc5_u32, |hash, octet| (hash ^ u32::from(*octet)).wrapping_mul(0x0100_0193));
    hash.max(1)
}
