//! What the compiler says of an object: accepted, accepted with a remark, or refused and why.

use bindy_zone::{Name, NameError, RdataError, Rtype, Ttl, ZoneFileError};

use crate::object::NamespacedName;

/// The compiler's word on one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is part of the zone as it was written.
    Accepted,
    /// It is part of the zone with a lower TTL, since another record of its RRset asks for that.
    LowerTtl {
        /// TTL of the object.
        wished: Ttl,
        /// TTL of the RRset.
        served: Ttl,
    },
    /// It is part of the zone, but a name within the zone that it points to has no address.
    TargetWithoutAddress(Name),
    /// It is not part of the zone.
    Refused(Refusal),
}

impl Verdict {
    /// The higher, the more a person has to know of it.
    pub(crate) fn gravity(&self) -> u8 {
        match self {
            Self::Accepted => 0,
            Self::LowerTtl { .. } | Self::TargetWithoutAddress(_) => 1,
            Self::Refused(_) => 2,
        }
    }
}

impl Refusal {
    /// This refusal, of a record that other zones want too.
    pub(crate) fn in_zone(self, zone: &NamespacedName) -> Self {
        Self::InZone { zone: zone.to_string(), refusal: Box::new(self) }
    }
}

/// Why an object is left out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The owner name cannot be in the zone.
    #[error("spec.name: {0}")]
    Name(NameError),
    /// An owner name that ends in the zone's name but not in a dot.
    #[error(
        "spec.name: {written:?} ends in the zone's name without a final dot: write \"{written}.\" for the absolute name, or leave the zone's name out"
    )]
    AmbiguousName {
        /// The name as it was written.
        written: String,
    },
    /// A wildcard that no server expands.
    #[error(
        "spec.name: the label * is a wildcard only as the first label of a name (RFC 4592 section 2.1.1)"
    )]
    InnerWildcard,
    /// An NS record at a wildcard: named takes no zone that has one.
    #[error(
        "spec.name: an NS record cannot be at a wildcard (RFC 4592 section 4.2): delegate each name by itself"
    )]
    WildcardDelegation,
    /// A target is not a name.
    #[error("{field}: {error}")]
    Target {
        /// The field of the object.
        field: &'static str,
        /// What is wrong with it.
        error: NameError,
    },
    /// The data cannot be encoded.
    #[error("{0}")]
    Data(RdataError),
    /// The object's own checks refuse it.
    #[error("{0}")]
    Invalid(String),
    /// The TTL is out of range.
    #[error("spec.ttl: {0} is over 2147483647 seconds (RFC 2181 section 8)")]
    Ttl(u32),
    /// An older object wants something that excludes this one.
    #[error("{rtype} cannot be served beside {winner}, which is older: rename or delete one of them")]
    Conflict {
        /// Type that is not served.
        rtype: Rtype,
        /// The object that is served.
        winner: String,
    },
    /// The RRset would grow over the limits.
    #[error("the {rtype} RRset would have {records} records and {octets} octets; an RRset has at most {max_records} records and {max_octets} octets: use fewer or shorter ones", max_records = crate::MAX_RECORDS_PER_RRSET, max_octets = crate::MAX_RRSET_OCTETS)]
    RrSetTooLarge {
        /// Its type.
        rtype: Rtype,
        /// Records that it would have.
        records: usize,
        /// Octets of RDATA that it would have, 12 added for each record.
        octets: usize,
    },
    /// A CNAME or DNAME cannot be at the apex, where SOA and NS are.
    #[error(
        "a {0} cannot be at the apex, where SOA and NS are (RFC 1034 section 3.6.2): use the addresses themselves"
    )]
    AtApex(Rtype),
    /// Servers answer with a referral instead.
    #[error(
        "{owner} is at or below the delegation of {cut}: servers answer with a referral, so the {rtype} is never seen; put it into the delegated zone"
    )]
    Occluded {
        /// Absolute owner name.
        owner: Name,
        /// The delegated name.
        cut: Name,
        /// Type of the record.
        rtype: Rtype,
    },
    /// Servers answer with what a DNAME gives instead.
    #[error(
        "{owner} is below the DNAME of {dname}: servers answer with its target instead (RFC 6672 section 2.4), so the {rtype} is never seen; rename it, or remove the DNAME"
    )]
    BelowDname {
        /// Absolute owner name.
        owner: Name,
        /// The name that has the DNAME.
        dname: Name,
        /// Type of the record.
        rtype: Rtype,
    },
    /// No zone wants it.
    #[error("{0}")]
    NoZone(String),
    /// Of several zones that want it, this one leaves it out.
    #[error("in DNSZone {zone}: {refusal}")]
    InZone {
        /// namespace/name of the zone.
        zone: String,
        /// Why.
        refusal: Box<Refusal>,
    },
    /// Its zone is not served.
    #[error("DNSZone {0} is not accepted itself: see its conditions")]
    ZoneRefused(String),
}

