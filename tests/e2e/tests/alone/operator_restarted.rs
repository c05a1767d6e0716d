//! A restarted operator finds everything as it is: no serial changes, nothing is written, nothing is transferred again;
//! and the next edit is a difference.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use bindy_e2e::{Operator, STEADY_QUESTIONS, add_versions, alone, served, versions};
use bindy_testing::cluster::{Cluster, NAMED, Namespace};
use bindy_testing::manifest::{a, instance, zone};
use bindy_zone::Rtype;
use serde_json::json;

const KINDS: [&str; 11] = [
    "Bind9Instance",
    "DNSZone",
    "ARecord",
    "Deployment",
    "Service",
    "ConfigMap",
    "Secret",
    "ServiceAccount",
    "NetworkPolicy",
    "Pod",
    "PodDisruptionBudget",
];

/// Served before and after.
const ZONES: [&str; 2] = ["example.com", "other.example"];

/// Transfers of the zones that there are that each named has begun, whole ones and differences.
async fn transfers(namespace: &Namespace) -> Result<BTreeMap<String, usize>> {
    let mut found = BTreeMap::new();
    for server in namespace.servers().await? {
        let log = ["logs", "-n", namespace.name(), &server.name, "-c", NAMED];
        let log = namespace.cluster().kubectl(&log).await?;
        let of_zone = |line: &&str| {
            ZONES.iter().any(|zone| line.contains(&format!("zone {zone}/IN: Transfer started")))
        };
        let count = log.lines().filter(of_zone).count();
        ensure!(count > 0, "{} logs no transfers", server.name);
        found.insert(server.name, count);
    }
    Ok(found)
}

/// Namespaces of earlier tests are gone, so that nothing is written on their account.
async fn quiet(cluster: &Cluster) -> Result<()> {
    let terminating = ["--field-selector=status.phase=Terminating", "-l", "bindy-e2e=true"];
    let wait = [&["wait", "--for=delete", "namespace", "--timeout=90s"][..], &terminating].concat();
    match cluster.kubectl(&wait).await {
        Err(error) if !error.to_string().contains("no matching resources") => Err(error),
        _ => Ok(()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_operator_changes_writes_and_transfers_nothing_when_it_is_back() -> Result<()> {
    let cluster = alone().await?;
    cluster
        .in_namespace("operator-restarted", async |namespace| {
            let cluster = namespace.cluster();
            quiet(cluster).await?;
            let more = instance("secondary", "secondary", 1, &["primary"]) + &zone("other", "other.example");
            namespace.apply(&(more + &a("www", "other", "www", "192.0.2.1"))).await?;
            served(namespace, 1).await?;
            for (kind, name) in
                [("DNSZone", "other"), ("Bind9Instance", "secondary"), ("DNSZone", "example-com")]
            {
                namespace.ready(kind, name).await?;
            }
            // Kubernetes writes once more when its pods have been ready for a few seconds.
            for name in ["primary", "secondary"] {
                let what = format!("Deployment {name} to be available");
                namespace
                    .until(("Deployment", name), &what, |object| {
                        let available = object.data.pointer("/status/availableReplicas");
                        ensure!(available == Some(&json!(1)), "{available:?} are available");
                        Ok(())
                    })
                    .await?;
            }
            let mut published = namespace.contents_are_published().await?;
            let probes = namespace.probe(&STEADY_QUESTIONS).await?;
            let (objects, transferred) = (versions(namespace, &KINDS).await?, transfers(namespace).await?);
            let requests = cluster.requests().await?;

            let operator = Operator::of(cluster);
            operator.kill().await?;
            // Proof that it works again, by an object that was not there before; it is the only thing that it may write.
            namespace.apply(&zone("proof", "proof.example")).await?;
            namespace.ready("DNSZone", "proof").await?;
            let mut now = versions(namespace, &KINDS).await?;
            now.retain(|object, _| !object.contains("proof"));
            let changed: Vec<_> =
                objects.iter().filter(|(name, version)| now.get(*name) != Some(version)).collect();
            // The catalog has one member more, which the instances' statuses say.
            let unexpected: Vec<_> =
                changed.iter().filter(|(name, _)| !name.starts_with("Bind9Instance")).collect();
            ensure!(unexpected.is_empty(), "changed were {unexpected:?}");
            let writes = cluster
                .requests()
                .await?
                .since(&requests)
                .only(|one| one.is_write() && one.is_of_bindy() && one.resource != "bind9instances");
            // The zone's own creation, its serial, its readiness.
            ensure!(writes.count() <= 4, "written was\n{writes}");
            for (name, before) in transferred {
                let now = transfers(namespace).await?.get(&name).copied().context("a server is gone")?;
                ensure!(now == before, "{name} began {} transfers", now - before);
            }
            namespace.serve(&a("later", "example-com", "later", "192.0.2.7")).await?;
            namespace.answers("later.example.com", Rtype::A, &["192.0.2.7"]).await?;
            add_versions(&mut published, namespace.contents_are_published().await?);
            probes.right(&published).await.map(drop)
        })
        .await
}
