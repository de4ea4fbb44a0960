//! What to scan and what comes back. The arithmetic of bounds is here, once, for both stores.
//!
//! Every scan has a lower and an upper bound within its table: an iterator without an upper bound runs on into the
//! next table.

use crate::TableId;

/// Key (without the table byte) and row.
pub type Row = (Vec<u8>, Vec<u8>);

/// Rows of one scan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// In the order of the scan.
    pub rows: Vec<Row>,
    /// Whether the range holds rows behind the last one; continue with [`ScanRange::after`] its key.
    pub more: bool,
}

/// A range of keys of one table, where in it to start, in which direction, and how many rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanRange {
    /// Only keys that begin with this; empty: all.
    pub prefix: Vec<u8>,
    /// Lowest key, inclusive; empty: from the first.
    pub start: Vec<u8>,
    /// Upper end, exclusive; `None`: to the last.
    pub end: Option<Vec<u8>>,
    /// Start behind this key in the direction of the scan: the last key of the page before.
    pub after: Option<Vec<u8>>,
    /// From the highest key down.
    pub reverse: bool,
    /// At most this many rows.
    pub limit: usize,
}

impl ScanRange {
    /// All rows of a table.
    pub fn all() -> Self {
        ScanRange { prefix: Vec::new(), start: Vec::new(), end: None, after: None, reverse: false, limit: usize::MAX }
    }

    /// All rows whose key begins with `prefix`.
    pub fn prefix(prefix: impl Into<Vec<u8>>) -> Self {
        ScanRange { prefix: prefix.into(), ..Self::all() }
    }

    /// All rows with `start <= key < end`.
    pub fn between(start: impl Into<Vec<u8>>, end: impl Into<Vec<u8>>) -> Self {
        ScanRange { start: start.into(), end: Some(end.into()), ..Self::all() }
    }

    /// From the highest key down.
    pub fn reverse(self) -> Self {
        ScanRange { reverse: true, ..self }
    }

    /// Starts behind `key` in the direction of the scan.
    pub fn after(self, key: impl Into<Vec<u8>>) -> Self {
        ScanRange { after: Some(key.into()), ..self }
    }

    /// At most `limit` rows.
    pub fn limit(self, limit: usize) -> Self {
        ScanRange { limit, ..self }
    }

    /// The range over stored keys (table byte in front): lower bound inclusive, upper bound exclusive. The lower one
    /// may lie above the upper one: then the range is empty.
    pub(crate) fn bounds(&self, table: TableId) -> (Vec<u8>, Vec<u8>) {
        let mut low = stored(table, self.start.as_slice().max(self.prefix.as_slice()));
        let mut high = successor(&stored(table, &self.prefix));
        if let Some(end) = &self.end {
            high = high.min(stored(table, end));
        }
        match &self.after {
            // The smallest key above `after` is `after` with a zero byte behind it.
            Some(after) if !self.reverse => {
                let mut next = stored(table, after);
                next.push(0);
                low = low.max(next);
            }
            Some(after) => high = high.min(stored(table, after)),
            None => {}
        }
        (low, high)
    }
}

/// The key as stored.
pub(crate) fn stored(table: TableId, key: &[u8]) -> Vec<u8> {
    let mut stored = Vec::with_capacity(key.len() + 2);
    stored.push(table.0);
    stored.extend_from_slice(key);
    stored
}

/// The lowest key above all keys that begin with `prefix`, which must not be all ones (no table is 255).
fn successor(prefix: &[u8]) -> Vec<u8> {
    let kept = prefix.iter().rposition(|byte| *byte != u8::MAX).map_or(0, |last| last + 1);
    let mut next = prefix[..kept].to_vec();
    match next.last_mut() {
        Some(last) => *last += 1,
        // Table 255 holds nothing; a bound above every key all the same.
        None => next = vec![u8::MAX; prefix.len() + 1],
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(range: ScanRange, low: &[u8], high: &[u8]) {
        assert_eq!(range.bounds(TableId(7)), (low.to_vec(), high.to_vec()), "{range:?}");
    }

    #[test]
    fn bounds_stay_within_the_table() {
        check(ScanRange::all(), b"\x07", b"\x08");
        check(ScanRange::prefix(*b"ab"), b"\x07ab", b"\x07ac");
        check(ScanRange::prefix(*b"a\xff\xff"), b"\x07a\xff\xff", b"\x07b");
        check(ScanRange::prefix(*b"\xff"), b"\x07\xff", b"\x08");
        check(ScanRange::between(*b"b", *b"d"), b"\x07b", b"\x07d");
        check(ScanRange::between(*b"b", *b"d").after(*b"c"), b"\x07c\0", b"\x07d");
        check(ScanRange::between(*b"b", *b"d").after(*b"a"), b"\x07b", b"\x07d");
        check(ScanRange::between(*b"b", *b"d").after(*b"c").reverse(), b"\x07b", b"\x07c");
        check(ScanRange::prefix(*b"ab").after(*b"zz").reverse(), b"\x07ab", b"\x07ac");
        check(ScanRange { start: b"abx".to_vec(), ..ScanRange::prefix(*b"ab") }, b"\x07abx", b"\x07ac");
    }

    #[test]
    fn no_prefix_has_no_upper_bound() {
        assert_eq!(successor(&[254, 255, 255]), [255]);
        assert!(successor(&[255, 255]) > vec![255, 255, 254]);
    }
}
