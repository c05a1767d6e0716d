//! `cargo xtask demo --cluster`: a Kubernetes of its own, the operator and the examples on it, as a new user would do it
//! by hand; answers from every pod, an edit, a killed pod, a killed operator, measured. Then everything is taken down.

use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;

use crate::cluster::{self, Name, Replicas, Wish};
use crate::demo::{LIMIT, show_answers, show_arrival};
use crate::dns;
use crate::fleet::Server;
use crate::steps::{Steps, output, root, run as run_command};

const CLUSTER: &str = "demo";
const NODES: u8 = 3;
/// Where the examples go.
const NAMESPACE: &str = "demo";
const EDITED: &str = "mail.example.com";

/// Up, installed, shown, down. After a failure the cluster stays, and the error says how to look at it.
pub(crate) fn run(steps: &mut Steps) -> Result<()> {
    let name: Name = CLUSTER.parse()?;
    let made = cluster::up(steps, &name, Wish { nodes: Some(NODES), ..Wish::default() })
        .and_then(|()| cluster::load_images(steps, &name))
        .and_then(|()| cluster::install(steps, &name, Replicas::AsShipped))
        .and_then(|()| cluster::operator_ready(steps, &name))
        .and_then(|()| cluster::administrator(steps, &name));
    let shown = made.and_then(|kubectl| steps.run("demo", || show(&Shell { kubectl })));
    shown.map_err(|error| {
        anyhow!(
            "{error:#}; look at it with `cargo xtask cluster --name {name} kubectl …`, \
             then `cargo xtask cluster down --name {name}`"
        )
    })?;
    cluster::down(steps, &name)
}

/// Runs kubectl, and shows what a user would type.
struct Shell<K: Fn() -> Command> {
    kubectl: K,
}

impl<K: Fn() -> Command> Shell<K> {
    fn run(&self, arguments: &[&str]) -> Result<()> {
        let quoted = |word: &&str| if word.contains('{') { format!("'{word}'") } else { (*word).to_owned() };
        println!("\n$ kubectl {}", arguments.iter().map(quoted).collect::<Vec<_>>().join(" "));
        run_command((self.kubectl)().args(arguments).current_dir(root()))
    }

    fn quietly(&self, arguments: &[&str]) -> Result<String> {
        output((self.kubectl)().args(arguments).current_dir(root()))
    }

    /// The pods of both instances that are not going.
    fn servers(&self) -> Result<Vec<Server>> {
        let pods = self.quietly(&["get", "pods", "-n", NAMESPACE, "-l", "instance", "-o", "json"])?;
        let pods: Value = serde_json::from_str(&pods)?;
        let pods = pods.get("items").and_then(Value::as_array).into_iter().flatten();
        let living = pods.filter(|pod| pod.pointer("/metadata/deletionTimestamp").is_none());
        Ok(living.filter_map(server).collect())
    }
}

fn server(pod: &Value) -> Option<Server> {
    let address: Ipv4Addr = pod.pointer("/status/podIP")?.as_str()?.parse().ok()?;
    let conditions = pod.pointer("/status/conditions")?.as_array()?;
    let mut ready = conditions.iter().filter(|one| one.get("type").and_then(Value::as_str) == Some("Ready"));
    Some(Server {
        name: pod.pointer("/metadata/name")?.as_str()?.to_owned(),
        dns: (address, 53).into(),
        named_pid: None,
        ready: ready.any(|one| one.get("status").and_then(Value::as_str) == Some("True")),
    })
}

fn show<K: Fn() -> Command>(shell: &Shell<K>) -> Result<()> {
    shell.run(&["create", "namespace", NAMESPACE])?;
    let begun = Instant::now();
    shell.run(&["apply", "-n", NAMESPACE, "-f", "examples/"])?;
    let all = "bind9instance,dnszone";
    shell.run(&["wait", "-n", NAMESPACE, "--for=condition=Ready", all, "--all", "--timeout=120s"])?;
    println!("  {:.1} s after the first line", begun.elapsed().as_secs_f64());
    shell.run(&["get", "-n", NAMESPACE, all])?;
    let servers = shell.servers()?;
    ensure!(servers.len() == 4, "there are {} pods", servers.len());
    show_answers(&servers)?;
    show_edit(shell, &servers, 26)?;
    show_deleted_pod(shell, &servers)?;
    show_deleted_operator(shell)
}

fn show_edit<K: Fn() -> Command>(shell: &Shell<K>, servers: &[Server], last: u8) -> Result<()> {
    let patch = format!("{{\"spec\":{{\"ipv4Addresses\":[\"192.0.2.{last}\"]}}}}");
    shell.run(&["patch", "-n", NAMESPACE, "arecord", "mail", "--type=merge", "-p", &patch])?;
    show_arrival(servers, EDITED, Ipv4Addr::new(192, 0, 2, last), Instant::now())
}

/// Deletes a pod and asks the others until there is another one that is ready and answers.
fn show_deleted_pod<K: Fn() -> Command>(shell: &Shell<K>, servers: &[Server]) -> Result<()> {
    let (victim, others) = servers.split_first().context("no pods")?;
    let begun = Instant::now();
    shell.run(&["delete", "pod", "-n", NAMESPACE, &victim.name, "--wait=false"])?;
    let mut asked = 0_u32;
    let healed = loop {
        asked += ask_all(others)?;
        let now = shell.servers()?;
        let new = now.into_iter().find(|pod| pod.ready && servers.iter().all(|old| old.name != pod.name));
        if let Some(new) = new {
            break new;
        }
        ensure!(begun.elapsed() < LIMIT, "{} is not replaced after {} s", victim.name, LIMIT.as_secs());
    };
    ask_all(std::slice::from_ref(&healed))?;
    println!("  the other {} answered all {asked} questions meanwhile", others.len());
    println!("  {} took its place after {:.1} s", healed.name, begun.elapsed().as_secs_f64());
    Ok(())
}

/// DNS does not need the operator; an edit does, and arrives when it is back.
fn show_deleted_operator<K: Fn() -> Command>(shell: &Shell<K>) -> Result<()> {
    shell.run(&["delete", "pod", "-n", "dns-system", "-l", "app=bindy", "--wait=false"])?;
    let servers = shell.servers()?;
    println!("  all {} pods answer without it", ask_all(&servers)?);
    show_edit(shell, &servers, 27)
}

/// Asks each for what the last edit has made of it; their number.
fn ask_all(servers: &[Server]) -> Result<u32> {
    for server in servers {
        let found = dns::addresses(server.dns, EDITED).with_context(|| server.name.clone())?;
        ensure!(found == [Ipv4Addr::new(192, 0, 2, 26)], "{} answers {found:?}", server.name);
    }
    Ok(u32::try_from(servers.len())?)
}
