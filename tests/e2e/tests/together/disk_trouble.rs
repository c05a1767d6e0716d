//! The disk of a server is full, or cannot be written: it answers on, the others have what is new, the status names it, and it
//! catches up when there is room.

use anyhow::{Context, Result, ensure};
use bindy_e2e::{
    STEADY, STEADY_ADDRESS, STEADY_QUESTIONS, ZONE, add_versions, make_volumes, remove_volumes, storage,
    volume_directory,
};
use bindy_testing::cluster::{Disk, Namespace, Server, condition, in_namespace};
use bindy_testing::manifest::{a, manifest, zone};
use bindy_zone::Rtype;

/// Two servers with volumes; that of the first is a small disk.
async fn stored(namespace: &Namespace) -> Result<(Vec<Server>, Disk)> {
    let disk = Disk::mount(&volume_directory(namespace, "primary", 0), 4)?;
    make_volumes(namespace, "primary", 2).await?;
    let spec = format!("role: primary, replicas: 2, storage: {}", storage());
    let objects = manifest("Bind9Instance", "primary", &spec)
        + &zone(ZONE.0, ZONE.1)
        + &a("steady", ZONE.0, "steady", STEADY_ADDRESS);
    namespace.serve(&objects).await?;
    namespace.answers(STEADY, Rtype::A, &[STEADY_ADDRESS]).await?;
    Ok((namespace.until_ready("primary", 2, &[]).await?, disk))
}

async fn edit(namespace: &Namespace, address: &str) -> Result<()> {
    namespace.apply(&a("edited", ZONE.0, "edited", address)).await.map(drop)
}

/// What becomes of an edit while the disk of the first server is in trouble, and after it.
async fn survives(
    namespace: &Namespace,
    trouble: impl FnOnce(&Disk) -> Result<()>,
    end: impl FnOnce(&Disk) -> Result<()>,
) -> Result<()> {
    let (servers, disk) = stored(namespace).await?;
    let ill = servers.iter().find(|one| one.name == "primary-0").context("no primary-0")?;
    let well = servers.iter().find(|one| one.name == "primary-1").context("no primary-1")?;
    let mut published = namespace.contents_are_published().await?;
    let probes = namespace.probe(&STEADY_QUESTIONS).await?;
    probes.more_answers(&servers, 10).await?;
    trouble(&disk)?;
    edit(namespace, "192.0.2.1").await?;
    well.answers("edited.example.com", Rtype::A, &["192.0.2.1"]).await?;
    namespace
        .until(("DNSZone", ZONE.0), "the status to name the server", |zone| {
            let degraded = condition(zone, "Degraded")?;
            ensure!(degraded.status == "True" && degraded.message.contains(&ill.name), "{degraded:?}");
            Ok(())
        })
        .await?;
    probes.more_answers(&servers, 10).await?;
    end(&disk)?;
    ill.answers("edited.example.com", Rtype::A, &["192.0.2.1"]).await?;
    add_versions(&mut published, namespace.contents_are_published().await?);
    edit(namespace, "192.0.2.2").await?;
    namespace.ready("ARecord", "edited").await?;
    namespace.ready("DNSZone", ZONE.0).await?;
    namespace.until_ready("primary", 2, &[]).await?;
    add_versions(&mut published, namespace.contents_are_published().await?);
    probes.right(&published).await?;
    remove_volumes(namespace, "primary", 2).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_a_full_disk_is_named_and_catches_up() -> Result<()> {
    in_namespace("disk-full", async |namespace| survives(namespace, Disk::fill, Disk::empty).await).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_a_read_only_disk_is_named_and_catches_up() -> Result<()> {
    in_namespace("disk-ro", async |namespace| survives(namespace, Disk::read_only, Disk::writable).await)
        .await
}
