//! One page of the rows that a caller wants.
//!
//! Rows that are not wanted are scanned and take no place on the page. So a page is bounded twice: by the rows that it
//! holds, and by those that were scanned, because a filter that lets nothing pass must not read a whole table in one call.

use schemas::query::{Entry, ScanResponse};
use state_store::{Page, ScanRange, Snapshot, StoreError, TableId};
use tonic::Status;

use crate::topology::RowFilter;

/// Rows that one call scans at most.
const SCANNED_MAX: u32 = 1000;
/// Rows that are read from the table at once while looking for wanted ones.
const CHUNK: usize = 500;

/// Reads rows of this range until `limit` of them are wanted. Without a filter all are. What is said of the page as a
/// whole, its commit and whether it is stale, is left to the caller.
pub(super) fn filtered_page(
    snapshot: &dyn Snapshot,
    table: TableId,
    mut range: ScanRange,
    limit: usize,
    filter: Option<&RowFilter>,
    present: impl Fn(&[u8], &[u8]) -> Result<Entry, Status>,
    failed: impl Fn(StoreError) -> Status,
) -> Result<ScanResponse, Status> {
    let mut page = ScanResponse { more: true, ..ScanResponse::default() };
    let is_full = |page: &ScanResponse| page.entries.len() == limit || page.scanned == SCANNED_MAX;
    while page.more && !is_full(&page) {
        range.limit = if filter.is_some() { CHUNK } else { limit };
        let Page { rows, more } = snapshot.scan(table, &range).map_err(&failed)?;
        let mut rows = rows.into_iter();
        while !is_full(&page)
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
