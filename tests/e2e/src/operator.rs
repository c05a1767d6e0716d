//! The operator: its pods, its metrics, its network; stopped and started.

use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bindy_testing::cluster::{ApiProxy, Cluster, LIMIT, OPERATOR, PacketRules, Pods, Server};
use bindy_testing::{http, wait_for};
use rustix::process::Signal;
use serde_json::json;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::nodes::drain_of;

const DEPLOYMENT: &str = "deployment/bindy";
const CONTAINER: &str = "operator";
const LABELS: &str = "app=bindy";
/// Where programs in pods find the API server; Kubernetes sets both unless the container does.
const API_HOST: &str = "KUBERNETES_SERVICE_HOST";
const API_PORT: &str = "KUBERNETES_SERVICE_PORT";
const HTTP_PORT: u16 = 8080;

/// The page's way of asking who leads.
const LEASE_HOLDER: [&str; 6] =
    ["get", "lease", "-n", OPERATOR, "bindy-leader", "-o=jsonpath={.spec.holderIdentity}"];

/// A lease that is lost sooner than the page's, where a test loses many.
pub const SHORT_LEASE: [&str; 3] =
    ["LEASE_DURATION_SECONDS=3", "LEASE_RENEW_DEADLINE_SECONDS=2", "LEASE_RETRY_PERIOD_SECONDS=1"];

/// In which packets between a replica and the API server vanish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Requests.
    ToApi,
    /// Answers.
    FromApi,
}

/// The operator of the cluster.
pub struct Operator {
    cluster: Cluster,
}

/// A cluster that one test has for itself, until this is dropped.
pub struct Alone {
    cluster: Cluster,
    name: String,
    _permit: SemaphorePermit<'static>,
}

impl Deref for Alone {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        free().push(std::mem::take(&mut self.name));
    }
}

/// The clusters that no test has for itself, by name.
fn free() -> MutexGuard<'static, Vec<String>> {
    static FREE: LazyLock<Mutex<Vec<String>>> = LazyLock::new(|| Mutex::new(Cluster::names()));
    FREE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// For tests that disturb what all others use: waits for a cluster that nobody else has. What the one before may have left
/// stopped or diverted is as it was.
pub async fn alone() -> Result<Alone> {
    static COUNT: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(Cluster::names().len()));
    let permit = COUNT.acquire().await?;
    let name = free().pop().context("more permits than clusters")?;
    let alone = Alone { cluster: Cluster::named(&name).await?, name, _permit: permit };
    let operator = Operator::of(&alone);
    // It may not become ready before: the proxy that it was diverted to is gone.
    operator.scale("1").await?;
    operator.direct().await?;
    Ok(alone)
}

/// A pod of the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorPod {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
    /// How often it has been started again.
    pub restarts: i32,
}

impl Operator {
    /// That of this cluster.
    pub fn of(cluster: &Cluster) -> Self {
        Self { cluster: cluster.clone() }
    }

    fn pods(&self) -> Pods {
        Pods::new(&self.cluster, OPERATOR, LABELS)
    }

    /// The addresses at which servers reach it, and from which it asks them, as rules for packets have them: of its Service
    /// and of its pod.
    pub async fn addresses(&self) -> Result<String> {
        let service =
            ["get", "service", "-n", OPERATOR, "bindy-transfer", "-o", "jsonpath={.spec.clusterIP}"];
        Ok(format!("{}, {}", self.cluster.kubectl(&service).await?, self.pod().await?.address))
    }

    /// Its only pod that runs.
    pub async fn pod(&self) -> Result<OperatorPod> {
        let pods = self.pods().all().await?;
        let mut living = pods.iter().filter(|pod| !pod.going);
        let pod = living.next().context("the operator has no pod")?;
        ensure!(living.next().is_none(), "the operator has several pods");
        Ok(OperatorPod { name: pod.name.clone(), address: pod.address, restarts: pod.restarts(CONTAINER) })
    }

    /// All its pods that are not going.
    pub async fn replicas(&self) -> Result<Vec<Server>> {
        Ok(self.pods().all().await?.into_iter().filter(|pod| !pod.going).collect())
    }

