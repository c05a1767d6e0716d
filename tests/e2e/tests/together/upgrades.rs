//! What a fleet is changed for: size, settings, resources, a bad image. Clients of the Service miss nothing; what BIND can take
//! in place restarts nothing; what cannot work stops at the first pod.

use anyhow::{Context, Result, ensure};
use bindy_api::BIND_IMAGE;
use bindy_e2e::{
    Clients, STEADY, STEADY_ADDRESS, STEADY_QUESTIONS, ZONE, remove_volumes, served, served_with_volumes,
    storage,
};
use bindy_testing::cluster::{Namespace, Server, condition, in_namespace, is_ready};
use bindy_testing::manifest::a;
use bindy_zone::Rtype;
use serde_json::{Value, json};

const RATE: u32 = 200;
/// Releases of BIND: the default, and the next one.
const RELEASES: [&str; 2] = ["9.18", "9.20"];

/// Changes the instance under load, waits until `done`, and asks that nothing was missed, so many servers being taken away.
async fn misses_nothing(
    namespace: &Namespace,
    before: &[Server],
    taken_away: usize,
    change: Value,
    done: impl AsyncFnOnce() -> Result<()>,
) -> Result<()> {
    let published = namespace.contents_are_published().await?;
    namespace.answers_by_service("primary", STEADY, Rtype::A, &[STEADY_ADDRESS]).await?;
    let probes = namespace.probe(&STEADY_QUESTIONS).await?;
    let clients = Clients::start(namespace, "primary", RATE).await?;
    probes.more_answers(before, 20).await?;
    namespace.patch("Bind9Instance", "primary", change).await?;
    done().await?;
    probes.more_answers(&namespace.servers_of("primary").await?, 20).await?;
    clients.missed_nothing(taken_away).await?;
    probes.right(&published).await.map(drop)
}

