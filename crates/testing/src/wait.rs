//! The one way in which tests wait: with a limit, and saying what for.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

/// Calls `attempt` again until it gives a value. Its error says why it is not so yet; the last one is part of what
/// this returns when the limit has passed.
pub async fn wait_for<T, E: std::fmt::Display>(
    what: &str,
    limit: Duration,
    mut attempt: impl AsyncFnMut() -> Result<T, E>,
) -> Result<T> {
    let start = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        // An attempt of its own without end must not outlive the limit by much.
        let left = limit.saturating_sub(start.elapsed()).max(Duration::from_millis(200));
        let reason = match tokio::time::timeout(left, attempt()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(reason)) => format!("{reason:#}"),
            Err(_) => "the last attempt did not end".to_owned(),
        };
        if start.elapsed() >= limit {
            return Err(anyhow!("waited {limit:?} for {what}: {reason}"));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(25));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn limit_is_kept_and_explained() {
        let limit = Duration::from_millis(30);
        let error = wait_for("the end of the rainbow", limit, async || Err::<(), _>("too far")).await;
        let error = error.unwrap_err().to_string();
        assert!(error.contains("the end of the rainbow") && error.contains("too far"), "{error}");
    }

    #[tokio::test]
    async fn value_ends_the_wait() {
        let mut calls = 0;
        let value = wait_for("three calls", Duration::from_secs(5), async || {
            calls += 1;
            if calls == 3 { Ok(calls) } else { Err("not yet") }
        });
        assert_eq!(value.await.unwrap(), 3);
    }
}
