//! `externalTrafficPolicy: Local`: a router or load balancer brings clients to a node, which answers them by its own server only.
//! That server is deleted, and the node answers on until they have had time to notice and to bring clients elsewhere.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bindy_e2e::{STEADY, STEADY_ADDRESS, served};
use bindy_testing::cluster::{Grace, LIMIT, in_namespace};
use bindy_testing::dns::{self, Transport};
use bindy_testing::history::Outcome;
use bindy_testing::{ProbeTarget, Prober, ProberConfig, Question, wait_for};
use bindy_zone::{Name, Rtype};
use serde_json::json;

/// How long it takes until the router brings nobody to the node any more.
const ROUTER: Duration = Duration::from_secs(12);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_answers_on_until_its_router_has_noticed_that_its_server_stops() -> Result<()> {
    in_namespace("local-traffic", async |namespace| {
        served(namespace, 1).await?;
        let service = json!({"type": "NodePort", "externalTrafficPolicy": "Local"});
        namespace.patch("Bind9Instance", "primary", json!({"spec": {"service": service}})).await?;
        let servers = namespace.until_ready("primary", 1, &[]).await?;
        let server = servers.first().context("no server")?;
        let ports = "jsonpath={.spec.ports[?(@.name==\"dns\")].nodePort}";
        let port = namespace.kubectl(&["get", "service", "primary", "-o", ports]).await?;
        let nodes = &namespace.cluster().description().nodes;
        let node = nodes.iter().find(|node| node.name == server.node).context("no such node")?;
        let address = SocketAddr::new(node.address.into(), port.parse()?);
        let steady = Name::parse(STEADY)?;
        // TCP has a port of its own there.
        wait_for("the node to answer", LIMIT, async || {
            let found = dns::texts(address, Transport::Udp, &steady, Rtype::A).await?;
            ensure!(found == [STEADY_ADDRESS], "{found:?}");
            anyhow::Ok(())
        })
        .await?;

        let target = ProbeTarget { name: node.name.clone(), address };
        let question = Question { name: steady, rtype: Rtype::A };
        let config = ProberConfig { tcp_every: 0, ..ProberConfig::new(vec![target], vec![question]) };
        let prober = Prober::start(config).await?;
        let deleted = prober.elapsed();
        namespace.delete_server(server, Grace::Own).await?;
        tokio::time::sleep(ROUTER).await;
        let asked = prober.stop().await?.observations;
        let asked: Vec<_> = asked.iter().filter(|one| one.sent < deleted + ROUTER).collect();
        let lost: Vec<Duration> =
            asked.iter().filter(|one| *one.outcome == Outcome::Lost).map(|one| one.sent - deleted).collect();
        ensure!(lost.is_empty(), "{} of {} questions were lost: {lost:?}", lost.len(), asked.len());
        ensure!(asked.len() > 100, "only {} questions were asked", asked.len());
        namespace.until_ready("primary", 1, &[server]).await.map(drop)
    })
    .await
}
