//! The state behind all handles of one in-memory log: partitions, transactional ids, and what is still on its way.
//!
//! Follows the broker's rules: an id has an epoch, initialising it raises the epoch and aborts what is open, every
//! request of an earlier epoch is refused. Knows no clients' states (`producer.rs`, `consumer.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::faults::Plan;
use super::partition::{Partition, Serial, StoredRecord};
use crate::fault::LogError;
use crate::log::{TopicPartition, Topics};

/// The request came from an epoch that is over.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stale;

/// When the markers of a transaction reach their partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Markers {
    Now,
    Late,
}

/// Something that a client or the broker sent and that has not arrived.
#[derive(Clone, Debug)]
enum Late {
    Commit { id: String, epoch: u32 },
    Marker { id: String, at: TopicPartition, transaction: Serial, committed: bool },
}

#[derive(Debug, Default)]
struct Coordinated {
    epoch: u32,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    serial: Serial,
    /// Time of its first record.
    since: Duration,
    touched: BTreeSet<TopicPartition>,
}

#[derive(Debug)]
pub(super) struct Broker {
    pub plan: Plan,
    pub time_ms: Option<i64>,
    pub shows_fence_at_send: bool,
    pub max_record_bytes: usize,
    pub mirrored: BTreeMap<TopicPartition, i64>,
    pub misuses: Vec<String>,
    /// Age at which an open transaction is aborted; `None`: never by itself.
    pub transaction_timeout: Option<Duration>,
    partitions: BTreeMap<TopicPartition, Partition>,
    coordinated: BTreeMap<String, Coordinated>,
    late: Vec<Late>,
    serials: Serial,
}

impl Broker {
    pub fn new(topics: &Topics) -> Broker {
        let mut partitions = BTreeMap::new();
        for name in topics.names() {
            let Some(topic) = topics.find(name) else {
                continue;
            };
            for partition in 0..topics.partitions.max(schemas::control::PARTITIONS) {
                partitions.insert(TopicPartition { topic, partition }, Partition::default());
            }
        }
        Broker {
            plan: Plan::quiet(),
            time_ms: None,
            shows_fence_at_send: false,
            max_record_bytes: 1_000_000,
            mirrored: BTreeMap::new(),
            misuses: Vec::new(),
            transaction_timeout: None,
            partitions,
            coordinated: BTreeMap::new(),
            late: Vec::new(),
            serials: 0,
        }
    }

    pub fn partition(&self, at: TopicPartition) -> Result<&Partition, LogError> {
        self.partitions.get(&at).ok_or_else(|| unknown(at))
    }

    pub fn partition_mut(&mut self, at: TopicPartition) -> Result<&mut Partition, LogError> {
        self.partitions.get_mut(&at).ok_or_else(|| unknown(at))
    }

    pub fn partitions(&self) -> impl Iterator<Item = (&TopicPartition, &Partition)> {
        self.partitions.iter()
    }

    /// Initialises an id: markers under way arrive, what is open is aborted, earlier epochs are over.
    pub fn init(&mut self, id: &str) -> u32 {
        self.close(id);
        let coordinated = self.coordinated.entry(id.to_owned()).or_default();
        coordinated.epoch += 1;
        coordinated.epoch
    }

    /// Aborts the open transaction of an id and raises the epoch, as its time-out does. False: nothing was open.
    pub fn expire(&mut self, id: &str) -> bool {
        let open = self.coordinated.get(id).is_some_and(|coordinated| coordinated.open.is_some());
        if open {
            self.init(id);
        }
        open
    }

    /// Ids with an open transaction.
    pub fn open_ids(&self) -> Vec<String> {
        let open = self.coordinated.iter().filter(|(_, coordinated)| coordinated.open.is_some());
        open.map(|(id, _)| id.clone()).collect()
    }

