//! Sorts RocksDB's errors by what the caller must do. The binding keeps only the text of an error, so this is the one
//! place that reads it.

use std::path::Path;

use rocksdb::ErrorKind;

use crate::StoreError;

/// Texts of full disks: the device, a limit of RocksDB's own. Not a quota: RocksDB resumes by itself after the first two
/// only, after anything else it refuses every write until it is opened anew.
const FULL: [&str; 2] = ["No space left on device", "Space limit reached"];

/// A file that the manifest names and the directory does not hold.
const MISSING: &str = "No such file or directory";

pub(super) fn classify(path: &Path, operation: &str, error: &rocksdb::Error) -> StoreError {
    sort(path, operation, error.kind(), error.as_ref())
}

fn sort(path: &Path, operation: &str, kind: ErrorKind, text: &str) -> StoreError {
    let what = format!("{operation} of {}", path.display());
    if FULL.iter().any(|full| text.contains(full)) {
        return StoreError::Full { detail: text.to_owned() };
    }
    match kind {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts as RocksDB 11 writes them.
    #[test]
    fn each_text_has_its_way_out() {
        use ErrorKind::{Aborted, Corruption, IOError, InvalidArgument, NotSupported};
        let cases = [
            (IOError, "IO error: No space left on device: While appending to file: /s/000004.log", "full"),
            (IOError, "IO error: While appending to file: /s/000004.log: Disk quota exceeded", "io"),
            (IOError, "IO error: Space limit reached: Max allowed space was reached", "full"),
            (IOError, "IO error: While lock file: /s/LOCK: Resource temporarily unavailable", "locked"),
            (IOError, "IO error: No such file or directory: While open a file: /s/000012.sst", "corrupt"),
            (Corruption, "Corruption: block checksum mismatch: stored = 1, computed = 2 in /s/000012.sst", "corrupt"),
            (NotSupported, "Not implemented: Unsupported compression method", "corrupt"),
            (InvalidArgument, "Invalid argument: unexpected comparator", "corrupt"),
            (IOError, "IO error: While open a file for random read: /s/000012.sst: Too many open files", "io"),
            (IOError, "IO error: While pread offset 0 len 9: /s/000012.sst: Input/output error", "io"),
            (Aborted, "Operation aborted: ", "io"),
        ];
        for (kind, text, expected) in cases {
            let found = match sort(Path::new("/s"), "get", kind, text) {
                StoreError::Full { .. } => "full",
                StoreError::Locked { .. } => "locked",
                StoreError::Corrupt { .. } => "corrupt",
                StoreError::Io { .. } => "io",
                other => panic!("{text}: {other}"),
            };
            assert_eq!(found, expected, "{text}");
        }
    }
}
