//! The network of a cluster: one bridge on the host, one network namespace for each node, plain routes between their
//! pods. Nothing of the host is changed besides: no address translation, no forwarding, no packet filter.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::cluster::layout::{Families, Layout, Name, Node};
use crate::steps::{output, run};

/// What a link that is made on this host has at once.
const NO_IPV6: &str = "/proc/sys/net/ipv6/conf/default/disable_ipv6";
const FORWARD: &str = "echo 1 > /proc/sys/net/ipv4/ip_forward";
/// Nobody looks for duplicates of IPv6 addresses, which nobody could use meanwhile, for one or two seconds.
const FORWARD_IPV6: &str = "echo 1 > /proc/sys/net/ipv6/conf/all/forwarding; \
    echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad";

/// What this machine has.
pub(crate) fn families() -> Families {
    let has_ipv6 = fs::read_to_string(NO_IPV6).is_ok_and(|text| text.trim() == "0");
    if has_ipv6 { Families::Dual } else { Families::Ipv4 }
}

/// Makes what is missing and mends what tests left: links that are down, routes that are gone.
pub(crate) fn ensure(layout: &Layout) -> Result<()> {
    ensure_bridge(layout)?;
    let nodes = layout.nodes();
    for node in &nodes {
        ensure_node(layout, node)?;
    }
    for node in &nodes {
        for other in nodes.iter().filter(|other| other.name != node.name) {
            route_pods(Some(node), other)?;
        }
        route_pods(None, node)?;
    }
    Ok(())
}

fn route_pods(from: Option<&Node>, to: &Node) -> Result<()> {
    for (pods, address) in to.pod_networks.iter().zip(&to.addresses) {
        ip(from, &["route", "replace", pods, "via", &address.to_string()])?;
    }
    Ok(())
}

fn ensure_bridge(layout: &Layout) -> Result<()> {
    let bridge = layout.name.bridge();
    if !exists(&bridge) {
        ip(None, &["link", "add", &bridge, "type", "bridge"])?;
    }
    ip(None, &["link", "set", &bridge, "up"])?;
    layout.gateways().into_iter().try_for_each(|address| set_address(None, &bridge, address))
}

fn set_address(node: Option<&Node>, link: &str, address: IpAddr) -> Result<()> {
    let (length, options): (u8, &[&str]) = if address.is_ipv4() { (24, &[]) } else { (64, &["nodad"]) };
    let address = format!("{address}/{length}");
    ip(node, &[&["address", "replace", &address, "dev", link], options].concat())
}

fn ensure_node(layout: &Layout, node: &Node) -> Result<()> {
    if !node.netns().exists() {
        ip(None, &["netns", "add", &node.name])?;
    }
    run(enter(node).args(["sh", "-c", FORWARD]))?;
    if layout.families == Families::Dual {
        run(enter(node).args(["sh", "-c", FORWARD_IPV6]))?;
    }
    if !exists(&node.name) {
        let peer = ["peer", "name", "eth0", "netns", &node.name];
        ip(None, &[&["link", "add", &node.name, "type", "veth"], &peer[..]].concat())?;
    }
    ip(None, &["link", "set", &node.name, "master", &layout.name.bridge(), "up"])?;
    ip(Some(node), &["link", "set", "lo", "up"])?;
    ip(Some(node), &["link", "set", "eth0", "up"])?;
    for (address, gateway) in node.addresses.iter().zip(layout.gateways()) {
        set_address(Some(node), "eth0", *address)?;
        ip(Some(node), &["route", "replace", "default", "via", &gateway.to_string()])?;
    }
    // Whoever asks it is refused at once, instead of waiting.
    ip(Some(node), &["route", "replace", "prohibit", &layout.absent_dns().to_string()])
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
    let routes = |family: &str| -> Result<Vec<Value>> {
        Ok(serde_json::from_str(&output(Command::new("ip").args(["-json", family, "route", "show"]))?)?)
    };
    let families = layout.families.each("-4", "-6").into_iter();
    for route in families.map(routes).collect::<Result<Vec<_>>>()?.concat() {
        let field = |name: &str| route.get(name).and_then(Value::as_str).unwrap_or_default();
        let used = Network::parse(field("dst"));
        for ours in [layout.node_networks(), layout.pod_networks()].concat() {
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

/// Of either family: IPv4 as it is mapped into IPv6 (RFC 4291 section 2.5.5.2).
#[derive(Clone, Copy, Debug)]
struct Network {
    address: u128,
    length: u32,
}

impl Network {
    /// `10.0.0.0/8`, or a single address. Not the default route, which everything overlaps.
    fn parse(text: &str) -> Option<Self> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length.parse::<u32>().ok()?)),
            None => (text, None),
        };
        let (address, before) = match address.parse().ok()? {
            IpAddr::V4(address) => (address.to_ipv6_mapped(), 96),
            IpAddr::V6(address) => (address, 0),
        };
        Some(Self { address: address.into(), length: length.map_or(128, |length| before + length) })
    }

    fn overlaps(self, other: Self) -> bool {
        let shorter = self.length.min(other.length);
        let bits = |network: Self| network.address.checked_shr(128 - shorter).unwrap_or(0);
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
        assert!(overlap("fd10::/16", "fd10:244:3::/48"));
        assert!(overlap("fd10:89::7", "fd10:89::/64"));
        assert!(!overlap("fd10:89:1::/64", "fd10:89::/64"));
        assert!(!overlap("0.0.0.0/0", "fd10:89::/64"));
        assert!(Network::parse("default").is_none());
    }
}
