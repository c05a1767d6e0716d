//! The commands of the page on high availability that show where servers run and test a failover, as they stand there, with
//! instances in the namespace that they name: what they print is the truth, and `dig` misses nothing while a pod is deleted.

use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use bindy_e2e::document::shell;
use bindy_testing::cluster::{Cluster, LIMIT, Namespace, Server};
use bindy_zone::Rtype;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch::{self, Receiver};

const TEST: &str = "page-commands";
/// Of the apex, which the page asks for.
const ADDRESS: &str = "192.0.2.80";

const INSTANCES: &str = "kubectl get bind9instances -A -L region";
const PODS: &str = "kubectl get pods -n dns-system -o wide";
const ZONES: &str = "kubectl get pods -n dns-system \\
  -o custom-columns=NAME:.metadata.name,NODE:.spec.nodeName,ZONE:.spec.nodeSelector";
const DELETE: &str = "kubectl delete pod -n dns-system <pod-name>";
const WATCH: &str = "kubectl get pods -n dns-system -w";
const ASK: &str = "while true; do dig @$SERVICE_IP example.com +short; sleep 1; done";

/// Three servers, and one in a zone and region of its own, both with the zone of the page.
fn manifests(region: &str, zone: &str) -> String {
    let (label, value) = Namespace::mark(TEST);
    let object = |kind: &str, name: &str, labels: &str, spec: &str| {
        format!(
            "---\napiVersion: bindy.firestoned.io/v1beta1\nkind: {kind}\nmetadata: {{name: {TEST}-{name}, labels: \
             {{{label}: {value}{labels}}}}}\nspec: {{{spec}}}\n"
        )
    };
    let placement = format!("placement: {{nodeSelector: {{topology.kubernetes.io/zone: {zone}}}}}");
    let chosen = format!("bind9InstancesFrom: [{{selector: {{matchLabels: {{{label}: {value}}}}}}}]");
    object("Bind9Instance", "primary", ", dns-role: primary", "replicas: 3")
        + &object(
            "Bind9Instance",
            "zonal",
            &format!(", dns-role: secondary, region: {region}"),
            &format!("replicas: 1, upstreams: [{{name: {TEST}-primary}}], {placement}"),
        )
        + &object("DNSZone", "example-com", "", &format!("zoneName: example.com, {chosen}"))
        + &object(
            "ARecord",
            "apex",
            "",
            &format!("zoneRef: {TEST}-example-com, name: \"@\", ipv4Addresses: [{ADDRESS}]"),
        )
}

/// What a command of the page prints.
async fn printed(namespace: &Namespace, command: &str) -> Result<String> {
    let output = shell(namespace, None, command)?.output().await?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command}: {said}");
    Ok(String::from_utf8(output.stdout)?)
}

/// A command that goes on until this is dropped, and the lines that it has printed.
struct Running {
    child: Child,
    lines: Receiver<Vec<String>>,
}

impl Running {
    fn start(mut command: Command) -> Result<Self> {
        let mut child = command.process_group(0).stdout(Stdio::piped()).spawn()?;
        let mut printed = BufReader::new(child.stdout.take().context("no output")?).lines();
        let (sender, lines) = watch::channel(Vec::new());
        tokio::spawn(async move {
            while let Ok(Some(line)) = printed.next_line().await {
                sender.send_modify(|lines: &mut Vec<String>| lines.push(line));
            }
        });
        Ok(Self { child, lines })
    }

    fn lines(&self) -> Vec<String> {
        self.lines.borrow().clone()
    }

    /// Waits until the lines are as wanted, and returns them.
    async fn until(&mut self, what: &str, wanted: impl Fn(&[String]) -> bool) -> Result<Vec<String>> {
        let printed = tokio::time::timeout(LIMIT, self.lines.wait_for(|lines| wanted(lines))).await;
        let lines = printed.map(|lines| lines.map(|lines| lines.clone()));
        let lines = lines.with_context(|| format!("waited {LIMIT:?} for {what} in {:#?}", self.lines()))?;
        lines.context("the command has ended")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let group = self.child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        // The shell may have ended by itself.
        let _ = group.map(|group| kill_process_group(group, Signal::KILL));
    }
}

/// The cells of the row of that name, in whatever column; of the last one, where it is shown again and again.
fn row<'a>(lines: impl DoubleEndedIterator<Item = &'a str>, name: &str) -> Result<Vec<&'a str>> {
    let mut rows = lines.rev().map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.find(|cells| cells.contains(&name)).with_context(|| format!("{name} is not shown"))
}

