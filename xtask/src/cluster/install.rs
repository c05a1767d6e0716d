//! The operator, installed as the documentation tells users to: by the two manifests of `deploy/`, with another tag.

use std::path::Path;

use anyhow::{Result, ensure};

use crate::cluster::control_plane::kubectl;
use crate::cluster::layout::Layout;
use crate::image;
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
    let apply = |file: &Path| {
        let mut command = kubectl(layout, kube);
        run(command.args(["apply", "--server-side", "--force-conflicts", "-f"]).arg(file))
    };
    let wait = |arguments: &[&str]| run(kubectl(layout, kube).args(arguments).arg(LIMIT));
    apply(&deploy.join("crds.yaml"))?;
    wait(&["wait", "--for=condition=Established", "crd", "--all"])?;
    // A node asks again for an image that was built anew under the same name if that is "latest", and then for new pods only.
    let shipped = std::fs::read_to_string(deploy.join("install.yaml"))?;
    let built =
        shipped.replace(&image::bindy_named(env!("CARGO_PKG_VERSION")), &image::bindy_named("latest"));
    ensure!(built != shipped, "deploy/install.yaml does not name the image of this version");
    let manifest = layout.directory().join("install.yaml");
    std::fs::write(&manifest, built)?;
    apply(&manifest)?;
    run(kubectl(layout, kube).args(["rollout", "restart", NAMESPACE, OPERATOR]))?;
    wait(&["rollout", "status", NAMESPACE, OPERATOR])
}
