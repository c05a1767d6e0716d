//! The API server cannot be reached, hangs, refuses with 429 or forbids, has forgotten the operator's version: DNS does
//! not notice, the operator does not restart, and converges when it is over.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bindy_e2e::{Operator, STEADY_QUESTIONS, ZONE, alone, served};
use bindy_testing::cluster::{ApiProxy, Cluster, Fate, Line, Namespace};
use bindy_testing::manifest::a;
use bindy_testing::wait_for;
use bindy_zone::Rtype;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

/// How long each trouble lasts: longer than the operator's limits of single calls.
const TROUBLE: Duration = Duration::from_secs(15);
/// How soon afterwards everything has converged.
const CONVERGED: Duration = Duration::from_secs(20);

/// How the operator reaches the API server.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Direct,
    Proxied,
}

/// A fault, while which an edit is made, and its end.
async fn survives(
    test: &str,
    way: Way,
    fault: impl AsyncFnOnce(&Namespace, &Operator, &ApiProxy) -> Result<()>,
) -> Result<()> {
    let cluster = alone().await?;
    cluster
        .in_namespace(test, async |namespace| {
            let servers = served(namespace, 2).await?;
            namespace.serve(&a("edited", ZONE.0, "edited", "192.0.2.1")).await?;
            let probes = namespace.probe(&[STEADY_QUESTIONS[0]]).await?;
            let operator = Operator::of(namespace.cluster());
            let proxy = ApiProxy::start(namespace.cluster()).await?;
            if way == Way::Proxied {
                operator.through(&proxy, &[]).await?;
            }
            let before = operator.pod().await?;
            fault(namespace, &operator, &proxy).await?;
            let what = "the edit to be served after the trouble";
            wait_for(what, CONVERGED, async || {
                namespace.answers("edited.example.com", Rtype::A, &["192.0.2.2"]).await
            })
            .await?;
            namespace.ready("ARecord", "edited").await?;
            ensure!(
                operator.pod().await? == before,
                "the operator was restarted: {:?}",
                operator.pod().await?
            );
            probes.more_answers(&servers, 10).await?;
            let published = namespace.contents_are_published().await?;
            probes.right(&published).await?;
            if way == Way::Proxied { operator.direct().await } else { Ok(()) }
        })
        .await
}

/// The operator's requests fare as `rule` says, while an edit is made and for a while after it.
async fn ill_treated(test: &str, rule: fn(&Line) -> Fate) -> Result<()> {
    survives(test, Way::Proxied, async |namespace, _, proxy| {
        proxy.treat(rule);
        edit(namespace).await?;
        tokio::time::sleep(TROUBLE).await;
        proxy.treat(|_| Fate::Pass);
        ensure!(proxy.ill_treated() > 0, "no request was ill-treated");
        Ok(())
    })
    .await
}

