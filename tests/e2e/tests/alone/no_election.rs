//! Two replicas although ENABLE_LEADER_ELECTION is false: both write, and each write has its precondition, so DNS is as it
//! should be and serials only rise. The situation is logged and counted.

use anyhow::{Context, Result, ensure};
use bindy_e2e::{Operator, STEADY_QUESTIONS, ZONE, alone, served};
use bindy_testing::cluster::LIMIT;
use bindy_testing::manifest::a;
use bindy_testing::wait_for;
use bindy_zone::{Rtype, Serial};
use serde_json::Value;

const METRIC: &str = "bindy_other_writers_total ";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_without_election_harm_nothing_and_are_noticed() -> Result<()> {
    let cluster = alone().await?;
    cluster
        .in_namespace("no-election", async |namespace| {
            let operator = Operator::of(namespace.cluster());
            operator.set_env(&["ENABLE_LEADER_ELECTION=false"]).await?;
            let log = operator.log().await?;
            ensure!(log.contains("no leader election: no other replica may run"), "{log}");
            let servers = served(namespace, 1).await?;
            let published = namespace.contents_are_published().await?;
            let probes = namespace.probe(&[STEADY_QUESTIONS[0]]).await?;
            let noticed = async || {
                let (mut count, mut logged) = (0_u64, false);
                for replica in operator.replicas().await? {
                    let metrics = operator.metrics_of(&replica).await?;
                    let value = metrics.lines().find_map(|line| line.strip_prefix(METRIC)).context(METRIC)?;
                    count += value.parse::<u64>()?;
                    logged |= operator.log_of(&replica).await?.contains("another operator writes");
                }
                anyhow::Ok((count, logged))
            };
            ensure!(noticed().await? == (0, false), "one replica alone takes itself for another");

            operator.scale_unled(2).await?;
            let mut serial: Option<Serial> = None;
            for n in 1..=20 {
                let address = format!("192.0.2.{n}");
                namespace.apply(&a("edited", ZONE.0, "edited", &address)).await?;
                wait_for("the edit to be served", LIMIT, async || {
                    namespace.answers("edited.example.com", Rtype::A, &[&address]).await
                })
                .await?;
                let zone = namespace.get("DNSZone", ZONE.0).await?;
                let now = zone.data.pointer("/status/serial").and_then(Value::as_u64).context("no serial")?;
                let now = Serial::new(u32::try_from(now)?);
                ensure!(serial.is_none_or(|before| now.is_after(before)), "{serial:?} is followed by {now}");
                serial = Some(now);
            }
            namespace.ready("ARecord", "edited").await?;
            namespace.contents_are_published().await?;
            let (count, logged) = noticed().await?;
            ensure!(count > 0 && logged, "{count} versions of the other one were counted; logged: {logged}");
            probes.more_answers(&servers, 10).await?;
            probes.right(&published).await?;
            operator.scale_unled(1).await?;
            operator.direct().await
        })
        .await
}
