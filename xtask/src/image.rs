//! Container images without a container engine: buildah builds the Dockerfiles of `images/`.
//!
//! ```text
//!   debootstrap ─► debian:bookworm-slim ─► images/bind9  ─► ghcr.io/firestoned/bindy-bind9:9.18, :9.18.x
//!   cargo       ─► static bindy         ─► images/bindy  ─► ghcr.io/firestoned/bindy:latest, :version
//!   rustc       ─► static pause         ─► images/pause
//! ```
//!
//! The base image is made here under the name that the Dockerfile has, so nothing comes from a registry of images.
//! Images live in a storage outside the checkout. Each has a label with the digest of what it was built from, and is
//! built again when that changes.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::cluster::cache;
use crate::prerequisites;
use crate::steps::{Steps, cargo, host, output, root, run, target_directory};

const BINDY: &str = "ghcr.io/firestoned/bindy";
const BIND9: &str = "ghcr.io/firestoned/bindy-bind9:9.18";
const BASE: &str = "docker.io/library/debian:bookworm-slim";
/// Where packages of the base image, and of images made from it, come from.
const MIRROR: &str = "http://deb.debian.org/debian";
const SOURCES: &str = "\
deb http://deb.debian.org/debian bookworm main
deb http://deb.debian.org/debian bookworm-updates main
deb http://deb.debian.org/debian-security bookworm-security main
";
const LABEL: &str = "bindy.inputs";
/// Static, for an image without a C library.
const STATIC: &str = "-Ctarget-feature=+crt-static";

/// Bindy's images, as they are in the local storage.
pub(crate) struct Images(Vec<String>);

/// Builds what is stale.
pub(crate) fn build(steps: &mut Steps) -> Result<Images> {
    prerequisites::install(steps, &prerequisites::IMAGES)?;
    prerequisites::require_root("building images")?;
    let mut names = build_bindy(steps)?;
    names.extend(build_bind9(steps)?);
    Ok(Images(names))
}

impl Images {
    /// Brings them to a registry, where they have the same names without that of their own registry.
    pub(crate) fn push(&self, steps: &mut Steps, registry: &str) -> Result<()> {
        steps.run("push images", || self.0.iter().try_for_each(|name| push(name, registry)))
    }
}

/// Builds the image of every pod's first container.
pub(crate) fn ensure_pause(steps: &mut Steps, name: &str) -> Result<()> {
    let context = root().join("images/pause");
    let inputs = digest(&[&context.join("pause.rs"), &context.join("Dockerfile")])?;
    if is_fresh(name, &inputs)? {
        return Ok(());
    }
    steps.run(&format!("image {name}"), || {
        let directory = cache()?.join("pause");
        fs::create_dir_all(&directory)?;
        let mut rustc = Command::new("rustc");
        rustc.args([STATIC, "-Cpanic=abort", "-Copt-level=s", "-Cstrip=symbols", "-o"]);
        run(rustc.arg(directory.join("pause")).arg(context.join("pause.rs")))?;
        build_image(name, &inputs, &context.join("Dockerfile"), &directory, None)
    })
}

/// Brings it to a registry that does not have it.
pub(crate) fn push_pause(name: &str, registry: &str) -> Result<()> {
    push(name, registry)
}

fn build_bindy(steps: &mut Steps) -> Result<Vec<String>> {
    let target = host()?;
    let mut compile = cargo(&["build", "--quiet", "--profile", "image", "--package", "bindy"]);
    compile.args(["--target", &target]).env("RUSTFLAGS", STATIC);
    steps.command("build static bindy", &mut compile)?;
    let directory = target_directory()?.join(target).join("image");
    let dockerfile = root().join("images/bindy/Dockerfile");
    let inputs = digest(&[&directory.join("bindy"), &dockerfile])?;
    let latest = format!("{BINDY}:latest");
    let version = format!("{BINDY}:{}", env!("CARGO_PKG_VERSION"));
    if !is_fresh(&latest, &inputs)? {
        steps.run(&format!("image {latest}"), || {
            build_image(&latest, &inputs, &dockerfile, &directory, Some("prebuilt"))?;
            output(buildah()?.args(["tag", &latest, &version])).map(drop)
        })?;
    }
    Ok(vec![latest, version])
}

fn build_bind9(steps: &mut Steps) -> Result<Vec<String>> {
    build_base(steps)?;
    let context = root().join("images/bind9");
    let dockerfile = context.join("Dockerfile");
    let inputs = digest(&[&dockerfile])?;
    if !is_fresh(BIND9, &inputs)? {
        steps.run(&format!("image {BIND9}"), || {
            // It gets its names when all of them are known.
            let next = "localhost/bindy-bind9:next";
            build_image(next, &inputs, &dockerfile, &context, None)?;
            let (repository, _) = BIND9.rsplit_once(':').context("an image without a tag")?;
            let exact = format!("{repository}:{}", named_version(next)?);
            output(buildah()?.args(["tag", next, &exact, BIND9]))?;
            output(buildah()?.args(["rmi", next])).map(drop)
        })?;
    }
    names_of(BIND9)
}

