//! The operator's part of the page on high availability, as it stands there: the Deployment with three replicas, the commands
//! that show who leads, and the failover test.

use anyhow::{Context, Result, ensure};
use bindy_e2e::{Operator, STEADY_QUESTIONS, alone, served};
use bindy_testing::cluster::{Cluster, OPERATOR};
use serde_json::Value;

const DEPLOYMENT: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata:
  name: bindy
  namespace: dns-system
spec:
  replicas: 3  # Run 3 instances for HA
  selector:
    matchLabels:
      app: bindy
  template:
    metadata:
      labels:
        app: bindy
    spec:
      serviceAccountName: bindy
      containers:
      - name: operator
        image: ghcr.io/firestoned/bindy:latest
        env:
        # Leader election configuration
        - name: ENABLE_LEADER_ELECTION
          value: "true"
        - name: LEASE_NAME
          value: "bindy-leader"
        - name: LEASE_NAMESPACE
          value: "dns-system"
        - name: LEASE_DURATION_SECONDS
          value: "15"
        - name: LEASE_RENEW_DEADLINE_SECONDS
          value: "10"
        - name: LEASE_RETRY_PERIOD_SECONDS
          value: "2"
        - name: POD_NAME
          valueFrom:
            fieldRef:
              fieldPath: metadata.name
"#;

/// `spec` of the lease, by the page's command.
async fn lease(cluster: &Cluster) -> Result<Value> {
    let lease = cluster.kubectl(&["get", "lease", "-n", OPERATOR, "bindy-leader", "-o", "json"]).await?;
    let lease: Value = serde_json::from_str(&lease)?;
    lease.get("spec").cloned().context("no spec")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_s_deployment_runs_as_it_stands_and_fails_over() -> Result<()> {
    let cluster = alone().await?;
    let operator = Operator::of(&cluster);
    let done = cluster
        .in_namespace("page-operator", async |namespace| {
            let cluster = namespace.cluster();
            cluster.kubectl(&["delete", "deployment", "bindy", "-n", OPERATOR]).await?;
            let page = namespace.directory().join("page.yaml");
            std::fs::write(&page, DEPLOYMENT)?;
            cluster.kubectl(&["apply", "-f", &page.to_string_lossy()]).await?;
            let leader = operator.scale_to(3).await?;
            let spec = lease(cluster).await?;
            ensure!(spec.get("holderIdentity").and_then(Value::as_str) == Some(&leader.name), "{spec}");
            ensure!(spec.get("leaseDurationSeconds").and_then(Value::as_u64) == Some(15), "{spec}");

            let servers = served(namespace, 2).await?;
            let published = namespace.contents_are_published().await?;
            let probes = namespace.probe(&STEADY_QUESTIONS).await?;
            operator.delete(&leader).await?;
            let next = operator.until_leader(|one| one.name != leader.name).await?;
            let log = operator.log_of(&next).await?;
            for line in [
                ("INFO", "Attempting to acquire lease bindy-leader"),
                ("INFO", "Lease acquired, this instance is now the leader"),
                ("INFO", "Starting all operators"),
            ] {
                let found = log.lines().any(|one| one.contains(line.0) && one.contains(line.1));
                ensure!(found, "{} has not logged {line:?}:\n{log}", next.name);
            }
            let shown = cluster.kubectl(&["get", "bind9instances", "-A"]).await?;
            ensure!(shown.contains("2/2"), "{shown}");
            ensure!(namespace.contents_are_published().await? == published, "another version was published");
            probes.more_answers(&servers, 20).await?;
            probes.right(&published).await.map(drop)
        })
        .await;
    operator.install_anew().await?;
    done
}
