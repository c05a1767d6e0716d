//! What the page on high availability shows for pods: the smallest instance, applied as it stands there, has the anti-affinity,
//! the spread over zones, the probes and the disruption budget of the page, word for word.

use anyhow::{Context, Result, ensure};
use bindy_testing::cluster::in_namespace;
use serde_json::{Value, json};

const MULTIPLE_REPLICAS: &str = r"
apiVersion: bindy.firestoned.io/v1beta1
kind: Bind9Instance
metadata:
  name: primary-dns
spec:
  replicas: 3  # Multiple replicas for pod-level HA
";

const DISRUPTION_BUDGET: &str = r"
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: primary-dns-pdb
spec:
  minAvailable: 2
  selector:
    matchLabels:
      instance: primary-dns
";

/// Whether everything of `part` is in `whole`; of a list, each entry in some entry.
fn contains(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            part.iter().all(|(key, value)| whole.get(key).is_some_and(|there| contains(there, value)))
        }
        (Value::Array(whole), Value::Array(part)) => {
            part.iter().all(|value| whole.iter().any(|there| contains(there, value)))
        }
        (whole, part) => whole == part,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_smallest_instance_has_everything_that_the_page_shows() -> Result<()> {
    in_namespace("page-pods", async |namespace| {
        namespace.apply(MULTIPLE_REPLICAS).await?;
        namespace.until_ready("primary-dns", 3, &[]).await?;
        namespace.ready("Bind9Instance", "primary-dns").await?;
        let deployment = namespace.get("Deployment", "primary-dns").await?;
        let pod = deployment.data.pointer("/spec/template/spec").context("no pod template")?;
        let question = json!(["dig", "@localhost", "version.bind", "txt", "chaos"]);
        let shown = [
            json!({"affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{
                "weight": 100,
                "podAffinityTerm": {
                    "labelSelector": {"matchExpressions": [
                        {"key": "instance", "operator": "In", "values": ["primary-dns"]}]},
                    "topologyKey": "kubernetes.io/hostname"}}]}}}),
            json!({"topologySpreadConstraints": [{
                "maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule",
                "labelSelector": {"matchLabels": {"instance": "primary-dns"}}}]}),
            json!({"containers": [{
                "livenessProbe": {"exec": {"command": question}, "initialDelaySeconds": 30, "periodSeconds": 10},
                "readinessProbe": {"exec": {"command": question}, "initialDelaySeconds": 5, "periodSeconds": 5}}]}),
        ];
        for part in shown {
            ensure!(contains(pod, &part), "the pods lack {part}:\n{pod:#}");
        }
        let budget = namespace.get("PodDisruptionBudget", "primary-dns-pdb").await?;
        let spec = json!({"minAvailable": 2, "selector": {"matchLabels": {"instance": "primary-dns"}}});
        let found = budget.data.get("spec").context("no spec")?;
        ensure!(contains(found, &spec), "the disruption budget is {found}");
        // Who follows the page by hand makes the same budget: nothing is two then.
        namespace.apply(DISRUPTION_BUDGET).await?;
        namespace
            .until(("PodDisruptionBudget", "primary-dns-pdb"), "one of three servers to be let go", |budget| {
                let number = |field: &str| budget.data.pointer(&format!("/status/{field}"))?.as_u64();
                let counts = [number("expectedPods"), number("disruptionsAllowed")];
                ensure!(counts == [Some(3), Some(1)], "{counts:?}");
                Ok(())
            })
            .await?;
        let budgets = namespace.list("PodDisruptionBudget").await?.len();
        ensure!(budgets == 1, "{budgets} budgets");
        namespace.ready("Bind9Instance", "primary-dns").await?;
        let nodes: std::collections::BTreeSet<String> =
            namespace.servers_of("primary-dns").await?.into_iter().map(|server| server.node).collect();
        ensure!(nodes.len() == 3, "three servers run on {nodes:?}");
        Ok(())
    })
    .await
}
