//! A secondary pulls from the primaries: it needs the operator neither for what there is nor for what changes.

use anyhow::{Result, ensure};
use bindy_e2e::{Clients, Operator, STEADY_QUESTIONS, ZONE, add_versions, served_by};
use bindy_testing::cluster::{Grace, PacketRules, in_namespace};
use bindy_testing::manifest::{a, instance};
use bindy_zone::Rtype;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secondaries_get_changes_from_primaries_without_reaching_the_operator() -> Result<()> {
    in_namespace("two-tiers", async |namespace| {
        let instances =
            instance("primary", "primary", 2, &[]) + &instance("secondary", "secondary", 2, &["primary"]);
        served_by(namespace, &instances, 2).await?;
        let mut published = namespace.contents_are_published().await?;
        let probes = namespace.probe(&STEADY_QUESTIONS).await?;
        let clients = Clients::beside(namespace, "secondary").await?;

        let cluster = namespace.cluster();
        let operator = Operator::of(cluster).addresses().await?;
        let rule = format!("ip daddr {{{operator}}} drop");
        let secondaries = namespace.servers_of("secondary").await?;
        let cut: Vec<PacketRules> = secondaries
            .iter()
            .map(|server| PacketRules::set(&server.network()?, &[], &[&rule]))
            .collect::<Result<_>>()?;
        namespace.apply(&a("later", ZONE.0, "later", "192.0.2.7")).await?;
        namespace.answers("later.example.com", Rtype::A, &["192.0.2.7"]).await?;
        drop(cut);
        namespace.ready("ARecord", "later").await?;
        add_versions(&mut published, namespace.contents_are_published().await?);

        // Without any primary the secondaries go on, and what comes back is what was there.
        let primaries = namespace.servers_of("primary").await?;
        for server in &primaries {
            namespace.delete_server(server, Grace::None).await?;
        }
        namespace.answers_by_service("secondary", "later.example.com", Rtype::A, &["192.0.2.7"]).await?;
        let gone: Vec<_> = primaries.iter().collect();
        let back = namespace.until_ready("primary", 2, &gone).await?;
        probes.more_answers(&back, 20).await?;
        probes.more_answers(&secondaries, 5).await?;
        ensure!(namespace.contents_are_published().await?.len() == 1, "another zone");
        clients.missed_nothing(0).await?;
        probes.right(&published).await.map(drop)
    })
    .await
}
