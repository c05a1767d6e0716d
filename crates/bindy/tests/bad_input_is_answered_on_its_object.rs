//! Every mistake is told on the object that has it, everything else is served, and correcting it heals at once.

mod common;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bindy_testing::dns::{self, Transport};
use bindy_testing::manifest::manifest;
use bindy_wire::Rcode;
use bindy_zone::{Name, Rtype};
use common::{Up, a, condition, instance, texts, zone};

/// A zone with one good record, next to which the mistakes are made.
async fn served(test: &str) -> Result<Up> {
    let mut up = Up::new(test)?;
    up.write("instance.yaml", &instance("primary", "primary", 1, &[]))?;
    up.write("zone.yaml", &(zone("z", "example.com") + &a("good", "z", "good", "192.0.2.1")))?;
    up.start()?;
    up.settled().await?;
    up.answers("good.example.com", Rtype::A, &["192.0.2.1"]).await?;
    Ok(up)
}

/// Waits until a problem of `object` contains `text`.
async fn problem(up: &mut Up, object: &str, text: &str) -> Result<()> {
    up.until(&format!("{object} to be told {text:?}"), |status| {
        let found: Vec<String> = status.problems.iter().map(ToString::to_string).collect();
        let told = status.problems.iter().any(|problem| {
            problem.object.as_deref() == Some(object)
                && problem.message.contains(text)
                && problem.file.is_some()
        });
        ensure!(told, "the problems are {found:#?}");
        Ok(())
    })
    .await
}

