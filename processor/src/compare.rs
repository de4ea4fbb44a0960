//! Compares a store with what the log says it must hold, byte for byte.
//!
//! The expected rows are built in memory by reading the changelog and the event topics from their beginning; the store
//! was written by live transactions and whatever restores it lived through. Both must be the same.

use std::sync::Arc;

use state_store::{MemoryStore, ScanRange, Store, StoreError, TableId};

use crate::history;
use crate::log::Log;
use crate::membership::Role;
use crate::query::view::PartitionView;
use crate::restore;
use crate::shard::{Interrupt, ShardParts};
use crate::task::Task;
use crate::topology::Application;

/// Rows of one page.
const PAGE: usize = 1000;

/// The comparison could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// The log could not be read.
    #[error("the log could not be read: {0}")]
    Log(String),
    /// A store could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What was compared in one partition.
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    /// Rows of the log.
    pub rows: u64,
    /// The first difference.
    pub difference: Option<String>,
}

/// Compares the store of `partition` with the log. `parts` says how to read it; its stores are not used.
pub fn compare<L: Log, A: Application>(
    parts: &ShardParts<L, A>,
    partition: i32,
    store: &dyn Store,
) -> Result<Comparison, CompareError> {
    let expected = rebuild(parts, partition)?;
    let mut comparison = Comparison::default();
    // 0 and 255 are the store's own.
    for table in (1..=254).map(TableId) {
        compare_table(table, &expected, store, &mut comparison)?;
        if comparison.difference.is_some() {
            return Ok(comparison);
        }
    }
    let (wanted, found) = (expected.progress()?, store.progress()?);
    let of = |progress: &state_store::Progress| {
        (progress.commit_sequence, progress.last_transaction, progress.next_offset.clone(), progress.layout)
    };
    if of(&wanted) != of(&found) {
        comparison.difference = Some(format!("progress is {:?}, the log says {:?}", of(&found), of(&wanted)));
    }
    Ok(comparison)
}

fn rebuild<L: Log, A: Application>(parts: &ShardParts<L, A>, partition: i32) -> Result<MemoryStore, CompareError> {
    let unread = |error: &dyn std::fmt::Display| CompareError::Log(error.to_string());
    let definition = parts.application.definition();
    let store = MemoryStore::new();
    let view = Arc::new(PartitionView::new(partition, definition.shard_of(partition)));
    let mut tasks = vec![Task::new(partition, Arc::new(store.clone()), view, definition)?];
    let mut consumer = parts.log.consumer("compare").map_err(|error| unread(&error))?;
    let interrupted = |interrupt: Interrupt| CompareError::Log(format!("{interrupt:?}"));
    let reading = restore::Reading { consumer: &mut consumer, tails: false, until: None };
    restore::catch_up(parts, Role::Active, reading, &mut tasks).map_err(interrupted)?;
    history::load_all(parts, &tasks).map_err(CompareError::Log)?;
    Ok(store)
}

fn compare_table(
    table: TableId,
    expected: &dyn Store,
    found: &dyn Store,
    comparison: &mut Comparison,
) -> Result<(), CompareError> {
    let (expected, found) = (expected.snapshot()?, found.snapshot()?);
    let mut after: Option<Vec<u8>> = None;
    loop {
        let range = ScanRange { after: after.take(), ..ScanRange::all().limit(PAGE) };
        let (wanted, has) = (expected.scan(table, &range)?, found.scan(table, &range)?);
        comparison.rows += wanted.rows.len() as u64;
        if wanted != has {
            let at = wanted.rows.iter().zip(&has.rows).position(|(wanted, has)| wanted != has);
            let at = at.unwrap_or(wanted.rows.len().min(has.rows.len()));
            let key =
                wanted.rows.get(at).or(has.rows.get(at)).map(|(key, _)| String::from_utf8_lossy(key).into_owned());
            comparison.difference = Some(format!(
                "table {} differs at key {:?}: {} in the store, {} in the log",
                table.0,
                key.unwrap_or_default(),
                of_row(has.rows.get(at)),
                of_row(wanted.rows.get(at))
            ));
            return Ok(());
        }
        match wanted.rows.last() {
            Some((key, _)) if wanted.more => after = Some(key.clone()),
            _ => return Ok(()),
        }
    }
}

/// Keys and lengths only: rows may hold what nobody should read in a report.
fn of_row(row: Option<&state_store::Row>) -> String {
    row.map_or("nothing more".to_owned(), |(key, row)| {
        format!("{} bytes under {:?}", row.len(), String::from_utf8_lossy(key))
    })
}
