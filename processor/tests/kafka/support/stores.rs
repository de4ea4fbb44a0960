//! The stores of a processor that does not run, held against the committed records of its topics.
//!
//! Nothing of the engine's restore is used: records are decoded and rows are encoded by the formats alone, so that a
//! row that was never committed, or that was changed on its way, shows.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use bank::{TokenSecret, Tokens};
use kontor_compose::eventually;
use kontor_compose::testing::Record;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use schemas::records::{self, Outcome, OutcomeState, Uuid};
use schemas::{AvroRecord, partition_of};
use serde::Serialize;
use state_store::{Batch, Budget, Identity, Progress, ScanRange, Store, TableId, rows};

use super::{Bank, DEADLINE, PARTITIONS, READY};

const ACCOUNT: u8 = 1;
const USER: u8 = 2;
const OUTCOME: u8 = 3;
const OUTCOME_BY_TIME: u8 = 4;
const HISTORY: u8 = 10;
const TRANSACTION: u8 = 11;
const OWNER: u8 = 250;

/// Rows by table and key.
type Table = BTreeMap<(u8, Vec<u8>), Vec<u8>>;

/// Copies of all stores of a stopped processor.
pub struct Stopped {
    stores: Vec<(Table, Progress)>,
}

/// What stores lack of their committed changelog.
#[derive(Debug, Default, Clone, Copy)]
pub struct Lack {
    /// The most transactions that any store lacks.
    pub transactions: usize,
    /// Changelog records of the largest transaction of each partition, added up.
    pub transaction_records_max: u64,
}

impl Stopped {
    /// Reads the stores below a state directory. They are copied first: to open one is to change its files.
    pub async fn read(bank: &Bank, state_dir: &Path) -> Stopped {
        let identity = identity(bank);
        let state_dir = state_dir.to_owned();
        let read = move || Stopped { stores: (0..PARTITIONS).map(|p| read_one(&identity, &state_dir, p)).collect() };
        tokio::task::spawn_blocking(read).await.unwrap()
    }

    /// Every row is that of the committed changelog up to where the store stands, and the other way round; the history
    /// holds committed changes only.
    pub async fn assert_committed_only(&self, bank: &Bank) -> Lack {
        let changelog = bank.committed_changelog(&self.offsets()).await;
        let changes = bank.space.read("balance_changed").await.unwrap();
        let mut lack = Lack::default();
        for (partition, (table, progress)) in self.stores.iter().enumerate() {
            let of_partition = |record: &&Record| record.partition == partition as i32;
            let mut expected = Fold::default();
            let (mut lacking, mut records, mut records_max) = (0, 0, 0);
            for record in changelog.iter().filter(of_partition) {
                let is_position = record.key.as_deref() == Some(b"position");
                if record.offset < progress.changelog_offset {
                    expected.apply(bank, record);
                } else if is_position {
                    lacking += 1;
                }
                records += 1;
                if is_position {
                    records_max = records_max.max(records);
                    records = 0;
                }
            }
            lack.transactions = lack.transactions.max(lacking);
            lack.transaction_records_max += records_max;
            let (events, state): (Table, Table) =
                table.clone().into_iter().partition(|((table, _), _)| [HISTORY, TRANSACTION].contains(table));
            assert_same(partition, &state, &expected.rows);
            assert_eq!(progress.next_offset, expected.position.next_offset, "partition {partition}");
            assert_eq!(progress.commit_sequence as i64, expected.position.commit_sequence, "partition {partition}");
            assert_eq!(progress.last_transaction, expected.position.last_transaction, "partition {partition}");
            let mut committed = Table::new();
            changes.iter().filter(of_partition).for_each(|record| history(bank, record, &mut committed));
            for (key, row) in &events {
                assert_eq!(committed.get(key), Some(row), "partition {partition}: an event row that was not committed");
            }
        }
        lack
    }

    /// The history holds every committed change. Only so after a clean stop: a crash leaves what is missing to the next
    /// life.
    pub async fn assert_history_complete(&self, bank: &Bank) {
        let mut committed = Table::new();
        bank.space
            .read("balance_changed")
            .await
            .unwrap()
            .iter()
            .for_each(|record| history(bank, record, &mut committed));
        for key in committed.keys() {
            assert!(self.stores.iter().any(|(table, _)| table.contains_key(key)), "lacks the event {}", text(&key.1));
        }
    }

