//! The two traits that the engine sees: a store of one partition and one consistent view of it.
//!
//! Object safe, so that the engine holds an `Arc<dyn Store>` and its tests run on the memory twin. All calls block;
//! none of them may run on an async executor's thread.

use std::path::Path;

use crate::{Batch, Page, Progress, ScanRange, StoreError};

/// Names a table: the first byte of the key of each of its rows.
///
/// A number is never given to another table later, because old stores still hold rows under it. 0 holds the store's
/// own rows and 255 is the end of the key space: batches that write to either are refused as [`StoreError::Misuse`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId(pub u8);

impl TableId {
    /// The store's own rows: identity, progress, event offsets.
    pub(crate) const OWN: TableId = TableId(0);

    /// Whether the number is kept back for the store itself.
    pub const fn is_reserved(self) -> bool {
        self.0 == 0 || self.0 == u8::MAX
    }
}

/// The tables of one partition. Only committed state is ever written to it.
///
/// One thread commits; beside it one background loader may call [`Store::commit_rows`] for tables that the commits do
/// not write, and any number of threads read.
pub trait Store: Send + Sync {
    /// The row under `key`, or `None`. Reads the newest committed state.
    fn get(&self, table: TableId, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// One consistent view of all tables and of the progress. Keep it short: it holds back the removal of old rows.
    fn snapshot(&self) -> Result<Box<dyn Snapshot + '_>, StoreError>;

    /// How far the store has come; `Progress::default()` for a new store.
    fn progress(&self) -> Result<Progress, StoreError>;

    /// Writes rows and progress in one atomic write. Survives `kill -9`; a power cut may lose a tail of whole commits.
    ///
    /// Of `progress.event_offset` only the sources that are named in it are written: those that a loader still works
    /// on are left out, and belong to [`Store::commit_rows`] alone. After [`StoreError::Full`] nothing of the batch is
    /// visible and the same batch may be committed again.
    fn commit(&self, batch: Batch, progress: &Progress) -> Result<(), StoreError>;

    /// As [`Store::commit`], for a bulk restore: expects batches of thousands of rows.
    fn load(&self, batch: Batch, progress: &Progress) -> Result<(), StoreError>;

    /// Writes rows and the next offset of one event source in one atomic write, and leaves the rest of the progress
    /// alone: safe beside concurrent commits. For the background loader of a table that is backed by an event topic.
    fn commit_rows(&self, batch: Batch, source: &str, next_offset: i64) -> Result<(), StoreError>;

    /// Makes everything written so far survive a power cut, and the next open quick. For a clean stop.
    fn flush(&self) -> Result<(), StoreError>;

    /// Makes a copy of the store as it is now in `directory`, which must not exist while its parent does: tables are hard
    /// links, so it must lie on the same file system, and a few milliseconds are enough. [`crate::open`] opens it as the
    /// same store, identity and progress included. Commits may go on meanwhile: the copy ends with a whole one, which may
    /// be the one that is being written and that readers of this store do not see yet. A store without files refuses.
    fn checkpoint(&self, directory: &Path) -> Result<(), StoreError> {
        let detail = format!("a store without files has no checkpoint (asked for in {})", directory.display());
        Err(StoreError::Misuse { detail })
    }

    /// Bytes that the store takes on disk and in its write buffers, about.
    fn approximate_bytes(&self) -> u64;
}

/// One consistent view of a store: nothing committed later shows.
pub trait Snapshot: Send {
    /// The row under `key` at the time of the snapshot.
    fn get(&self, table: TableId, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// The progress that belongs to exactly these rows.
    fn progress(&self) -> Result<Progress, StoreError>;

    /// The commit sequence of the progress alone: one point read, for the token of every answered query.
    fn commit_sequence(&self) -> Result<u64, StoreError>;

    /// Rows of one table in key order (or reverse), at most `range.limit` of them. Keys come without the table byte.
    fn scan(&self, table: TableId, range: &ScanRange) -> Result<Page, StoreError>;
}
