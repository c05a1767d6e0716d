//! named is killed, the agent is killed, named's data is wiped: the server comes back by itself, the others go on, and
//! nobody gives a wrong, empty or older answer meanwhile.

use anyhow::{Context, Result, ensure};
use bindy_e2e::{Clients, STEADY_QUESTIONS, ZONE, add_versions, served};
use bindy_testing::cluster::{AGENT, NAMED, in_namespace};
use bindy_testing::manifest::a;
use bindy_zone::Rtype;
use rustix::process::Signal;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_named_comes_back_with_its_zone() -> Result<()> {
    in_namespace("named-killed", async |namespace| {
        let servers = served(namespace, 2).await?;
        let mut published = namespace.contents_are_published().await?;
        let probes = namespace.probe(&STEADY_QUESTIONS).await?;
        let clients = Clients::beside(namespace, "primary").await?;
        probes.more_answers(&servers, 20).await?;
        let victim = servers.first().context("no server")?;
        probes.outage_begins(victim);
        victim.signal(NAMED, Signal::KILL)?;
        // What changes while it is away has to be there when it is back.
        namespace.serve(&a("later", ZONE.0, "later", "192.0.2.7")).await?;
        let healed = namespace.until_restarted(victim, NAMED).await?;
        probes.outage_ends(victim);
        ensure!(healed.restarts(AGENT) == 0, "the agent was restarted too");
        namespace.answers("later.example.com", Rtype::A, &["192.0.2.7"]).await?;
        probes.more_answers(&servers, 20).await?;
        add_versions(&mut published, namespace.contents_are_published().await?);
        clients.nothing_wrong().await?;
        probes.right(&published).await.map(drop)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_agent_costs_no_answer() -> Result<()> {
    in_namespace("agent-killed", async |namespace| {
        let servers = served(namespace, 2).await?;
        let mut published = namespace.contents_are_published().await?;
        let probes = namespace.probe(&STEADY_QUESTIONS).await?;
        let clients = Clients::beside(namespace, "primary").await?;
        probes.more_answers(&servers, 20).await?;
        let victim = servers.first().context("no server")?;
        victim.signal(AGENT, Signal::KILL)?;
        let healed = namespace.until_restarted(victim, AGENT).await?;
        ensure!(healed.restarts(NAMED) == 0, "named was restarted too");
        namespace.serve(&a("later", ZONE.0, "later", "192.0.2.7")).await?;
        namespace.answers("later.example.com", Rtype::A, &["192.0.2.7"]).await?;
        probes.more_answers(&servers, 20).await?;
        add_versions(&mut published, namespace.contents_are_published().await?);
        // No outage was announced: named has to have answered all the time. To nodes the server was taken away: a pod is not
        // ready while one of its containers does not run.
        clients.missed_nothing(1).await?;
        probes.right(&published).await.map(drop)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_server_fills_itself_again() -> Result<()> {
    in_namespace("data-wiped", async |namespace| {
        let servers = served(namespace, 2).await?;
        let published = namespace.contents_are_published().await?;
        let probes = namespace.probe(&STEADY_QUESTIONS).await?;
        let clients = Clients::beside(namespace, "primary").await?;
        probes.more_answers(&servers, 20).await?;
        let victim = servers.first().context("no server")?;
        probes.outage_begins(victim);
        victim.wipe_and_kill(namespace.cluster())?;
        namespace.until_restarted(victim, NAMED).await?;
        probes.outage_ends(victim);
        probes.more_answers(&servers, 20).await?;
        let now = namespace.contents_are_published().await?;
        ensure!(now == published, "another version was published");
        clients.nothing_wrong().await?;
        probes.right(&published).await.map(drop)
    })
    .await
}
