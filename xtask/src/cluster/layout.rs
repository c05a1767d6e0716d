//! What a cluster is called and which addresses it has. Everything follows from what is written down: its name, the
//! number of its range, how many nodes it has, and whether it has IPv6.
//!
//! ```text
//!                    bridge bc-NAME, 10.89.RANGE.1: API server, registry
//!        ┌────────────────────┬────────────────────┐
//!   NAME-node1           NAME-node2           NAME-node3      network namespace, link, cgroup and Kubernetes node
//!   10.89.RANGE.11       10.89.RANGE.12       10.89.RANGE.13  of the same name
//!   pods 10.(244-RANGE).1.0/24, …2.0/24, …3.0/24              services 10.(96+RANGE).0.0/16, in the nodes only
//!
//!   with IPv6 also: fd10:89:RANGE::1 on the bridge, nodes …::11, …::12, …::13,
//!   pods fd10:244:RANGE:1::/64, …:2::/64, …:3::/64, services fd10:96:RANGE::/112
//! ```

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Error, Result, ensure};

/// Below it every cluster has a directory.
pub(crate) const STATES: &str = "/var/lib/bindy-cluster";
/// Limits of `NAME-node9` as the name of a network link (15 octets).
const LONGEST_NAME: usize = 8;
pub(crate) const MOST_NODES: u8 = 9;
pub(crate) const RANGES: u8 = 16;
/// The regions of the high-availability guide, in turn; the second node of a region is in its second zone.
const REGIONS: [&str; 3] = ["us-east-1", "us-west-2", "eu-west-1"];
const ZONES: [char; 3] = ['a', 'b', 'c'];

/// The name of a cluster: at most eight small letters and digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name(String);

impl FromStr for Name {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let starts_well = text.starts_with(|first: char| first.is_ascii_lowercase());
        let is_plain = text.chars().all(|each| each.is_ascii_lowercase() || each.is_ascii_digit());
        ensure!(
            starts_well && is_plain && text.len() <= LONGEST_NAME,
            "a cluster's name has at most {LONGEST_NAME} small letters and digits, a letter first"
        );
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl Name {
    pub(crate) fn directory(&self) -> PathBuf {
        Path::new(STATES).join(&self.0)
    }

    pub(crate) fn bridge(&self) -> String {
        format!("bc-{self}")
    }

    /// The names of all nodes that a cluster of this name can have.
    pub(crate) fn possible_nodes(&self) -> impl Iterator<Item = String> + '_ {
        (1..=MOST_NODES).map(move |number| format!("{self}-node{number}"))
    }
}

/// Which addresses nodes, pods and Services have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Families {
    Ipv4,
    /// IPv4 first.
    Dual,
}

impl Families {
    /// What there is for each of them, in their order.
    pub(crate) fn each<T>(self, v4: T, v6: T) -> Vec<T> {
        match self {
            Self::Ipv4 => vec![v4],
            Self::Dual => vec![v4, v6],
        }
    }
}

/// A whole cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) name: Name,
    pub(crate) range: u8,
    pub(crate) nodes: u8,
    pub(crate) families: Families,
}

impl Layout {
    pub(crate) fn new(name: Name, range: u8, nodes: u8, families: Families) -> Result<Self> {
        ensure!((1..=MOST_NODES).contains(&nodes), "a cluster has 1 to {MOST_NODES} nodes, not {nodes}");
        ensure!(range < RANGES, "ranges are 0 to {}, not {range}", RANGES - 1);
        Ok(Self { name, range, nodes, families })
    }

    pub(crate) fn directory(&self) -> PathBuf {
        self.name.directory()
    }

