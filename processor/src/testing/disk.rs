//! The local disk of one simulated instance: stores in memory that outlive its workers, fail now and then, and can be
//! lost.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use state_store::{Batch, MemoryStore, Progress, Snapshot, Store, StoreError, TableId};

use super::fuse::Fuse;
use crate::log::memory::Chance;
use crate::shard::Stores;

/// Stores by partition. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Disk {
    stores: Arc<Mutex<BTreeMap<i32, MemoryStore>>>,
}

impl Disk {
    /// The store of a partition, if it was ever opened. Reads what is there, dies and fails never.
    pub fn look(&self, partition: i32) -> Option<MemoryStore> {
        self.stores.lock().get(&partition).cloned()
    }

    /// The directory of a partition is gone.
    pub fn lose(&self, partition: i32) {
        self.stores.lock().remove(&partition);
    }

    /// As the worker with this fuse sees it; `faults_per_mille` of its writes fail.
    pub fn mounted(&self, fuse: Arc<Fuse>, chance: Chance, faults_per_mille: u32) -> MountedDisk {
        let trouble = Trouble { chance, faults_per_mille, corrupted: Vec::new() };
        MountedDisk { disk: self.clone(), fuse, trouble: Arc::new(Mutex::new(trouble)) }
    }
}

/// A [`Disk`] in use by one worker.
pub(super) struct MountedDisk {
    disk: Disk,
    fuse: Arc<Fuse>,
    trouble: Arc<Mutex<Trouble>>,
}

struct Trouble {
    chance: Chance,
    faults_per_mille: u32,
    /// A store is corrupt once per life of a worker: a second time is a broken disk, which no worker survives.
    corrupted: Vec<i32>,
}

impl Trouble {
    fn strike(&mut self, partition: i32) -> Result<(), StoreError> {
        if !self.chance.per_mille(self.faults_per_mille) {
            return Ok(());
        }
        let detail = "injected".to_owned();
        match self.chance.below(3) {
            0 => Err(StoreError::Full { detail }),
            1 if !self.corrupted.contains(&partition) => {
                self.corrupted.push(partition);
                Err(StoreError::Corrupt { what: "row".to_owned(), detail })
            }
            _ => Err(StoreError::Io { what: "write".to_owned(), detail }),
        }
    }
}

impl MountedDisk {
    /// No more faults.
    pub fn calm(&self) {
        self.trouble.lock().faults_per_mille = 0;
    }
}

impl Stores for MountedDisk {
    fn open(&self, partition: i32) -> Result<Arc<dyn Store>, StoreError> {
        self.trouble.lock().strike(partition)?;
        let store = self.disk.stores.lock().entry(partition).or_default().clone();
        Ok(Arc::new(FragileStore {
            store,
            partition,
            failed: AtomicBool::new(false),
            fuse: Arc::clone(&self.fuse),
            trouble: Arc::clone(&self.trouble),
        }))
    }

    fn wipe(&self, partition: i32) -> Result<(), StoreError> {
        self.disk.lose(partition);
        Ok(())
    }
}

struct FragileStore {
    store: MemoryStore,
    partition: i32,
    /// As RocksDB: once a write has failed, none goes through until the store is opened anew. A full disk is not of that kind.
    failed: AtomicBool,
    fuse: Arc<Fuse>,
    trouble: Arc<Mutex<Trouble>>,
}

impl FragileStore {
    fn write(&self, write: impl FnOnce() -> Result<(), StoreError>) -> Result<(), StoreError> {
        self.fuse.step("before batch");
        if self.failed.load(Ordering::Relaxed) {
            return Err(StoreError::Io { what: "write".to_owned(), detail: "an earlier one failed".to_owned() });
        }
        if let Err(error) = self.trouble.lock().strike(self.partition) {
            self.failed.store(matches!(error, StoreError::Io { .. }), Ordering::Relaxed);
            return Err(error);
        }
        let written = write();
        self.fuse.step("after batch");
        written
    }
}

impl Store for FragileStore {
    fn get(&self, table: TableId, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.store.get(table, key)
    }

    fn snapshot(&self) -> Result<Box<dyn Snapshot + '_>, StoreError> {
        self.store.snapshot()
    }

    fn progress(&self) -> Result<Progress, StoreError> {
        self.store.progress()
    }

    fn commit(&self, batch: Batch, progress: &Progress) -> Result<(), StoreError> {
        self.write(|| self.store.commit(batch, progress))
    }

    fn load(&self, batch: Batch, progress: &Progress) -> Result<(), StoreError> {
        self.write(|| self.store.load(batch, progress))
    }

    fn commit_rows(&self, batch: Batch, source: &str, next_offset: i64) -> Result<(), StoreError> {
        self.write(|| self.store.commit_rows(batch, source, next_offset))
    }

    fn flush(&self) -> Result<(), StoreError> {
        self.store.flush()
    }

    fn approximate_bytes(&self) -> u64 {
        self.store.approximate_bytes()
    }
}
