//! dnsperf of DNS-OARC as a client of a Service, beside our own: many sockets that keep their ports, and a look at response codes.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bindy_testing::Process;
use bindy_testing::cluster::Namespace;
use rustix::process::Signal;

use crate::STEADY;

/// Its sockets; a node sends what comes from one of them to one server until its endpoint is gone.
const SOCKETS: u32 = 200;
/// More seconds than any test takes.
const SECONDS: u32 = 100_000;
/// How long it may take to end.
const STOP: Duration = Duration::from_secs(10);

/// A running dnsperf.
pub struct Dnsperf {
    process: Process,
}

/// What it counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// Questions that were answered or lost; those under way when it was stopped are neither.
    pub asked: usize,
    /// Those without an answer within two seconds.
    pub lost: usize,
    /// Answers with another response code than NOERROR.
    pub wrong: usize,
}

impl Dnsperf {
    /// Starts asking a Service for [`STEADY`] from the first node, `rate` questions a second.
    pub async fn start(namespace: &Namespace, service: &str, rate: u32) -> Result<Self> {
        let address = namespace.service_address(service).await?.to_string();
        let node = &namespace.cluster().description().nodes.first().context("no nodes")?.netns;
        let (questions, log) = (namespace.directory().join("questions"), log(namespace)?);
        std::fs::write(&questions, format!("{STEADY} A\n"))?;
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", node.display()))
            .args(["dnsperf", "-s", &address, "-t", "2", "-T", "1"]);
        for (option, value) in [("-Q", rate), ("-q", rate * 3), ("-c", SOCKETS), ("-l", SECONDS)] {
            command.arg(option).arg(value.to_string());
        }
        command.arg("-d").arg(questions);
        Ok(Self { process: Process::start("dnsperf", &command, &log)? })
    }

    /// Stops asking. What was asked in the two seconds before is not counted as lost.
    pub async fn stop(mut self) -> Result<Count> {
        self.process.check_running()?;
        self.process.signal(Signal::INT)?;
        self.process.wait(STOP).await?;
        let said = std::fs::read_to_string(self.process.log())?;
        Count::read(&said).with_context(|| said)
    }
}

/// A new file: dnsperf adds to one that is there.
fn log(namespace: &Namespace) -> Result<PathBuf> {
    let log = namespace.directory().join("dnsperf.log");
    match std::fs::remove_file(&log) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(log),
    }
}

impl Count {
    /// Reads the statistics that dnsperf ends with.
    pub fn read(said: &str) -> Result<Self> {
        let line = |name: &str| {
            let found = said.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(':'));
            found.with_context(|| format!("dnsperf says nothing of {name:?}"))
        };
        let number = |text: &str| -> Result<usize> {
            let word = text.split_whitespace().next().context("a number is missing")?;
            word.parse().with_context(|| format!("{word:?} is no number"))
        };
        let (completed, lost) = (number(line("Queries completed")?)?, number(line("Queries lost")?)?);
        // NOERROR 59998 (99.99%), SERVFAIL 2 (0.01%)
        let mut right = 0;
        for code in line("Response codes")?.split(',') {
            if let Some(count) = code.trim().strip_prefix("NOERROR ") {
                right = number(count)?;
            }
        }
        ensure!(right <= completed, "{right} right answers of {completed}");
        Ok(Self { asked: completed + lost, lost, wrong: completed - right })
    }
}
