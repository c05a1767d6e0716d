//! What runs, which nodes are ready, which images the registry has.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::cluster::layout::Layout;
use crate::cluster::process::Files;
use crate::cluster::verify;

/// Prints it; an error when something is missing.
pub(crate) fn show(layout: &Layout, kube: &Path) -> Result<()> {
    let (name, directory) = (&layout.name, layout.directory());
    println!("cluster {name}, range {}, {}", layout.range, directory.display());
    println!("  nodes {}, pods {}", listed(&layout.node_networks()), listed(&layout.pod_networks()));
    println!("  services {}, API {}", listed(&layout.service_networks()), layout.api_url());

    let ended = |process: &String| !Files::of(layout, process).is_running();
    let ended: Vec<String> = layout.processes().into_iter().filter(ended).collect();
    println!("  processes: {} run, ended: [{}]", layout.processes().len() - ended.len(), ended.join(" "));

    let ready = verify::ready_nodes(layout, kube).context("the API server")?;
    let nodes = layout.nodes();
    for node in &nodes {
        let state = if ready.contains(&node.name) { "ready" } else { "NOT READY" };
        println!("  {:<14} {:<12} {:<11} {}", node.name, node.address.to_string(), node.zone, state);
    }
    for image in images(layout)? {
        println!("  image {image}");
    }
    ensure!(ended.is_empty() && ready.len() == nodes.len(), "not whole; `cargo xtask cluster up` mends it");
    Ok(())
}

fn listed(networks: &[String]) -> String {
    networks.join(" and ")
}

/// `firestoned/bindy:latest`, as the registry keeps them on disk.
fn images(layout: &Layout) -> Result<Vec<String>> {
    let top = layout.directory().join("registry/images/docker/registry/v2/repositories");
    let mut found = Vec::new();
    collect(&top, &top, &mut found)?;
    found.sort();
    Ok(found)
}

fn collect(top: &Path, directory: &Path, found: &mut Vec<String>) -> Result<()> {
    let tags = directory.join("_manifests/tags");
    if tags.is_dir() {
        let repository = directory.strip_prefix(top)?.display();
        for tag in fs::read_dir(tags)? {
            found.push(format!("{repository}:{}", tag?.file_name().to_string_lossy()));
        }
        return Ok(());
    }
    for entry in fs::read_dir(directory).into_iter().flatten() {
        collect(top, &entry?.path(), found)?;
    }
    Ok(())
}