    /// Aborts the transactions that are older than the time-out.
    pub fn expire_old(&mut self, now: Duration) {
        let Some(timeout) = self.transaction_timeout else {
            return;
        };
        let is_old = |open: &Open| now.saturating_sub(open.since) > timeout;
        let old = self.coordinated.iter().filter(|(_, known)| known.open.as_ref().is_some_and(is_old));
        let old: Vec<String> = old.map(|(id, _)| id.clone()).collect();
        for id in old {
            self.expire(&id);
        }
    }

    /// Appends inside the transaction of an id, which opens with its first record.
    pub fn send(
        &mut self,
        (id, epoch): (&str, u32),
        at: TopicPartition,
        record: StoredRecord,
        now: Duration,
    ) -> Result<i64, Stale> {
        self.arrive_markers(id);
        let Some(coordinated) = self.coordinated.get_mut(id).filter(|known| known.epoch == epoch) else {
            return Err(Stale);
        };
        let serials = &mut self.serials;
        let open = coordinated.open.get_or_insert_with(|| {
            *serials += 1;
            Open { serial: *serials, since: now, touched: BTreeSet::new() }
        });
        open.touched.insert(at);
        let serial = open.serial;
        let partition = self.partitions.get_mut(&at).ok_or(Stale)?;
        Ok(partition.append(record, Some(serial)))
    }

    /// Ends the open transaction of an id. Without one nothing happens.
    pub fn end(&mut self, id: &str, epoch: u32, committed: bool, markers: Markers) -> Result<(), Stale> {
        let Some(coordinated) = self.coordinated.get_mut(id).filter(|known| known.epoch == epoch) else {
            return Err(Stale);
        };
        let Some(open) = coordinated.open.take() else {
            return Ok(());
        };
        for at in open.touched {
            self.late.push(Late::Marker { id: id.to_owned(), at, transaction: open.serial, committed });
        }
        if markers == Markers::Now {
            self.arrive_markers(id);
        }
        Ok(())
    }

    /// The latest record of a key whose commit is decided, also when its marker is still on its way.
    pub fn last_decided(&self, at: TopicPartition, key: &[u8]) -> Option<StoredRecord> {
        let is_decided = |serial| {
            self.late.iter().any(|late| {
                matches!(late, Late::Marker { at: of, transaction, committed: true, .. }
                    if *of == at && *transaction == serial)
            })
        };
        self.partitions.get(&at)?.last_of(key, is_decided).cloned()
    }

    /// The commit of an id is on its way.
    pub fn commit_later(&mut self, id: &str, epoch: u32) {
        self.late.push(Late::Commit { id: id.to_owned(), epoch });
    }

    /// Number of requests and markers on their way.
    pub fn late(&self) -> usize {
        self.late.len()
    }

    /// The one on its way at `index` (modulo their number) arrives. False: there is none.
    pub fn deliver(&mut self, index: usize) -> bool {
        if self.late.is_empty() {
            return false;
        }
        match self.late.remove(index % self.late.len()) {
            // A commit of an epoch that is over is refused, as it should be.
            Late::Commit { id, epoch } => _ = self.end(&id, epoch, true, Markers::Now),
            Late::Marker { at, transaction, committed, .. } => self.mark(at, transaction, committed),
        }
        true
    }

    fn close(&mut self, id: &str) {
        if let Some(epoch) = self.coordinated.get(id).map(|coordinated| coordinated.epoch) {
            _ = self.end(id, epoch, false, Markers::Now);
        }
        self.arrive_markers(id);
    }

    /// The broker starts no transaction of an id (CONCURRENT_TRANSACTIONS) before the markers of the last one stand.
    fn arrive_markers(&mut self, id: &str) {
        let is_of = |late: &Late| matches!(late, Late::Marker { id: of, .. } if of == id);
        while let Some(index) = self.late.iter().position(is_of) {
            self.deliver(index);
        }
    }

    fn mark(&mut self, at: TopicPartition, transaction: Serial, committed: bool) {
        if let Some(partition) = self.partitions.get_mut(&at) {
            partition.mark(transaction, committed);
        }
    }
}

fn unknown(at: TopicPartition) -> LogError {
    LogError::Refused(format!("topic {} has no partition {}", at.topic.0, at.partition))
}
