//! `bindy check` on every kind of bad input: each gets one precise line, and nothing else does.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;

use bindy_local::status::Severity;

const HEAD: &str = "apiVersion: bindy.firestoned.io/v1beta1\n";

/// An instance, a zone and a good record, to which each test adds its mistake.
fn good() -> String {
    [
        "kind: Bind9Instance\nmetadata: {name: primary}\nspec: {replicas: 1}\n",
        "kind: DNSZone\nmetadata: {name: com}\nspec: {zoneName: example.com}\n",
        "kind: ARecord\nmetadata: {name: www}\nspec: {zoneRef: com, name: www, ipv4Addresses: [192.0.2.1]}\n",
    ]
    .map(|object| format!("{HEAD}{object}"))
    .join("---\n")
}

fn object(text: &str) -> String {
    format!("{HEAD}{text}")
}

/// The problems of a directory with the good objects in good.yaml and `bad` in bad.yaml, as lines.
fn problems(bad: &str) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("good.yaml"), good()).unwrap();
    fs::write(directory.path().join("bad.yaml"), bad).unwrap();
    bindy_local::check(directory.path()).unwrap().iter().map(ToString::to_string).collect()
}

fn only_problem(bad: &str) -> String {
    let mut problems = problems(bad);
    assert_eq!(problems.len(), 1, "{problems:#?}");
    problems.remove(0)
}

fn assert_says(problem: &str, parts: &[&str]) {
    for part in parts {
        assert!(problem.contains(part), "{part:?} is not in {problem:?}");
    }
}

#[test]
fn good_manifests_have_no_problems() {
    assert_eq!(problems("# nothing\n"), [""; 0]);
}

#[test]
fn an_invalid_address_is_shown_where_it_is_written() {
    let bad = object(
        "kind: ARecord\nmetadata: {name: a}\nspec:\n  zoneRef: com\n  name: a\n  ipv4Addresses:\n  - 192.0.2.300\n",
    );
    assert_says(
        &only_problem(&bad),
        &["bad.yaml:8:5: error: ARecord default/a", "192.0.2.300", "IPv4 address"],
    );
}

#[test]
fn a_misspelt_field_is_answered_with_the_right_one() {
    let bad = object(
        "kind: ARecord\nmetadata: {name: a}\nspec:\n  zoneRef: com\n  name: a\n  tll: 5\n  ipv4Addresses: [192.0.2.1]\n",
    );
    assert_says(&only_problem(&bad), &["bad.yaml:7:3: error", "spec.tll", "did you mean \"ttl\"?"]);
}

#[test]
fn a_number_where_a_text_belongs_is_to_be_quoted() {
    let bad = object("kind: TXTRecord\nmetadata: {name: a}\nspec: {zoneRef: com, name: a, text: [2024]}\n");
    assert_says(&only_problem(&bad), &["bad.yaml:4:38: error", "spec.text[0]", "quote"]);
}

#[test]
fn a_name_outside_of_its_zone_is_refused() {
    let bad = object(
        "kind: ARecord\nmetadata: {name: a}\nspec: {zoneRef: com, name: www.example.org., ipv4Addresses: [192.0.2.1]}\n",
    );
    assert_says(
        &only_problem(&bad),
        &["bad.yaml:1", "error: ARecord default/a", "outside of zone example.com"],
    );
}

#[test]
fn a_cname_beside_other_data_is_refused() {
    let bad = object(
        "kind: CNAMERecord\nmetadata: {name: z}\nspec: {zoneRef: com, name: www, target: a.example.org.}\n",
    );
    assert_says(&only_problem(&bad), &["bad.yaml:1", "cannot be served beside", "default/www"]);
}

#[test]
fn a_zone_name_is_given_once() {
    let bad = object("kind: DNSZone\nmetadata: {name: other}\nspec: {zoneName: Example.COM.}\n");
    assert_says(
        &only_problem(&bad),
        &["bad.yaml:1", "DNSZone default/other", "belongs to DNSZone default/com"],
    );
}

#[test]
fn references_to_nothing_are_named() {
    let record = object(
        "kind: ARecord\nmetadata: {name: a}\nspec: {zoneRef: nothing, name: a, ipv4Addresses: [192.0.2.1]}\n",
    );
    assert_says(&only_problem(&record), &["ARecord default/a", "nothing"]);
    let instance = object(
        "kind: Bind9Instance\nmetadata: {name: s}\nspec: {role: secondary, replicas: 1, upstreams: [{name: gone}]}\n",
    );
    assert_says(&only_problem(&instance), &["Bind9Instance default/s", "gone does not exist"]);
}

#[test]
fn a_primary_takes_no_upstreams_whatever_makes_it_one() {
    let made = |metadata: &str, spec: &str| {
        object(&format!(
            "kind: Bind9Instance\nmetadata: {{name: s, {metadata}}}\nspec: {{{spec}, replicas: 1, upstreams: [{{name: primary}}]}}\n"
        ))
    };
    for primary in [
        made("labels: {dns-role: primary}", "paused: false"),
        made("labels: {}", "paused: false"),
        made("labels: {dns-role: secondary}", "role: primary"),
    ] {
        assert_says(&only_problem(&primary), &["Bind9Instance default/s", "takes no upstreams"]);
    }
}

