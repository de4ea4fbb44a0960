//! The wanted rows of one page of the fake processor.

use gateway::rows;
use prost::Message;
use schemas::TransactionPredicate;
use schemas::bank_view::Transaction;
use schemas::query::{Entry, ScanRequest, ScanResponse};

/// Rows that one call scans, as the protocol says.
const SCANNED_MAX: u32 = 1000;

/// What of these rows, which are in order, a caller gets; without its commit.
pub fn filtered_page(rows: Vec<Entry>, request: &ScanRequest) -> ScanResponse {
    let filter = TransactionPredicate::decode(&request.filter).unwrap();
    let of_transactions = [rows::HISTORY, rows::TRANSACTION].contains(&request.table.as_str());
    assert!(of_transactions || request.filter.is_empty(), "no filter of table {}", request.table);
    let wants = |entry: &Entry| {
        request.filter.is_empty() || filter.accepts(&Transaction::decode(entry.value.as_slice()).unwrap())
    };
    let mut page = ScanResponse::default();
    for entry in rows {
        if page.entries.len() == request.limit as usize || page.scanned == SCANNED_MAX {
            page.more = true;
            break;
        }
        page.scanned += 1;
        if wants(&entry) {
            page.entries.push(entry);
            page.last_scanned = None;
        } else {
            page.last_scanned = Some(entry);
        }
    }
    page
}
