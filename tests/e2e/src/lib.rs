//! What the tests on a real cluster share: the operator, the objects most of them begin with, the eight record types.
//!
//! `tests/together` has the promises that are tested side by side, `tests/alone` the failures that concern everybody:
//! of the operator, the API server, a node. One file each.

mod addresses;
mod dnsperf;
pub mod document;
mod load;
mod nodes;
mod operator;
mod records;
mod sources;
mod volumes;

use std::collections::BTreeMap;
use std::ops::Range;

use anyhow::{Context, Result, ensure};
use bindy_testing::checker::Published;
use bindy_testing::cluster::{Namespace, Server};
use bindy_testing::manifest::{a, instance, zone};
use bindy_zone::{Name, OwnerName, Rdata, Rtype, Version};
use futures::{StreamExt, TryStreamExt, stream};
use kube::ResourceExt;
use kube::api::PostParams;
use serde_json::json;

pub use addresses::{addresses_in, addresses_told};
pub use dnsperf::{Count, Dnsperf};
pub use load::{Clients, Load, Tally, Way};
pub use nodes::{drain, one_and_others, taint, uncordon, untaint};
pub use operator::{Alone, Direction, Operator, SHORT_LEASE, alone};
pub use records::{ALL_TYPES, Record};
pub use sources::until_live;
pub use volumes::{make_volumes, remove_volumes, served_with_volumes, storage, volume_directory};

/// The zone of most tests, and the name of its object.
pub const ZONE: (&str, &str) = ("example-com", "example.com");
/// A record in it that no test changes.
pub const STEADY: &str = "steady.example.com";
/// Its address.
pub const STEADY_ADDRESS: &str = "192.0.2.250";
/// What probers ask in most tests.
pub const STEADY_QUESTIONS: [(&str, Rtype); 2] = [(STEADY, Rtype::A), (ZONE.1, Rtype::SOA)];

/// Creations that are under way at once.
const AT_ONCE: usize = 16;

/// Serves the zone with its steady record on an instance `primary` with so many servers, and waits until everything is
/// ready. Returns the servers.
pub async fn served(namespace: &Namespace, replicas: u32) -> Result<Vec<Server>> {
    served_by(namespace, &instance("primary", "primary", replicas, &[]), replicas).await
}

/// The same on an instance `primary` that is written like this.
pub async fn served_by(namespace: &Namespace, instance: &str, replicas: u32) -> Result<Vec<Server>> {
    let steady = a("steady", ZONE.0, "steady", STEADY_ADDRESS);
    namespace.serve(&(instance.to_owned() + &zone(ZONE.0, ZONE.1) + &steady)).await?;
    namespace.answers(STEADY, Rtype::A, &[STEADY_ADDRESS]).await?;
    namespace.until_ready("primary", replicas.try_into()?, &[]).await
}

/// Makes zones `zone-N.example`, several at once, as fast as the API server takes them.
pub async fn create_zones(namespace: &Namespace, numbers: Range<usize>) -> Result<()> {
    let api = namespace.api("DNSZone");
    let creations = numbers.map(|number| {
        let api = api.clone();
        async move {
            let object = json!({
                "apiVersion": "bindy.firestoned.io/v1beta1", "kind": "DNSZone",
                "metadata": {"name": format!("zone-{number}")}, "spec": {"zoneName": format!("zone-{number}.example")},
            });
            let object = serde_json::from_value(object)?;
            api.create(&PostParams::default(), &object).await.context("creating a zone").map(drop)
        }
    });
    stream::iter(creations).buffer_unordered(AT_ONCE).try_collect().await
}

/// The texts of an RRset in a version, sorted.
pub fn texts_in(version: &Version, name: &str, rtype: Rtype) -> Result<Vec<String>> {
    let owner = OwnerName::parse(name, version.content.apex())?;
    let rrset = version.content.get(&owner).and_then(|rrsets| rrsets.get(rtype));
    let texts = |set: bindy_zone::RrSet<'_>| -> Vec<String> {
        set.rdatas().map(|rdata| Rdata::from_canonical(rdata).display(rtype).to_string()).collect()
    };
    let mut texts = rrset.map(texts).unwrap_or_default();
    texts.sort();
    Ok(texts)
}

/// The only version of a zone among the published ones.
pub fn version_of<'a>(published: &'a Published, zone: &str) -> Result<&'a Version> {
    let versions = published.get(&Name::parse(zone)?).with_context(|| format!("{zone} is not published"))?;
    ensure!(versions.len() == 1, "{zone} has {} versions", versions.len());
    versions.first().context("no version")
}

/// The version of every object of these kinds, which changes with every write that changes anything.
pub async fn versions(namespace: &Namespace, kinds: &[&str]) -> Result<BTreeMap<String, Option<String>>> {
    let mut found = BTreeMap::new();
    for kind in kinds {
        for object in namespace.list(kind).await? {
            found.insert(format!("{kind} {}", object.name_any()), object.metadata.resource_version);
        }
    }
    Ok(found)
}

/// Adds what is published now to what was published before.
pub fn add_versions(published: &mut Published, now: Published) {
    for (zone, versions) in now {
        let known = published.entry(zone).or_default();
        for version in versions {
            if known.last() != Some(&version) {
                known.push(version);
            }
        }
    }
}
