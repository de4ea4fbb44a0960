//! The store's own rows in table 0: layout and codec, the same for both stores.
//!
//! | key (behind the table byte) | row |
//! |---|---|
//! | `identity` | [`Identity`], sealed |
//! | `progress` | [`Progress`] without the event offsets, sealed |
//! | `event/<source>` | next offset of one event source, sealed |
//!
//! Sealed = codec of [`crate::rows`] with a CRC-32 behind it. Event offsets have rows of their own so that a loader
//! and the committing thread need not overwrite each other's positions.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::checksum::{seal, unseal};
use crate::{Batch, Identity, Progress, ScanRange, Snapshot, StoreError, TableId, rows};

const IDENTITY: &[u8] = b"identity";
const PROGRESS: &[u8] = b"progress";
const EVENT: &[u8] = b"event/";

/// Borrowed maps to write, owned ones to read. Its fields belong to the format: see `rows`.
#[derive(Serialize, Deserialize)]
struct ProgressRow<Topics> {
    changelog_offset: i64,
    commit_sequence: u64,
    next_offset: Topics,
    last_transaction: i64,
    layout: (i32, i32),
    written_at_ms: i64,
}

pub(crate) fn put_progress(batch: &mut Batch, progress: &Progress) -> Result<(), StoreError> {
    let row = ProgressRow {
        changelog_offset: progress.changelog_offset,
        commit_sequence: progress.commit_sequence,
        next_offset: &progress.next_offset,
        last_transaction: progress.last_transaction,
        layout: progress.layout,
        written_at_ms: progress.written_at_ms,
    };
    put(batch, PROGRESS, &row)
}

pub(crate) fn put_event_offset(batch: &mut Batch, source: &str, next_offset: i64) -> Result<(), StoreError> {
    let key = [EVENT, source.as_bytes()].concat();
    put(batch, &key, &next_offset)
}

/// The offsets that the caller names; sources that it leaves out keep what they have.
pub(crate) fn put_event_offsets(batch: &mut Batch, progress: &Progress) -> Result<(), StoreError> {
    progress.event_offset.iter().try_for_each(|(source, next)| put_event_offset(batch, source, *next))
}

pub(crate) fn put_identity(batch: &mut Batch, identity: &Identity) -> Result<(), StoreError> {
    put(batch, IDENTITY, identity)
}

pub(crate) fn read_identity(view: &dyn Snapshot) -> Result<Option<Identity>, StoreError> {
    read(view, IDENTITY, "identity")
}

pub(crate) fn read_commit_sequence(view: &dyn Snapshot) -> Result<u64, StoreError> {
    Ok(read_progress_row(view)?.map_or(0, |row| row.commit_sequence))
}

pub(crate) fn read_progress(view: &dyn Snapshot) -> Result<Progress, StoreError> {
    let event_offset = read_event_offsets(view)?;
    Ok(match read_progress_row(view)? {
        None => Progress { event_offset, ..Progress::default() },
        Some(row) => Progress {
            changelog_offset: row.changelog_offset,
            commit_sequence: row.commit_sequence,
            next_offset: row.next_offset,
            event_offset,
            last_transaction: row.last_transaction,
            layout: row.layout,
            written_at_ms: row.written_at_ms,
        },
    })
}

fn read_progress_row(view: &dyn Snapshot) -> Result<Option<ProgressRow<BTreeMap<String, i64>>>, StoreError> {
    read(view, PROGRESS, "progress")
}

fn read_event_offsets(view: &dyn Snapshot) -> Result<BTreeMap<String, i64>, StoreError> {
    let page = view.scan(TableId::OWN, &ScanRange::prefix(EVENT))?;
    page.rows
        .iter()
        .map(|(key, row)| {
            let source = key.get(EVENT.len()..).and_then(|source| std::str::from_utf8(source).ok());
            let source = source.ok_or_else(|| StoreError::corrupt("event offset", "source is not text"))?;
            Ok((source.to_owned(), decode(row, "event offset")?))
        })
        .collect()
}

fn put<T: Serialize>(batch: &mut Batch, key: &[u8], value: &T) -> Result<(), StoreError> {
    let mut row = Vec::with_capacity(128);
    rows::encode(value, &mut row)?;
    seal(&mut row);
    batch.put_own(key, &row);
    Ok(())
}

fn read<T: for<'de> Deserialize<'de>>(view: &dyn Snapshot, key: &[u8], what: &str) -> Result<Option<T>, StoreError> {
    view.get(TableId::OWN, key)?.map(|row| decode(&row, what)).transpose()
}

fn decode<T: for<'de> Deserialize<'de>>(row: &[u8], what: &str) -> Result<T, StoreError> {
    rows::decode(unseal(row, what)?).map_err(|error| StoreError::corrupt(what, error.to_string()))
}
