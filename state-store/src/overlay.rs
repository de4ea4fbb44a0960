//! Uncommitted rows of one transaction, in memory.
//!
//! Rules read through the overlay first, then from the store; they write only here. A commit turns the overlay into a
//! [`Batch`], an abort clears it.
//!
//! Shape: one entry per touched key in the order of first touch, all bytes in one arena, an open-addressing index
//! beside it. So a transaction of thousands of rows allocates nothing once the overlay is warm, and the order in which
//! rows are committed follows from the order of the calls alone: no sort, and the same on every replica although the
//! hash is keyed at random. (A `BTreeMap` would sort what nobody asks to be sorted, and allocate twice per row. The
//! random key is for callers' keys that clients choose.)

use std::hash::{BuildHasher, RandomState};
use std::ops::Range;

use crate::{Batch, TableId};

/// Rows of a transaction that is not committed yet. One per shard or task, reused.
#[derive(Debug, Default)]
pub struct Overlay {
    arena: Vec<u8>,
    entries: Vec<Entry>,
    /// Entry number + 1, 0 is free; a power of two long, at most half full.
    index: Vec<usize>,
    hasher: RandomState,
}

#[derive(Debug)]
struct Entry {
    hash: u64,
    /// Table byte and key.
    key: Range<usize>,
    /// Where a row may lie; longer than `len` after a shorter row replaced a longer one.
    room: Range<usize>,
    /// Bytes of the row, `None`: deleted.
    len: Option<usize>,
}

impl Overlay {
    /// An empty overlay.
    pub fn new() -> Self {
        Self::default()
    }

    /// `None`: not touched, ask the store. `Some(None)`: deleted. `Some(Some(row))`: the uncommitted row.
    pub fn get(&self, table: TableId, key: &[u8]) -> Option<Option<&[u8]>> {
        let found = self.find(self.hash(table, key), table, key).ok()?;
        Some(self.row(&self.entries[found]))
    }

    /// Sets the row under `key`.
    pub fn put(&mut self, table: TableId, key: &[u8], row: &[u8]) {
        let entry = self.touch(table, key);
        let room = self.entries[entry].room.clone();
        if row.len() <= room.len() {
            self.arena[room.start..room.start + row.len()].copy_from_slice(row);
        } else {
            let start = self.arena.len();
            self.arena.extend_from_slice(row);
            self.entries[entry].room = start..self.arena.len();
        }
        self.entries[entry].len = Some(row.len());
    }

    /// Removes the row under `key`, also when only the store holds one.
    pub fn delete(&mut self, table: TableId, key: &[u8]) {
        let entry = self.touch(table, key);
        self.entries[entry].len = None;
    }

    /// Number of touched keys.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing was touched.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes in use: keys, rows (replaced ones included until the next clear) and bookkeeping. Commit early when this
    /// passes the budget.
    pub fn bytes(&self) -> usize {
        self.arena.len() + self.entries.len() * size_of::<Entry>()
    }

    /// Forgets all rows and keeps the memory.
    pub fn clear(&mut self) {
        self.arena.clear();
        self.entries.clear();
        self.index.fill(0);
    }

    /// Touched rows in the order of first touch: table, key, row (`None` is a delete).
    pub fn iter(&self) -> impl Iterator<Item = (TableId, &[u8], Option<&[u8]>)> {
        self.entries.iter().map(|entry| {
            let stored = &self.arena[entry.key.clone()];
            (TableId(stored[0]), &stored[1..], self.row(entry))
        })
    }

    /// The rows as a batch; the overlay keeps them, so that a commit that found the disk full can be repeated.
    pub fn to_batch(&self) -> Batch {
        let mut batch = Batch::with_capacity(self.entries.len() + 1, self.arena.len() + 256);
        for (table, key, row) in self.iter() {
            match row {
                Some(row) => batch.put(table, key, row),
                None => batch.delete(table, key),
            }
        }
        batch
    }

    fn row(&self, entry: &Entry) -> Option<&[u8]> {
        entry.len.map(|len| &self.arena[entry.room.start..entry.room.start + len])
    }

    fn hash(&self, table: TableId, key: &[u8]) -> u64 {
        self.hasher.hash_one((table.0, key))
    }