#[test]
fn downstreams_have_names_of_their_own() {
    let with = |downstreams: &str| {
        object(&format!(
            "kind: Bind9Instance\nmetadata: {{name: p}}\nspec: {{replicas: 1, downstreams: [{downstreams}]}}\n"
        ))
    };
    assert_says(&only_problem(&with("{name: vm}, {name: vm}")), &["Bind9Instance default/p", "vm", "twice"]);
    assert_says(&only_problem(&with("{name: 'a.b'}")), &["Bind9Instance default/p", "a.b"]);
}

#[test]
fn an_upstream_outside_is_complete_or_refused_with_what_is_wrong() {
    let with = |upstream: &str| {
        object(&format!(
            "kind: Bind9Instance\nmetadata: {{name: s}}\nspec: {{role: secondary, replicas: 1, upstreams: [{{name: hq, {upstream}}}]}}\n"
        ))
    };
    let said = |upstream: &str, told: &str| {
        assert_says(&only_problem(&with(upstream)), &["default/s", "spec.upstreams", told]);
    };
    said("address: 192.0.2.1", "keyName");
    said("keyName: k, keySecret: k, zones: [a.example]", "address");
    said("address: nowhere, keyName: k, keySecret: k, zones: [a.example]", "nowhere");
    said("address: 192.0.2.1, keyName: k, keySecret: k, zones: [a..example]", "a..example");
    said("address: 192.0.2.1, keyName: k, keySecret: k, zones: []", "at least 1 entry");
}

#[test]
fn an_rrset_over_the_limit_is_refused() {
    let text = "x".repeat(250);
    let texts: Vec<String> = (0..300).map(|n| format!("'{n}-{text}'")).collect();
    let bad = object(&format!(
        "kind: TXTRecord\nmetadata: {{name: a}}\nspec: {{zoneRef: com, name: a, text: [{}]}}\n",
        texts.join(", ")
    ));
    assert_says(&only_problem(&bad), &["TXTRecord default/a"]);
}

#[test]
fn a_broken_zone_file_names_the_line_in_it() {
    let bad = [
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: files\n  labels: {bindy.firestoned.io/zone-file: 'true'}\ndata:\n  zone: |\n    www A 192.0.2.1\n    ftp A 192.0.2.300\n",
        "---\napiVersion: bindy.firestoned.io/v1beta1\nkind: DNSZone\nmetadata: {name: org}\nspec:\n  zoneName: example.org\n  zoneFilesFrom: [{configMap: {name: files, key: zone}}]\n",
    ]
    .concat();
    assert_says(&only_problem(&bad), &["bad.yaml:", "DNSZone default/org", "files[zone]", "2"]);
}

#[test]
fn what_is_no_yaml_is_shown_where_it_breaks() {
    let bad = format!(
        "{}---\na: [1,\nb: }}\n",
        object(
            "kind: ARecord\nmetadata: {name: a}\nspec: {zoneRef: com, name: a, ipv4Addresses: [192.0.2.1]}\n"
        )
    );
    assert_says(&only_problem(&bad), &["bad.yaml:", ": error: this is no YAML"]);
}

#[test]
fn the_second_of_two_definitions_is_refused() {
    // Files are read in the order of their names, so bad.yaml has the first of the two.
    let bad = object(
        "kind: ARecord\nmetadata: {name: www}\nspec: {zoneRef: com, name: www, ipv4Addresses: [192.0.2.9]}\n",
    );
    assert_says(
        &only_problem(&bad),
        &["good.yaml:11:1: error: ARecord default/www", "already defined in bad.yaml:1"],
    );
}

#[test]
fn other_kinds_are_noticed_and_no_error() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(
        directory.path().join("a.yaml"),
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\n",
    )
    .unwrap();
    let problems = bindy_local::check(directory.path()).unwrap();
    assert_eq!(problems.iter().map(|problem| problem.severity).collect::<Vec<_>>(), [Severity::Notice]);
}

#[test]
fn an_unreadable_zone_is_told_once() {
    let bad = object("kind: DNSZone\nmetadata: {name: org}\nspec:\n  zoneName: example.org\n  tll: 5\n");
    assert_says(&only_problem(&bad), &["bad.yaml:6:3: error: DNSZone default/org", "spec.tll"]);
}

#[test]
fn an_unreadable_instance_is_told_once() {
    let bad = object("kind: Bind9Instance\nmetadata: {name: b}\nspec: {replicas: 1, replica: 5}\n");
    assert_says(&only_problem(&bad), &["bad.yaml:4:21: error: Bind9Instance default/b", "spec.replica"]);
}

#[test]
fn the_examples_have_no_problems() {
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples");
    let problems = bindy_local::check(examples.as_ref()).unwrap();
    assert!(problems.is_empty(), "{problems:#?}");
}
