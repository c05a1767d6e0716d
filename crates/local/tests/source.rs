//! The watched directory, with real files and real events.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::time::Duration;

use bindy_local::source::{Patience, Source, SourceEvent};
use bindy_model::Removal;

fn zone(name: &str, apex: &str) -> String {
    format!(
        "apiVersion: bindy.firestoned.io/v1beta1\nkind: DNSZone\nmetadata: {{name: {name}}}\nspec: {{zoneName: {apex}}}\n"
    )
}

/// How long anything may take that takes milliseconds on a machine that is not busy.
const LIMIT: Duration = Duration::from_secs(10);
/// Nothing is taken for vanished or for whole because of a pause in a test, however long.
const PATIENT: Patience = Patience { grace: Duration::from_secs(600), compare: Duration::from_secs(5) };

struct Watched {
    source: Source,
    directory: tempfile::TempDir,
    sentinels: u32,
}

impl Watched {
    async fn start(files: &[(&str, String)], patience: Patience) -> (Self, Vec<String>) {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(directory.path().join(name), text).unwrap();
        }
        Self::watch(directory, patience).await
    }

    async fn watch(directory: tempfile::TempDir, patience: Patience) -> (Self, Vec<String>) {
        let source = Source::watch(directory.path(), patience).unwrap();
        let mut watched = Self { source, directory, sentinels: 0 };
        let first = watched.next().await;
        (watched, first)
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path().join(name), text).unwrap();
    }

    async fn batch(&mut self) -> Vec<SourceEvent> {
        let batch = tokio::time::timeout(LIMIT, self.source.next()).await;
        batch.expect("no event within ten seconds").unwrap()
    }

    async fn next(&mut self) -> Vec<String> {
        self.batch().await.iter().map(describe).collect()
    }

    /// Nothing comes before what is written now.
    async fn quiet(&mut self) {
        self.sentinels += 1;
        let name = format!("sentinel-{}", self.sentinels);
        self.write(&format!("{name}.yaml"), &zone(&name, "sentinel.test"));
        assert_eq!(self.next().await, [format!("applied DNSZone default/{name}")]);
    }
}

fn describe(event: &SourceEvent) -> String {
    match event {
        SourceEvent::Applied(manifest) => format!("applied {}", manifest.key),
        SourceEvent::Moved { key, place } => format!("moved {key} {}", place.file.display()),
        SourceEvent::Deleted { key, how: Removal::Deleted } => format!("deleted {key}"),
        SourceEvent::Deleted { key, how: Removal::Relisted } => format!("vanished {key}"),
        SourceEvent::Unreadable { key, .. } => format!("unreadable {key}"),
        SourceEvent::Problems { file, problems } => format!("{} problems {}", problems.len(), file.display()),
        SourceEvent::Listed => "listed".to_owned(),
    }
}

#[tokio::test]
async fn the_directory_is_listed_first_and_edits_are_seen_at_once() {
    // Neither after a moment of grace nor by comparing.
    let patience = Patience { compare: Duration::from_secs(600), ..PATIENT };
    let (mut watched, first) = Watched::start(&[("a.yaml", zone("a", "a.test"))], patience).await;
    assert_eq!(first, ["applied DNSZone default/a", "listed"]);
    watched.write("a.yaml", &zone("a", "b.test"));
    assert_eq!(watched.next().await, ["applied DNSZone default/a"]);
}

#[tokio::test]
async fn editors_that_rename_into_place_never_delete() {
    let (mut watched, _) = Watched::start(&[("a.yaml", zone("a", "a.test"))], PATIENT).await;
    let path = watched.path().join("a.yaml");
    // As vim does: the old file becomes a backup, a new one is written.
    fs::rename(&path, watched.path().join("a.yaml~")).unwrap();
    std::thread::sleep(Duration::from_millis(20));
    fs::write(&path, zone("a", "b.test")).unwrap();
    fs::remove_file(watched.path().join("a.yaml~")).unwrap();
    assert_eq!(watched.next().await, ["applied DNSZone default/a"]);
    // As sed -i does: a new file is renamed over the old one.
    watched.write(".a.new", &zone("a", "c.test"));
    fs::rename(watched.path().join(".a.new"), &path).unwrap();
    assert_eq!(watched.next().await, ["applied DNSZone default/a"]);
    watched.quiet().await;
}

