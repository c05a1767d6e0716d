//! The operator, installed as the documentation tells users to: by the two manifests of `deploy/`.

use std::path::Path;

use anyhow::Result;

use crate::cluster::control_plane::kubectl;
use crate::cluster::layout::Layout;
use crate::steps::{root, run};

const NAMESPACE: &str = "--namespace=dns-system";
const OPERATOR: &str = "deployment/bindy";
const LIMIT: &str = "--timeout=120s";

/// Leaves one replica of three: tests of everything but the election look into the pod that leads.
pub(crate) fn one_replica(layout: &Layout, kube: &Path) -> Result<()> {
    run(kubectl(layout, kube).args(["scale", NAMESPACE, OPERATOR, "--replicas=1"]))?;
    run(kubectl(layout, kube).args(["rollout", "status", NAMESPACE, OPERATOR, LIMIT]))
}

/// Applies both and waits.
pub(crate) fn operator(layout: &Layout, kube: &Path) -> Result<()> {
    let deploy = root().join("deploy");
    let apply = |file: &str| {
        let mut command = kubectl(layout, kube);
        run(command.args(["apply", "--server-side", "--force-conflicts", "-f"]).arg(deploy.join(file)))
    };
    let wait = |arguments: &[&str]| run(kubectl(layout, kube).args(arguments).arg(LIMIT));
    apply("crds.yaml")?;
    wait(&["wait", "--for=condition=Established", "crd", "--all"])?;
    apply("install.yaml")?;
    // The tag says "latest": only a new pod asks for the image again.
    run(kubectl(layout, kube).args(["rollout", "restart", NAMESPACE, OPERATOR]))?;
    wait(&["rollout", "status", NAMESPACE, OPERATOR])
}
