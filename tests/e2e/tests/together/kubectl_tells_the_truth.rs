//! What kubectl shows and waits for is true: `wait` ends when every server answers, columns have the values, `scale`
//! works.

use anyhow::{Context, Result, bail, ensure};
use bindy_e2e::{ALL_TYPES, STEADY, ZONE, served};
use bindy_testing::cluster::in_namespace;
use bindy_testing::dns::{self, Transport};
use bindy_testing::manifest::a;
use bindy_zone::{Name, Rtype};
use serde_json::json;

/// The cells of the only row, with the names of their columns; kubectl aligns them, and some are empty.
fn row(table: &str) -> Result<Vec<(String, String)>> {
    let lines: Vec<&str> = table.lines().collect();
    let [head, only] = lines.as_slice() else { bail!("not one row:\n{table}") };
    let names: Vec<&str> = head.split_whitespace().collect();
    let mut starts: Vec<usize> = Vec::new();
    for name in &names {
        let after = starts.last().map_or(0, |last| last + 1);
        starts.push(after + head.get(after..).and_then(|rest| rest.find(name)).context("no such column")?);
    }
    let ends = starts.iter().skip(1).copied().chain([only.len()]);
    let cell = |(start, end): (&usize, usize)| {
        only.get(*start..end.max(*start)).unwrap_or_default().trim().to_owned()
    };
    Ok(names.iter().map(|name| (*name).to_owned()).zip(starts.iter().zip(ends).map(cell)).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wait_for_ready_ends_when_every_server_answers() -> Result<()> {
    in_namespace("kubectl-wait", async |namespace| {
        let servers = served(namespace, 2).await?;
        let question = Name::parse("edited.example.com")?;
        for last in 1..=15 {
            let address = format!("192.0.2.{last}");
            namespace.apply(&a("edited", ZONE.0, "edited", &address)).await?;
            namespace.kubectl(&["wait", "--for=condition=Ready", "arecord/edited", "--timeout=30s"]).await?;
            for server in &servers {
                // Once, without a second try: that is what waiting was for.
                let found = dns::texts(server.dns(), Transport::Udp, &question, Rtype::A).await?;
                ensure!(found == [address.as_str()], "{} answers {found:?}, not {address}", server.name);
            }
        }
        for kind in ["bind9instance/primary", "dnszone/example-com", "arecord/steady"] {
            namespace.kubectl(&["wait", "--for=condition=Ready", kind, "--timeout=30s"]).await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn columns_have_the_values() -> Result<()> {
    in_namespace("kubectl-get", async |namespace| {
        let servers = served(namespace, 2).await?;
        namespace.ready("Bind9Instance", "primary").await?;
        let serial =
            dns::serial(servers.first().context("no server")?.dns(), Transport::Udp, &Name::parse(ZONE.1)?)
                .await?
                .to_string();
        let has = |table: &str, wanted: &[(&str, &str)]| -> Result<()> {
            let row = row(table)?;
            for (column, value) in wanted {
                let found = row.iter().any(|(name, cell)| name == column && cell == value);
                ensure!(found, "{column} is not {value}:\n{table}");
            }
            Ok(())
        };
        let instance = namespace.kubectl(&["get", "b9"]).await?;
        has(&instance, &[("ROLE", "primary"), ("READY", "2/2"), ("ZONES", "1"), ("VERSION", "9.18")])?;
        ensure!(instance.contains("ADDRESS"), "no address:\n{instance}");
        let zone = namespace.kubectl(&["get", "dz"]).await?;
        has(&zone, &[("ZONE", ZONE.1), ("SERIAL", &serial), ("SERVERS", "2/2"), ("READY", "True")])?;
        let record = namespace.kubectl(&["get", "a"]).await?;
        has(&record, &[("ZONE", ZONE.1), ("READY", "True")])?;

        // The page's backup.
        let kinds = ALL_TYPES.map(|one| format!("{}s", one.object())).join(",");
        let all = format!("bind9instances,dnszones,{kinds}");
        let backup = namespace.kubectl(&["get", &all, "-o", "yaml"]).await?;
        ensure!(backup.contains(STEADY.split('.').next().unwrap_or_default()), "the backup is empty");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scale_changes_the_number_of_servers() -> Result<()> {
    in_namespace("kubectl-scale", async |namespace| {
        served(namespace, 1).await?;
        namespace.kubectl(&["scale", "bind9instance/primary", "--replicas=2"]).await?;
        namespace.until_ready("primary", 2, &[]).await?;
        let instance = namespace.ready("Bind9Instance", "primary").await?;
        ensure!(instance.data["status"]["selector"] != json!(null), "there is no selector for autoscalers");
        let scale = namespace
            .kubectl(&[
                "get",
                "--raw",
                &format!(
                    "/apis/bindy.firestoned.io/v1beta1/namespaces/{}/bind9instances/primary/scale",
                    namespace.name()
                ),
            ])
            .await?;
        let scale: serde_json::Value = serde_json::from_str(&scale)?;
        ensure!(scale["status"]["replicas"] == 2, "{scale}");
        Ok(())
    })
    .await
}
