//! Time from the end of the operator's leader to the next change that is served: `cargo xtask bench failover`.
//!
//! Three replicas. A record is edited right after the leader has got SIGTERM (`planned_*`, with the right to watch and with the
//! Role of the page, which lacks it) or SIGKILL (`crash_*`, with the page's lease and one of 3 s); the time is from the signal until
//! both servers answer the edit, so it has everything in it: takeover, serial written, transfer. `after_planned_ms` is how long an
//! edit takes that is made as soon as the lease names the next leader. Meanwhile every server is asked all the time, and
//! the answers are checked against what was published: a wrong one ends the benchmark.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use anyhow::Result;
use bindy_e2e::{Operator, SHORT_LEASE, STEADY_QUESTIONS, add_versions, served};
use bindy_testing::checker::Published;
use bindy_testing::cluster::{LIMIT, Namespace, Server, in_namespace};
use bindy_testing::dns::Answer;
use bindy_testing::figures::{arrival, quantile, report};
use bindy_testing::manifest::a;
use bindy_zone::{Name, Rtype};
use rustix::process::Signal;

const BENCH: &str = "failover";
const CONTAINER: &str = "operator";
const CRASHES: usize = 10;
const HANDOVERS: usize = 20;

#[tokio::main]
async fn main() -> Result<()> {
    in_namespace("bench-failover", async |namespace| {
        let operator = Operator::of(namespace.cluster());
        served(namespace, 2).await?;
        let servers = namespace.until_ready("primary", 2, &[]).await?;
        let published = namespace.contents_are_published().await?;
        let probes = namespace.probe(&[STEADY_QUESTIONS[0]]).await?;
        let mut run = Run { namespace, operator: &operator, servers, published, edits: 0 };

        let planned = run.ends(Signal::TERM, HANDOVERS).await?;
        report(BENCH, "planned_p50_ms", quantile(&planned, 0.5) * 1e3, "ms", planned.len());
        report(BENCH, "planned_p90_ms", quantile(&planned, 0.9) * 1e3, "ms", planned.len());
        report(BENCH, "planned_p99_ms", quantile(&planned, 0.99) * 1e3, "ms", planned.len());
        let after = run.edits_after_a_takeover(HANDOVERS / 2).await?;
        report(BENCH, "after_planned_p50_ms", quantile(&after, 0.5) * 1e3, "ms", after.len());
        report(BENCH, "after_planned_p99_ms", quantile(&after, 0.99) * 1e3, "ms", after.len());
        run.crashes("crash_default").await?;

        operator.scale_to(1).await?;
        operator.set_env(&SHORT_LEASE).await?;
        run.crashes("crash_3s").await?;
        operator.scale_to(1).await?;
        operator.direct().await?;

        operator.take_the_right_to_watch_the_lease().await?;
        let planned = run.ends(Signal::TERM, HANDOVERS / 2).await?;
        report(BENCH, "planned_page_role_p50_s", quantile(&planned, 0.5), "s", planned.len());
        report(BENCH, "planned_page_role_p99_s", quantile(&planned, 0.99), "s", planned.len());

        let asked = probes.right(&run.published).await?.observations.len();
        report(BENCH, "wrong_answers", 0.0, "", asked);
        operator.install_anew().await
    })
    .await
}

struct Run<'a> {
    namespace: &'a Namespace,
    operator: &'a Operator,
    servers: Vec<Server>,
    published: Published,
    edits: u32,
}

impl Run<'_> {
    async fn crashes(&mut self, name: &str) -> Result<()> {
        let times = self.ends(Signal::KILL, CRASHES).await?;
        report(BENCH, &format!("{name}_p50_s"), quantile(&times, 0.5), "s", times.len());
        report(BENCH, &format!("{name}_p99_s"), quantile(&times, 0.99), "s", times.len());
        Ok(())
    }

    /// Ends leaders one after the other; seconds until an edit made right after each end is served.
    async fn ends(&mut self, signal: Signal, times: usize) -> Result<Vec<f64>> {
        let mut all = Vec::new();
        for _ in 0..times {
            let leader = self.operator.scale_to(3).await?;
            let begun = Instant::now();
            leader.signal(CONTAINER, signal)?;
            self.edit_is_served().await?;
            all.push(begun.elapsed().as_secs_f64());
            self.replace(&leader).await?;
        }
        Ok(all)
    }

    /// Seconds from an edit to its answer, made as soon as another replica leads.
    async fn edits_after_a_takeover(&mut self, times: usize) -> Result<Vec<f64>> {
        let mut all = Vec::new();
        for _ in 0..times {
            let leader = self.operator.scale_to(3).await?;
            leader.signal(CONTAINER, Signal::TERM)?;
            self.operator.until_leader(|one| one.name != leader.name).await?;
            let begun = Instant::now();
            self.edit_is_served().await?;
            all.push(begun.elapsed().as_secs_f64());
            self.replace(&leader).await?;
        }
        Ok(all)
    }

    async fn edit_is_served(&mut self) -> Result<()> {
        self.edits += 1;
        let address = Ipv4Addr::from(0x0a00_0000 + self.edits);
        let addresses: Vec<SocketAddr> = self.servers.iter().map(Server::dns).collect();
        let is_right = |answer: &Answer| answer.records.iter().any(|one| one.rdata[..] == address.octets());
        self.namespace.apply(&a("changing", "example-com", "changing", &address.to_string())).await?;
        arrival(&addresses, &Name::parse("changing.example.com")?, Rtype::A, is_right, LIMIT).await?;
        Ok(())
    }

    /// A container that is started again and again is kept waiting by its kubelet; one of a new pod is not.
    async fn replace(&mut self, leader: &Server) -> Result<()> {
        add_versions(&mut self.published, self.namespace.contents_are_published().await?);
        self.operator.delete(leader).await
    }
}
