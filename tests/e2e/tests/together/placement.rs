//! Where servers run is what the instance says, also when it says something else later: labels of nodes, taints, a priority, the
//! region of its label; and its role is that of its label. Clients of the Service miss nothing meanwhile.

use anyhow::{Context, Result, ensure};
use bindy_e2e::{Clients, STEADY, STEADY_ADDRESS, STEADY_QUESTIONS, ZONE, add_versions, served, served_by};
use bindy_testing::cluster::{Namespace, condition, in_namespace};
use bindy_testing::manifest::{a, instance};
use bindy_zone::Rtype;
use serde_json::{Value, json};

const REGION: &str = "topology.kubernetes.io/region";
const RATE: u32 = 200;

fn labelled(role: &str, region: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: bindy.firestoned.io/v1beta1\nkind: Bind9Instance\nmetadata:\n  name: primary\n  labels: \
         {{dns-role: {role}, region: {region}}}\nspec: {{{spec}}}\n"
    )
}

async fn set_label(namespace: &Namespace, label: &str, value: &str) -> Result<()> {
    let change = json!({"metadata": {"labels": {label: value}}});
    namespace.patch("Bind9Instance", "primary", change).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_run_on_nodes_with_the_labels_and_with_the_priority_and_tolerations_asked_for() -> Result<()>
{
    in_namespace("placement", async |namespace| {
        let before = served(namespace, 2).await?;
        let node = namespace.cluster().description().nodes.last().context("no nodes")?;
        let own = json!([
            {"key": "dedicated", "operator": "Equal", "value": "dns", "effect": "NoSchedule"},
            {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5},
        ]);
        let placement = json!({"nodeSelector": {REGION: node.region}, "tolerations": own,
            "priorityClassName": "system-cluster-critical", "spread": "preferred"});
        namespace.patch("Bind9Instance", "primary", json!({"spec": {"placement": placement}})).await?;
        for server in namespace.until_ready("primary", 2, &before.iter().collect::<Vec<_>>()).await? {
            ensure!(server.node == node.name, "{} runs on {}, not {}", server.name, server.node, node.name);
            let pod = namespace.get("Pod", &server.name).await?;
            let spec = |field: &str| pod.data.pointer(&format!("/spec/{field}")).cloned().unwrap_or_default();
            ensure!(spec("priority") == json!(2_000_000_000), "its priority is {}", spec("priority"));
            let tolerations = spec("tolerations");
            let there = tolerations.as_array().context("no tolerations")?;
            let wanted = own.as_array().into_iter().flatten();
            ensure!(wanted.clone().all(|one| there.contains(one)), "it tolerates {tolerations}");
            // What the instance says of lost nodes is not said a second time; what it leaves out is as ever.
            let of = |key: &str| there.iter().filter(|one| one["key"] == key).collect::<Vec<_>>();
            ensure!(of("node.kubernetes.io/unreachable").len() == 1, "it tolerates {tolerations}");
            let lost = of("node.kubernetes.io/not-ready");
            ensure!(lost.len() == 1 && lost.iter().all(|one| one["tolerationSeconds"] == 30), "{lost:?}");
        }
        namespace.ready("Bind9Instance", "primary").await.map(drop)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_node_and_no_priority_fits_is_told_while_servers_answer_on() -> Result<()> {
    in_namespace("placement-wrong", async |namespace| {
        let before = served(namespace, 2).await?;
        namespace.answers_by_service("primary", STEADY, Rtype::A, &[STEADY_ADDRESS]).await?;
        let clients = Clients::start(namespace, "primary", RATE).await?;
        for (wrong, told) in [
            (json!({"nodeSelector": {"disktype": "no-such-disk"}}), "no node takes it"),
            (json!({"priorityClassName": "no-such-class"}), "no-such-class"),
        ] {
            namespace.patch("Bind9Instance", "primary", json!({"spec": {"placement": wrong}})).await?;
            namespace
                .until(("Bind9Instance", "primary"), &format!("the status to tell {told:?}"), |object| {
                    let ready = condition(object, "Ready")?;
                    ensure!(ready.status == "False" && ready.message.contains(told), "{ready:?}");
                    Ok(())
                })
                .await?;
            let now = namespace.servers_of("primary").await?;
            let kept = before.iter().all(|one| now.iter().any(|now| now.uid == one.uid && now.ready));
            ensure!(kept, "servers were stopped: {now:?}");
            namespace.patch("Bind9Instance", "primary", json!({"spec": {"placement": null}})).await?;
            namespace.ready("Bind9Instance", "primary").await?;
        }
        clients.missed_nothing(0).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_move_to_another_region_with_the_label_and_nothing_is_missed() -> Result<()> {
    in_namespace("placement-region", async |namespace| {
        let nodes = &namespace.cluster().description().nodes;
        let [here, there, ..] = &nodes[..] else { anyhow::bail!("the cluster has too few nodes") };
        let spec = "replicas: 2, placement: {region: required}";
        let before = served_by(namespace, &labelled("primary", &here.region, spec), 2).await?;
        ensure!(before.iter().all(|one| one.node == here.name), "{before:?} are not in {}", here.region);
        let published = namespace.contents_are_published().await?;
        namespace.answers_by_service("primary", STEADY, Rtype::A, &[STEADY_ADDRESS]).await?;
        let probes = namespace.probe(&STEADY_QUESTIONS).await?;
        let clients = Clients::start(namespace, "primary", RATE).await?;
        probes.more_answers(&before, 20).await?;
        set_label(namespace, "region", &there.region).await?;
        let now = namespace.until_ready("primary", 2, &before.iter().collect::<Vec<_>>()).await?;
        ensure!(now.iter().all(|one| one.node == there.name), "{now:?} are not in {}", there.region);
        namespace.ready("Bind9Instance", "primary").await?;
        probes.more_answers(&now, 20).await?;
        clients.missed_nothing(2).await?;
        probes.right(&published).await.map(drop)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_changes_with_the_label_and_nothing_is_missed() -> Result<()> {
    in_namespace("placement-role", async |namespace| {
        let region = &namespace.cluster().description().nodes.first().context("no nodes")?.region.clone();
        let both = labelled("primary", region, "replicas: 2") + &instance("other", "primary", 1, &[]);
        let before = served_by(namespace, &both, 2).await?;
        let mut published = namespace.contents_are_published().await?;
        namespace.answers_by_service("primary", STEADY, Rtype::A, &[STEADY_ADDRESS]).await?;
        let probes = namespace.probe(&STEADY_QUESTIONS).await?;
        let clients = Clients::start(namespace, "primary", RATE).await?;
        probes.more_answers(&before, 20).await?;
        for (role, address) in [("secondary", "192.0.2.1"), ("primary", "192.0.2.2")] {
            set_label(namespace, "dns-role", role).await?;
            namespace
                .until(("Bind9Instance", "primary"), &format!("the role to be {role}"), |object| {
                    let found = object.data.pointer("/status/role").and_then(Value::as_str);
                    ensure!(found == Some(role), "it is {found:?}");
                    Ok(())
                })
                .await?;
            namespace.ready("Bind9Instance", "primary").await?;
            namespace.apply(&a("edited", ZONE.0, "edited", address)).await?;
            namespace.answers("edited.example.com", Rtype::A, &[address]).await?;
            add_versions(&mut published, namespace.contents_are_published().await?);
        }
        let now = namespace.until_ready("primary", 2, &[]).await?;
        let same = now.iter().all(|one| before.iter().any(|before| before.uid == one.uid));
        ensure!(same, "a change of the role has replaced servers");
        probes.more_answers(&now, 20).await?;
        clients.missed_nothing(0).await?;
        probes.right(&published).await.map(drop)
    })
    .await
}
