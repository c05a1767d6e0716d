//! Where agents have zones from.

use anyhow::{Result, ensure};
use bindy_testing::cluster::{LIMIT, Server};
use bindy_testing::{http, wait_for};

/// Waits until the agents of these servers say of a source whether anything comes from it; `None`: that they have no such source.
pub async fn until_live(servers: &[Server], source: &str, live: Option<bool>) -> Result<()> {
    let gauge = format!("source_live{{source=\"{source}\"}}");
    let wanted = live.map(|live| format!("{gauge} {}", u8::from(live)));
    for server in servers {
        wait_for(&format!("{source} to be {live:?} at {}", server.name), LIMIT, async || {
            let metrics = http::get(server.http(), "/metrics").await?;
            let as_wanted =
                wanted.as_ref().map_or(!metrics.contains(&gauge), |wanted| metrics.contains(wanted));
            ensure!(as_wanted, "{metrics}");
            anyhow::Ok(())
        })
        .await?;
    }
    Ok(())
}
