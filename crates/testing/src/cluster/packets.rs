//! Packet rules in the network namespace of a pod or node.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

const TABLE: &str = "bindy_e2e";

/// Rules that hold until they are dropped.
#[derive(Debug)]
pub struct PacketRules {
    namespace: File,
}

impl PacketRules {
    /// Puts rules of nftables into force for what the namespace receives and sends, each as `nft` has it behind
    /// `add rule`. Examples: `tcp dport 5353 drop`, `ip daddr 10.96.0.1 reject`.
    pub fn set(namespace: &Path, incoming: &[&str], outgoing: &[&str]) -> Result<Self> {
        let file = File::open(namespace).with_context(|| namespace.display().to_string())?;
        let chain = |hook: &str, rules: &[&str]| {
            let head = format!("type filter hook {hook} priority -300; policy accept;");
            format!("chain {hook} {{\n{head}\n{}\n}}", rules.join("\n"))
        };
        let (input, output) = (chain("input", incoming), chain("output", outgoing));
        nft(&file, &format!("table inet {TABLE} {{\n{input}\n{output}\n}}\n"))?;
        Ok(Self { namespace: file })
    }
}

fn nft(namespace: &File, script: &str) -> Result<()> {
    let descriptor = format!("/proc/{}/fd/{}", std::process::id(), namespace.as_raw_fd());
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={descriptor}")).args(["nft", "-f", "-"]).stdin(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().context("cannot start nsenter")?;
    child.stdin.take().context("no input")?.write_all(script.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "nft: {}\n{script}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

impl Drop for PacketRules {
    #[expect(clippy::print_stderr, reason = "a rule that stays spoils the tests that follow")]
    fn drop(&mut self) {
        if let Err(error) = nft(&self.namespace, &format!("delete table inet {TABLE}\n")) {
            eprintln!("packet rules stay: {error:#}");
        }
    }
}