/// Something about a zone that its object is told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ZoneProblem {
    /// The object cannot be read; what it said before is still in force.
    #[error("the object cannot be read, so the zone stays as it was: {0}")]
    Unreadable(String),
    /// `spec.zoneName` is no name.
    #[error("spec.zoneName: {0}")]
    Name(NameError),
    /// The root zone is not for us.
    #[error("spec.zoneName: the root zone cannot be served")]
    Root,
    /// It would be taken for the catalog of an instance.
    #[error("spec.zoneName: {0} is among the names of catalogs: choose another one")]
    Catalog(Name),
    /// A name in the specification is no name.
    #[error("{field}: {error}")]
    Target {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        error: NameError,
    },
    /// An older DNSZone has the same name on a common server.
    #[error(
        "the zone name {apex} belongs to DNSZone {winner}, which is older: use another name or other instances, or delete one of them"
    )]
    Claimed {
        /// The zone name.
        apex: Name,
        /// namespace/name of the winner.
        winner: String,
    },
    /// Servers that should serve it, or that are up or down the stream of such, have it from outside of Bindy.
    #[error(
        "Bind9Instance {instance} pulls the zone {apex} from outside of Bindy: take it out of its spec.upstreams, or have instances serve this one that have no upstream or downstream in common with it (spec.bind9InstancesFrom)"
    )]
    FromOutside {
        /// The zone name.
        apex: Name,
        /// namespace/name of the instance.
        instance: String,
    },
    /// No instance serves it.
    #[error(
        "no Bind9Instance serves this zone: create one in namespace {0}, or let spec.bind9InstancesFrom select one"
    )]
    NoInstances(String),
    /// One of its name servers is a name within it without an address; it is served all the same.
    #[error(
        "name server {0} is within the zone and has no address: give it one in spec.nameServers, or create an ARecord or AAAARecord for it"
    )]
    ServerWithoutAddress(Name),
    /// A zone file does not exist.
    #[error("spec.zoneFilesFrom: ConfigMap key {0} does not exist{kept}", kept = also_served(*.1))]
    FileMissing(String, Kept),
    /// A zone file is broken.
    #[error("spec.zoneFilesFrom: {file}: {error}{}", also_served(*.kept))]
    File {
        /// ConfigMap and key.
        file: String,
        /// What is wrong with it.
        error: ZoneFileError,
        /// Whether an earlier state of the file is served.
        kept: Kept,
    },
    /// Records of a zone file are left out.
    #[error("spec.zoneFilesFrom: {file}: {message}")]
    FileRecord {
        /// ConfigMap and key.
        file: String,
        /// Which records, and why.
        message: String,
    },
}

/// Whether records of an earlier state are still served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// The last good state is served.
    LastGood,
    /// There was no good state.
    Nothing,
}

fn also_served(kept: Kept) -> &'static str {
    match kept {
        Kept::LastGood => "; its last good records stay in the zone",
        Kept::Nothing => "",
    }
}
