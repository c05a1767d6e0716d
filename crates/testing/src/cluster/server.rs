//! A server: the pod with named and agent, its addresses, its processes and its data.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::api::{Api, DeleteParams, ListParams};
use kube::runtime::watcher;
use rustix::process::Signal;

use super::process::{first_of, network_of, send};
use super::{Cluster, LIMIT, Namespace, watch};

/// Selects the pods of all instances.
pub(super) const SERVERS: &str = "app.kubernetes.io/managed-by=bindy,instance";
/// The container that runs BIND.
pub const NAMED: &str = "named";
/// The container beside it.
pub const AGENT: &str = "agent";
/// The volume that has named's data.
const DATA: &str = "data";

/// A pod as it was when it was looked at.
#[derive(Clone, Debug)]
pub struct Server {
    /// The pod's name.
    pub name: String,
    /// Its instance; empty for a pod that is none of a server.
    pub instance: String,
    /// The node that it is on.
    pub node: String,
    /// Its address.
    pub address: IpAddr,
    /// The same in every family that pods of the cluster have, in their order.
    pub addresses: Vec<IpAddr>,
    /// Whether Kubernetes calls it ready.
    pub ready: bool,
    /// Whether it has been told to end.
    pub going: bool,
    /// Its uid: a StatefulSet gives the next pod the same name.
    pub uid: String,
    containers: BTreeMap<String, (Option<String>, i32)>,
}

impl Server {
    /// Nothing as long as the pod has no address.
    pub(super) fn of(pod: &Pod) -> Option<Self> {
        let status = pod.status.as_ref()?;
        let conditions = status.conditions.iter().flatten();
        let ready = conditions.into_iter().any(|one| one.type_ == "Ready" && one.status == "True");
        let containers = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
        Some(Self {
            name: pod.metadata.name.clone()?,
            instance: pod
                .metadata
                .labels
                .iter()
                .flatten()
                .find(|(key, _)| *key == "instance")
                .map(|(_, value)| value.clone())
                .unwrap_or_default(),
            node: pod.spec.as_ref()?.node_name.clone()?,
            address: status.pod_ip.as_ref()?.parse().ok()?,
            addresses: status.pod_ips.iter().flatten().filter_map(|one| one.ip.parse().ok()).collect(),
            ready,
            going: pod.metadata.deletion_timestamp.is_some(),
            uid: pod.metadata.uid.clone()?,
            containers: containers.map(container).collect(),
        })
    }

    /// Where it answers questions.
    pub fn dns(&self) -> SocketAddr {
        SocketAddr::new(self.address, 53)
    }

    /// Where its agent gives transfers.
    pub fn transfer(&self) -> SocketAddr {
        SocketAddr::new(self.address, 5353)
    }

    /// Where its agent answers HTTP.
    pub fn http(&self) -> SocketAddr {
        SocketAddr::new(self.address, 8080)
    }

    /// How often a container has been started again.
    pub fn restarts(&self, container: &str) -> i32 {
        self.containers.get(container).map_or(0, |(_, restarts)| *restarts)
    }

    /// Sends a signal to the first process of a container.
    pub fn signal(&self, container: &str, signal: Signal) -> Result<()> {
        send(self.process(container)?, signal)
    }

    /// The first process of a container, by its ID on this host.
    pub fn process(&self, container: &str) -> Result<i32> {
        let id = self.containers.get(container).and_then(|(id, _)| id.as_ref());
        first_of(id.with_context(|| format!("{container} of {} does not run", self.name))?)
    }

    /// The file by which its network namespace is entered.
    pub fn network(&self) -> Result<PathBuf> {
        self.network_by(AGENT)
    }

    /// The same for a pod that has this container.
    pub fn network_by(&self, container: &str) -> Result<PathBuf> {
        self.process(container).map(network_of)
    }

    /// The configuration of named as the kubelet has mounted it.
    pub fn mounted_config(&self, cluster: &Cluster) -> Result<PathBuf> {
        Ok(self.volumes(cluster)?.join("kubernetes.io~configmap/config/named.conf"))
    }

    fn volumes(&self, cluster: &Cluster) -> Result<PathBuf> {
        let pods = cluster.node(&self.node)?.directory.join("kubelet/pods");
        Ok(pods.join(&self.uid).join("volumes"))
    }

