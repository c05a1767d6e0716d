//! What people do to the lease, and networks to its leader: it is deleted, edited, given to somebody who does not exist; one
//! direction of the leader's packets vanishes; wall clocks of replicas are wrong; the right to watch is missing, as on the page; SIGTERM comes while 200 changes a
//! second are made. A term never comes twice, changes made afterwards arrive, and only the leader writes the lease.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bindy_e2e::{Direction, Operator, SHORT_LEASE, STEADY_QUESTIONS, ZONE, alone, served};
use bindy_testing::cluster::{ApiProxy, Cluster, Fate, LIMIT, Namespace, OPERATOR, Server};
use bindy_testing::manifest::a;
use bindy_testing::{http, wait_for};
use bindy_zone::Rtype;
use rustix::process::Signal;
use serde_json::{Value, json};

/// Of [`SHORT_LEASE`].
const DURATION: Duration = Duration::from_secs(3);
const RETRY: Duration = Duration::from_secs(1);
/// How long requests are counted.
const PERIODS: u32 = 8;

/// The number of the term that the lease has.
fn number(lease: &Value) -> Result<u64> {
    lease.pointer("/spec/leaseTransitions").and_then(Value::as_u64).with_context(|| lease.to_string())
}

fn holder(lease: &Value) -> &str {
    lease.pointer("/spec/holderIdentity").and_then(Value::as_str).unwrap_or_default()
}

async fn edit_arrives(namespace: &Namespace, address: &str) -> Result<()> {
    namespace.apply(&a("edited", ZONE.0, "edited", address)).await?;
    wait_for("the edit to arrive everywhere", LIMIT, async || {
        namespace.answers("edited.example.com", Rtype::A, &[address]).await
    })
    .await?;
    namespace.ready("ARecord", "edited").await.map(drop)
}

async fn patch(cluster: &Cluster, change: &Value) -> Result<()> {
    let change = change.to_string();
    let patch = ["patch", "lease", "bindy-leader", "-n", OPERATOR, "--type=merge", "-p", &change];
    cluster.kubectl(&patch).await.map(drop)
}

/// Waits until the lease says that `leader` goes on in its term, as if nothing had happened to it.
async fn goes_on(operator: &Operator, leader: &Server, term: u64) -> Result<()> {
    wait_for("the leader to write its record again", DURATION, async || {
        let lease = operator.lease().await?;
        ensure!(holder(&lease) == leader.name && number(&lease)? == term, "{lease}");
        anyhow::Ok(())
    })
    .await
}

/// How the operator reaches the API server.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Direct,
    Proxied,
}

/// Three replicas with a short lease, and a zone that is served all the time. For who is [`alone`].
async fn with_replicas(
    cluster: &Cluster,
    test: &str,
    way: Way,
    body: impl AsyncFnOnce(&Namespace, &Operator, &ApiProxy, Server) -> Result<()>,
) -> Result<()> {
    cluster
        .in_namespace(test, async |namespace| {
            let operator = Operator::of(namespace.cluster());
            let proxy = ApiProxy::start(namespace.cluster()).await?;
            match way {
                Way::Direct => operator.set_env(&SHORT_LEASE).await?,
                Way::Proxied => operator.through(&proxy, &SHORT_LEASE).await?,
            }
            let servers = served(namespace, 1).await?;
            let published = namespace.contents_are_published().await?;
            let probes = namespace.probe(&[STEADY_QUESTIONS[0]]).await?;
            let leader = operator.scale_to(3).await?;
            body(namespace, &operator, &proxy, leader).await?;
            probes.more_answers(&servers, 10).await?;
            probes.right(&published).await?;
            operator.scale_to(1).await?;
            operator.direct().await
        })
        .await
}

/// A request about a lease, as it has come to the API server.
struct Asked {
    at: Instant,
    from: IpAddr,
    method: String,
}

type Seen = Arc<Mutex<Vec<Asked>>>;

