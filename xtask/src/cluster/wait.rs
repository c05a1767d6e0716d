//! Waiting with a limit. What was waited for, and the end of the log concerned, are in the error.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Error, Result, anyhow, bail};

const LOOK: Duration = Duration::from_millis(50);
const TAIL: usize = 15;

/// What is waited for.
pub(crate) struct Wait<'a> {
    pub(crate) what: &'a str,
    pub(crate) limit: Duration,
    /// Where the reason is to be found when it does not come.
    pub(crate) log: Option<&'a Path>,
}

impl Wait<'_> {
    /// Asks until the answer is good. The last bad answer is part of the error.
    pub(crate) fn until<T>(&self, mut ask: impl FnMut() -> Result<T>) -> Result<T> {
        let begun = Instant::now();
        loop {
            match ask() {
                Ok(answer) => return Ok(answer),
                Err(error) if begun.elapsed() > self.limit => {
                    let seconds = self.limit.as_secs();
                    bail!("waited {seconds} s for {}: {error:#}{}", self.what, self.shown_log());
                }
                Err(error) if error.is::<Hopeless>() => {
                    bail!("waited for {}: {error:#}{}", self.what, self.shown_log());
                }
                Err(_) => std::thread::sleep(LOOK),
            }
        }
    }

    fn shown_log(&self) -> String {
        self.log.map(shown_tail).unwrap_or_default()
    }
}

/// An answer that no patience changes.
#[derive(Debug)]
pub(crate) struct Hopeless(String);

impl Hopeless {
    pub(crate) fn because(reason: String) -> Error {
        anyhow!(Self(reason))
    }
}

impl std::fmt::Display for Hopeless {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for Hopeless {}

/// The last lines of a log, for an error message.
fn shown_tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let tail = lines.get(lines.len().saturating_sub(TAIL)..).unwrap_or_default();
    format!("\nthe end of {}:\n  {}", log.display(), tail.join("\n  "))
}

#[cfg(test)]
mod tests {
    use anyhow::ensure;

    use super::*;

    #[test]
    fn a_good_answer_ends_the_waiting() {
        let wait = Wait { what: "three", limit: Duration::from_secs(5), log: None };
        let mut asked = 0;
        let answer = wait.until(|| {
            asked += 1;
            ensure!(asked == 3, "not yet");
            Ok(asked)
        });
        assert_eq!(answer.unwrap(), 3);
    }

    #[test]
    fn the_error_names_what_was_missing_the_last_answer_and_the_log() {
        let log = std::env::temp_dir().join(format!("bindy-wait-{}", std::process::id()));
        std::fs::write(&log, "first\nthe reason\n").unwrap();
        let wait = Wait { what: "the moon", limit: Duration::ZERO, log: Some(&log) };
        let error = wait.until(|| Err::<(), _>(anyhow!("cloudy"))).unwrap_err().to_string();
        std::fs::remove_file(&log).unwrap();
        for part in ["the moon", "cloudy", "the reason"] {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn what_cannot_come_is_not_waited_for() {
        let wait = Wait { what: "a reply", limit: Duration::from_secs(3600), log: None };
        let error = wait.until(|| Err::<(), _>(Hopeless::because("it is dead".to_owned()))).unwrap_err();
        assert!(error.to_string().contains("it is dead"));
    }
}
