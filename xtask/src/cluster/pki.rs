//! Certificates of a cluster, made once by `openssl`: one authority, a certificate for every program, and the key that
//! signs tokens of service accounts. Kubeconfigs are made from them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::json;

use crate::cluster::layout::Layout;
use crate::steps::output;

const DAYS: &str = "365";
const EC: [&str; 4] = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];

/// Who a certificate speaks for.
struct Subject {
    /// Name of its files.
    file: String,
    name: String,
    alternatives: String,
}

/// Makes what is missing.
pub(crate) fn ensure(layout: &Layout) -> Result<()> {
    fs::create_dir_all(layout.pki(""))?;
    fs::set_permissions(layout.pki(""), PermissionsExt::from_mode(0o700))?;
    ensure_authority(layout)?;
    ensure_token_key(layout)?;
    for subject in subjects(layout) {
        ensure_certificate(layout, &subject)?;
    }
    let users = ["controller-manager", "scheduler", "proxy"].map(str::to_owned);
    for user in users.into_iter().chain(layout.nodes().into_iter().map(|node| node.name)) {
        write_kubeconfig(layout, &user, &layout.pki(&format!("{user}.kubeconfig")))?;
    }
    write_kubeconfig(layout, "admin", &layout.kubeconfig())
}

fn subjects(layout: &Layout) -> Vec<Subject> {
    let subject = |file: &str, name: &str, alternatives: String| Subject {
        file: file.to_owned(),
        name: name.to_owned(),
        alternatives,
    };
    let client = |file: &str, name: &str| subject(file, name, format!("DNS:{file}"));
    let api = format!(
        "IP:{},IP:{},IP:{},IP:127.0.0.1,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc",
        layout.gateway(),
        layout.loopback(),
        layout.api_service()
    );
    let mut all = vec![
        subject("apiserver", "/CN=kube-apiserver", api),
        client("apiserver-to-kubelet", "/O=system:masters/CN=apiserver-to-kubelet"),
        client("admin", "/O=system:masters/CN=admin"),
        client("controller-manager", "/CN=system:kube-controller-manager"),
        client("scheduler", "/CN=system:kube-scheduler"),
        client("proxy", "/CN=system:kube-proxy"),
    ];
    all.extend(layout.nodes().into_iter().map(|node| Subject {
        name: format!("/O=system:nodes/CN=system:node:{}", node.name),
        alternatives: format!("DNS:{},IP:{}", node.name, node.address),
        file: node.name,
    }));
    all
}

fn ensure_authority(layout: &Layout) -> Result<()> {
    let (key, certificate) = (layout.pki("ca.key"), layout.pki("ca.crt"));
    if certificate.exists() {
        return Ok(());
    }
    generate_key(&key)?;
    let next = layout.pki("next");
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-days", DAYS, "-subj"]).arg(format!("/CN={} authority", layout.name));
    output(command.arg("-key").arg(key).arg("-out").arg(&next))?;
    Ok(fs::rename(next, certificate)?)
}

/// The certificate appears last and in one moment, so that a run that was killed is simply done again.
fn ensure_certificate(layout: &Layout, subject: &Subject) -> Result<()> {
    let file = |kind: &str| layout.pki(&format!("{}.{kind}", subject.file));
    if file("crt").exists() {
        return Ok(());
    }
    generate_key(&file("key"))?;
    let next = layout.pki("next");
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-days", DAYS, "-subj", &subject.name]);
    command.arg("-addext").arg(format!("subjectAltName={}", subject.alternatives));
    // Without it openssl would make one more authority.
    command.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
    command.arg("-CA").arg(layout.pki("ca.crt")).arg("-CAkey").arg(layout.pki("ca.key"));
    output(command.arg("-key").arg(file("key")).arg("-out").arg(&next))?;
    Ok(fs::rename(next, file("crt"))?)
}

fn ensure_token_key(layout: &Layout) -> Result<()> {
    let (key, public) = (layout.pki("tokens.key"), layout.pki("tokens.pub"));
    if public.exists() {
        return Ok(());
    }
    generate_key(&key)?;
    let next = layout.pki("next");
    output(Command::new("openssl").args(["pkey", "-pubout", "-in"]).arg(key).arg("-out").arg(&next))?;
    Ok(fs::rename(next, public)?)
}

fn generate_key(file: &Path) -> Result<()> {
    output(Command::new("openssl").arg("genpkey").args(EC).arg("-out").arg(file)).map(drop)
}

/// JSON is YAML too.
fn write_kubeconfig(layout: &Layout, user: &str, file: &Path) -> Result<()> {
    let cluster = json!({"server": layout.api_url(), "certificate-authority": layout.pki("ca.crt")});
    let certificate = layout.pki(&format!("{user}.crt"));
    let key = layout.pki(&format!("{user}.key"));
    let name = layout.name.to_string();
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": user, "user": {"client-certificate": certificate, "client-key": key}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": user}}],
        "current-context": name,
    });
    fs::write(file, serde_json::to_string_pretty(&config)?).with_context(|| file.display().to_string())?;
    Ok(fs::set_permissions(file, PermissionsExt::from_mode(0o600))?)
}
