//! What is written down about clusters: `STATE/cluster.json`, the one file that tests need, and the lock that lets only
//! one command at a time change clusters.

use std::fs::{self, File, TryLockError};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value, json};

use crate::cluster::layout::{Families, Layout, Name, Node, RANGES, STATES};
use crate::cluster::process::Files;
use crate::cluster::wait::Wait;
use crate::cluster::{cgroups, network};

const DEFAULT_NODES: u8 = 3;
const LOCK: &str = "/run/lock/bindy-cluster";
/// Another command may be at work for as long as a cluster takes to come up.
const PATIENCE: Duration = Duration::from_secs(300);

/// What a user may choose; what is not chosen stays as it is, or is the default.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wish {
    pub(crate) nodes: Option<u8>,
    pub(crate) range: Option<u8>,
    /// No IPv6, whatever the machine has.
    pub(crate) ipv4_only: bool,
}

/// What there is on this machine.
struct Machine {
    /// All clusters but the one in question.
    others: Vec<Layout>,
    families: Families,
}

/// Held while clusters are changed; released with the process at the latest.
pub(crate) fn lock() -> Result<File> {
    let file = File::options().create(true).append(true).open(LOCK).context(LOCK)?;
    let wait = Wait { what: "another `cargo xtask cluster` to end", limit: PATIENCE, log: None };
    wait.until(|| match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => bail!("{LOCK} is locked"),
        Err(TryLockError::Error(error)) => Err(error.into()),
    })?;
    Ok(file)
}

/// The cluster as it was written down.
pub(crate) fn read(name: &Name) -> Result<Option<Layout>> {
    let file = name.directory().join("cluster.json");
    if !file.exists() {
        return Ok(None);
    }
    let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let value: Value = serde_json::from_str(&text).with_context(|| file.display().to_string())?;
    let range = value.get("range").and_then(Value::as_u64).context("cluster.json has no range")?;
    let nodes = value.get("nodes").and_then(Value::as_array).context("cluster.json has no nodes")?;
    let is_dual = value.get("dual_stack").and_then(Value::as_bool).unwrap_or_default();
    let families = if is_dual { Families::Dual } else { Families::Ipv4 };
    Ok(Some(Layout::new(name.clone(), u8::try_from(range)?, u8::try_from(nodes.len())?, families)?))
}

/// The cluster as it shall be: what it was, or something new that clashes with no other.
pub(crate) fn decide(name: &Name, wish: Wish) -> Result<Layout> {
    let machine = Machine { others: others(name)?, families: network::families() };
    let before = read(name)?;
    let layout = choose(name, wish, before.as_ref(), &machine)?;
    if before.is_none() {
        network::check_free(&layout)?;
    }
    Ok(layout)
}

fn choose(name: &Name, wish: Wish, before: Option<&Layout>, machine: &Machine) -> Result<Layout> {
    let taken = |range: u8| machine.others.iter().find(|other| other.range == range);
    if let Some(before) = before {
        let nodes = wish.nodes.unwrap_or(before.nodes);
        let (range, now) = (before.range, before.nodes);
        ensure!(nodes >= now, "{name} has {now} nodes; run `cargo xtask cluster down --name {name}` first");
        ensure!(
            wish.range.is_none_or(|wish| wish == range),
            "{name} is in range {range}; take it down first"
        );
        ensure!(!wish.ipv4_only || before.families == Families::Ipv4, "{name} has IPv6; take it down first");
        return Layout::new(name.clone(), range, nodes, before.families);
    }
    let free = (0..RANGES).find(|range| taken(*range).is_none());
    let range = wish.range.or(free).with_context(|| format!("all {RANGES} ranges are taken"))?;
    if let Some(other) = taken(range) {
        bail!("range {range} belongs to cluster {}", other.name);
    }
    let families = if wish.ipv4_only { Families::Ipv4 } else { machine.families };
    Layout::new(name.clone(), range, wish.nodes.unwrap_or(DEFAULT_NODES), families)
}

/// All clusters but this one.
fn others(name: &Name) -> Result<Vec<Layout>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(STATES).into_iter().flatten() {
        let Ok(other) = entry?.file_name().to_string_lossy().parse::<Name>() else { continue };
        if other != *name {
            found.extend(read(&other)?);
        }
    }
    Ok(found)
}