    /// Installs the shipped Deployment in place of whatever is there, with one replica, and the image that was built last, as
    /// the cluster began with.
    pub async fn install_anew(&self) -> Result<()> {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/install.yaml");
        let shipped = std::fs::read_to_string(manifest)?;
        let built = shipped.replace(concat!("/bindy:", env!("CARGO_PKG_VERSION")), "/bindy:latest");
        ensure!(built != shipped, "the manifest does not name the image of this version");
        let file = std::env::temp_dir().join(format!("bindy-install-{}.yaml", std::process::id()));
        std::fs::write(&file, built)?;
        self.cluster.kubectl(&["delete", DEPLOYMENT, "-n", OPERATOR]).await?;
        let path = file.to_string_lossy();
        let apply = ["apply", "--server-side", "--force-conflicts", "-f", &path];
        let applied = self.cluster.kubectl(&apply).await;
        std::fs::remove_file(&file)?;
        applied?;
        self.scale_to(1).await.map(drop)
    }

    /// Changes its image, one replica at a time, each after so many seconds of those before and after side by side.
    pub async fn upgrade(&self, image: &str, side_by_side: u32) -> Result<()> {
        let container = json!({"name": CONTAINER, "image": image});
        let strategy = json!({"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}});
        let spec = json!({"minReadySeconds": side_by_side, "strategy": strategy,
            "template": {"spec": {"containers": [container]}}});
        let patch = json!({"spec": spec}).to_string();
        self.cluster.kubectl(&["patch", "-n", OPERATOR, DEPLOYMENT, "-p", &patch]).await?;
        let limit = "--timeout=120s";
        self.cluster.kubectl(&["rollout", "status", "-n", OPERATOR, DEPLOYMENT, limit]).await.map(drop)
    }

    /// The cluster that it runs on.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Drains a node of its replicas, as its disruption budget lets them go.
    pub async fn drain(&self, node: &str) -> Result<()> {
        drain_of(&self.cluster, node, LABELS, 60).await
    }

    /// Deletes a replica's pod, as the page does.
    pub async fn delete(&self, replica: &Server) -> Result<()> {
        self.cluster.kubectl(&["delete", "pod", "-n", OPERATOR, &replica.name]).await.map(drop)
    }

    /// Has so many replicas, and waits until all are ready, and one of them leads.
    pub async fn scale_to(&self, count: usize) -> Result<Server> {
        self.scale_unled(count).await?;
        self.until_leader(|_| true).await
    }

    /// The same without an election.
    pub async fn scale_unled(&self, count: usize) -> Result<()> {
        self.scale(&count.to_string()).await?;
        self.pods()
            .until("all replicas to be ready", |pods| {
                ensure!(pods.len() == count && pods.iter().all(|pod| pod.ready && !pod.going), "{pods:?}");
                Ok(())
            })
            .await
    }

    /// Kills a replica's process with SIGKILL, and has a new pod take its place: a container that ends often would be kept
    /// waiting.
    pub async fn kill_for_good(&self, replica: &Server) -> Result<()> {
        replica.signal(CONTAINER, Signal::KILL)?;
        let delete =
            ["delete", "pod", "-n", OPERATOR, &replica.name, "--grace-period=0", "--force", "--wait=false"];
        self.cluster.kubectl(&delete).await.map(drop)
    }

    /// Gives it the Role of the page, which lacks the right to watch, and starts its replicas anew. [`Operator::install_anew`]
    /// undoes it.
    pub async fn take_the_right_to_watch_the_lease(&self) -> Result<()> {
        let page = json!({"rules": [
            {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list", "watch", "create", "patch"]},
            {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "create", "update", "patch"]},
        ]});
        let patch = ["patch", "role", "bindy", "-n", OPERATOR, "--type=merge", "-p", &page.to_string()];
        self.cluster.kubectl(&patch).await?;
        self.cluster.kubectl(&["rollout", "restart", "-n", OPERATOR, DEPLOYMENT]).await?;
        self.cluster
            .kubectl(&["rollout", "status", "-n", OPERATOR, DEPLOYMENT, "--timeout=90s"])
            .await
            .map(drop)
    }

    /// What the lease says.
    pub async fn lease(&self) -> Result<serde_json::Value> {
        let lease = ["get", "lease", "-n", OPERATOR, "bindy-leader", "-o=json"];
        Ok(serde_json::from_str(&self.cluster.kubectl(&lease).await?)?)
    }

    /// Waits until a replica leads that is one of these, by the lease.
    pub async fn until_leader(&self, wanted: impl Fn(&Server) -> bool) -> Result<Server> {
        wait_for("a leader", LIMIT, async || {
            let holder = self.cluster.kubectl(&LEASE_HOLDER).await?;
            let replicas = self.replicas().await?;
            let leader = replicas.into_iter().find(|pod| pod.name == holder);
            leader.filter(&wanted).with_context(|| format!("the lease names {holder:?}"))
        })
        .await
    }

    /// What a replica has logged since its container started.
    pub async fn log_of(&self, replica: &Server) -> Result<String> {
        self.cluster.kubectl(&["logs", "-n", OPERATOR, &replica.name]).await
    }

    /// `/metrics` of a replica.
    pub async fn metrics_of(&self, replica: &Server) -> Result<String> {
        http::get(SocketAddr::new(replica.address, HTTP_PORT), "/metrics").await
    }

    /// `/metrics` of its pod.
    pub async fn metrics(&self) -> Result<String> {
        http::get(SocketAddr::new(self.pod().await?.address, HTTP_PORT), "/metrics").await
    }

    /// What it has logged since its container started.
    pub async fn log(&self) -> Result<String> {
        let pod = self.pod().await?.name;
        self.cluster.kubectl(&["logs", "-n", OPERATOR, &pod]).await
    }

    /// The file by which the network namespace of its pod is entered.
    pub async fn network(&self) -> Result<PathBuf> {
        let pods = self.pods().all().await?;
        pods.iter().find(|pod| !pod.going).context("the operator has no pod")?.network_by(CONTAINER)
    }

    /// Kills its process, and waits until its container runs again and is ready.
    pub async fn kill(&self) -> Result<()> {
        let pods = self.pods().all().await?;
        let before = pods.iter().find(|pod| !pod.going).context("the operator has no pod")?;
        before.signal(CONTAINER, Signal::KILL)?;
        self.pods()
            .until("the operator's container to run again", |pods| {
                let now = pods.iter().find(|pod| pod.name == before.name).context("its pod is gone")?;
                ensure!(now.restarts(CONTAINER) > before.restarts(CONTAINER) && now.ready, "{now:?}");
                Ok(())
            })
            .await
    }

    /// Has it log what this filter lets through, from a new pod on.
    pub async fn set_log(&self, filter: &str) -> Result<()> {
        self.set_env(&[&format!("BINDY_LOG={filter}")]).await
    }

    /// Has its requests go through a proxy, and sets these variables, from a new pod on.
    pub async fn through(&self, proxy: &ApiProxy, more: &[&str]) -> Result<()> {
        let (host, port) = (proxy.address().ip(), proxy.address().port());
        let (host, port) = (format!("{API_HOST}={host}"), format!("{API_PORT}={port}"));
        self.set_env(&[&[&*host, &*port], more].concat()).await
    }

    /// Has its requests go to the API server itself again, and its election be that of the page.
    pub async fn direct(&self) -> Result<()> {
        let (host, port) = (format!("{API_HOST}-"), format!("{API_PORT}-"));
        let lease =
            SHORT_LEASE.map(|variable| variable.split('=').next().unwrap_or_default().to_owned() + "-");
        let variables = lease.iter().map(String::as_str).chain([&*host, &*port, "ENABLE_LEADER_ELECTION-"]);
        self.set_env(&variables.collect::<Vec<_>>()).await
    }

    /// Sets variables (`NAME=VALUE`), or removes them (`NAME-`), from a new pod on; it has one replica.
    pub async fn set_env(&self, variables: &[&str]) -> Result<()> {
        self.cluster.kubectl(&[&["set", "env", "-n", OPERATOR, DEPLOYMENT], variables].concat()).await?;
        self.cluster.kubectl(&["rollout", "status", "-n", OPERATOR, DEPLOYMENT, "--timeout=90s"]).await?;
        self.until_ready().await
    }

    /// The processor time that it has used.
    pub async fn cpu(&self) -> Result<Duration> {
        let pods = self.pods().all().await?;
        let pid =
            pods.iter().find(|pod| !pod.going).context("the operator has no pod")?.process(CONTAINER)?;
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // utime and stime, fields 14 and 15, in ticks of which Linux tells user space there are a hundred a second.
        let fields = stat.rsplit(')').next().context("no fields")?.split_whitespace().skip(11).take(2);
        let ticks = fields.map(str::parse::<u64>).sum::<Result<u64, _>>()?;
        Ok(Duration::from_millis(ticks * 10))
    }

    /// Takes its pod away, and waits until it is gone. Others run on.
    pub async fn stop(&self) -> Result<()> {
        self.scale("0").await?;
        self.pods()
            .until("the operator's pod to be gone", |pods| {
                ensure!(pods.is_empty(), "there still are {}", pods.len());
                Ok(())
            })
            .await
    }

    /// Starts it again, and waits until it is ready.
    pub async fn start(&self) -> Result<()> {
        self.scale("1").await?;
        self.until_ready().await
    }

    /// Starts it again; it need not become ready.
    pub async fn start_unready(&self) -> Result<()> {
        self.scale("1").await?;
        self.pods()
            .until("the operator's container to run", |pods| {
                let one = pods.iter().find(|pod| !pod.going).context("no pod")?;
                one.process(CONTAINER).map(drop)
            })
            .await
    }

    async fn scale(&self, replicas: &str) -> Result<()> {
        let replicas = format!("--replicas={replicas}");
        self.cluster.kubectl(&["scale", "-n", OPERATOR, DEPLOYMENT, &replicas]).await.map(drop)
    }

    /// Waits until its one pod is ready.
    pub async fn until_ready(&self) -> Result<()> {
        self.pods()
            .until("the operator to be ready", |pods| {
                ensure!(pods.len() == 1 && pods.iter().all(|pod| pod.ready && !pod.going), "{pods:?}");
                Ok(())
            })
            .await
    }

    /// Nothing passes between it and the API server, by any address of that, until this is dropped.
    pub async fn without_api(&self, verdict: &str) -> Result<PacketRules> {
        let pods = self.replicas().await?;
        self.cut_off(pods.first().context("the operator has no pod")?, verdict)
    }

    /// Nothing passes between one of its replicas and the API server in one direction, until this is dropped.
    pub fn cut_one_way(&self, replica: &Server, direction: Direction) -> Result<PacketRules> {
        let api = self.cluster.description().api.trim_start_matches("https://");
        let (address, port) = api.rsplit_once(':').context("the API server's address")?;
        let to = ["tcp dport 443 drop".to_owned(), format!("ip daddr {address} tcp dport {port} drop")];
        let from = [format!("tcp sport {{443, {port}}} drop")];
        let rules = match direction {
            Direction::ToApi => to.iter(),
            Direction::FromApi => from.iter(),
        };
        let rules: Vec<&str> = rules.map(String::as_str).collect();
        let network = replica.network_by(CONTAINER)?;
        match direction {
            Direction::ToApi => PacketRules::set(&network, &[], &rules),
            Direction::FromApi => PacketRules::set(&network, &rules, &[]),
        }
    }

    /// The same for one of its replicas.
    pub fn cut_off(&self, replica: &Server, verdict: &str) -> Result<PacketRules> {
        let api = self.cluster.description().api.trim_start_matches("https://");
        let (address, port) = api.rsplit_once(':').context("the API server's address")?;
        let outgoing =
            [format!("tcp dport 443 {verdict}"), format!("ip daddr {address} tcp dport {port} {verdict}")];
        let incoming = format!("tcp sport {{443, {port}}} drop");
        let outgoing: Vec<&str> = outgoing.iter().map(String::as_str).collect();
        PacketRules::set(&replica.network_by(CONTAINER)?, &[&incoming], &outgoing)
    }
}
