//! `cargo xtask cluster`: a real Kubernetes on this machine, without a container engine.
//!
//! ```text
//!   up:  binary of tools/kube ─► layout (name, range, nodes) ─► certificates ─► network ─► etcd, API server, …
//!        ─► registry with the pause image ─► containerd, kubelet and kube-proxy of every node ─► verified
//! ```
//!
//! `up` makes what is missing and starts what has ended, so it mends a cluster and does nothing to a whole one. `down`
//! needs only the name. Processes outlive this one.

mod cgroups;
mod control_plane;
mod down;
mod install;
mod kube;
mod layout;
mod network;
mod node;
mod pki;
mod process;
mod registry;
mod state;
mod status;
mod verify;
mod wait;

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};

pub(crate) use crate::cluster::install::Replicas;
pub(crate) use crate::cluster::kube::{Build, cache};
pub(crate) use crate::cluster::layout::Name;
pub(crate) use crate::cluster::state::Wish;

use crate::cluster::control_plane::{ControlPlane, kubectl};
use crate::cluster::layout::Layout;
use crate::cluster::node::NodeAgents;
use crate::cluster::process::Process;
use crate::image::Named;
use crate::steps::Steps;
use crate::{image, prerequisites};

#[derive(Args)]
pub(crate) struct Arguments {
    /// Which cluster
    #[arg(long, global = true, default_value = "dev")]
    name: Name,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Makes the cluster, or mends it; ends when it is usable
    Up {
        /// How many nodes [default: as they are, or 3]
        #[arg(long, value_name = "N")]
        nodes: Option<u8>,
        /// Which of the sixteen address ranges [default: as it is, or the lowest free one]
        #[arg(long, value_name = "N")]
        range: Option<u8>,
        /// Without IPv6 on a machine that has it
        #[arg(long)]
        ipv4_only: bool,
    },
    /// Takes it down; nothing is left
    Down,
    /// Shows its processes, nodes and images
    Status,
    /// Runs kubectl with the administrator's rights
    Kubectl {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Builds Bindy's images where they are stale and brings them to the registry
    LoadImages,
}

pub(crate) fn run(steps: &mut Steps, arguments: Arguments) -> Result<()> {
    let name = arguments.name;
    match arguments.command {
        Command::Up { nodes, range, ipv4_only } => up(steps, &name, Wish { nodes, range, ipv4_only }),
        Command::Down => down(steps, &name),
        Command::Status => status::show(&known(&name)?, &kube::ensure(steps)?),
        Command::Kubectl { arguments } => {
            let error = kubectl(&known(&name)?, &kube::ensure(steps)?).args(arguments).exec();
            Err(error).context("cannot start kubectl")
        }
        Command::LoadImages => load_images(steps, &name),
    }
}

/// Ends with one line that says what this machine lacks for a cluster, before anything long has begun.
pub(crate) fn can_be_made() -> Result<()> {
    prerequisites::require_root("a cluster")?;
    kube::can_be_built()
}

/// Makes the cluster, or mends it.
pub(crate) fn up(steps: &mut Steps, name: &Name, wish: Wish) -> Result<()> {
    prerequisites::install(steps, &prerequisites::CLUSTER)?;
    prerequisites::require_root("a cluster")?;
    let kube = kube::ensure(steps)?;
    let pause = image::pause(steps)?;
    steps.run(&format!("cluster {name} up"), || {
        let lock = state::lock()?;
        let layout = state::decide(name, wish)?;
        Cluster::prepare(&layout, &kube)?.start(&layout, &kube, &pause)?;
        drop(lock);
        Ok(())
    })
}

/// Takes it down, however far it had come.
pub(crate) fn down(steps: &mut Steps, name: &Name) -> Result<()> {
    prerequisites::require_root("taking a cluster down")?;
    steps.run(&format!("cluster {name} down"), || {
        let lock = state::lock()?;
        down::run_all(name)?;
        drop(lock);
        Ok(())
    })
}

/// Builds Bindy's images where they are stale and brings them to the registry.
pub(crate) fn load_images(steps: &mut Steps, name: &Name) -> Result<()> {
    let layout = known(name)?;
    let images = image::all(steps)?;
    steps.run("push images", || images.iter().try_for_each(|image| image.push(&layout.registry())))
}

/// Installs the operator as the manifests have it, or again after its image has changed.
pub(crate) fn install(steps: &mut Steps, name: &Name, replicas: Replicas) -> Result<()> {
    let (layout, kube) = (known(name)?, kube::ensure(steps)?);
    steps.run("install the operator", || install::operator(&layout, &kube, replicas))
}

/// Waits until the installed operator is ready; the first start of all takes as long as a lease.
pub(crate) fn operator_ready(steps: &mut Steps, name: &Name) -> Result<()> {
    let (layout, kube) = (known(name)?, kube::ensure(steps)?);
    steps.run("operator ready", || install::ready(&layout, &kube))
}

/// The beginning of a kubectl command with the administrator's rights.
pub(crate) fn administrator(
    steps: &mut Steps,
    name: &Name,
) -> Result<impl Fn() -> std::process::Command + use<>> {
    let (layout, kube) = (known(name)?, kube::ensure(steps)?);
    Ok(move || kubectl(&layout, &kube))
}

fn known(name: &Name) -> Result<Layout> {
    match state::read(name)? {
        Some(layout) => Ok(layout),
        None => bail!("there is no cluster {name}; run `cargo xtask cluster up --name {name}`"),
    }
}

/// All processes of a cluster, their configuration written.
struct Cluster {
    control: ControlPlane,
    registry: Process,
    agents: Vec<NodeAgents>,
}

impl Cluster {
    fn prepare(layout: &Layout, kube: &Path) -> Result<Self> {
        for directory in ["run", "log"] {
            fs::create_dir_all(layout.directory().join(directory))?;
        }
        // First of all, so that other clusters know the range is taken.
        state::write(layout, kube)?;
        pki::ensure(layout)?;
        let agents =
            layout.nodes().iter().map(|node| NodeAgents::new(layout, node, kube)).collect::<Result<_>>()?;
        Ok(Self { control: ControlPlane::new(layout, kube)?, registry: registry::process(layout)?, agents })
    }

    fn start(&self, layout: &Layout, kube: &Path, pause: &Named) -> Result<()> {
        network::ensure(layout)?;
        for agents in &self.agents {
            agents.ensure_containerd()?;
        }
        registry::ensure(layout, &self.registry)?;
        pause.push(&layout.registry())?;
        self.control.ensure(layout, kube)?;
        for agents in &self.agents {
            agents.ensure()?;
        }
        verify::all(layout, kube, &self.agents)
    }
}