fn record(proxy: &ApiProxy) -> Seen {
    let seen = Seen::default();
    let recorded = Arc::clone(&seen);
    proxy.treat(move |line| {
        if line.is_of_lease() {
            let method = if line.is_watch() { "WATCH".to_owned() } else { line.method.clone() };
            let asked = Asked { at: Instant::now(), from: line.from, method };
            recorded.lock().unwrap_or_else(PoisonError::into_inner).push(asked);
        }
        Fate::Pass
    });
    seen
}

fn take(seen: &Seen) -> Vec<Asked> {
    std::mem::take(&mut seen.lock().unwrap_or_else(PoisonError::into_inner))
}

/// How often each has asked in which way.
fn counts(requests: &[Asked]) -> BTreeMap<(IpAddr, &str), u32> {
    let mut counts = BTreeMap::new();
    for asked in requests {
        *counts.entry((asked.from, &*asked.method)).or_default() += 1;
    }
    counts
}

/// How many renewals of its lease a leader counts as failed.
async fn failed_renewals(operator: &Operator, leader: &Server) -> Result<f64> {
    let metrics = operator.metrics_of(leader).await?;
    Ok(http::metric(&metrics, "bindy_election_renewals_total{result=\"failed\"}").unwrap_or_default())
}

/// One write a period from the leader, and nothing at all from standbys while it comes.
async fn only_the_leader_writes(operator: &Operator, proxy: &ApiProxy, leader: &Server) -> Result<()> {
    let seen = record(proxy);
    // What is counted is what happens in this time.
    tokio::time::sleep(RETRY * PERIODS).await;
    let requests = take(&seen);
    let counts = counts(&requests);
    let written: u32 =
        counts.iter().filter(|((_, it), _)| *it != "GET" && *it != "WATCH").map(|it| it.1).sum();
    let own = counts.get(&(leader.address, "PUT")).copied().unwrap_or_default();
    ensure!((PERIODS - 1..=PERIODS + 1).contains(&own), "in {PERIODS} periods: {counts:?}");
    ensure!(written == own, "somebody else wrote too: {counts:?}");
    // Standbys watch, and ask only for a renewal that is overdue.
    let renewals: Vec<Instant> = requests.iter().filter(|it| it.method == "PUT").map(|it| it.at).collect();
    for look in requests.iter().filter(|it| it.method == "GET") {
        let silence = silence(&renewals, look.at);
        ensure!(silence.is_none_or(|it| it > RETRY + RETRY / 8), "{} asked after {silence:?}", look.from);
    }
    ensure!(operator.until_leader(|_| true).await?.name == leader.name, "another one leads");
    Ok(())
}

/// How long nothing has come before this moment, or before the renewal that had come by then and was not passed on yet.
/// `None` where none was recorded.
fn silence(renewals: &[Instant], at: Instant) -> Option<Duration> {
    let mut before: Vec<Instant> = renewals.iter().copied().filter(|renewal| *renewal < at).collect();
    before.push(at);
    before.iter().zip(before.iter().skip(1)).rev().take(2).map(|(earlier, later)| *later - *earlier).max()
}

/// A lease that is deleted or edited costs no term; one that is given away comes back, in a later one.
async fn people_edit_the_lease(namespace: &Namespace, operator: &Operator, leader: &Server) -> Result<()> {
    let cluster = namespace.cluster();
    let term = number(&operator.lease().await?)?;
    cluster.kubectl(&["delete", "lease", "-n", OPERATOR, "bindy-leader"]).await?;
    goes_on(operator, leader, term).await?;
    patch(cluster, &json!({"spec": {"holderIdentity": ""}})).await?;
    goes_on(operator, leader, term).await?;
    patch(cluster, &json!({"spec": {"leaseTransitions": 0, "leaseDurationSeconds": 1}})).await?;
    goes_on(operator, leader, term).await?;
    edit_arrives(namespace, "192.0.2.1").await?;

    let foreign = json!({"spec": {"holderIdentity": "nobody", "renewTime": "2199-01-01T00:00:00.000000Z"}});
    patch(cluster, &foreign).await?;
    let begun = Instant::now();
    wait_for("the leader to stop", DURATION, async || {
        let metrics = operator.metrics_of(leader).await?;
        ensure!(metrics.lines().any(|line| line == "bindy_election_leader 0"), "it leads on");
        anyhow::Ok(())
    })
    .await?;
    let log = operator.log_of(leader).await?;
    let lost = log
        .lines()
        .any(|line| line.contains("WARN") && line.contains("Leadership lost! Stopping all operators..."));
    ensure!(lost, "{} has not logged that it stops:\n{log}", leader.name);
    let next = operator.until_leader(|_| true).await?;
    let took = begun.elapsed();
    ensure!(took >= DURATION && took < DURATION + RETRY * 2 + Duration::from_secs(3), "it took {took:?}");
    let later = number(&operator.lease().await?)?;
    ensure!(later > term, "term {later} of {} after {term}", next.name);
    edit_arrives(namespace, "192.0.2.2").await
}

