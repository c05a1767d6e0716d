use super::*;

const ZONE: &str = "apiVersion: bindy.firestoned.io/v1beta1\nkind: DNSZone\nmetadata: {name: com}\nspec: {zoneName: example.com}\n";

fn record(name: &str, address: &str) -> String {
    format!(
        "apiVersion: bindy.firestoned.io/v1beta1\nkind: ARecord\nmetadata: {{name: {name}}}\nspec:\n  name: {name}\n  \
         zoneRef: com\n  ipv4Addresses: [{address}]\n"
    )
}

fn put(inventory: &mut Inventory, files: &[(&str, &str)]) -> Vec<String> {
    let found = files.iter().map(|(path, text)| (PathBuf::from(path), Text::Whole((*text).to_owned())));
    told(inventory.update(found))
}

fn told(events: Vec<SourceEvent>) -> Vec<String> {
    events
        .into_iter()
        .map(|event| match event {
            SourceEvent::Applied(manifest) => {
                format!("applied {} {}:{}", manifest.key, manifest.place.file.display(), manifest.place.line)
            }
            SourceEvent::Moved { key, place } => {
                format!("moved {key} {}:{}", place.file.display(), place.line)
            }
            SourceEvent::Deleted { key, how } => format!("deleted {key} {how:?}"),
            SourceEvent::Unreadable { key, problem } => format!("unreadable {key} {}", problem.reason),
            SourceEvent::Problems { file, problems } => {
                let problems: Vec<String> = problems
                    .iter()
                    .map(|p| format!("{} {}", p.place().unwrap_or_default(), p.reason))
                    .collect();
                format!("problems {} [{}]", file.display(), problems.join(", "))
            }
            SourceEvent::Listed => "listed".to_owned(),
        })
        .collect()
}

#[test]
fn only_the_changed_object_is_told() {
    let mut inventory = Inventory::default();
    let both = format!("{ZONE}---\n{}", record("www", "192.0.2.1"));
    let events = put(&mut inventory, &[("a.yaml", &both)]);
    assert_eq!(events, ["applied DNSZone default/com a.yaml:1", "applied ARecord default/www a.yaml:6"]);
    assert_eq!(put(&mut inventory, &[("a.yaml", &both)]), [""; 0]);
    let changed = both.replace("192.0.2.1", "192.0.2.2");
    assert_eq!(put(&mut inventory, &[("a.yaml", &changed)]), ["applied ARecord default/www a.yaml:6"]);
    let lower = format!("# note\n{changed}");
    let moved = ["moved DNSZone default/com a.yaml:1", "moved ARecord default/www a.yaml:7"];
    assert_eq!(put(&mut inventory, &[("a.yaml", &lower)])[1..], moved[1..]);
}

#[test]
fn a_broken_document_keeps_its_object_and_not_its_neighbours() {
    let mut inventory = Inventory::default();
    put(&mut inventory, &[("a.yaml", &format!("{ZONE}---\n{}", record("www", "192.0.2.1")))]);
    let broken = format!("{ZONE}---\nkind: [ARecord\nmetadata: {{");
    let events = put(&mut inventory, &[("a.yaml", &broken)]);
    assert_eq!(events.len(), 2, "{events:?}");
    assert_eq!(events[0], "unreadable ARecord default/www NotYaml");
    assert!(events[1].starts_with("problems a.yaml [a.yaml:"), "{events:?}");
    let events = put(&mut inventory, &[("a.yaml", &format!("{ZONE}---\n{}", record("www", "192.0.2.1")))]);
    assert_eq!(events, ["applied ARecord default/www a.yaml:6", "problems a.yaml []"]);
}

#[test]
fn a_wrong_field_makes_its_object_unreadable_and_says_where() {
    let mut inventory = Inventory::default();
    put(&mut inventory, &[("a.yaml", &record("www", "192.0.2.1"))]);
    let wrong = record("www", "192.0.2.1").replace("ipv4Addresses", "ipv4Adresses");
    let events = put(&mut inventory, &[("a.yaml", &wrong)]);
    assert_eq!(events[0], "unreadable ARecord default/www UnknownField");
    assert!(events[1].contains("a.yaml:7:3 UnknownField"), "{events:?}");
}

#[test]
fn deletion_by_edit_and_by_a_vanished_file_are_told_apart() {
    let mut inventory = Inventory::default();
    put(&mut inventory, &[("a.yaml", &format!("{ZONE}---\n{}", record("www", "192.0.2.1")))]);
    assert_eq!(put(&mut inventory, &[("a.yaml", ZONE)]), ["deleted ARecord default/www Deleted"]);
    assert_eq!(told(inventory.update([("a.yaml".into(), Text::Missing)])), [""; 0]);
    assert_eq!(
        told(inventory.update([("a.yaml".into(), Text::Gone)])),
        ["deleted DNSZone default/com Relisted"]
    );
    put(&mut inventory, &[("a.yaml", ZONE)]);
    assert_eq!(put(&mut inventory, &[("a.yaml", "# nothing\n")]), ["deleted DNSZone default/com Relisted"]);
}

