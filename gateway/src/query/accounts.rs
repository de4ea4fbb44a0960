//! Accounts of all partitions, ordered by iban.
//!
//! Each partition holds its accounts in order; a page of the whole is the merge of a page of each.

use crate::problem::Problem;
use crate::processors::{Processors, Range, Reading};
use crate::rows::{self, Account, Transaction};
use futures_util::future::try_join_all;
use schemas::query::Entry;
use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::time::Instant;

/// Most rows of `all_last_transactions`: it has no pages, and an answer is built in memory.
pub const MOST_LAST: usize = 10_000;
/// Rows per call.
const CHUNK: u32 = 1000;

/// The account, if there is one. That there is none is only said fresh: what old rows lack may exist by now.
pub async fn one(processors: &Processors, iban: &str, reading: &Reading) -> Result<Option<Account>, Problem> {
    let partition = processors.partition_of(iban);
    let key = iban.as_bytes().to_vec();
    let entry = processors.get_one(partition, rows::ACCOUNT, key, reading).await?;
    if entry.is_none() && reading.is_stale() {
        return Err(Problem::Unavailable(format!("there is no fresh answer, and no account {iban} among old rows")));
    }
    entry.map(|entry| rows::decode(rows::ACCOUNT, &entry)).transpose()
}

/// At most `limit` accounts with an iban greater than `after`, and whether more follow.
pub async fn page(
    processors: &Processors,
    after: &str,
    limit: usize,
    reading: &Reading,
) -> Result<(Vec<Account>, bool), Problem> {
    // One more than wanted tells whether more follow.
    let wanted = u32::try_from(limit + 1).unwrap_or(CHUNK).min(CHUNK);
    let pages = try_join_all((0..processors.partitions()).map(|partition| async move {
        let range = Range { after: after.as_bytes().to_vec(), limit: wanted, ..Range::default() };
        let page = processors.scan(partition, rows::ACCOUNT, range, reading).await?;
        decoded::<Account>(rows::ACCOUNT, &page.entries)
    }))
    .await?;
    let mut accounts: Vec<Account> = pages.into_iter().flatten().collect();
    accounts.sort_unstable_by(|a, b| a.iban.cmp(&b.iban));
    let more = accounts.len() > limit;
    accounts.truncate(limit);
    Ok((accounts, more))
}

/// The last transaction of each account that has one, ordered by iban. More than [`MOST_LAST`] are a problem and not an
/// answer: a part would be taken for the whole.
pub async fn last_transactions(processors: &Processors, deadline: Instant) -> Result<Vec<Transaction>, Problem> {
    let reading = &Reading::fresh(deadline);
    let found = &AtomicUsize::new(0);
    let all = (0..processors.partitions()).map(|partition| last_of_partition(processors, partition, found, reading));
    let mut transactions: Vec<Transaction> = try_join_all(all).await?.into_iter().flatten().collect();
    transactions.sort_unstable_by(|a, b| a.iban.cmp(&b.iban));
    Ok(transactions)
}

/// `found` counts those of all partitions, so that all of them stop as soon as there are too many.
async fn last_of_partition(
    processors: &Processors,
    partition: i32,
    found: &AtomicUsize,
    reading: &Reading,
) -> Result<Vec<Transaction>, Problem> {
    let mut transactions = Vec::new();
    let mut after = Vec::new();
    loop {
        let range = Range { after, limit: CHUNK, ..Range::default() };
        let page = processors.scan(partition, rows::ACCOUNT, range, reading).await?;
        let accounts = decoded::<Account>(rows::ACCOUNT, &page.entries)?;
        let last = last_of(processors, partition, &accounts, reading).await?;
        if found.fetch_add(last.len(), Ordering::Relaxed) + last.len() > MOST_LAST {
            return Err(too_many());
        }
        transactions.extend(last);
        match page.entries.last() {
            Some(last) if page.more => after = last.key.clone(),
            _ => return Ok(transactions),
        }
    }
}

fn too_many() -> Problem {
    Problem::TooManyRows(format!(
        "more than {MOST_LAST} accounts have transactions, and one answer holds no more: ask `accounts` and \
         `transactions` page by page, or follow `stream_transactions`"
    ))
}

async fn last_of(
    processors: &Processors,
    partition: i32,
    accounts: &[Account],
    reading: &Reading,
) -> Result<Vec<Transaction>, Problem> {
    let changed: Vec<&Account> = accounts.iter().filter(|account| account.sequence > 0).collect();
    if changed.is_empty() {
        return Ok(Vec::new());
    }
    let keys = changed.iter().map(|account| rows::history_key(&account.iban, account.sequence)).collect();
    let entries = processors.get(partition, rows::HISTORY, keys, reading).await?;
    let mut found = decoded::<Transaction>(rows::HISTORY, &entries)?;
    if found.len() == changed.len() {
        return Ok(found);
    }
    // Its event was deleted from its topic, or came with a commit between the two reads: the newest that is there.
    let there: HashSet<String> = found.iter().map(|transaction| transaction.iban.clone()).collect();
    for account in changed.iter().filter(|account| !there.contains(&account.iban)) {
        let newest = Range { prefix: rows::history_prefix(&account.iban), reverse: true, limit: 1, ..Range::default() };
        let page = processors.scan(partition, rows::HISTORY, newest, reading).await?;
        found.extend(decoded::<Transaction>(rows::HISTORY, &page.entries)?);
    }
    Ok(found)
}

fn decoded<T: prost::Message + Default>(table: &str, entries: &[Entry]) -> Result<Vec<T>, Problem> {
    entries.iter().map(|entry| rows::decode(table, entry)).collect()
}
