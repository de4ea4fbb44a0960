//! The history of one account, newest first, a page at a time.

use crate::live::filter::Filter;
use crate::problem::Problem;
use crate::processors::{Processors, Range, Reading};
use crate::rows::{self, Transaction};

/// Rows that are scanned for one page: a filter that accepts nothing must not read a whole history. The page then ends
/// early and says where to go on.
const MOST_ROWS: u32 = 5000;
/// Rows of one answer.
const CHUNK: u32 = 500;

/// Some transactions of an account.
#[derive(Debug, Default)]
pub struct Page {
    /// Newest first.
    pub transactions: Vec<Transaction>,
    /// Whether older ones may follow.
    pub more: bool,
    /// Last transaction that was scanned, wanted or not; `None` when there was none.
    pub end: Option<Transaction>,
}

/// At most `limit` transactions that the filter accepts, older than the sequence `before` (`None`: the newest).
pub async fn page(
    processors: &Processors,
    iban: &str,
    filter: &Filter,
    limit: usize,
    before: Option<i64>,
    reading: &Reading,
) -> Result<Page, Problem> {
    let partition = processors.partition_of(iban);
    let mut page = Page { more: true, ..Page::default() };
    let mut after = before.map(|sequence| rows::history_key(iban, sequence)).unwrap_or_default();
    let mut scanned = 0;
    while page.more && page.transactions.len() < limit && scanned < MOST_ROWS {
        let missing = u32::try_from(limit - page.transactions.len()).unwrap_or(CHUNK).clamp(1, CHUNK);
        let prefix = rows::history_prefix(iban);
        let range = Range { prefix, after, reverse: true, limit: missing, filter: filter.encode() };
        let found = processors.scan(partition, rows::HISTORY, range, reading).await?;
        scanned += found.scanned;
        let end = found.end();
        page.more = found.more && end.is_some();
        after = end.map(|entry| entry.key.clone()).unwrap_or_default();
        for entry in &found.entries {
            let transaction = rows::decode(rows::HISTORY, entry)?;
            // A processor of another version may know fewer conditions.
            if filter.accepts(&transaction) {
                page.transactions.push(transaction);
            }
        }
        page.end = end.map(|entry| rows::decode(rows::HISTORY, entry)).transpose()?.or(page.end);
    }
    Ok(page)
}
