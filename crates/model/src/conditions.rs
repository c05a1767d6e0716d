//! From what is the case to the conditions that objects are told: one place for every reason.

use bindy_api::{ConditionType, Reason, Verdict as Condition};
use bindy_zone::NameError;

use crate::core::{InstanceReport, ServerReport, ZoneReport};
use crate::fleet::FleetProblem;
use crate::publication::Hold;
use crate::verdict::{Refusal, Verdict, ZoneProblem};

use ConditionType::{Accepted, Degraded, Held, Ready};

/// Accepted of a record.
pub fn record_accepted(verdict: &Verdict) -> Condition {
    match verdict {
        Verdict::Accepted => Condition::yes(Accepted, Reason::Accepted, "the record is part of its zone"),
        Verdict::LowerTtl { wished, served } => Condition::yes(
            Accepted,
            Reason::TtlMismatch,
            format!(
                "served with a TTL of {served} instead of {wished}, which other objects of this name and type ask for"
            ),
        ),
        Verdict::TargetWithoutAddress(name) => Condition::yes(
            Accepted,
            Reason::TargetWithoutAddress,
            format!("{name} is within the zone and has no address: create an ARecord or AAAARecord for it"),
        ),
        Verdict::Refused(refusal) => Condition::no(Accepted, refusal_reason(refusal), refusal.to_string()),
    }
}

/// Accepted and Ready of a record. `proven`: every server that had to was seen to serve this generation; `zones` are the
/// states of the zones that want it.
pub fn record_conditions(verdict: &Verdict, proven: bool, zones: &[ZoneReport]) -> Vec<Condition> {
    let accepted = record_accepted(verdict);
    let no = |reason, message: &str| Condition::no(Ready, reason, message.to_owned());
    let unready = zones.iter().find_map(record_unready);
    let ready = match (verdict, unready) {
        (Verdict::Refused(Refusal::InZone { .. }), _) => {
            no(accepted.reason, "not served by every zone that wants it: see the condition Accepted")
        }
        (Verdict::Refused(_), _) => no(accepted.reason, "not served: see the condition Accepted"),
        _ if proven => Condition::yes(Ready, Reason::Served, "every server that was ready answered it"),
        (_, Some(unready)) => unready,
        (_, None) => no(Reason::Propagating, "not every server was seen to answer it yet"),
    };
    vec![accepted, ready]
}

/// What keeps every record of a zone from being served.
fn record_unready(zone: &ZoneReport) -> Option<Condition> {
    if zone.hold.is_some() {
        let message = format!("changes of DNSZone {} are held: see its condition Held", zone.key);
        return Some(Condition::no(Ready, Reason::Held, message));
    }
    let ready = zone_ready(zone);
    let message = format!("DNSZone {}: {}", zone.key, ready.message);
    (ready.reason != Reason::Served).then_some(Condition { message, ..ready })
}

fn refusal_reason(refusal: &Refusal) -> Reason {
    match refusal {
        Refusal::Name(NameError::OutOfZone { .. }) => Reason::OutOfZone,
        Refusal::Name(_)
        | Refusal::AmbiguousName { .. }
        | Refusal::InnerWildcard
        | Refusal::WildcardDelegation => Reason::InvalidName,
        Refusal::Target { .. }
        | Refusal::Data(_)
        | Refusal::Invalid(_)
        | Refusal::Ttl(_)
        | Refusal::AtApex(_) => Reason::InvalidData,
        Refusal::Conflict { .. } => Reason::Conflict,
        Refusal::RrSetTooLarge { .. } => Reason::TooManyRecords,
        Refusal::Occluded { .. } | Refusal::BelowDname { .. } => Reason::Occluded,
        Refusal::NoZone(_) => Reason::ZoneNotFound,
        Refusal::ZoneRefused(_) => Reason::ZoneNotAccepted,
        Refusal::InZone { refusal, .. } => refusal_reason(refusal),
    }
}

/// Accepted, Ready, Held and Degraded of a DNSZone.
pub fn zone_conditions(report: &ZoneReport) -> Vec<Condition> {
    vec![
        zone_accepted(report),
        zone_ready(report),
        held(report.hold.as_ref(), "records"),
        zone_degraded(report),
    ]
}

fn zone_accepted(report: &ZoneReport) -> Condition {
    // A zone that came before its instance is as valid as after it.
    let refusal = report.refusal.iter().filter(|refusal| !matches!(refusal, ZoneProblem::NoInstances(_)));
    let problems: Vec<&ZoneProblem> = refusal.chain(&report.problems).collect();
    let all = || problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    let mut reasons = problems.iter().map(|problem| problem_reason(problem));
    // A zone whose name server lacks an address is served all the same.
    match reasons.find(|reason| *reason != Reason::TargetWithoutAddress) {
        Some(reason) => Condition::no(Accepted, reason, all()),
        None if problems.is_empty() => Condition::yes(Accepted, Reason::Accepted, "the zone is valid"),
        None => Condition::yes(Accepted, Reason::TargetWithoutAddress, all()),
    }
}

