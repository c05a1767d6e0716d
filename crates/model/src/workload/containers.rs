//! The two containers of a pod.
//!
//! `named` has no key, no token and no way to write anything but its data; `agent` starts before it, because it makes named's
//! configuration and the key that this includes, and stops after it.

use std::collections::BTreeMap;

use bindy_api::{BIND_IMAGE, BIND_VERSION};
use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerPort, EnvVar, ExecAction, HTTPGetAction, Lifecycle, LifecycleHandler,
    Probe, ResourceRequirements, SecurityContext, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{DNS_PORT, HTTP_PORT, TRANSFER_PORT};
use crate::agent_conf::STOP_QUESTION;
use crate::object::PodSettings;

/// Mounted ConfigMap.
pub(super) const CONFIG_DIRECTORY: &str = "/etc/bindy";
/// File in it that named reads a copy of.
pub const NAMED_CONFIG: &str = "named.conf";
/// File in it that the agent reads.
pub const AGENT_CONFIG: &str = "agent.json";
/// Mounted Secrets.
pub(super) const KEY_DIRECTORY: &str = "/etc/bindy-keys";
/// The file with the instance's own keys; absent while the Secret is being replaced.
pub(super) const OWN_KEYS: &str = "own";
/// named's working directory.
pub(super) const DATA_DIRECTORY: &str = "/var/lib/bindy";
/// What agent and named share.
pub(super) const RUN_DIRECTORY: &str = "/run/bindy";
/// Where named listens.
pub(super) const LISTEN_FILE: &str = "/run/bindy/listen.conf";
/// The key between agent and named.
pub(super) const LOCAL_KEY_FILE: &str = "/run/bindy/agent.key";

/// The agent's relay and named's control channel: in the pod only.
pub(super) const RELAY_PORT: u16 = 5300;
pub(super) const CONTROL_PORT: u16 = 953;

/// Volumes of a pod.
pub(super) mod volumes {
    pub(in crate::workload) const CONFIG: &str = "config";
    pub(in crate::workload) const KEYS: &str = "keys";
    pub(in crate::workload) const DATA: &str = "data";
    pub(in crate::workload) const RUN: &str = "run";
}

/// The image of BIND.
pub fn bind_image(pods: &PodSettings) -> String {
    pods.image
        .clone()
        .unwrap_or_else(|| format!("{BIND_IMAGE}:{}", pods.version.as_deref().unwrap_or(BIND_VERSION)))
}

/// The version of BIND as far as the instance tells: of its spec, else the tag of its image, else the default.
pub fn bind_version(pods: &PodSettings) -> String {
    let Some(image) = &pods.image else {
        return pods.version.clone().unwrap_or_else(|| BIND_VERSION.to_owned());
    };
    let without_digest = image.split_once('@').map_or(image.as_str(), |(before, _)| before);
    let last = without_digest.rsplit_once('/').map_or(without_digest, |(_, last)| last);
    last.split_once(':').map_or_else(|| image.clone(), |(_, tag)| tag.to_owned())
}

/// BIND.
pub(super) fn named(pods: &PodSettings) -> Container {
    // With -g named would not look at how its configuration wants it to log. What it says before it has read that one goes
    // to the same place.
    let command = ["named", "-f", "-L", "/dev/stderr", "-c"].map(str::to_owned).into_iter();
    let config = format!("{RUN_DIRECTORY}/{NAMED_CONFIG}");
    // The questions and delays of the page on high availability; any answer will do.
    let question = ["dig", "@localhost", "version.bind", "txt", "chaos"].map(str::to_owned);
    let asked = |initial_delay, period, failures| Probe {
        exec: Some(ExecAction { command: Some(question.to_vec()) }),
        initial_delay_seconds: initial_delay,
        period_seconds: Some(period),
        timeout_seconds: Some(5),
        failure_threshold: Some(failures),
        ..Probe::default()
    };
    // Asks the agent on loopback, which says that this server is not ready and answers when nobody comes any more. A
    // mere pause is not enough: kube-proxy sends clients that keep their port to a server that stops but is ready. The agent
    // answers within 43 s; without an agent the question fails at once.
    let relay = RELAY_PORT.to_string();
    let farewell = ["dig", "@127.0.0.1", "-p", &relay, "+tcp", "+time=50", "+tries=1", STOP_QUESTION, "TXT"];
    let stop = LifecycleHandler {
        exec: Some(ExecAction { command: Some(farewell.map(str::to_owned).to_vec()) }),
        ..LifecycleHandler::default()
    };
    Container {
        name: "named".to_owned(),
        image: Some(bind_image(pods)),
        command: Some(command.chain([config]).collect()),
        ports: Some(vec![port("dns", "UDP", DNS_PORT), port("dns-tcp", "TCP", DNS_PORT)]),
        resources: Some(resources(pods)),
        security_context: Some(restricted()),
        volume_mounts: Some(vec![
            mount(volumes::DATA, DATA_DIRECTORY, Access::Write),
            mount(volumes::RUN, RUN_DIRECTORY, Access::Read),
        ]),
        // Many zones take long to load; that is no reason to start anew.
        startup_probe: Some(asked(None, 1, 600)),
        liveness_probe: Some(asked(Some(30), 10, 3)),
        readiness_probe: Some(asked(Some(5), 5, 3)),
        lifecycle: Some(Lifecycle { pre_stop: Some(stop), ..Lifecycle::default() }),
        ..Container::default()
    }
}

