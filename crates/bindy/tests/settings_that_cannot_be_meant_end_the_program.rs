//! `bindy` says which rule its variables break, and does not begin.

use std::process::Command;

#[test]
fn levels_of_the_log_that_are_none_are_named() {
    for levels in ["inof", "bindy_engine=debgu", "bindy_engine=debug,inof"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bindy"));
        let output = command.arg("crds").env("BINDY_LOG", levels).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && output.stdout.is_empty(), "{levels}: {said}");
        assert!(said.contains("BINDY_LOG") && said.contains(&format!("and is {levels:?}")), "{said}");
    }
    for levels in ["", "warn", "bindy_engine=debug,info"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bindy"));
        assert!(command.arg("crds").env("BINDY_LOG", levels).output().unwrap().status.success(), "{levels}");
    }
}

#[test]
fn the_broken_rule_of_the_election_is_named_with_its_values() {
    let contradictions: [(&[(&str, &str)], &str); 6] = [
        (&[("LEASE_DURATION_SECONDS", "10")], "LEASE_DURATION_SECONDS (10s) must be longer than"),
        (&[("LEASE_RETRY_PERIOD_SECONDS", "9")], "LEASE_RENEW_DEADLINE_SECONDS (10s) must be longer than"),
        (&[("LEASE_DURATION_SECONDS", "soon")], "must be a whole number of seconds"),
        (&[("ENABLE_LEADER_ELECTION", "maybe")], "must be true or false"),
        (&[("POD_NAME", "")], "POD_NAME"),
        (&[("ENABLE_LEADER_ELECTION", "false"), ("LEASE_DURATION_SECONDS", "9")], "must be longer than"),
    ];
    for (variables, rule) in contradictions {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bindy"));
        command.arg("run").env_clear().env("POD_NAME", "one").envs(variables.iter().copied());
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(rule), "{variables:?}: {said}");
    }
}
