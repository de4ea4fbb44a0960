//! Everything the rules need besides rows and input. It comes in by value, so that no rule reads a clock.

use crate::Tokens;

/// Own-partition candidates that an account creation looks at, unless configured otherwise. With a tenth of all
/// account numbers taken, eight in a row are taken once in 10^8 creations.
pub const IBAN_DRAWS_MAX: u32 = 8;

/// Configuration of the rules.
#[derive(Clone, Debug)]
pub struct Config {
    /// Signs and verifies the tokens of accounts.
    pub tokens: Tokens,
    /// How many ibans an account creation may try; 0 makes every creation fail.
    pub iban_draws_max: u32,
}

/// Where and when a decision is made.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Partition of the task.
    pub partition: i32,
    /// Number of partitions N, at least 1.
    pub partitions: i32,
    /// The partitioner: key to partition.
    pub partition_of: &'a dyn Fn(&str) -> i32,
    /// Configuration of the rules.
    pub config: &'a Config,
    /// Time of the record that is decided, in milliseconds since 1970.
    pub time_ms: i64,
    /// Sequence that the commit of this decision will have in this partition.
    pub commit_sequence: i64,
    /// Last transaction id that this partition gave, 0 before the first.
    pub last_transaction: i64,
}

impl Context<'_> {
    /// Whether `key` belongs to this partition.
    pub fn owns(&self, key: &str) -> bool {
        (self.partition_of)(key) == self.partition
    }

    /// The id of the nth transaction (from 0) after the last: sequence in the partition * N + partition. Only rises,
    /// unique over all partitions, and tells its partition. `None` when there are no more.
    pub fn transaction_id(&self, nth: i64) -> Option<i64> {
        let partitions = i64::from(self.partitions.max(1));
        let sequence = (self.last_transaction / partitions).checked_add(nth)?.checked_add(1)?;
        sequence.checked_mul(partitions)?.checked_add(i64::from(self.partition))
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Stage;

    #[test]
    fn transaction_ids_rise_and_tell_their_partition() {
        let mut stage = Stage::of(5, 12);
        let ids: Vec<_> = (0..3).map(|nth| stage.context().transaction_id(nth)).collect();
        assert_eq!(ids, [Some(17), Some(29), Some(41)]);
        stage.last_transaction = 29;
        assert_eq!(stage.context().transaction_id(0), Some(41));
        stage.last_transaction = i64::MAX - 3;
        assert_eq!(stage.context().transaction_id(0), None);
    }
}
