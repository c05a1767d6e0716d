//! A zone takes in records by their labels, and is served by the instances that its selectors choose.

mod common;

use anyhow::{Context, Result, ensure};
use bindy_testing::dns;
use bindy_testing::manifest::manifest;
use bindy_zone::Rtype;
use common::{LIMIT, Up, a, instance, zone};

/// A manifest with the label `team: LABEL`.
fn labelled(manifest: &str, label: &str) -> String {
    manifest.replacen("metadata: {", &format!("metadata: {{labels: {{team: {label}}}, "), 1)
}

fn record(object: &str, name: &str, label: &str) -> String {
    let spec = format!("name: {name}, ipv4Addresses: [192.0.2.1]");
    labelled(&manifest("ARecord", object, &spec), label)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_follow_their_labels_into_and_out_of_a_zone() -> Result<()> {
    let mut up = Up::new("labels-of-records")?;
    up.write("instance.yaml", &instance("primary", "primary", 1, &[]))?;
    let spec = "zoneName: example.com, recordsFrom: [{selector: {matchLabels: {team: web}}}]";
    up.write("zone.yaml", &(manifest("DNSZone", "z", spec) + &a("direct", "z", "direct", "192.0.2.9")))?;
    up.write("records.yaml", &(record("one", "one", "web") + &record("two", "two", "mail")))?;
    up.start()?;
    up.settled().await?;
    up.answers("direct.example.com", Rtype::A, &["192.0.2.9"]).await?;
    up.answers("one.example.com", Rtype::A, &["192.0.2.1"]).await?;
    up.answers("two.example.com", Rtype::A, &["NXDOMAIN"]).await?;
    up.until("the record that no zone wants to be told so", |status| {
        let told =
            status.problems.iter().any(|problem| problem.object.as_deref() == Some("ARecord default/two"));
        ensure!(told, "the problems are {:#?}", status.problems);
        Ok(())
    })
    .await?;
    up.write("records.yaml", &(record("one", "one", "mail") + &record("two", "two", "web")))?;
    up.answers("two.example.com", Rtype::A, &["192.0.2.1"]).await?;
    up.answers("one.example.com", Rtype::A, &["NXDOMAIN"]).await?;
    up.contents_are_equal().await?;
    up.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zone_is_served_by_the_instances_that_it_selects_and_leaves_the_others() -> Result<()> {
    let mut up = Up::new("labels-of-instances")?;
    let instances = labelled(&instance("web", "primary", 1, &[]), "web")
        + &labelled(&instance("mail", "primary", 1, &[]), "mail");
    up.write("instances.yaml", &instances)?;
    let chosen = |label: &str| {
        let selector = format!("[{{selector: {{matchLabels: {{team: {label}}}}}}}]");
        manifest("DNSZone", "z", &format!("zoneName: example.com, bind9InstancesFrom: {selector}"))
    };
    up.write("zone.yaml", &(chosen("web") + &zone("everywhere", "example.org")))?;
    up.start()?;
    let status = up.settled().await?;
    let server = |name: &str| {
        status.server(&format!("default/{name}"), 0).map(|server| server.dns).context("a server")
    };
    let (web, mail) = (server("web")?, server("mail")?);
    dns::answers_at(web, "example.com", Rtype::NS, &["web.ns.example.com."], LIMIT).await?;
    dns::answers_at(mail, "example.com", Rtype::NS, &["REFUSED"], LIMIT).await?;
    up.answers("example.org", Rtype::NS, &["mail.ns.example.org.", "web.ns.example.org."]).await?;
    up.write("zone.yaml", &(chosen("mail") + &zone("everywhere", "example.org")))?;
    dns::answers_at(mail, "example.com", Rtype::NS, &["mail.ns.example.com."], LIMIT).await?;
    dns::answers_at(web, "example.com", Rtype::NS, &["REFUSED"], LIMIT).await?;
    up.stop().await
}
