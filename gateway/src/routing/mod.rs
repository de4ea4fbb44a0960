//! Who owns a partition.
//!
//! [`Routing`] is the seam: [`Control`] follows the control topic, where the processors say who lives and who owns
//! what; [`Configured`] knows addresses and asks each of them. Nothing else in the gateway knows where a processor
//! lives. Routing is a moment late by nature, so a caller goes on from a wrong owner to the right one.

mod configured;
mod control;
mod processor;
#[cfg(test)]
pub(crate) mod samples;
mod statuses;
pub mod tail;

pub use configured::Configured;
pub use control::Control;
pub use processor::Processor;

use std::time::Duration;
use tokio::sync::watch;

/// A processor that owns a partition.
#[derive(Clone)]
pub struct Owner {
    /// Where to call.
    pub processor: Processor,
    /// Of the assignment that says so; 0 where there are no assignments.
    pub epoch: i64,
}

/// What is known of a partition.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct PartitionState {
    /// Number of the partition.
    pub partition: i32,
    /// Name of the instance that owns it; `None` while nobody is known to.
    pub owner: Option<String>,
    /// As its owner says it, or `unknown` when nobody does.
    pub state: String,
    /// Records that the owner still has to restore before commands run.
    pub changelog_remaining: i64,
    /// Records that the owner still has to read before the history is complete.
    pub history_remaining: i64,
}

impl PartitionState {
    /// Of a partition whose owner, if there is one, says nothing.
    fn unknown(partition: i32, owner: Option<String>) -> Self {
        Self { partition, owner, state: "unknown".into(), changelog_remaining: 0, history_remaining: 0 }
    }
}

/// Finds the owner of a partition.
pub trait Routing: Send + Sync + 'static {
    /// Number of partitions of every co-partitioned topic.
    fn partitions(&self) -> i32;
    /// The processor that owns the partition; `None` while nobody is known to.
    fn owner(&self, partition: i32) -> Option<Owner>;
    /// Those that hold rows of the partition, old ones perhaps: the owner, then its standbys.
    fn holders(&self, partition: i32) -> Vec<Processor>;
    /// Whether everything has been read that says who owns what. Before that nobody is known.
    fn is_read(&self) -> bool;
    /// Epoch of the assignment that is known; 0 for none.
    fn epoch(&self) -> i64;
    /// The processor at an address that another one has named; `None` for an address that is not to be called.
    fn processor_at(&self, endpoint: &str) -> Option<Processor>;
    /// Tells when an owner may have changed.
    fn changes(&self) -> Changes;
    /// What is known of every partition, for readiness.
    fn states(&self) -> Vec<PartitionState>;
}

/// Tells when an owner may have changed. What has changed before it was made counts as seen.
pub struct Changes(watch::Receiver<()>);

impl Changes {
    /// Of a routing that notifies through this.
    #[must_use]
    pub fn of(changed: &watch::Sender<()>) -> Self {
        Self(changed.subscribe())
    }

    /// Everything until now counts as seen: what is looked at after this is not missed.
    pub fn seen(&mut self) {
        self.0.mark_unchanged();
    }

    /// Resolves when something has changed that was not seen, and counts it as seen.
    pub async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            // The routing is gone: nothing will change.
            std::future::pending().await
        }
    }

    /// The same, but waits no longer than this.
    pub async fn next_within(&mut self, longest: Duration) {
        let _ = tokio::time::timeout(longest, self.next()).await;
    }
}