async fn no_problems(up: &mut Up) -> Result<()> {
    up.until("all problems to be solved", |status| {
        ensure!(status.problems.is_empty(), "there still are {:#?}", status.problems);
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_records_are_left_out_and_named() -> Result<()> {
    let mut up = served("wrong-records").await?;
    let wrong = [
        a("address", "z", "address", "192.0.2.256"),
        a("outside", "z", "www.example.org.", "192.0.2.9"),
        a("ambiguous", "z", "www.example.com", "192.0.2.9"),
        manifest("CNAMERecord", "beside", "zoneRef: z, name: good, target: other.example.net."),
        manifest("CNAMERecord", "apex", "zoneRef: z, name: \"@\", target: other.example.net."),
        a("nowhere", "missing", "www", "192.0.2.9"),
        manifest("TXTRecord", "delegated", "zoneRef: z, name: sub, text: [hidden]"),
        manifest("NSRecord", "sub", "zoneRef: z, name: sub, nameserver: ns.example.net."),
        manifest("TXTRecord", "hidden", "zoneRef: z, name: below.sub, text: [hidden]"),
        manifest("NSRecord", "wildcard", "zoneRef: z, name: \"*.sub\", nameserver: ns.example.net."),
        a("fine", "z", "fine", "192.0.2.2"),
    ];
    up.write("wrong.yaml", &wrong.concat())?;
    up.answers("fine.example.com", Rtype::A, &["192.0.2.2"]).await?;
    problem(&mut up, "ARecord default/address", "192.0.2.256").await?;
    problem(&mut up, "ARecord default/outside", "outside of zone example.com.").await?;
    problem(&mut up, "ARecord default/ambiguous", "without a final dot").await?;
    problem(&mut up, "CNAMERecord default/beside", "ARecord default/good").await?;
    problem(&mut up, "CNAMERecord default/apex", "apex").await?;
    problem(&mut up, "ARecord default/nowhere", "DNSZone missing does not exist").await?;
    problem(&mut up, "TXTRecord default/delegated", "at or below the delegation of sub.example.com.").await?;
    problem(&mut up, "TXTRecord default/hidden", "below the delegation of sub.example.com.").await?;
    problem(&mut up, "NSRecord default/wildcard", "cannot be at a wildcard").await?;
    up.answers("good.example.com", Rtype::A, &["192.0.2.1"]).await?;
    up.contents_are_equal().await?;
    // One mistake is corrected.
    up.write("wrong.yaml", &a("address", "z", "address", "192.0.2.25"))?;
    up.answers("address.example.com", Rtype::A, &["192.0.2.25"]).await?;
    no_problems(&mut up).await?;
    up.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zone_name_claimed_twice_belongs_to_the_older_object() -> Result<()> {
    let mut up = served("claimed-twice").await?;
    up.write("second.yaml", &(zone("second", "example.com") + &a("other", "second", "good", "192.0.2.66")))?;
    problem(&mut up, "DNSZone default/second", "belongs to DNSZone default/z").await?;
    up.answers("good.example.com", Rtype::A, &["192.0.2.1"]).await?;
    // The older one goes: the other takes over, and its records with it.
    up.write("zone.yaml", &a("good", "z", "good", "192.0.2.1"))?;
    up.answers("good.example.com", Rtype::A, &["192.0.2.66"]).await?;
    up.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_rrset_over_the_limit_keeps_its_older_records() -> Result<()> {
    let mut up = served("rrset-limit").await?;
    let text = |object: &str, count: usize| {
        let texts: Vec<String> = (0..count).map(|n| format!("\"{n}-{}\"", "x".repeat(200))).collect();
        let records = texts.iter().enumerate().map(|(n, text)| {
            manifest("TXTRecord", &format!("{object}-{n}"), &format!("zoneRef: z, name: big, text: [{text}]"))
        });
        records.collect::<String>()
    };
    up.write("big.yaml", &text("many", 300))?;
    up.until("some of them to be refused and the others served", |status| {
        let refused = status.problems.iter().filter(|problem| problem.reason == "TooManyRecords").count();
        ensure!((50..250).contains(&refused), "{refused} are refused");
        ensure!(condition(&status.zones[0], "Ready")?.0 == "True", "not ready");
        Ok(())
    })
    .await?;
    up.answers("good.example.com", Rtype::A, &["192.0.2.1"]).await?;
    up.contents_are_equal().await?;
    up.stop().await
}

fn zone_file(text: &str) -> String {
    let lines: String = text.lines().map(|line| format!("    {line}\n")).collect();
    format!(
        "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: files, labels: {{bindy.firestoned.io/zone-file: \"true\"}}}}\ndata:\n  zone: |\n{lines}"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_or_emptied_zone_file_keeps_its_last_good_records_over_restarts() -> Result<()> {
    let mut up = served("broken-file").await?;
    let spec = "zoneName: example.com, zoneFilesFrom: [{configMap: {name: files, key: zone}}]";
    up.write("file.yaml", &zone_file("file A 192.0.2.3\nfile2 A 192.0.2.4"))?;
    up.write("zone.yaml", &(manifest("DNSZone", "z", spec) + &a("good", "z", "good", "192.0.2.1")))?;
    up.answers("file.example.com", Rtype::A, &["192.0.2.3"]).await?;
    for broken in ["file A 192.0.2.333", "file A (192.0.2.3", "$INCLUDE /etc/passwd", "; nothing"] {
        up.write("file.yaml", &zone_file(broken))?;
        problem(&mut up, "DNSZone default/z", "files[zone]").await?;
        up.write("more.yaml", &a("more", "z", "more", &format!("192.0.2.{}", 10 + broken.len())))?;
        up.answers("more.example.com", Rtype::A, &[&format!("192.0.2.{}", 10 + broken.len())]).await?;
        up.answers("file.example.com", Rtype::A, &["192.0.2.3"]).await?;
    }
    // A restart does not know the last good file; the servers do.
    up.contents_are_equal().await?;
    let before = up.settled().await?;
    up.kill().await?;
    up.start()?;
    problem(&mut up, "DNSZone default/z", "files[zone]").await?;
    up.answers("file.example.com", Rtype::A, &["192.0.2.3"]).await?;
    up.answers("file2.example.com", Rtype::A, &["192.0.2.4"]).await?;
    up.contents_are_equal().await?;
    let after = up.settled().await?;
    ensure!(
        before.zones[0].serial == after.zones[0].serial,
        "the restart changed {:?} to {:?}",
        before.zones,
        after.zones
    );
    // The file is corrected, and one of its records is meant to be gone.
    up.write("file.yaml", &zone_file("file A 192.0.2.5"))?;
    up.answers("file.example.com", Rtype::A, &["192.0.2.5"]).await?;
    up.answers("file2.example.com", Rtype::A, &["NXDOMAIN"]).await?;
    no_problems(&mut up).await?;
    up.contents_are_equal().await?;
    up.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_zone_is_not_served_before_its_zone_file_can_be_read_and_denies_no_name_of_it() -> Result<()> {
    let mut up = served("new-zone-without-file").await?;
    let servers = up.settled().await?.servers;
    let spec = "zoneName: example.org, zoneFilesFrom: [{configMap: {name: files, key: zone}}]";
    up.write("org.yaml", &(manifest("DNSZone", "org", spec) + &a("www", "org", "www", "192.0.2.2")))?;
    problem(&mut up, "DNSZone default/org", "files[zone] does not exist").await?;
    up.write("more.yaml", &a("more", "z", "more", "192.0.2.3"))?;
    up.answers("more.example.com", Rtype::A, &["192.0.2.3"]).await?;
    let name = Name::parse("file.example.org")?;
    for server in servers {
        let answer = dns::ask(server.dns, Transport::Udp, &name, Rtype::A).await?;
        ensure!(answer.rcode == Rcode::REFUSED, "{answer:?}");
    }
    up.write("file.yaml", &zone_file("file A 192.0.2.4"))?;
    up.answers("file.example.org", Rtype::A, &["192.0.2.4"]).await?;
    up.answers("www.example.org", Rtype::A, &["192.0.2.2"]).await?;
    no_problems(&mut up).await?;
    up.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_that_is_no_yaml_keeps_what_was_served() -> Result<()> {
    let mut up = served("no-yaml").await?;
    up.write("zone.yaml", "kind: [\n")?;
    up.until("the file to be told", |status| {
        let told = status.problems.iter().any(|problem| problem.message.contains("no YAML"));
        ensure!(told, "the problems are {:#?}", status.problems);
        Ok(())
    })
    .await?;
    up.write("other.yaml", &a("other", "z", "other", "192.0.2.2"))?;
    up.answers("other.example.com", Rtype::A, &["192.0.2.2"]).await?;
    up.answers("good.example.com", Rtype::A, &["192.0.2.1"]).await?;
    // An engine that never saw the file whole does not take what it held for absent.
    let before = up.settled().await?;
    for file in ["zone.yaml", "instance.yaml"] {
        up.write(file, "kind: [\n")?;
        up.kill().await?;
        up.start()?;
        up.until("everything to be listed", |status| {
            ensure!(status.listed && !status.problems.is_empty(), "not yet");
            Ok(())
        })
        .await?;
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(1) {
            for server in &before.servers {
                for (name, address) in [("good.example.com", "192.0.2.1"), ("other.example.com", "192.0.2.2")]
                {
                    let found = texts(server.dns, Transport::Udp, &Name::parse(name)?, Rtype::A).await?;
                    ensure!(found == [address], "{name} is {found:?} while {file} cannot be read");
                }
            }
        }
    }
    up.write("instance.yaml", &instance("primary", "primary", 1, &[]))?;
    up.write("zone.yaml", &(zone("z", "example.com") + &a("good", "z", "good", "192.0.2.3")))?;
    up.answers("good.example.com", Rtype::A, &["192.0.2.3"]).await?;
    no_problems(&mut up).await?;
    up.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_of_the_zones_vanishing_by_mistake_is_held_until_a_person_releases_it() -> Result<()> {
    let mut up = Up::new("half-vanishes")?;
    up.write("instance.yaml", &instance("primary", "primary", 2, &[]))?;
    let zones = |range: std::ops::Range<u32>| -> String {
        range
            .map(|n| {
                zone(&format!("z{n}"), &format!("z{n}.example"))
                    + &a(&format!("a{n}"), &format!("z{n}"), "www", "192.0.2.1")
            })
            .collect()
    };
    up.write("first.yaml", &zones(0..20))?;
    up.write("second.yaml", &zones(20..40))?;
    up.start()?;
    up.settled().await?;
    up.remove("second.yaml")?;
    let held = |status: &bindy_local::status::Status| -> Result<String> {
        let instance = status.instances.first().context("an instance")?;
        let held =
            instance.conditions.iter().find(|condition| condition.kind == "Held").context("a condition")?;
        ensure!(held.status == "True", "nothing is held");
        let version = held.message.split_once("release=").context("how to release it")?.1;
        Ok(version.chars().take_while(char::is_ascii_hexdigit).collect())
    };
    up.until("the removal to be held", held).await?;
    up.answers("www.z30.example", Rtype::A, &["192.0.2.1"]).await?;
    // Also when the engine, and a server with everything it had, start anew.
    up.kill().await?;
    up.start()?;
    let version = up.until("the removal to be held after a restart", held).await?;
    up.answers("www.z30.example", Rtype::A, &["192.0.2.1"]).await?;
    up.answers("www.z3.example", Rtype::A, &["192.0.2.1"]).await?;
    // Other changes go on.
    up.write("more.yaml", &a("more", "z3", "more", "192.0.2.7"))?;
    up.answers("more.z3.example", Rtype::A, &["192.0.2.7"]).await?;
    let released = instance("primary", "primary", 2, &[]).replace(
        "{name: primary}",
        &format!("{{name: primary, annotations: {{bindy.firestoned.io/release: \"{version}\"}}}}"),
    );
    up.write("instance.yaml", &released)?;
    up.answers("www.z30.example", Rtype::A, &["REFUSED"]).await?;
    up.answers("www.z3.example", Rtype::A, &["192.0.2.1"]).await?;
    up.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_setting_of_an_instance_leaves_its_servers_as_they_were() -> Result<()> {
    let mut up = Up::new("wrong-setting")?;
    let one = |config: &str| manifest("Bind9Instance", "one", &format!("replicas: 1, config: {{{config}}}"));
    up.write("one.yaml", &one(""))?;
    up.write("zone.yaml", &(zone("z", "example.com") + &a("www", "z", "www", "192.0.2.1")))?;
    up.start()?;
    up.settled().await?;
    let before = up.pids()?;
    up.write("one.yaml", &one("allowQuery: [10.0.0.1/8]"))?;
    problem(&mut up, "Bind9Instance default/one", "spec.config.allowQuery: \"10.0.0.1/8\"").await?;
    up.write("zone.yaml", &(zone("z", "example.com") + &a("www", "z", "www", "192.0.2.2")))?;
    up.answers("www.example.com", Rtype::A, &["192.0.2.2"]).await?;
    ensure!(up.pids()? == before, "processes: {:?}, were {before:?}", up.pids()?);
    up.write("one.yaml", &one(""))?;
    no_problems(&mut up).await?;
    up.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_of_instances_that_vanish_together_by_mistake_stay() -> Result<()> {
    let mut up = Up::new("instances-vanish")?;
    up.write("kept.yaml", &instance("kept", "primary", 1, &[]))?;
    let two = [instance("first", "primary", 1, &[]), instance("second", "primary", 1, &[])].concat();
    up.write("two.yaml", &two)?;
    up.write("zone.yaml", &(zone("z", "example.com") + &a("www", "z", "www", "192.0.2.1")))?;
    up.start()?;
    up.settled().await?;
    let before = up.pids()?;
    up.remove("two.yaml")?;
    problem(&mut up, "Bind9Instance default/first", "2 of 3 instances").await?;
    problem(&mut up, "Bind9Instance default/second", "start bindy up again").await?;
    up.write("zone.yaml", &(zone("z", "example.com") + &a("www", "z", "www", "192.0.2.2")))?;
    up.answers("www.example.com", Rtype::A, &["192.0.2.2"]).await?;
    ensure!(up.pids()? == before, "processes: {:?}, were {before:?}", up.pids()?);
    up.write("two.yaml", &two)?;
    no_problems(&mut up).await?;
    up.settled().await?;
    ensure!(up.pids()? == before, "processes: {:?}, were {before:?}", up.pids()?);
    // One file with one of three instances is meant.
    up.remove("kept.yaml")?;
    up.until("its server to be gone", |status| {
        ensure!(status.servers.len() == 2, "{} servers", status.servers.len());
        Ok(())
    })
    .await?;
    up.stop().await
}
