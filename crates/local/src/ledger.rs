//! What embedded mode remembers: serials, identities of objects, and the master secret, in one redb file.
//!
//! Swaps are gathered by one thread and written in one transaction, so that a thousand zones do not cost a thousand
//! flushes; each is answered after the flush. A (serial, digest) that was answered is durable, one that was not may
//! or may not be.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;

use bindy_engine::{Ledger, Swap};
use bindy_model::{LedgerEntry, LedgerKind, NamespacedName, Swapped, Target};
use bindy_wire::{KeyError, MasterSecret};
use bindy_zone::Serial;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

/// `zone|catalog namespace/name` → serial, digest, records.
const PUBLISHED: TableDefinition<'_, &str, (u32, &str, u64)> = TableDefinition::new("published");
/// `Kind namespace/name` → [`Identity`] as JSON.
const OBJECTS: TableDefinition<'_, &str, &str> = TableDefinition::new("objects");
/// `master` → 32 octets.
const SECRETS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("secrets");

/// What the API server would have given an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// metadata.uid.
    pub uid: String,
    /// creationTimestamp in seconds since 1970. Objects that were first seen together have the same.
    pub created: u32,
    /// metadata.generation: rises with every change of the specification.
    pub generation: u32,
    /// Hash of the specification that this generation is of.
    pub spec: String,
}

/// Why the ledger cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Another process has it open.
    #[error(
        "{0} is in use: another `bindy up` runs on this state directory; stop it, or choose another with --state"
    )]
    InUse(PathBuf),
    /// The database failed.
    #[error("the ledger {path} failed: {source}")]
    Database {
        /// The file.
        path: PathBuf,
        /// What redb says.
        #[source]
        source: Box<redb::Error>,
    },
    /// The master secret cannot be made or read.
    #[error("the master secret: {0}")]
    Secret(#[from] KeyError),
    /// An entry cannot be read.
    #[error(
        "the ledger entry of {0} is damaged: restore the file from a backup, or remove it and let serials start from the clock"
    )]
    Damaged(String),
}

/// Serials of everything that was published.
pub type Entries = BTreeMap<(NamespacedName, LedgerKind), LedgerEntry>;

type Row = (u32, String, u64);

type Request = (Swap, oneshot::Sender<Swapped>);

/// Its file in the state directory.
pub(crate) const LEDGER_FILE: &str = "ledger.redb";

/// The file. Once it could not be read or written redb refuses everything until it is opened anew.
struct File {
    path: PathBuf,
    database: Mutex<Option<Database>>,
}

impl File {
    fn with<T>(&self, work: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<T, redb::Error> {
        let mut database = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        let open = match database.take() {
            Some(open) => open,
            None => Database::create(&self.path)?,
        };
        let result = work(&open);
        if !matches!(result, Err(redb::Error::Io(_) | redb::Error::PreviousIo)) {
            *database = Some(open);
        }
        result
    }
}

/// The open ledger. Dropping it waits for the last write.
pub struct LocalLedger {
    file: Arc<File>,
    requests: Option<mpsc::Sender<Request>>,
    writer: Option<JoinHandle<()>>,
}

impl LocalLedger {
    /// Opens the ledger at `path`, or makes it.
    pub fn open(path: &Path) -> Result<Self, LedgerError> {
        let failed =
            |source: redb::Error| LedgerError::Database { path: path.to_owned(), source: Box::new(source) };
        let database = match Database::create(path) {
            Ok(database) => database,
            Err(redb::DatabaseError::DatabaseAlreadyOpen) => return Err(LedgerError::InUse(path.to_owned())),
            Err(error) => return Err(failed(error.into())),
        };
        prepare(&database).map_err(failed)?;
        // It holds the master secret.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
            .map_err(|error| failed(redb::Error::Io(error)))?;
        let (requests, received) = mpsc::channel::<Request>();
        let file = Arc::new(File { path: path.to_owned(), database: Mutex::new(Some(database)) });
        let written = Arc::clone(&file);
        let writer = std::thread::spawn(move || write_swaps(&written, &received));
        Ok(Self { file, requests: Some(requests), writer: Some(writer) })
    }

    /// Every published (serial, digest).
    pub fn entries(&self) -> Result<Entries, LedgerError> {
        let mut entries = Entries::new();
        let read = |database: &Database| -> Result<Vec<(String, Row)>, redb::Error> {
            let table = database.begin_read()?.open_table(PUBLISHED)?;
            let mut rows = Vec::new();
            for row in table.iter()? {
                let (key, value) = row?;
                let (serial, digest, records) = value.value();
                rows.push((key.value().to_owned(), (serial, digest.to_owned(), records)));
            }
            Ok(rows)
        };
        for (key, row) in self.file.with(read).map_err(|error| self.failed(error))? {
            let slot = parse_slot(&key).ok_or_else(|| LedgerError::Damaged(key.clone()))?;
            let entry =
                entry((row.0, row.1.as_str(), row.2)).ok_or_else(|| LedgerError::Damaged(key.clone()))?;
            entries.insert(slot, entry);
        }
        Ok(entries)
    }

