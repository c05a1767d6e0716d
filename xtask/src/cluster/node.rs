//! A node: containerd, kubelet and kube-proxy in a network namespace of its own, everything they write below
//! `STATE/NODE`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::cluster::cgroups;
use crate::cluster::layout::{Families, Layout, Node};
use crate::cluster::process::{Process, Start};
use crate::image::PAUSE;

const SOCKET: Duration = Duration::from_secs(60);

/// The three processes of a node.
pub(crate) struct NodeAgents {
    socket: PathBuf,
    containerd: Process,
    kubelet: Process,
    proxy: Process,
}

impl NodeAgents {
    /// Writes their configuration, and makes the cgroup that the kubelet expects.
    pub(crate) fn new(layout: &Layout, node: &Node, kube: &Path) -> Result<Self> {
        cgroups::ensure_pods(&layout.name, &node.name)?;
        let file = |name: &str| node.directory.join(name);
        let network = file("cni/10-pods.conflist");
        write(&network, &pretty(&pod_network(layout, node))?)?;
        write(&file("registries/_default/hosts.toml"), &registries(layout))?;
        write(&file("containerd.toml"), &containerd(node))?;
        write(&file("kubelet.json"), &pretty(&kubelet(layout, node))?)?;
        write(&file("proxy.json"), &pretty(&proxy(layout, node))?)?;

        let process = |program: &str, arguments: Vec<String>, files: &[PathBuf]| {
            let name = format!("{program}-{}", node.name);
            Process::new(layout, &Start { name: &name, node: Some(node), arguments, files })
        };
        let path = |file: PathBuf| file.display().to_string();
        let kube = |program: &str| vec![kube.display().to_string(), program.to_owned()];
        let containerd = vec!["containerd".to_owned(), "--config".to_owned(), path(file("containerd.toml"))];
        let mut kubelet = kube("kubelet");
        kubelet.extend(kubelet_options(layout, node));
        let mut proxy = kube("proxy");
        proxy.extend(["--config".to_owned(), path(file("proxy.json"))]);
        Ok(Self {
            socket: node.containerd_socket(),
            containerd: process("containerd", containerd, &[file("containerd.toml"), network])?,
            kubelet: process(
                "kubelet",
                kubelet,
                &[file("kubelet.json"), layout.pki(&format!("{}.crt", node.name))],
            )?,
            proxy: process("proxy", proxy, &[file("proxy.json"), layout.pki("proxy.crt")])?,
        })
    }

    /// Starts what needs no other process of the node.
    pub(crate) fn ensure_containerd(&self) -> Result<()> {
        self.containerd.ensure().map(drop)
    }

    /// Starts the others. A kubelet that finds no containerd waits long before it looks again.
    pub(crate) fn ensure(&self) -> Result<()> {
        self.containerd.until("containerd to listen", SOCKET, || {
            std::os::unix::net::UnixStream::connect(&self.socket).context("its socket").map(drop)
        })?;
        self.kubelet.ensure()?;
        self.proxy.ensure().map(drop)
    }

    pub(crate) fn kubelet(&self) -> &Process {
        &self.kubelet
    }

    pub(crate) fn proxy(&self) -> &Process {
        &self.proxy
    }
}

/// Point-to-point links instead of a bridge: also packets between two pods of one node are routed, so that Services work
/// between them without bridge filtering.
fn pod_network(layout: &Layout, node: &Node) -> Value {
    let ranges: Vec<Value> = node.pod_networks.iter().map(|network| json!([{"subnet": network}])).collect();
    let everywhere = layout.families.each("0.0.0.0/0", "::/0");
    let routes: Vec<Value> = everywhere.iter().map(|network| json!({"dst": network})).collect();
    let addresses = json!({
        "type": "host-local",
        "dataDir": node.directory.join("addresses"),
        "ranges": ranges,
        "routes": routes,
    });
    let links = json!({"type": "ptp", "ipMasq": false, "ipam": addresses});
    let ports = json!({"type": "portmap", "capabilities": {"portMappings": true}});
    // As in the nodes, nobody looks for duplicates. `tuning` is never the first plugin.
    let sysctl = json!({"net.ipv6.conf.default.accept_dad": "0"});
    let first = [json!({"type": "loopback"}), json!({"type": "tuning", "sysctl": sysctl})];
    let plugins = match layout.families {
        Families::Ipv4 => vec![links, ports],
        Families::Dual => first.into_iter().chain([links, ports]).collect(),
    };
    json!({"cniVersion": "0.4.0", "name": layout.name.bridge(), "plugins": plugins})
}

