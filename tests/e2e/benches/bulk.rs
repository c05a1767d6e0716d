//! A thousand records made as fast as the API server takes them: `cargo xtask bench bulk`.
//!
//! `served_after_last_create_s`: from the answer to the last creation until both pods give the right answer for every
//! record. `writes_per_record`: what the operator wrote to objects of Bindy until all records were told that they are
//! Ready, and ten seconds on, for each record; counted by the API server.

#![allow(clippy::indexing_slicing, reason = "a bench fails loudly")]

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::Result;
use bindy_testing::cluster::{LIMIT, Namespace, Request, in_namespace, is_ready};
use bindy_testing::figures::{arrival, report};
use bindy_testing::manifest::{instance, zone};
use bindy_zone::{Name, Rtype};
use futures::{StreamExt, TryStreamExt, stream};
use kube::api::{DynamicObject, PostParams};
use serde_json::json;

const RECORDS: u32 = 1000;
/// Creations under way at once.
const CREATIONS: usize = 16;
/// Writes may come this long after everybody was told.
const AFTER: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> Result<()> {
    in_namespace("bench-bulk", async |namespace| {
        namespace.serve(&(instance("primary", "primary", 2, &[]) + &zone("bench", "bulk.example"))).await?;
        let pods = namespace.until_ready("primary", 2, &[]).await?;
        let pods: Vec<SocketAddr> = pods.iter().map(|pod| pod.dns()).collect();
        let before = namespace.cluster().requests().await?;
        let begun = Instant::now();
        stream::iter(0..RECORDS)
            .map(|n| create(namespace, n))
            .buffer_unordered(CREATIONS)
            .try_collect::<()>()
            .await?;
        let created = begun.elapsed();
        let last = Instant::now();
        for n in 0..RECORDS {
            let address = address(n);
            let is_right = |answer: &bindy_testing::dns::Answer| {
                answer.records.iter().any(|record| record.rdata[..] == address.octets())
            };
            let name = Name::parse(&format!("host-{n}.bulk.example"))?;
            arrival(&pods, &name, Rtype::A, is_right, LIMIT).await?;
        }
        let (n, count) = (RECORDS as usize, f64::from(RECORDS));
        report("bulk", "served_after_last_create_s", last.elapsed().as_secs_f64(), "s", n);
        report("bulk", "creations_per_s", count / created.as_secs_f64(), "1/s", n);
        namespace
            .until_all("ARecord", "every record to be Ready", |records| {
                records.values().try_for_each(is_ready)
            })
            .await?;
        report("bulk", "told_after_last_create_s", last.elapsed().as_secs_f64(), "s", n);
        tokio::time::sleep(AFTER).await;
        let written = namespace.cluster().requests().await?.since(&before);
        let written = written.only(|request| request.is_of_bindy() && request.is_write());
        // The creations are ours.
        let own = written.clone().only(|request: &Request| request.verb == "POST").count();
        report("bulk", "writes_per_record", (written.count() - own) as f64 / count, "1", n);
        Ok(())
    })
    .await
}

fn address(n: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0a00_0000 + n)
}

async fn create(namespace: &Namespace, n: u32) -> Result<()> {
    let (name, address) = (format!("host-{n}"), address(n).to_string());
    let object = json!({
        "apiVersion": "bindy.firestoned.io/v1beta1", "kind": "ARecord", "metadata": {"name": name},
        "spec": {"zoneRef": "bench", "name": name, "ipv4Addresses": [address]},
    });
    let object: DynamicObject = serde_json::from_value(object)?;
    namespace.api("ARecord").create(&PostParams::default(), &object).await?;
    Ok(())
}
