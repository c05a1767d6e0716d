//! What a fleet is changed for: size, settings, resources, a bad image. Clients of the Service miss nothing; what BIND can take
//! in place restarts nothing; what cannot work stops at the first pod.

use anyhow::{Context, Result, ensure};
use bindy_e2e::{Load, Ports, STEADY, STEADY_ADDRESS, STEADY_QUESTIONS, served};
use bindy_testing::cluster::{Namespace, Server, condition, in_namespace};
use bindy_zone::Rtype;
use serde_json::{Value, json};

const RATE: u32 = 200;
/// Servers that each of the changes takes away at most.
const TAKEN_AWAY: usize = 4;

/// Changes the instance under load, waits until `done`, and asks that nothing was missed.
async fn misses_nothing(
    namespace: &Namespace,
    change: Value,
    done: impl AsyncFnOnce(&[Server]) -> Result<()>,
) -> Result<()> {
    let before = served(namespace, 2).await?;
    let published = namespace.contents_are_published().await?;
    namespace.answers_by_service("primary", STEADY, Rtype::A, &[STEADY_ADDRESS]).await?;
    let probes = namespace.probe(&STEADY_QUESTIONS).await?;
    let loads = [
        Load::start(namespace, "primary", RATE, Ports::Kept).await?,
        Load::start(namespace, "primary", RATE, Ports::New).await?,
    ];
    probes.more_answers(&before, 20).await?;
    namespace.patch("Bind9Instance", "primary", change).await?;
    done(&before).await?;
    probes.more_answers(&namespace.servers_of("primary").await?, 20).await?;
    let [kept, new] = loads;
    new.stop().await?.nothing_missed()?;
    kept.stop().await?.only_answers_under_way_missed(TAKEN_AWAY)?;
    probes.right(&published).await.map(drop)
}

fn names(servers: &[Server]) -> Vec<&str> {
    servers.iter().map(|server| server.name.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_with_other_resources_replace_those_before_one_by_one() -> Result<()> {
    in_namespace("upgrade-resources", async |namespace| {
        let change = json!({"spec": {"resources": {"requests": {"memory": "65Mi"}}}});
        misses_nothing(namespace, change, async |before| {
            let before: Vec<&Server> = before.iter().collect();
            namespace.until_ready("primary", 2, &before).await.map(drop)
        })
        .await
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_that_bind_takes_in_place_restart_nothing() -> Result<()> {
    in_namespace("upgrade-settings", async |namespace| {
        // Everybody is let in all the same; named has to read it anew.
        let change = json!({"spec": {"config": {"allowQuery": ["!192.0.2.1", "any"]}}});
        misses_nothing(namespace, change, async |before| {
            let config = |server: &Server| {
                let pid = server.process(bindy_testing::cluster::NAMED)?;
                Ok::<_, anyhow::Error>(std::fs::read_to_string(format!(
                    "/proc/{pid}/root/etc/bindy/named.conf"
                ))?)
            };
            namespace.ready("Bind9Instance", "primary").await?;
            for server in before {
                ensure!(config(server)?.contains("! 192.0.2.1/32"), "{} has the old one", server.name);
            }
            let now = namespace.servers_of("primary").await?;
            ensure!(names(&now) == names(before), "pods were replaced");
            for (server, before) in now.iter().zip(before) {
                let restarts = |server: &Server| server.restarts(bindy_testing::cluster::NAMED);
                ensure!(restarts(server) == restarts(before), "{} was restarted", server.name);
            }
            Ok(())
        })
        .await
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_is_scaled_by_kubectl() -> Result<()> {
    in_namespace("upgrade-scale", async |namespace| {
        misses_nothing(namespace, json!({"metadata": {"annotations": {"test": "scale"}}}), async |_| {
            for count in ["4", "1", "2"] {
                let replicas = format!("--replicas={count}");
                let scale = ["scale", "-n", namespace.name(), "bind9instance/primary", &replicas];
                namespace.cluster().kubectl(&scale).await?;
                namespace.until_ready("primary", count.parse()?, &[]).await?;
            }
            let selector = namespace.get("Bind9Instance", "primary").await?;
            let selector =
                selector.data.pointer("/status/selector").and_then(Value::as_str).context("no selector")?;
            let pods =
                namespace.cluster().kubectl(&["get", "pods", "-n", namespace.name(), "-l", selector]).await?;
            ensure!(pods.contains("primary-"), "the selector of the scale subresource finds {pods}");
            Ok(())
        })
        .await
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_does_not_exist_stops_at_the_first_pod() -> Result<()> {
    in_namespace("upgrade-image", async |namespace| {
        let change = json!({"spec": {"image": "ghcr.io/firestoned/bindy-bind9:no-such-tag"}});
        misses_nothing(namespace, change, async |before| {
            let told = namespace
                .until(("Bind9Instance", "primary"), "the status to tell of the image", |object| {
                    let degraded = condition(object, "Degraded")?;
                    let says = degraded.message.contains("no-such-tag")
                        && degraded.message.contains("cannot be pulled");
                    ensure!(degraded.status == "True" && says, "{degraded:?}");
                    Ok(degraded.message)
                })
                .await?;
            ensure!(told.contains("primary-"), "no pod is named: {told}");
            let servers = namespace.servers_of("primary").await?;
            let kept = before.iter().all(|one| servers.iter().any(|now| now.name == one.name && now.ready));
            ensure!(kept && servers.len() == 3, "{:?}", names(&servers));
            // And back.
            namespace.patch("Bind9Instance", "primary", json!({"spec": {"image": null}})).await?;
            namespace.until_ready("primary", 2, &[]).await?;
            namespace
                .until(("Bind9Instance", "primary"), "the instance not to be degraded", |object| {
                    let degraded = condition(object, "Degraded")?;
                    ensure!(degraded.status == "False", "{degraded:?}");
                    Ok(())
                })
                .await
        })
        .await
    })
    .await
}
