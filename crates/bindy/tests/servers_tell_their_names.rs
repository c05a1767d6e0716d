//! An answer tells which server gave it: by NSID (RFC 5001), and by `id.server`.

mod common;

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use common::{Up, instance, zone};

async fn dig(server: SocketAddr, arguments: &[&str]) -> Result<String> {
    let at = format!("@{}", server.ip());
    let port = server.port().to_string();
    let output = tokio::process::Command::new("dig")
        .args([&*at, "-p", &*port, "+time=2", "+tries=3"])
        .args(arguments)
        .output()
        .await
        .context("dig")?;
    ensure!(output.status.success(), "dig: {}", String::from_utf8_lossy(&output.stdout));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_server_answers_with_its_own_name() -> Result<()> {
    let mut up = Up::new("names-of-servers")?;
    up.write("all.yaml", &(instance("dns", "primary", 2, &[]) + &zone("z", "example.com")))?;
    up.start()?;
    let status = up.settled().await?;
    for index in 0..2 {
        let server = status.server("default/dns", index).context("a server")?;
        let name = format!("default/dns/{index}");
        let answer = dig(server.dns, &["+nsid", "example.com", "SOA"]).await?;
        ensure!(answer.contains(&format!("(\"{name}\")")), "no NSID {name} in\n{answer}");
        let told = dig(server.dns, &["+short", "id.server", "CH", "TXT"]).await?;
        ensure!(told.trim() == format!("\"{name}\""), "id.server is {told}");
    }
    up.stop().await
}
