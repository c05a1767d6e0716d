//! `bindy check`: what `bindy up` would say of a directory, without running anything.

use std::path::Path;

use bindy_engine::Snapshot;
use bindy_model::{Core, Input, Now, ObjectEvent};

use crate::objects::Objects;
use crate::report::Files;
use crate::source::{Inventory, read_all};
use crate::status::Problem;

/// Why a directory cannot be checked.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The directory cannot be read.
    #[error("{0} cannot be read: {1}")]
    Unreadable(std::path::PathBuf, #[source] std::io::Error),
}

/// Every problem of every manifest, in the order of files and lines.
pub fn check(directory: &Path) -> Result<Vec<Problem>, CheckError> {
    let texts = read_all(directory).map_err(|error| CheckError::Unreadable(directory.to_owned(), error))?;
    let events = Inventory::default().update(texts);
    let mut files = Files::default();
    for event in &events {
        files.note(event);
    }
    let mut objects = Objects::new();
    let mut inputs: Vec<ObjectEvent> = events.into_iter().filter_map(|event| objects.event(event)).collect();
    inputs.push(ObjectEvent::Listed);
    let mut core = Core::new([]);
    core.step(Input::Objects(inputs), Now { monotonic: Default::default(), unix: 0 });
    Ok(files.problems(&Snapshot::of(&core)))
}
