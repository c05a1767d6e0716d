//! Programs of the control plane, frozen: they accept connections and answer nobody.

use anyhow::{Context, Result};
use rustix::process::Signal;

use super::Cluster;
use super::process::send;

/// Programs that go on when this is dropped.
#[derive(Debug)]
pub struct Frozen(Vec<i32>);

impl Cluster {
    /// Freezes programs. Their names are those of `cluster.json`, for example `apiserver` and `etcd`.
    pub fn freeze(&self, programs: &[&str]) -> Result<Frozen> {
        let mut frozen = Frozen(Vec::new());
        for program in programs {
            let file = &self.description().daemon(program)?.pid;
            let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
            let pid = text.split_whitespace().next().context("no process ID")?.parse()?;
            send(pid, Signal::STOP)?;
            frozen.0.push(pid);
        }
        Ok(frozen)
    }
}

impl Drop for Frozen {
    #[expect(clippy::print_stderr, reason = "what stays frozen spoils the tests that follow")]
    fn drop(&mut self) {
        for pid in &self.0 {
            if let Err(error) = send(*pid, Signal::CONT) {
                eprintln!("process {pid} stays frozen: {error:#}");
            }
        }
    }
}
