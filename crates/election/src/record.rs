//! What a Lease says, without any time: the clocks of other machines are not looked at.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// One run of a program. A pod's name can be that of two processes: a container that was restarted, or a pod that was
/// deleted by force from a node that nobody reaches and still runs there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Process(u128);

impl Process {
    /// A process that is told apart from every other by 128 random bits.
    pub fn random() -> std::io::Result<Self> {
        let mut octets = [0; 16];
        let mut filled = 0;
        while let Some(rest) = octets.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            filled += rustix::rand::getrandom(rest, rustix::rand::GetRandomFlags::empty())?;
        }
        Ok(Self(u128::from_le_bytes(octets)))
    }

    /// Another one of the same process, for its next acquisition.
    #[must_use]
    pub(crate) const fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }

    /// For simulations, which have to be repeatable.
    #[must_use]
    pub const fn from_number(number: u128) -> Self {
        Self(number)
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for Process {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u128::from_str_radix(text, 16).map(Self)
    }
}

/// Who has the lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// Somebody.
    Held {
        /// `spec.holderIdentity`.
        identity: Arc<str>,
        /// Which process of that name; unknown when another program wrote the lease.
        process: Option<Process>,
    },
    /// Nobody: the last holder had ended all that it did under its term, and said so.
    Released,
    /// Nobody is named. It is new, or somebody has edited it: its last holder may still be at work.
    Vacant,
}

/// The part of a Lease that decides who leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Who has it.
    pub holder: Holder,
    /// `spec.leaseTransitions`: the number of the last term.
    pub term: u64,
    /// `spec.leaseDurationSeconds`; zero when it is absent or makes no sense.
    pub duration: Duration,
}

/// One state of one Lease object: its metadata, of which UID and resourceVersion tell states apart. The rest is
/// carried so that an update keeps labels and annotations of others.
#[derive(Clone, Debug)]
pub struct Version(Arc<ObjectMeta>);

impl Version {
    /// The state with this metadata.
    #[must_use]
    pub fn new(metadata: ObjectMeta) -> Self {
        Self(Arc::new(metadata))
    }

    /// The object's metadata in this state.
    #[must_use]
    pub fn metadata(&self) -> &ObjectMeta {
        &self.0
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        (&self.0.uid, &self.0.resource_version) == (&other.0.uid, &other.0.resource_version)
    }
}

impl Eq for Version {}

/// A Lease as it was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// What it says.
    pub record: Record,
    /// Which state of which object.
    pub version: Version,
}
