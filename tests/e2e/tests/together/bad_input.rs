//! Mistakes are answered as early as they can be seen: by the API server, in words that help; otherwise on the object.
//! Everything else is served meanwhile, and a correction heals at once.

use anyhow::{Context, Result, ensure};
use bindy_e2e::{STEADY, STEADY_ADDRESS, served};
use bindy_model::named_conf::AclElement;
use bindy_testing::cluster::{Namespace, condition, in_namespace};
use bindy_testing::manifest::{a, instance, manifest, zone, zone_file};
use bindy_zone::Rtype;
use serde_json::json;

fn record(kind: &str, spec: &str) -> String {
    manifest(kind, "mistake", &format!("zoneRef: example-com, {spec}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_server_refuses_what_the_schema_can_see_and_says_why() -> Result<()> {
    in_namespace("schema", async |namespace| {
        let wrong = [
            (record("ARecord", "name: www, ipv4Addresses: [192.0.2.256]"), "must be of type ipv4"),
            (record("AAAARecord", "name: www, ipv6Addresses: [\"192.0.2.1\"]"), "must be of type ipv6"),
            (record("ARecord", "name: \"a..b\", ipv4Addresses: [192.0.2.1]"), "empty label"),
            (record("ARecord", "name: \"a b\", ipv4Addresses: [192.0.2.1]"), "printable ASCII"),
            (record("ARecord", "name: \"a.*\", ipv4Addresses: [192.0.2.1]"), "a wildcard is a whole label"),
            (record("ARecord", "name: www, ipv4Addresses: []"), "ipv4Addresses"),
            (record("ARecord", "name: www, ttl: -1, ipv4Addresses: [192.0.2.1]"), "ttl"),
            (
                record("ARecord", &format!("name: {}, ipv4Addresses: [192.0.2.1]", "x".repeat(64))),
                "63 octets",
            ),
            (record("CNAMERecord", "name: \"@\", target: www"), "cannot be at the apex"),
            (record("NSRecord", "name: \"*.sub\", nameserver: ns"), "cannot be at a wildcard"),
            (record("MXRecord", "name: www, priority: 65536, mailServer: mx"), "priority"),
            (
                record("CAARecord", "name: www, flags: 0, tag: \"is sue\", value: x"),
                "letters and digits only",
            ),
            (zone("mistake", "\"*.example.com\""), "must be a plain domain name"),
            (instance("mistake", "primary", 101, &[]), "replicas"),
            (instance("mistake", "primary", 1, &["other"]), "takes no upstreams"),
            (instance("mistake", "secondary", 1, &["mistake"]), "its own upstream"),
            (instance("mistake", "master", 1, &[]), "role"),
            (instance(&"x".repeat(53), "primary", 1, &[]), "metadata.name"),
        ];
        for (text, why) in wrong {
            let refused = namespace.apply(&text).await.err().with_context(|| format!("accepted:\n{text}"))?;
            ensure!(format!("{refused:#}").contains(why), "{refused:#}\nsays nothing of {why:?}");
        }
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_server_takes_the_addresses_that_the_operator_can_read_and_no_others() -> Result<()> {
    in_namespace("addresses", async |namespace| {
        let words = "any none localhost localnets !any !none !localhost !localnets ! !!any any! Any all \
            192.0.2.1 !192.0.2.1 192.0.2.1/32 192.0.2.0/24 !192.0.2.0/24 0.0.0.0/0 2001:db8::1 !2001:DB8::/32 ::/0 \
            ::1/128 ::192.0.2.1 192.0.2 192.0.2.01 192.0.2.256 !!192.0.2.1 192.0.2!.1 192.0.2.1! 192.0.2.1/24 \
            !192.0.2.1/24 0.0.0.1/0 192.0.2.0/33 192.0.2.0/024 192.0.2.0/+24 192.0.2.0/ 192.0.2/24 192.0.2.0/24/24 \
            2001:db8::1/64 ::/129 ::1%lo 1::2::3 ::ffff:192.0.2.1 ::ffff:192.0.2.0/120";
        let texts: Vec<&str> =
            words.split_whitespace().chain([" any", "! any", "! 192.0.2.1", "any; };", "key k"]).collect();
        let list = format!("replicas: 1, config: {{allowQuery: {}}}", json!(texts));
        let refused = namespace.apply(&manifest("Bind9Instance", "mistake", &list)).await;
        let refused = format!("{:#}", refused.err().context("all of them were accepted")?);
        for (index, text) in texts.iter().enumerate() {
            let (told, read) =
                (refused.contains(&format!("allowQuery[{index}]:")), text.parse::<AclElement>());
            ensure!(told == read.is_err(), "{text:?}: the operator reads {read:?}, the API server says {refused}");
        }
        Ok(())
    })
    .await
}

/// Waits until a condition of an object has this status and a message with this text.
async fn told(
    namespace: &Namespace,
    object: (&str, &str),
    kind: &str,
    status: &str,
    text: &str,
) -> Result<()> {
    let what = format!("{} {} to be told {text:?}", object.0, object.1);
    namespace
        .until(object, &what, |found| {
            let found = condition(found, kind)?;
            ensure!(found.status == status && found.message.contains(text), "{found:?}");
            Ok(())
        })
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_records_are_told_on_their_objects_and_hold_up_nothing() -> Result<()> {
    in_namespace("wrong-records", async |namespace| {
        served(namespace, 1).await?;
        let wrong = [
            (
                a("outside", "example-com", "www.example.org.", "192.0.2.9"),
                "ARecord",
                "outside",
                "outside of zone",
            ),
            (a("nowhere", "missing", "www", "192.0.2.9"), "ARecord", "nowhere", "missing does not exist"),
            (
                manifest("NSRecord", "sub", "zoneRef: example-com, name: sub, nameserver: ns.example.net."),
                "",
                "",
                "",
            ),
            (
                manifest("TXTRecord", "hidden", "zoneRef: example-com, name: below.sub, text: [hidden]"),
                "TXTRecord",
                "hidden",
                "below the delegation",
            ),
        ];
        let fine = a("fine", "example-com", "fine", "192.0.2.2");
        namespace.apply(&(wrong.iter().map(|one| one.0.as_str()).collect::<String>() + &fine)).await?;
        namespace.ready("ARecord", "fine").await?;
        namespace.answers("fine.example.com", Rtype::A, &["192.0.2.2"]).await?;
        for (_, kind, name, text) in wrong.iter().filter(|one| !one.1.is_empty()) {
            told(namespace, (kind, name), "Accepted", "False", text).await?;
        }
        namespace.contents_are_published().await?;
        namespace.serve(&a("outside", "example-com", "inside", "192.0.2.9")).await?;
        namespace.answers("inside.example.com", Rtype::A, &["192.0.2.9"]).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_may_not_enter_a_zone_of_another_namespace() -> Result<()> {
    in_namespace("tenant-one", async |one| {
        served(one, 1).await?;
        in_namespace("tenant-two", async |two| {
            two.apply(&a("intruder", "example-com", "steady", "192.0.2.66")).await?;
            told(two, ("ARecord", "intruder"), "Accepted", "False", "example-com does not exist").await
        })
        .await?;
        one.answers(STEADY, Rtype::A, &[STEADY_ADDRESS]).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn zone_files_that_are_missing_or_broken_are_told_and_keep_their_last_good_records() -> Result<()> {
    in_namespace("zone-files", async |namespace| {
        served(namespace, 1).await?;
        let files = json!({"spec": {"zoneFilesFrom": [{"configMap": {"name": "files", "key": "zone"}}]}});
        namespace.patch("DNSZone", "example-com", files).await?;
        let zone = ("DNSZone", "example-com");
        namespace
            .until(zone, "the missing file to be told", |found| {
                let all = json!(found.data.pointer("/status/conditions")).to_string();
                ensure!(all.contains("files"), "the conditions are {all}");
                Ok(())
            })
            .await?;
        namespace.answers(STEADY, Rtype::A, &[STEADY_ADDRESS]).await?;
        namespace.apply(&zone_file("files", "zone", "file A 192.0.2.3\nfile2 A 192.0.2.4")).await?;
        namespace.answers("file.example.com", Rtype::A, &["192.0.2.3"]).await?;
        namespace.ready("DNSZone", "example-com").await?;
        for broken in ["file A 192.0.2.333", "$INCLUDE /etc/passwd"] {
            namespace.apply(&zone_file("files", "zone", broken)).await?;
            namespace
                .until(zone, "the broken file to be told", |found| {
                    let all = json!(found.data.pointer("/status/conditions")).to_string();
                    ensure!(all.contains("files[zone]"), "the conditions are {all}");
                    Ok(())
                })
                .await?;
            let more = format!("192.0.2.{}", 10 + broken.len());
            namespace.apply(&a("more", "example-com", "more", &more)).await?;
            namespace.answers("more.example.com", Rtype::A, &[&more]).await?;
            namespace.answers("file.example.com", Rtype::A, &["192.0.2.3"]).await?;
        }
        namespace.apply(&zone_file("files", "zone", "file A 192.0.2.5")).await?;
        namespace.answers("file.example.com", Rtype::A, &["192.0.2.5"]).await?;
        namespace.answers("file2.example.com", Rtype::A, &["NXDOMAIN"]).await?;
        namespace.contents_are_published().await.map(drop)
    })
    .await
}
