//! Group commit that follows the load: when does the next transaction begin?
//!
//! A lone record never waits. CPU follows the number of transactions, so as the rate rises the shard holds the first
//! record for a few milliseconds to let others join: never longer than [`HOLD_MS_MAX`], and never with a transaction
//! open. Pure: fed with what was measured.

use std::time::Duration;

/// Longest hold.
pub const HOLD_MS_MAX: u64 = 5;
/// Transactions per second of one shard below which nothing is held.
const FREE_RATE: f64 = 40.0;
/// Share of the latest observation in the moving averages.
const ALPHA: f64 = 0.1;

/// Moving averages of one shard.
#[derive(Clone, Debug, Default)]
pub struct CommitPolicy {
    interval_s: f64,
    commit_s: f64,
    last_at: Option<Duration>,
}

impl CommitPolicy {
    /// Notes a committed transaction that ended at `now` (monotonic) and took `commit`.
    pub fn committed(&mut self, now: Duration, commit: Duration) {
        self.commit_s += ALPHA * (commit.as_secs_f64() - self.commit_s);
        if let Some(last) = self.last_at {
            // A pause counts as one second at most: the first records after it find an idle shard.
            let interval = now.saturating_sub(last).as_secs_f64().min(1.0);
            self.interval_s += ALPHA * (interval - self.interval_s);
        }
        self.last_at = Some(now);
    }

    /// How long to hold the records that were just polled before their transaction begins.
    ///
    /// Zero below [`FREE_RATE`]; above, up to the cost of a commit: waiting as long as one commit takes at most doubles
    /// the latency and halves the number of transactions.
    pub fn hold(&self, records: usize, records_max: usize) -> Duration {
        let full = records >= records_max / 4;
        if full || self.interval_s <= 0.0 || 1.0 / self.interval_s < FREE_RATE {
            return Duration::ZERO;
        }
        let pressure = ((1.0 / self.interval_s - FREE_RATE) / FREE_RATE).min(1.0);
        Duration::from_secs_f64((self.commit_s * pressure).min(HOLD_MS_MAX as f64 / 1000.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(interval_ms: u64, commits: u64) -> CommitPolicy {
        let mut policy = CommitPolicy::default();
        for n in 0..commits {
            policy.committed(Duration::from_millis(n * interval_ms), Duration::from_millis(3));
        }
        policy
    }

    #[test]
    fn a_lone_record_never_waits() {
        assert_eq!(CommitPolicy::default().hold(1, 5000), Duration::ZERO);
        assert_eq!(after(100, 200).hold(1, 5000), Duration::ZERO);
    }

    #[test]
    fn a_busy_shard_holds_and_never_longer_than_the_bound() {
        let hold = after(4, 200).hold(1, 5000);
        assert!(hold > Duration::from_millis(2) && hold <= Duration::from_millis(HOLD_MS_MAX), "{hold:?}");
    }

    #[test]
    fn a_backlog_is_not_held() {
        assert_eq!(after(4, 200).hold(5000, 5000), Duration::ZERO);
    }
}
