//! A machine outside of the cluster: on the network of the nodes, without a way to pods' or Services' own addresses.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::Cluster;

/// A network namespace on the bridge of the nodes, until this is dropped.
#[derive(Debug)]
pub struct Outside {
    name: String,
    address: Ipv4Addr,
}

impl Outside {
    /// A machine with the last address of the nodes' network.
    pub fn new(cluster: &Cluster) -> Result<Self> {
        let description = cluster.description();
        let name = format!("{}-outside", description.name);
        let [a, b, c, _] = description.gateway.octets();
        let machine = Self { name: name.clone(), address: Ipv4Addr::new(a, b, c, 254) };
        ip(&["netns", "add", &name])?;
        let link = format!("{}-out", description.name);
        ip(&["link", "add", &link, "type", "veth", "peer", "name", "eth0", "netns", &name])?;
        ip(&["link", "set", &link, "master", &description.bridge, "up"])?;
        ip(&["-n", &name, "address", "add", &format!("{}/24", machine.address), "dev", "eth0"])?;
        for link in ["lo", "eth0"] {
            ip(&["-n", &name, "link", "set", link, "up"])?;
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
