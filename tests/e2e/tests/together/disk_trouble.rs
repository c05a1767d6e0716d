//! The disk of a server is full, or fails and cannot be written: it answers on and follows every edit, in memory. When it has
//! to start anew, it fetches what its full disk has not got; on one that cannot be written it does not start, and the
//! status names it while the others serve, until its pod is deleted and has another disk.

use anyhow::{Context, Result, ensure};
use bindy_e2e::{
    Clients, STEADY_QUESTIONS, ZONE, add_versions, remove_volumes, served_with_volumes, storage,
    volume_directory,
};
use bindy_testing::checker::Published;
use bindy_testing::cluster::{Disk, Grace, NAMED, Namespace, Probes, Server, condition, in_namespace};
use bindy_testing::manifest::{a, manifest};
use bindy_zone::Rtype;
use rustix::process::Signal;

/// Two servers with volumes, of which the first one's is a disk of its own, asked all the time.
struct Stored {
    disk: Disk,
    ill: Server,
    well: Server,
    published: Published,
    probes: Probes,
    clients: Clients,
}

async fn stored(namespace: &Namespace) -> Result<Stored> {
    let disk = Disk::mount(&volume_directory(namespace, "primary", 0))?;
    let mut servers = served_with_volumes(namespace, 2, &storage()).await?;
    servers.sort_by(|one, other| one.name.cmp(&other.name));
    let published = namespace.contents_are_published().await?;
    let probes = namespace.probe(&STEADY_QUESTIONS).await?;
    let clients = Clients::beside(namespace, "primary").await?;
    probes.more_answers(&servers, 10).await?;
    let [ill, well] = <[Server; 2]>::try_from(servers).ok().context("not two servers")?;
    Ok(Stored { disk, ill, well, published, probes, clients })
}

impl Stored {
    /// Edits reach both servers, although one of them cannot store them: one that needs room, and one after it.
    async fn edits_are_served(&mut self, namespace: &Namespace, address: &str) -> Result<()> {
        let strings: Vec<String> = (0..60).map(|n| format!("\"{n:0>200} {address}\"")).collect();
        let large = format!("zoneRef: {}, name: large, text: [{}]", ZONE.0, strings.join(", "));
        for object in [manifest("TXTRecord", "large", &large), a("edited", ZONE.0, "edited", address)] {
            namespace.serve(&object).await?;
            add_versions(&mut self.published, namespace.contents_are_published().await?);
        }
        for server in [&self.well, &self.ill] {
            server.answers("edited.example.com", Rtype::A, &[address]).await?;
        }
        Ok(())
    }

    /// Everything is as it should be.
    async fn ends(mut self, namespace: &Namespace) -> Result<()> {
        self.probes.more_answers(&namespace.until_ready("primary", 2, &[]).await?, 10).await?;
        add_versions(&mut self.published, namespace.contents_are_published().await?);
        self.clients.nothing_wrong().await?;
        self.probes.right(&self.published).await?;
        remove_volumes(namespace, "primary", 2).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_a_full_disk_follows_edits_and_starts_anew() -> Result<()> {
    in_namespace("disk-full", async |namespace| {
        let mut stored = stored(namespace).await?;
        stored.disk.fill()?;
        stored.edits_are_served(namespace, "192.0.2.1").await?;
        // It starts with what was written before the disk was full, and has the rest a moment later.
        stored.probes.outage_begins_with_loss(&stored.ill);
        stored.ill.signal(NAMED, Signal::KILL)?;
        stored.ill = namespace.until_restarted(&stored.ill, NAMED).await?;
        stored.ill.answers("edited.example.com", Rtype::A, &["192.0.2.1"]).await?;
        stored.probes.outage_ends(&stored.ill);
        stored.disk.empty()?;
        stored.edits_are_served(namespace, "192.0.2.2").await?;
        stored.ends(namespace).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_disk_fails_follows_edits_and_fills_another_one() -> Result<()> {
    in_namespace("disk-fails", async |namespace| {
        let mut stored = stored(namespace).await?;
        stored.disk.fail()?;
        stored.edits_are_served(namespace, "192.0.2.1").await?;
        stored.probes.outage_begins(&stored.ill);
        stored.ill.signal(NAMED, Signal::KILL)?;
        namespace
            .until(("Bind9Instance", "primary"), "the status to name the server", |instance| {
                let degraded = condition(instance, "Degraded")?;
                let named =
                    degraded.reason == "ServersFailing" && degraded.message.contains(&stored.ill.name);
                ensure!(named, "{degraded:?}");
                Ok(())
            })
            .await?;
        drop(stored.disk);
        stored.disk = Disk::mount(&volume_directory(namespace, "primary", 0))?;
        namespace.delete_server(&stored.ill, Grace::Own).await?;
        let what = "the server to be another one";
        stored.ill = namespace
            .until_servers("primary", what, |servers| {
                let again =
                    servers.iter().find(|one| one.name == stored.ill.name && one.uid != stored.ill.uid);
                let again = again.filter(|one| one.ready).context("it is not")?;
                Ok(again.clone())
            })
            .await?;
        stored.edits_are_served(namespace, "192.0.2.2").await?;
        stored.ends(namespace).await
    })
    .await
}
