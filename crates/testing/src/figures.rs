//! Figures of a bench: its JSON lines, and how long a question takes to get its answer on all servers.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bindy_zone::{Name, Rtype};

use crate::dns::{self, Transport};

/// Prints one result.
#[expect(clippy::print_stdout, reason = "that is where results of benches go")]
pub fn report(bench: &str, metric: &str, value: f64, unit: &str, n: usize) {
    println!(
        "{{\"bench\":\"{bench}\",\"metric\":\"{metric}\",\"value\":{value:.3},\"unit\":\"{unit}\",\"n\":{n}}}"
    );
}

/// The value below which `share` of all values are.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * share).round() as usize).copied().unwrap_or(f64::NAN)
}

/// Asks all servers in turn until each has given this answer; half a millisecond passes between two rounds, so that
/// the questions do not take the processor from what is measured.
pub async fn arrival(
    servers: &[SocketAddr],
    name: &Name,
    rtype: Rtype,
    is_expected: impl Fn(&dns::Answer) -> bool,
    limit: Duration,
) -> Result<()> {
    let begun = Instant::now();
    for &server in servers {
        loop {
            let answer = dns::ask(server, Transport::Udp, name, rtype).await;
            if answer.as_ref().is_ok_and(&is_expected) {
                break;
            }
            ensure!(begun.elapsed() < limit, "{server} has no right answer to {name} {rtype} but {answer:?}");
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
    }
    Ok(())
}
