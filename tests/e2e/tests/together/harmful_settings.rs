//! A server does not live to take new settings, or BIND refuses them: they stop at it, the others answer with those before; and
//! they go on when it is back, or they are corrected.

use anyhow::{Context, Result, ensure};
use bindy_e2e::{Clients, STEADY_QUESTIONS, ZONE, served};
use bindy_testing::cluster::{AGENT, LIMIT, NAMED, Namespace, Server, condition, in_namespace};
use bindy_testing::{dns, wait_for};
use bindy_zone::Name;
use rustix::process::Signal;
use serde_json::json;

/// Whether it gives a zone to everybody, which the new settings allow.
async fn is_open(server: &Server) -> Result<bool> {
    let zone = Name::parse(ZONE.1)?;
    Ok(dns::transfer(server.dns(), &zone, None).await.is_ok())
}

async fn open(namespace: &Namespace) -> Result<()> {
    let everybody = json!({"spec": {"config": {"allowTransfer": ["any"]}}});
    namespace.patch("Bind9Instance", "primary", everybody).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_that_a_server_does_not_survive_stop_at_it_and_the_others_go_on() -> Result<()> {
    in_namespace("settings-harm", async |namespace| {
        let mut servers = served(namespace, 3).await?;
        servers.sort_by(|one, other| one.name.cmp(&other.name));
        let published = namespace.contents_are_published().await?;
        let probes = namespace.probe(&STEADY_QUESTIONS).await?;
        let clients = Clients::beside(namespace, "primary").await?;
        probes.more_answers(&servers, 20).await?;
        let (first, others) = servers.split_first().context("no servers")?;
        let mounted =
            |server: &Server| anyhow::Ok(std::fs::read(server.mounted_config(namespace.cluster())?)?);
        let before = mounted(first)?;
        // Its turn comes first, and it says nothing any more.
        probes.outage_begins(first);
        first.signal(NAMED, Signal::STOP)?;
        open(namespace).await?;
        for server in others {
            wait_for("the settings to be mounted", LIMIT, async || {
                ensure!(mounted(server)? != before, "those before");
                anyhow::Ok(())
            })
            .await?;
        }
        namespace
            .until_servers("primary", "the first one not to be ready", |servers| {
                let now = servers.iter().find(|one| one.name == first.name).context("it is gone")?;
                ensure!(!now.ready, "it is ready");
                Ok(())
            })
            .await?;
        for server in others {
            ensure!(!is_open(server).await?, "{} has the settings", server.name);
        }
        namespace
            .until(("Bind9Instance", "primary"), "the instance not to be Ready", |instance| {
                let ready = condition(instance, "Ready")?;
                ensure!(ready.status == "False" && ready.message.contains("2 of 3"), "{ready:?}");
                Ok(())
            })
            .await?;
        first.signal(NAMED, Signal::CONT)?;
        namespace.ready("Bind9Instance", "primary").await?;
        probes.outage_ends(first);
        for server in &servers {
            ensure!(is_open(server).await?, "{} has not got the settings", server.name);
        }
        probes.more_answers(&servers, 20).await?;
        clients.nothing_wrong().await?;
        probes.right(&published).await.map(drop)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_that_bind_refuses_stop_at_the_first_server_and_its_words_are_told() -> Result<()> {
    in_namespace("settings-refused", async |namespace| {
        let mut servers = served(namespace, 3).await?;
        servers.sort_by(|one, other| one.name.cmp(&other.name));
        let published = namespace.contents_are_published().await?;
        let probes = namespace.probe(&STEADY_QUESTIONS).await?;
        let clients = Clients::beside(namespace, "primary").await?;
        probes.more_answers(&servers, 20).await?;
        // Its turn comes first. No wish is written that BIND would refuse, so something is missing that each configuration includes.
        let first = servers.first().context("no servers")?;
        let key = format!("/proc/{}/root/run/bindy/agent.key", first.process(AGENT)?);
        let hidden = format!("{key}.hidden");
        std::fs::rename(&key, &hidden)?;
        open(namespace).await?;
        for told in ["Ready", "Degraded"] {
            namespace
                .until(("Bind9Instance", "primary"), &format!("{told} to tell who refuses"), |instance| {
                    let found = condition(instance, told)?;
                    let names = |name: &str| found.message.contains(name);
                    ensure!(found.reason == "ConfigRefused", "{found:?}");
                    ensure!(names(&first.name) && names("file not found"), "{found:?}");
                    Ok(())
                })
                .await?;
        }
        for server in &servers {
            ensure!(!is_open(server).await?, "{} has the settings", server.name);
        }
        std::fs::rename(&hidden, &key)?;
        let before = json!({"spec": {"config": {"allowTransfer": null}}});
        namespace.patch("Bind9Instance", "primary", before).await?;
        namespace.ready("Bind9Instance", "primary").await?;
        open(namespace).await?;
        namespace.ready("Bind9Instance", "primary").await?;
        for server in &servers {
            ensure!(is_open(server).await?, "{} has not got the settings", server.name);
        }
        probes.more_answers(&servers, 20).await?;
        clients.missed_nothing(0).await?;
        probes.right(&published).await.map(drop)
    })
    .await
}
