//! A history of writes that follows from its step numbers, and the check that a store holds some prefix of it.
//!
//! Step k is a commit (accounts overwritten and deleted, a hot row, the progress) and then one row of the event loader.

use std::collections::BTreeMap;

use state_store::{Batch, Opened, RocksStore, ScanRange, Store, StoreError, TableId};

use super::{ACCOUNTS, HISTORY, USERS, progress};

const SOURCE: &str = "balance_changed";

type Rows = BTreeMap<(TableId, Vec<u8>), Vec<u8>>;

/// Text that does not compress well, the same for the same number.
fn filler(number: u64) -> String {
    let mut state = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut text = format!("{number}:");
    for _ in 0..8 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        text.push_str(&format!("{state:016x}"));
    }
    text
}

fn commit_of(step: u64) -> Batch {
    let mut batch = Batch::new();
    let key = |number: u64| format!("account/{:03}", number % 97);
    batch.put(ACCOUNTS, key(step * 7).as_bytes(), filler(step).as_bytes());
    if step.is_multiple_of(5) {
        batch.delete(ACCOUNTS, key(step * 3).as_bytes());
    }
    batch.put(USERS, b"hot", step.to_string().as_bytes());
    batch
}

fn event_of(step: u64) -> Batch {
    let mut batch = Batch::new();
    batch.put(HISTORY, &step.to_be_bytes(), filler(step + 1_000_000).as_bytes());
    batch
}

/// Writes one step.
pub fn write(store: &dyn Store, step: u64) {
    store.commit(commit_of(step), &progress(step)).unwrap();
    store.commit_rows(event_of(step), SOURCE, i64::try_from(step).unwrap()).unwrap();
}

/// Ends a step that was cut short between its two writes; returns the step that the store now stands at.
pub fn resume(store: &RocksStore) -> Result<u64, StoreError> {
    let step = step_of(store)?;
    if step > 0 {
        store.commit_rows(event_of(step), SOURCE, i64::try_from(step).unwrap())?;
    }
    Ok(step)
}

/// All rows after `commits` commits and `events` events.
fn rows_after(commits: u64, events: u64) -> Rows {
    let mut rows = Rows::new();
    let batches = (1..=commits).map(commit_of).chain((1..=events).map(event_of));
    for batch in batches {
        for (table, key, row) in batch.iter() {
            match row {
                Some(row) => drop(rows.insert((table, key.to_vec()), row.to_vec())),
                None => drop(rows.remove(&(table, key.to_vec()))),
            }
        }
    }
    rows
}

/// What opening and reading a store gave.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// Exactly the state after this step (its event may be missing). 0: empty.
    Prefix(u64),
    /// Damage was named as such, at open or while reading.
    Corrupt,
}

/// Reads everything.
///
/// # Panics
/// When rows were served that are no prefix of the history, or an error does not say that the store is corrupt.
pub fn examine(opened: Result<Opened, StoreError>) -> Found {
    match opened.and_then(|opened| step_of(&opened.into_store())) {
        Ok(step) => Found::Prefix(step),
        Err(StoreError::Corrupt { .. }) => Found::Corrupt,
        Err(other) => panic!("damage was taken for something else: {other}"),
    }
}

/// The step that a whole store stands at.
pub fn step_of(store: &RocksStore) -> Result<u64, StoreError> {
    let view = store.snapshot()?;
    let mut found = view.progress()?;
    let step = found.commit_sequence;
    let events = u64::try_from(found.event_offset.remove(SOURCE).unwrap_or(0)).unwrap();
    assert!(events == step || events + 1 == step, "commit {step} beside event {events}");
    if step > 0 {
        assert_eq!(found, progress(step));
    }
    let mut rows = Rows::new();
    for table in [ACCOUNTS, USERS, HISTORY] {
        for (key, row) in view.scan(table, &ScanRange::all())?.rows {
            assert_eq!(view.get(table, &key)?.as_ref(), Some(&row));
            rows.insert((table, key), row);
        }
    }
    assert!(rows == rows_after(step, events), "rows are not those after step {step}");
    Ok(step)
}