/// Writes down the layout and where everything of it is.
pub(crate) fn write(layout: &Layout, kube: &Path) -> Result<()> {
    let nodes = layout.nodes();
    let nodes = nodes.iter().map(|node| described_node(layout, node)).collect::<Result<Vec<_>>>()?;
    let processes: Map<String, Value> =
        layout.processes().into_iter().map(|name| described_process(layout, name)).collect();
    let cluster = json!({
        "name": layout.name.to_string(),
        "range": layout.range,
        "kubeconfig": layout.kubeconfig(),
        "api": layout.api_url(),
        "etcd": layout.etcd_url(),
        "registry": layout.registry(),
        "kube": kube,
        "bridge": layout.name.bridge(),
        "gateway": layout.gateway().to_string(),
        "dual_stack": layout.families == Families::Dual,
        "node_cidrs": layout.node_networks(),
        "pod_cidrs": layout.pod_networks(),
        "service_cidrs": layout.service_networks(),
        "nodes": nodes,
        "processes": processes,
    });
    let file = layout.directory().join("cluster.json");
    let next = file.with_extension("next");
    fs::write(&next, serde_json::to_string_pretty(&cluster)?)?;
    Ok(fs::rename(next, file)?)
}

fn described_node(layout: &Layout, node: &Node) -> Result<Value> {
    Ok(json!({
        "name": node.name,
        "address": node.address.to_string(),
        "addresses": node.addresses,
        "netns": node.netns(),
        "link": node.name,
        "pod_cidrs": node.pod_networks,
        "region": node.region,
        "zone": node.zone,
        "directory": node.directory,
        "containerd": node.containerd_socket(),
        "cgroup": cgroups::of_place(&layout.name, &node.name)?,
        "processes": node.processes(),
    }))
}

fn described_process(layout: &Layout, name: String) -> (String, Value) {
    let files = Files::of(layout, &name);
    (name, json!({"start": files.script, "pid": files.pid, "log": files.log}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(name: &str, range: u8, nodes: u8) -> Layout {
        Layout::new(name.parse().unwrap(), range, nodes, Families::Dual).unwrap()
    }

    fn machine(others: &[Layout]) -> Machine {
        Machine { others: others.to_vec(), families: Families::Dual }
    }

    fn wish(nodes: Option<u8>, range: Option<u8>) -> Wish {
        Wish { nodes, range, ipv4_only: false }
    }

    #[test]
    fn a_new_cluster_gets_the_lowest_free_range() {
        let others = [layout("one", 0, 3), layout("two", 2, 1)];
        let new = choose(&"new".parse().unwrap(), Wish::default(), None, &machine(&others)).unwrap();
        assert_eq!(new, layout("new", 1, DEFAULT_NODES));
    }

    #[test]
    fn a_range_of_another_cluster_is_refused() {
        let others = [layout("one", 5, 3)];
        let error =
            choose(&"new".parse().unwrap(), wish(None, Some(5)), None, &machine(&others)).unwrap_err();
        assert!(error.to_string().contains("cluster one"), "{error}");
    }

    #[test]
    fn a_cluster_keeps_its_range_and_may_only_grow() {
        let before = layout("dev", 4, 2);
        let again = |wish| choose(&before.name, wish, Some(&before), &machine(&[]));
        assert_eq!(again(Wish::default()).unwrap(), before);
        assert_eq!(again(wish(Some(3), None)).unwrap(), layout("dev", 4, 3));
        assert!(again(wish(Some(1), None)).is_err());
        assert!(again(wish(None, Some(1))).is_err());
    }

    #[test]
    fn a_new_cluster_has_ipv6_where_the_machine_does_and_keeps_what_it_has() {
        let ipv4 = Wish { ipv4_only: true, ..Wish::default() };
        let families = |wish, before: Option<&Layout>, families| {
            let machine = Machine { others: Vec::new(), families };
            choose(&"new".parse().unwrap(), wish, before, &machine).map(|layout| layout.families)
        };
        assert_eq!(families(Wish::default(), None, Families::Dual).unwrap(), Families::Dual);
        assert_eq!(families(Wish::default(), None, Families::Ipv4).unwrap(), Families::Ipv4);
        assert_eq!(families(ipv4, None, Families::Dual).unwrap(), Families::Ipv4);
        let dual = layout("new", 0, 1);
        assert_eq!(families(Wish::default(), Some(&dual), Families::Ipv4).unwrap(), Families::Dual);
        assert!(families(ipv4, Some(&dual), Families::Dual).is_err());
        let single = Layout { families: Families::Ipv4, ..dual };
        assert_eq!(families(Wish::default(), Some(&single), Families::Dual).unwrap(), Families::Ipv4);
    }
}
