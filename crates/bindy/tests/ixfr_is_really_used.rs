//! One edit in a zone of a thousand records travels as a few records to every tier, never as the whole zone.

mod common;

use anyhow::{Context, Result, ensure};
use bindy_zone::Rtype;
use common::faults;
use common::{Up, a, instance, zone};

/// Records of each transfer of a zone that named has completed.
fn sizes(log: &str, zone: &str) -> Vec<usize> {
    let completed = log.lines().filter(|line| {
        line.contains(&format!("transfer of '{zone}/IN' from")) && line.contains("Transfer completed:")
    });
    let words = completed.map(|line| line.split("messages, ").nth(1).unwrap_or_default());
    words.filter_map(|words| words.split(' ').next()?.parse().ok()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edit_of_a_large_zone_is_transferred_as_a_difference() -> Result<()> {
    const RECORDS: usize = 1_000;
    let mut up = Up::new("ixfr-used")?;
    let primary = instance("primary", "primary", 2, &[]);
    up.write("instances.yaml", &(primary + &instance("secondary", "secondary", 1, &["primary"])))?;
    let records: String = (0..RECORDS)
        .map(|n| a(&format!("r{n}"), "z", &format!("r{n}"), &format!("10.0.{}.{}", n / 250, n % 250)))
        .collect();
    up.write("records.yaml", &records)?;
    up.write("edited.yaml", &a("edited", "z", "edited", "192.0.2.1"))?;
    up.write("zone.yaml", &zone("z", "example.com"))?;
    up.start()?;
    let servers = up.settled().await?.servers;
    up.contents_are_equal().await?;
    for server in &servers {
        let before = sizes(&faults::log(server, "named.log"), "example.com");
        ensure!(
            before.iter().any(|records| *records > RECORDS),
            "the first transfers are not found: {before:?}"
        );
    }
    for edit in 2..=6 {
        let transfers: Vec<usize> = servers
            .iter()
            .map(|server| sizes(&faults::log(server, "named.log"), "example.com").len())
            .collect();
        let address = format!("192.0.2.{edit}");
        up.write("edited.yaml", &a("edited", "z", "edited", &address))?;
        up.answers("edited.example.com", Rtype::A, &[&address]).await?;
        up.contents_are_equal().await?;
        for (server, before) in servers.iter().zip(transfers) {
            let log = faults::log(server, "named.log");
            let all = sizes(&log, "example.com");
            let new = all.get(before..).context("the log has become shorter")?;
            let name = faults::name_of(server);
            ensure!(!new.is_empty(), "{name} got the edit without a transfer");
            // SOA, old SOA, old record, new SOA, new record, SOA.
            ensure!(new.iter().all(|records| *records <= 6), "{name}: an edit of one record took {new:?}");
        }
    }
    // Nobody has fallen back to a full transfer on the way.
    for server in &servers {
        let log = faults::log(server, "named.log");
        let full = sizes(&log, "example.com").iter().filter(|records| **records > RECORDS / 2).count();
        ensure!(full <= 2, "{} made {full} full transfers", faults::name_of(server));
    }
    up.stop().await
}