    /// Rows of all tables of all partitions.
    pub fn len(&self) -> usize {
        self.stores.iter().map(|(table, _)| table.len()).sum()
    }

    fn offsets(&self) -> Vec<i64> {
        self.stores.iter().map(|(_, progress)| progress.changelog_offset).collect()
    }
}

impl Bank {
    /// Committed changelog records, at least up to these offsets (by partition). The marker that makes the last
    /// transaction visible may be written a moment after its producer was told.
    async fn committed_changelog(&self, up_to: &[i64]) -> Vec<Record> {
        let topic = self.space.topic("changelog");
        let client = Arc::new(client(self));
        let stable = || {
            let (client, topic, up_to) = (Arc::clone(&client), topic.clone(), up_to.to_vec());
            let look = move || {
                let end = |partition| client.fetch_watermarks(&topic, partition, DEADLINE).unwrap().1;
                up_to.iter().zip(0..).all(|(offset, partition)| end(partition) >= *offset)
            };
            async { tokio::task::spawn_blocking(look).await.unwrap() }
        };
        eventually(DEADLINE, "the changelog is stable up to where the stores stand", stable).await.unwrap();
        self.space.read("changelog").await.unwrap()
    }
}

impl Bank {
    /// The processor left no transaction open: in every topic that it writes the last stable offset is the high watermark
    /// once the last markers are written, long before the broker would end a transaction by itself.
    pub async fn assert_no_open_transaction(&self) {
        let clients = Arc::new((client(self), client_with(self, "read_uncommitted")));
        let written = self.topology.topics.iter().filter(|topic| topic.base != "commands");
        let topics: Arc<Vec<_>> = Arc::new(written.map(|topic| (topic.name.clone(), topic.partitions)).collect());
        let all_stable = || {
            let (clients, topics) = (Arc::clone(&clients), Arc::clone(&topics));
            let look = move || {
                let end = |client: &BaseConsumer, topic: &str, partition| {
                    client.fetch_watermarks(topic, partition, DEADLINE).unwrap().1
                };
                let is_stable = |topic: &str, at| end(&clients.0, topic, at) == end(&clients.1, topic, at);
                topics.iter().all(|(topic, partitions)| (0..*partitions).all(|at| is_stable(topic, at)))
            };
            async { tokio::task::spawn_blocking(look).await.unwrap() }
        };
        eventually(READY, "no transaction is open", all_stable).await.unwrap();
    }
}

impl Bank {
    /// Adds cents to an account in the store of a stopped processor, and nowhere else: what a defect of the engine, or
    /// somebody with an editor, would leave.
    pub async fn falsify_balance(&self, state_dir: &Path, iban: &str, cents: i64) {
        let partition = partition_of(iban.as_bytes(), PARTITIONS);
        let identity = Identity { partition, ..identity(self) };
        let (path, key) = (state_dir.join(format!("partition-{partition}")), iban.as_bytes().to_vec());
        let falsify = move || {
            let store = state_store::open(&path, &identity, &Budget::new(8 << 20, 8 << 20)).unwrap().into_store();
            let found = store.get(TableId(ACCOUNT), &key).unwrap().unwrap();
            let mut account: records::Account = rows::decode(&found).unwrap();
            account.balance += cents;
            let mut batch = Batch::new();
            batch.put(TableId(ACCOUNT), &key, &row(&account));
            store.commit(batch, &store.progress().unwrap()).unwrap();
        };
        tokio::task::spawn_blocking(falsify).await.unwrap();
    }
}

/// A client whose watermarks end at the last stable offset.
fn client(bank: &Bank) -> BaseConsumer {
    client_with(bank, "read_committed")
}

fn client_with(bank: &Bank, isolation: &str) -> BaseConsumer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bank.space.bootstrap()).set("isolation.level", isolation);
    config.create().unwrap()
}

/// What the engine writes into the stores of this bank, so that they can be opened here.
fn identity(bank: &Bank) -> Identity {
    let secrets = std::fs::read_to_string(bank.space.secret_file()).unwrap();
    let secrets = secrets.lines().map(|line| TokenSecret::new(line.trim()).unwrap()).collect();
    let tokens = Tokens::new(secrets, Tokens::COMPANY_DEFAULT).unwrap();
    Identity {
        application: format!("{}kontor", bank.space.prefix),
        cluster_id: schemas::topics::fetch_cluster_id(client(bank).client(), DEADLINE).unwrap(),
        partition: 0,
        prefix: bank.space.prefix.clone(),
        check: tokens.check_value().0.to_vec(),
        earlier_checks: Vec::new(),
    }
}