#[test]
fn an_unreadable_file_keeps_its_objects() {
    let mut inventory = Inventory::default();
    put(&mut inventory, &[("a.yaml", ZONE)]);
    let events = told(inventory.update([("a.yaml".into(), Text::Unreadable("no".into()))]));
    assert_eq!(events[0], "unreadable DNSZone default/com Unreadable");
    assert_eq!(put(&mut inventory, &[("a.yaml", ZONE)])[0], "applied DNSZone default/com a.yaml:1");
}

#[test]
fn the_first_of_two_is_served_and_the_second_takes_over() {
    let mut inventory = Inventory::default();
    put(&mut inventory, &[("b.yaml", ZONE)]);
    let other = ZONE.replace("example.com", "example.org");
    assert_eq!(put(&mut inventory, &[("a.yaml", &other)]), ["problems a.yaml [a.yaml:1:1 Duplicate]"]);
    let events = told(inventory.update([("b.yaml".into(), Text::Gone)]));
    assert_eq!(events, ["applied DNSZone default/com a.yaml:1", "problems a.yaml []"]);
    let twice = format!("{other}---\n{ZONE}");
    assert_eq!(put(&mut inventory, &[("a.yaml", &twice)]), ["problems a.yaml [a.yaml:6:1 Duplicate]"]);
}

#[test]
fn a_renamed_file_only_moves_its_objects() {
    let mut inventory = Inventory::default();
    put(&mut inventory, &[("a.yaml", ZONE)]);
    let events = told(
        inventory.update([("a.yaml".into(), Text::Missing), ("b.yaml".into(), Text::Whole(ZONE.to_owned()))]),
    );
    assert_eq!(events, ["moved DNSZone default/com b.yaml:1"]);
    assert_eq!(told(inventory.update([("a.yaml".into(), Text::Gone)])), [""; 0]);
}

#[test]
fn lists_json_and_foreign_kinds_are_read() {
    let mut inventory = Inventory::default();
    let item = serde_json::json!({
        "apiVersion": "bindy.firestoned.io/v1beta1", "kind": "DNSZone",
        "metadata": {"name": "com", "namespace": "dns", "uid": "x", "managedFields": []},
        "spec": {"zoneName": "example.com"}, "status": {"serial": 5},
    });
    let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": [item]}).to_string();
    assert_eq!(put(&mut inventory, &[("l.json", &list)]), ["applied DNSZone dns/com l.json:1"]);
    let deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\n";
    assert_eq!(put(&mut inventory, &[("d.yaml", deployment)]), ["problems d.yaml [d.yaml:1:1 OtherKind]"]);
    let old = ZONE.replace("v1beta1", "v1alpha1");
    assert_eq!(put(&mut inventory, &[("o.yaml", &old)]), ["problems o.yaml [o.yaml:1:1 UnknownKind]"]);
    let lower = ZONE.replace("DNSZone", "Dnszone");
    assert_eq!(put(&mut inventory, &[("o.yaml", &lower)]), ["problems o.yaml [o.yaml:1:1 UnknownKind]"]);
}

#[test]
fn config_maps_need_their_label() {
    let mut inventory = Inventory::default();
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: files\n  labels: {bindy.firestoned.io/zone-file: 'true'}\ndata:\n  zone: |\n    www A 192.0.2.1\n";
    assert_eq!(put(&mut inventory, &[("m.yaml", map)]), ["applied ConfigMap default/files m.yaml:1"]);
    let without = map.replace("  labels: {bindy.firestoned.io/zone-file: 'true'}\n", "");
    let events = put(&mut inventory, &[("m.yaml", &without)]);
    assert_eq!(
        events,
        ["deleted ConfigMap default/files Deleted", "problems m.yaml [m.yaml:1:1 NoZoneFile]"]
    );
}

#[test]
fn one_change_among_ten_thousand_objects_of_a_file_is_found_quickly() {
    let mut inventory = Inventory::default();
    let text: Vec<String> = (0..10_000).map(|n| record(&format!("h{n}"), "192.0.2.1")).collect();
    let text = text.join("---\n");
    assert_eq!(put(&mut inventory, &[("a.yaml", &text)]).len(), 10_000);
    let changed = text.replacen("192.0.2.1", "192.0.2.2", 1);
    let start = std::time::Instant::now();
    assert_eq!(put(&mut inventory, &[("a.yaml", &changed)]), ["applied ARecord default/h0 a.yaml:1"]);
    let took = start.elapsed();
    println!("{took:?}");
    // Unoptimised and on a busy machine; work in proportion to the square of the objects would take minutes.
    assert!(took < std::time::Duration::from_secs(2), "{took:?}");
}
