//! A plain BIND on a machine outside of the cluster gives zones to an instance, set up word for word as docs/kubernetes.md says,
//! with the address and the namespace of the test in place of the document's.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bindy_e2e::document::{block, run};
use bindy_testing::checker::Published;
use bindy_testing::cluster::{LIMIT, Namespace, Outside, Server, condition, in_namespace, is_ready};
use bindy_testing::manifest::{a, zone};
use bindy_testing::{Key, Process, dns, http, wait_for};
use bindy_zone::{Name, Rtype};
use rustix::process::Signal;
use serde_json::json;

/// The zones of the document.
const ZONES: [&str; 2] = ["example.org", "example.net"];
/// What is asked of the first of them, and edited.
const WWW: &str = "www.example.org";
/// Edits outside are found by asking every 4 s.
const FOUND: Duration = Duration::from_secs(10);

/// Whether the server outside is reachable, by the name that the instance has for it.
const LIVE: &str = "bindy_agent_source_live{source=\"outside-hq\"}";

/// Verified NOTIFYs, the operator's too.
const NOTIFIES: &str = "bindy_agent_notifies_total";

/// A BIND that knows nothing of Bindy.
struct Plain {
    machine: Outside,
    directory: PathBuf,
    process: Option<Process>,
    serial: u32,
}

impl Plain {
    /// Its key is made as the document says, and one of the Secret.
    async fn start(namespace: &Namespace) -> Result<Self> {
        let directory = namespace.directory().join("hq");
        std::fs::create_dir(&directory)?;
        run(namespace, &directory, &block("tsig-keygen")?).await?;
        let machine = Outside::with_routes_to_pods(namespace.cluster())?;
        let mut plain = Self { machine, directory, process: None, serial: 0 };
        plain.configure(&[])?;
        plain.edit("192.0.2.1")?;
        plain.run().await?;
        Ok(plain)
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(self.machine.address()), 53)
    }

    fn key(&self) -> Result<Key> {
        Key::of_statement(&std::fs::read_to_string(self.directory.join("key"))?)
    }

    /// Writes its `named.conf`: it tells these servers of every change.
    fn configure(&self, notified: &[Server]) -> Result<()> {
        let here = self.directory.display();
        let zone = |name: &str| format!("zone \"{name}\" {{ type primary; file \"{name}\"; }};\n");
        let notified = notified.iter().map(|one| format!("{} port 5353 key hq-transfer; ", one.address));
        let text = format!(
            "include \"{here}/key\";\noptions {{\n  directory \"{here}\";\n  pid-file none;\n  recursion no;\n  \
             listen-on-v6 {{ none; }};\n  allow-transfer {{ key hq-transfer; }};\n  notify explicit;\n  notify-delay 0;\n  \
             also-notify {{ {}}};\n}};\ncontrols {{ }};\n{}",
            notified.collect::<String>(),
            ZONES.map(zone).concat(),
        );
        std::fs::write(self.directory.join("named.conf"), text).context("named.conf")
    }

    /// Gives `www` of its zones this address and reads them, if it runs.
    fn edit(&mut self, address: &str) -> Result<()> {
        self.serial += 1;
        let text = format!(
            "$TTL 60\n@ IN SOA ns.example.edu. admin.example.edu. {} 3600 600 604800 60\n@ IN NS ns.example.edu.\n\
             www IN A {address}\n",
            self.serial
        );
        for name in ZONES {
            std::fs::write(self.directory.join(name), &text)?;
        }
        self.process.iter_mut().try_for_each(|process| process.signal(Signal::HUP))
    }

    async fn run(&mut self) -> Result<()> {
        let mut command: Command = self.machine.command("named");
        command.args(["-g", "-c", "named.conf"]).current_dir(&self.directory);
        self.process = Some(Process::start("hq", &command, &self.directory.join("named.log"))?);
        wait_for("the plain BIND to answer", LIMIT, async || dns::is_answering(self.address()).await).await
    }

    async fn kill(&mut self) -> Result<()> {
        self.process.take().context("it does not run")?.kill().await
    }

    /// Edits, and notes what it has then among what may be served.
    async fn publish(&mut self, address: &str, published: &mut Published) -> Result<()> {
        self.edit(address)?;
        self.note(address, published).await
    }

    async fn note(&self, address: &str, published: &mut Published) -> Result<()> {
        dns::answers_at(self.address(), WWW, Rtype::A, &[address], LIMIT).await?;
        let zone = Name::parse(ZONES[0])?;
        let version = dns::transfer(self.address(), &zone, Some(&self.key()?)).await?;
        published.entry(zone).or_default().push(version);
        Ok(())
    }
}

/// The instance of the document that pulls from this address, without the upstream that is there "if wanted"; and a zone of
/// objects beside those from outside.
fn edge(plain: &Plain) -> Result<String> {
    let spec = block("keyName: hq-transfer")?.replace("192.0.2.53", &plain.machine.address().to_string());
    let spec: String =
        spec.lines().filter(|line| !line.contains("if wanted")).map(|line| format!("{line}\n")).collect();
    let head = "apiVersion: bindy.firestoned.io/v1beta1\nkind: Bind9Instance\nmetadata: {name: edge}\n";
    Ok(head.to_owned() + &spec + &zone("own", "example.com") + &a("own", "own", "www", "192.0.2.10"))
}

