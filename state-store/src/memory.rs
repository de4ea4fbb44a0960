//! The store in memory: the twin of the RocksDB store for tests and for simulation.
//!
//! It keeps the same rows under the same keys, the store's own rows included, so both stores share codec and bounds.
//! Nothing is lost but by dropping the last handle: a clone is another handle to the same rows, as a directory is to
//! the processes that open it one after another.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::RwLock;

use crate::scan::stored;
use crate::{Batch, Page, Progress, ScanRange, Snapshot, Store, StoreError, TableId, own_rows};

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// A [`Store`] without a disk. Snapshots share the rows until the next write, which then copies them all: fine for
/// tests, not meant for more.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    rows: Arc<RwLock<Arc<Rows>>>,
}

struct MemorySnapshot {
    rows: Arc<Rows>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Removes all rows and positions, as [`crate::wipe`] does with a directory.
    pub fn wipe(&self) {
        *self.rows.write() = Arc::default();
    }

    fn view(&self) -> MemorySnapshot {
        MemorySnapshot { rows: Arc::clone(&self.rows.read()) }
    }

    fn write(&self, batch: &Batch) {
        let mut guard = self.rows.write();
        let rows = Arc::make_mut(&mut guard);
        for (key, row) in batch.raw() {
            match row {
                Some(row) => drop(rows.insert(key.to_vec(), row.to_vec())),
                None => drop(rows.remove(key)),
            }
        }
    }
}

impl Store for MemoryStore {
    fn get(&self, table: TableId, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.rows.read().get(&stored(table, key)).cloned())
    }

    fn snapshot(&self) -> Result<Box<dyn Snapshot + '_>, StoreError> {
        Ok(Box::new(self.view()))
    }

    fn progress(&self) -> Result<Progress, StoreError> {
        self.view().progress()
    }

    fn commit(&self, mut batch: Batch, progress: &Progress) -> Result<(), StoreError> {
        batch.check()?;
        own_rows::put_progress(&mut batch, progress)?;
        own_rows::put_event_offsets(&mut batch, progress)?;
        self.write(&batch);
        Ok(())
    }

    fn load(&self, batch: Batch, progress: &Progress) -> Result<(), StoreError> {
        self.commit(batch, progress)
    }

    fn commit_rows(&self, mut batch: Batch, source: &str, next_offset: i64) -> Result<(), StoreError> {
        batch.check()?;
        own_rows::put_event_offset(&mut batch, source, next_offset)?;
        self.write(&batch);
        Ok(())
    }

    fn flush(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn approximate_bytes(&self) -> u64 {
        self.rows.read().iter().map(|(key, row)| (key.len() + row.len()) as u64).sum()
    }
}

impl Snapshot for MemorySnapshot {
    fn get(&self, table: TableId, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.rows.get(&stored(table, key)).cloned())
    }

    fn progress(&self) -> Result<Progress, StoreError> {
        own_rows::read_progress(self)
    }

    fn commit_sequence(&self) -> Result<u64, StoreError> {
        own_rows::read_commit_sequence(self)
    }

    fn scan(&self, table: TableId, range: &ScanRange) -> Result<Page, StoreError> {
        let (low, high) = range.bounds(table);
        if low >= high {
            return Ok(Page::default());
        }
        let rows = self.rows.range(low..high);
        Ok(if range.reverse { page(rows.rev(), range.limit) } else { page(rows, range.limit) })
    }
}

fn page<'a>(mut rows: impl Iterator<Item = (&'a Vec<u8>, &'a Vec<u8>)>, limit: usize) -> Page {
    let taken = rows.by_ref().take(limit).map(|(key, row)| (key[1..].to_vec(), row.clone())).collect();
    Page { rows: taken, more: rows.next().is_some() }
}
