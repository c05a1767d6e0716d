//! The leader is killed with SIGKILL before, or right after, one of the writes by which an instance, a zone and a record
//! come to be served and another record changes: the next leader finishes what was begun, and the end is the same.
//!
//! The API proxy counts the leader's writes and holds it at the chosen one, so nothing in the operator knows of this.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result, ensure};
use bindy_e2e::{Operator, SHORT_LEASE, STEADY_QUESTIONS, ZONE, add_versions, alone, served};
use bindy_testing::cluster::{ApiProxy, Fate, LIMIT, Line, Namespace};
use bindy_testing::manifest::{a, instance, zone};
use bindy_testing::wait_for;
use bindy_zone::Rtype;
use kube::ResourceExt;
use tokio::sync::Notify;

/// What an instance's name is part of.
const OWNED: [&str; 7] = [
    "Deployment",
    "Service",
    "ConfigMap",
    "Secret",
    "ServiceAccount",
    "NetworkPolicy",
    "PodDisruptionBudget",
];

/// On which side of a write the leader ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    /// The API server never hears of it.
    Before,
    /// It is carried out, and the leader never knows.
    After,
}

/// Where a leader is held.
#[derive(Clone, Default)]
struct Stop {
    writes: Arc<AtomicUsize>,
    /// Its address.
    held: Arc<OnceLock<IpAddr>>,
    reached: Arc<Notify>,
}

impl Stop {
    /// What becomes of a request. Whoever leads is held at the `number`-th write from now on: nobody else writes.
    fn fate(&self, line: &Line, number: usize, side: Side) -> Fate {
        if let Some(held) = self.held.get() {
            return if *held == line.from { Fate::Lost } else { Fate::Pass };
        }
        let counts = line.is_write() && !line.is_of_lease() && !line.path.contains("/events");
        if !counts || self.writes.fetch_add(1, Ordering::SeqCst) + 1 != number {
            return Fate::Pass;
        }
        self.held.get_or_init(|| line.from);
        self.reached.notify_one();
        match side {
            Side::Before => Fate::Lost,
            Side::After => Fate::ReplyLost,
        }
    }
}

/// Objects of an instance, by kind and what their names have after the instance's.
async fn owned(namespace: &Namespace, instance: &str) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for kind in OWNED {
        for object in namespace.list(kind).await? {
            if let Some(rest) = object.name_any().strip_prefix(instance) {
                found.insert(format!("{kind} {rest}"));
            }
        }
    }
    Ok(found)
}

/// Everything of the story is served, and said to be.
async fn told(namespace: &Namespace, n: usize) -> Result<()> {
    let (address, name) = (format!("192.0.2.{}", n + 1), format!("www.story-{n}.example"));
    for (kind, object) in [("Bind9Instance", "story"), ("DNSZone", "story"), ("ARecord", "www")] {
        namespace.ready(kind, &format!("{object}-{n}")).await?;
    }
    namespace.answers(&name, Rtype::A, &[&address]).await?;
    wait_for("the edit to be served", LIMIT, async || {
        namespace.answers("edited.example.com", Rtype::A, &[&address]).await
    })
    .await?;
    namespace.ready("ARecord", "edited").await?;
    Ok(())
}

/// Tells story `n` with an end of its leader; false when it has fewer writes than that.
async fn killed_at(
    namespace: &Namespace,
    operator: &Operator,
    proxy: &ApiProxy,
    (n, number, side): (usize, usize, Side),
) -> Result<bool> {
    operator.scale_to(3).await?;
    let stop = Stop::default();
    let (rule, unanswered) = (stop.clone(), proxy.unanswered());
    proxy.treat(move |line| rule.fate(line, number, side));
    let address = format!("192.0.2.{}", n + 1);
    let story = instance(&format!("story-{n}"), "primary", 1, &[])
        + &zone(&format!("story-{n}"), &format!("story-{n}.example"))
        + &a(&format!("www-{n}"), &format!("story-{n}"), "www", &address)
        + &a("edited", ZONE.0, "edited", &address);
    namespace.apply(&story).await?;
    let killed = tokio::select! {
        () = stop.reached.notified() => true,
        done = told(namespace, n) => done.map(|()| false)?,
    };
    if killed {
        wait_for("the last write to be carried out", LIMIT, async || {
            ensure!(side == Side::Before || proxy.unanswered() > unanswered, "it is under way");
            anyhow::Ok(())
        })
        .await?;
        let replicas = operator.replicas().await?;
        let leader = replicas.iter().find(|one| stop.held.get() == Some(&one.address));
        let leader = leader.context("whoever was held is gone")?;
        operator.kill_for_good(leader).await?;
        operator.until_leader(|one| one.name != leader.name).await?;
        told(namespace, n).await?;
    }
    proxy.treat(|_| Fate::Pass);
    let story = owned(namespace, &format!("story-{n}")).await?;
    let undisturbed = owned(namespace, "primary").await?;
    // Of pods and what Kubernetes names at random nothing is in it.
    ensure!(story == undisturbed, "killed {side:?} write {number}: {story:?}, undisturbed {undisturbed:?}");
    Ok(killed)
}

/// Ends of leaders, one story each, until one has no such write.
async fn stories(test: &str, ends: impl Iterator<Item = (usize, Side)>) -> Result<usize> {
    let cluster = alone().await?;
    let mut killed = 0;
    let told = &mut killed;
    cluster
        .in_namespace(test, async |namespace| {
            let operator = Operator::of(namespace.cluster());
            let proxy = ApiProxy::start(namespace.cluster()).await?;
            operator.through(&proxy, &SHORT_LEASE).await?;
            let servers = served(namespace, 1).await?;
            let mut published = namespace.contents_are_published().await?;
            let probes = namespace.probe(&[STEADY_QUESTIONS[0]]).await?;
            for (n, (number, side)) in ends.enumerate() {
                if !killed_at(namespace, &operator, &proxy, (n, number, side)).await? {
                    break;
                }
                *told += 1;
                add_versions(&mut published, namespace.contents_are_published().await?);
                namespace.remove("Bind9Instance", &format!("story-{n}")).await?;
            }
            probes.more_answers(&servers, 20).await?;
            probes.right(&published).await?;
            operator.scale_to(1).await?;
            operator.direct().await
        })
        .await?;
    Ok(killed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_killed_at_any_write_leaves_the_next_one_to_finish() -> Result<()> {
    let ends = [(2, Side::After), (6, Side::Before), (11, Side::After)];
    let killed = stories("killed-between-writes", ends.into_iter()).await?;
    ensure!(killed == ends.len(), "only {killed} leaders were killed");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: every write in turn, on both sides"]
async fn a_leader_killed_at_every_write_leaves_the_next_one_to_finish() -> Result<()> {
    for (test, side) in [("killed-before-writes", Side::Before), ("killed-after-writes", Side::After)] {
        let killed = stories(test, (1..60).map(|number| (number, side))).await?;
        ensure!(killed > 10, "{side:?}: only {killed} leaders were killed");
    }
    Ok(())
}
