//! What a cluster is called and which addresses it has. Everything follows from three things that are written down:
//! its name, the number of its range, and how many nodes it has.
//!
//! ```text
//!                    bridge bc-NAME, 10.89.RANGE.1: API server, registry
//!        ┌────────────────────┬────────────────────┐
//!   NAME-node1           NAME-node2           NAME-node3      network namespace, link, cgroup and Kubernetes node
//!   10.89.RANGE.11       10.89.RANGE.12       10.89.RANGE.13  of the same name
//!   pods 10.(244-RANGE).1.0/24, …2.0/24, …3.0/24              services 10.(96+RANGE).0.0/16, in the nodes only
//! ```

use std::fmt;
use std::net::Ipv4Addr;
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

/// A whole cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) name: Name,
    pub(crate) range: u8,
    pub(crate) nodes: u8,
}

impl Layout {
    pub(crate) fn new(name: Name, range: u8, nodes: u8) -> Result<Self> {
        ensure!((1..=MOST_NODES).contains(&nodes), "a cluster has 1 to {MOST_NODES} nodes, not {nodes}");
        ensure!(range < RANGES, "ranges are 0 to {}, not {range}", RANGES - 1);
        Ok(Self { name, range, nodes })
    }

    pub(crate) fn directory(&self) -> PathBuf {
        self.name.directory()
    }

    /// The host's address on the bridge.
    pub(crate) fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 89, self.range, 1)
    }

    /// For what only the control plane itself asks.
    pub(crate) fn loopback(&self) -> Ipv4Addr {
        Ipv4Addr::new(127, 89, self.range, 1)
    }

    pub(crate) fn node_network(&self) -> String {
        format!("10.89.{}.0/24", self.range)
    }

    pub(crate) fn pod_network(&self) -> String {
        format!("10.{}.0.0/16", 244 - self.range)
    }

    pub(crate) fn service_network(&self) -> String {
        format!("10.{}.0.0/16", 96 + self.range)
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
        Node {
            directory: self.directory().join(&name),
            address: Ipv4Addr::new(10, 89, self.range, 10 + number),
            pod_network: format!("10.{}.{number}.0/24", 244 - self.range),
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
    pub(crate) pod_network: String,
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
        Layout::new("dev".parse().unwrap(), range, MOST_NODES).unwrap()
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
        let networks: Vec<String> =
            all.flat_map(|each| [each.node_network(), each.pod_network(), each.service_network()]).collect();
        assert_eq!(networks.iter().collect::<BTreeSet<_>>().len(), 3 * usize::from(RANGES));
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
        assert!(Layout::new(name.clone(), 0, 0).is_err());
        assert!(Layout::new(name.clone(), 0, MOST_NODES + 1).is_err());
        assert!(Layout::new(name, RANGES, 1).is_err());
    }
}