/// A stand-in for the base image of the same name, from the packages it is made of.
fn build_base(steps: &mut Steps) -> Result<()> {
    let inputs = format!("{:016x}", hashed(&(SOURCES, MIRROR)));
    if is_fresh(BASE, &inputs)? {
        return Ok(());
    }
    steps.run(&format!("image {BASE}"), || {
        let directory = cache()?.join(format!("base-{}", std::process::id()));
        let made = make_base(&directory, &inputs);
        fs::remove_dir_all(&directory).with_context(|| directory.display().to_string())?;
        made
    })
}

fn make_base(directory: &Path, inputs: &str) -> Result<()> {
    let tree = directory.join("tree");
    fs::create_dir_all(&tree)?;
    let log = directory.join("log");
    let mut debootstrap = Command::new("debootstrap");
    debootstrap.args(["--variant=minbase", "bookworm"]).arg(&tree).arg(MIRROR);
    run(debootstrap.stdout(fs::File::create(log)?))?;
    fs::write(tree.join("etc/apt/sources.list"), SOURCES)?;
    for emptied in
        ["var/cache/apt/archives", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale"]
    {
        fs::remove_dir_all(tree.join(emptied)).with_context(|| emptied.to_owned())?;
        fs::create_dir_all(tree.join(emptied))?;
    }
    run(Command::new("tar")
        .args(["--numeric-owner", "-cf"])
        .arg(directory.join("base.tar"))
        .arg("-C")
        .arg(tree)
        .arg("."))?;
    let dockerfile = directory.join("Dockerfile");
    fs::write(&dockerfile, "FROM scratch\nADD base.tar /\nCMD [\"bash\"]\n")?;
    build_image(BASE, inputs, &dockerfile, directory, None)
}

fn build_image(
    name: &str,
    inputs: &str,
    dockerfile: &Path,
    context: &Path,
    target: Option<&str>,
) -> Result<()> {
    let mut command = buildah()?;
    command.args(["build", "--isolation=chroot", "--network=host", "--pull=never"]);
    command.arg(format!("--label={LABEL}={inputs}")).args(["--tag", name]).arg("--file").arg(dockerfile);
    command.args(target.map(|target| format!("--target={target}")));
    run(command.arg(context))
}

fn is_fresh(name: &str, inputs: &str) -> Result<bool> {
    let format = format!("--format={{{{index .OCIv1.Config.Labels \"{LABEL}\"}}}}");
    let mut command = buildah()?;
    let answer = command.args(["inspect", "--type=image", &format, name]).stderr(Stdio::null()).output()?;
    Ok(answer.status.success() && String::from_utf8_lossy(&answer.stdout).trim() == inputs)
}

fn push(name: &str, registry: &str) -> Result<()> {
    let (_, path) = name.split_once('/').with_context(|| format!("{name} names no registry"))?;
    let mut command = buildah()?;
    command.args(["push", "--quiet", "--tls-verify=false", "--disable-compression", name]);
    output(command.arg(format!("docker://{registry}/{path}"))).map(drop)
}

/// `9.18.49`, as the image's own named says.
fn named_version(image: &str) -> Result<String> {
    let container = output(buildah()?.args(["from", "--pull=never", image]))?;
    let container = container.trim();
    // What `buildah run` prints is sometimes lost.
    let tree = output(buildah()?.args(["mount", container]))?;
    let said = output(Command::new("chroot").arg(tree.trim()).args(["/usr/sbin/named", "-v"]));
    output(buildah()?.args(["rm", container]))?;
    let said = said?;
    let version = said.split_whitespace().nth(1).and_then(|version| version.split('-').next());
    version.map(str::to_owned).with_context(|| format!("no version in {said:?}"))
}

/// All names of the image that has this one.
fn names_of(name: &str) -> Result<Vec<String>> {
    let images: Value = serde_json::from_str(&output(buildah()?.args(["images", "--json"]))?)?;
    let names = |image: &Value| -> Option<Vec<String>> {
        image.get("names")?.as_array()?.iter().map(|name| name.as_str().map(str::to_owned)).collect()
    };
    let mut all = images.as_array().into_iter().flatten().filter_map(names);
    all.find(|names| names.iter().any(|one| one == name)).with_context(|| format!("{name} was not built"))
}

fn buildah() -> Result<Command> {
    let cache = cache()?;
    let mut command = Command::new("buildah");
    command.arg("--storage-driver=overlay").arg("--root").arg(cache.join("images"));
    command.arg("--runroot").arg(cache.join("images-run"));
    Ok(command)
}

fn digest(files: &[&PathBuf]) -> Result<String> {
    let read = |file: &&PathBuf| fs::read(file).with_context(|| file.display().to_string());
    let contents = files.iter().map(read).collect::<Result<Vec<_>>>()?;
    Ok(format!("{:016x}", hashed(&contents)))
}

fn hashed(inputs: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    inputs.hash(&mut hasher);
    hasher.finish()
}
