//! One page of the rows that a caller wants.
//!
//! Rows that are not wanted are scanned and take no place on the page. So a page is bounded twice: by the rows that it
//! holds, and by those that were scanned, because a filter that lets nothing pass must not read a whole table in one call.

use schemas::query::Entry;
use state_store::{Page, ScanRange, Snapshot, StoreError, TableId};
use tonic::Status;

use crate::topology::RowFilter;

/// Rows that one call scans at most.
const SCANNED_MAX: usize = 1000;
/// Rows that are read from the table at once while looking for wanted ones.
const CHUNK: usize = 500;

/// A page, and how far it reaches.
#[derive(Default)]
pub(super) struct FilteredPage {
    /// The wanted rows, in the order of the scan.
    pub entries: Vec<Entry>,
    /// Whether there are rows behind the last one that was scanned.
    pub more: bool,
    /// Rows that were scanned.
    pub scanned: usize,
    /// The last of them, unless that is the last of the entries.
    pub last_scanned: Option<Entry>,
}

impl FilteredPage {
    /// The row behind which the next ones are read.
    fn end(&self) -> Option<&Entry> {
        self.last_scanned.as_ref().or(self.entries.last())
    }

    fn is_full(&self, limit: usize) -> bool {
        self.entries.len() == limit || self.scanned == SCANNED_MAX
    }
}

/// Reads rows of this range until `limit` of them are wanted. Without a filter all are.
pub(super) fn filtered_page(
    snapshot: &dyn Snapshot,
    table: TableId,
    mut range: ScanRange,
    limit: usize,
    filter: Option<&RowFilter>,
    present: impl Fn(&[u8], &[u8]) -> Result<Entry, Status>,
    failed: impl Fn(StoreError) -> Status,
) -> Result<FilteredPage, Status> {
    let mut page = FilteredPage { more: true, ..FilteredPage::default() };
    while page.more && !page.is_full(limit) {
        range.limit = if filter.is_some() { CHUNK } else { limit };
        let Page { rows, more } = snapshot.scan(table, &range).map_err(&failed)?;
        let mut rows = rows.into_iter();
        while !page.is_full(limit)
            && let Some((key, row)) = rows.next()
        {
            let entry = present(&key, &row)?;
            page.scanned += 1;
            if filter.is_none_or(|wants| wants(&entry.value)) {
                page.entries.push(entry);
                page.last_scanned = None;
            } else {
                page.last_scanned = Some(entry);
            }
        }
        page.more = more || rows.len() > 0;
        range.after = page.end().map(|end| end.key.clone()).or(range.after);
    }
    Ok(page)
}