    /// The secret that all keys are derived from; made at first use.
    pub fn master_secret(&self) -> Result<MasterSecret, LedgerError> {
        let stored = |database: &Database| -> Result<Option<Vec<u8>>, redb::Error> {
            let table = database.begin_read()?.open_table(SECRETS)?;
            Ok(table.get("master")?.map(|secret| secret.value().to_owned()))
        };
        if let Some(octets) = self.file.with(stored).map_err(|error| self.failed(error))? {
            let octets =
                octets.try_into().map_err(|_| LedgerError::Damaged("the master secret".to_owned()))?;
            return Ok(MasterSecret::from_bytes(octets));
        }
        let secret = MasterSecret::generate()?;
        self.write(|transaction| {
            transaction.open_table(SECRETS)?.insert("master", secret.as_bytes().as_slice())?;
            Ok(())
        })?;
        Ok(secret)
    }

    /// The identities of all objects seen so far, by `Kind namespace/name`.
    pub fn identities(&self) -> Result<BTreeMap<String, Identity>, LedgerError> {
        let read = |database: &Database| -> Result<Vec<(String, String)>, redb::Error> {
            let table = database.begin_read()?.open_table(OBJECTS)?;
            let rows =
                table.iter()?.map(|row| row.map(|(k, v)| (k.value().to_owned(), v.value().to_owned())));
            Ok(rows.collect::<Result<_, _>>()?)
        };
        let parse = |(key, json): (String, String)| {
            let identity = serde_json::from_str(&json).map_err(|_| LedgerError::Damaged(key.clone()))?;
            Ok((key, identity))
        };
        self.file.with(read).map_err(|error| self.failed(error))?.into_iter().map(parse).collect()
    }

    /// Remembers identities, and forgets those that are `None`.
    pub fn remember(&self, identities: &[(String, Option<Identity>)]) -> Result<(), LedgerError> {
        self.write(|transaction| {
            let mut table = transaction.open_table(OBJECTS)?;
            for (key, identity) in identities {
                match identity.as_ref().and_then(|identity| serde_json::to_string(identity).ok()) {
                    Some(json) => drop(table.insert(key.as_str(), json.as_str())?),
                    None => drop(table.remove(key.as_str())?),
                }
            }
            Ok(())
        })
    }

    fn write(
        &self,
        change: impl FnOnce(&redb::WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), LedgerError> {
        let write = |database: &Database| {
            let transaction = database.begin_write()?;
            change(&transaction)?;
            Ok(transaction.commit()?)
        };
        self.file.with(write).map_err(|error| self.failed(error))
    }

    fn failed(&self, source: redb::Error) -> LedgerError {
        LedgerError::Database { path: self.file.path.clone(), source: Box::new(source) }
    }
}

impl Drop for LocalLedger {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(writer) = self.writer.take() {
            // It ends when the channel does; a panic in it was printed already.
            drop(writer.join());
        }
    }
}

impl Ledger for LocalLedger {
    async fn swap(&self, swap: Swap) -> Swapped {
        let (sender, receiver) = oneshot::channel();
        let sent = self.requests.as_ref().is_some_and(|requests| requests.send((swap, sender)).is_ok());
        if !sent {
            return Swapped::Failed;
        }
        receiver.await.unwrap_or(Swapped::Failed)
    }
}

fn prepare(database: &Database) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    transaction.open_table(PUBLISHED)?;
    transaction.open_table(OBJECTS)?;
    transaction.open_table(SECRETS)?;
    Ok(transaction.commit()?)
}

/// Takes swaps until the ledger is dropped; those that wait are written together.
fn write_swaps(file: &File, requests: &mpsc::Receiver<Request>) {
    while let Ok(first) = requests.recv() {
        let batch: Vec<Request> = std::iter::once(first).chain(requests.try_iter()).collect();
        let swaps: Vec<&Swap> = batch.iter().map(|(swap, _)| swap).collect();
        let results = match file.with(|database| swap_all(database, &swaps)) {
            Ok(results) => results,
            Err(error) => {
                tracing::error!(%error, "the ledger cannot be written: nothing is published until it can");
                std::thread::sleep(std::time::Duration::from_secs(1));
                vec![Swapped::Failed; batch.len()]
            }
        };
        for ((_, sender), result) in batch.into_iter().zip(results) {
            // Nobody waits when the engine has stopped.
            let _stopped = sender.send(result);
        }
    }
}

