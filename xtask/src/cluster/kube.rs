//! The binary of `tools/kube`: built once for a version and its sources, kept outside the checkout.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::steps::{Beside, Steps, output, root, run};

/// The binary, whether or not it is there already.
struct Binary {
    sources: PathBuf,
    version: String,
    directory: PathBuf,
}

impl Binary {
    fn find() -> Result<Self> {
        let sources = root().join("tools/kube");
        let version = version(&fs::read_to_string(sources.join("go.mod"))?)?;
        let directory = cache()?.join(format!("kube-{version}-{:016x}", digest(&sources)?));
        Ok(Self { sources, version, directory })
    }

    fn path(&self) -> PathBuf {
        self.directory.join("kube")
    }

    /// Where the linker writes it.
    fn next(&self) -> PathBuf {
        self.directory.join("kube.next")
    }

    /// It is whole: nobody sees a half of it.
    fn keep(&self) -> Result<()> {
        Ok(fs::rename(self.next(), self.path())?)
    }
}

/// An error if the binary is not there and cannot be built.
pub(crate) fn can_be_built() -> Result<()> {
    if Binary::find()?.path().exists() { Ok(()) } else { has_go() }
}

/// The path of the binary, after building it if need be.
pub(crate) fn ensure(steps: &mut Steps) -> Result<PathBuf> {
    let binary = Binary::find()?;
    if !binary.path().exists() {
        steps.run(
            &format!("build Kubernetes {}, once on this machine, some minutes", binary.version),
            || build(&binary),
        )?;
    }
    Ok(binary.path())
}

/// The compiler while other steps run.
pub(crate) struct Build {
    binary: Binary,
    compiler: Beside,
}

impl Build {
    /// Begins where the binary is not there yet. The compiler has what is left of processor and network.
    pub(crate) fn begin() -> Result<Option<Self>> {
        let binary = Binary::find()?;
        if binary.path().exists() {
            return Ok(None);
        }
        let compiler = Beside::start("Kubernetes", &compile(&binary)?)?;
        Ok(Some(Self { binary, compiler }))
    }

    /// Waits for its end. If it failed, whoever needs the binary compiles it again and says why.
    pub(crate) fn end(self, steps: &mut Steps) -> Result<()> {
        if self.compiler.end(steps)?.success() { self.binary.keep() } else { Ok(()) }
    }
}

/// `$XDG_CACHE_HOME/bindy` or `~/.cache/bindy`: what is expensive to make and the same for every checkout.
pub(crate) fn cache() -> Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    Ok(base.context("neither XDG_CACHE_HOME nor HOME is set")?.join("bindy"))
}

fn has_go() -> Result<()> {
    let go = output(Command::new("go").arg("version"));
    go.map(drop).context("Go 1.24 or newer is needed to build Kubernetes: https://go.dev/dl")
}

fn build(binary: &Binary) -> Result<()> {
    run(&mut compile(binary)?)?;
    binary.keep()
}

fn compile(binary: &Binary) -> Result<Command> {
    has_go()?;
    fs::create_dir_all(&binary.directory)?;
    let mut command = Command::new("go");
    command.args(["build", "-trimpath", "-mod=readonly", "-ldflags", &linker_flags(&binary.version)]);
    // A fifth less work for 2 800 small packages: no debugging information, which the linker would leave out; one thread for each
    // package, since packages are compiled side by side; and fewer collections of garbage.
    command.args(["-gcflags", "all=-dwarf=false -c=1"]).env("GOGC", "400");
    command.arg("-o").arg(binary.next()).arg(".").current_dir(&binary.sources);
    Ok(command)
}

/// Without them `kubectl version` tells a wrong one.
fn linker_flags(version: &str) -> String {
    let mut numbers = version.trim_start_matches('v').split('.');
    let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    let package = "k8s.io/component-base/version";
    format!(
        "-s -w -X {package}.gitVersion={version} -X {package}.gitMajor={major} -X {package}.gitMinor={minor} \
         -X {package}.gitTreeState=clean"
    )
}

fn version(module: &str) -> Result<String> {
    let required = module.lines().find_map(|line| line.trim().strip_prefix("k8s.io/kubernetes "));
    let version = required.context("tools/kube/go.mod does not require k8s.io/kubernetes")?;
    ensure!(version.starts_with('v'), "tools/kube/go.mod requires Kubernetes {version:?}");
    Ok(version.to_owned())
}

fn digest(sources: &Path) -> Result<u64> {
    let mut hasher = DefaultHasher::new();
    for file in ["go.mod", "go.sum", "main.go"] {
        fs::read(sources.join(file)).with_context(|| format!("tools/kube/{file}"))?.hash(&mut hasher);
    }
    Ok(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_that_of_the_committed_module() {
        let module = fs::read_to_string(root().join("tools/kube/go.mod")).unwrap();
        let version = version(&module).unwrap();
        assert!(linker_flags(&version).contains(&format!("gitVersion={version} ")));
        assert!(module.contains(&format!("k8s.io/client-go => k8s.io/client-go v0{}", &version[2..])));
    }
}
