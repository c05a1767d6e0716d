//! Two objects that exclude each other: the older one wins, the other is told so, and takes over when it goes.

use anyhow::{Result, ensure};
use bindy_e2e::served;
use bindy_testing::cluster::{Condition, Namespace, condition, in_namespace};
use bindy_testing::manifest::{a, manifest, zone};
use bindy_zone::Rtype;

/// Waits until an object is refused with this reason, by a message with this text.
async fn refused(namespace: &Namespace, kind: &str, name: &str, reason: &str, text: &str) -> Result<()> {
    let what = format!("{kind} {name} to be refused as {reason} with {text:?}");
    namespace
        .until((kind, name), &what, |object| {
            let accepted: Condition = condition(object, "Accepted")?;
            let told =
                accepted.status == "False" && accepted.reason == reason && accepted.message.contains(text);
            ensure!(told, "{accepted:?}");
            let ready = condition(object, "Ready")?;
            ensure!(ready.status == "False", "{ready:?}");
            Ok(())
        })
        .await
}

/// Objects made in one second have the same creation time: then the name decides, which these tests do not want.
async fn a_second_later(namespace: &Namespace, kind: &str, name: &str) -> Result<()> {
    let made = namespace.get(kind, name).await?.metadata.creation_timestamp;
    let made = made.map_or(0, |time| time.0.as_second());
    let now = || std::time::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_secs());
    bindy_testing::wait_for("the next second", std::time::Duration::from_secs(5), async || {
        ensure!(i64::try_from(now())? > made, "not yet");
        anyhow::Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cname_beside_other_data_belongs_to_the_older_object() -> Result<()> {
    in_namespace("cname-conflict", async |namespace| {
        served(namespace, 1).await?;
        namespace.serve(&a("z-older", "example-com", "one", "192.0.2.1")).await?;
        a_second_later(namespace, "ARecord", "z-older").await?;
        let alias = manifest("CNAMERecord", "a-younger", "zoneRef: example-com, name: one, target: steady");
        namespace.apply(&alias).await?;
        refused(namespace, "CNAMERecord", "a-younger", "Conflict", "z-older").await?;
        namespace.answers("one.example.com", Rtype::A, &["192.0.2.1"]).await?;
        namespace.remove("ARecord", "z-older").await?;
        namespace.ready("CNAMERecord", "a-younger").await?;
        namespace.answers("one.example.com", Rtype::CNAME, &["steady.example.com."]).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zone_name_belongs_to_the_older_object() -> Result<()> {
    in_namespace("zone-conflict", async |namespace| {
        served(namespace, 1).await?;
        a_second_later(namespace, "DNSZone", "example-com").await?;
        let usurper = zone("a-second", "Example.COM.") + &a("other", "a-second", "steady", "192.0.2.66");
        namespace.apply(&usurper).await?;
        refused(namespace, "DNSZone", "a-second", "Conflict", "example-com").await?;
        namespace.answers("steady.example.com", Rtype::A, &["192.0.2.250"]).await?;
        namespace.remove("DNSZone", "example-com").await?;
        namespace.ready("DNSZone", "a-second").await?;
        namespace.answers("steady.example.com", Rtype::A, &["192.0.2.66"]).await
    })
    .await
}
