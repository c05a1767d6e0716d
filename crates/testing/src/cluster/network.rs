//! Work within another network namespace: of a node, where Services have addresses, or of a pod.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Context, Result};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::sync::oneshot;

/// Runs `work` on a thread of its own that has entered the network namespace; sockets that it makes are there.
pub async fn within<T, F>(namespace: &Path, work: impl FnOnce() -> F + Send + 'static) -> Result<T>
where
    T: Send + 'static,
    F: Future<Output = Result<T>>,
{
    let file = File::open(namespace).with_context(|| namespace.display().to_string())?;
    let (done, result) = oneshot::channel();
    std::thread::spawn(move || {
        let run = || {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                .context("cannot enter the network namespace (root only)")?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(work())
        };
        // Nobody waits any longer when the test has ended.
        let _ = done.send(run());
    });
    result.await.context("the work in the network namespace panicked")?
}
