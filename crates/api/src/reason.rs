//! The closed list of reasons: one table with what each means and what a person does about it.
//!
//! Conditions, Events and metrics take their reasons from here and nowhere else, and the reference is generated from
//! the same rows.

use std::fmt;
use std::str::FromStr;

/// A string that is no reason of this list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a known reason")]
pub struct UnknownReason(pub String);

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident: $seen:literal, $meaning:literal, $remedy:literal;)+) => {
        /// Why a condition has its status.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $(#[doc = $meaning] $name,)+
        }

        impl Reason {
            /// Every reason, in the order of the reference.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The reason as it is written in a condition.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)+ }
            }

            /// The condition, its status and the kinds it is seen on, for the reference.
            #[must_use]
            pub const fn seen(self) -> &'static str {
                match self { $(Self::$name => $seen,)+ }
            }

            /// What it means.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => $meaning,)+ }
            }

            /// What to do about it.
            #[must_use]
            pub const fn remedy(self) -> &'static str {
                match self { $(Self::$name => $remedy,)+ }
            }
        }
    };
}

reasons! {
    Accepted: "Accepted=True on all kinds",
        "The input is valid and in effect.",
        "Nothing to do.";
    TtlMismatch: "Accepted=True on records",
        "Other objects give records of the same name and type another TTL; the lowest is served for all of them (RFC 2181 section 5.2).",
        "Give all objects of this name and type the same ttl.";
    TargetWithoutAddress: "Accepted=True on NSRecords and DNSZones",
        "A name server inside the zone has no address there, so resolvers cannot reach it by this name.",
        "Add an ARecord or AAAARecord for the name server, or ipv4Address or ipv6Address in spec.nameServers.";
    Occluded: "Accepted=False on records",
        "The name is at or below a delegation, or below a DNAME: resolvers are sent elsewhere and never see this record.",
        "Put the record into the delegated zone, or remove the NSRecord that delegates it; rename it, or remove the DNAME.";
    InvalidName: "Accepted=False on all kinds",
        "A name cannot be used: it is no domain name (label over 63 octets, name over 255, empty label, character that needs an escape), ends in the zone's name without a final dot, has a `*` that is not its first label, or is that of an NSRecord and has one.",
        "Correct the name that the message quotes.";
    OutOfZone: "Accepted=False on records",
        "The absolute name in spec.name is not in the record's zone.",
        "Write the name relative to the zone, or refer to the zone that it is in.";
    InvalidData: "Accepted=False on all kinds",
        "A field has a value that cannot be used.",
        "Correct the field that the message names.";
    Unreadable: "Accepted=False on all kinds",
        "The object cannot be decoded. What was served of it before is still served.",
        "Correct the field that the message names; compare with kubectl explain.";
    Conflict: "Accepted=False on records and DNSZones",
        "Another, older object claims the same: a CNAME beside other data, two CNAMEs of one name, or one zone name in two DNSZones on one server. Or an instance pulls a zone of that name from outside (spec.upstreams).",
        "Remove or rename this object or the older one that the message names, or take the zone out of spec.upstreams.";
    TooManyRecords: "Accepted=False on records",
        "The records of this name and type would be more than 1000, or more than 48000 octets. Those of older objects are served; those of this one are not, also if they were before.",
        "Spread the data over several names, or remove some of it.";
    ZoneNotFound: "Accepted=False on records",
        "No zone takes this record: spec.zoneRef names no DNSZone of this namespace, or is absent and no zone selects the record.",
        "Correct spec.zoneRef, create the DNSZone, or label the record so that a zone's recordsFrom selects it.";
    ZoneNotAccepted: "Accepted=False on records",
        "The record's zone is itself not accepted.",
        "See the Accepted condition of the DNSZone that the message names.";
    ZoneFileMissing: "Accepted=False on DNSZones, and Ready=False on new ones",
        "A ConfigMap or key of spec.zoneFilesFrom does not exist, or the ConfigMap lacks the label bindy.firestoned.io/zone-file. What was served of the file before is still served; a zone that was never served is not served without it.",
        "Create it, label it with bindy.firestoned.io/zone-file: \"true\", or remove the entry from spec.zoneFilesFrom.";
    InvalidZoneFile: "Accepted=False on DNSZones, and Ready=False on new ones",
        "A zone file has an error at the line that the message names. What was last good of this file is still served; a zone that was never served is not served without it.",
        "Correct the line; named-checkzone helps.";
    NoInstances: "Ready=False on DNSZones and records",
        "No Bind9Instance serves the zone: the namespace has none, or none matches spec.bind9InstancesFrom.",
        "Create a Bind9Instance, or correct the selectors.";
    NameTaken: "Accepted=False on Bind9Instances",
        "An object that the instance needs has the name of one that Bindy did not make. That one is left alone.",
        "Delete or rename the object that the message names, or give the instance another name.";
    WorkloadRefused: "Ready=False on Bind9Instances",
        "The cluster does not take an object of the instance, changes or removes it again, or cannot make its pods.",
        "See the message; it quotes the API server (a quota, an admission policy, a missing right).";
    WorkloadPending: "Ready=False on Bind9Instances",
        "An object of the instance cannot be made yet.",
        "Wait; it is tried again by itself.";
    UpstreamNotFound: "Accepted=False on Bind9Instances",
        "An instance in spec.upstreams does not exist, or a secondary has no primary in its namespace to pull from. Its servers go on with what they have.",
        "Correct the name, or create the instance.";
    UpstreamLoop: "Accepted=False on Bind9Instances",
        "The instances in spec.upstreams lead back to this one, so no version could ever arrive.",
        "Remove one upstream of the loop that the message spells out.";
    Paused: "Ready=Unknown on Bind9Instances, DNSZones and their records",
        "spec.paused is set, and there are changes, which wait: the last version is served, and settings stay as they were.",
        "Set spec.paused to false to continue.";
    Held: "Held=True on DNSZones and Bind9Instances, Ready=False on DNSZones and their records",
        "The change would remove an unusually large part at once. The last good version is served.",
        "Undo the removal, or confirm it with the annotation bindy.firestoned.io/release set to the version that the message names.";
    Publishing: "Ready=False on DNSZones and records",
        "A new version is being made and its serial recorded.",
        "Wait; this takes milliseconds unless the store of serials cannot be written.";
    Propagating: "Ready=False on DNSZones and records",
        "The version is published; the servers that the message counts have not answered it yet.",
        "Wait; if it lasts, see the condition Degraded of the DNSZone for the servers that lag.";
    Served: "Ready=True on DNSZones and records",
        "Every server that was ready answered this version, and at least one of each instance.",
        "Nothing to do.";
    ServersReady: "Ready=True on Bind9Instances",
        "As many servers as asked for are ready.",
        "Nothing to do.";
    ServersStarting: "Ready=False on Bind9Instances",
        "Servers are starting, loading their zones for the first time, or have not taken new settings yet.",
        "Wait; a server is ready once it has loaded every zone, and settings reach servers that run within seconds, at most two minutes.";
    ServersFailing: "Ready=False and Degraded=True on Bind9Instances",
        "Pods of the instance cannot run: no node takes them, their image cannot be pulled, a container ends again and again or is not ready two minutes after its start, or their node is lost and they have storage. A roll-out waits at the first such pod; the others go on serving.",
        "See the message; correct spec.image, spec.version, spec.resources, spec.placement or spec.storage, make room, or say that the node is lost for good.";
    ConfigRefused: "Ready=False and Degraded=True on Bind9Instances",
        "BIND, or an agent, does not take the settings of this generation, and goes on with those before.",
        "See the message, which quotes it; for BIND correct spec.config, or use an image of BIND 9.18.28 or later; for an agent delete its pods, one after the other.";
    ServersMisplaced: "Degraded=True on Bind9Instances",
        "Servers are not where the instance asks for: outside of its region, on a node that lacks a label of nodeSelector, or more of them in a zone, by two, than in another that has room (on a node, where nodes are in no zone). There was no room when they were made, or nodes have changed.",
        "Make room, and delete one pod after the other of those that the message names, or that share the place; Kubernetes moves no pod that runs.";
    ServerLagging: "Degraded=True on DNSZones and Bind9Instances",
        "The servers that the message names do not answer the published version.",
        "See the logs of their agents; a server that cannot reach any source catches up as soon as it can.";
    AllInSync: "Held=False and Degraded=False on all kinds that have them",
        "Everything is as published.",
        "Nothing to do.";
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Reason {
    type Err = UnknownReason;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .iter()
            .copied()
            .find(|reason| reason.as_str() == text)
            .ok_or_else(|| UnknownReason(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_found_by_its_name() {
        for reason in Reason::ALL {
            assert_eq!(reason.as_str().parse(), Ok(*reason));
        }
        assert_eq!("Nonsense".parse::<Reason>(), Err(UnknownReason("Nonsense".to_owned())));
    }

    #[test]
    fn every_reason_says_in_sentences_what_it_means_and_what_to_do() {
        for reason in Reason::ALL {
            for text in [reason.meaning(), reason.remedy()] {
                assert!(text.ends_with('.') && text.len() > 10, "{reason}: {text:?}");
            }
            assert!(reason.seen().contains('='), "{reason} names no condition");
        }
    }
}
