//! The registry of a cluster: Debian's `docker-registry` on the bridge, from which all nodes take all images.

use std::fs;
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use crate::cluster::layout::Layout;
use crate::cluster::process::{Process, Start};

const READY: Duration = Duration::from_secs(60);

/// The process, its configuration written.
pub(crate) fn process(layout: &Layout) -> Result<Process> {
    let directory = layout.directory().join("registry");
    fs::create_dir_all(&directory)?;
    let file = directory.join("config.json");
    let config = json!({
        "version": "0.1",
        "log": {"level": "warn", "accesslog": {"disabled": true}},
        "storage": {"filesystem": {"rootdirectory": directory.join("images")}},
        "http": {"addr": layout.registry(), "secret": "of nobody's interest"},
    });
    fs::write(&file, serde_json::to_string_pretty(&config)?)?;
    let arguments = vec!["docker-registry".to_owned(), "serve".to_owned(), file.display().to_string()];
    Process::new(layout, &Start { name: "registry", node: None, arguments, files: &[file] })
}

/// Starts it and waits until it listens.
pub(crate) fn ensure(layout: &Layout, process: &Process) -> Result<()> {
    process.ensure()?;
    process.until("the registry to listen", READY, || {
        TcpStream::connect(layout.registry()).context("its port").map(drop)
    })
}
