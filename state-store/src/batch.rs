//! Rows to write together. A batch knows tables and keys, no store: both stores read it the same way.
//!
//! All bytes lie in one arena in the order of the calls, so filling a batch costs two copies and no allocation per row.

use crate::{StoreError, TableId};

/// Puts and deletes that are written atomically; for one key the last call wins.
///
/// Clone it (or build it again from its [`crate::Overlay`]) where a commit may have to be repeated.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    arena: Vec<u8>,
    writes: Vec<Write>,
    reserved: Option<TableId>,
}

/// Ends within the arena; each write begins where the one before it ended.
#[derive(Debug, Clone, Copy)]
struct Write {
    key_end: usize,
    /// `None`: a delete.
    row_end: Option<usize>,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty batch with room for `rows` writes of `bytes` bytes in all.
    pub fn with_capacity(rows: usize, bytes: usize) -> Self {
        Batch { arena: Vec::with_capacity(bytes + rows), writes: Vec::with_capacity(rows), reserved: None }
    }

    /// Sets the row under `key`.
    pub fn put(&mut self, table: TableId, key: &[u8], row: &[u8]) {
        self.note_reserved(table);
        self.push(table, key, Some(row));
    }

    /// Removes the row under `key`; a key without a row is no error.
    pub fn delete(&mut self, table: TableId, key: &[u8]) {
        self.note_reserved(table);
        self.push(table, key, None);
    }

    /// Number of writes.
    pub fn len(&self) -> usize {
        self.writes.len()
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// Bytes of keys and rows.
    pub fn bytes(&self) -> usize {
        self.arena.len()
    }

    /// Empties the batch and keeps its memory.
    pub fn clear(&mut self) {
        self.arena.clear();
        self.writes.clear();
        self.reserved = None;
    }

    /// The writes in the order of the calls: table, key, row (`None` is a delete).
    pub fn iter(&self) -> impl Iterator<Item = (TableId, &[u8], Option<&[u8]>)> {
        self.raw().filter_map(|(key, row)| key.split_first().map(|(table, key)| (TableId(*table), key, row)))
    }

    /// The same with keys as they are stored: the table byte in front.
    pub(crate) fn raw(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        let mut start = 0;
        self.writes.iter().map(move |write| {
            let key = &self.arena[start..write.key_end];
            start = write.row_end.unwrap_or(write.key_end);
            (key, write.row_end.map(|end| &self.arena[write.key_end..end]))
        })
    }

    /// For the store's own rows, which callers must not write.
    pub(crate) fn put_own(&mut self, key: &[u8], row: &[u8]) {
        self.push(TableId::OWN, key, Some(row));
    }

    /// Stores ask this before they write.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        match self.reserved {
            None => Ok(()),
            Some(TableId(table)) => {
                Err(StoreError::Misuse { detail: format!("table {table} is reserved for the store's own rows") })
            }
        }
    }

    fn note_reserved(&mut self, table: TableId) {
        if table.is_reserved() {
            self.reserved = Some(table);
        }
    }

    fn push(&mut self, table: TableId, key: &[u8], row: Option<&[u8]>) {
        self.arena.push(table.0);
        self.arena.extend_from_slice(key);
        let key_end = self.arena.len();
        let row_end = row.map(|row| {
            self.arena.extend_from_slice(row);
            self.arena.len()
        });
        self.writes.push(Write { key_end, row_end });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_come_back_in_order() {
        let mut batch = Batch::with_capacity(3, 16);
        batch.put(TableId(1), b"a", b"one");
        batch.delete(TableId(2), b"");
        batch.put(TableId(1), b"", b"");
        let writes: Vec<_> = batch.iter().collect();
        assert_eq!(
            writes,
            [
                (TableId(1), b"a".as_slice(), Some(b"one".as_slice())),
                (TableId(2), b"".as_slice(), None),
                (TableId(1), b"".as_slice(), Some(b"".as_slice())),
            ]
        );
        assert_eq!((batch.len(), batch.bytes()), (3, 7));
        batch.clear();
        assert!(batch.is_empty() && batch.bytes() == 0 && batch.iter().next().is_none());
    }

    #[test]
    fn reserved_tables_are_refused_until_cleared() {
        for table in [TableId(0), TableId(255)] {
            let mut batch = Batch::new();
            batch.delete(table, b"progress");
            batch.put(TableId(1), b"a", b"one");
            assert!(matches!(batch.check(), Err(StoreError::Misuse { .. })), "{table:?}");
            batch.clear();
            assert_eq!(batch.check(), Ok(()));
        }
    }
}
