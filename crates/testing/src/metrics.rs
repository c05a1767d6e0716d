//! The names of metrics: in the text of `/metrics`, in the documentation, in the alerts.

use std::path::Path;

use anyhow::{Result, ensure};

/// The names in the text of `/metrics`, as Prometheus has them: those of counters end with `_total`.
pub fn names(text: &str) -> Vec<String> {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let name =
        |(name, kind): (&str, &str)| format!("{name}{}", if kind == "counter" { "_total" } else { "" });
    types.map(name).collect()
}

/// Whether that page, a path from the root of the repository, has every name in backquotes, alone or with labels.
pub fn are_documented(names: &[String], page: &str) -> Result<()> {
    let text = file(page)?;
    let lacks =
        |name: &&String| !text.contains(&format!("`{name}`")) && !text.contains(&format!("`{name}{{"));
    let lacking: Vec<&String> = names.iter().filter(lacks).collect();
    ensure!(lacking.is_empty(), "{page} lacks {lacking:?}");
    Ok(())
}

/// Whether the alerts ask for some of the metrics that are `own`, and for none that has another name than these.
pub fn are_those_of_alerts(names: &[String], own: impl Fn(&str) -> bool) -> Result<()> {
    let text = file("deploy/alerts.yaml")?;
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let asked: Vec<&str> = words.filter(|word| own(word)).collect();
    let unknown: Vec<&&str> = asked.iter().filter(|word| !names.iter().any(|name| name == **word)).collect();
    ensure!(!asked.is_empty() && unknown.is_empty(), "of {asked:?}, {unknown:?} are none of {names:?}");
    Ok(())
}

fn file(path: &str) -> Result<String> {
    Ok(std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_prometheus_and_unknown_ones_are_found() {
        let text =
            "# TYPE bindy_agent_ready gauge\nbindy_agent_ready 1\n# TYPE bindy_agent_relayed counter\n";
        assert_eq!(names(text), ["bindy_agent_ready", "bindy_agent_relayed_total"]);
        are_documented(&names(text), "docs/agent.md").unwrap();
        let invented = ["bindy_agent_nothing".to_owned()];
        assert!(are_documented(&invented, "docs/agent.md").is_err());
        assert!(are_those_of_alerts(&invented, |word| word.starts_with("bindy_agent_")).is_err());
        assert!(are_those_of_alerts(&[], |word| word == "no_alert_asks_for_this").is_err());
    }
}
