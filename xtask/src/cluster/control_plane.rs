//! etcd, API server, controller-manager and scheduler: processes in the host's network.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::cluster::layout::Layout;
use crate::cluster::process::{Found, Process, Start};

const READY: Duration = Duration::from_secs(60);

/// The four processes, in the order in which they need each other.
pub(crate) struct ControlPlane {
    etcd: Process,
    api: Process,
    controllers: Process,
    scheduler: Process,
}

impl ControlPlane {
    pub(crate) fn new(layout: &Layout, kube: &Path) -> Result<Self> {
        let process = |name: &str, options: Vec<String>, files: &[PathBuf]| {
            let mut arguments = vec![kube.display().to_string(), name.to_owned()];
            arguments.extend(options);
            Process::new(layout, &Start { name, node: None, arguments, files })
        };
        let pki = |file: &str| layout.pki(file);
        Ok(Self {
            etcd: process("etcd", etcd(layout), &[])?,
            api: process("apiserver", api(layout), &[pki("ca.crt"), pki("apiserver.crt")])?,
            controllers: process(
                "controller-manager",
                controllers(layout),
                &[pki("controller-manager.crt")],
            )?,
            scheduler: process("scheduler", scheduler(layout), &[pki("scheduler.crt")])?,
        })
    }

    /// Starts what does not run; afterwards the API server is ready.
    pub(crate) fn ensure(&self, layout: &Layout, kube: &Path) -> Result<()> {
        self.etcd.ensure()?;
        let api = self.api.ensure()?;
        if api == Found::Started {
            self.api.until("the API server to be ready", READY, || api_answers(layout, kube))?;
        }
        self.controllers.ensure()?;
        self.scheduler.ensure()?;
        Ok(())
    }
}

fn api_answers(layout: &Layout, kube: &Path) -> Result<()> {
    let answer = kubectl(layout, kube).args(["get", "--raw", "/readyz"]).output()?;
    ensure!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr).trim());
    Ok(())
}

/// The beginning of a kubectl command with the administrator's rights.
pub(crate) fn kubectl(layout: &Layout, kube: &Path) -> Command {
    let mut command = Command::new(kube);
    command.arg("kubectl").arg("--kubeconfig").arg(layout.kubeconfig());
    // What it remembers of the API ends with the cluster.
    command.arg("--cache-dir").arg(layout.directory().join("kubectl"));
    command
}

fn etcd(layout: &Layout) -> Vec<String> {
    let peers = format!("http://{}:2380", layout.loopback());
    vec![
        option("data-dir", layout.directory().join("etcd").display()),
        option("listen-client-urls", layout.etcd_url()),
        option("advertise-client-urls", layout.etcd_url()),
        option("listen-peer-urls", &peers),
        option("initial-advertise-peer-urls", &peers),
        option("initial-cluster", format!("default={peers}")),
        option("log-level", "warn"),
        // The data need not survive a crash of the machine.
        "--unsafe-no-fsync".to_owned(),
    ]
}

fn api(layout: &Layout) -> Vec<String> {
    let pki = |name: &str, file: &str| option(name, layout.pki(file).display());
    vec![
        option("etcd-servers", layout.etcd_url()),
        option("bind-address", layout.gateway()),
        option("advertise-address", layout.gateway()),
        option("secure-port", 6443),
        option("service-cluster-ip-range", layout.service_networks().join(",")),
        option("authorization-mode", "Node,RBAC"),
        option("enable-admission-plugins", "NodeRestriction"),
        option("allow-privileged", true),
        pki("client-ca-file", "ca.crt"),
        pki("tls-cert-file", "apiserver.crt"),
        pki("tls-private-key-file", "apiserver.key"),
        option("service-account-issuer", "https://kubernetes.default.svc"),
        pki("service-account-key-file", "tokens.pub"),
        pki("service-account-signing-key-file", "tokens.key"),
        pki("kubelet-certificate-authority", "ca.crt"),
        pki("kubelet-client-certificate", "apiserver-to-kubelet.crt"),
        pki("kubelet-client-key", "apiserver-to-kubelet.key"),
        // Names of nodes are in no DNS.
        option("kubelet-preferred-address-types", "InternalIP"),
    ]
}

fn controllers(layout: &Layout) -> Vec<String> {
    vec![
        option("kubeconfig", layout.pki("controller-manager.kubeconfig").display()),
        option("root-ca-file", layout.pki("ca.crt").display()),
        option("service-account-private-key-file", layout.pki("tokens.key").display()),
        option("use-service-account-credentials", true),
        option("leader-elect", false),
        option("bind-address", layout.loopback()),
        // A lost node is noticed after this, instead of 50 s; kubelets report every 4 s.
        option("node-monitor-grace-period", "20s"),
    ]
}

fn scheduler(layout: &Layout) -> Vec<String> {
    vec![
        option("kubeconfig", layout.pki("scheduler.kubeconfig").display()),
        option("leader-elect", false),
        option("bind-address", layout.loopback()),
    ]
}

fn option(name: &str, value: impl std::fmt::Display) -> String {
    format!("--{name}={value}")
}
