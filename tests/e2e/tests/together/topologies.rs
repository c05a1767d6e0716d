//! Patterns of the page: active and passive as a chain, several primaries with zones of their own. Roles, regions and
//! upstreams change on living instances without a gap in the answers.

use anyhow::{Context, Result, bail, ensure};
use bindy_e2e::{Clients, STEADY, STEADY_ADDRESS, STEADY_QUESTIONS, ZONE, add_versions, until_live};
use bindy_testing::cluster::{LIMIT, Namespace, Server, in_namespace};
use bindy_testing::manifest::{a, instance, manifest, zone};
use bindy_testing::wait_for;
use bindy_zone::Rtype;
use serde_json::json;

async fn all_servers(namespace: &Namespace, instances: &[&str]) -> Result<Vec<Server>> {
    let mut servers = Vec::new();
    for instance in instances {
        servers.extend(namespace.until_ready(instance, 1, &[]).await?);
    }
    Ok(servers)
}

/// An edit of the zone that every server answers at last.
async fn edit_arrives(namespace: &Namespace, address: &str) -> Result<()> {
    namespace.apply(&a("edited", ZONE.0, "edited", address)).await?;
    wait_for("the edit to arrive everywhere", LIMIT, async || {
        namespace.answers("edited.example.com", Rtype::A, &[address]).await
    })
    .await?;
    namespace.ready("ARecord", "edited").await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roles_and_upstreams_of_a_chain_change_without_a_gap() -> Result<()> {
    in_namespace("chain", async |namespace| {
        let chain = instance("first", "primary", 1, &[])
            + &instance("second", "secondary", 1, &["first"])
            + &instance("third", "secondary", 1, &["second"]);
        let steady = a("steady", ZONE.0, "steady", STEADY_ADDRESS);
        namespace.serve(&(chain + &zone(ZONE.0, ZONE.1) + &steady)).await?;
        namespace.answers(STEADY, Rtype::A, &[STEADY_ADDRESS]).await?;
        let servers = all_servers(namespace, &["first", "second", "third"]).await?;
        let mut published = namespace.contents_are_published().await?;
        let probes = namespace.probe(&[STEADY_QUESTIONS[0]]).await?;
        probes.more_answers(&servers, 20).await?;
        let clients = Clients::beside(namespace, "second").await?;
        let changes = [
            // The end of the chain pulls from the primary itself.
            ("third", json!({"spec": {"upstreams": [{"name": "first"}]}}), Some("second"), Some("first")),
            // The middle becomes a primary.
            ("second", json!({"spec": {"role": "primary", "upstreams": null}}), Some("first"), None),
            // And the end pulls from that one.
            ("third", json!({"spec": {"upstreams": [{"name": "second"}]}}), Some("first"), Some("second")),
            // What was the primary is a secondary of it.
            (
                "first",
                json!({"spec": {"role": "secondary", "upstreams": [{"name": "second"}]}}),
                None,
                Some("second"),
            ),
        ];
        for (step, (instance, change, before, after)) in changes.into_iter().enumerate() {
            namespace.patch("Bind9Instance", instance, change).await?;
            // The operator would bring the edit as well.
            let changed = all_servers(namespace, &[instance]).await?;
            for (upstream, live) in [(before, None), (after, Some(true))] {
                if let Some(upstream) = upstream {
                    let source = format!("upstream-{}-{upstream}", namespace.name());
                    until_live(&changed, &source, live).await.with_context(|| format!("step {step}"))?;
                }
            }
            edit_arrives(namespace, &format!("192.0.2.{}", step + 1))
                .await
                .with_context(|| format!("step {step}"))?;
            add_versions(&mut published, namespace.contents_are_published().await?);
        }
        let now = all_servers(namespace, &["first", "second", "third"]).await?;
        let names =
            |servers: &[Server]| -> Vec<String> { servers.iter().map(|one| one.name.clone()).collect() };
        ensure!(names(&now) == names(&servers), "pods were replaced");
        probes.more_answers(&servers, 20).await?;
        clients.missed_nothing(0).await?;
        probes.right(&published).await.map(drop)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn zones_of_several_primaries_are_served_from_the_other_too() -> Result<()> {
    in_namespace("multi-primary", async |namespace| {
        let at = |name: &str, site: &str, role: &str, upstreams: &str| {
            format!(
                "---\napiVersion: bindy.firestoned.io/v1beta1\nkind: Bind9Instance\nmetadata: {{name: {name}, labels: \
                 {{site: {site}, dns-role: {role}}}}}\nspec: {{replicas: 1{upstreams}}}\n"
            )
        };
        let bound = |object: &str, name: &str, instances: &str| {
            manifest("DNSZone", object, &format!("zoneName: {name}, bind9InstancesFrom: [{{selector: {{matchExpressions: \
                [{{key: site, operator: In, values: {instances}}}]}}}}]"))
        };
        // Each zone has a primary of its own, and the secondary has both for upstreams: so each has what the other has.
        let upstreams = ", upstreams: [{name: primary1}, {name: primary2}]";
        let objects = at("primary1", "us", "primary", "") + &at("primary2", "eu", "primary", "")
            + &at("both", "edge", "secondary", upstreams)
            + &bound("zone-a", "a.example", "[us, edge]") + &bound("zone-b", "b.example", "[eu, edge]")
            + &a("www-a", "zone-a", "www", "192.0.2.10") + &a("www-b", "zone-b", "www", "192.0.2.20");
        namespace.serve(&objects).await?;
        let servers = all_servers(namespace, &["primary1", "primary2", "both"]).await?;
        let [_, others @ ..] = &servers[..] else { bail!("three servers are wanted") };
        namespace.answers("www.a.example", Rtype::A, &["192.0.2.10"]).await?;
        namespace.answers("www.b.example", Rtype::A, &["192.0.2.20"]).await?;
        let mut published = namespace.contents_are_published().await?;
        let probes = namespace.probe(&[("www.a.example", Rtype::A), ("www.b.example", Rtype::A)]).await?;
        probes.more_answers(&servers, 20).await?;
        namespace.apply(&a("www-b", "zone-b", "www", "192.0.2.21")).await?;
        namespace.answers("www.b.example", Rtype::A, &["192.0.2.21"]).await?;
        add_versions(&mut published, namespace.contents_are_published().await?);

        // Without its primary a zone is edited by the other one.
        namespace.patch("Bind9Instance", "primary1", json!({"spec": {"replicas": 0}})).await?;
        namespace.until_ready("primary1", 0, &[]).await?;
        namespace.apply(&a("www-a", "zone-a", "www", "192.0.2.11")).await?;
        for other in others {
            other.answers("www.a.example", Rtype::A, &["192.0.2.11"]).await?;
        }
        namespace.patch("Bind9Instance", "primary1", json!({"spec": {"replicas": 1}})).await?;
        let back = namespace.until_ready("primary1", 1, &[]).await?;
        namespace.answers("www.a.example", Rtype::A, &["192.0.2.11"]).await?;
        probes.more_answers(&back, 20).await?;
        add_versions(&mut published, namespace.contents_are_published().await?);
        probes.right(&published).await?;

        // A zone without them stays with its primary.
        let only = bound("only-us", "us.example", "[us]") + &a("www-us", "only-us", "www", "192.0.2.30");
        namespace.serve(&only).await?;
        for server in &back {
            server.answers("www.us.example", Rtype::A, &["192.0.2.30"]).await?;
        }
        for other in others {
            other.answers("www.us.example", Rtype::A, &["REFUSED"]).await?;
        }
        Ok(())
    })
    .await
}
