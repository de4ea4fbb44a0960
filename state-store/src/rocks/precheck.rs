//! A look at the files of a closed store before RocksDB opens them, for two kinds of damage that it does not survive.
//!
//! **A hole.** RocksDB takes a manifest that ends too early for a younger store. When the lost end named a flushed
//! file, the log with the same rows is gone too, and replaying the log after it would give a state that never existed:
//! later rows over a gap. Every write has a sequence number, so the gap shows: the first log to be replayed must begin
//! where the flushed files end. RocksDB does not compare the two.
//!
//! **A fragment of a recycled log** where none can be. One flipped bit makes it out of a usual one, and RocksDB's reader
//! then stays at that place for ever (seen with 11.8.1), so that the open never returns.
//!
//! All other damage is left to RocksDB, which reports it.

use std::fs;
use std::path::Path;

use super::open::file_names;
use super::records::{Piece, Records};
use crate::StoreError;

/// Fails when RocksDB must not open the store in the directory.
pub(super) fn precheck(path: &Path) -> Result<(), StoreError> {
    let corrupt = |detail| StoreError::corrupt(format!("store {}", path.display()), detail);
    let Some(manifest) = manifest(path) else { return Ok(()) };
    let mut flushed = Flushed::default();
    for piece in Records::of(&manifest) {
        match piece {
            Piece::Record(edit) => flushed.apply(&edit),
            Piece::Recycled => return Err(corrupt("manifest holds a fragment of a recycled log".to_owned())),
            Piece::Damage => {}
        }
    }
    let mut replayed_from = None;
    for log in logs_from(path, flushed.log_number)? {
        let first = check_log(path, log)?;
        replayed_from = replayed_from.or(first.map(|first| (log, first)));
    }
    match replayed_from {
        Some((log, Start::At(first))) if first > flushed.sequence + 1 => {
            let end = flushed.sequence;
            Err(corrupt(format!("log {log} begins with write {first}, the tables end with write {end}")))
        }
        _ => Ok(()),
    }
}

/// The current manifest; none when it cannot be read, which RocksDB will say.
fn manifest(path: &Path) -> Option<Vec<u8>> {
    let current = fs::read_to_string(path.join("CURRENT")).ok()?;
    fs::read(path.join(current.trim_end())).ok()
}

/// What the manifest says about writes that need no replay.
#[derive(Debug, Default, PartialEq, Eq)]
struct Flushed {
    /// Logs below this number are not replayed.
    log_number: u64,
    /// Last write in a table.
    sequence: u64,
}

impl Flushed {
    /// Reads the head of a manifest record, where the numbers stand; the lists of files behind them do not matter.
    fn apply(&mut self, edit: &[u8]) {
        let mut rest = edit;
        while let Some(tag) = varint(&mut rest) {
            let known = match tag {
                // Comparator, id of the database: text.
                1 | 8193 => skip_text(&mut rest),
                // Log number, lowest log to keep.
                2 | 10 => varint(&mut rest).map(|log| self.log_number = self.log_number.max(log)),
                // Last sequence.
                4 => varint(&mut rest).map(|last| self.sequence = self.sequence.max(last)),
                // Next file, previous log, highest column family.
                3 | 9 | 203 => varint(&mut rest).map(drop),
                _ => None,
            };
            if known.is_none() {
                return;
            }
        }
    }
}

/// How the replay of a log begins.
#[derive(Debug, Clone, Copy)]
enum Start {
    /// With this write.
    At(u64),
    /// Not at all: its first bytes are damaged, and RocksDB replays nothing from here on.
    Damaged,
}

/// Start of a log, `None` when it is empty.
fn check_log(path: &Path, log: u64) -> Result<Option<Start>, StoreError> {
    let file = path.join(format!("{log:06}.log"));
    let bytes = fs::read(&file).map_err(|error| StoreError::from_io(file.display().to_string(), &error))?;
    let mut start = None;
    for piece in Records::of(&bytes) {
        let here = match piece {
            // A batch begins with the number of its first write.
            Piece::Record(batch) => batch.first_chunk().map_or(Start::Damaged, |at| Start::At(u64::from_le_bytes(*at))),
            Piece::Damage => Start::Damaged,
            Piece::Recycled => {
                return Err(StoreError::corrupt(file.display().to_string(), "log holds a fragment of a recycled log"));
            }
        };
        start = start.or(Some(here));
    }
    Ok(start)
}

/// Numbers of the logs that RocksDB will replay, in order.
fn logs_from(path: &Path, lowest: u64) -> Result<Vec<u64>, StoreError> {
    let names = file_names(path)?;
    let logs = names.iter().filter_map(|name| name.strip_suffix(".log")?.parse().ok());
    let mut logs: Vec<u64> = logs.filter(|log| *log >= lowest).collect();
    logs.sort_unstable();
    Ok(logs)
}

fn skip_text(bytes: &mut &[u8]) -> Option<()> {
    let len = usize::try_from(varint(bytes)?).ok()?;
    *bytes = bytes.get(len..)?;
    Some(())
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_at_the_head_of_a_manifest_record() {
        let mut flushed = Flushed::default();
        // Database id, log number 14, previous log 0, next file 300, last sequence 1000, then a file.
        flushed.apply(&[0x81, 0x40, 2, b'i', b'd', 2, 14, 9, 0, 3, 0xAC, 2, 4, 0xE8, 7, 103, 4, 99, 2, 77]);
        assert_eq!(flushed, Flushed { log_number: 14, sequence: 1000 });
        // Older and cut ones change nothing.
        flushed.apply(&[2, 12, 4, 5]);
        flushed.apply(&[4]);
        flushed.apply(&[1, 50, b'x']);
        assert_eq!(flushed, Flushed { log_number: 14, sequence: 1000 });
    }

    #[test]
    fn varints() {
        for (bytes, value) in [
            (&[0][..], Some(0)),
            (&[0x7F], Some(127)),
            (&[0x80, 1], Some(128)),
            (&[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1], Some(u64::MAX)),
            (&[0x80], None),
            (&[0x80; 11], None),
        ] {
            assert_eq!(varint(&mut &*bytes), value, "{bytes:?}");
        }
    }
}
