//! A BIND on a machine outside of the cluster follows an instance, set up word for word as docs/kubernetes.md says, with
//! names, addresses and directories of the test in place of the document's.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bindy_e2e::document::{block, run};
use bindy_e2e::{STEADY, STEADY_ADDRESS, ZONE};
use bindy_testing::cluster::{LIMIT, Namespace, Outside, in_namespace};
use bindy_testing::manifest::{a, manifest, zone};
use bindy_testing::{Process, dns, wait_for};
use bindy_zone::{Name, Rtype};
use tokio::net::TcpStream;

/// Names of the document.
const INSTANCE: &str = "primary-dns";
const MACHINE: &str = "branch-office";
/// How long a daemon may take to end.
const STOP: Duration = Duration::from_secs(10);

/// Waits until the port leads to servers from every node: BIND tries again a minute after a refusal only.
async fn port_is_open(namespace: &Namespace, port: &str) -> Result<()> {
    for node in &namespace.cluster().description().nodes {
        let at = format!("{}:{port}", node.address);
        wait_for(&format!("{at} to be open"), LIMIT, async || TcpStream::connect(&at).await.map(drop))
            .await?;
    }
    Ok(())
}

/// Writes the `named.conf` of the document; an edit may be two seconds late instead of a minute.
fn configure(namespace: &Namespace, directory: &Path, port: &str, key: &Name) -> Result<()> {
    let nodes = &namespace.cluster().description().nodes;
    let [first, second, ..] = nodes.as_slice() else { bail!("two nodes are wanted") };
    let name = namespace.name();
    let here = directory.display().to_string();
    let text = block("include \"/etc/bind/bindy-named.conf\"")?
        .replace("192.0.2.11", &first.address.to_string())
        .replace("192.0.2.12", &second.address.to_string())
        .replace("30053", port)
        .replace("bindy-dns-", &format!("bindy-{name}-"))
        .replace("branch-office._downstream.a.primary-dns.dns.key.bindy", &key.to_string())
        .replace("/etc/bind", &here)
        .replace("/var/cache/bind", &here)
        .replace("max-refresh-time 60", "max-refresh-time 2");
    std::fs::write(directory.join("named.conf"), text).context("named.conf")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bind_outside_of_the_cluster_follows_as_the_document_says() -> Result<()> {
    in_namespace("bind-outside", async |namespace| {
        let spec = format!("role: primary, replicas: 2, downstreams: [{{name: {MACHINE}}}]");
        let objects = manifest("Bind9Instance", INSTANCE, &spec)
            + &zone(ZONE.0, ZONE.1)
            + &a("steady", ZONE.0, "steady", STEADY_ADDRESS);
        namespace.serve(&objects).await?;
        // Another port each time: the one of the document may still be a former run's.
        let port = (30_100 + std::process::id() % 2_000).to_string();
        let service = block("primary-dns-outside")?
            .replace("namespace: dns}", &format!("namespace: {}}}", namespace.name()))
            .replace("30053", &port);
        namespace.apply(&service).await?;
        port_is_open(namespace, &port).await?;

        let directory = namespace.directory().join(MACHINE);
        std::fs::create_dir(&directory)?;
        run(namespace, &directory, &block("> bindy-named.conf")?).await?;
        let key = namespace.downstream_key(INSTANCE, MACHINE).await?.name;
        configure(namespace, &directory, &port, &key)?;
        let machine = Outside::new(namespace.cluster())?;
        let mut command: Command = machine.command("named");
        let log = directory.join("named.log");
        command.args(["-g", "-c", "named.conf"]).current_dir(&directory);
        let mut named = Process::start(MACHINE, &command, &log)?;
        let at = SocketAddr::new(IpAddr::V4(machine.address()), 53);
        dns::answers_at(at, STEADY, Rtype::A, &[STEADY_ADDRESS], LIMIT).await?;

        // An edit; a zone more; a zone less; a server less.
        namespace.apply(&a("steady", ZONE.0, "steady", "192.0.2.9")).await?;
        dns::answers_at(at, STEADY, Rtype::A, &["192.0.2.9"], LIMIT).await?;
        namespace.apply(&(zone("more", "more.example") + &a("www", "more", "www", "192.0.2.3"))).await?;
        dns::answers_at(at, "www.more.example", Rtype::A, &["192.0.2.3"], LIMIT).await?;
        namespace.remove("DNSZone", "more").await?;
        // With the options of the document it refers to the root for zones that it has not got.
        dns::answers_at(at, "www.more.example", Rtype::A, &[], LIMIT).await?;
        namespace.patch("Bind9Instance", INSTANCE, serde_json::json!({"spec": {"replicas": 1}})).await?;
        namespace.until_ready(INSTANCE, 1, &[]).await?;
        namespace.apply(&a("steady", ZONE.0, "steady", "192.0.2.10")).await?;
        dns::answers_at(at, STEADY, Rtype::A, &["192.0.2.10"], LIMIT).await?;
        named.check_running()?;
        named.terminate(STOP).await.map(drop)
    })
    .await
}
