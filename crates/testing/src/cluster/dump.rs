//! Everything that explains a failed test, written into its directory.

use anyhow::Result;

use super::{Namespace, OPERATOR};

const OBJECTS: &str = "bind9instances,dnszones,arecords,aaaarecords,cnamerecords,mxrecords,txtrecords,nsrecords,\
                       srvrecords,caarecords,deployments,replicasets,pods,services,endpointslices,configmaps,\
                       serviceaccounts,networkpolicies,poddisruptionbudgets";
const LINES: &str = "--tail=5000";

/// Objects, events, logs of servers and operator. What cannot be had is replaced by the reason.
pub(super) async fn write(namespace: &Namespace) -> Result<()> {
    let name = namespace.name();
    // No Secrets: a dump is shown around.
    put(namespace, "objects.yaml", &["get", OBJECTS, "-n", name, "-o", "yaml"]).await?;
    put(namespace, "events.txt", &["get", "events", "-n", name, "--sort-by=.lastTimestamp"]).await?;
    put(namespace, "pods.txt", &["describe", "pods", "-n", name]).await?;
    put(namespace, "operator.log", &["logs", "-n", OPERATOR, "-l", "app=bindy", "--prefix", LINES]).await?;
    for server in namespace.servers().await.unwrap_or_default() {
        for container in ["named", "agent"] {
            let log = ["logs", "-n", name, &server.name, "-c", container, LINES];
            put(namespace, &format!("{}-{container}.log", server.name), &log).await?;
            if server.restarts(container) > 0 {
                let before = [&log[..], &["--previous"]].concat();
                put(namespace, &format!("{}-{container}-before.log", server.name), &before).await?;
            }
        }
    }
    Ok(())
}

async fn put(namespace: &Namespace, file: &str, kubectl: &[&str]) -> Result<()> {
    let text = namespace.cluster().kubectl(kubectl).await.unwrap_or_else(|error| format!("{error:#}\n"));
    Ok(std::fs::write(namespace.directory().join(file), text)?)
}
