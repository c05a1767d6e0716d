//! The Service of a living instance follows `spec.service`: a load balancer, fixed addresses, ports, a fixed address within the
//! cluster, and back. Zones name their servers by the addresses at which clients ask. What the API server refuses is told, and
//! servers answer on.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};
use bindy_e2e::{Clients, STEADY, STEADY_ADDRESS, addresses_told, served, served_by};
use bindy_testing::cluster::{LIMIT, Namespace, condition, in_namespace, within};
use bindy_testing::dns;
use bindy_testing::manifest::manifest;
use bindy_zone::Rtype;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

const RATE: u32 = 200;
/// Asked for by instances.
const ASKED: &str = "198.51.100.53";
/// Given by the load balancer.
const GIVEN: &str = "198.51.100.54";

fn address(text: &str) -> Result<IpAddr> {
    Ok(text.parse()?)
}

/// Asks for another Service of the instance `name`, in place of whatever was asked for before.
async fn ask_for(namespace: &Namespace, name: &str, service: Value) -> Result<()> {
    let add = json!([{"op": "add", "path": "/spec/service", "value": service}]);
    let patch = Patch::<()>::Json(serde_json::from_value(add)?);
    let patched = namespace.api("Bind9Instance").patch(name, &PatchParams::default(), &patch).await;
    patched.with_context(|| format!("the Service of {name}")).map(drop)
}

/// Waits until the Service has these values; `null` is a field that it has not got.
async fn service_has(namespace: &Namespace, fields: &[(&str, Value)]) -> Result<()> {
    namespace
        .until(("Service", "primary"), "the Service to be what was asked for", |service| {
            let object = serde_json::to_value(service)?;
            for (field, wanted) in fields {
                let found = object.pointer(field).unwrap_or(&Value::Null);
                ensure!(found == wanted, "{field} is {found}, not {wanted}");
            }
            Ok(())
        })
        .await
}

/// Says what the load balancer has given, as its controller does.
async fn balancer_gives(namespace: &Namespace, ingress: Value) -> Result<()> {
    let status = json!({"status": {"loadBalancer": {"ingress": ingress}}});
    let patch = Patch::Merge(&status);
    let patched = namespace.api("Service").patch_status("primary", &PatchParams::default(), &patch).await;
    patched.context("the status of the Service").map(drop)
}

/// Clients on a node are answered at these addresses and ports, by UDP and TCP.
async fn answers_at(namespace: &Namespace, places: &[(&str, u16)]) -> Result<()> {
    let node = namespace.cluster().description().nodes.first().context("no nodes")?;
    for (text, port) in places {
        let place = SocketAddr::new(address(text)?, *port);
        within(&node.netns, move || async move {
            dns::answers_at(place, STEADY, Rtype::A, &[STEADY_ADDRESS], LIMIT).await
        })
        .await?;
    }
    Ok(())
}

/// An address for Services that was free a moment ago.
async fn free_address(namespace: &Namespace, name: &str) -> Result<IpAddr> {
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"ports": [{"port": 53}]}});
    namespace.apply_object(&service).await?;
    let address = namespace.service_address(name).await?;
    namespace.remove("Service", name).await?;
    Ok(address)
}