/// Whatever registry an image's name has, it comes from ours; what is not there is nowhere.
fn registries(layout: &Layout) -> String {
    let url = format!("http://{}", layout.registry());
    format!("server = \"{url}\"\n\n[host.\"{url}\"]\ncapabilities = [\"pull\", \"resolve\"]\n")
}

fn containerd(node: &Node) -> String {
    let path = |name: &str| node.directory.join(name).display().to_string();
    let cri = "plugins.\"io.containerd.grpc.v1.cri\"";
    let (root, state, socket) = (path("containerd"), path("run"), node.containerd_socket());
    let (socket, networks, registries) = (socket.display(), path("cni"), path("registries"));
    let (plugins, runc) = (path("opt"), path("runc"));
    format!(
        r#"version = 2
root = "{root}"
state = "{state}"
disabled_plugins = ["io.containerd.internal.v1.tracing", "io.containerd.tracing.processor.v1.otlp", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]

[grpc]
address = "{socket}"

[plugins."io.containerd.internal.v1.opt"]
path = "{plugins}"

[{cri}]
sandbox_image = "{PAUSE}"
netns_mounts_under_state_dir = true
disable_apparmor = true
# Inside a container nobody may lower the score of a process.
restrict_oom_score_adj = true

[{cri}.cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{networks}"

[{cri}.registry]
config_path = "{registries}"

[{cri}.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[{cri}.containerd.runtimes.runc.options]
Root = "{runc}"
"#
    )
}

fn kubelet(layout: &Layout, node: &Node) -> Value {
    let pki = |file: String| layout.pki(&file);
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": node.address.to_string(),
        "healthzBindAddress": "127.0.0.1",
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": pki("ca.crt".to_owned())},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": pki(format!("{}.crt", node.name)),
        "tlsPrivateKeyFile": pki(format!("{}.key", node.name)),
        "containerRuntimeEndpoint": format!("unix://{}", node.containerd_socket().display()),
        // Several kubelets share this machine: each keeps to its own cgroup, and none claims all of the memory.
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cgroups::of_pods(&layout.name, &node.name),
        "cgroupsPerQOS": true,
        "enforceNodeAllocatable": [],
        "failSwapOn": false,
        "evictionHard": {"imagefs.available": "1%", "nodefs.available": "1%", "memory.available": "100Mi"},
        "imageGCHighThresholdPercent": 100,
        "podLogsDir": node.directory.join("logs"),
        "volumePluginDir": node.directory.join("plugins"),
        // There is no cluster DNS. Without an address the kubelet warns of that in Events for every pod, again and again.
        "clusterDNS": [layout.absent_dns().to_string()],
        "resolvConf": "/dev/null",
        "serializeImagePulls": false,
        "nodeStatusUpdateFrequency": "4s",
        "nodeLeaseDurationSeconds": 20,
    })
}

fn kubelet_options(layout: &Layout, node: &Node) -> Vec<String> {
    let labels =
        format!("topology.kubernetes.io/region={},topology.kubernetes.io/zone={}", node.region, node.zone);
    let kubeconfig = layout.pki(&format!("{}.kubeconfig", node.name));
    let addresses: Vec<String> = node.addresses.iter().map(ToString::to_string).collect();
    vec![
        format!("--config={}", node.directory.join("kubelet.json").display()),
        format!("--kubeconfig={}", kubeconfig.display()),
        format!("--root-dir={}", node.directory.join("kubelet").display()),
        format!("--cert-dir={}", node.directory.join("kubelet/pki").display()),
        format!("--hostname-override={}", node.name),
        format!("--node-ip={}", addresses.join(",")),
        format!("--node-labels={labels}"),
    ]
}

/// In iptables mode: in nftables mode a node was sometimes left with an empty endpoint chain for the API's Service.
fn proxy(layout: &Layout, node: &Node) -> Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "clusterCIDR": layout.pod_networks().join(","),
        "hostnameOverride": node.name,
        "clientConnection": {"kubeconfig": layout.pki("proxy.kubeconfig")},
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        // The host's limit of connections is not ours to change.
        "conntrack": {"maxPerCore": 0},
    })
}

fn pretty(value: &Value) -> Result<String> {
    Ok(serde_json::to_string_pretty(value)?)
}

/// Only what is new: kube-proxy ends when its file is written, whatever is in it.
fn write(file: &Path, text: &str) -> Result<()> {
    if fs::read_to_string(file).is_ok_and(|before| before == text) {
        return Ok(());
    }
    if let Some(directory) = file.parent() {
        fs::create_dir_all(directory)?;
    }
    fs::write(file, text).with_context(|| file.display().to_string())
}
