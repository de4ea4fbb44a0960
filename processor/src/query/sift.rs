//! One page of the rows that a caller wants.
//!
//! Rows that are not wanted cost a look and no place on the page. So a page is bounded twice: by the rows that it holds,
//! and by those that were looked at, because a filter that lets nothing pass must not read a whole table in one call.

use schemas::query::Entry;
use state_store::{Page, ScanRange, Snapshot, StoreError, TableId};
use tonic::Status;

use crate::topology::RowFilter;

/// Rows that one call looks at.
const LOOKED_AT_MAX: usize = 5000;
/// Rows that are read from the table at once while looking for wanted ones.
const CHUNK: usize = 500;

/// What was found.
#[derive(Default)]
pub(super) struct Sifted {
    /// The wanted rows, in the order of the scan.
    pub entries: Vec<Entry>,
    /// Whether there are rows behind the last one that was looked at.
    pub more: bool,
    /// Rows that were looked at.
    pub looked_at: usize,
    /// The last of them, unless it is the last of the entries.
    pub last_unwanted: Option<Entry>,
}

impl Sifted {
    fn is_full(&self, limit: usize) -> bool {
        self.entries.len() == limit || self.looked_at == LOOKED_AT_MAX
    }
}

/// Reads rows of this range until `limit` of them are wanted. Without a filter all are.
pub(super) fn sift(
    snapshot: &dyn Snapshot,
    table: TableId,
    mut range: ScanRange,
    limit: usize,
    filter: Option<&RowFilter>,
    present: impl Fn(&[u8], &[u8]) -> Result<Entry, Status>,
    failed: impl Fn(StoreError) -> Status,
) -> Result<Sifted, Status> {
    let mut sifted = Sifted { more: true, ..Sifted::default() };
    while sifted.more && !sifted.is_full(limit) {
        range.limit = if filter.is_some() { CHUNK } else { limit };
        let Page { rows, more } = snapshot.scan(table, &range).map_err(&failed)?;
        let mut rows = rows.into_iter();
        for (key, row) in rows.by_ref() {
            let entry = present(&key, &row)?;
            sifted.looked_at += 1;
            if filter.is_none_or(|wants| wants(&entry.value)) {
                sifted.entries.push(entry);
                sifted.last_unwanted = None;
            } else {
                sifted.last_unwanted = Some(entry);
            }
            if sifted.is_full(limit) {
                break;
            }
        }
        sifted.more = more || rows.len() > 0;
        let last = sifted.last_unwanted.as_ref().or(sifted.entries.last());
        range.after = last.map(|last| last.key.clone()).or(range.after);
    }
    Ok(sifted)
}
