//! Volumes made by hand, since the development cluster has nothing that makes them: directories of the test.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use anyhow::Result;
use bindy_testing::cluster::{Namespace, Server};
use bindy_testing::manifest::manifest;
use serde_json::{Value, json};

use crate::served_by;

/// The storage of an instance that uses them.
pub fn storage() -> Value {
    json!({"size": "100Mi", "storageClassName": ""})
}

/// [`served`](crate::served) with a volume for each server, and these settings of storage.
pub async fn served_with_volumes(
    namespace: &Namespace,
    replicas: u32,
    storage: &Value,
) -> Result<Vec<Server>> {
    make_volumes(namespace, "primary", replicas).await?;
    let spec = format!("role: primary, replicas: {replicas}, storage: {storage}");
    served_by(namespace, &manifest("Bind9Instance", "primary", &spec), replicas).await
}

/// Where the volume of a server is, which may be mounted before the volume is made.
pub fn volume_directory(namespace: &Namespace, instance: &str, number: u32) -> PathBuf {
    namespace.directory().join(claim(instance, number))
}

/// Volumes for the first `count` servers of an instance; they go with [`remove_volumes`].
pub async fn make_volumes(namespace: &Namespace, instance: &str, count: u32) -> Result<()> {
    for number in 0..count {
        let claim = claim(instance, number);
        let directory = volume_directory(namespace, instance, number);
        std::fs::create_dir_all(&directory)?;
        // Kubernetes gives no host directory to the group of a pod.
        std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o777))?;
        let volume = json!({"apiVersion": "v1", "kind": "PersistentVolume",
            "metadata": {"name": name(namespace, &claim)},
            "spec": {"capacity": {"storage": "100Mi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "",
                "persistentVolumeReclaimPolicy": "Retain", "hostPath": {"path": directory},
                "claimRef": {"namespace": namespace.name(), "name": claim}}});
        let file = namespace.directory().join(format!("{claim}.json"));
        std::fs::write(&file, volume.to_string())?;
        namespace.cluster().kubectl(&["apply", "-f", &file.to_string_lossy()]).await?;
    }
    Ok(())
}

/// Takes them away again.
pub async fn remove_volumes(namespace: &Namespace, instance: &str, count: u32) -> Result<()> {
    for number in 0..count {
        let name = name(namespace, &claim(instance, number));
        namespace.cluster().kubectl(&["delete", "pv", &name, "--wait=false"]).await?;
    }
    Ok(())
}

fn claim(instance: &str, number: u32) -> String {
    format!("data-{instance}-{number}")
}

fn name(namespace: &Namespace, claim: &str) -> String {
    format!("{}-{claim}", namespace.name())
}
