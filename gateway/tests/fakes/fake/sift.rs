//! The wanted rows of one page of the fake processor.

use gateway::rows;
use prost::Message;
use schemas::bank_view::{Transaction, TransactionFilter};
use schemas::query::{Entry, ScanRequest};

/// Rows that one call looks at: few, so that tests meet the bound.
const LOOKED_AT_MAX: usize = 1000;

#[derive(Default)]
pub struct Sifted {
    pub entries: Vec<Entry>,
    pub more: bool,
    pub looked_at: u32,
    pub last_unwanted: Option<Entry>,
}

/// What of these rows, which are in order, a caller gets.
pub fn sift(rows: Vec<Entry>, request: &ScanRequest) -> Sifted {
    let filter = TransactionFilter::decode(request.filter.as_slice()).unwrap().lowered();
    let of_transactions = [rows::HISTORY, rows::TRANSACTION].contains(&request.table.as_str());
    assert!(of_transactions || request.filter.is_empty(), "no filter of table {}", request.table);
    let wants = |entry: &Entry| {
        request.filter.is_empty() || filter.accepts(&Transaction::decode(entry.value.as_slice()).unwrap())
    };
    let mut sifted = Sifted::default();
    for entry in rows {
        if sifted.entries.len() == request.limit as usize || sifted.looked_at as usize == LOOKED_AT_MAX {
            sifted.more = true;
            break;
        }
        sifted.looked_at += 1;
        sifted.last_unwanted = (!wants(&entry)).then(|| entry.clone());
        if sifted.last_unwanted.is_none() {
            sifted.entries.push(entry);
        }
    }
    sifted
}
