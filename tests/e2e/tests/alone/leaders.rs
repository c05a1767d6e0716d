//! Three replicas of the operator: one leads, the others follow it and are ready to. A leader that is deleted, killed, frozen or
//! cut off from the API server is replaced; DNS does not notice, no change is lost, none is undone.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bindy_e2e::{Operator, STEADY_QUESTIONS, ZONE, add_versions, alone, served, uncordon};
use bindy_testing::cluster::{Namespace, PacketRules, Server};
use bindy_testing::manifest::a;
use bindy_testing::{dns, wait_for};
use bindy_zone::{Name, Rtype};
use rustix::process::Signal;

const CONTAINER: &str = "operator";
/// Duration and two retry periods of the page's settings, and what a busy machine needs.
const TAKEOVER: Duration = Duration::from_secs(40);

/// What happens to the leader, while changes are made.
async fn another_leads_after(
    test: &str,
    fault: impl AsyncFnOnce(&Operator, &Server) -> Result<Option<PacketRules>>,
    end: impl AsyncFnOnce(&Server, Option<PacketRules>) -> Result<()>,
) -> Result<()> {
    let cluster = alone().await?;
    cluster
        .in_namespace(test, async |namespace| {
            let operator = Operator::of(namespace.cluster());
            let leader = operator.scale_to(3).await?;
            let servers = served(namespace, 2).await?;
            let mut published = namespace.contents_are_published().await?;
            let probes = namespace.probe(&[STEADY_QUESTIONS[0]]).await?;
            probes.more_answers(&servers, 20).await?;
            edit_arrives(namespace, "192.0.2.1").await?;
            add_versions(&mut published, namespace.contents_are_published().await?);

            let fault = fault(&operator, &leader).await?;
            // Made while nobody leads.
            namespace.apply(&a("edited", ZONE.0, "edited", "192.0.2.2")).await?;
            let next = operator.until_leader(|one| one.name != leader.name).await?;
            edit_arrives(namespace, "192.0.2.2").await?;
            add_versions(&mut published, namespace.contents_are_published().await?);
            let log = operator.log_of(&next).await?;
            for line in ["Lease acquired, this instance is now the leader", "Starting all operators"] {
                ensure!(log.contains(line), "{} has not logged {line:?}:\n{log}", next.name);
            }

            end(&leader, fault).await?;
            edit_arrives(namespace, "192.0.2.3").await?;
            add_versions(&mut published, namespace.contents_are_published().await?);
            ensure!(operator.until_leader(|_| true).await?.name == next.name, "it leads no more");
            namespace.ready("Bind9Instance", "primary").await?;
            probes.more_answers(&servers, 20).await?;
            probes.right(&published).await?;
            operator.scale_to(1).await.map(drop)
        })
        .await
}

async fn edit_arrives(namespace: &Namespace, address: &str) -> Result<()> {
    namespace.apply(&a("edited", ZONE.0, "edited", address)).await?;
    wait_for("the edit to arrive everywhere", TAKEOVER, async || {
        namespace.answers("edited.example.com", Rtype::A, &[address]).await
    })
    .await?;
    namespace.ready("ARecord", "edited").await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_leader_hands_over() -> Result<()> {
    another_leads_after(
        "leader-deleted",
        async |operator, leader| {
            let begun = Instant::now();
            operator.delete(leader).await?;
            operator.until_leader(|one| one.name != leader.name).await?;
            // The lease is given back, not waited out.
            ensure!(begun.elapsed() < Duration::from_secs(10), "it took {:?}", begun.elapsed());
            Ok(None)
        },
        async |_, _| Ok(()),
    )
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_of_the_leaders_node_has_it_hand_over() -> Result<()> {
    another_leads_after(
        "leader-drained",
        async |operator, leader| {
            let drained = operator.drain(&leader.node).await;
            let ended = Instant::now();
            uncordon(operator.cluster(), &leader.node).await?;
            drained?;
            operator.until_leader(|one| one.name != leader.name).await?;
            ensure!(ended.elapsed() < Duration::from_secs(10), "it took {:?}", ended.elapsed());
            Ok(None)
        },
        async |_, _| Ok(()),
    )
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_leader_is_replaced() -> Result<()> {
    another_leads_after(
        "leader-killed",
        async |_, leader| leader.signal(CONTAINER, Signal::KILL).map(|()| None),
        async |_, _| Ok(()),
    )
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_was_frozen_past_its_lease_writes_nothing_any_more() -> Result<()> {
    another_leads_after(
        "leader-frozen",
        async |_, leader| leader.signal(CONTAINER, Signal::STOP).map(|()| None),
        async |leader, _| leader.signal(CONTAINER, Signal::CONT),
    )
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_without_the_api_server_steps_down() -> Result<()> {
    another_leads_after(
        "leader-cut-off",
        async |operator, leader| operator.cut_off(leader, "drop").map(Some),
        async |_, rules| {
            drop(rules);
            Ok(())
        },
    )
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn standbys_have_what_the_leader_has_published() -> Result<()> {
    let cluster = alone().await?;
    cluster
        .in_namespace("standbys", async |namespace| {
            let operator = Operator::of(namespace.cluster());
            let leader = operator.scale_to(3).await?;
            served(namespace, 1).await?;
            edit_arrives(namespace, "192.0.2.1").await?;
            let zone = Name::parse(ZONE.1)?;
            let key = namespace.key("primary").await?;
            let of = async |replica: &Server| {
                dns::transfer(replica.transfer(), &zone, Some(&key))
                    .await
                    .with_context(|| replica.name.clone())
            };
            let published = of(&leader).await?;
            for replica in operator.replicas().await? {
                wait_for("every replica to have the version", TAKEOVER, async || {
                    let version = of(&replica).await?;
                    ensure!(version == published, "{} has serial {}", replica.name, version.serial);
                    anyhow::Ok(())
                })
                .await?;
                let metrics = operator.metrics_of(&replica).await?;
                let leads = metrics.lines().any(|line| line == "bindy_election_leader 1");
                ensure!(leads == (replica.name == leader.name), "{}:\n{metrics}", replica.name);
            }
            operator.scale_to(1).await.map(drop)
        })
        .await
}
