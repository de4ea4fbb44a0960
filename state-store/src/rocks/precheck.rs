//! Looks for a hole in the history of a closed store: writes that are gone while later ones are still there.
//!
//! RocksDB takes a manifest that ends too early for a younger store. When the lost end named a flushed file, the log
//! with the same rows is gone too, and replaying the log after it would give a state that never existed: later rows
//! over a gap. Every write has a sequence number, so the gap shows: the first log to be replayed must begin where the
//! flushed files end. RocksDB does not compare the two; this does, before it opens the store.
//!
//! What is unreadable here is left to RocksDB, which reports it. The layout of logs and of the first fields of a
//! manifest record is the one that its versions have kept since LevelDB.

use std::fs;
use std::path::Path;

use super::open::file_names;
use crate::StoreError;
use crate::checksum::crc32c;

const BLOCK: usize = 32 << 10;
/// Masked CRC-32C, length, type.
const HEADER: usize = 4 + 2 + 1;
const FULL: u8 = 1;
const FIRST: u8 = 2;
const MIDDLE: u8 = 3;
const LAST: u8 = 4;

/// Fails when the store lacks writes in the midst of its history.
pub(super) fn refuse_hole(path: &Path) -> Result<(), StoreError> {
    let Some(flushed) = flushed(path) else {
        return Ok(());
    };
    let Some((log, first)) = first_replayed(path, flushed.log_number)? else {
        return Ok(());
    };
    if first <= flushed.sequence + 1 {
        return Ok(());
    }
    let detail = format!(
        "log {log} begins with write {first}, the files before it end with {}",
        flushed.sequence
    );
    Err(StoreError::corrupt(
        format!("store {}", path.display()),
        detail,
    ))
}

/// What the manifest says about files that need no replay.
#[derive(Debug, Default, PartialEq, Eq)]
struct Flushed {
    /// Logs below this number are not replayed.
    log_number: u64,
    /// Last write in a flushed file.
    sequence: u64,
}

fn flushed(path: &Path) -> Option<Flushed> {
    let current = fs::read_to_string(path.join("CURRENT")).ok()?;
    let manifest = fs::read(path.join(current.trim_end())).ok()?;
    let mut flushed = Flushed::default();
    for edit in (Records {
        bytes: &manifest,
        at: 0,
    }) {
        flushed.apply(&edit);
    }
    Some(flushed)
}

impl Flushed {
    /// Reads the head of a manifest record, where the numbers stand; the lists of files behind them do not matter.
    fn apply(&mut self, edit: &[u8]) {
        let mut rest = edit;
        while let Some(tag) = varint(&mut rest) {
            match tag {
                // Comparator, id of the database: text.
                1 | 8193 => {
                    let Some(tail) =
                        varint(&mut rest).and_then(|len| rest.get(usize::try_from(len).ok()?..))
                    else {
                        return;
                    };
                    rest = tail;
                }
                // Log number, lowest log to keep; last sequence.
                2 | 10 => self.log_number = self.log_number.max(varint(&mut rest).unwrap_or(0)),
                4 => self.sequence = self.sequence.max(varint(&mut rest).unwrap_or(0)),
                // Next file, previous log, highest column family.
                3 | 9 | 203 => drop(varint(&mut rest)),
                _ => return,
            }
        }
    }
}

/// Number and first write of the first log that RocksDB will replay, if there is anything to replay.
fn first_replayed(path: &Path, log_number: u64) -> Result<Option<(u64, u64)>, StoreError> {
    let mut logs: Vec<u64> = file_names(path)?
        .iter()
        .filter_map(|name| name.strip_suffix(".log")?.parse().ok())
        .collect();
    logs.retain(|log| *log >= log_number);
    logs.sort_unstable();
    for log in logs {
        let file = path.join(format!("{log:06}.log"));
        let bytes = fs::read(&file)
            .map_err(|error| StoreError::from_io(file.display().to_string(), &error))?;
        if let Some(batch) = (Records {
            bytes: &bytes,
            at: 0,
        })
        .next()
        {
            // A batch begins with the number of its first write.
            return Ok(batch
                .first_chunk()
                .map(|first| (log, u64::from_le_bytes(*first))));
        }
        if !bytes.is_empty() {
            // Damaged from the start: RocksDB replays nothing from here on.
            return Ok(None);
        }
    }
    Ok(None)
}

/// Whole records of a log file, up to its end or to the first damage.
struct Records<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Iterator for Records<'_> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let mut record: Option<Vec<u8>> = None;
        loop {
            let (kind, payload) = self.fragment()?;
            match (kind, record.as_mut()) {
                (FULL, None) => return Some(payload.to_vec()),
                (FIRST, None) => record = Some(payload.to_vec()),
                (MIDDLE, Some(record)) => record.extend_from_slice(payload),
                (LAST, Some(_)) => {
                    let mut record = record?;
                    record.extend_from_slice(payload);
                    return Some(record);
                }
                (FULL | FIRST | MIDDLE | LAST, _) => return None,
                // Notes of the log about itself.
                _ => {}
            }
        }
    }
}

impl<'a> Records<'a> {
    fn fragment(&mut self) -> Option<(u8, &'a [u8])> {
        let left = BLOCK - self.at % BLOCK;
        if left < HEADER {
            self.at += left;
        }
        let block_end = self.at - self.at % BLOCK + BLOCK;
        let bytes = self.bytes.get(self.at..block_end.min(self.bytes.len()))?;
        let (header, rest) = bytes.split_first_chunk::<HEADER>()?;
        let [c0, c1, c2, c3, len0, len1, kind] = *header;
        let payload = rest.get(..usize::from(u16::from_le_bytes([len0, len1])))?;
        let sum = crc32c(&bytes[HEADER - 1..HEADER + payload.len()]);
        if u32::from_le_bytes([c0, c1, c2, c3]) != sum.rotate_right(15).wrapping_add(0xA282_EAD8) {
            return None;
        }
        self.at += HEADER + payload.len();
        Some((kind, payload))
    }
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7F).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
