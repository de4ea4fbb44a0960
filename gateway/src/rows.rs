//! Keys and rows of the bank's tables as a processor presents them.
//!
//! The query protocol knows bytes only; this file knows that they are a bank's. It reads, it does not ask.

use crate::problem::Problem;
use prost::Message;
pub use schemas::bank_view::{Account, Outcome, Transaction, User, outcome};
use schemas::query::Entry;

/// Table of accounts by iban.
pub const ACCOUNT: &str = "account";
/// Table of users by username.
pub const USER: &str = "user";
/// Table of outcomes by command id.
pub const OUTCOME: &str = "outcome";
/// Table of balance changes by account and sequence.
pub const HISTORY: &str = "history";
/// Table of balance changes by transaction id.
pub const TRANSACTION: &str = "transaction";

/// What every key of an account's history starts with.
#[must_use]
pub fn history_prefix(iban: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(iban.len() + 9);
    key.extend_from_slice(iban.as_bytes());
    key.push(0);
    key
}

/// Key of one balance change in the history of an account (sequence from 1).
#[must_use]
pub fn history_key(iban: &str, sequence: i64) -> Vec<u8> {
    let mut key = history_prefix(iban);
    key.extend_from_slice(&sequence.to_be_bytes());
    key
}

/// Key of a balance change by its id.
#[must_use]
pub fn transaction_key(id: i64) -> Vec<u8> {
    id.to_be_bytes().to_vec()
}

/// The partition that a transaction id names; `None` for a negative id, which no transaction has.
#[must_use]
pub fn partition_of_transaction(id: i64, partitions: i32) -> Option<i32> {
    if id < 0 {
        return None;
    }
    i32::try_from(id % i64::from(partitions)).ok()
}

/// Whether no transaction of the partition lies between these two (0: before the first one). A partition numbers its
/// transactions without a gap, so whoever misses one sees it.
#[must_use]
pub fn follows(earlier: i64, later: i64, partitions: i32) -> bool {
    is_nth_after(earlier, later, 1, partitions)
}

/// Whether `later` is the `nth` transaction of the partition after `earlier` (0: before the first one), so that whoever
/// has counted so many between them has met them all.
#[must_use]
pub fn is_nth_after(earlier: i64, later: i64, nth: u32, partitions: i32) -> bool {
    let number = |id: i64| id / i64::from(partitions.max(1));
    number(earlier).checked_add(nth.into()) == Some(number(later))
}

/// Reads a row; what cannot be read is a defect between our own parts and is said as such.
pub fn decode<T: Message + Default>(table: &str, entry: &Entry) -> Result<T, Problem> {
    T::decode(entry.value.as_slice())
        .map_err(|error| Problem::Internal(format!("a row of table {table} cannot be read: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_id_names_its_partition() {
        let cases = [(0, Some(0)), (25, Some(1)), (i64::MAX, Some(7)), (-1, None), (i64::MIN, None)];
        for (id, partition) in cases {
            assert_eq!(partition_of_transaction(id, 12), partition, "{id}");
        }
    }

    #[test]
    fn a_missing_transaction_shows() {
        for (earlier, later, follows_it) in
            [(0, 13, true), (0, 12, true), (13, 25, true), (13, 37, false), (25, 25, false)]
        {
            assert_eq!(follows(earlier, later, 12), follows_it, "{earlier} {later}");
        }
        assert!(!follows(i64::MAX, 0, 1));
        assert!(is_nth_after(13, 49, 3, 12) && !is_nth_after(13, 49, 2, 12) && !is_nth_after(i64::MAX, 0, 1, 1));
    }

    #[test]
    fn history_keys_order_by_account_then_sequence() {
        let keys = [history_key("A", 1), history_key("A", 256), history_key("AB", 1), history_key("B", 1)];
        assert!(keys.is_sorted());
        assert!(keys[1].starts_with(&history_prefix("A")));
        assert!(!keys[2].starts_with(&history_prefix("A")));
    }
}
