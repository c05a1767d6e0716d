//! The network of a cluster: one bridge on the host, one network namespace for each node, plain routes between their
//! pods. Nothing of the host is changed besides: no address translation, no forwarding, no packet filter.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::cluster::layout::{Layout, Name, Node};
use crate::steps::{output, run};

/// Makes what is missing and mends what tests left: links that are down, routes that are gone.
pub(crate) fn ensure(layout: &Layout) -> Result<()> {
    ensure_bridge(layout)?;
    let nodes = layout.nodes();
    for node in &nodes {
        ensure_node(layout, node)?;
    }
    for node in &nodes {
        for other in nodes.iter().filter(|other| other.name != node.name) {
            ip(Some(node), &["route", "replace", &other.pod_network, "via", &other.address.to_string()])?;
        }
        ip(None, &["route", "replace", &node.pod_network, "via", &node.address.to_string()])?;
    }
    Ok(())
}

fn ensure_bridge(layout: &Layout) -> Result<()> {
    let bridge = layout.name.bridge();
    let address = format!("{}/24", layout.gateway());
    if !exists(&bridge) {
        ip(None, &["link", "add", &bridge, "type", "bridge"])?;
    }
    ip(None, &["address", "replace", &address, "dev", &bridge])?;
    ip(None, &["link", "set", &bridge, "up"])
}

fn ensure_node(layout: &Layout, node: &Node) -> Result<()> {
    if !node.netns().exists() {
        ip(None, &["netns", "add", &node.name])?;
    }
    if !exists(&node.name) {
        let peer = ["peer", "name", "eth0", "netns", &node.name];
        ip(None, &[&["link", "add", &node.name, "type", "veth"], &peer[..]].concat())?;
    }
    ip(None, &["link", "set", &node.name, "master", &layout.name.bridge(), "up"])?;
    ip(Some(node), &["link", "set", "lo", "up"])?;
    ip(Some(node), &["address", "replace", &format!("{}/24", node.address), "dev", "eth0"])?;
    ip(Some(node), &["link", "set", "eth0", "up"])?;
    ip(Some(node), &["route", "replace", "default", "via", &layout.gateway().to_string()])?;
    // Whoever asks it is refused at once, instead of waiting.
    ip(Some(node), &["route", "replace", "prohibit", &layout.absent_dns().to_string()])?;
    run(enter(node).args(["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]))
}

/// The beginning of a command that runs in the node's network. `ip netns exec` would not do: it mounts another /sys, in
/// which the kubelet finds no cgroups.
pub(crate) fn enter(node: &Node) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={}", node.netns().display()));
    command
}

fn ip(node: Option<&Node>, arguments: &[&str]) -> Result<()> {
    let mut command = match node {
        Some(node) => {
            let mut command = enter(node);
            command.arg("ip");
            command
        }
        None => Command::new("ip"),
    };
    run(command.args(arguments))
}

fn exists(link: &str) -> bool {
    Path::new("/sys/class/net").join(link).exists()
}

/// Refuses ranges that overlap with a network this host already uses.
pub(crate) fn check_free(layout: &Layout) -> Result<()> {
    let bridge = layout.name.bridge();
    let routes: Value =
        serde_json::from_str(&output(Command::new("ip").args(["-json", "-4", "route", "show"]))?)?;
    for route in routes.as_array().into_iter().flatten() {
        let field = |name: &str| route.get(name).and_then(Value::as_str).unwrap_or_default();
        let used = Network::parse(field("dst"));
        for ours in [layout.node_network(), layout.pod_network()] {
            let wanted = Network::parse(&ours).context("a network of our own")?;
            let clashes = used.is_some_and(|used| used.overlaps(wanted)) && field("dev") != bridge;
            let (used, device) = (field("dst"), field("dev"));
            ensure!(
                !clashes,
                "{ours} of range {} overlaps with {used} on {device}; choose another --range",
                layout.range
            );
        }
    }
    Ok(())
}

#[derive(Clone, Copy, Debug)]
struct Network {
    address: u32,
    length: u32,
}

impl Network {
    /// `10.0.0.0/8`, or a single address. Not the default route, which everything overlaps.
    fn parse(text: &str) -> Option<Self> {
        let (address, length) = text.split_once('/').unwrap_or((text, "32"));
        let address: Ipv4Addr = address.parse().ok()?;
        Some(Self { address: address.into(), length: length.parse().ok()? })
    }

    fn overlaps(self, other: Self) -> bool {
        let shorter = self.length.min(other.length);
        let bits = |network: Self| network.address.checked_shr(32 - shorter).unwrap_or(0);
        bits(self) == bits(other)
    }
}

/// Takes the namespaces and links of this name away, whatever range they have.
pub(crate) fn remove(name: &Name) -> Result<()> {
    for node in name.possible_nodes() {
        if exists(&node) {
            ip(None, &["link", "delete", &node])?;
        }
        if Path::new("/run/netns").join(&node).exists() {
            ip(None, &["netns", "delete", &node])?;
        }
    }
    if exists(&name.bridge()) {
        ip(None, &["link", "delete", &name.bridge()])?;
    }
    let left = left(name);
    if left.is_empty() { Ok(()) } else { bail!("still there: {}", left.join(" ")) }
}

/// Links of this name.
fn left(name: &Name) -> Vec<String> {
    name.possible_nodes().chain([name.bridge()]).filter(|link| exists(link)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overlap(one: &str, other: &str) -> bool {
        Network::parse(one).unwrap().overlaps(Network::parse(other).unwrap())
    }

    #[test]
    fn overlapping_networks_are_recognised() {
        assert!(overlap("10.0.0.0/8", "10.244.0.0/16"));
        assert!(overlap("10.244.3.0/24", "10.244.0.0/16"));
        assert!(overlap("10.89.0.7", "10.89.0.0/24"));
        assert!(overlap("0.0.0.0/0", "10.89.0.0/24"));
        assert!(!overlap("10.243.0.0/16", "10.244.0.0/16"));
        assert!(Network::parse("default").is_none());
    }
}
