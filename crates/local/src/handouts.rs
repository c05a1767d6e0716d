//! What downstreams outside of Bindy are given: `downstreams/NAMESPACE.INSTANCE.NAME/` with the files to include in their
//! named.conf, for this user only.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use bindy_engine::{HandoutError, InstanceKeys};
use bindy_model::{Fleet, Instance};
use bindy_wire::MasterKeys;

use crate::runner::{Others, make_private, replace};

/// Why nothing is handed out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// There is nothing to hand out.
    #[error("spec.downstreams: {0}")]
    Handout(#[from] HandoutError),
    /// A file cannot be written.
    #[error("spec.downstreams: {0}: {1}")]
    File(PathBuf, #[source] io::Error),
}

/// Writes the files of an instance's downstreams; returns their directories.
pub(crate) fn write(
    state: &Path,
    instance: &Instance,
    fleet: &Fleet,
    master: &MasterKeys,
) -> Result<Vec<PathBuf>, Error> {
    if instance.downstreams.is_empty() {
        return Ok(Vec::new());
    }
    let key = &instance.metadata.key;
    let keys = InstanceKeys::new(key, fleet, master).map_err(HandoutError::from)?;
    let mut directories = Vec::new();
    for handout in keys.handouts(instance, master)? {
        let directory = root(state).join(format!("{}.{}.{}", key.namespace, key.name, handout.downstream));
        make_private(&directory).map_err(|error| Error::File(directory.clone(), error))?;
        for (file, text) in &handout.files {
            let path = directory.join(file);
            replace(&path, text).map_err(|error| Error::File(path, error))?;
        }
        directories.push(directory);
    }
    Ok(directories)
}

/// Removes what was written for downstreams that are not wanted any more.
pub(crate) fn sweep(state: &Path, wanted: &BTreeSet<PathBuf>, others: Others) {
    if others == Others::Leave {
        return;
    }
    for entry in std::fs::read_dir(root(state)).into_iter().flatten().flatten() {
        let path = entry.path();
        if !wanted.contains(&path)
            && let Err(error) = std::fs::remove_dir_all(&path)
        {
            tracing::warn!(directory = %path.display(), %error, "cannot be removed");
        }
    }
}

fn root(state: &Path) -> PathBuf {
    state.join("downstreams")
}
