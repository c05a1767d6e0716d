//! The operator, installed as the documentation tells users to: by the two manifests of `deploy/`, with another tag.

use std::path::Path;

use anyhow::{Result, ensure};

use crate::cluster::control_plane::kubectl;
use crate::cluster::layout::Layout;
use crate::image;
use crate::steps::{output, root, run};

const NAMESPACE: &str = "--namespace=dns-system";
const OPERATOR: &str = "deployment/bindy";
const LIMIT: &str = "--timeout=120s";

/// How many replicas of it there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Replicas {
    /// What the manifest says.
    AsShipped,
    /// Tests of everything but the election look into the pod that leads.
    One,
}

/// Applies both.
pub(crate) fn operator(layout: &Layout, kube: &Path, replicas: Replicas) -> Result<()> {
    let deploy = root().join("deploy");
    let apply = |file: &Path| {
        let mut command = kubectl(layout, kube);
        run(command.args(["apply", "--server-side", "--force-conflicts", "-f"]).arg(file))
    };
    apply(&deploy.join("crds.yaml"))?;
    run(kubectl(layout, kube).args(["wait", "--for=condition=Established", "crd", "--all", LIMIT]))?;
    // A node asks again for an image that was built anew under the same name if that is "latest", and then for new pods only.
    let shipped = std::fs::read_to_string(deploy.join("install.yaml"))?;
    let (version, latest) = (image::bindy_named(env!("CARGO_PKG_VERSION")), image::bindy_named("latest"));
    let built = replaced(&shipped, &version, &latest)?;
    let built = match replicas {
        Replicas::AsShipped => built,
        Replicas::One => replaced(&built, "replicas: 3", "replicas: 1")?,
    };
    let manifest = layout.directory().join("install.yaml");
    std::fs::write(&manifest, built)?;
    let mut get = kubectl(layout, kube);
    let before = output(get.args(["get", NAMESPACE, OPERATOR, "--ignore-not-found", "--output=name"]))?;
    apply(&manifest)?;
    if !before.is_empty() {
        run(kubectl(layout, kube).args(["rollout", "restart", NAMESPACE, OPERATOR]))?;
    }
    Ok(())
}

/// Waits until what was applied last is all there is, and is ready.
pub(crate) fn ready(layout: &Layout, kube: &Path) -> Result<()> {
    run(kubectl(layout, kube).args(["rollout", "status", NAMESPACE, OPERATOR, LIMIT]))
}

fn replaced(manifest: &str, text: &str, by: &str) -> Result<String> {
    let new = manifest.replace(text, by);
    ensure!(new != manifest, "deploy/install.yaml does not have {text:?}");
    Ok(new)
}
