//! The instances of the page on high availability, a zone, and a record of each of the eight types: every pod and both
//! Services give the right answers by UDP and TCP, and follow every edit, rename and deletion.

use anyhow::{Result, ensure};
use bindy_e2e::{ALL_TYPES, Record, STEADY, STEADY_ADDRESS, ZONE, texts_in, version_of};
use bindy_testing::cluster::{Namespace, in_namespace};
use bindy_testing::manifest::{a, zone};
use bindy_zone::Rtype;

/// Word for word.
const INSTANCES: &str = "\
# Primary instance
apiVersion: bindy.firestoned.io/v1beta1
kind: Bind9Instance
metadata:
  name: primary-dns
  labels:
    dns-role: primary
spec:
  replicas: 2
---
# Secondary instance
apiVersion: bindy.firestoned.io/v1beta1
kind: Bind9Instance
metadata:
  name: secondary-dns
  labels:
    dns-role: secondary
spec:
  replicas: 2
";

/// What a name of a record is to answer now; nothing when the name is to be gone.
async fn every_server_answers(namespace: &Namespace, wanted: &[(String, &Record, &[&str])]) -> Result<()> {
    let published = namespace.contents_are_published().await?;
    let version = version_of(&published, ZONE.1)?;
    for (owner, record, texts) in wanted {
        let name = format!("{owner}.{}", ZONE.1);
        let found = texts_in(version, owner, record.rtype)?;
        ensure!(found == *texts, "{name} {} is published as {found:?}, not {texts:?}", record.rtype);
        // A delegation is not answered but referred to; transfers showed it.
        if texts.is_empty() {
            namespace.answers(&name, record.rtype, &["NXDOMAIN"]).await?;
        } else if record.rtype != Rtype::NS {
            namespace.answers(&name, record.rtype, texts).await?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_eight_types_arrive_everywhere_and_follow_edits_renames_and_deletions() -> Result<()> {
    in_namespace("all-record-types", async |namespace| {
        let steady = a("steady", ZONE.0, "steady", STEADY_ADDRESS);
        let apply = async |owner: &str, data: fn(&Record) -> &'static str| {
            let manifests =
                ALL_TYPES.iter().map(|one| one.manifest(ZONE.0, &format!("{}{owner}", one.owner), data(one)));
            namespace.serve(&manifests.collect::<String>()).await
        };
        let with =
            |owner: &str, texts: fn(&Record) -> &'static [&'static str]| -> Vec<(String, &Record, &[&str])> {
                ALL_TYPES.iter().map(|one| (format!("{}{owner}", one.owner), one, texts(one))).collect()
            };
        namespace.serve(&format!("{INSTANCES}{}{steady}", zone(ZONE.0, ZONE.1))).await?;
        apply("", |one| one.first.0).await?;
        ensure!(namespace.servers().await?.len() == 4, "there are not 2 + 2 servers");
        every_server_answers(namespace, &with("", |one| one.first.1)).await?;
        by_services(namespace, "www", &["192.0.2.1", "192.0.2.2"]).await?;

        apply("", |one| one.edited.0).await?;
        every_server_answers(namespace, &with("", |one| one.edited.1)).await?;
        by_services(namespace, "www", &["192.0.2.3"]).await?;

        apply("-renamed", |one| one.edited.0).await?;
        every_server_answers(namespace, &with("-renamed", |one| one.edited.1)).await?;
        every_server_answers(namespace, &with("", |_| &[])).await?;
        by_services(namespace, "www-renamed", &["192.0.2.3"]).await?;

        for record in &ALL_TYPES {
            namespace.remove(record.kind, &record.object()).await?;
        }
        namespace.answers(&format!("caa-renamed.{}", ZONE.1), Rtype::CAA, &["NXDOMAIN"]).await?;
        every_server_answers(namespace, &with("-renamed", |_| &[])).await?;
        namespace.answers(STEADY, Rtype::A, &[STEADY_ADDRESS]).await
    })
    .await
}

async fn by_services(namespace: &Namespace, owner: &str, addresses: &[&str]) -> Result<()> {
    for instance in ["primary-dns", "secondary-dns"] {
        namespace.answers_by_service(instance, &format!("{owner}.{}", ZONE.1), Rtype::A, addresses).await?;
    }
    Ok(())
}
