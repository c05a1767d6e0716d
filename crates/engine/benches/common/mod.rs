//! A world of A records whose swaps always succeed, and the allocator that its memory is measured with.

#![allow(
    clippy::print_stdout,
    unreachable_pub,
    reason = "a bench prints, and shares its parts with its neighbour"
)]

use std::time::Duration;

use bindy_api::{DataField, FieldValue, RecordKind};
use bindy_engine::Store;
use bindy_model::{
    Core, Input, Instance, Metadata, NameServer, NamespacedName, Now, Object, ObjectEvent, Output, Record,
    RecordData, Role, SoaFields, Swapped, Zone,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Records that a watch delivers at once.
const PAGE: u32 = 1_000;

/// An engine without servers: what it publishes goes into a store.
pub struct World {
    core: Core,
    store: Store,
    now: Now,
    /// Versions that were published.
    pub published: usize,
}

impl World {
    /// One primary instance, everything listed.
    pub fn new() -> Self {
        let now = Now { monotonic: Duration::ZERO, unix: 1_000 };
        let mut world = Self { core: Core::new([]), store: Store::default(), now, published: 0 };
        world.objects(vec![ObjectEvent::Applied(instance())]);
        world
    }

    /// Zones with so many records each, told as a watch delivers them: kind by kind and page by page. Nothing is compiled
    /// before [`ObjectEvent::Listed`].
    pub fn with_records(zones: u32, records: u32) -> Self {
        let mut world = Self::new();
        world.objects((0..zones).map(zone).collect());
        for n in 0..zones {
            for first in (0..records).step_by(PAGE as usize) {
                let page = first..records.min(first + PAGE);
                world.objects(page.map(|host| record(n, host, n * records + host)).collect());
            }
        }
        world
    }

    /// Takes objects in and carries out everything that follows, until nothing does.
    pub fn objects(&mut self, events: Vec<ObjectEvent>) {
        let mut outputs = self.core.step(Input::Objects(events), self.now);
        while let Some(output) = outputs.pop() {
            match output {
                Output::Swap { target, .. } => {
                    outputs.extend(self.core.step(Input::Swapped(target, Swapped::Done), self.now));
                }
                Output::Publish(target, _, version) => {
                    self.published += 1;
                    self.store.publish(target, version);
                }
                Output::Grant(target, zone, instances) => self.store.grant(&target, &zone, instances),
                Output::Retire(target) => self.store.retire(&target),
                Output::Fetch(..) | Output::CatchUp(_) | Output::Probe(..) => {}
            }
        }
        // One version of a zone a second, as its serial would have it.
        self.now.unix += 1;
    }
}

fn metadata(name: String) -> Metadata {
    Metadata {
        uid: format!("00000000-0000-4000-8000-{:012}", name.len()),
        key: NamespacedName::new("default", name),
        created: 1,
        generation: 1,
        labels: Default::default(),
        release: None,
    }
}

fn instance() -> Object {
    Object::Instance(Box::new(Instance {
        metadata: metadata("primary".to_owned()),
        replicas: 2,
        role: Role::Primary,
        upstreams: Vec::new(),
        outside: Vec::new(),
        downstreams: Default::default(),
        config: Default::default(),
        pods: Default::default(),
        paused: false,
    }))
}

/// Zone number `n`.
pub fn zone(n: u32) -> ObjectEvent {
    ObjectEvent::Applied(Object::Zone(Box::new(Zone {
        metadata: metadata(format!("zone-{n}")),
        zone_name: format!("zone-{n}.example"),
        soa: SoaFields::default(),
        ttl: None,
        name_servers: vec![NameServer { hostname: "ns.example.".to_owned(), addresses: Vec::new() }],
        records_from: Vec::new(),
        instances_from: None,
        zone_files: Vec::new(),
        paused: false,
    })))
}

/// Record `host` of zone `zone`.
pub fn record(zone: u32, host: u32, address: u32) -> ObjectEvent {
    let address = std::net::Ipv4Addr::from(address).to_string();
    let data =
        [vec![DataField { path: "spec.ipv4Addresses", index: Some(0), value: FieldValue::Ipv4(&address) }]];
    ObjectEvent::Applied(Object::Record(Record {
        metadata: metadata(format!("host-{zone}-{host}")),
        zone_ref: Some(format!("zone-{zone}")),
        name: format!("host-{host}"),
        ttl: None,
        data: RecordData::pack(RecordKind::A, &data),
    }))
}

/// Prints one result.
pub fn report(bench: &str, metric: &str, value: f64, unit: &str, n: u32) {
    println!(
        "{{\"bench\":\"{bench}\",\"metric\":\"{metric}\",\"value\":{value:.3},\"unit\":\"{unit}\",\"n\":{n}}}"
    );
}
