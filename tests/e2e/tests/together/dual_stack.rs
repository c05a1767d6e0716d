//! IPv4 and IPv6 where the cluster has both, without a word about it in the manifests: pods, the Service for clients and the
//! one for transfers are reached in each family, and zones name their servers with the addresses of both. The policy of a
//! living Service takes one of them away and gives it back. On a cluster with one family the same is shown of that one.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};
use bindy_e2e::{STEADY, STEADY_ADDRESS, ZONE, addresses_in, addresses_told, served};
use bindy_testing::cluster::{LIMIT, Namespace, Server, condition, in_namespace, within};
use bindy_testing::dns::{self, Transport};
use bindy_testing::{http, wait_for};
use bindy_zone::{Name, Rtype};
use serde_json::json;

const SERVERS: u32 = 2;

/// Waits until the Service has an address in the first so many families of the cluster, and until that is what the status of
/// the instance says and what the zone tells of its name server. Returns the addresses.
async fn told(namespace: &Namespace, families: usize) -> Result<Vec<IpAddr>> {
    let what = format!("the Service to have {families} addresses");
    let addresses: Vec<IpAddr> = namespace
        .until(("Service", "primary"), &what, |service| {
            let found = addresses_in(service.data.pointer("/spec/clusterIPs"));
            ensure!(found.len() == families, "it has {found:?}");
            Ok(found)
        })
        .await?;
    let in_order = addresses.iter().map(IpAddr::is_ipv6).eq([false, true].into_iter().take(families));
    ensure!(in_order, "the families of {addresses:?}");
    addresses_told(namespace, &addresses).await?;
    Ok(addresses)
}

/// Every server has an address in so many families, and answers questions, transfers and HTTP at each of them.
async fn pods_answer(namespace: &Namespace, servers: &[Server], families: usize) -> Result<()> {
    let (zone, key) = (Name::parse(ZONE.1)?, namespace.key("primary").await?);
    for server in servers {
        let found = &server.addresses;
        ensure!(found.len() == families, "{} has {found:?}", server.name);
        for address in found {
            dns::answers_at(SocketAddr::new(*address, 53), STEADY, Rtype::A, &[STEADY_ADDRESS], LIMIT)
                .await?;
            let transfer = dns::transfer(SocketAddr::new(*address, 5353), &zone, Some(&key)).await;
            transfer.with_context(|| format!("a transfer from {} at {address}", server.name))?;
            let ready = http::get(SocketAddr::new(*address, 8080), "/readyz").await;
            ready.with_context(|| format!("HTTP of {} at {address}", server.name))?;
        }
    }
    Ok(())
}

/// Every server answers at each of these addresses of the Service, from every node, by UDP and TCP; and the Service for
/// transfers gives the zone at each of its own.
async fn services_answer(namespace: &Namespace, clients: &[IpAddr], servers: &[Server]) -> Result<()> {
    let names: BTreeSet<String> = servers.iter().map(|server| server.name.clone()).collect();
    let transfer = namespace.service_addresses("primary-transfer").await?;
    let families = if namespace.cluster().description().dual_stack { 2 } else { 1 };
    ensure!(transfer.len() == families, "the Service for transfers has {transfer:?}");
    let (zone, key) = (Name::parse(ZONE.1)?, namespace.key("primary").await?);
    for node in &namespace.cluster().description().nodes {
        let (names, zone, key) = (names.clone(), zone.clone(), key.clone());
        let (clients, transfer) = (clients.to_vec(), transfer.clone());
        let asked = within(&node.netns, move || async move {
            for address in clients {
                let service = SocketAddr::new(address, 53);
                dns::answers_at(service, STEADY, Rtype::A, &[STEADY_ADDRESS], LIMIT).await?;
                for transport in [Transport::Udp, Transport::Tcp] {
                    all_behind(service, transport, &names).await?;
                }
            }
            for address in transfer {
                let transfer = dns::transfer(SocketAddr::new(address, 5353), &zone, Some(&key)).await;
                transfer.with_context(|| format!("a transfer from {address}"))?;
            }
            Ok(())
        });
        asked.await.with_context(|| format!("from {}", node.name))?;
    }
    Ok(())
}

/// Waits until each of these servers has answered at the address of the Service, and nobody else.
async fn all_behind(service: SocketAddr, transport: Transport, names: &BTreeSet<String>) -> Result<()> {
    let mut seen = BTreeSet::new();
    wait_for(&format!("{names:?} to answer at {service} by {transport:?}"), LIMIT, async || {
        seen.insert(dns::server_name(service, transport).await?);
        ensure!(seen == *names, "there were {seen:?}");
        anyhow::Ok(())
    })
    .await
}

/// Waits until nobody answers at an address that a Service had, asked from every node.
async fn nobody_answers(namespace: &Namespace, address: IpAddr) -> Result<()> {
    for node in &namespace.cluster().description().nodes {
        let asked = within(&node.netns, move || async move {
            wait_for(&format!("nobody to answer at {address}"), LIMIT, async || {
                let answer = dns::server_name(SocketAddr::new(address, 53), Transport::Udp).await;
                ensure!(answer.is_err(), "{answer:?} does");
                anyhow::Ok(())
            })
            .await
        });
        asked.await.with_context(|| format!("from {}", node.name))?;
    }
    Ok(())
}

async fn set_policy(namespace: &Namespace, policy: Option<&str>) -> Result<()> {
    let service = json!({"ipFamilyPolicy": policy});
    namespace.patch("Bind9Instance", "primary", json!({"spec": {"service": service}})).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_are_reached_and_told_in_every_family_that_cluster_and_policy_have() -> Result<()> {
    in_namespace("dual-stack", async |namespace| {
        let families = if namespace.cluster().description().dual_stack { 2 } else { 1 };
        let servers = served(namespace, SERVERS).await?;
        let both = told(namespace, families).await?;
        pods_answer(namespace, &servers, families).await?;
        services_answer(namespace, &both, &servers).await?;

        set_policy(namespace, Some("SingleStack")).await?;
        let single = told(namespace, 1).await?;
        ensure!(single.first() == both.first(), "{single:?} is another address than {both:?}");
        services_answer(namespace, &single, &servers).await?;
        for gone in both.iter().skip(1) {
            nobody_answers(namespace, *gone).await?;
        }

        set_policy(namespace, None).await?;
        let again = told(namespace, families).await?;
        ensure!(again.first() == both.first(), "{again:?} begins with another address than {both:?}");
        services_answer(namespace, &again, &servers).await?;

        set_policy(namespace, Some("RequireDualStack")).await?;
        if families == 2 {
            ensure!(told(namespace, 2).await? == again, "the addresses have changed");
        } else {
            let refused = "the API server's refusal to be told";
            namespace
                .until(("Bind9Instance", "primary"), refused, |instance| {
                    let message = condition(instance, "Ready")?.message;
                    ensure!(message.contains("RequireDualStack"), "{message}");
                    Ok(())
                })
                .await?;
            set_policy(namespace, None).await?;
        }
        namespace.ready("Bind9Instance", "primary").await?;
        let names = |servers: &[Server]| servers.iter().map(|one| one.name.clone()).collect::<BTreeSet<_>>();
        ensure!(names(&namespace.servers().await?) == names(&servers), "servers were replaced");
        namespace.contents_are_published().await.map(drop)
    })
    .await
}