    /// The host's address on the bridge.
    pub(crate) fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 89, self.range, 1)
    }

    /// The same in every family.
    pub(crate) fn gateways(&self) -> Vec<IpAddr> {
        self.families.each(self.gateway().into(), self.node_ipv6(1).into())
    }

    fn node_ipv6(&self, last: u16) -> Ipv6Addr {
        Ipv6Addr::new(0xfd10, 0x89, self.range.into(), 0, 0, 0, 0, last)
    }

    /// For what only the control plane itself asks.
    pub(crate) fn loopback(&self) -> Ipv4Addr {
        Ipv4Addr::new(127, 89, self.range, 1)
    }

    pub(crate) fn node_networks(&self) -> Vec<String> {
        let range = self.range;
        self.families.each(format!("10.89.{range}.0/24"), format!("fd10:89:{range:x}::/64"))
    }

    pub(crate) fn pod_networks(&self) -> Vec<String> {
        let range = self.range;
        self.families.each(format!("10.{}.0.0/16", 244 - range), format!("fd10:244:{range:x}::/48"))
    }

    pub(crate) fn service_networks(&self) -> Vec<String> {
        let range = self.range;
        self.families.each(format!("10.{}.0.0/16", 96 + range), format!("fd10:96:{range:x}::/112"))
    }

    /// The Service `kubernetes`.
    pub(crate) fn api_service(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 96 + self.range, 0, 1)
    }

    /// Where pods look for names: there is no such Service.
    pub(crate) fn absent_dns(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 96 + self.range, 0, 10)
    }

    pub(crate) fn api_url(&self) -> String {
        format!("https://{}:6443", self.gateway())
    }

    pub(crate) fn etcd_url(&self) -> String {
        format!("http://{}:2379", self.loopback())
    }

    pub(crate) fn registry(&self) -> String {
        format!("{}:5000", self.gateway())
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.directory().join("kubeconfig")
    }

    pub(crate) fn pki(&self, file: &str) -> PathBuf {
        self.directory().join("pki").join(file)
    }

    /// The names of all processes.
    pub(crate) fn processes(&self) -> Vec<String> {
        let control = ["etcd", "apiserver", "controller-manager", "scheduler", "registry"].map(str::to_owned);
        control.into_iter().chain(self.nodes().iter().flat_map(Node::processes)).collect()
    }

    pub(crate) fn nodes(&self) -> Vec<Node> {
        (1..=self.nodes).map(|number| self.node(number)).collect()
    }

    fn node(&self, number: u8) -> Node {
        let name = format!("{}-node{number}", self.name);
        let (round, place) = (usize::from((number - 1) / 3), usize::from((number - 1) % 3));
        let region = REGIONS.get(place).copied().unwrap_or_default();
        let zone = ZONES.get(round).copied().unwrap_or_default();
        let (range, address) = (self.range, Ipv4Addr::new(10, 89, self.range, 10 + number));
        let ipv6 = self.node_ipv6(0x10 + u16::from(number));
        let pods = format!("10.{}.{number}.0/24", 244 - range);
        Node {
            directory: self.directory().join(&name),
            address,
            addresses: self.families.each(address.into(), ipv6.into()),
            pod_networks: self.families.each(pods, format!("fd10:244:{range:x}:{number}::/64")),
            zone: format!("{region}{zone}"),
            region,
            name,
        }
    }
}

/// One node. Its name is also that of its network namespace, of its link on the host and of its cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) directory: PathBuf,
    pub(crate) address: Ipv4Addr,
    /// The same in every family.
    pub(crate) addresses: Vec<IpAddr>,
    /// Of every family.
    pub(crate) pod_networks: Vec<String>,
    pub(crate) region: &'static str,
    pub(crate) zone: String,
}

impl Node {
    /// The file by which its network namespace is entered.
    pub(crate) fn netns(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.name)
    }

    pub(crate) fn processes(&self) -> [String; 3] {
        ["containerd", "kubelet", "proxy"].map(|program| format!("{program}-{}", self.name))
    }

    pub(crate) fn containerd_socket(&self) -> PathBuf {
        self.directory.join("containerd.sock")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn layout(range: u8) -> Layout {
        Layout::new("dev".parse().unwrap(), range, MOST_NODES, Families::Dual).unwrap()
    }

    #[test]
    fn names_of_links_are_short_enough_for_the_kernel() {
        let longest: Name = "abcdefgh".parse().unwrap();
        assert!(longest.bridge().len() <= 15);
        assert!(longest.possible_nodes().all(|name| name.len() <= 15));
        for bad in ["", "abcdefghi", "Dev", "1st", "a-b", "a/b"] {
            assert!(bad.parse::<Name>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn no_two_ranges_share_a_network() {
        let all = (0..RANGES).map(layout);
        let networks: BTreeSet<String> = all
            .flat_map(|each| [each.node_networks(), each.pod_networks(), each.service_networks()].concat())
            .collect();
        assert_eq!(networks.len(), 6 * usize::from(RANGES));
    }

    #[test]
    fn ipv6_stands_behind_ipv4_and_is_left_out_of_clusters_without_it() {
        let dual = layout(10).nodes().remove(2);
        let texts: Vec<String> = dual.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["10.89.10.13", "fd10:89:a::13"]);
        assert_eq!(dual.pod_networks, ["10.234.3.0/24", "fd10:244:a:3::/64"]);
        let single = Layout { families: Families::Ipv4, ..layout(10) };
        assert_eq!(single.nodes().remove(2).pod_networks, ["10.234.3.0/24"]);
        assert_eq!(single.gateways(), [IpAddr::V4(single.gateway())]);
    }

    #[test]
    fn three_nodes_are_in_three_regions_and_no_zone_has_two() {
        let nodes = layout(0).nodes();
        assert_eq!(nodes[..3].iter().map(|node| node.region).collect::<BTreeSet<_>>().len(), 3);
        assert_eq!(nodes.iter().map(|node| &node.zone).collect::<BTreeSet<_>>().len(), nodes.len());
    }

    #[test]
    fn sizes_out_of_bounds_are_refused() {
        let name: Name = "dev".parse().unwrap();
        let new = |range, nodes| Layout::new(name.clone(), range, nodes, Families::Ipv4);
        assert!(new(0, 0).is_err());
        assert!(new(0, MOST_NODES + 1).is_err());
        assert!(new(RANGES, 1).is_err());
    }
}