/// The agent, as a native sidecar.
pub(super) fn agent(image: &str) -> Container {
    // The image's entry point is the program itself.
    let arguments = ["agent", "--config"].map(str::to_owned).into_iter();
    let told = |path: &str, period, failures| Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::Int(HTTP_PORT.into()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period),
        // A busy node is no reason to send clients elsewhere, least of all when every server is on a busy node.
        timeout_seconds: Some(5),
        failure_threshold: Some(failures),
        ..Probe::default()
    };
    Container {
        name: "agent".to_owned(),
        image: Some(image.to_owned()),
        restart_policy: Some("Always".to_owned()),
        args: Some(arguments.chain([format!("{CONFIG_DIRECTORY}/{AGENT_CONFIG}")]).collect()),
        env: Some(vec![EnvVar {
            name: "BINDY_LOG_FORMAT".to_owned(),
            value: Some("json".to_owned()),
            value_from: None,
        }]),
        ports: Some(vec![port("transfer", "TCP", TRANSFER_PORT), port("http", "TCP", HTTP_PORT)]),
        resources: Some(ResourceRequirements {
            requests: Some(BTreeMap::from([quantity("cpu", "10m"), quantity("memory", "32Mi")])),
            ..ResourceRequirements::default()
        }),
        security_context: Some(restricted()),
        volume_mounts: Some(vec![
            mount(volumes::CONFIG, CONFIG_DIRECTORY, Access::Read),
            mount(volumes::KEYS, KEY_DIRECTORY, Access::Read),
            mount(volumes::RUN, RUN_DIRECTORY, Access::Write),
        ]),
        startup_probe: Some(told("/livez", 1, 60)),
        liveness_probe: Some(told("/livez", 10, 3)),
        readiness_probe: Some(told("/readyz", 1, 3)),
        ..Container::default()
    }
}

/// What named asks for where the spec is silent: without a request a container gets next to nothing of a busy node's processors
/// (`cpu.shares` 2, fewer than the agent beside it).
const REQUESTS: [(&str, &str); 2] = [("cpu", "100m"), ("memory", "64Mi")];

fn resources(pods: &PodSettings) -> ResourceRequirements {
    let map = |wanted: &BTreeMap<String, IntOrString>| -> BTreeMap<String, Quantity> {
        let quantities = wanted.iter().map(|(name, value)| match value {
            IntOrString::Int(number) => quantity(name, &number.to_string()),
            IntOrString::String(text) => quantity(name, text),
        });
        quantities.collect()
    };
    let bindy_api::Resources { requests, limits } = &pods.resources;
    // Kubernetes takes a limit for the request where there is none, and no request above its limit.
    let silent =
        REQUESTS.iter().filter(|(name, _)| !requests.contains_key(*name) && !limits.contains_key(*name));
    let mut requests = map(requests);
    requests.extend(silent.map(|(name, value)| quantity(name, value)));
    ResourceRequirements {
        requests: (!requests.is_empty()).then_some(requests),
        limits: (!limits.is_empty()).then(|| map(limits)),
        ..ResourceRequirements::default()
    }
}

fn quantity(name: &str, value: &str) -> (String, Quantity) {
    (name.to_owned(), Quantity(value.to_owned()))
}

/// What the restricted pod security standard asks of a container, and a root file system that cannot be written.
fn restricted() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
        ..SecurityContext::default()
    }
}

fn port(name: &str, protocol: &str, number: u16) -> ContainerPort {
    ContainerPort {
        name: Some(name.to_owned()),
        protocol: Some(protocol.to_owned()),
        container_port: number.into(),
        ..ContainerPort::default()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

fn mount(volume: &str, path: &str, access: Access) -> VolumeMount {
    VolumeMount {
        name: volume.to_owned(),
        mount_path: path.to_owned(),
        read_only: (access == Access::Read).then_some(true),
        ..VolumeMount::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_that_of_the_spec_or_the_tag_of_the_image() {
        let pods = |version: Option<&str>, image: Option<&str>| PodSettings {
            version: version.map(str::to_owned),
            image: image.map(str::to_owned),
            ..PodSettings::default()
        };
        for (version, image, shown, reference) in [
            (None, None, "9.18", "ghcr.io/firestoned/bindy-bind9:9.18"),
            (Some("9.20"), None, "9.20", "ghcr.io/firestoned/bindy-bind9:9.20"),
            (Some("9.20"), Some("isc/bind9:9.21"), "9.21", "isc/bind9:9.21"),
            (None, Some("host:5000/bind9"), "host:5000/bind9", "host:5000/bind9"),
            (None, Some("host:5000/bind9:9.20@sha256:00"), "9.20", "host:5000/bind9:9.20@sha256:00"),
        ] {
            let pods = pods(version, image);
            assert_eq!(bind_version(&pods), shown);
            assert_eq!(bind_image(&pods), reference);
        }
    }

    #[test]
    fn named_asks_for_its_share_where_the_spec_says_neither_request_nor_limit() {
        for (requests, limits, asked) in [
            (vec![], vec![], vec![("cpu", "100m"), ("memory", "64Mi")]),
            (vec![("cpu", "5m")], vec![("memory", "32Mi")], vec![("cpu", "5m")]),
            (vec![("memory", "1Gi")], vec![], vec![("cpu", "100m"), ("memory", "1Gi")]),
            (vec![], vec![("cpu", "50m"), ("memory", "32Mi")], vec![]),
        ] {
            let map = |pairs: Vec<(&str, &str)>| {
                let pairs = pairs.into_iter();
                pairs.map(|(name, value)| (name.to_owned(), IntOrString::String(value.to_owned()))).collect()
            };
            let told = bindy_api::Resources { requests: map(requests), limits: map(limits) };
            let found = resources(&PodSettings { resources: told, ..PodSettings::default() }).requests;
            let asked: BTreeMap<_, _> =
                asked.into_iter().map(|(name, value)| quantity(name, value)).collect();
            assert_eq!(found.unwrap_or_default(), asked);
        }
    }
}
