//! buildah with a storage of its own, outside the checkout. An image is stored as `localhost/NAME:INPUTS`, INPUTS being
//! the digest of what it is built from: it is fresh if it is there, and checkouts do not take each other's images.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::cluster::cache;
use crate::steps::{output, run};

/// How many images of one name are kept: more than there are checkouts that take turns.
const KEPT: usize = 8;

/// An image in the storage.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    repository: String,
    inputs: String,
}

/// What it is built from.
pub(crate) struct Recipe<'a> {
    pub(crate) dockerfile: &'a Path,
    pub(crate) context: &'a Path,
    /// A stage to stop at.
    pub(crate) target: Option<&'a str>,
    /// `NAME=VALUE` of one of its arguments that is not the default.
    pub(crate) argument: Option<&'a str>,
}

impl Image {
    pub(crate) fn new(name: &str, inputs: &impl Hash) -> Self {
        let mut hasher = DefaultHasher::new();
        inputs.hash(&mut hasher);
        Self { repository: format!("localhost/{name}"), inputs: format!("{:016x}", hasher.finish()) }
    }

    /// Changes when the image does.
    pub(crate) fn inputs(&self) -> &str {
        &self.inputs
    }

    fn stored(&self) -> String {
        format!("{}:{}", self.repository, self.inputs)
    }

    pub(crate) fn is_built(&self) -> Result<bool> {
        let mut command = buildah()?;
        command.args(["inspect", "--type=image"]).arg(self.stored());
        Ok(command.stdout(Stdio::null()).stderr(Stdio::null()).status()?.success())
    }

    pub(crate) fn build(&self, recipe: &Recipe<'_>) -> Result<()> {
        let mut command = buildah()?;
        command.args(["build", "--isolation=chroot", "--network=host", "--pull=never"]);
        command.arg("--tag").arg(self.stored()).arg("--file").arg(recipe.dockerfile);
        command.args(recipe.target.map(|target| format!("--target={target}")));
        command.args(recipe.argument.map(|argument| format!("--build-arg={argument}")));
        run(command.arg(recipe.context))?;
        self.forget_old()
    }

    /// Gives it the name by which Dockerfiles refer to it.
    pub(crate) fn tag(&self, name: &str) -> Result<()> {
        output(buildah()?.arg("tag").arg(self.stored()).arg(name)).map(drop)
    }

    /// Brings it to a registry: `ghcr.io/a/b:c` is `a/b:c` there.
    pub(crate) fn push(&self, name: &str, registry: &str) -> Result<()> {
        let (_, path) = name.split_once('/').with_context(|| format!("{name} names no registry"))?;
        let mut command = buildah()?;
        command.args(["push", "--quiet", "--tls-verify=false", "--disable-compression"]).arg(self.stored());
        output(command.arg(format!("docker://{registry}/{path}"))).map(drop)
    }

    /// What one of its programs prints. `buildah run` would lose it sometimes.
    pub(crate) fn output(&self, command: &[&str]) -> Result<String> {
        let container = output(buildah()?.args(["from", "--pull=never"]).arg(self.stored()))?;
        let container = container.trim();
        let tree = output(buildah()?.args(["mount", container]))?;
        let said = output(Command::new("chroot").arg(tree.trim()).args(command));
        output(buildah()?.args(["rm", container]))?;
        said
    }

    /// Removes all but the newest of the same name.
    fn forget_old(&self) -> Result<()> {
        let listed: Value = serde_json::from_str(&output(buildah()?.args(["images", "--json"]))?)?;
        for name in superseded(&listed, &format!("{}:", self.repository)) {
            output(buildah()?.args(["rmi", name]))?;
        }
        Ok(())
    }
}

/// The names that begin like this, but for those of the newest images.
fn superseded<'a>(listed: &'a Value, beginning: &str) -> Vec<&'a str> {
    let name_of = |image: &'a Value| {
        let mut names = image.get("names")?.as_array()?.iter().filter_map(Value::as_str);
        Some((image.get("created")?.as_i64()?, names.find(|name| name.starts_with(beginning))?))
    };
    let mut names: Vec<_> = listed.as_array().into_iter().flatten().filter_map(name_of).collect();
    names.sort_unstable();
    names.into_iter().rev().skip(KEPT).map(|(_, name)| name).collect()
}

/// The contents of files, to be hashed.
pub(crate) fn contents(files: &[PathBuf]) -> Result<Vec<Vec<u8>>> {
    files.iter().map(|file| fs::read(file).with_context(|| file.display().to_string())).collect()
}

fn buildah() -> Result<Command> {
    let cache = cache()?;
    let mut command = Command::new("buildah");
    command.arg("--storage-driver=overlay").arg("--root").arg(cache.join("images"));
    command.arg("--runroot").arg(cache.join("images-run"));
    Ok(command)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_old_images_of_the_same_name_are_superseded() {
        let image = |name: &str, created: usize| json!({"names": [name], "created": created});
        let mut listed: Vec<Value> =
            (0..=KEPT).map(|age| image(&format!("localhost/a:{age}"), 100 - age)).collect();
        listed.push(image("localhost/ab:1", 1));
        listed.push(json!({"names": null, "created": 2}));
        let listed = Value::from(listed);
        assert_eq!(superseded(&listed, "localhost/a:"), [format!("localhost/a:{KEPT}")]);
        assert!(superseded(&listed, "localhost/ab:").is_empty());
    }
}
