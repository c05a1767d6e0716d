//! What a server logs.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use super::*;

/// The first lines of a named that is started as its container is, with this statement in its configuration.
fn lines(logging: &str) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("named.conf");
    let text = format!(
        "options {{ directory \"{}\"; pid-file none; session-keyfile none; recursion no; \
         listen-on {{ none; }}; listen-on-v6 {{ none; }}; }};\ncontrols {{ }};\n{logging}",
        directory.path().display()
    );
    std::fs::write(&config, text).unwrap();
    let plain = objects(|_| ());
    let command: Vec<&str> =
        pod(&plain)["containers"][0]["command"].as_array().unwrap().iter().flat_map(Value::as_str).collect();
    let [program, options @ .., _] = &command[..] else { panic!("{command:?}") };
    let mut named = Command::new(program).args(options).arg(&config).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = Vec::new();
    for line in BufReader::new(named.stderr.take().unwrap()).lines() {
        let line = line.unwrap();
        let last = line.ends_with(" running") || line.contains("exiting");
        lines.push(line);
        if last {
            break;
        }
    }
    named.kill().unwrap();
    named.wait().unwrap();
    lines
}

#[test]
fn a_server_logs_to_its_container_what_its_configuration_says() {
    let statement = |severity| {
        format!(
            "logging {{ channel console {{ stderr; severity {severity}; print-severity yes; }}; category default {{ console; }}; }};"
        )
    };
    let debug = |lines: &[String]| lines.iter().any(|line| line.contains("debug 1: "));
    let (quiet, chatty) = (lines(&statement("info")), lines(&statement("debug 3")));
    assert!(!debug(&quiet), "{quiet:#?}");
    assert!(debug(&chatty), "{chatty:#?}");
}

#[test]
fn a_server_that_cannot_read_its_configuration_says_so_to_its_container() {
    let lines = lines("nonsense;");
    assert!(lines.iter().any(|line| line.contains("unknown option 'nonsense'")), "{lines:#?}");
}
