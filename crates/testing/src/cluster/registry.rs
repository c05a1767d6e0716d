//! The registry of the cluster, which has the images of the project under the names of their own.

use anyhow::{Context, Result, ensure};

use super::Cluster;
use crate::http;

impl Cluster {
    /// Gives an image another tag: the same image as a version that the cluster does not know. Example of a repository:
    /// `firestoned/bindy`.
    pub async fn tag_image(&self, repository: &str, from: &str, to: &str) -> Result<()> {
        let registry = self.description().registry;
        let accept = "Accept: application/vnd.docker.distribution.manifest.v2+json, \
                      application/vnd.oci.image.manifest.v1+json";
        let line = |verb: &str, tag: &str| format!("{verb} /v2/{repository}/manifests/{tag} HTTP/1.1");
        let answer = http::exchange(registry, &line("GET", from), &[accept], &[]).await?;
        let end = answer.windows(4).position(|octets| octets == b"\r\n\r\n").context("half an answer")?;
        let (head, manifest) = answer.split_at(end + 4);
        let head = String::from_utf8_lossy(head);
        let kind = head.lines().find(|line| line.to_lowercase().starts_with("content-type:"));
        let kind =
            kind.filter(|_| head.contains(" 200 ")).with_context(|| format!("{repository}: {head}"))?;
        let answer = http::exchange(registry, &line("PUT", to), &[kind], manifest).await?;
        let answer = String::from_utf8_lossy(&answer);
        ensure!(answer.contains(" 201 "), "{repository}:{to}: {answer}");
        Ok(())
    }
}
