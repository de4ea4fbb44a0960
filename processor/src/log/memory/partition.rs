//! One partition: entries in the order of their offsets, and which of them a read_committed reader sees.
//!
//! Knows transactions only as numbers that are open or aborted; who owns them is the broker's business
//! (`broker.rs`).

use std::collections::{BTreeMap, HashMap, HashSet};

/// Number of one transaction, never used again.
pub(super) type Serial = u64;

/// A record at rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRecord {
    /// Where it stands.
    pub offset: i64,
    /// Milliseconds since 1970 as the log told them.
    pub timestamp_ms: i64,
    /// `None`: null key.
    pub key: Option<Vec<u8>>,
    /// `None`: null value, a tombstone in a compacted topic.
    pub value: Option<Vec<u8>>,
    /// Names and values.
    pub headers: Vec<(String, Vec<u8>)>,
}

/// What a compaction does with tombstones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tombstones {
    /// They are younger than `delete.retention.ms`: they stay.
    Keep,
    /// They are older: they go, and with them the markers of transactions that left no record.
    Drop,
}

#[derive(Clone, Debug)]
enum Body {
    Record { record: StoredRecord, transaction: Option<Serial> },
    Marker { transaction: Serial },
}

#[derive(Clone, Debug)]
struct Entry {
    offset: i64,
    body: Body,
}

/// What one reader took in one go.
pub(super) struct Passed<'a> {
    /// Visible records.
    pub records: Vec<&'a StoredRecord>,
    /// Offset after the last entry that was passed, invisible ones included; `None` when there was none.
    pub next: Option<i64>,
}

#[derive(Debug, Default)]
pub(super) struct Partition {
    low: i64,
    high: i64,
    entries: Vec<Entry>,
    /// Open transactions and the offset of their first record here.
    open: BTreeMap<Serial, i64>,
    aborted: HashSet<Serial>,
}

impl Partition {
    pub fn low(&self) -> i64 {
        self.low
    }

    pub fn high(&self) -> i64 {
        self.high
    }

    /// First offset that no read_committed reader may see yet.
    pub fn last_stable(&self) -> i64 {
        self.open.values().copied().min().unwrap_or(self.high)
    }

    /// Appends a record, inside a transaction or plainly. Its offset is set here.
    pub fn append(&mut self, mut record: StoredRecord, transaction: Option<Serial>) -> i64 {
        let offset = self.take_offset();
        record.offset = offset;
        if let Some(serial) = transaction {
            self.open.entry(serial).or_insert(offset);
        }
        self.entries.push(Entry { offset, body: Body::Record { record, transaction } });
        offset
    }

    /// Ends a transaction here: its marker takes one offset.
    pub fn mark(&mut self, transaction: Serial, committed: bool) {
        let offset = self.take_offset();
        self.open.remove(&transaction);
        if !committed {
            self.aborted.insert(transaction);
        }
        self.entries.push(Entry { offset, body: Body::Marker { transaction } });
    }

    /// Passes entries from `from` up to the last stable offset, until `more` refuses the next visible record.
    pub fn pass<'a>(&'a self, from: i64, mut more: impl FnMut(&StoredRecord) -> bool) -> Passed<'a> {
        let stable = self.last_stable();
        let start = self.entries.partition_point(|entry| entry.offset < from);
        let mut passed = Passed { records: Vec::new(), next: None };
        for entry in self.entries[start..].iter().take_while(|entry| entry.offset < stable) {
            if let Some(record) = self.visible(entry) {
                if !more(record) {
                    break;
                }
                passed.records.push(record);
            }
            passed.next = Some(entry.offset + 1);
        }
        passed
    }

    /// All records, also those that were aborted or are still open.
    pub fn uncommitted(&self) -> impl Iterator<Item = &StoredRecord> {
        self.entries.iter().filter_map(|entry| match &entry.body {
            Body::Record { record, .. } => Some(record),
            Body::Marker { .. } => None,
        })
    }

    /// The latest record of a key that is committed, or belongs to an open transaction that `is_decided` accepts.
    pub fn last_of(&self, key: &[u8], is_decided: impl Fn(Serial) -> bool) -> Option<&StoredRecord> {
        self.entries.iter().rev().find_map(|entry| {
            let undecided = |serial| self.open.contains_key(serial) && !is_decided(*serial);
            if record_of(entry).as_ref().is_some_and(undecided) {
                return None;
            }
            self.visible(entry).filter(|record| record.key.as_deref() == Some(key))
        })
    }

    /// True when there is an entry from `from` on that a read_committed reader can pass.
    pub fn is_readable(&self, from: i64) -> bool {
        let start = self.entries.partition_point(|entry| entry.offset < from);
        self.entries.get(start).is_some_and(|entry| entry.offset < self.last_stable())
    }

    /// Deletes what stands below `offset` (at most all of it) and returns the new first offset.
    pub fn delete_below(&mut self, offset: i64) -> i64 {
        self.low = self.low.max(offset.min(self.high));
        let low = self.low;
        self.entries.retain(|entry| entry.offset >= low);
        self.low
    }

    /// Compacts below the last stable offset; the last entry stands for the segment that is being written, which a
    /// broker never cleans. Aborted records go, the latest one of each key stays, offsets do not change.
    pub fn compact(&mut self, tombstones: Tombstones) {
        let Some(last) = self.entries.last() else {
            return;
        };
        let end = self.last_stable().min(last.offset);
        let latest = self.latest_below(end);
        let aborted = &self.aborted;
        self.entries.retain(|entry| entry.offset >= end || stays(entry, &latest, aborted, tombstones));
        if tombstones == Tombstones::Drop {
            let with_records: HashSet<Serial> = self.entries.iter().filter_map(record_of).collect();
            self.entries.retain(|entry| match entry.body {
                Body::Marker { transaction } => entry.offset >= end || with_records.contains(&transaction),
                Body::Record { .. } => true,
            });
        }
    }

    fn latest_below(&self, end: i64) -> HashMap<Vec<u8>, i64> {
        let mut latest = HashMap::new();
        for entry in self.entries.iter().take_while(|entry| entry.offset < end) {
            if let Some(StoredRecord { key: Some(key), .. }) = self.visible(entry) {
                latest.insert(key.clone(), entry.offset);
            }
        }
        latest
    }

    fn visible<'a>(&self, entry: &'a Entry) -> Option<&'a StoredRecord> {
        match &entry.body {
            Body::Record { transaction: Some(serial), .. } if self.aborted.contains(serial) => None,
            Body::Record { record, .. } => Some(record),
            Body::Marker { .. } => None,
        }
    }

    fn take_offset(&mut self) -> i64 {
        self.high += 1;
        self.high - 1
    }
}

fn stays(entry: &Entry, latest: &HashMap<Vec<u8>, i64>, aborted: &HashSet<Serial>, tombstones: Tombstones) -> bool {
    match &entry.body {
        Body::Marker { .. } => true,
        Body::Record { transaction: Some(serial), .. } if aborted.contains(serial) => false,
        Body::Record { record, .. } => {
            let superseded = record.key.as_ref().is_some_and(|key| latest.get(key) != Some(&entry.offset));
            let dropped = tombstones == Tombstones::Drop && record.value.is_none();
            !superseded && !dropped
        }
    }
}

fn record_of(entry: &Entry) -> Option<Serial> {
    match entry.body {
        Body::Record { transaction, .. } => transaction,
        Body::Marker { .. } => None,
    }
}
