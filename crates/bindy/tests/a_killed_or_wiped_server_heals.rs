//! Servers are killed and lose their data, one or all, with the engine and without: each comes back with everything,
//! and says nothing wrong on its way.

mod common;

use anyhow::{Context, Result, ensure};
use bindy_local::status::ServerStatus;
use bindy_zone::Rtype;
use common::faults::{self, ReadyMeansRight};
use common::{LIMIT, Up, a, zone};

/// Enough zones that a server without data is seen on its way.
async fn two_tiers(test: &str) -> Result<Up> {
    let more: String = (0..20).map(|n| zone(&format!("more-{n}"), &format!("more-{n}.example"))).collect();
    Up::two_tiers(test, &more).await
}

fn watch_all(servers: &[ServerStatus]) -> Result<Vec<ReadyMeansRight>> {
    servers.iter().map(|server| ReadyMeansRight::watch(server, "example.com")).collect()
}

async fn all_right(watched: Vec<ReadyMeansRight>) -> Result<()> {
    for server in watched {
        server.right().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_named_is_started_again_and_never_answers_wrong() -> Result<()> {
    let mut up = two_tiers("named-killed").await?;
    let steady = up.probe("example.com").await?;
    steady.more_answers(10).await?;
    let watched = watch_all(&up.status()?.servers)?;
    for (instance, index) in [("default/primary", 0), ("default/secondary", 0), ("default/primary", 0)] {
        let before = up.server(instance, index)?;
        let serials = faults::serials(&up.status()?.servers, "example.com").await?;
        steady.outage_begins(std::slice::from_ref(&before));
        faults::kill(before.named_pid).await?;
        let after = up.healed(&before).await?;
        steady.outage_ends(std::slice::from_ref(&before));
        ensure!(after.agent_pid == before.agent_pid, "the agent of a killed named was replaced");
        up.settled().await?;
        let now = faults::serials(&up.status()?.servers, "example.com").await?;
        ensure!(now == serials, "a killed server changed serials: {now:?}, were {serials:?}");
    }
    up.contents_are_equal().await?;
    all_right(watched).await?;
    steady.all_right(&up).await?;
    up.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_agent_leaves_named_answering_and_changes_still_arrive() -> Result<()> {
    let mut up = two_tiers("agent-killed").await?;
    let steady = up.probe("example.com").await?;
    steady.more_answers(10).await?;
    for (round, instance) in (1..).zip(["default/primary", "default/secondary"]) {
        let before = up.server(instance, 0)?;
        faults::kill(before.agent_pid).await?;
        // At once, while the agent is not there or just starts.
        let address = format!("198.51.100.{round}");
        up.write("www.yaml", &a("www", "z", "www", &address))?;
        let servers = up.status()?.servers;
        faults::arrives(&servers, "www.example.com", &address, LIMIT).await?;
        let after = up.healed(&before).await?;
        ensure!(after.named_pid == before.named_pid, "named was restarted with its agent");
        ensure!(after.agent_pid != before.agent_pid, "the agent was not started again");
        up.contents_are_equal().await?;
    }
    // No outage was declared: every question has been answered, and right.
    steady.all_right(&up).await?;
    up.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_server_comes_back_with_every_zone() -> Result<()> {
    let mut up = two_tiers("named-wiped").await?;
    let steady = up.probe("example.com").await?;
    steady.more_answers(10).await?;
    let watched = watch_all(&up.status()?.servers)?;
    for instance in ["default/primary", "default/secondary"] {
        let (before, published) = (up.server(instance, 0)?, up.published()?);
        let transfers = faults::transfers(&before);
        steady.outage_begins(std::slice::from_ref(&before));
        faults::wipe_and_kill_named(&before).await?;
        let after = up.healed(&before).await?;
        steady.outage_ends(std::slice::from_ref(&before));
        // Ready is a promise about all zones, at once.
        let serials = up.published()?;
        for zone in up.status()?.zones {
            let found = faults::serials(std::slice::from_ref(&after), &zone.zone_name).await;
            ensure!(found.is_ok(), "ready without {}: {found:?}", zone.zone_name);
        }
        ensure!(serials == published, "a wiped server changed serials");
        ensure!(faults::transfers(&after) >= transfers + 22, "named was not wiped at all");
        up.contents_are_equal().await?;
    }
    all_right(watched).await?;
    steady.all_right(&up).await?;
    up.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_servers_killed_and_wiped_at_once_come_back_from_the_engine() -> Result<()> {
    let mut up = two_tiers("all-wiped").await?;
    let steady = up.probe("example.com").await?;
    steady.more_answers(10).await?;
    let (servers, published) = (up.status()?.servers, up.published()?);
    let watched = watch_all(&servers)?;
    steady.outage_begins(&servers);
    for server in &servers {
        faults::signal(server.named_pid, rustix::process::Signal::STOP)?;
    }
    for server in &servers {
        faults::wipe(server)?;
        faults::kill(server.agent_pid).await?;
        faults::kill(server.named_pid).await?;
    }
    for server in &servers {
        up.healed(server).await?;
    }
    steady.outage_ends(&servers);
    up.contents_are_equal().await?;
    ensure!(up.published()? == published, "serials changed although nobody changed anything");
    all_right(watched).await?;
    steady.all_right(&up).await?;
    up.stop().await
}

/// Kills engine and servers in the given order; nothing of them runs afterwards.
async fn kill_everything(up: &mut Up, engine_first: bool) -> Result<Vec<ServerStatus>> {
    let servers = up.status()?.servers;
    if engine_first {
        up.kill().await?;
    }
    for server in &servers {
        // While the engine lives it starts them again, so all are stopped before the first is killed.
        for pid in [server.named_pid, server.agent_pid] {
            faults::signal(pid, rustix::process::Signal::STOP)?;
        }
    }
    if !engine_first {
        for server in &servers {
            faults::kill(server.named_pid).await?;
            faults::kill(server.agent_pid).await?;
        }
        up.kill().await?;
    }
    for pid in faults::noted_pids(&up.state()) {
        if !faults::has_ended(pid) {
            faults::kill(Some(pid)).await?;
        }
    }
    Ok(servers)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn engine_and_servers_gone_together_come_back_as_they_were() -> Result<()> {
    let mut up = two_tiers("everything-killed").await?;
    let steady = up.probe("example.com").await?;
    steady.more_answers(10).await?;
    for (engine_first, wiped) in [(true, false), (false, false), (true, true)] {
        let (published, before) = (up.published()?, up.status()?.servers);
        let transfers: usize = before.iter().map(faults::transfers).sum();
        steady.outage_begins(&before);
        let servers = kill_everything(&mut up, engine_first).await?;
        if wiped {
            servers.iter().try_for_each(faults::wipe)?;
        }
        up.start()?;
        up.settled().await?;
        steady.outage_ends(&servers);
        let after = up.status()?.servers;
        ensure!(up.published()? == published, "serials changed: engine_first {engine_first}, wiped {wiped}");
        ensure!(
            after.iter().zip(&before).all(|(after, before)| after.dns == before.dns),
            "servers answer elsewhere"
        );
        if !wiped {
            // Not none: named transfers a zone whose NOTIFY comes between its being listed and its being loaded.
            let more = after.iter().map(faults::transfers).sum::<usize>() - transfers;
            ensure!(more < 20, "three servers of 22 zones with all their data made {more} transfers");
        }
        up.contents_are_equal().await?;
    }
    // The last server's answers are those of the manifests, edits included.
    up.write("www.yaml", &a("www", "z", "www", "192.0.2.9"))?;
    up.answers("www.example.com", Rtype::A, &["192.0.2.9"]).await?;
    steady.all_right(&up).await.context("while engine and servers were killed together")?;
    up.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_killed_one_by_one_and_started_by_a_later_engine_refill() -> Result<()> {
    let mut up = two_tiers("servers-before-engine").await?;
    let published = up.published()?;
    // The engine is dead, one server is wiped and dead, the others go on: the next engine finds both kinds.
    up.kill().await?;
    let status = faults::last_status(&up.state())?;
    let dead = status.server("default/primary", 1).context("no second primary")?.clone();
    faults::kill(dead.agent_pid).await?;
    faults::wipe_and_kill_named(&dead).await?;
    up.start()?;
    up.settled().await?;
    ensure!(up.published()? == published, "serials changed");
    for server in &status.servers {
        let now = up.server(&server.instance, server.index)?;
        let same = now.named_pid == server.named_pid && now.agent_pid == server.agent_pid;
        let was_dead = server.instance == dead.instance && server.index == dead.index;
        ensure!(same != was_dead, "{} was not treated as it should be", faults::name_of(server));
    }
    up.contents_are_equal().await?;
    up.stop().await
}