async fn all_are(servers: &[Server], address: &str, limit: Duration) -> Result<()> {
    for server in servers {
        dns::answers_at(server.dns(), WWW, Rtype::A, &[address], limit).await.context(server.name.clone())?;
    }
    Ok(())
}

/// What the agents of these servers tell of a metric.
async fn metric(servers: &[Server], name: &str) -> Result<Vec<f64>> {
    let mut found = Vec::new();
    for server in servers {
        let text = http::get(server.http(), "/metrics").await?;
        let value = text.lines().find_map(|line| line.strip_prefix(name)).context(name.to_owned())?;
        found.push(value.trim().parse()?);
    }
    Ok(found)
}

/// Waits until they tell what `check` wants.
async fn until_metric(servers: &[Server], name: &str, check: impl Fn(&[f64]) -> bool) -> Result<()> {
    wait_for(name, LIMIT, async || {
        let found = metric(servers, name).await?;
        ensure!(check(&found), "they tell {found:?}");
        anyhow::Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_bind_gives_zones_as_the_document_says_and_takes_up_again_after_it_was_gone() -> Result<()> {
    in_namespace("bind-upstream", async |namespace| {
        let mut plain = Plain::start(namespace).await?;
        let mut published = Published::new();
        plain.note("192.0.2.1", &mut published).await?;
        namespace.serve(&edge(&plain)?).await?;
        let servers = namespace.until_ready("edge", 2, &[]).await?;
        all_are(&servers, "192.0.2.1", LIMIT).await?;
        let probes = namespace.probe(&[(WWW, Rtype::A), (ZONES[0], Rtype::SOA)]).await?;
        probes.more_answers(&servers, 10).await?;
        let instance = namespace.ready("Bind9Instance", "edge").await?;
        ensure!(instance.data.pointer("/status/zones") == Some(&json!(3)), "{:?}", instance.data["status"]);

        let before = metric(&servers, NOTIFIES).await?;
        plain.publish("192.0.2.2", &mut published).await?;
        all_are(&servers, "192.0.2.2", FOUND).await?;
        let found = metric(&servers, NOTIFIES).await?;
        ensure!(found == before, "nobody tells of changes, yet {before:?} became {found:?}");

        plain.configure(&servers)?;
        plain.publish("192.0.2.3", &mut published).await?;
        until_metric(&servers, NOTIFIES, |now| now.iter().zip(&before).all(|(now, before)| now > before))
            .await?;
        all_are(&servers, "192.0.2.3", FOUND).await?;

        // Nothing is lacking then, and it is the agents that tell.
        plain.kill().await?;
        until_metric(&servers, LIVE, |live| live == [0.0, 0.0]).await?;
        namespace.apply(&a("own", "own", "www", "192.0.2.11")).await?;
        namespace.answers("www.example.com", Rtype::A, &["192.0.2.11"]).await?;
        all_are(&servers, "192.0.2.3", LIMIT).await?;
        let instance = namespace.ready("Bind9Instance", "edge").await?;
        let degraded = condition(&instance, "Degraded")?;
        ensure!(degraded.status == "False", "{degraded:?}");

        plain.configure(&[])?;
        plain.edit("192.0.2.4")?;
        plain.run().await?;
        plain.note("192.0.2.4", &mut published).await?;
        all_are(&servers, "192.0.2.4", FOUND).await?;
        until_metric(&servers, LIVE, |live| live == [1.0, 1.0]).await?;
        probes.right(&published).await.map(drop)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_the_plain_bind_does_not_take_is_told_and_mended_in_its_secret() -> Result<()> {
    in_namespace("bind-wrong-key", async |namespace| {
        let plain = Plain::start(namespace).await?;
        let right = namespace.get("Secret", "hq-key").await?.data["data"].clone();
        namespace.kubectl(&["delete", "secret", "hq-key"]).await?;
        let wrong = namespace.directory().join("wrong");
        std::fs::create_dir(&wrong)?;
        run(namespace, &wrong, &block("tsig-keygen")?).await?;
        namespace.apply(&edge(&plain)?).await?;
        namespace.ready("ARecord", "own").await?;
        namespace.answers("www.example.com", Rtype::A, &["192.0.2.10"]).await?;
        namespace
            .until(("Bind9Instance", "edge"), "the status to tell of the key", |instance| {
                let degraded = condition(instance, "Degraded")?;
                let said = degraded.message.contains(ZONES[0]) || degraded.message.contains(ZONES[1]);
                ensure!(degraded.reason == "ServerLagging" && said, "{degraded:?}");
                Ok(())
            })
            .await?;
        let servers = namespace.until_ready("edge", 2, &[]).await?;
        for server in &servers {
            wait_for("the words of the plain BIND", LIMIT, async || {
                let report = http::get(server.http(), "/readyz").await?;
                ensure!(report.contains("BADSIG"), "{report}");
                anyhow::Ok(())
            })
            .await?;
        }
        namespace.patch("Secret", "hq-key", json!({"data": right})).await?;
        all_are(&servers, "192.0.2.1", LIMIT).await?;
        namespace
            .until(("Bind9Instance", "edge"), "nothing to be wrong any more", |instance| {
                let degraded = condition(instance, "Degraded")?;
                ensure!(degraded.status == "False", "{degraded:?}");
                is_ready(instance)
            })
            .await
    })
    .await
}