fn problem_reason(problem: &ZoneProblem) -> Reason {
    match problem {
        ZoneProblem::Unreadable(_) => Reason::Unreadable,
        ZoneProblem::Name(_) | ZoneProblem::Root | ZoneProblem::Catalog(_) => Reason::InvalidName,
        ZoneProblem::Target { .. } => Reason::InvalidData,
        ZoneProblem::Claimed { .. } | ZoneProblem::FromOutside { .. } => Reason::Conflict,
        ZoneProblem::NoInstances(_) => Reason::NoInstances,
        ZoneProblem::ServerWithoutAddress(_) => Reason::TargetWithoutAddress,
        ZoneProblem::FileMissing(..) => Reason::ZoneFileMissing,
        ZoneProblem::File { .. } | ZoneProblem::FileRecord { .. } => Reason::InvalidZoneFile,
    }
}

fn zone_ready(report: &ZoneReport) -> Condition {
    let no = |reason, message: String| Condition::no(Ready, reason, message);
    if let Some(refusal) = &report.refusal {
        return no(problem_reason(refusal), refusal.to_string());
    }
    if report.hold.is_some() {
        return no(Reason::Held, "the last good version is served: see the condition Held".to_owned());
    }
    if report.paused && report.pending {
        return Condition::unknown(Ready, Reason::Paused, "changes wait until spec.paused is false");
    }
    let mut problems = report.problems.iter();
    if report.published.is_none()
        && let Some(problem) = problems
            .find(|problem| matches!(problem, ZoneProblem::FileMissing(..) | ZoneProblem::File { .. }))
    {
        return no(
            problem_reason(problem),
            format!("nothing is published before all zone files can be read: {problem}"),
        );
    }
    let Some(published) = report.published.filter(|_| report.proven || !report.pending) else {
        return no(Reason::Publishing, "a version with the latest changes is being published".to_owned());
    };
    // The serial is in the status beside: here it would make every change of a record a change of the conditions.
    match (&report.unserving, report.proven) {
        (None, true) => Condition::yes(Ready, Reason::Served, "every instance of the zone answers with it"),
        (Some(instance), _) => no(
            Reason::Propagating,
            format!("no ready server of Bind9Instance {instance} has the published version"),
        ),
        (None, false) => {
            let (in_sync, desired, serial) = (report.in_sync, report.desired, published.serial);
            no(Reason::Propagating, format!("serial {serial} is served by {in_sync} of {desired} servers"))
        }
    }
}

fn zone_degraded(report: &ZoneReport) -> Condition {
    let failing = report.lagging.iter().find_map(|(server, failure)| Some((server, failure.as_ref()?)));
    match failing {
        Some((server, failure)) => {
            let message =
                format!("{} of {} servers lag; {server}: {failure}", report.lagging.len(), report.desired);
            Condition::yes(Degraded, Reason::ServerLagging, message)
        }
        None => Condition::no(Degraded, Reason::AllInSync, "no server is known to lag"),
    }
}

fn held(hold: Option<&Hold>, what: &str) -> Condition {
    match hold {
        Some(Hold { version, removed, of }) => Condition::yes(
            Held,
            Reason::Held,
            format!(
                "{removed} of {of} {what} would be removed at once. If that is meant, annotate the object with {}={version}; \
                 if not, bring them back",
                bindy_api::RELEASE_ANNOTATION
            ),
        ),
        None => Condition::no(Held, Reason::AllInSync, "no change is held back"),
    }
}

/// Accepted, Ready, Held and Degraded of a Bind9Instance. `servers` are those of this instance, `replicas` how many there should be.
pub fn instance_conditions(
    report: &InstanceReport,
    servers: &[ServerReport],
    replicas: usize,
) -> Vec<Condition> {
    let accepted = match &report.problem {
        None => Condition::yes(Accepted, Reason::Accepted, "the instance is valid"),
        Some(problem) => Condition::no(Accepted, fleet_reason(problem), problem.to_string()),
    };
    let ready = servers.iter().filter(|server| server.ready).count();
    let message = match replicas {
        0 => "there is no server, as spec.replicas asks: none of its zones is answered here".to_owned(),
        _ => format!("{ready} of {replicas} servers are ready"),
    };
    let ready = if report.waits {
        let message = format!("{message}; zones that come or go wait until spec.paused is false");
        Condition::unknown(Ready, Reason::Paused, message)
    } else if ready >= replicas {
        Condition::yes(Ready, Reason::ServersReady, message)
    } else {
        Condition::no(Ready, Reason::ServersStarting, message)
    };
    vec![accepted, ready, held(report.hold.as_ref(), "zones"), instance_degraded(servers)]
}

fn instance_degraded(servers: &[ServerReport]) -> Condition {
    match servers.iter().find_map(|server| Some((server, server.failure.as_ref()?))) {
        Some((server, failure)) => {
            Condition::yes(Degraded, Reason::ServerLagging, format!("{}: {failure}", server.id))
        }
        None => Condition::no(Degraded, Reason::AllInSync, "no server is known to lag"),
    }
}

fn fleet_reason(problem: &FleetProblem) -> Reason {
    match problem {
        FleetProblem::UpstreamMissing(_) | FleetProblem::NoPrimary(_) => Reason::UpstreamNotFound,
        FleetProblem::Loop(_) => Reason::UpstreamLoop,
        FleetProblem::PrimaryWithUpstreams => Reason::InvalidData,
        FleetProblem::Unreadable(_) => Reason::Unreadable,
    }
}
