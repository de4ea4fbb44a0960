//! What the processors say about their partitions, asked again and again.

use super::{PartitionState, Processor};
use parking_lot::RwLock;
use schemas::query::{PartitionStatus, StatusRequest, StatusResponse};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// How often a processor is asked.
pub(super) const INTERVAL: Duration = Duration::from_millis(500);
/// A processor that does not answer within this time is taken for away.
const TIMEOUT: Duration = Duration::from_millis(1500);

/// The last answer of each processor, by its address. One that does not answer any more is not in it.
pub(super) struct Statuses {
    partitions: i32,
    said: RwLock<HashMap<Arc<str>, StatusResponse>>,
}

impl Statuses {
    pub(super) fn new(partitions: i32) -> Self {
        Self { partitions, said: RwLock::default() }
    }

    /// Asks this processor for as long as the future is polled. Each is asked on its own: one that is silent delays
    /// nothing that is known of another.
    pub(super) async fn follow(&self, processor: &Processor) {
        loop {
            self.ask(processor).await;
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// Asks once.
    pub(super) async fn ask(&self, processor: &Processor) {
        let mut client = processor.calls.clone();
        let answer = tokio::time::timeout(TIMEOUT, client.status(StatusRequest {})).await;
        let Some(status) = answer.ok().and_then(Result::ok).map(tonic::Response::into_inner) else {
            self.said.write().remove(&processor.endpoint);
            return;
        };
        if status.partition_count != self.partitions {
            tracing::error!(
                processor = %status.instance,
                theirs = status.partition_count,
                ours = self.partitions,
                "the processor counts other partitions than topics.yaml: start both with the same file"
            );
        }
        self.said.write().insert(Arc::clone(&processor.endpoint), status);
    }

    /// Forgets what others have said.
    pub(super) fn keep(&self, processors: &[Processor]) {
        self.said.write().retain(|endpoint, _| processors.iter().any(|processor| processor.endpoint == *endpoint));
    }

    /// What the processor at this address says of a partition, if it says anything.
    pub(super) fn state(&self, endpoint: &str, partition: i32) -> Option<PartitionState> {
        self.look(endpoint, partition, |instance, status| PartitionState {
            partition,
            owner: Some(instance.to_owned()),
            state: status.state.clone(),
            changelog_remaining: status.changelog_remaining,
            history_remaining: status.history_remaining,
        })
    }

    /// Whether the processor at this address says that the partition is its own.
    pub(super) fn owns(&self, endpoint: &str, partition: i32) -> bool {
        let elsewhere = |status: &PartitionStatus| matches!(&*status.state, "standby" | "elsewhere" | "stopped");
        self.look(endpoint, partition, |_, status| !elsewhere(status)).unwrap_or(false)
    }

    /// Whether the processor at this address says that it has rows of the partition that can be read.
    pub(super) fn holds(&self, endpoint: &str, partition: i32) -> bool {
        let has_rows = |status: &PartitionStatus| matches!(&*status.state, "running" | "waiting" | "standby");
        self.look(endpoint, partition, |_, status| has_rows(status)).unwrap_or(false)
    }

    fn look<T>(&self, endpoint: &str, partition: i32, of: impl Fn(&str, &PartitionStatus) -> T) -> Option<T> {
        let said = self.said.read();
        let status = said.get(endpoint)?;
        let found = status.partitions.iter().find(|status| status.partition == partition)?;
        Some(of(&status.instance, found))
    }
}
