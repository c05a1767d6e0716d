//! Blocks of docs/kubernetes.md, which tests follow word for word.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Result, bail, ensure};
use bindy_testing::cluster::Namespace;

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

/// Runs commands of the document in a directory, with the namespace of the test in place of `dns`.
pub async fn run(namespace: &Namespace, directory: &Path, commands: &str) -> Result<()> {
    let description = namespace.cluster().description();
    let (kube, config) = (description.kube.display(), description.kubeconfig.display());
    let kubectl = directory.join("kubectl");
    std::fs::write(&kubectl, format!("#!/bin/sh\nexec {kube} kubectl --kubeconfig {config} \"$@\"\n"))?;
    std::fs::set_permissions(&kubectl, std::fs::Permissions::from_mode(0o755))?;
    let commands = commands.replace("-n dns ", &format!("-n {} ", namespace.name()));
    let path = std::env::var("PATH")?;
    let output = tokio::process::Command::new("sh")
        .args(["-e", "-c", &commands])
        .env("PATH", format!("{}:{path}", directory.display()))
        .current_dir(directory)
        .output()
        .await?;
    ensure!(output.status.success(), "{commands}{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