/// The commands under "Check Instance Distribution" tell instances and servers with their region, node and zone.
async fn distribution_is_shown(namespace: &Namespace, servers: &[Server], zonal: &Server) -> Result<()> {
    let node = namespace.cluster().node(&zonal.node)?;
    let shown = printed(namespace, INSTANCES).await?;
    for (instance, ready, region) in [("primary", "3/3", None), ("zonal", "1/1", Some(&*node.region))] {
        let cells = row(shown.lines(), &format!("{TEST}-{instance}"))?;
        ensure!(cells.first() == Some(&"dns-system") && cells.contains(&ready), "{shown}");
        ensure!(region.is_none_or(|region| cells.last() == Some(&region)), "{shown}");
    }
    let (wide, zones) = (printed(namespace, PODS).await?, printed(namespace, ZONES).await?);
    for server in servers.iter().chain([zonal]) {
        let cells = row(wide.lines(), &server.name)?;
        let address = server.address.to_string();
        for wanted in ["2/2", "Running", &server.node, &address] {
            ensure!(cells.contains(&wanted), "{} is not told {wanted}:\n{wide}", server.name);
        }
        let selector = format!("map[topology.kubernetes.io/zone:{}]", node.zone);
        let zone = if server.name == zonal.name { &*selector } else { "<none>" };
        ensure!(row(zones.lines(), &server.name)? == [&*server.name, &*server.node, zone], "{zones}");
    }
    Ok(())
}

/// The commands under "Test Failover": a server is deleted, another one takes its place, and every question is answered.
async fn a_failover_misses_nothing(namespace: &Namespace, servers: &[Server]) -> Result<()> {
    let instance = format!("{TEST}-primary");
    let node = namespace.cluster().description().nodes.first().context("no nodes")?;
    namespace.answers_by_service(&instance, "example.com", Rtype::A, &[ADDRESS]).await?;
    let mut ask = shell(namespace, Some(&node.netns), ASK)?;
    ask.env("SERVICE_IP", namespace.service_address(&instance).await?.to_string());
    let mut asking = Running::start(ask)?;
    let mut watching = Running::start(shell(namespace, None, WATCH)?)?;
    asking.until("the first answers", |lines| lines.len() >= 3).await?;
    let deleted = servers.first().context("no server")?;
    let said = printed(namespace, &DELETE.replace("<pod-name>", &deleted.name)).await?;
    ensure!(said.contains(&deleted.name) && said.contains("deleted"), "{said}");
    let now = namespace.until_ready(&instance, 3, &[deleted]).await?;
    let new = now.iter().find(|one| servers.iter().all(|before| before.uid != one.uid));
    let new = new.context("no new server")?;
    let is = |lines: &[String], name: &str, wanted: &[&str]| {
        let cells = row(lines.iter().map(String::as_str), name).unwrap_or_default();
        wanted.iter().all(|cell| cells.contains(cell))
    };
    let what = format!("{} to be running", new.name);
    let shown = watching.until(&what, |lines| is(lines, &new.name, &["2/2", "Running"])).await?;
    let ended = shown.iter().any(|line| line.contains(&deleted.name) && line.contains("Terminating"));
    ensure!(ended, "{} is not shown to end:\n{shown:#?}", deleted.name);
    let asked = asking.lines().len();
    let asked = asking.until("answers after the failover", |lines| lines.len() > asked + 3).await?;
    let wrong: Vec<&String> = asked.iter().filter(|line| *line != ADDRESS).collect();
    ensure!(wrong.is_empty(), "of {} lines of dig these are no answer: {wrong:?}", asked.len());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_s_commands_show_the_servers_and_miss_nothing() -> Result<()> {
    let cluster = Cluster::connect().await?;
    cluster
        .beside_operator(TEST, async |namespace| {
            let node = namespace.cluster().description().nodes.last().context("no nodes")?;
            namespace.serve(&manifests(&node.region, &node.zone)).await?;
            let servers = namespace.until_ready(&format!("{TEST}-primary"), 3, &[]).await?;
            let zonal = namespace.until_ready(&format!("{TEST}-zonal"), 1, &[]).await?;
            let [zonal] = &zonal[..] else { bail!("there are {zonal:?}") };
            for server in servers.iter().chain([zonal]) {
                server.answers("example.com", Rtype::A, &[ADDRESS]).await?;
            }
            distribution_is_shown(namespace, &servers, zonal).await?;
            a_failover_misses_nothing(namespace, &servers).await
        })
        .await
}