/// Waits until the instance says that the API server refuses its Service with these words.
async fn refused(namespace: &Namespace, name: &str, words: &[&str]) -> Result<()> {
    namespace
        .until(("Bind9Instance", name), &format!("the refusal {words:?} to be told"), |object| {
            let ready = condition(object, "Ready")?;
            let told = words.iter().all(|word| ready.message.contains(word));
            ensure!(ready.status == "False" && ready.reason == "WorkloadRefused" && told, "{ready:?}");
            Ok(())
        })
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_and_the_zones_name_servers_follow_the_instance() -> Result<()> {
    in_namespace("service-fields", async |namespace| {
        let before = served(namespace, 2).await?;
        let within_cluster = namespace.service_addresses("primary").await?;
        let first = json!(within_cluster.first().context("no address")?);
        namespace.answers_by_service("primary", STEADY, Rtype::A, &[STEADY_ADDRESS]).await?;
        let clients = Clients::start(namespace, "primary", RATE).await?;

        let balanced = json!({"type": "LoadBalancer", "loadBalancerClass": "example.com/none",
            "annotations": {"example.com/pool": "dns"}, "addresses": [ASKED],
            "externalTrafficPolicy": "Local", "ports": [53, 5300]});
        ask_for(namespace, "primary", balanced).await?;
        service_has(
            namespace,
            &[
                ("/spec/type", json!("LoadBalancer")),
                ("/spec/loadBalancerClass", json!("example.com/none")),
                ("/spec/loadBalancerIP", json!(ASKED)),
                ("/spec/externalTrafficPolicy", json!("Local")),
                ("/metadata/annotations/example.com~1pool", json!("dns")),
                ("/spec/ports/2/port", json!(5300)),
                ("/spec/clusterIP", first.clone()),
            ],
        )
        .await?;
        // Nothing is given yet, so clients go where they went before.
        namespace.ready("Bind9Instance", "primary").await?;
        addresses_told(namespace, &within_cluster).await?;
        balancer_gives(namespace, json!([{"ip": GIVEN}])).await?;
        addresses_told(namespace, &[address(GIVEN)?]).await?;
        answers_at(namespace, &[(GIVEN, 53), (GIVEN, 5300)]).await?;
        balancer_gives(namespace, json!([{"hostname": "dns.example.net"}])).await?;
        addresses_told(namespace, &[]).await?;

        ask_for(namespace, "primary", json!({"addresses": [ASKED, GIVEN]})).await?;
        service_has(
            namespace,
            &[
                ("/spec/type", json!("ClusterIP")),
                ("/spec/externalIPs", json!([ASKED, GIVEN])),
                ("/spec/loadBalancerClass", Value::Null),
                ("/spec/loadBalancerIP", Value::Null),
                ("/metadata/annotations/example.com~1pool", Value::Null),
                ("/spec/ports/2", Value::Null),
            ],
        )
        .await?;
        addresses_told(namespace, &[address(ASKED)?, address(GIVEN)?]).await?;
        answers_at(namespace, &[(ASKED, 53), (GIVEN, 53)]).await?;

        ask_for(namespace, "primary", Value::Null).await?;
        service_has(namespace, &[("/spec/externalIPs", Value::Null), ("/spec/clusterIP", first)]).await?;
        addresses_told(namespace, &within_cluster).await?;
        namespace.ready("Bind9Instance", "primary").await?;
        let now = namespace.until_ready("primary", 2, &[]).await?;
        let same = now.iter().all(|one| before.iter().any(|before| before.uid == one.uid));
        ensure!(same, "another Service has replaced servers");
        clients.missed_nothing(0).await?;
        namespace.contents_are_published().await.map(drop)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_is_refused_is_told_and_the_servers_answer_on() -> Result<()> {
    in_namespace("service-refused", async |namespace| {
        let (fixed, next) = (free_address(namespace, "one").await?, free_address(namespace, "two").await?);
        // In one family, so that nothing but the address is in question.
        let at = |address: IpAddr| json!({"clusterIP": address, "ipFamilyPolicy": "SingleStack"});
        let spec = format!("role: primary, replicas: 1, service: {}", at(fixed));
        served_by(namespace, &manifest("Bind9Instance", "primary", &spec), 1).await?;
        let addresses = namespace.service_addresses("primary").await?;
        ensure!(addresses.first() == Some(&fixed), "it has {addresses:?}, not {fixed}");
        addresses_told(namespace, &addresses).await?;
        namespace.answers_by_service("primary", STEADY, Rtype::A, &[STEADY_ADDRESS]).await?;
        let clients = Clients::start(namespace, "primary", RATE).await?;

        ask_for(namespace, "primary", at(next)).await?;
        refused(namespace, "primary", &["Service primary", &next.to_string()]).await?;
        ask_for(namespace, "primary", at(fixed)).await?;
        namespace.ready("Bind9Instance", "primary").await?;

        let balanced = |class: &str| json!({"type": "LoadBalancer", "loadBalancerClass": class});
        ask_for(namespace, "primary", balanced("example.com/one")).await?;
        service_has(namespace, &[("/spec/loadBalancerClass", json!("example.com/one"))]).await?;
        ask_for(namespace, "primary", balanced("example.com/other")).await?;
        refused(namespace, "primary", &["loadBalancerClass", "may not change once set"]).await?;
        ask_for(namespace, "primary", Value::Null).await?;
        service_has(namespace, &[("/spec/type", json!("ClusterIP")), ("/spec/clusterIP", json!(fixed))])
            .await?;
        namespace.ready("Bind9Instance", "primary").await?;

        // An instance that asks for an address of another one has no Service, and is served as soon as it asks for its own.
        namespace.apply(&manifest("Bind9Instance", "second", &spec)).await?;
        refused(namespace, "second", &["Service second", "already allocated"]).await?;
        ask_for(namespace, "second", Value::Null).await?;
        namespace.ready("Bind9Instance", "second").await?;
        clients.missed_nothing(0).await?;

        // The way to another address, which takes the one before away.
        ask_for(namespace, "primary", at(next)).await?;
        refused(namespace, "primary", &["Service primary", &next.to_string()]).await?;
        namespace.remove("Service", "primary").await?;
        service_has(namespace, &[("/spec/clusterIP", json!(next))]).await?;
        namespace.ready("Bind9Instance", "primary").await?;
        namespace.answers_by_service("primary", STEADY, Rtype::A, &[STEADY_ADDRESS]).await?;
        namespace.contents_are_published().await.map(drop)
    })
    .await
}