/// A leader that is cut off in one direction is replaced, and stands by again without a restart.
async fn packets_vanish_one_way(namespace: &Namespace, operator: &Operator) -> Result<()> {
    let mut leader = operator.until_leader(|_| true).await?;
    let mut term = number(&operator.lease().await?)?;
    for (n, direction) in [(1, Direction::FromApi), (2, Direction::ToApi)] {
        let rules = operator.cut_one_way(&leader, direction)?;
        let next = operator.until_leader(|one| one.name != leader.name).await?;
        edit_arrives(namespace, &format!("192.0.2.{n}")).await?;
        drop(rules);
        let later = number(&operator.lease().await?)?;
        ensure!(later > term, "term {later} of {} after {term}", next.name);
        // It stands by again without a restart.
        wait_for("the former leader to follow", LIMIT, async || {
            let metrics = operator.metrics_of(&leader).await?;
            ensure!(metrics.lines().any(|line| line == "bindy_election_leader 0"), "it leads on");
            anyhow::Ok(())
        })
        .await?;
        (leader, term) = (next, later);
    }
    let restarts: Vec<i32> = operator.replicas().await?.iter().map(|one| one.restarts("operator")).collect();
    ensure!(restarts == [0; 3], "replicas were restarted: {restarts:?}");
    edit_arrives(namespace, "192.0.2.3").await
}

/// The Role of the page is enough for the lease: it has no watch, so standbys look once a period.
async fn handed_over_without_watch(
    namespace: &Namespace,
    operator: &Operator,
    proxy: &ApiProxy,
) -> Result<()> {
    operator.take_the_right_to_watch_the_lease().await?;
    let leader = operator.scale_to(3).await?;
    let (seen, before) = (record(proxy), failed_renewals(operator, &leader).await?);
    tokio::time::sleep(RETRY * PERIODS).await;
    let requests = take(&seen);
    // A renewal that gets no answer may have been made: its leader looks.
    let failed = failed_renewals(operator, &leader).await? - before;
    for ((from, method), times) in counts(&requests) {
        let leads = from == leader.address;
        let often = (PERIODS - 1..=PERIODS + 1).contains(&times);
        let expected = match method {
            "PUT" => leads && often,
            "GET" if leads => f64::from(times) <= failed,
            "GET" => often,
            _ => method == "WATCH" && times <= 1,
        };
        ensure!(expected, "{from}: {times} {method}, {failed} renewals failed");
    }
    // The container starts again, and may lead again: what counts is that somebody leads.
    let term = number(&operator.lease().await?)?;
    let begun = Instant::now();
    leader.signal("operator", Signal::TERM)?;
    wait_for("a later term", LIMIT, async || {
        let lease = operator.lease().await?;
        ensure!(!holder(&lease).is_empty() && number(&lease)? > term, "{lease}");
        anyhow::Ok(())
    })
    .await?;
    ensure!(begun.elapsed() < RETRY + Duration::from_millis(1500), "it took {:?}", begun.elapsed());
    edit_arrives(namespace, "192.0.2.1").await
}

