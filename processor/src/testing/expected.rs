//! What the store of a partition must hold, recomputed from the topics alone.
//!
//! Shares no code with the restore of the engine but the formats of the application: it reads a whole partition,
//! keeps the latest record of each key, and translates.

use std::collections::BTreeMap;

use schemas::records;
use state_store::{ScanRange, Store, TableId};

use crate::formats::decode_with;
use crate::log::memory::{MemoryLog, StoredRecord};
use crate::log::{TopicId, TopicPartition};
use crate::shard::Codecs;
use crate::task::{OWNER_PREFIX, OWNER_TABLE, POSITION_KEY};
use crate::topology::{Application, Definition};

/// Rows by table and key.
pub(super) type Rows = BTreeMap<(TableId, Vec<u8>), Vec<u8>>;

/// A partition as its topics tell it.
pub(super) struct Expected {
    pub rows: Rows,
    /// `None` before the first commit.
    pub position: Option<records::Position>,
}

/// Folds the changelog and the event topics of a partition.
pub(super) fn fold<A: Application>(
    log: &MemoryLog,
    application: &A,
    codecs: &Codecs,
    partition: i32,
) -> Result<Expected, String> {
    let definition = application.definition();
    let mut expected = Expected { rows: Rows::new(), position: None };
    for (key, value) in latest(read(log, definition.changelog, partition)?)? {
        expected.take(definition, codecs, &key, &value)?;
    }
    for events in &definition.events {
        for record in read(log, events.topic, partition)? {
            let (Some(key), Some(value)) = (&record.key, &record.value) else { continue };
            let rows = &mut expected.rows;
            let sink = &mut |table: TableId, key: &[u8], row: &[u8]| {
                rows.insert((table, key.to_vec()), row.to_vec());
            };
            let folded = application.fold(events.topic, key, value, sink);
            folded.map_err(|error| format!("event at offset {}: {error}", record.offset))?;
        }
    }
    Ok(expected)
}

impl Expected {
    fn take(&mut self, definition: &Definition, codecs: &Codecs, key: &[u8], value: &[u8]) -> Result<(), String> {
        let shown = String::from_utf8_lossy(key).into_owned();
        let told = |error: &dyn std::fmt::Display| format!("changelog record {shown}: {error}");
        if key == POSITION_KEY {
            let position = decode_with(&codecs.schemas, value).map_err(|error| told(&error))?;
            self.position = Some(position);
            return Ok(());
        }
        if key.starts_with(OWNER_PREFIX.as_bytes()) {
            let claim: records::Owner = decode_with(&codecs.schemas, value).map_err(|error| told(&error))?;
            let mut row = Vec::new();
            state_store::rows::encode(&claim, &mut row).map_err(|error| told(&error))?;
            self.rows.insert((OWNER_TABLE, key.to_vec()), row);
            return Ok(());
        }
        let mut parts = key.splitn(2, |byte| *byte == b'/');
        let (name, text) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let table = definition.tables.iter().find(|table| table.name.as_bytes() == name);
        let table = table.ok_or_else(|| told(&"no such table"))?;
        let local = table.format.local_key(text).map_err(|error| told(&error))?;
        let mut row = Vec::new();
        table.format.read_changelog(value, &mut row).map_err(|error| told(&error))?;
        if let Some((index, index_key)) = table.index.zip(table.format.index_key(&local, &row)) {
            self.rows.insert((index, index_key), local.clone());
        }
        self.rows.insert((table.id, local), row);
        Ok(())
    }
}

/// All rows of a store in the tables that a topology has.
pub(super) fn actual(definition: &Definition, store: &dyn Store) -> Result<Rows, String> {
    let backed = definition.tables.iter().flat_map(|table| [Some(table.id), table.index]).flatten();
    let folded = definition.events.iter().flat_map(|events| events.tables.iter().map(|(_, table)| *table));
    let mut rows = Rows::new();
    for table in backed.chain(folded).chain([OWNER_TABLE]) {
        let snapshot = store.snapshot().map_err(|error| error.to_string())?;
        let page = snapshot.scan(table, &ScanRange::all()).map_err(|error| error.to_string())?;
        rows.extend(page.rows.into_iter().map(|(key, row)| ((table, key), row)));
    }
    Ok(rows)
}

/// The first difference between what a store holds and what it must hold, in words.
pub(super) fn difference(expected: &Rows, actual: &Rows) -> Option<String> {
    let name = |(table, key): &(TableId, Vec<u8>)| format!("table {} key {}", table.0, String::from_utf8_lossy(key));
    for (key, row) in expected {
        match actual.get(key) {
            None => return Some(format!("{} is missing", name(key))),
            Some(found) if found != row => return Some(format!("{} is {found:?}, must be {row:?}", name(key))),
            Some(_) => {}
        }
    }
    actual.keys().find(|key| !expected.contains_key(*key)).map(|key| format!("{} must not be there", name(key)))
}

/// Next offset behind the last record that a read_committed reader gets of a partition.
pub(super) fn end_of(log: &MemoryLog, topic: TopicId, partition: i32) -> Result<i64, String> {
    Ok(read(log, topic, partition)?.last().map_or(0, |record| record.offset + 1))
}

fn read(log: &MemoryLog, topic: TopicId, partition: i32) -> Result<Vec<StoredRecord>, String> {
    log.read_committed(TopicPartition { topic, partition }).map_err(|error| error.to_string())
}

fn latest(records: Vec<StoredRecord>) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, String> {
    let mut latest = BTreeMap::new();
    for record in records {
        let key = record.key.ok_or_else(|| format!("changelog record at offset {} has no key", record.offset))?;
        match record.value {
            Some(value) => latest.insert(key, value),
            None => latest.remove(&key),
        };
    }
    Ok(latest)
}
