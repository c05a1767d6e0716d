//! A thousand records made as fast as the API server takes them: `cargo xtask bench bulk`.
//!
//! `served_after_last_create_s`: from the response to the last creation until both servers have answered each of the
//! thousand names. `writes_per_record`: writes of status until all of them are ready, by the API server's own count.

use std::net::SocketAddr;
use std::time::Instant;

use anyhow::{Context, Result};
use bindy_testing::cluster::{LIMIT, Server, in_namespace, is_ready};
use bindy_testing::dns::Answer;
use bindy_testing::figures::{arrival, report};
use bindy_testing::manifest::{instance, zone};
use bindy_zone::{Name, Rtype};
use futures::{StreamExt, TryStreamExt, stream};
use kube::api::PostParams;
use serde_json::json;

const RECORDS: u32 = 1_000;
const AT_ONCE: usize = 16;
const BENCH: &str = "bulk";

#[tokio::main]
async fn main() -> Result<()> {
    in_namespace("bench-bulk", async |namespace| {
        namespace.serve(&(instance("primary", "primary", 2, &[]) + &zone("bench", "bench.example"))).await?;
        let servers = namespace.until_ready("primary", 2, &[]).await?;
        namespace.contents_are_published().await?;
        let before = namespace.cluster().requests().await?;

        let api = namespace.api("ARecord");
        let begun = Instant::now();
        let creations = (0..RECORDS).map(|n| {
            let api = api.clone();
            async move {
                let record = json!({
                    "apiVersion": "bindy.firestoned.io/v1beta1", "kind": "ARecord",
                    "metadata": {"name": format!("host-{n}")},
                    "spec": {"zoneRef": "bench", "name": format!("host-{n}"), "ipv4Addresses": ["192.0.2.1"]},
                });
                let record = serde_json::from_value(record)?;
                api.create(&PostParams::default(), &record).await.context("creating a record").map(drop)
            }
        });
        stream::iter(creations).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
        let (last, creating) = (Instant::now(), begun.elapsed());
        let addresses: Vec<SocketAddr> = servers.iter().map(Server::dns).collect();
        for n in 0..RECORDS {
            let name = Name::parse(&format!("host-{n}.bench.example"))?;
            let is_right = |answer: &Answer| answer.records.iter().any(|one| one.rdata[..] == [192, 0, 2, 1]);
            arrival(&addresses, &name, Rtype::A, is_right, LIMIT).await?;
        }
        let served = last.elapsed();

        namespace
            .until_all("ARecord", ("all records to be ready", LIMIT), |records| {
                records.values().try_for_each(is_ready)
            })
            .await?;
        namespace.ready("DNSZone", "bench").await?;
        let writes = namespace.cluster().requests().await?.since(&before);
        let writes = writes.only(|one| one.is_write() && one.is_of_bindy() && one.subresource == "status");
        let count = usize::try_from(RECORDS)?;
        report(BENCH, "served_after_last_create_s", served.as_secs_f64(), "s", count);
        report(BENCH, "writes_per_record", writes.count() as f64 / f64::from(RECORDS), "", count);
        report(BENCH, "creations_per_s", f64::from(RECORDS) / creating.as_secs_f64(), "1/s", count);
        Ok(())
    })
    .await
}
