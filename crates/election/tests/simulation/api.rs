//! The API server: one Lease with resourceVersions, its history for stale reads, and people who edit it. Beside it one
//! object that leaders write, with the same precondition.

use std::sync::Arc;
use std::time::Duration;

use bindy_election::candidate::{Answer, Failure, Request};
use bindy_election::{Holder, Observed, Record, Version};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use rand::Rng;
use rand::rngs::StdRng;

/// States that a stale read or a person may bring back.
const HISTORY: usize = 8;

#[derive(Default)]
pub struct Api {
    pub lease: Option<Observed>,
    pub history: Vec<Observed>,
    counter: u64,
    uid: u64,
    /// What leaders write: its version, and the ordinal of the term that wrote it last.
    pub version: u64,
    pub written_by: u64,
    /// The lease was deleted or its number edited since the last term began.
    pub numbers_lost: bool,
}

impl Api {
    pub fn carry_out(&mut self, request: Request) -> Answer {
        match request {
            Request::Get => Ok(self.lease.clone()),
            Request::Create(_) if self.lease.is_some() => Err(Failure::Conflict),
            Request::Create(record) => {
                self.uid += 1;
                Ok(Some(self.store(record)))
            }
            Request::Update(record, version) => match &self.lease {
                None => Err(Failure::Absent),
                Some(lease) if lease.version != version => Err(Failure::Conflict),
                Some(_) => Ok(Some(self.store(record))),
            },
        }
    }

    fn store(&mut self, record: Record) -> Observed {
        self.counter += 1;
        let version = Version::new(ObjectMeta {
            uid: Some(self.uid.to_string()),
            resource_version: Some(self.counter.to_string()),
            ..ObjectMeta::default()
        });
        let lease = Observed { record, version };
        self.lease = Some(lease.clone());
        if self.history.len() == HISTORY {
            self.history.remove(0);
        }
        self.history.push(lease.clone());
        lease
    }

    /// What a person does. `kubectl delete`, `kubectl edit`, and putting back what was saved.
    pub fn edit(&mut self, random: &mut StdRng) {
        let Some(lease) = self.lease.clone() else { return };
        let mut record = lease.record;
        match random.random_range(0..8) {
            0 | 1 => {
                self.lease = None;
                self.numbers_lost = true;
                return;
            }
            2 => record.holder = Holder::Vacant,
            3 => record.holder = Holder::Held { identity: Arc::from("somebody-else"), process: None },
            4 => {
                record.term = random.random_range(0..40);
                self.numbers_lost = true;
            }
            5 => record.duration = Duration::from_secs(random.random_range(0..20)),
            6 => {
                let copy = random.random_range(0..self.history.len());
                let copy = &self.history[copy].record;
                // A copy of a released lease says that it is free: see `a_copy_of_a_released_lease…` for that.
                if copy.holder == Holder::Released {
                    return;
                }
                record = copy.clone();
                self.numbers_lost = true;
            }
            // A label.
            _ => {}
        }
        self.store(record);
    }

    /// A write of a leader. The precondition is all that keeps a late one out.
    pub fn write(&mut self, expected: u64, ordinal: u64) {
        if self.version != expected {
            return;
        }
        assert!(
            ordinal >= self.written_by,
            "a write of term {ordinal} was accepted after one of {}",
            self.written_by
        );
        self.version += 1;
        self.written_by = ordinal;
    }
}
