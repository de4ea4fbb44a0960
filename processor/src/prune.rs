//! Deletes records of work in flight that every owner has behind it.
//!
//! Only below positions that a store has applied, only for inputs that are declared so, and late: a missed round costs
//! disk, never data.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::log::{Log, TopicPartition};
use crate::query::view::{Life, PartitionView};
use crate::topology::{Application, Definition};

/// Between two rounds.
const INTERVAL: Duration = Duration::from_secs(60);

/// Prunes until cancelled.
pub(crate) async fn run<L: Log, A: Application>(
    log: Arc<L>,
    application: Arc<A>,
    views: Vec<Arc<PartitionView>>,
    ended: CancellationToken,
) {
    let mut rounds = tokio::time::interval(INTERVAL);
    rounds.tick().await;
    loop {
        tokio::select! {
            _ = rounds.tick() => {}
            () = ended.cancelled() => return,
        }
        let offsets = positions(application.definition(), &views);
        if offsets.is_empty() {
            continue;
        }
        let log = Arc::clone(&log);
        match tokio::task::spawn_blocking(move || log.delete_before(&offsets)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "records behind the positions were not deleted; next round"),
            Err(error) => tracing::error!(%error, "pruning failed"),
        }
    }
}

fn positions(definition: &Definition, views: &[Arc<PartitionView>]) -> Vec<(TopicPartition, i64)> {
    let mut offsets = Vec::new();
    for view in views {
        let Life::Running(store) = view.life() else { continue };
        let Ok(progress) = store.progress() else { continue };
        for input in definition.inputs.iter().filter(|input| input.prune) {
            let next = progress.next_offset.get(definition.topics.name(input.topic));
            if let Some(next) = next.filter(|next| **next > 0) {
                offsets.push((TopicPartition { topic: input.topic, partition: view.partition }, *next));
            }
        }
    }
    offsets
}
