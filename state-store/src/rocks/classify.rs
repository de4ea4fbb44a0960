//! Sorts RocksDB's errors by what the caller must do. The binding keeps only the text of an error, so this is the one
//! place that reads it.

use std::path::Path;

use rocksdb::ErrorKind;

use crate::StoreError;

/// Texts of full disks: the device, a limit of RocksDB's own, a quota.
const FULL: [&str; 3] = ["No space left on device", "Space limit reached", "Disk quota exceeded"];

/// A file that the manifest names and the directory does not hold.
const MISSING: &str = "No such file or directory";

pub(super) fn classify(path: &Path, operation: &str, error: &rocksdb::Error) -> StoreError {
    let text = error.as_ref();
    let what = format!("{operation} of {}", path.display());
    if FULL.iter().any(|full| text.contains(full)) {
        return StoreError::Full { detail: text.to_owned() };
    }
    match error.kind() {
        ErrorKind::IOError if text.contains("/LOCK: ") => StoreError::Locked { path: path.to_owned() },
        ErrorKind::IOError if text.contains(MISSING) => StoreError::corrupt(what, text),
        // Our calls have no arguments that could be wrong or unsupported: such words come from damaged bytes.
        ErrorKind::Corruption
        | ErrorKind::NotFound
        | ErrorKind::NotSupported
        | ErrorKind::InvalidArgument
        | ErrorKind::Unknown => StoreError::corrupt(what, text),
        _ => StoreError::Io { what, detail: text.to_owned() },
    }
}
