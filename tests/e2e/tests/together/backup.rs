//! The backup of the page on high availability: applied over what it was taken of it changes nothing; applied where everything
//! was deleted it brings the same answers back, and serials go on.

use anyhow::{Context, Result, ensure};
use bindy_e2e::{ALL_TYPES, STEADY, STEADY_ADDRESS, ZONE, served, texts_in, version_of};
use bindy_testing::cluster::{Namespace, in_namespace};
use bindy_testing::manifest::a;
use bindy_zone::{Rtype, Version};
use kube::ResourceExt;

const KINDS: [&str; 10] = [
    "Bind9Instance",
    "DNSZone",
    "ARecord",
    "AAAARecord",
    "CNAMERecord",
    "MXRecord",
    "TXTRecord",
    "NSRecord",
    "SRVRecord",
    "CAARecord",
];
/// The kinds as the page names them.
const PAGE: &str = "bind9instances,dnszones,arecords,aaaarecords,cnamerecords,mxrecords,txtrecords,nsrecords,srvrecords,caarecords";

/// Writes the backup into a file of the test, and returns its path.
async fn back_up(namespace: &Namespace) -> Result<String> {
    let text = namespace.kubectl(&["get", PAGE, "-o", "yaml"]).await?;
    let file = namespace.directory().join("backup.yaml");
    std::fs::write(&file, text)?;
    Ok(file.to_string_lossy().into_owned())
}

/// Of every object: kind, name, generation and status.
async fn states(namespace: &Namespace) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for kind in KINDS {
        for object in namespace.list(kind).await? {
            let (name, status) = (object.name_any(), object.data.get("status"));
            found.push(format!("{kind} {name} {:?} {status:?}", object.metadata.generation));
        }
    }
    Ok(found)
}

async fn all_ready(namespace: &Namespace) -> Result<()> {
    for kind in KINDS {
        for object in namespace.list(kind).await? {
            namespace.ready(kind, &object.name_any()).await?;
        }
    }
    Ok(())
}

/// What the servers have of the zone, each of them.
async fn version(namespace: &Namespace) -> Result<Version> {
    let published = namespace.contents_are_published().await?;
    version_of(&published, ZONE.1).cloned()
}

fn is_all(version: &Version) -> Result<()> {
    for record in &ALL_TYPES {
        let found = texts_in(version, record.owner, record.rtype)?;
        ensure!(found == record.first.1, "{} is {found:?}, not {:?}", record.owner, record.first.1);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_s_backup_brings_everything_back_and_changes_nothing_where_everything_is() -> Result<()> {
    in_namespace("backup", async |namespace| {
        served(namespace, 2).await?;
        let records = ALL_TYPES.iter().map(|one| one.manifest(ZONE.0, one.owner, one.first.0));
        namespace.serve(&records.collect::<String>()).await?;
        all_ready(namespace).await?;
        let file = back_up(namespace).await?;

        let then = states(namespace).await?;
        namespace.kubectl(&["apply", "-f", &file]).await?;
        // What that sets off, if it does, comes before what this edit does.
        namespace.serve(&a("later", ZONE.0, "later", "192.0.2.9")).await?;
        let now = states(namespace).await?;
        let changed: Vec<&String> = then.iter().filter(|state| !now.contains(state)).collect();
        let edited = format!("DNSZone {} ", ZONE.0);
        ensure!(changed.iter().all(|state| state.starts_with(&edited)), "these were changed: {changed:#?}");
        let living = version(namespace).await?;
        is_all(&living)?;

        for kind in KINDS {
            namespace.kubectl(&["delete", &kind.to_lowercase(), "--all"]).await?;
        }
        namespace
            .until_servers("primary", "all servers to be gone", |servers| {
                ensure!(servers.is_empty(), "there still are {}", servers.len());
                Ok(())
            })
            .await?;
        namespace.kubectl(&["apply", "-f", &file]).await?;
        let servers = namespace.until_ready("primary", 2, &[]).await?;
        all_ready(namespace).await?;
        let restored = version(namespace).await?;
        is_all(&restored)?;
        let (was, is) = (living.serial, restored.serial);
        ensure!(!was.is_after(is), "the serial was {was} and is {is}");
        servers.first().context("no server")?.answers(STEADY, Rtype::A, &[STEADY_ADDRESS]).await
    })
    .await
}