    /// The entry of a key, or the free slot of the index where it belongs.
    fn find(&self, hash: u64, table: TableId, key: &[u8]) -> Result<usize, usize> {
        let Some(mask) = self.index.len().checked_sub(1) else {
            return Err(0);
        };
        let mut slot = hash as usize & mask;
        loop {
            let Some(number) = self.index[slot].checked_sub(1) else {
                return Err(slot);
            };
            let entry = &self.entries[number];
            if entry.hash == hash && self.arena[entry.key.clone()].split_first() == Some((&table.0, key)) {
                return Ok(number);
            }
            slot = (slot + 1) & mask;
        }
    }

    fn touch(&mut self, table: TableId, key: &[u8]) -> usize {
        if (self.entries.len() + 1) * 2 > self.index.len() {
            self.grow();
        }
        let hash = self.hash(table, key);
        let slot = match self.find(hash, table, key) {
            Ok(entry) => return entry,
            Err(slot) => slot,
        };
        let start = self.arena.len();
        self.arena.push(table.0);
        self.arena.extend_from_slice(key);
        let end = self.arena.len();
        self.entries.push(Entry { hash, key: start..end, room: end..end, len: None });
        self.index[slot] = self.entries.len();
        self.entries.len() - 1
    }

    fn grow(&mut self) {
        let size = (self.index.len() * 2).max(64);
        let mask = size - 1;
        self.index.clear();
        self.index.resize(size, 0);
        for (number, entry) in (1..).zip(&self.entries) {
            let mut slot = entry.hash as usize & mask;
            while self.index[slot] != 0 {
                slot = (slot + 1) & mask;
            }
            self.index[slot] = number;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const A: TableId = TableId(1);
    const B: TableId = TableId(2);

    #[test]
    fn deleted_is_known_and_untouched_is_not() {
        let mut overlay = Overlay::new();
        assert_eq!(overlay.get(A, b"k"), None);
        overlay.put(A, b"k", b"row");
        assert_eq!(overlay.get(A, b"k"), Some(Some(b"row".as_slice())));
        assert_eq!(overlay.get(B, b"k"), None);
        overlay.delete(A, b"k");
        overlay.delete(B, b"");
        assert_eq!((overlay.get(A, b"k"), overlay.get(B, b"")), (Some(None), Some(None)));
        overlay.put(A, b"k", b"");
        assert_eq!(overlay.get(A, b"k"), Some(Some(b"".as_slice())));
    }

    #[test]
    fn order_is_that_of_the_first_touch() {
        let mut overlay = Overlay::new();
        overlay.put(B, b"z", b"1");
        overlay.put(A, b"a", b"2");
        overlay.put(B, b"z", b"a longer row");
        overlay.put(A, b"a", b"");
        let rows: Vec<_> = overlay.iter().collect();
        assert_eq!(rows, [(B, b"z".as_slice(), Some(b"a longer row".as_slice())), (A, b"a", Some(b""))]);
        let batch = overlay.to_batch();
        assert!(batch.iter().eq(overlay.iter()));
    }

    #[test]
    fn a_hot_key_takes_no_more_room_and_clear_keeps_the_memory() {
        let mut overlay = Overlay::new();
        overlay.put(A, b"company", &[0; 100]);
        let before = overlay.bytes();
        for round in 0..1_000 {
            overlay.put(A, b"company", &[round as u8; 100]);
        }
        assert_eq!(overlay.bytes(), before);
        let capacity = overlay.arena.capacity();
        overlay.clear();
        assert!(overlay.is_empty() && overlay.bytes() == 0 && overlay.get(A, b"company").is_none());
        assert_eq!(overlay.arena.capacity(), capacity);
    }

    proptest! {
        /// Any calls, few keys, several growths of the index: the overlay is a map.
        #[test]
        fn behaves_as_a_map(calls in proptest::collection::vec((0u8..3, 0u16..200, proptest::option::of(0usize..40)), 0..600)) {
            let (mut overlay, mut map) = (Overlay::new(), BTreeMap::new());
            for (table, key, row) in calls {
                let key = key.to_string().into_bytes();
                let row = row.map(|len| vec![table; len]);
                match &row {
                    Some(row) => overlay.put(TableId(table), &key, row),
                    None => overlay.delete(TableId(table), &key),
                }
                map.insert((TableId(table), key), row);
            }
            prop_assert_eq!(overlay.len(), map.len());
            for ((table, key), row) in &map {
                prop_assert_eq!(overlay.get(*table, key), Some(row.as_deref()));
            }
            let listed: BTreeMap<_, _> = overlay.iter().map(|(table, key, row)| ((table, key.to_vec()), row.map(<[u8]>::to_vec))).collect();
            prop_assert_eq!(listed, map);
        }
    }
}
