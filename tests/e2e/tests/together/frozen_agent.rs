//! The agent of a server is frozen: its named answers on, the server leaves the Service by its readiness and not by a lost
//! question, the status names it, and what it missed arrives when it goes on.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bindy_e2e::{Load, STEADY, STEADY_ADDRESS, STEADY_QUESTIONS, Way, ZONE, add_versions, served};
use bindy_testing::cluster::{AGENT, condition, in_namespace};
use bindy_testing::manifest::a;
use bindy_zone::Rtype;
use rustix::process::Signal;

/// How late a change may be that nobody told of.
const CATCH_UP: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_agent_costs_no_answer_and_its_server_catches_up() -> Result<()> {
    in_namespace("agent-frozen", async |namespace| {
        let servers = served(namespace, 2).await?;
        let mut published = namespace.contents_are_published().await?;
        namespace.answers_by_service("primary", STEADY, Rtype::A, &[STEADY_ADDRESS]).await?;
        let probes = namespace.probe(&STEADY_QUESTIONS).await?;
        let load = Load::start(namespace, "primary", 100, Way::NewPorts).await?;
        probes.more_answers(&servers, 20).await?;
        let [frozen, other] = servers.as_slice() else { anyhow::bail!("not two servers") };
        frozen.signal(AGENT, Signal::STOP)?;
        namespace.apply(&a("later", ZONE.0, "later", "192.0.2.7")).await?;
        other.answers("later.example.com", Rtype::A, &["192.0.2.7"]).await?;
        namespace
            .until(("DNSZone", ZONE.0), "the status to name the server that lags", |zone| {
                let degraded = condition(zone, "Degraded")?;
                ensure!(degraded.status == "True" && degraded.message.contains(&frozen.name), "{degraded:?}");
                Ok(())
            })
            .await?;
        namespace
            .until_servers("primary", "the frozen server not to be ready", |servers| {
                let now = servers.iter().find(|one| one.name == frozen.name).context("it is gone")?;
                ensure!(!now.ready, "it is ready");
                Ok(())
            })
            .await?;
        // All that are ready have it.
        namespace.ready("ARecord", "later").await?;
        frozen.signal(AGENT, Signal::CONT)?;
        let caught_up = frozen.answers("later.example.com", Rtype::A, &["192.0.2.7"]);
        tokio::time::timeout(CATCH_UP, caught_up).await.context("the change comes too late")??;
        let servers = namespace.until_ready("primary", 2, &[]).await?;
        probes.more_answers(&servers, 20).await?;
        add_versions(&mut published, namespace.contents_are_published().await?);
        load.stop().await?.nothing_missed()?;
        // No outage was announced: its named has to have answered all the time.
        probes.right(&published).await.map(drop)
    })
    .await
}
