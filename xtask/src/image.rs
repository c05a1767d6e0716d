//! Container images without a container engine: buildah builds the Dockerfiles of `images/`.
//!
//! ```text
//!   debootstrap ─► debian:bookworm-slim ─► images/bind9  ─► ghcr.io/firestoned/bindy-bind9:9.18, :9.18.x, :9.20, :9.20.x
//!   cargo       ─► static bindy         ─► images/bindy  ─► ghcr.io/firestoned/bindy:latest, :version
//!   rustc       ─► static pause         ─► images/pause  ─► registry.k8s.io/pause
//! ```
//!
//! The base image is made here under the name that the Dockerfile has, so nothing comes from a registry of images.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::buildah::{Image, Recipe, contents};
use crate::cluster::cache;
use crate::prerequisites;
use crate::steps::{Beside, Steps, cargo, output, programs, root, run};

const BINDY: &str = "ghcr.io/firestoned/bindy";
const BIND9: &str = "ghcr.io/firestoned/bindy-bind9";
/// Releases of BIND, and the argument by which the Dockerfile installs each.
const BIND9_RELEASES: [(&str, Option<&str>); 2] =
    [("9.18", None), ("9.20", Some("TARGET_RELEASE=bookworm-backports"))];
const BASE: &str = "docker.io/library/debian:bookworm-slim";
/// The image of every pod's first container.
pub(crate) const PAUSE: &str = "registry.k8s.io/pause:3.10";
/// Where packages of the base image, and of images made from it, come from.
const MIRROR: &str = "http://deb.debian.org/debian";
const SOURCES: &str = "\
deb http://deb.debian.org/debian bookworm main
deb http://deb.debian.org/debian bookworm-updates main
deb http://deb.debian.org/debian-security bookworm-security main
";
/// Where its files are put together, followed by the ID of the process that does it.
const BASE_TREES: &str = "base-";
/// What Debian's slim images do without.
const EMPTIED: [&str; 5] =
    ["var/cache/apt/archives", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale"];
/// Cargo's, of the program in Bindy's image.
const PROFILE: &str = "image";
/// For images without a C library.
const STATIC: &str = "-Ctarget-feature=+crt-static";

/// An image that is built, and the names it has for users.
pub(crate) struct Named {
    image: Image,
    names: Vec<String>,
}

impl Named {
    pub(crate) fn push(&self, registry: &str) -> Result<()> {
        self.names.iter().try_for_each(|name| self.image.push(name, registry))
    }
}

/// Bindy's images; what is stale is built.
pub(crate) fn all(steps: &mut Steps) -> Result<Vec<Named>> {
    let mut all = bind9(steps)?;
    all.push(bindy(steps)?);
    Ok(all)
}

/// The image that does nothing; built if it is stale.
pub(crate) fn pause(steps: &mut Steps) -> Result<Named> {
    let context = root().join("images/pause");
    let dockerfile = context.join("Dockerfile");
    let source = context.join("pause.rs");
    let image = Image::new("pause", &contents(&[source.clone(), dockerfile.clone()])?);
    if !image.is_built()? {
        steps.run(&format!("image {PAUSE}"), || {
            let directory = cache()?.join("pause");
            fs::create_dir_all(&directory)?;
            let mut rustc = Command::new("rustc");
            rustc.args([STATIC, "-Cpanic=abort", "-Copt-level=s", "-Cstrip=symbols", "-o"]);
            run(rustc.arg(directory.join("pause")).arg(source))?;
            image.build(&Recipe {
                dockerfile: &dockerfile,
                context: &directory,
                target: None,
                argument: None,
            })
        })?;
    }
    Ok(Named { image, names: vec![PAUSE.to_owned()] })
}

/// Compiles the binary of Bindy's image while other steps run. If it fails, the step that needs the binary says why.
pub(crate) fn begin() -> Result<Beside> {
    Beside::start("bindy for its image", &compile())
}

fn compile() -> Command {
    cargo(&["build", "--quiet", "--profile", PROFILE, "--package", "bindy"])
}

fn prepare(steps: &mut Steps) -> Result<()> {
    prerequisites::install(steps, &prerequisites::IMAGES)?;
    prerequisites::require_root("building images")
}

fn bindy(steps: &mut Steps) -> Result<Named> {
    prepare(steps)?;
    steps.command("build bindy for its image", &mut compile())?;
    let directory = programs(PROFILE)?;
    let dockerfile = root().join("images/bindy/Dockerfile");
    let image = Image::new("bindy", &contents(&[directory.join("bindy"), dockerfile.clone()])?);
    if !image.is_built()? {
        let recipe =
            Recipe { dockerfile: &dockerfile, context: &directory, target: Some("prebuilt"), argument: None };
        steps.run(&format!("image {BINDY}"), || image.build(&recipe))?;
    }
    let tags = ["latest", env!("CARGO_PKG_VERSION")];
    Ok(Named { image, names: tags.map(bindy_named).to_vec() })
}

/// Bindy's image by its tag.
pub(crate) fn bindy_named(tag: &str) -> String {
    format!("{BINDY}:{tag}")
}

/// BIND's images, one of each release; what is stale is built.
pub(crate) fn bind9(steps: &mut Steps) -> Result<Vec<Named>> {
    prepare(steps)?;
    let base = base(steps)?;
    let context = root().join("images/bind9");
    let dockerfile = context.join("Dockerfile");
    let inputs = (base.inputs(), contents(std::slice::from_ref(&dockerfile))?);
    let mut images = Vec::new();
    for (release, argument) in BIND9_RELEASES {
        let image = Image::new(&format!("bind9-{release}"), &(&inputs, argument));
        if !image.is_built()? {
            let recipe = Recipe { dockerfile: &dockerfile, context: &context, target: None, argument };
            steps.run(&format!("image {BIND9}:{release}"), || image.build(&recipe))?;
        }
        let said = image.output(&["/usr/sbin/named", "-v"])?;
        let exact = version_of_named(&said).with_context(|| format!("no version in {said:?}"))?;
        images.push(Named { image, names: [release, exact].map(|tag| format!("{BIND9}:{tag}")).to_vec() });
    }
    Ok(images)
}

/// `BIND 9.18.49-1~deb12u3-Debian (Extended …` → `9.18.49`
fn version_of_named(said: &str) -> Option<&str> {
    said.split_whitespace().nth(1)?.split('-').next()
}

/// A stand-in for the base image of the same name, from the packages it is made of.
fn base(steps: &mut Steps) -> Result<Image> {
    let image = Image::new("debian", &(SOURCES, MIRROR, EMPTIED));
    if !image.is_built()? {
        steps.run(&format!("image {BASE}"), || {
            remove_abandoned(&cache()?)?;
            let directory = cache()?.join(format!("{BASE_TREES}{}", std::process::id()));
            let made = make_base(&directory, &image);
            fs::remove_dir_all(&directory).with_context(|| directory.display().to_string())?;
            made
        })?;
    }
    image.tag(BASE)?;
    Ok(image)
}

/// Trees of runs that were killed.
fn remove_abandoned(cache: &Path) -> Result<()> {
    for entry in fs::read_dir(cache)?.flatten() {
        let name = entry.file_name();
        let process = name.to_str().and_then(|name| name.strip_prefix(BASE_TREES));
        if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

fn make_base(directory: &Path, image: &Image) -> Result<()> {
    let tree = directory.join("tree");
    fs::create_dir_all(&tree)?;
    let mut debootstrap = Command::new("debootstrap");
    debootstrap.args(["--variant=minbase", "bookworm"]).arg(&tree).arg(MIRROR);
    output(&mut debootstrap)?;
    fs::write(tree.join("etc/apt/sources.list"), SOURCES)?;
    for emptied in EMPTIED {
        fs::remove_dir_all(tree.join(emptied)).with_context(|| emptied.to_owned())?;
        fs::create_dir_all(tree.join(emptied))?;
    }
    let mut tar = Command::new("tar");
    tar.args(["--numeric-owner", "-cf"]).arg(directory.join("base.tar"));
    run(tar.arg("-C").arg(tree).arg("."))?;
    let dockerfile = directory.join("Dockerfile");
    fs::write(&dockerfile, "FROM scratch\nADD base.tar /\nCMD [\"bash\"]\n")?;
    image.build(&Recipe { dockerfile: &dockerfile, context: directory, target: None, argument: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_named_is_read_without_that_of_the_package() {
        let said = "BIND 9.18.49-1~deb12u3-Debian (Extended Support Version) <id:>\n";
        assert_eq!(version_of_named(said), Some("9.18.49"));
        assert_eq!(version_of_named("BIND 9.20.1 (Stable Release) <id:0>"), Some("9.20.1"));
        assert_eq!(version_of_named(""), None);
    }

    #[test]
    fn the_install_manifest_names_the_image_that_is_built_of_its_version() {
        let manifest = fs::read_to_string(root().join("deploy/install.yaml")).unwrap();
        let image = manifest.lines().find_map(|line| line.trim().strip_prefix("image: ")).unwrap();
        assert_eq!(image, bindy_named(env!("CARGO_PKG_VERSION")));
    }

    #[test]
    fn dockerfiles_start_from_the_image_that_is_made_here() {
        let dockerfile = fs::read_to_string(root().join("images/bind9/Dockerfile")).unwrap();
        let from = dockerfile.lines().find_map(|line| line.strip_prefix("FROM ")).unwrap();
        assert_eq!(format!("docker.io/library/{from}"), BASE);
    }
}
