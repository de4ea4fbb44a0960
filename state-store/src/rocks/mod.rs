//! The store on disk: one RocksDB database with one column family.
//!
//! One column family, because then one write-ahead log and one memtable make a batch over all tables atomic and a
//! recovery a prefix of the commits, without flushing families together. Neighbours: `budget` sets the options,
//! `open` decides whose directory it is, `precheck` looks at the files before RocksDB does, `classify` sorts errors.
//!
//! A checkpoint for another instance needs nothing more than hard links of the tables and a copy of the log: identity and
//! progress are rows like any other and so are in it.

mod budget;
mod classify;
mod open;
mod precheck;
mod records;

use std::fs::File;
use std::path::{Path, PathBuf};

use rocksdb::checkpoint::Checkpoint;
use rocksdb::{DB, ErrorKind, ReadOptions, WaitForCompactOptions, WriteBatch, WriteOptions};

pub use budget::Budget;
pub use open::{Opened, open, wipe};

use crate::scan::stored;
use crate::{Batch, Page, Progress, ScanRange, Snapshot, Store, StoreError, TableId, own_rows};

/// How often a stalled write looks whether it may go on.
const STALL_CHECK_US: u64 = 10_000;

/// A [`Store`] in a directory. Made by [`open`]; the directory is locked until it is dropped.
pub struct RocksStore {
    // Dropped in this order: the database is closed before the directory is free for others.
    db: DB,
    write_options: WriteOptions,
    path: PathBuf,
    _budget: Budget,
    _lock: File,
}

struct RocksSnapshot<'a> {
    view: rocksdb::Snapshot<'a>,
    store: &'a RocksStore,
}

impl RocksStore {
    /// The directory of the store.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn view(&self) -> RocksSnapshot<'_> {
        RocksSnapshot { view: self.db.snapshot(), store: self }
    }

    /// Writes, and waits for flushes and merges that lag behind. RocksDB's own wait is not used: it would also wait
    /// for a flush that has no space, and so for ever, with the caller's thread.
    fn write(&self, operation: &str, batch: &Batch) -> Result<(), StoreError> {
        loop {
            match self.db.write_opt(writes_of(batch), &self.write_options) {
                Err(error) if error.kind() == ErrorKind::Incomplete => self.wait_for_background(operation)?,
                outcome => return outcome.map_err(|error| self.error(operation, &error)),
            }
        }
    }

    /// Returns when background work is done, after a while, or with what made it fail.
    fn wait_for_background(&self, operation: &str) -> Result<(), StoreError> {
        let mut options = WaitForCompactOptions::default();
        options.set_timeout(STALL_CHECK_US);
        match self.db.wait_for_compact(&options) {
            Err(error) if error.kind() != ErrorKind::TimedOut => Err(self.error(operation, &error)),
            _ => Ok(()),
        }
    }

    fn error(&self, operation: &str, error: &rocksdb::Error) -> StoreError {
        classify::classify(&self.path, operation, error)
    }

    fn property(&self, name: &str) -> u64 {
        self.db.property_int_value(name).ok().flatten().unwrap_or(0)
    }
}

impl std::fmt::Debug for RocksStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RocksStore").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Store for RocksStore {
    fn get(&self, table: TableId, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let row = with_stored(table, key, |key| self.db.get_pinned_opt(key, &read_options()).map(copied));
        row.map_err(|error| self.error("get", &error))
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
        self.write("commit", &batch)
    }

    fn load(&self, batch: Batch, progress: &Progress) -> Result<(), StoreError> {
        // The log stays on: without it a crash between the last load and the first flush would keep later commits and
        // lose earlier rows. In large batches it costs a tenth.
        self.commit(batch, progress)
    }

    fn commit_rows(&self, mut batch: Batch, source: &str, next_offset: i64) -> Result<(), StoreError> {
        batch.check()?;
        own_rows::put_event_offset(&mut batch, source, next_offset)?;
        self.write("commit of rows", &batch)
    }

    fn flush(&self) -> Result<(), StoreError> {
        self.db.flush().map_err(|error| self.error("flush", &error))
    }

    fn checkpoint(&self, directory: &Path) -> Result<(), StoreError> {
        // RocksDB would say that a file is missing, which is what a damaged store says.
        if !directory.parent().is_some_and(Path::is_dir) || directory.exists() {
            let detail = format!("{} is no new directory in one that exists", directory.display());
            return Err(StoreError::Misuse { detail });
        }
        // Memtables are flushed first, so that the copy is tables and next to no log.
        let made = Checkpoint::new(&self.db).and_then(|checkpoint| checkpoint.create_checkpoint(directory));
        made.map_err(|error| self.error("checkpoint", &error))
    }

    fn approximate_bytes(&self) -> u64 {
        self.property("rocksdb.total-sst-files-size") + self.property("rocksdb.cur-size-all-mem-tables")
    }
}

impl Snapshot for RocksSnapshot<'_> {
    fn get(&self, table: TableId, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let row = with_stored(table, key, |key| self.view.get_pinned_opt(key, read_options()).map(copied));
        row.map_err(|error| self.store.error("get", &error))
    }

    fn progress(&self) -> Result<Progress, StoreError> {
        own_rows::read_progress(self)
    }

    fn commit_sequence(&self) -> Result<u64, StoreError> {
        own_rows::read_commit_sequence(self)
    }

    fn scan(&self, table: TableId, range: &ScanRange) -> Result<Page, StoreError> {
        let (low, high) = range.bounds(table);
        let mut page = Page::default();
        if low >= high {
            return Ok(page);
        }
        let mut options = read_options();
        options.set_iterate_range(low..high);
        let mut rows = self.view.raw_iterator_opt(options);
        if range.reverse {
            rows.seek_to_last()
        } else {
            rows.seek_to_first()
        }
        while let Some((key, row)) = rows.item() {
            if page.rows.len() == range.limit {
                page.more = true;
                break;
            }
            page.rows.push((key.get(1..).unwrap_or_default().to_vec(), row.to_vec()));
            if range.reverse { rows.prev() } else { rows.next() }
        }
        // An iterator that met a damaged block just ends: only its status tells that from the end of the range.
        rows.status().map_err(|error| self.store.error("scan", &error))?;
        Ok(page)
    }
}

fn writes_of(batch: &Batch) -> WriteBatch {
    // Header and about eight bytes of tag and lengths per write.
    let mut writes = WriteBatch::with_capacity_bytes(16 + batch.bytes() + 8 * batch.len());
    for (key, row) in batch.raw() {
        match row {
            Some(row) => writes.put(key, row),
            None => writes.delete(key),
        }
    }
    writes
}

fn read_options() -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_verify_checksums(true);
    options
}

fn copied(row: Option<rocksdb::DBPinnableSlice<'_>>) -> Option<Vec<u8>> {
    row.map(|row| row.to_vec())
}

/// Calls `read` with the stored key, which for keys of usual length is put together on the stack.
fn with_stored<T>(table: TableId, key: &[u8], read: impl FnOnce(&[u8]) -> T) -> T {
    let mut short = [0; 96];
    match short.get_mut(..=key.len()) {
        Some(room) => {
            room[0] = table.0;
            room[1..].copy_from_slice(key);
            read(room)
        }
        None => read(&stored(table, key)),
    }
}