#[tokio::test]
async fn a_file_that_is_being_written_is_left_alone_until_it_is_closed() {
    use std::io::Write;
    let both = format!("{}---\n{}", zone("a", "a.test"), zone("b", "b.test"));
    let (mut watched, _) = Watched::start(&[("a.yaml", both)], PATIENT).await;
    let mut file = fs::File::create(watched.path().join("a.yaml")).unwrap();
    file.write_all(zone("a", "c.test").as_bytes()).unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    write!(file, "---\n{}", zone("b", "d.test")).unwrap();
    drop(file);
    assert_eq!(watched.next().await, ["applied DNSZone default/a", "applied DNSZone default/b"]);
    watched.quiet().await;
}

#[tokio::test]
async fn a_removed_directory_is_a_vanished_file_and_a_new_one_is_read() {
    let (mut watched, _) = Watched::start(&[], Patience::default()).await;
    fs::create_dir_all(watched.path().join("x/y")).unwrap();
    watched.write("x/y/a.yaml", &zone("a", "a.test"));
    assert_eq!(watched.next().await, ["applied DNSZone default/a"]);
    fs::rename(watched.path().join("x"), watched.path().join("z")).unwrap();
    assert_eq!(watched.next().await, ["moved DNSZone default/a z/y/a.yaml"]);
    fs::remove_dir_all(watched.path().join("z")).unwrap();
    assert_eq!(watched.next().await, ["vanished DNSZone default/a"]);
}

#[tokio::test]
async fn hidden_files_and_other_files_are_not_read() {
    let (mut watched, _) = Watched::start(&[], PATIENT).await;
    fs::create_dir(watched.path().join(".bindy")).unwrap();
    watched.write(".bindy/a.yaml", &zone("a", "a.test"));
    watched.write("notes.txt", "hello");
    watched.write(".b.yaml", &zone("b", "b.test"));
    watched.quiet().await;
}

#[tokio::test]
async fn a_state_directory_among_the_manifests_is_not_read_whatever_it_is_called() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("deep/state");
    fs::create_dir_all(state.join("servers/a")).unwrap();
    fs::write(state.join("ledger.redb"), "").unwrap();
    for file in ["status.json", "servers/a/agent.json", "servers/a/a.yaml"] {
        fs::write(state.join(file), zone("state", "state.test")).unwrap();
    }
    fs::write(directory.path().join("deep/a.yaml"), zone("a", "a.test")).unwrap();
    let files = bindy_local::source::read_all(directory.path()).unwrap();
    assert_eq!(files.len(), 1, "{files:?}");
    let (mut watched, first) = Watched::watch(directory, PATIENT).await;
    assert_eq!(first, ["applied DNSZone default/a", "listed"]);
    watched.write("deep/state/status.json", &zone("b", "b.test"));
    watched.write("deep/state/servers/a/b.yaml", &zone("b", "b.test"));
    watched.quiet().await;
    watched.write("deep/a.yaml", &zone("a", "b.test"));
    assert_eq!(watched.next().await, ["applied DNSZone default/a"]);
}

#[tokio::test]
async fn a_broken_file_keeps_its_objects_until_it_is_put_right() {
    let (mut watched, _) = Watched::start(&[("a.yaml", zone("a", "a.test"))], PATIENT).await;
    watched.write("a.yaml", "a: [");
    assert_eq!(watched.next().await, ["unreadable DNSZone default/a", "1 problems a.yaml"]);
    watched.write("a.yaml", &zone("a", "a.test"));
    assert_eq!(watched.next().await, ["applied DNSZone default/a", "0 problems a.yaml"]);
}

#[tokio::test]
async fn an_emptied_file_is_a_vanished_one() {
    let (mut watched, _) = Watched::start(&[("a.yaml", zone("a", "a.test"))], Patience::default()).await;
    watched.write("a.yaml", "");
    assert_eq!(watched.next().await, ["vanished DNSZone default/a"]);
}

#[tokio::test]
async fn rapid_rewrites_end_with_the_last_text_and_never_delete() {
    let (mut watched, _) = Watched::start(&[("a.yaml", zone("a", "n0.test"))], PATIENT).await;
    for n in 1..=500 {
        watched.write("a.yaml", &zone("a", &format!("n{n}.test")));
    }
    let mut last = String::new();
    while !last.contains("n500.test") {
        for event in watched.batch().await {
            let SourceEvent::Applied(manifest) = &event else { panic!("{event:?}") };
            last = format!("{:?}", manifest.object);
        }
    }
    watched.quiet().await;
}