fn swap_all(database: &Database, swaps: &[&Swap]) -> Result<Vec<Swapped>, redb::Error> {
    let transaction = database.begin_write()?;
    let mut results = Vec::with_capacity(swaps.len());
    {
        let mut table = transaction.open_table(PUBLISHED)?;
        for swap in swaps {
            let Some(slot) = slot(&swap.target) else {
                results.push(Swapped::Conflict(None));
                continue;
            };
            let current = table.get(slot.as_str())?.and_then(|row| entry(row.value()));
            if current.map(|entry| entry.serial) != swap.expected {
                results.push(Swapped::Conflict(current));
                continue;
            }
            let LedgerEntry { serial, digest, records } = swap.next;
            let records = u64::try_from(records).unwrap_or(u64::MAX);
            table.insert(slot.as_str(), (serial.get(), digest.to_string().as_str(), records))?;
            results.push(Swapped::Done);
        }
    }
    transaction.commit()?;
    Ok(results)
}

fn slot(target: &Target) -> Option<String> {
    match target {
        Target::Zone(key, _) => Some(format!("zone {key}")),
        Target::Catalog(key) => Some(format!("catalog {key}")),
        Target::Orphan(_) => None,
    }
}

fn parse_slot(text: &str) -> Option<(NamespacedName, LedgerKind)> {
    let (kind, key) = text.split_once(' ')?;
    let (namespace, name) = key.split_once('/')?;
    let kind = match kind {
        "zone" => LedgerKind::Zone,
        "catalog" => LedgerKind::Catalog,
        _ => return None,
    };
    Some((NamespacedName::new(namespace, name), kind))
}

fn entry((serial, digest, records): (u32, &str, u64)) -> Option<LedgerEntry> {
    Some(LedgerEntry {
        serial: Serial::new(serial),
        digest: digest.parse().ok()?,
        records: usize::try_from(records).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use bindy_zone::Digest;

    fn swap(expected: Option<u32>, next: u32) -> Swap {
        Swap {
            target: Target::Catalog(NamespacedName::new("default", "primary")),
            expected: expected.map(Serial::new),
            next: LedgerEntry { serial: Serial::new(next), digest: Digest::default(), records: 3 },
        }
    }

    #[tokio::test]
    async fn a_swap_needs_the_expected_serial_and_survives_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger.redb");
        let ledger = LocalLedger::open(&path).unwrap();
        assert_eq!(ledger.swap(swap(None, 7)).await, Swapped::Done);
        assert!(
            matches!(ledger.swap(swap(None, 8)).await, Swapped::Conflict(Some(entry)) if entry.serial == Serial::new(7))
        );
        assert_eq!(ledger.swap(swap(Some(7), 9)).await, Swapped::Done);
        let secret = *ledger.master_secret().unwrap().as_bytes();
        drop(ledger);
        let ledger = LocalLedger::open(&path).unwrap();
        let entries = ledger.entries().unwrap();
        let entry = entries.get(&(NamespacedName::new("default", "primary"), LedgerKind::Catalog)).unwrap();
        assert_eq!((entry.serial, entry.records), (Serial::new(9), 3));
        assert_eq!(*ledger.master_secret().unwrap().as_bytes(), secret);
    }

    /// A disk of its own, of two megabytes.
    struct Disk(tempfile::TempDir);

    impl Disk {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let mount = ["-t", "tmpfs", "-o", "size=2m", "bindy-test"];
            let mounted = Command::new("mount").args(mount).arg(directory.path()).status().unwrap();
            assert!(mounted.success(), "needs root");
            Self(directory)
        }
    }

    impl Drop for Disk {
        fn drop(&mut self) {
            let _umounted = Command::new("umount").arg(self.0.path()).status();
        }
    }

    #[tokio::test]
    async fn when_there_is_room_again_on_the_disk_the_ledger_goes_on() {
        let disk = Disk::new();
        let ledger = LocalLedger::open(&disk.0.path().join("ledger.redb")).unwrap();
        assert_eq!(ledger.swap(swap(None, 7)).await, Swapped::Done);
        let full = disk.0.path().join("full");
        let _no_room = std::fs::write(&full, vec![1; 4 << 20]).unwrap_err();
        let identity = Identity { uid: "u".repeat(4 << 20), created: 1, generation: 1, spec: "s".to_owned() };
        let large = [("ARecord default/large".to_owned(), Some(identity))];
        assert!(matches!(ledger.remember(&large), Err(LedgerError::Database { .. })));
        std::fs::remove_file(&full).unwrap();
        assert_eq!(ledger.swap(swap(Some(7), 8)).await, Swapped::Done);
        assert_eq!(ledger.entries().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_second_process_is_told_that_the_ledger_is_in_use() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger.redb");
        let _first = LocalLedger::open(&path).unwrap();
        assert!(matches!(LocalLedger::open(&path), Err(LedgerError::InUse(_))));
    }
}
