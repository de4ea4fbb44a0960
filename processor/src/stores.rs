//! The stores of an instance on its local disk: one directory per partition.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use state_store::{Budget, Identity, Opened, Store, StoreError};

use crate::shard::Stores;

/// Directories below one state directory, one memory budget for all.
pub struct DiskStores {
    directory: PathBuf,
    identity: Identity,
    budget: Budget,
}

impl DiskStores {
    /// `identity`: of partition 0; the partition is filled in.
    pub fn new(directory: PathBuf, identity: Identity, budget: Budget) -> DiskStores {
        DiskStores { directory, identity, budget }
    }

    /// Directory of one partition below a state directory.
    pub fn path(directory: &Path, partition: i32) -> PathBuf {
        directory.join(format!("partition-{partition}"))
    }
}

impl Stores for DiskStores {
    fn open(&self, partition: i32) -> Result<Arc<dyn Store>, StoreError> {
        let identity = Identity { partition, ..self.identity.clone() };
        let opened = state_store::open(DiskStores::path(&self.directory, partition), &identity, &self.budget)?;
        Ok(Arc::new(opened.into_store()))
    }

    fn wipe(&self, partition: i32) -> Result<(), StoreError> {
        let path = DiskStores::path(&self.directory, partition);
        state_store::wipe(&path)
            .map_err(|error| StoreError::Io { what: format!("removing {}", path.display()), detail: error.to_string() })
    }

    fn is_missing(&self, partition: i32) -> bool {
        !DiskStores::path(&self.directory, partition).exists()
    }

    fn exchange(&self) -> Option<PathBuf> {
        Some(self.directory.join("peer"))
    }

    fn adopt(&self, partition: i32, copy: &Path) -> Result<(), StoreError> {
        let identity = Identity { partition, ..self.identity.clone() };
        match state_store::open(copy, &identity, &self.budget)? {
            Opened::Existing(store) => drop(store),
            Opened::New(_) => {
                let what = format!("copy {}", copy.display());
                return Err(StoreError::Corrupt { what, detail: "it holds no store".to_owned() });
            }
        }
        let path = DiskStores::path(&self.directory, partition);
        std::fs::rename(copy, &path).map_err(|error| StoreError::Io {
            what: format!("renaming {} to {}", copy.display(), path.display()),
            detail: error.to_string(),
        })
    }

    fn memory_bytes(&self) -> Vec<(&'static str, usize)> {
        let write_buffers = self.budget.write_buffer_bytes();
        let blocks = self.budget.used_bytes().saturating_sub(write_buffers);
        vec![("blocks", blocks), ("write_buffers", write_buffers)]
    }
}