fn read_one(identity: &Identity, state_dir: &Path, partition: i32) -> (Table, Progress) {
    let copy = tempfile::tempdir().unwrap();
    let path: PathBuf = copy.path().join("store");
    let original = state_dir.join(format!("partition-{partition}"));
    if !original.exists() {
        return (Table::new(), Progress::default());
    }
    assert!(Command::new("cp").arg("-r").arg(&original).arg(&path).status().unwrap().success());
    let identity = Identity { partition, ..identity.clone() };
    let budget = Budget::new(8 << 20, 8 << 20);
    let store = state_store::open(&path, &identity, &budget).unwrap().into_store();
    let mut table = Table::new();
    for id in [ACCOUNT, USER, OUTCOME, OUTCOME_BY_TIME, HISTORY, TRANSACTION, OWNER] {
        let page = store.snapshot().unwrap().scan(TableId(id), &ScanRange::all()).unwrap();
        table.extend(page.rows.into_iter().map(|(key, row)| ((id, key), row)));
    }
    (table, store.progress().unwrap())
}

/// The committed records of one changelog partition, folded.
#[derive(Default)]
struct Fold {
    rows: Table,
    position: records::Position,
    /// Index keys of outcomes by id.
    indexed: HashMap<[u8; 16], Vec<u8>>,
}

impl Fold {
    fn apply(&mut self, bank: &Bank, record: &Record) {
        let key = std::str::from_utf8(record.key.as_deref().unwrap()).unwrap();
        let value = record.value.as_deref();
        let (table, text) = key.split_once('/').unwrap_or((key, ""));
        match table {
            "position" => self.position = bank.decode(value.unwrap()),
            "owner" => self.put(OWNER, key.as_bytes(), &bank.decode::<records::Owner>(value.unwrap())),
            "account" => self.put(ACCOUNT, text.as_bytes(), &bank.decode::<records::Account>(value.unwrap())),
            "user" => self.put(USER, text.as_bytes(), &bank.decode::<records::User>(value.unwrap())),
            "outcome" => {
                let id: Uuid = text.parse().unwrap();
                if let Some(indexed) = self.indexed.remove(&id.0) {
                    self.rows.remove(&(OUTCOME_BY_TIME, indexed));
                }
                let Some(value) = value else {
                    self.rows.remove(&(OUTCOME, id.0.to_vec()));
                    return;
                };
                let outcome: Outcome = bank.decode(value);
                self.put(OUTCOME, &id.0, &outcome);
                if outcome.state != OutcomeState::Pending {
                    let mut key = ((outcome.time as u64) ^ (1 << 63)).to_be_bytes().to_vec();
                    key.extend_from_slice(&id.0);
                    self.indexed.insert(id.0, key.clone());
                    self.rows.insert((OUTCOME_BY_TIME, key), id.0.to_vec());
                }
            }
            other => panic!("a changelog record of table {other}"),
        }
    }

    fn put<T: Serialize + AvroRecord>(&mut self, table: u8, key: &[u8], record: &T) {
        self.rows.insert((table, key.to_vec()), row(record));
    }
}

fn row<T: Serialize>(record: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    rows::encode(record, &mut bytes).unwrap();
    bytes
}

fn history(bank: &Bank, record: &Record, into: &mut Table) {
    let change: records::BalanceChanged = bank.decode(record.value.as_deref().unwrap());
    let mut key = change.iban.clone().into_bytes();
    key.push(0);
    key.extend_from_slice(&(change.sequence as u64).to_be_bytes());
    into.insert((TRANSACTION, (change.transaction_id as u64).to_be_bytes().to_vec()), key.clone());
    into.insert((HISTORY, key), row(&change));
}

/// Names the first difference instead of printing both sides.
fn assert_same(partition: usize, store: &Table, expected: &Table) {
    for (key, row) in store {
        let committed = expected.get(key);
        assert_eq!(Some(row), committed, "partition {partition}, table {}, key {:?}", key.0, text(&key.1));
    }
    let missing = expected.keys().find(|key| !store.contains_key(*key));
    assert_eq!(missing, None, "partition {partition} lacks a committed row");
}

fn text(key: &[u8]) -> String {
    String::from_utf8_lossy(key).into_owned()
}