async fn edit(namespace: &Namespace) -> Result<()> {
    namespace.apply(&a("edited", ZONE.0, "edited", "192.0.2.2")).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packets_to_the_api_server_vanish_for_a_while() -> Result<()> {
    survives("api-silent", Way::Direct, async |namespace, operator, _| {
        let rules = operator.without_api("drop").await?;
        edit(namespace).await?;
        tokio::time::sleep(TROUBLE).await;
        drop(rules);
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_server_refuses_connections_and_has_forgotten_the_past() -> Result<()> {
    survives("api-gone", Way::Direct, async |namespace, operator, _| {
        let rules = operator.without_api("reject with tcp reset").await?;
        edit(namespace).await?;
        // Watches that go on from before this are answered 410 Gone.
        compact(namespace.cluster()).await?;
        tokio::time::sleep(TROUBLE).await;
        drop(rules);
        Ok(())
    })
    .await
}

/// Neither answers nor refuses for so long.
async fn hangs(test: &str, time: Duration) -> Result<()> {
    survives(test, Way::Direct, async |namespace, _, _| {
        let daemon = namespace.cluster().description().daemon("apiserver")?;
        let pid = std::fs::read_to_string(&daemon.pid)?;
        let pid = pid.split_whitespace().next().context("no process ID")?.parse()?;
        let pid = Pid::from_raw(pid).context("a process ID out of range")?;
        kill_process(pid, Signal::STOP)?;
        tokio::time::sleep(time).await;
        kill_process(pid, Signal::CONT)?;
        edit(namespace).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_server_hangs() -> Result<()> {
    hangs("api-frozen", TROUBLE).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: four minutes"]
async fn the_api_server_hangs_for_minutes() -> Result<()> {
    hangs("api-frozen-long", Duration::from_secs(240)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: a watch lasts 25 s, and one that is half open is noticed after 30 s"]
async fn watches_are_half_open() -> Result<()> {
    survives("api-half-open", Way::Proxied, async |namespace, _, proxy| {
        proxy.treat(|line| if line.is_watch() { Fate::Silent } else { Fate::Pass });
        let limit = Duration::from_secs(60);
        wait_for("watches to be renewed", limit, async || {
            ensure!(proxy.ill_treated() >= 10, "{} watches are half open", proxy.ill_treated());
            anyhow::Ok(())
        })
        .await?;
        edit(namespace).await?;
        proxy.treat(|_| Fate::Pass);
        wait_for("the edit to be seen", limit, async || {
            namespace.answers("edited.example.com", Rtype::A, &["192.0.2.2"]).await
        })
        .await
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_server_answers_429() -> Result<()> {
    ill_treated("api-429", |_| Fate::Refused(429)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fifth_of_the_requests_fails_with_429_or_500() -> Result<()> {
    ill_treated("api-flaky", |line| match line.number % 10 {
        3 => Fate::Refused(429),
        7 => Fate::Refused(500),
        _ => Fate::Pass,
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_server_is_slow() -> Result<()> {
    ill_treated("api-slow", |_| Fate::Late(Duration::from_secs(3))).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_to_writes_are_lost() -> Result<()> {
    ill_treated("api-replies", |line| if line.is_write() { Fate::ReplyLost } else { Fate::Pass }).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operator_has_lost_its_rights_for_a_while() -> Result<()> {
    survives("api-403", Way::Direct, async |namespace, operator, _| {
        let cluster = namespace.cluster();
        let binding = cluster.kubectl(&["get", "clusterrolebinding", "bindy", "-o", "json"]).await?;
        let file = namespace.directory().join("binding.json");
        std::fs::write(&file, binding)?;
        cluster.kubectl(&["delete", "clusterrolebinding", "bindy"]).await?;
        edit(namespace).await?;
        tokio::time::sleep(TROUBLE).await;
        let log = operator.log().await;
        let mut restored: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&file)?)?;
        restored["metadata"] = json!({"name": "bindy"});
        std::fs::write(&file, restored.to_string())?;
        cluster.kubectl(&["apply", "-f", &file.to_string_lossy()]).await?;
        ensure!(log?.contains("forbidden"), "the log says nothing of missing rights");
        Ok(())
    })
    .await
}

/// Has etcd forget everything but the present, as it does every five minutes by itself.
async fn compact(cluster: &Cluster) -> Result<()> {
    let list = cluster.kubectl(&["get", "--raw", "/api/v1/namespaces?limit=1"]).await?;
    let list: serde_json::Value = serde_json::from_str(&list)?;
    let revision = list
        .pointer("/metadata/resourceVersion")
        .and_then(serde_json::Value::as_str)
        .context("no resource version")?;
    let url = format!("{}/v3/kv/compaction", cluster.description().etcd);
    let body = json!({"revision": revision, "physical": true}).to_string();
    let output = tokio::process::Command::new("curl")
        .args(["-sS", "-f", "-X", "POST", "-d", &body, &url])
        .output()
        .await?;
    ensure!(output.status.success(), "etcd: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
