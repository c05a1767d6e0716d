//! API server and etcd answer nobody, and the operator, a named and an agent die: kubelets start them again by themselves, DNS goes
//! on, and when the control plane is back everything is as it was.

use anyhow::{Context, Result, ensure};
use bindy_e2e::{
    Clients, Operator, STEADY, STEADY_ADDRESS, STEADY_QUESTIONS, ZONE, add_versions, alone, served,
};
use bindy_testing::cluster::{AGENT, LIMIT, NAMED};
use bindy_testing::manifest::a;
use bindy_testing::{http, wait_for};
use bindy_zone::Rtype;
use rustix::process::Signal;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containers_come_back_while_the_whole_control_plane_is_silent() -> Result<()> {
    let cluster = alone().await?;
    cluster
        .in_namespace("no-control-plane", async |namespace| {
            let servers = served(namespace, 2).await?;
            let mut published = namespace.contents_are_published().await?;
            let probes = namespace.probe(&STEADY_QUESTIONS).await?;
            let clients = Clients::beside(namespace, "primary").await?;
            probes.more_answers(&servers, 10).await?;
            let [first, second] = servers.as_slice() else { anyhow::bail!("not two servers") };
            let operator = Operator::of(namespace.cluster());
            let replicas = operator.replicas().await?;

            let silent = namespace.cluster().freeze(&["apiserver", "etcd"])?;
            replicas.first().context("the operator has no pod")?.signal("operator", Signal::KILL)?;
            probes.outage_begins(first);
            first.signal(NAMED, Signal::KILL)?;
            second.signal(AGENT, Signal::KILL)?;
            wait_for("the containers to end", LIMIT, async || {
                let left = [first.process(NAMED), second.process(AGENT)];
                ensure!(left.iter().all(Result::is_err), "there still are {left:?}");
                anyhow::Ok(())
            })
            .await?;
            for server in &servers {
                server.answers(STEADY, Rtype::A, &[STEADY_ADDRESS]).await?;
                wait_for(&format!("the agent of {} to be content", server.name), LIMIT, async || {
                    let answer = http::get(server.http(), "/readyz").await?;
                    ensure!(answer.contains(" 200 "), "{answer}");
                    anyhow::Ok(())
                })
                .await?;
            }
            probes.outage_ends(first);
            probes.more_answers(&servers, 20).await?;
            drop(silent);

            namespace.until_restarted(first, NAMED).await?;
            namespace.until_restarted(second, AGENT).await?;
            operator.until_ready().await?;
            namespace.serve(&a("later", ZONE.0, "later", "192.0.2.7")).await?;
            namespace.answers("later.example.com", Rtype::A, &["192.0.2.7"]).await?;
            add_versions(&mut published, namespace.contents_are_published().await?);
            clients.nothing_wrong().await?;
            probes.right(&published).await.map(drop)
        })
        .await
}
