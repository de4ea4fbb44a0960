//! Answers to queries: rows of one partition, or of all of them merged.
//!
//! Every read is bounded: pages, a limit of rows looked at, a deadline. How old rows may be is for the caller to say.

pub mod accounts;
pub mod history;
pub mod read_token;

use crate::problem::Problem;
use crate::processors::{Processors, Reading};
use crate::rows::{self, Outcome, Transaction};
use tokio::time::Instant;
use uuid::Uuid;

/// The transaction with this id, if there is one.
pub async fn transaction_by_id(
    processors: &Processors,
    id: i64,
    deadline: Instant,
) -> Result<Option<Transaction>, Problem> {
    let Some(partition) = rows::partition_of_transaction(id, processors.partitions()) else { return Ok(None) };
    let key = rows::transaction_key(id);
    let entry = processors.get_one(partition, rows::TRANSACTION, key, &Reading::fresh(deadline)).await?;
    entry.map(|entry| rows::decode(rows::TRANSACTION, &entry)).transpose()
}

/// What became of the command with this id, in the partition of the first of these keys that knows it.
pub async fn outcome(
    processors: &Processors,
    id: Uuid,
    keys: &[String],
    deadline: Instant,
) -> Result<Option<Outcome>, Problem> {
    let mut partitions: Vec<i32> = keys.iter().map(|key| processors.partition_of(key)).collect();
    partitions.dedup();
    for partition in partitions {
        let row = id.as_bytes().to_vec();
        let entry = processors.get_one(partition, rows::OUTCOME, row, &Reading::fresh(deadline)).await?;
        if let Some(entry) = entry {
            return rows::decode(rows::OUTCOME, &entry).map(Some);
        }
    }
    Ok(None)
}
