//! What can go wrong with a store, sorted by what the caller must do next.
//!
//! Messages name the thing and the way out. RocksDB's own text is kept in `detail`; nobody needs to parse it again,
//! since `rocks::classify` has already read from it all there is to know.

use std::path::PathBuf;

/// Why a call on a store failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Bytes on disk are not what was written. Wipe the directory once and restore from the log; corrupt again right
    /// after a restore means a broken disk or a bug: give up then.
    #[error("store is corrupt, wipe and restore it: {what}: {detail}")]
    Corrupt {
        /// The part that is damaged: a row, a file, an operation.
        what: String,
        /// What was found.
        detail: String,
    },

    /// The directory holds the store of another application, cluster or partition. Wipe it and restore, or
    /// refuse to start: by policy of the caller, never by accident.
    #[error(
        "this is another store: {what} is {found}, expected {expected}; wipe the directory or point to the right one"
    )]
    WrongStore {
        /// The field that differs.
        what: &'static str,
        /// What the store says.
        found: String,
        /// What the caller said.
        expected: String,
    },

    /// Another process (or another store of this process) has the directory open. End it, or use another directory.
    #[error("store {} is in use by another process, which must end first", path.display())]
    Locked {
        /// The store's directory.
        path: PathBuf,
    },

    /// The disk is full. Nothing of the batch was applied: stop consuming, keep the batch, try again later. RocksDB
    /// resumes by itself within seconds of space coming back.
    #[error("no space left for the store, free some and it goes on: {detail}")]
    Full {
        /// What the operating system said.
        detail: String,
    },

    /// Reading or writing failed in another way (permissions, descriptors, a quota, a device error). Drop the task and
    /// open again: RocksDB refuses every write after one that failed like that, also when the cause is gone. The rows on
    /// disk are as of an earlier commit.
    #[error("store input or output failed, reopen it: {what}: {detail}")]
    Io {
        /// The operation.
        what: String,
        /// What the operating system said.
        detail: String,
    },

    /// The caller broke a rule of this crate: a bug, not a condition.
    #[error("store was used wrongly: {detail}")]
    Misuse {
        /// The rule.
        detail: String,
    },
}

impl StoreError {
    pub(crate) fn corrupt(what: impl Into<String>, detail: impl Into<String>) -> Self {
        StoreError::Corrupt { what: what.into(), detail: detail.into() }
    }

    /// Sorts an error of a plain file operation on the store's directory.
    pub(crate) fn from_io(what: impl Into<String>, error: &std::io::Error) -> Self {
        use std::io::ErrorKind::StorageFull;
        match error.kind() {
            StorageFull => StoreError::Full { detail: error.to_string() },
            _ => StoreError::Io { what: what.into(), detail: error.to_string() },
        }
    }

    /// Whether wiping the directory and restoring is the way out.
    pub fn is_corrupt(&self) -> bool {
        matches!(self, StoreError::Corrupt { .. })
    }

    /// Whether waiting for space is the way out.
    pub fn is_full(&self) -> bool {
        matches!(self, StoreError::Full { .. })
    }
}
