//! A machine outside of the cluster: on the network of the nodes, without a way to Services' own addresses, and with one to
//! pods' where that is asked for.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};

use anyhow::{Context, Result, ensure};

use super::Cluster;

/// The last octets of machines' addresses, from this one down.
static NEXT: AtomicU8 = AtomicU8::new(254);

/// A network namespace on the bridge of the nodes, until this is dropped.
#[derive(Debug)]
pub struct Outside {
    name: String,
    address: Ipv4Addr,
}

impl Outside {
    /// A machine with an address of the nodes' network.
    pub fn new(cluster: &Cluster) -> Result<Self> {
        let description = cluster.description();
        let number = NEXT.fetch_sub(1, Ordering::Relaxed);
        let name = format!("{}-outside{number}", description.name);
        let [a, b, c, _] = description.gateway.octets();
        let machine = Self { name: name.clone(), address: Ipv4Addr::new(a, b, c, number) };
        ip(&["netns", "add", &name])?;
        let link = format!("{}-out{number}", description.name);
        ip(&["link", "add", &link, "type", "veth", "peer", "name", "eth0", "netns", &name])?;
        // Nodes remember for a while which link had the address before: it is the same one.
        let hardware = format!("02:00:{a:02x}:{b:02x}:{c:02x}:{number:02x}");
        ip(&["-n", &name, "link", "set", "eth0", "address", &hardware])?;
        ip(&["link", "set", &link, "master", &description.bridge, "up"])?;
        ip(&["-n", &name, "address", "add", &format!("{}/24", machine.address), "dev", "eth0"])?;
        for link in ["lo", "eth0"] {
            ip(&["-n", &name, "link", "set", link, "up"])?;
        }
        Ok(machine)
    }

    /// One that pods reach by their own addresses, as where a router knows these.
    pub fn with_routes_to_pods(cluster: &Cluster) -> Result<Self> {
        let machine = Self::new(cluster)?;
        for node in &cluster.description().nodes {
            let via = node.address.to_string();
            let pods = node.pod_cidrs.iter().filter(|pods| !pods.contains(':'));
            for pods in pods {
                ip(&["-n", &machine.name, "route", "add", pods, "via", &via])?;
            }
        }
        Ok(machine)
    }

    /// Its address.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// A command that runs there.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        let namespace: PathBuf = ["/run/netns", &self.name].iter().collect();
        command.arg(format!("--net={}", namespace.display())).arg(program);
        command
    }
}

fn ip(arguments: &[&str]) -> Result<()> {
    let status = Command::new("ip").args(arguments).status().context("cannot start ip")?;
    ensure!(status.success(), "ip {}: {status}", arguments.join(" "));
    Ok(())
}

impl Drop for Outside {
    #[expect(clippy::print_stderr, reason = "a namespace that stays spoils the next run")]
    fn drop(&mut self) {
        // Its link goes with it.
        if let Err(error) = ip(&["netns", "delete", &self.name]) {
            eprintln!("{} stays: {error:#}", self.name);
        }
    }
}
