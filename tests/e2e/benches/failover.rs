//! Time from the end of the operator's leader to the next change that is served: `cargo xtask bench failover`.
//!
//! Three replicas with the settings of the page. A record is edited right after the leader has got SIGKILL (`crash_default_*`) or
//! SIGTERM (`planned_*`); the time is from the signal until both servers answer the edit, so it has everything in it:
//! takeover, the servers found, serial written, transfer. Meanwhile every server is asked 20 times a second, and the answers are checked
//! against what was published: a wrong one ends the benchmark.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use anyhow::Result;
use bindy_e2e::{Operator, STEADY_QUESTIONS, add_versions, served};
use bindy_testing::cluster::{LIMIT, Namespace, Server, in_namespace};
use bindy_testing::dns::Answer;
use bindy_testing::figures::{arrival, quantile, report};
use bindy_testing::manifest::a;
use bindy_zone::{Name, Rtype};
use rustix::process::Signal;

const BENCH: &str = "failover";
const CONTAINER: &str = "operator";
const CRASHES: u32 = 10;
const HANDOVERS: u32 = 20;

#[tokio::main]
async fn main() -> Result<()> {
    in_namespace("bench-failover", async |namespace| {
        let operator = Operator::of(namespace.cluster());
        operator.scale_to(3).await?;
        served(namespace, 2).await?;
        let servers = namespace.until_ready("primary", 2, &[]).await?;
        let mut published = namespace.contents_are_published().await?;
        let probes = namespace.probe(&[STEADY_QUESTIONS[0]]).await?;
        let (mut planned, mut crashes) = (Vec::new(), Vec::new());
        for n in 0..HANDOVERS + CRASHES {
            let (signal, times) = match n < HANDOVERS {
                true => (Signal::TERM, &mut planned),
                false => (Signal::KILL, &mut crashes),
            };
            let leader = operator.scale_to(3).await?;
            times.push(takeover(namespace, &leader, &servers, signal, n).await?);
            // A container that is started again and again is kept waiting by its kubelet; one of a new pod is not.
            operator.delete(&leader).await?;
            add_versions(&mut published, namespace.contents_are_published().await?);
        }
        report(BENCH, "planned_p50_ms", quantile(&planned, 0.5) * 1e3, "ms", planned.len());
        report(BENCH, "planned_p99_ms", quantile(&planned, 0.99) * 1e3, "ms", planned.len());
        report(BENCH, "crash_default_p50_s", quantile(&crashes, 0.5), "s", crashes.len());
        report(BENCH, "crash_default_p99_s", quantile(&crashes, 0.99), "s", crashes.len());
        let asked = probes.right(&published).await?.observations.len();
        report(BENCH, "wrong_answers", 0.0, "", asked);
        operator.scale_to(1).await.map(drop)
    })
    .await
}

/// Seconds from the signal until an edit made right after it is served.
async fn takeover(
    namespace: &Namespace,
    leader: &Server,
    servers: &[Server],
    signal: Signal,
    n: u32,
) -> Result<f64> {
    let address = Ipv4Addr::from(0x0a00_0000 + n);
    let addresses: Vec<SocketAddr> = servers.iter().map(Server::dns).collect();
    let is_right = |answer: &Answer| answer.records.iter().any(|one| one.rdata[..] == address.octets());
    let begun = Instant::now();
    leader.signal(CONTAINER, signal)?;
    namespace.apply(&a("changing", "example-com", "changing", &address.to_string())).await?;
    arrival(&addresses, &Name::parse("changing.example.com")?, Rtype::A, is_right, LIMIT).await?;
    Ok(begun.elapsed().as_secs_f64())
}