fn names(servers: &[Server]) -> Vec<&str> {
    servers.iter().map(|server| server.name.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_of_another_version_and_with_other_resources_replace_those_before_one_by_one() -> Result<()> {
    in_namespace("upgrade-version", async |namespace| {
        let servers = served(namespace, 2).await?;
        are_replaced_one_by_one(namespace, servers).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_with_volumes_are_replaced_one_by_one() -> Result<()> {
    in_namespace("upgrade-volumes", async |namespace| {
        let servers = served_with_volumes(namespace, 2, &storage()).await?;
        are_replaced_one_by_one(namespace, servers).await?;
        remove_volumes(namespace, "primary", 2).await
    })
    .await
}

/// Servers of the next release of BIND take the place of these, and then those of the release before again, with other
/// resources each time; nothing is missed, and an edit arrives at each.
async fn are_replaced_one_by_one(namespace: &Namespace, before: Vec<Server>) -> Result<()> {
    let [release, next] = RELEASES;
    let mut servers = before;
    for server in &servers {
        runs(namespace, server, release).await?;
    }
    for (release, memory, address) in [(next, "65Mi", "192.0.2.65"), (release, "66Mi", "192.0.2.66")] {
        servers = replaced(namespace, &servers, release, memory).await?;
        namespace.serve(&a("later", ZONE.0, "later", address)).await?;
    }
    Ok(())
}

/// Returns the servers in place of these, with this release of BIND and asking for this much memory.
async fn replaced(
    namespace: &Namespace,
    before: &[Server],
    release: &str,
    memory: &str,
) -> Result<Vec<Server>> {
    let resources = json!({"requests": {"memory": memory}});
    let change = json!({"spec": {"version": release, "resources": resources}});
    let mut after = Vec::new();
    misses_nothing(namespace, before, before.len(), change, async || {
        let gone: Vec<&Server> = before.iter().collect();
        after = namespace.until_ready("primary", before.len(), &gone).await?;
        for server in &after {
            runs(namespace, server, release).await?;
            let pod = namespace.get("Pod", &server.name).await?;
            let named = |field: &str| pod.data.pointer(&format!("/spec/containers/0/{field}")).cloned();
            let image = named("image").unwrap_or_default();
            ensure!(image == json!(format!("{BIND_IMAGE}:{release}")), "{} runs {image}", server.name);
            let asked = named("resources/requests/memory");
            ensure!(asked == Some(json!(memory)), "{} asks for {asked:?}", server.name);
        }
        let instance = namespace.ready("Bind9Instance", "primary").await?;
        let told = instance.data.pointer("/status/version").and_then(Value::as_str);
        ensure!(told == Some(release), "the status tells of {told:?}, not {release}");
        Ok(())
    })
    .await?;
    Ok(after)
}

/// An error unless the server's named is of this release.
async fn runs(namespace: &Namespace, server: &Server, release: &str) -> Result<()> {
    let said = namespace.kubectl(&["exec", &server.name, "-c", "named", "--", "named", "-v"]).await?;
    ensure!(said.starts_with(&format!("BIND {release}.")), "{} is {said:?}, not {release}", server.name);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_that_bind_takes_in_place_restart_nothing() -> Result<()> {
    in_namespace("upgrade-settings", async |namespace| {
        // Everybody is let in all the same; named has to read it anew.
        let change = json!({"spec": {"config": {"allowQuery": ["!192.0.2.1", "any"]}}});
        let before = served(namespace, 2).await?;
        misses_nothing(namespace, &before, 0, change, async || {
            let config = |server: &Server| {
                let pid = server.process(bindy_testing::cluster::NAMED)?;
                Ok::<_, anyhow::Error>(std::fs::read_to_string(format!(
                    "/proc/{pid}/root/run/bindy/named.conf"
                ))?)
            };
            namespace.ready("Bind9Instance", "primary").await?;
            for server in &before {
                ensure!(config(server)?.contains("! 192.0.2.1/32"), "{} has the old one", server.name);
            }
            let now = namespace.servers_of("primary").await?;
            ensure!(names(&now) == names(&before), "pods were replaced");
            for (server, before) in now.iter().zip(&before) {
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
        let before = served(namespace, 2).await?;
        let change = json!({"metadata": {"annotations": {"test": "scale"}}});
        misses_nothing(namespace, &before, 3, change, async || {
            for count in ["4", "1", "2"] {
                let replicas = format!("--replicas={count}");
                let scale = ["scale", "-n", namespace.name(), "bind9instance/primary", &replicas];
                namespace.cluster().kubectl(&scale).await?;
                namespace.until_ready("primary", count.parse()?, &[]).await?;
            }
            let selector = namespace.get("Bind9Instance", "primary").await?;
            let selector =
                selector.data.pointer("/status/selector").and_then(Value::as_str).context("no selector")?;
            let found = namespace.kubectl(&["get", "pods", "-l", selector, "-o", "name"]).await?;
            let mut found: Vec<&str> =
                found.lines().filter_map(|line| line.trim().strip_prefix("pod/")).collect();
            found.sort_unstable();
            let servers = namespace.servers_of("primary").await?;
            let mut wanted = names(&servers);
            wanted.sort_unstable();
            ensure!(found == wanted, "the selector of the scale subresource finds {found:?}, not {wanted:?}");
            Ok(())
        })
        .await
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_does_not_exist_stops_at_the_first_pod() -> Result<()> {
    in_namespace("upgrade-image", async |namespace| {
        let before = served(namespace, 2).await?;
        misses_nothing(namespace, &before, 0, no_such_image(), async || {
            let told = told_of_the_image(namespace).await?;
            ensure!(told.contains("primary-"), "no pod is named: {told}");
            let servers = namespace.servers_of("primary").await?;
            let kept = before.iter().all(|one| servers.iter().any(|now| now.name == one.name && now.ready));
            ensure!(kept && servers.len() == 3, "{:?}", names(&servers));
            // It is there, and has no named in it.
            namespace.patch("Bind9Instance", "primary", json!({"spec": {"image": OTHER_IMAGE}})).await?;
            namespace
                .until(
                    ("Bind9Instance", "primary"),
                    "the status to tell that named does not start",
                    |object| {
                        let degraded = condition(object, "Degraded")?;
                        let says = degraded.message.contains("named ")
                            && !degraded.message.contains("cannot be pulled");
                        ensure!(degraded.reason == "ServersFailing" && says, "{degraded:?}");
                        Ok(())
                    },
                )
                .await?;
            is_corrected(namespace, before.len()).await
        })
        .await
    })
    .await
}

/// A StatefulSet makes no server before it has stopped one; and what keeps it from going on must not keep it from going back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_does_not_exist_stops_at_the_first_server_with_a_volume() -> Result<()> {
    in_namespace("upgrade-image-volumes", async |namespace| {
        let before = served_with_volumes(namespace, 3, &storage()).await?;
        misses_nothing(namespace, &before, 1, no_such_image(), async || {
            let told = told_of_the_image(namespace).await?;
            ensure!(told.contains("primary-2"), "the last one is not named: {told}");
            let servers = namespace.servers_of("primary").await?;
            for server in before.iter().filter(|one| one.name != "primary-2") {
                let kept = servers.iter().any(|now| now.uid == server.uid && now.ready && !now.going);
                ensure!(kept, "{} does not go on: {servers:?}", server.name);
            }
            is_corrected(namespace, before.len()).await
        })
        .await?;
        remove_volumes(namespace, "primary", 3).await
    })
    .await
}

/// Another program's: the operator's.
const OTHER_IMAGE: &str = "ghcr.io/firestoned/bindy:latest";

fn no_such_image() -> Value {
    json!({"spec": {"image": "ghcr.io/firestoned/bindy-bind9:no-such-tag"}})
}

/// Waits until the status tells of the image, and returns its words.
async fn told_of_the_image(namespace: &Namespace) -> Result<String> {
    namespace
        .until(("Bind9Instance", "primary"), "the status to tell of the image", |object| {
            let degraded = condition(object, "Degraded")?;
            let says =
                degraded.message.contains("no-such-tag") && degraded.message.contains("cannot be pulled");
            ensure!(degraded.status == "True" && degraded.reason == "ServersFailing" && says, "{degraded:?}");
            Ok(degraded.message)
        })
        .await
}

/// Takes the image back, and waits until all is well.
async fn is_corrected(namespace: &Namespace, servers: usize) -> Result<()> {
    namespace.patch("Bind9Instance", "primary", json!({"spec": {"image": null}})).await?;
    namespace.until_ready("primary", servers, &[]).await?;
    namespace
        .until(("Bind9Instance", "primary"), "the instance to be ready and not degraded", |object| {
            is_ready(object)?;
            let degraded = condition(object, "Degraded")?;
            ensure!(degraded.status == "False", "{degraded:?}");
            Ok(())
        })
        .await
}