/// Records that are changed under load, by how many at once, and how often in all.
const RECORDS: u32 = 32;
const WRITERS: u32 = 8;
const PER_SECOND: u32 = 200;
const CHANGES: u32 = 800;
/// In seconds; twice what TSIG allows.
const TEN_MINUTES: i32 = 600;

/// The time of day decides nothing: wrong by ten minutes on the leader, and on a standby the other way, it neither ends a term nor
/// makes one. Servers believe neither of the two (TSIG), so changes come by the third replica, and are proven when the clocks are right.
async fn clocks_are_wrong(namespace: &Namespace, operator: &Operator) -> Result<()> {
    let leader = operator.scale_to(3).await?;
    let term = number(&operator.lease().await?)?;
    let replicas = operator.replicas().await?;
    let standby = replicas.iter().find(|one| one.name != leader.name).context("no standby")?;
    let clocks = [
        leader.set_clock_of(&["operator"], TEN_MINUTES)?,
        standby.set_clock_of(&["operator"], -TEN_MINUTES)?,
    ];
    let arrives = async |address: &str| {
        namespace.apply(&a("edited", ZONE.0, "edited", address)).await?;
        namespace.answers("edited.example.com", Rtype::A, &[address]).await
    };
    arrives("192.0.2.101").await?;
    goes_on(operator, &leader, term).await?;
    leader.signal("operator", Signal::TERM)?;
    arrives("192.0.2.102").await?;
    ensure!(number(&operator.lease().await?)? > term, "nobody has taken over");
    drop(clocks);
    edit_arrives(namespace, "192.0.2.103").await
}

/// No change is lost when the leader is stopped under two hundred a second, or as many as the machine makes.
async fn stopped_under_load(namespace: &Namespace, operator: &Operator) -> Result<()> {
    let address = |n: u32| format!("10.0.{}.{}", n / 250, n % 250 + 1);
    let name = |n: u32| format!("load-{}", n % RECORDS);
    let records: String = (0..RECORDS).map(|n| a(&name(n), ZONE.0, &name(n), &address(n))).collect();
    namespace.apply(&records).await?;
    let leader = operator.until_leader(|_| true).await?;
    let begun = Instant::now();
    // Each writer has records of its own, so that the last change of each is known.
    let writers = (0..WRITERS).map(async |writer| {
        for n in (writer..CHANGES).step_by(WRITERS as usize) {
            tokio::time::sleep_until((begun + Duration::from_secs(1) * n / PER_SECOND).into()).await;
            let change = json!({"spec": {"ipv4Addresses": [address(n)]}});
            namespace.patch("ARecord", &name(n), change).await?;
            if n == CHANGES / 2 {
                leader.signal("operator", Signal::TERM)?;
            }
        }
        anyhow::Ok(())
    });
    futures::future::try_join_all(writers).await?;
    for n in CHANGES - RECORDS..CHANGES {
        wait_for("the last change of every record", LIMIT, async || {
            namespace.answers(&format!("{}.example.com", name(n)), Rtype::A, &[&address(n)]).await
        })
        .await?;
        namespace.ready("ARecord", &name(n)).await?;
    }
    operator.until_leader(|_| true).await?;
    namespace.contents_are_published().await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_people_nor_networks_nor_clocks_nor_an_end_under_load_lose_a_change_or_make_a_term_twice()
-> Result<()> {
    let cluster = alone().await?;
    with_replicas(&cluster, "leases", Way::Direct, async |namespace, operator, _, leader| {
        people_edit_the_lease(namespace, operator, &leader).await?;
        packets_vanish_one_way(namespace, operator).await?;
        clocks_are_wrong(namespace, operator).await?;
        stopped_under_load(namespace, operator).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_write_a_period_comes_from_the_leader_and_the_role_of_the_page_is_enough() -> Result<()> {
    let cluster = alone().await?;
    let done = with_replicas(
        &cluster,
        "lease-requests",
        Way::Proxied,
        async |namespace, operator, proxy, leader| {
            only_the_leader_writes(operator, proxy, &leader).await?;
            handed_over_without_watch(namespace, operator, proxy).await
        },
    )
    .await;
    Operator::of(&cluster).install_anew().await?;
    done
}
