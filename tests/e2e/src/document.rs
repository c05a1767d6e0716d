//! Blocks of docs/kubernetes.md and commands, which tests follow word for word.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Result, bail, ensure};
use bindy_testing::cluster::Namespace;
use tokio::process::Command;

/// The only indented block of the document that has this text in it, without its indentation.
pub fn block(part: &str) -> Result<String> {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/kubernetes.md");
    let text = std::fs::read_to_string(document)?;
    let mut blocks = vec![String::new()];
    for line in text.lines() {
        match (line.strip_prefix("    "), blocks.last_mut()) {
            (Some(line), Some(block)) => *block += &format!("{line}\n"),
            _ => blocks.push(String::new()),
        }
    }
    blocks.retain(|block| block.contains(part));
    let count = blocks.len();
    match blocks.pop() {
        Some(block) if count == 1 => Ok(block),
        _ => bail!("{count} blocks of docs/kubernetes.md have {part:?}"),
    }
}

/// A shell that runs commands as their reader would, in the network of the host or in another one.
pub fn shell(namespace: &Namespace, network: Option<&Path>, commands: &str) -> Result<Command> {
    let description = namespace.cluster().description();
    let directory = namespace.directory().join("bin");
    std::fs::create_dir_all(&directory)?;
    // What the reader calls so.
    let kubectl = directory.join("kubectl");
    let script = format!("#!/bin/sh\nexec {} kubectl \"$@\"\n", description.kube.display());
    std::fs::write(&kubectl, script)?;
    std::fs::set_permissions(&kubectl, std::fs::Permissions::from_mode(0o755))?;
    let mut shell = match network {
        None => Command::new("sh"),
        Some(network) => {
            let mut enter = Command::new("nsenter");
            enter.arg(format!("--net={}", network.display())).arg("sh");
            enter
        }
    };
    shell.env("PATH", format!("{}:{}", directory.display(), std::env::var("PATH")?));
    shell.env("KUBECONFIG", &description.kubeconfig);
    shell.args(["-c", commands]).stdin(Stdio::null());
    Ok(shell)
}

/// Runs commands of the document in a directory, with the namespace of the test in place of `dns`.
pub async fn run(namespace: &Namespace, directory: &Path, commands: &str) -> Result<()> {
    let commands = commands.replace("-n dns ", &format!("-n {} ", namespace.name()));
    let output = shell(namespace, None, &format!("set -e\n{commands}"))?.current_dir(directory).output();
    let output = output.await?;
    ensure!(output.status.success(), "{commands}{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