    /// Removes named's data and kills it. It is stopped first, so that nothing writes or starts again in between.
    pub fn wipe_and_kill(&self, cluster: &Cluster) -> Result<()> {
        let data = self.volumes(cluster)?.join("kubernetes.io~empty-dir").join(DATA);
        self.signal(NAMED, Signal::STOP)?;
        let mut removed = 0;
        for entry in std::fs::read_dir(&data).with_context(|| data.display().to_string())? {
            let entry = entry?.path();
            if entry.is_dir() {
                std::fs::remove_dir_all(&entry)?;
            } else {
                std::fs::remove_file(&entry)?;
            }
            removed += 1;
        }
        ensure!(removed > 0, "{} was empty: not the data of a named", data.display());
        self.signal(NAMED, Signal::KILL)
    }
}

fn container(status: &ContainerStatus) -> (String, (Option<String>, i32)) {
    let runs = status.state.as_ref().is_some_and(|state| state.running.is_some());
    let id = status.container_id.as_ref().filter(|_| runs);
    let id = id.and_then(|id| id.strip_prefix("containerd://")).map(str::to_owned);
    (status.name.clone(), (id, status.restart_count))
}

/// The pods of a namespace that a label selector selects.
pub struct Pods {
    api: Api<Pod>,
    selector: String,
}

impl Pods {
    /// Those of that namespace.
    pub fn new(cluster: &Cluster, namespace: &str, selector: &str) -> Self {
        Self { api: Api::namespaced(cluster.client(), namespace), selector: selector.to_owned() }
    }

    /// All that have an address, as they are now; those that are going as well.
    pub async fn all(&self) -> Result<Vec<Server>> {
        let pods = self.api.list(&ListParams::default().labels(&self.selector)).await?;
        Ok(pods.items.iter().filter_map(Server::of).collect())
    }

    /// Waits until they are as `check` wants them.
    pub async fn until<T>(&self, what: &str, mut check: impl FnMut(&[Server]) -> Result<T>) -> Result<T> {
        let config = watcher::Config::default().labels(&self.selector);
        watch::until(self.api.clone(), config, (what, LIMIT), |pods| {
            let servers: Vec<Server> = pods.values().filter_map(Server::of).collect();
            check(&servers)
        })
        .await
    }
}

impl Namespace {
    fn pods(&self, selector: &str) -> Pods {
        Pods::new(self.cluster(), self.name(), selector)
    }

    /// All servers that have an address, as they are now; those that are going as well.
    pub async fn servers(&self) -> Result<Vec<Server>> {
        self.pods(SERVERS).all().await
    }

    /// The servers of an instance, as they are now.
    pub async fn servers_of(&self, instance: &str) -> Result<Vec<Server>> {
        let mut servers = self.servers().await?;
        servers.retain(|server| server.instance == instance);
        Ok(servers)
    }

    /// Waits until the servers of an instance are as `check` wants them.
    pub async fn until_servers<T>(
        &self,
        instance: &str,
        what: &str,
        check: impl FnMut(&[Server]) -> Result<T>,
    ) -> Result<T> {
        self.pods(&format!("{SERVERS}={instance}")).until(what, check).await
    }

    /// Waits until an instance has exactly so many servers, all of them ready, none of these pods.
    pub async fn until_ready(&self, instance: &str, count: usize, but: &[&Server]) -> Result<Vec<Server>> {
        let what = format!("{count} ready servers of {instance}");
        self.until_servers(instance, &what, |servers| {
            let states: Vec<_> = servers.iter().map(|one| (&one.name, one.ready, one.going)).collect();
            let (all, new) =
                (servers.len() == count, |one: &Server| but.iter().all(|old| old.uid != one.uid));
            let good = servers.iter().all(|one| one.ready && !one.going && new(one));
            ensure!(all && good, "there are (name, ready, going) {states:?}");
            Ok(servers.to_vec())
        })
        .await
    }

    /// Waits until a container of this server has been started again and the server is ready.
    pub async fn until_restarted(&self, before: &Server, container: &str) -> Result<Server> {
        let what = format!("{container} of {} to run again", before.name);
        self.until_servers(&before.instance, &what, |servers| {
            let now = servers.iter().find(|server| server.name == before.name).context("it is gone")?;
            ensure!(now.restarts(container) > before.restarts(container), "it has not been restarted");
            ensure!(now.ready, "it is not ready");
            Ok(now.clone())
        })
        .await
    }

    /// Deletes a server's pod, with its own grace period or without any.
    pub async fn delete_server(&self, server: &Server, grace: Grace) -> Result<()> {
        let parameters = match grace {
            Grace::Own => DeleteParams::default(),
            Grace::None => DeleteParams::default().grace_period(0),
        };
        self.pods(SERVERS)
            .api
            .delete(&server.name, &parameters)
            .await
            .with_context(|| server.name.clone())?;
        Ok(())
    }
}

/// How a pod is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grace {
    /// As it asks for.
    Own,
    /// At once.
    None,
}
