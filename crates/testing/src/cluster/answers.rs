//! What the servers of a namespace answer, each of them, and by their Service; and whether that is all that is published.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};
use bindy_zone::{Name, Rtype, Version};
use domain::utils::base64;
use k8s_openapi::api::core::v1::{Secret, Service};
use kube::ResourceExt;
use kube::api::{Api, DynamicObject};
use serde_json::Value;

use super::{LIMIT, Namespace, Server, within};
use crate::checker::Published;
use crate::dns::{self, Transport};
use crate::{Key, wait_for};

impl Namespace {
    /// Waits until every server that is not going answers this with exactly these texts, by UDP and TCP.
    pub async fn answers(&self, name: &str, rtype: Rtype, expected: &[&str]) -> Result<()> {
        let servers = self.servers().await?;
        let asked: Vec<&Server> = servers.iter().filter(|server| !server.going).collect();
        ensure!(!asked.is_empty(), "there are no servers to ask");
        for server in asked {
            server.answers(name, rtype, expected).await?;
        }
        Ok(())
    }

    /// Waits until the Service of an instance answers this with exactly these texts, by UDP and TCP, from every node.
    pub async fn answers_by_service(
        &self,
        instance: &str,
        name: &str,
        rtype: Rtype,
        expected: &[&str],
    ) -> Result<()> {
        let address = SocketAddr::new(self.service_address(instance).await?, 53);
        for node in &self.cluster().description().nodes {
            let name = name.to_owned();
            let expected: Vec<String> = expected.iter().map(|text| (*text).to_owned()).collect();
            let asked = within(&node.netns, move || async move {
                let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
                dns::answers_at(address, &name, rtype, &expected, LIMIT).await
            });
            asked.await.with_context(|| format!("Service {instance} from {}", node.name))?;
        }
        Ok(())
    }

    /// The ClusterIP of a Service.
    pub async fn service_address(&self, name: &str) -> Result<IpAddr> {
        self.service_addresses(name).await?.first().copied().context("a Service without ClusterIP")
    }

    /// The ClusterIPs of a Service, one of each of its families.
    pub async fn service_addresses(&self, name: &str) -> Result<Vec<IpAddr>> {
        let api: Api<Service> = Api::namespaced(self.cluster().client(), self.name());
        let spec = api.get(name).await?.spec.context("a Service without spec")?;
        spec.cluster_ips.iter().flatten().map(|address| Ok(address.parse()?)).collect()
    }

    /// Every server has exactly the published version of every zone: its digest over a transfer of everything, and every
    /// RRset of it asked for by UDP and TCP. Returns the versions. For namespaces in which all instances serve all zones.
    pub async fn contents_are_published(&self) -> Result<Published> {
        wait_for("every server to have exactly what is published", LIMIT, async || {
            let servers = self.servers().await?;
            let servers: Vec<&Server> = servers.iter().filter(|server| !server.going).collect();
            let mut published = Published::new();
            for zone in self.list("DNSZone").await? {
                for server in &servers {
                    let version = self.content(server, &zone).await.with_context(|| server.name.clone())?;
                    published.insert(version.content.apex().clone(), vec![version]);
                }
            }
            ensure!(!published.is_empty() && !servers.is_empty(), "no zones or no servers");
            anyhow::Ok(published)
        })
        .await
    }

    /// The published version of a zone, as this server has it: by transfer, and by every question it can answer.
    pub async fn content(&self, server: &Server, zone: &DynamicObject) -> Result<Version> {
        let text = |pointer: &str| {
            let found = zone.data.pointer(pointer).and_then(Value::as_str);
            found.with_context(|| format!("{} has no {pointer}", zone.name_any()))
        };
        let (name, digest) = (Name::parse(text("/spec/zoneName")?)?, text("/status/digest")?);
        let key = self.key(&server.instance).await?;
        let version = dns::transfer(server.transfer(), &name, Some(&key)).await?;
        let serial = zone.data.pointer("/status/serial").and_then(Value::as_u64);
        ensure!(serial == Some(version.serial.get().into()), "{name} has serial {}", version.serial);
        let found = version.content.digest().to_string();
        ensure!(found == digest, "{name} {} has digest {found}, published is {digest}", version.serial);
        for transport in [Transport::Udp, Transport::Tcp] {
            dns::expect_answers(server.dns(), transport, &version).await?;
        }
        Ok(version)
    }

    /// The key with which servers of this instance sign.
    pub async fn key(&self, instance: &str) -> Result<Key> {
        self.keys(instance).await?.into_iter().next().context("a Secret without keys")
    }

    /// The own keys that servers of this instance have.
    pub async fn keys(&self, instance: &str) -> Result<Vec<Key>> {
        let api: Api<Secret> = Api::namespaced(self.cluster().client(), self.name());
        let secret = api.get(&format!("{instance}-keys")).await?;
        let own = Name::parse(&format!("{instance}.{}.key.bindy.", self.name()))?;
        let text = secret.data.and_then(|mut data| data.remove("key")).context("a Secret without key")?;
        let mut keys = Vec::new();
        for line in String::from_utf8(text.0)?.lines() {
            let (name, secret) = line.split_once(' ').context("a line that is no key")?;
            let (name, secret) = (Name::parse(name)?, base64::decode::<Vec<u8>>(secret.trim())?);
            if name.parent().as_ref() == Some(&own) {
                keys.push(Key { name, secret });
            }
        }
        Ok(keys)
    }

    /// The key that is handed out for a server outside of Bindy, as BIND's `key` statement has it.
    pub async fn downstream_key(&self, instance: &str, downstream: &str) -> Result<Key> {
        let api: Api<Secret> = Api::namespaced(self.cluster().client(), self.name());
        let secret = api.get(&format!("{instance}-downstream-{downstream}")).await?;
        let text = secret.data.and_then(|mut data| data.remove("key")).context("a Secret without key")?;
        Key::of_statement(&String::from_utf8(text.0)?)
    }
}

impl Server {
    /// Waits until it answers this with exactly these texts, by UDP and TCP.
    pub async fn answers(&self, name: &str, rtype: Rtype, expected: &[&str]) -> Result<()> {
        let answered = dns::answers_at(self.dns(), name, rtype, expected, LIMIT).await;
        answered.with_context(|| self.name.clone())
    }
}
