//! A zone of 50 000 records comes as ConfigMaps with zone files, is served whole, and one edit in it is one difference.

use anyhow::{Context, Result, ensure};
use bindy_e2e::served;
use bindy_testing::cluster::in_namespace;
use bindy_testing::dns;
use bindy_testing::manifest::{manifest, zone_file};
use bindy_zone::{Name, Rtype};
use serde_json::json;

const FILES: u32 = 4;
const RECORDS_OF_A_FILE: u32 = 12_500;

fn file(number: u32, last_octet: u32) -> String {
    let line = |n: u32| {
        let n = number * RECORDS_OF_A_FILE + n;
        format!("h{n} A 10.{}.{}.{last_octet}\n", n >> 8, n & 0xFF)
    };
    let text: String = (0..RECORDS_OF_A_FILE).map(line).collect();
    zone_file(&format!("large-{number}"), "zone", &text)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_thousand_records_by_zone_files_are_served_whole() -> Result<()> {
    in_namespace("large-zone", async |namespace| {
        let servers = served(namespace, 1).await?;
        for number in 0..FILES {
            namespace.apply(&file(number, 1)).await?;
        }
        let sources: Vec<String> =
            (0..FILES).map(|number| format!("{{configMap: {{name: large-{number}, key: zone}}}}")).collect();
        let spec = format!("zoneName: large.example, zoneFilesFrom: [{}]", sources.join(", "));
        namespace.serve(&manifest("DNSZone", "large", &spec)).await?;
        let zone = namespace.get("DNSZone", "large").await?;
        let records = zone.data.pointer("/status/records").and_then(serde_json::Value::as_u64);
        let wanted = u64::from(FILES * RECORDS_OF_A_FILE);
        // SOA, NS and the name server's address come with the zone.
        ensure!(records.is_some_and(|found| (wanted..=wanted + 4).contains(&found)), "{records:?} records");
        let server = servers.first().context("no server")?;
        let key = namespace.key("primary").await?;
        let whole = dns::transfer(server.transfer(), &Name::parse("large.example")?, Some(&key)).await?;
        let digest = zone.data.pointer("/status/digest").and_then(serde_json::Value::as_str);
        ensure!(digest == Some(&whole.content.digest().to_string()), "other content is served");
        for (name, address) in [("h0", "10.0.0.1"), ("h31337", "10.122.105.1"), ("h49999", "10.195.79.1")] {
            namespace.answers(&format!("{name}.large.example"), Rtype::A, &[address]).await?;
        }
        namespace.apply(&file(3, 2)).await?;
        namespace.answers("h49999.large.example", Rtype::A, &["10.195.79.2"]).await?;
        namespace.answers("h0.large.example", Rtype::A, &["10.0.0.1"]).await?;
        // A ConfigMap that goes does not take its records along: they may be gone by mistake.
        namespace.remove("ConfigMap", "large-0").await?;
        namespace
            .until(("DNSZone", "large"), "the missing file to be told", |zone| {
                let text = json!(zone.data.pointer("/status/conditions")).to_string();
                ensure!(text.contains("large-0"), "the conditions are {text}");
                Ok(())
            })
            .await?;
        namespace.answers("h0.large.example", Rtype::A, &["10.0.0.1"]).await
    })
    .await
}
